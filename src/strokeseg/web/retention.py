"""Limits on the age and the size of stored studies."""

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

log = logging.getLogger("strokeseg.serve")
_DAY_S = 86400.0
_MIN_FREE_BYTES = 256 * 2**20


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
        quota = self._settings.quota_bytes
        remedy = "Delete studies, or ask the administrator for more space."
        if quota is not None and self._jobs.studies.sum_bytes() + self._uploads.sum_bytes() + size > quota:
            raise DiskFull("the quota for studies is used up", remedy)
        free = self._storage.read_free_bytes()
        if free is not None and free - 2 * size < _MIN_FREE_BYTES:
            raise DiskFull("the server's disk is nearly full", remedy)

    def sweep(self) -> None:
        """Delete old studies, uploads and idempotency keys older than a day, and rows of deleted studies."""
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
        with self._engine.begin() as connection:
            connection.execute(delete(studies).where(deleted_before))
            outdated = idempotency_keys.c.created < current_time(self._engine) - _DAY_S
            connection.execute(delete(idempotency_keys).where(outdated))
        if old:
            log.info("deleted %d studies that were older than %s days", len(old), self._settings.keep_days)
