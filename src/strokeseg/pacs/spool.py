"""Where received instances lie until their series is dealt with: on the disk and in the database, or not accepted."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from pydicom.dataset import Dataset
from sqlalchemy import Engine, func, insert, select, update
from sqlalchemy.engine import Connection

from strokeseg import atomic_write
from strokeseg.errors import DiskFull
from strokeseg.pacs.database import instances_table, series_table


@dataclass(frozen=True)
class ReceivedInstance:
    """One instance as it came, and what of its header the node needs.

    Parameters
    ----------
    file : bytes
        The whole file, with preamble and meta group.
    header : Dataset
        Without pixels.
    sender : str
        The name of the peer or web server.
    prior : bool, default: False
        It was fetched to compare with, and is no work by itself.
    """

    file: bytes
    header: Dataset
    sender: str
    prior: bool = False

    @property
    def uids(self) -> tuple[str, str, str]:
        """SOP instance, series and study."""
        names = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
        one, two, three = (str(self.header.get(name, "")) for name in names)
        return one, two, three


StoreOutcome = Literal["new", "same", "different"]
FINAL_STATES = ("done", "ignored", "failed")
_MAX_EXPECTED_INSTANCES = 100_000


class _StoredInstance(NamedTuple):
    sha256: str
    series_uid: str
    path: str
    sop_class: str


class Spool:
    """The received instances of one node.

    Parameters
    ----------
    folder : Path
        Made if missing.
    engine : Engine
        Of :func:`strokeseg.pacs.database.open_database`.
    least_free_mb : int, default: 0
        With less space free nothing more is accepted.
    """

    def __init__(self, folder: Path, engine: Engine, least_free_mb: int = 0) -> None:
        self.folder = folder
        self.engine = engine
        self._least_free = least_free_mb * 2**20
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def store(self, arrived: ReceivedInstance) -> StoreOutcome:
        """Store an instance so that it outlives a power cut, and only then return.

        Returns
        -------
        StoreOutcome
            "new"; "same" if it is here already; "different" if another of its UID is: that one stays, this one is not
            kept.

        Raises
        ------
        DiskFull
            `disk-full`.
        OSError, sqlalchemy.exc.SQLAlchemyError
            As disk or database tell it; nothing of the instance is then kept.
        """
        sop_uid, series_uid, study_uid = arrived.uids
        digest = hashlib.sha256(arrived.file).hexdigest()
        if known := self._find_instance(sop_uid):
            return self._handle_repeat(known, arrived, digest)
        if shutil.disk_usage(self.folder).free - len(arrived.file) < self._least_free:
            raise DiskFull(f"{self.folder}: too little space is left", "Free some, or set least_free_mb lower.")
        path = self.folder / _hash_uid(series_uid) / f"{_hash_uid(sop_uid)}.dcm"
        with self._lock:  # one writer: two senders of one instance at once find each other
            if known := self._find_instance(sop_uid):
                return self._handle_repeat(known, arrived, digest)
            # Where the database then fails, the file stays: its commit may have come through all the same.
            _write_durably(path, arrived.file)
            now = time.time()
            row = {
                "sop_uid": sop_uid,
                "sop_class": str(arrived.header.get("SOPClassUID", "")),
                "series_uid": series_uid,
                "study_uid": study_uid,
                "path": str(path.relative_to(self.folder)),
                "sha256": digest,
                "bytes": len(arrived.file),
                "at": now,
            }
            with self.engine.begin() as connection:
                connection.execute(insert(instances_table).values(row))
                _update_series(connection, arrived, now)
        return "new"

    def _handle_repeat(self, known: _StoredInstance, arrived: ReceivedInstance, digest: str) -> StoreOutcome:
        """Say what an instance is whose UID is here; one that was fetched as a prior is work once somebody sends it."""
        series_uid = arrived.uids[1]
        if (known.sha256, known.series_uid) != (digest, series_uid):
            return "different"
        if not arrived.prior:
            fetched = (series_table.c.series_uid == series_uid) & series_table.c.prior
            change = {"prior": False, "state": "open", "version": 0, "last_at": time.time()}
            with self.engine.begin() as connection:
                connection.execute(update(series_table).where(fetched).values(change))
        return "same"

    def list_files_and_key(self, series_uid: str) -> tuple[list[Path], str]:
        """Return the files of a series, in the order of their names, and a digest of which instances they are."""
        query = select(instances_table.c.path, instances_table.c.sop_uid, instances_table.c.sha256)
        with self.engine.connect() as connection:
            found = connection.execute(query.where(instances_table.c.series_uid == series_uid)).all()
        named = sorted(f"{uid} {digest}" for _, uid, digest in found)
        key = hashlib.sha256("\n".join([series_uid, *named]).encode()).hexdigest()
        return sorted(self.folder / path for path, _, _ in found), key

    def list_files(self, series_uid: str) -> list[Path]:
        """Return the files of a series, in the order of their names."""
        return self.list_files_and_key(series_uid)[0]

    def count_instances(self, series_uid: str) -> int:
        """Say how many instances of a series are here."""
        query = select(func.count()).where(instances_table.c.series_uid == series_uid)
        with self.engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def has_intact_instance(self, sop_uid: str, sop_class: str) -> bool:
        """Return whether an instance is here, and its file as it was received."""
        row = self._find_instance(sop_uid)
        if row is None or row.sop_class != sop_class:
            return False
        try:
            return hashlib.sha256((self.folder / row.path).read_bytes()).hexdigest() == row.sha256
        except OSError:
            return False

    def find_series(self, sop_uids: Sequence[str]) -> set[str]:
        """Return the series to which instances belong."""
        found: set[str] = set()
        with self.engine.connect() as connection:
            for start in range(0, len(sop_uids), 500):
                some = instances_table.c.sop_uid.in_(sop_uids[start : start + 500])
                found |= set(connection.execute(select(instances_table.c.series_uid).where(some)).scalars())
        return found

    def delete_series(self, series_uid: str) -> None:
        """Remove a series' rows and files, unless something of it came meanwhile."""
        with self._lock:  # an instance that comes between rows and files would lose its file
            with self.engine.begin() as connection:
                ended = (series_table.c.series_uid == series_uid) & series_table.c.state.in_(FINAL_STATES)
                if not connection.execute(series_table.delete().where(ended)).rowcount:
                    return
                connection.execute(instances_table.delete().where(instances_table.c.series_uid == series_uid))
            shutil.rmtree(self.folder / _hash_uid(series_uid), ignore_errors=True)

    def _find_instance(self, sop_uid: str) -> _StoredInstance | None:
        columns = (
            instances_table.c.sha256,
            instances_table.c.series_uid,
            instances_table.c.path,
            instances_table.c.sop_class,
        )
        with self.engine.connect() as connection:
            found = connection.execute(select(*columns).where(instances_table.c.sop_uid == sop_uid)).one_or_none()
        return None if found is None else _StoredInstance(*found)


