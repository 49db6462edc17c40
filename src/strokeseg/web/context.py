"""What the routes of one server share."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Path as PathParameter
from fastapi import Query
from sqlalchemy import Engine

from strokeseg.web.auth import Guard
from strokeseg.web.events import EventBroadcaster
from strokeseg.web.jobs import JobQueue
from strokeseg.web.retention import Retention
from strokeseg.web.settings import ServerSettings
from strokeseg.web.storage import Storage
from strokeseg.web.upload_store import UploadStore

_ID = "^[0-9a-f]{32}$"
StudyId = Annotated[str, PathParameter(pattern=_ID, description="of a study", examples=["0" * 32])]
LaterStudyId = Annotated[str, PathParameter(pattern=_ID, description="of the later study", examples=["0" * 32])]
UploadId = Annotated[str, PathParameter(pattern=_ID, description="of an upload", examples=["0" * 32])]
ComparisonId = Annotated[str, PathParameter(pattern=_ID, description="of a comparison", examples=["0" * 32])]
FileName = Annotated[
    str, PathParameter(max_length=128, description="as the list of files names it", examples=["mask.nii.gz"])
]
VersionNumber = Annotated[int | None, Query(ge=0, le=10**6, description="the latest where not given")]


@dataclass(frozen=True)
class AppContext:
    """One server's parts."""

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
        """Return a folder for files on their way, which goes away."""
        folder = Path(tempfile.mkdtemp(dir=self.storage.scratch))
        try:
            yield folder
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, True)
