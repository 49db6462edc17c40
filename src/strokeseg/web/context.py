"""The parts of one running server that its routes share."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from strokeseg.web.auth import Guard
from strokeseg.web.events import EventBroadcaster
from strokeseg.web.jobs import JobQueue
from strokeseg.web.retention import Retention
from strokeseg.web.settings import ServerSettings
from strokeseg.web.storage import Storage
from strokeseg.web.upload_store import UploadStore


@dataclass(frozen=True)
class AppContext:
    """The parts of one running server."""

    settings: ServerSettings
    engine: Engine
    storage: Storage
    jobs: JobQueue
    uploads: UploadStore
    events: EventBroadcaster
    retention: Retention
    guard: Guard

    @asynccontextmanager
    async def temporary_folder(self) -> AsyncIterator[Path]:
        """Provide a folder for files in transit; it is deleted on exit."""
        folder = Path(tempfile.mkdtemp(dir=self.storage.scratch))
        try:
            yield folder
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, True)
