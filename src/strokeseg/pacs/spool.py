"""Spool of received instances until their series is processed: an accepted instance is on disk and in the database."""

from __future__ import annotations

import hashlib
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
from strokeseg.web import private_files


@dataclass(frozen=True)
class ReceivedInstance:
    """One instance as it was received.

    Attributes
    ----------
    file : bytes
        The file with preamble and meta group.
    header : Dataset
        Its UIDs and SOP class, and the number of instances of its series if the sender states it.
    sender : str
        Name of the peer or DICOMweb server.
    prior : bool, default: False
        Whether it was fetched for comparison only.
    """

    file: bytes
    header: Dataset
    sender: str
    prior: bool = False

    @property
    def uids(self) -> tuple[str, str, str]:
        """SOP instance, series and study UID."""
        names = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
        sop_uid, series_uid, study_uid = (str(self.header.get(name, "")) for name in names)
        return sop_uid, series_uid, study_uid


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
        Folder of the files; created if missing.
    engine : Engine
        Engine of the database, from :func:`strokeseg.pacs.database.open_database`.
    least_free_mb : int, default: 0
        Free disk space in MB below which no instance is accepted.
    """

    def __init__(self, folder: Path, engine: Engine, least_free_mb: int = 0) -> None:
        self.folder = folder
        self.engine = engine
        self._least_free = least_free_mb * 2**20
        self._lock = threading.Lock()
        private_files.create_folder(folder)
        private_files.restrict(folder, "the spool")

    def store(self, instance: ReceivedInstance) -> StoreOutcome:
        """Store an instance durably: when this returns, it would survive a power cut.

        Parameters
        ----------
        instance : ReceivedInstance
            The instance.

        Returns
        -------
        "new" | "same" | "different"
            "same" if it is already stored; "different" if another instance with its UID is stored, which is kept.

        Raises
        ------
        DiskFull
            `disk-full`.
        OSError, sqlalchemy.exc.SQLAlchemyError
            From disk or database; the instance is not accepted then.
        """
        sop_uid, series_uid, study_uid = instance.uids
        digest = hashlib.sha256(instance.file).hexdigest()
        if known := self._find_instance(sop_uid):
            return self._handle_repeat(known, instance, digest)
        if shutil.disk_usage(self.folder).free - len(instance.file) < self._least_free:
            raise DiskFull(f"{self.folder}: too little space is left", "Free disk space, or lower least_free_mb.")
        path = self.folder / _hash_uid(series_uid) / f"{_hash_uid(sop_uid)}.dcm"
        with self._lock:  # one writer, so that two simultaneous senders of one instance do not collide
            if known := self._find_instance(sop_uid):
                return self._handle_repeat(known, instance, digest)
            # If the database fails now, the file stays: the commit may have succeeded nevertheless.
            _write_durably(path, instance.file)
            now = time.time()
            row = {
                "sop_uid": sop_uid,
                "sop_class": str(instance.header.get("SOPClassUID", "")),
                "series_uid": series_uid,
                "study_uid": study_uid,
                "path": str(path.relative_to(self.folder)),
                "sha256": digest,
                "bytes": len(instance.file),
                "at": now,
            }
            with self.engine.begin() as connection:
                connection.execute(insert(instances_table).values(row))
                _update_series(connection, instance, now)
        return "new"

    def _handle_repeat(self, known: _StoredInstance, instance: ReceivedInstance, digest: str) -> StoreOutcome:
        """Compare an instance with the stored one of the same UID; a prior is processed once a peer sends it."""
        series_uid = instance.uids[1]
        if (known.sha256, known.series_uid) != (digest, series_uid):
            return "different"
        if not instance.prior:
            was_fetched = (series_table.c.series_uid == series_uid) & series_table.c.prior
            change = {"prior": False, "state": "open", "version": 0, "last_at": time.time()}
            with self.engine.begin() as connection:
                connection.execute(update(series_table).where(was_fetched).values(change))
        return "same"

    def list_files_and_key(self, series_uid: str) -> tuple[list[Path], str]:
        """Return the files of a series, sorted by name, and a digest that identifies its instances."""
        query = select(instances_table.c.path, instances_table.c.sop_uid, instances_table.c.sha256)
        with self.engine.connect() as connection:
            rows = connection.execute(query.where(instances_table.c.series_uid == series_uid)).all()
        identities = sorted(f"{uid} {digest}" for _, uid, digest in rows)
        key = hashlib.sha256("\n".join([series_uid, *identities]).encode()).hexdigest()
        return sorted(self.folder / path for path, _, _ in rows), key

    def list_files(self, series_uid: str) -> list[Path]:
        """Return the files of a series, sorted by name."""
        return self.list_files_and_key(series_uid)[0]

    def count_instances(self, series_uid: str) -> int:
        """Count the stored instances of a series."""
        query = select(func.count()).where(instances_table.c.series_uid == series_uid)
        with self.engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def has_intact_instance(self, sop_uid: str, sop_class: str) -> bool:
        """Return whether an instance is stored and its file is unchanged."""
        row = self._find_instance(sop_uid)
        if row is None or row.sop_class != sop_class:
            return False
        try:
            return hashlib.sha256((self.folder / row.path).read_bytes()).hexdigest() == row.sha256
        except OSError:
            return False

    def find_series(self, sop_uids: Sequence[str]) -> set[str]:
        """Return the UIDs of the series that contain these instances."""
        series_uids: set[str] = set()
        with self.engine.connect() as connection:
            for start in range(0, len(sop_uids), 500):
                is_listed = instances_table.c.sop_uid.in_(sop_uids[start : start + 500])
                query = select(instances_table.c.series_uid).where(is_listed)
                series_uids |= set(connection.execute(query).scalars())
        return series_uids

    def delete_series(self, series_uid: str) -> None:
        """Delete the rows and files of a finished series; one that has been reopened is kept."""
        with self._lock:  # an instance stored between the two deletions would lose its file
            with self.engine.begin() as connection:
                is_finished = (series_table.c.series_uid == series_uid) & series_table.c.state.in_(FINAL_STATES)
                if not connection.execute(series_table.delete().where(is_finished)).rowcount:
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
            row = connection.execute(select(*columns).where(instances_table.c.sop_uid == sop_uid)).one_or_none()
        return None if row is None else _StoredInstance(*row)


def _update_series(connection: Connection, instance: ReceivedInstance, now: float) -> None:
    """Count a new instance in the series' row, which opens the series again."""
    _, series_uid, study_uid = instance.uids
    expected = read_expected_count(instance.header)
    change: dict[str, object] = {
        "instances": series_table.c.instances + 1,
        "last_at": now,
        "committed": False,
        "state": "open",
    }
    if expected is not None:
        change["expected"] = expected
    if not instance.prior:
        change["prior"] = False  # a series that a peer sends is segmented, even if it was fetched as a prior before
    if connection.execute(update(series_table).where(series_table.c.series_uid == series_uid).values(change)).rowcount:
        return
    row = {
        "series_uid": series_uid,
        "study_uid": study_uid,
        "sender": instance.sender,
        "prior": instance.prior,
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
    connection.execute(insert(series_table).values(row))


def read_expected_count(header: Dataset) -> int | None:
    """Return the number of instances that the sender states for the series, (0020,1209), or None."""
    try:
        count = int(header.get("NumberOfSeriesRelatedInstances", 0))
    except (TypeError, ValueError, OverflowError):
        return None
    return count if 0 < count <= _MAX_EXPECTED_INSTANCES else None


def _hash_uid(uid: str) -> str:
    # A received UID is never used as a path.
    return hashlib.sha256(uid.encode()).hexdigest()[:32]


def _write_durably(path: Path, content: bytes) -> None:
    """Write a file and return when it is on the disk under its name."""
    atomic_write.create_folders(path.parent)
    atomic_write.replace_file(path, content)