def _update_series(connection: Connection, arrived: ReceivedInstance, now: float) -> None:
    """Note in the series' row that one more of it came; that opens it again."""
    _, series_uid, study_uid = arrived.uids
    expected = read_expected_count(arrived.header)
    change: dict[str, object] = {
        "instances": series_table.c.instances + 1,
        "last_at": now,
        "committed": False,
        "state": "open",
    }
    if expected is not None:
        change["expected"] = expected
    if not arrived.prior:
        change["prior"] = False  # what somebody sends us is work, also where we had fetched it before
    if connection.execute(update(series_table).where(series_table.c.series_uid == series_uid).values(change)).rowcount:
        return
    first = {
        "series_uid": series_uid,
        "study_uid": study_uid,
        "sender": arrived.sender,
        "prior": arrived.prior,
        "instances": 1,
        "expected": expected,
        "committed": False,
        "first_at": now,
        "last_at": now,
        "state": "open",
        "version": 0,
        "why": "",
        "rule": "",
        "job": "",
    }
    connection.execute(insert(series_table).values(first))


def read_expected_count(header: Dataset) -> int | None:
    """Return how many instances the sender says the series has: (0020,1209), or None."""
    try:
        count = int(header.get("NumberOfSeriesRelatedInstances", 0))
    except (TypeError, ValueError, OverflowError):
        return None
    return count if 0 < count <= _MAX_EXPECTED_INSTANCES else None


def _hash_uid(uid: str) -> str:
    # A UID from outside is never a path.
    return hashlib.sha256(uid.encode()).hexdigest()[:32]


def _write_durably(path: Path, content: bytes) -> None:
    """Write, and return when it is on the disk with its name."""
    path.parent.mkdir(exist_ok=True)
    atomic_write.replace_file(path, content)
    for folder in (path.parent, path.parent.parent):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
