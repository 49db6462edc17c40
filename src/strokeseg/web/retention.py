"""What is kept how long, and how much of it."""

from __future__ import annotations

import logging

import sqlalchemy as sa
from sqlalchemy import Engine, delete, select

from strokeseg.errors import DiskFull
from strokeseg.web.database import current_time, idempotency_keys, studies
from strokeseg.web.jobs import JobQueue
from strokeseg.web.settings import ServerSettings
from strokeseg.web.storage import Storage
from strokeseg.web.upload_store import UploadStore

log = logging.getLogger("strokeseg.web")
_DAY_S = 86400.0
_MIN_FREE_BYTES = 256 * 2**20


class Retention:
    """Deletes what is too old, and refuses what is too much."""

    def __init__(
        self, settings: ServerSettings, engine: Engine, storage: Storage, jobs: JobQueue, uploads: UploadStore
    ) -> None:
        self._settings, self._engine, self._storage = settings, engine, storage
        self._jobs, self._uploads = jobs, uploads

    def check_space(self, size: int) -> None:
        """Refuse what would not fit.

        Raises
        ------
        DiskFull
            `disk-full`, beyond the quota, or if it would fill the disk.
        """
        quota = self._settings.quota_bytes
        remedy = "Delete studies, or ask the administrator for more space."
        if quota is not None and self._jobs.studies.sum_bytes() + self._uploads.sum_bytes() + size > quota:
            raise DiskFull("the space for studies is used up", remedy)
        free = self._storage.read_free_bytes()
        if free is not None and free - 2 * size < _MIN_FREE_BYTES:
            raise DiskFull("the server's disk is nearly full", remedy)

    def sweep(self) -> None:
        """Delete studies that are too old, uploads and idempotency keys of yesterday, and rows of deleted studies."""
        old = studies.c.created < current_time(self._engine) - (self._settings.keep_days or 0) * _DAY_S
        with self._engine.connect() as connection:
            query = select(studies.c.id).where(old, ~studies.c.deleted)
            late = list(connection.execute(query).scalars()) if self._settings.keep_days is not None else []
            gone = sa.and_(studies.c.deleted, studies.c.changed < current_time(self._engine) - _DAY_S)
            buried = list(connection.execute(select(studies.c.id).where(gone)).scalars())
        for study in late:
            self._jobs.delete(study)
        for study in buried:
            self._storage.remove(f"studies/{study}")  # again, should the server have ended in the middle
        for upload in self._uploads.list_older_than(_DAY_S):
            self._uploads.delete(upload)
        with self._engine.begin() as connection:
            connection.execute(delete(studies).where(gone))
            connection.execute(
                delete(idempotency_keys).where(idempotency_keys.c.created < current_time(self._engine) - _DAY_S)
            )
        if late:
            log.info("%d studies were older than %s days and are deleted", len(late), self._settings.keep_days)
