"""Which processes live: each gives a sign now and then, and the jobs of one that does not are taken over."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy import Engine, delete, insert, select, update

from strokeseg.web.database import current_time, workers
from strokeseg.web.storage import is_process_alive


class Leases:
    """The signs of life of one process, in the database that all share and by its clock.

    Parameters
    ----------
    engine : Engine
        Of that database.
    own : str
        The process's id, which is DBOS's executor id too.
    lease_s : float
        A process without a sign for so long is dead.
    """

    def __init__(self, engine: Engine, own: str, lease_s: float) -> None:
        self._engine, self._own, self._lease_s = engine, own, lease_s

    def renew(self) -> None:
        """Return a sign of life."""
        at = current_time(self._engine)
        row = {"id": self._own, "machine": _identify_machine(), "pid": os.getpid(), "started": at, "seen": at}
        with self._engine.begin() as connection:
            if not connection.execute(update(workers).where(workers.c.id == self._own).values(seen=at)).rowcount:
                connection.execute(insert(workers).values(row))

    def recover_expired(self, recover: Callable[[str], object]) -> None:
        """Have the jobs of each dead process queued again.

        Its row goes last: whoever dies in between leaves it to the next one, and queueing twice is queueing once.
        """
        with self._engine.connect() as connection:
            late = workers.c.seen < current_time(self._engine) - self._lease_s
            here = workers.c.machine == _identify_machine()
            columns = (workers.c.id, workers.c.pid, workers.c.seen, late.label("late"))
            found = connection.execute(select(*columns).where(late | here)).all()
        for row in found:
            if row.id != self._own and (row.late or not is_process_alive(row.pid)):
                recover(row.id)
                # One that was only slow gave a sign since: it may have begun anew on what was queued again, and its
                # row must be there for the day when it dies.
                same = (workers.c.id == row.id) & (workers.c.seen == row.seen)
                with self._engine.begin() as connection:
                    connection.execute(delete(workers).where(same))

    def find_orphans(self, executors: set[str]) -> set[str]:
        """Return those of some processes that have no row: a slow one may have died just after it lost its own."""
        with self._engine.connect() as connection:
            known = set(connection.execute(select(workers.c.id)).scalars())
        return executors - known

    def release(self) -> None:
        """Say that this process ends: its jobs are free at once."""
        with self._engine.begin() as connection:
            connection.execute(update(workers).where(workers.c.id == self._own).values(seen=sa.literal(0.0)))


def _identify_machine() -> str:
    """Name what a process number belongs to: two containers may share a host's name, but not their numbers."""
    space = ""
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return f"{socket.gethostname()[:90]} {space}"
