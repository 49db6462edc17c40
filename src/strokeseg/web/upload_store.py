"""Resumable uploads: each chunk is a file in the storage, so that any server can receive the next one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy import Engine, Row, insert, select, update

from strokeseg.errors import Conflict, NotFound
from strokeseg.web.database import current_time, uploads
from strokeseg.web.storage import Storage
from strokeseg.web.study_files import ReceivedFile, clean_path

CHUNK_BYTES = 8 * 2**20
HOLD_S = 300.0
"""Time for which an announced upload takes its whole size of the quota; after it, only what has arrived."""


class UploadStore:
    """All uploads that are not part of a study yet.

    Parameters
    ----------
    engine : Engine
        The database.
    storage : Storage
        The files.
    """

    def __init__(self, engine: Engine, storage: Storage) -> None:
        self._engine, self._storage = engine, storage

    def create(self, owner: str, name: str, size: int) -> str:
        """Create an upload and return its ID."""
        identity = uuid4().hex
        row = {"id": identity, "owner": owner, "name": clean_path(name), "size": size}
        with self._engine.begin() as connection:
            connection.execute(insert(uploads).values(**row, created=current_time(self._engine)))
        return identity

    def get_row(self, upload: str, owner: str) -> Row[Any]:
        """Return an upload's row, and as `is_held` whether its whole size is taken from the quota.

        Raises
        ------
        NotFound
            `not-found`, if the upload does not exist or belongs to another user.
        """
        query = select(uploads, self._is_held().label("is_held"))
        query = query.where(uploads.c.id == upload, uploads.c.owner == owner)
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound("the upload does not exist", "Create one with POST /uploads.")
        return row

    def append(self, row: Row[Any], chunk: Path, size: int) -> int:
        """Store a chunk and return the new offset.

        Parameters
        ----------
        row : Row
            The upload's row, as it was when the chunk arrived.
        chunk : Path
            File with the chunk.
        size : int
            Size of the chunk, bytes.

        Returns
        -------
        int
            The new offset, bytes.

        Raises
        ------
        Conflict
            `conflict`, if another chunk was stored at the offset in the meantime; this one is discarded.
        """
        name = f"{row.offset:020d}-{uuid4().hex[:12]}"
        self._storage.put(chunk, f"uploads/{row.id}/{name}")
        names = json.dumps([*json.loads(row.pieces), name])
        unchanged = sa.and_(uploads.c.id == row.id, uploads.c.offset == row.offset)
        with self._engine.begin() as connection:
            values = {"offset": row.offset + size, "pieces": names}
            count = connection.execute(update(uploads).where(unchanged).values(values)).rowcount
        if not count:
            self._storage.remove(f"uploads/{row.id}/{name}")
            raise Conflict(
                "another chunk was stored at this offset", "Get the offset with HEAD and continue from there."
            )
        return int(row.offset) + size

    def assemble(self, upload: str, owner: str, folder: Path, number: int) -> ReceivedFile:
        """Join an upload's chunks into a file.

        Parameters
        ----------
        upload : str
            ID of the upload.
        owner : str
            Name of the user.
        folder : Path
            Folder for the file.
        number : int
            Position of the file among those of the study.

        Returns
        -------
        ReceivedFile
            The file.

        Raises
        ------
        NotFound
            `not-found`, as :meth:`get_row`.
        Conflict
            `conflict`, if bytes are missing.
        """
        row = self.get_row(upload, owner)
        if row.offset != row.size:
            raise Conflict(f"only {row.offset} of {row.size} bytes have arrived", "Send the rest first.")
        path, digest = folder / f"part-{number:05d}", hashlib.sha256()
        with path.open("wb") as stream:
            for name in json.loads(row.pieces):
                for block in self._storage.read_range(f"uploads/{upload}/{name}", 0, 2**63):
                    stream.write(block)
                    digest.update(block)
        return ReceivedFile(row.name, path, row.size, digest.hexdigest())

    def delete(self, upload: str) -> None:
        """Delete an upload and its chunks."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(uploads).where(uploads.c.id == upload))
        self._storage.remove(f"uploads/{upload}")

    def list_older_than(self, seconds: float) -> list[str]:
        """List the IDs of uploads that were created longer ago than this."""
        query = select(uploads.c.id).where(uploads.c.created < current_time(self._engine) - seconds)
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def remove_abandoned(self) -> None:
        """Delete the chunks of uploads without a row, which a process left that was killed while it deleted them."""
        names = self._storage.list_names("uploads")  # first: a row is older than its first chunk
        with self._engine.connect() as connection:
            known = set(connection.execute(select(uploads.c.id)).scalars())
        for name in set(names) - known:
            self._storage.remove(f"uploads/{name}")

    def sum_bytes(self) -> int:
        """Return what all uploads take of the quota, bytes: what has arrived, and for a while what was announced."""
        taken = sa.case((self._is_held(), uploads.c.size), else_=uploads.c.offset)
        with self._engine.connect() as connection:
            return int(connection.execute(select(sa.func.coalesce(sa.func.sum(taken), 0))).scalar_one())

    def _is_held(self) -> sa.ColumnElement[bool]:
        return uploads.c.created > current_time(self._engine) - HOLD_S
