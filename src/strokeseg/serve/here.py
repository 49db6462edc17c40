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

from strokeseg.serve.auth import Guard
from strokeseg.serve.events import Events
from strokeseg.serve.jobs import Jobs
from strokeseg.serve.retention import Retention
from strokeseg.serve.settings import Settings
from strokeseg.serve.storage import Storage
from strokeseg.serve.uploads import Uploads

_ID = "^[0-9a-f]{32}$"
StudyId = Annotated[str, PathParameter(pattern=_ID, description="of a study", examples=["0" * 32])]
OtherId = Annotated[str, PathParameter(pattern=_ID, description="of the later study", examples=["0" * 32])]
UploadId = Annotated[str, PathParameter(pattern=_ID, description="of an upload", examples=["0" * 32])]
ComparisonId = Annotated[str, PathParameter(pattern=_ID, description="of a comparison", examples=["0" * 32])]
FileName = Annotated[
    str, PathParameter(max_length=128, description="as the list of files names it", examples=["mask.nii.gz"])
]
VersionNumber = Annotated[int | None, Query(ge=0, le=10**6, description="the latest where not given")]


@dataclass(frozen=True)
class Here:
    """One server's parts."""

    settings: Settings
    engine: Engine
    storage: Storage
    jobs: Jobs
    uploads: Uploads
    events: Events
    retention: Retention
    guard: Guard

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Path]:
        """Give a folder for files on their way, which goes away."""
        folder = Path(tempfile.mkdtemp(dir=self.storage.scratch))
        try:
            yield folder
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, True)
