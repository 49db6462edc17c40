"""Leases of processes: each renews its own regularly, and jobs of a process whose lease expired are taken over."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy import Engine, delete, insert, select, update

from strokeseg.web.database import current_time, workers
from strokeseg.web.storage import is_process_alive


class Leases:
    """The lease of one process, in the shared database and by its clock.

    Parameters
    ----------
    engine : Engine
        The database.
    own : str
        ID of the process, which is also DBOS's executor ID.
    lease_s : float
        A process whose lease is older is dead.
    """

    def __init__(self, engine: Engine, own: str, lease_s: float) -> None:
        self._engine, self._own, self._lease_s = engine, own, lease_s
        self._unchanged: dict[
            str, tuple[float, float]
        ] = {}  # what each process wrote last, and since when by our clock

    def renew(self) -> None:
        """Renew the lease of this process."""
        now = current_time(self._engine)
        row = {"id": self._own, "machine": _identify_machine(), "pid": os.getpid(), "started": now, "seen": now}
        with self._engine.begin() as connection:
            if not connection.execute(update(workers).where(workers.c.id == self._own).values(seen=now)).rowcount:
                connection.execute(insert(workers).values(row))

    def recover_expired(self, recover: Callable[[str], object]) -> None:
        """Queue the jobs of each dead process again.

        The process's row is deleted last: if this process dies in between, the next one repeats it, and queueing a job
        twice has no effect.

        Parameters
        ----------
        recover : callable
            Queues the jobs of the process with an ID.
        """
        with self._engine.connect() as connection:
            late = workers.c.seen < current_time(self._engine) - self._lease_s
            columns = (workers.c.id, workers.c.machine, workers.c.pid, workers.c.seen, late.label("late"))
            rows = connection.execute(select(*columns)).all()
        before, now = self._unchanged, time.monotonic()
        self._unchanged = {}
        for row in rows:
            # A clock that was set back makes an old lease look new: it must also change.
            seen, since = before.get(row.id, (row.seen, now))
            self._unchanged[row.id] = (row.seen, since if seen == row.seen else now)
            is_silent = now - self._unchanged[row.id][1] > self._lease_s
            has_ended = row.machine == _identify_machine() and not is_process_alive(row.pid)
            if row.id != self._own and (row.late or is_silent or has_ended):
                recover(row.id)
                # A process that was only slow may have renewed its lease and started on its jobs again: its row must
                # then remain for the time when it dies.
                unchanged = (workers.c.id == row.id) & (workers.c.seen == row.seen)
                with self._engine.begin() as connection:
                    connection.execute(delete(workers).where(unchanged))

    def find_orphans(self, executors: set[str]) -> set[str]:
        """Return the processes without a row: a slow one may have died just after its row was deleted."""
        with self._engine.connect() as connection:
            known = set(connection.execute(select(workers.c.id)).scalars())
        return executors - known

    def release(self) -> None:
        """Expire the lease of this process, so that its jobs can be taken over at once."""
        with self._engine.begin() as connection:
            connection.execute(update(workers).where(workers.c.id == self._own).values(seen=sa.literal(0.0)))


def _identify_machine() -> str:
    """Return the scope of process IDs: two containers may share a host name, but not their process IDs."""
    namespace = ""
    with contextlib.suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return f"{socket.gethostname()[:90]} {namespace}"
