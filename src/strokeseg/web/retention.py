"""Limits on the age and the size of stored studies."""

from __future__ import annotations

import logging
import math
import threading
import time
from types import TracebackType

import sqlalchemy as sa
from sqlalchemy import Engine, delete, select

from strokeseg.errors import DiskFull
from strokeseg.web.database import current_time, idempotency_keys, studies
from strokeseg.web.jobs import JobQueue
from strokeseg.web.settings import ServerSettings
from strokeseg.web.storage import Storage
from strokeseg.web.upload_store import UploadStore

log = logging.getLogger("strokeseg.serve")
_DAY_S = 86400.0
_MIN_FREE_BYTES = 256 * 2**20
_READ_AGAIN_S = 1.0
_TIDY_S = 3600.0


class Retention:
    """Deletes old studies, and refuses uploads that do not fit.

    Parameters
    ----------
    settings : ServerSettings
        The application's settings.
    engine : Engine
        The database.
    storage : Storage
        The files.
    jobs : JobQueue
        The jobs.
    uploads : UploadStore
        The uploads.
    """

    def __init__(
        self, settings: ServerSettings, engine: Engine, storage: Storage, jobs: JobQueue, uploads: UploadStore
    ) -> None:
        self._settings, self._engine, self._storage = settings, engine, storage
        self._jobs, self._uploads = jobs, uploads
        self._lock = threading.Lock()
        self._arriving = 0
        self._stored, self._read_at = 0, -math.inf
        self._tidied_at = -math.inf

    def check_space(self, size: int) -> None:
        """Check that a number of bytes fits.

        Parameters
        ----------
        size : int
            Bytes to be stored.

        Raises
        ------
        DiskFull
            `disk-full`, if they exceed the quota or would fill the disk.
        """
        stored = self._sum_stored()
        with self._lock:
            self._stored, self._read_at = stored, time.monotonic()
            arriving = self._arriving
        self._refuse_beyond(stored + arriving + size, arriving + 2 * size)

    def expect(self, announced: int, is_held: bool = False) -> Arrival:
        """Check that an announced number of bytes fits, and return the counter of those that arrive.

        Parameters
        ----------
        announced : int
            Bytes that the client announced; 0 if it announced nothing.
        is_held : bool
            Whether the quota already includes them.

        Returns
        -------
        Arrival
            The counter. A Content-Length alone takes no part of the quota.

        Raises
        ------
        DiskFull
            `disk-full`, as :meth:`check_space`.
        """
        self.check_space(0 if is_held else announced)
        return Arrival(self, is_held)

    def add_arriving(self, size: int) -> None:
        """Count bytes that arrive, or take them off again once they are stored or given up."""
        with self._lock:
            self._arriving += size
            if size < 0:
                self._read_at = -math.inf  # they may be in the database now

    def check_arriving(self) -> None:
        """Check the bytes that are arriving now, with what was stored a second ago; raises DiskFull."""
        with self._lock:
            if time.monotonic() - self._read_at > _READ_AGAIN_S:
                self._stored, self._read_at = self._sum_stored(), time.monotonic()
            stored, arriving = self._stored, self._arriving
        self._refuse_beyond(stored + arriving, arriving)

    def _sum_stored(self) -> int:
        if self._settings.quota_bytes is None:
            return 0
        return self._jobs.studies.sum_bytes() + self._uploads.sum_bytes()

    def _refuse_beyond(self, total: int, to_be_written: int) -> None:
        """Refuse what exceeds the quota, or leaves too little of the disk; files are copied once more on their way."""
        remedy = "Delete studies, or ask the administrator for more space."
        if self._settings.quota_bytes is not None and total > self._settings.quota_bytes:
            raise DiskFull("the quota for studies is used up", remedy)
        free = self._storage.read_free_bytes()
        if free is not None and free - to_be_written < _MIN_FREE_BYTES:
            raise DiskFull("the server's disk is nearly full", remedy)

    def sweep(self) -> None:
        """Delete old studies, uploads and idempotency keys older than a day, rows of deleted studies, and leftovers."""
        expired = studies.c.created < current_time(self._engine) - (self._settings.keep_days or 0) * _DAY_S
        with self._engine.connect() as connection:
            query = select(studies.c.id).where(expired, ~studies.c.deleted)
            old = list(connection.execute(query).scalars()) if self._settings.keep_days is not None else []
            deleted_before = sa.and_(studies.c.deleted, studies.c.changed < current_time(self._engine) - _DAY_S)
            deleted = list(connection.execute(select(studies.c.id).where(deleted_before)).scalars())
        for study in old:
            self._jobs.delete(study)
        for study in deleted:
            self._storage.remove(f"studies/{study}")  # again, in case the server ended during the deletion
        for upload in self._uploads.list_older_than(_DAY_S):
            self._uploads.delete(upload)
        if time.monotonic() - self._tidied_at > _TIDY_S:
            self._tidied_at = time.monotonic()
            self._uploads.remove_abandoned()
            self._remove_unregistered()
        with self._engine.begin() as connection:
            connection.execute(delete(studies).where(deleted_before))
            outdated = idempotency_keys.c.created < current_time(self._engine) - _DAY_S
            connection.execute(delete(idempotency_keys).where(outdated))
        if old:
            log.info("deleted %d studies that were older than %s days", len(old), self._settings.keep_days)

    def _remove_unregistered(self) -> None:
        """Delete uploads, older than a day, of studies without a row: their process was killed before it wrote the row.

        A folder with more than an upload stays: its row may have been lost with an older database.
        """
        names = self._storage.list_names("studies")
        with self._engine.connect() as connection:
            known = set(connection.execute(select(studies.c.id)).scalars())
        for name in set(names) - known:
            age_s = self._storage.read_age_s(f"studies/{name}")
            if self._storage.list_names(f"studies/{name}") in ([], ["upload"]) and age_s is not None and age_s > _DAY_S:
                self._storage.remove(f"studies/{name}")


class Arrival:
    """Counts the bytes of one request as they arrive; a context manager that takes them off again at its end.

    Parameters
    ----------
    retention : Retention
        The limits of the server. Requests to other processes count once they are stored.
    is_held : bool
        Whether the quota already includes the bytes.
    """

    def __init__(self, retention: Retention, is_held: bool) -> None:
        self._retention, self._is_held, self._size = retention, is_held, 0

    def add(self, size: int) -> None:
        """Count bytes; raises DiskFull, `disk-full`, if they do not fit."""
        if not self._is_held:
            self._size += size
            self._retention.add_arriving(size)
        self._retention.check_arriving()

    def check(self) -> None:
        """Check again that everything fits, by what is stored at this moment; raises DiskFull, `disk-full`."""
        self._retention.check_space(0)

    def __enter__(self) -> Arrival:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._retention.add_arriving(-self._size)
