"""Uploads that may be cut off and go on: each piece is a file in the storage, so that any server can take the next."""

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
from strokeseg.web.multipart import ReceivedFile, clean_path
from strokeseg.web.storage import Storage

CHUNK_BYTES = 8 * 2**20


class UploadStore:
    """All uploads that are not a study yet."""

    def __init__(self, engine: Engine, storage: Storage) -> None:
        self._engine, self._storage = engine, storage

    def create(self, owner: str, name: str, size: int) -> str:
        """Make an upload and give its id."""
        identity = uuid4().hex
        row = {"id": identity, "owner": owner, "name": clean_path(name), "size": size}
        with self._engine.begin() as connection:
            connection.execute(insert(uploads).values(**row, created=current_time(self._engine)))
        return identity

    def get_row(self, upload: str, owner: str) -> Row[Any]:
        """Return an upload's row; raises NotFound, `not-found`, also for another's."""
        query = select(uploads).where(uploads.c.id == upload, uploads.c.owner == owner)
        with self._engine.connect() as connection:
            found = connection.execute(query).one_or_none()
        if found is None:
            raise NotFound("there is no such upload", "Begin one with POST /uploads.")
        return found

    def append(self, row: Row[Any], piece: Path, size: int) -> int:
        """Store a piece and give the new offset.

        Raises
        ------
        Conflict
            `conflict`, if another piece was stored there meanwhile; this one is dropped.
        """
        name = f"{row.offset:020d}-{uuid4().hex[:12]}"
        self._storage.put(piece, f"uploads/{row.id}/{name}")
        names = json.dumps([*json.loads(row.pieces), name])
        same = sa.and_(uploads.c.id == row.id, uploads.c.offset == row.offset)
        with self._engine.begin() as connection:
            values = {"offset": row.offset + size, "pieces": names}
            done = connection.execute(update(uploads).where(same).values(values)).rowcount
        if not done:
            self._storage.remove(f"uploads/{row.id}/{name}")
            raise Conflict("another piece was stored at this offset", "Ask for the offset with HEAD and go on there.")
        return int(row.offset) + size

    def assemble(self, upload: str, owner: str, folder: Path, number: int) -> ReceivedFile:
        """Put an upload's pieces together in a folder.

        Raises
        ------
        Conflict
            `conflict`, if bytes are missing.
        """
        row = self.get_row(upload, owner)
        if row.offset != row.size:
            raise Conflict(f"of {row.size} bytes only {row.offset} are here", "Send the rest first.")
        path, digest = folder / f"part-{number:05d}", hashlib.sha256()
        with path.open("wb") as stream:
            for name in json.loads(row.pieces):
                for piece in self._storage.read_range(f"uploads/{upload}/{name}", 0, 2**63):
                    stream.write(piece)
                    digest.update(piece)
        return ReceivedFile(row.name, path, row.size, digest.hexdigest())

    def delete(self, upload: str) -> None:
        """Forget an upload and its pieces."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(uploads).where(uploads.c.id == upload))
        self._storage.remove(f"uploads/{upload}")

    def list_older_than(self, seconds: float) -> list[str]:
        """List uploads that were begun so long ago."""
        query = select(uploads.c.id).where(uploads.c.created < current_time(self._engine) - seconds)
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def sum_bytes(self) -> int:
        """Sum the sizes of all uploads, as they were announced: so much will come."""
        with self._engine.connect() as connection:
            return int(connection.execute(select(sa.func.coalesce(sa.func.sum(uploads.c.size), 0))).scalar_one())
