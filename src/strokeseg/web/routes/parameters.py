"""Parameters and dependencies that several routes share."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Query, Request
from fastapi import Path as PathParameter

from strokeseg.web.auth import RequireScope, User
from strokeseg.web.context import AppContext

_ID = "^[0-9a-f]{32}$"
StudyId = Annotated[str, PathParameter(pattern=_ID, description="ID of a study", examples=["0" * 32])]
LaterStudyId = Annotated[str, PathParameter(pattern=_ID, description="ID of the later study", examples=["0" * 32])]
UploadId = Annotated[str, PathParameter(pattern=_ID, description="ID of an upload", examples=["0" * 32])]
ComparisonId = Annotated[str, PathParameter(pattern=_ID, description="ID of a comparison", examples=["0" * 32])]
FileName = Annotated[
    str, PathParameter(max_length=128, description="A name from the list of files", examples=["mask.nii.gz"])
]
VersionNumber = Annotated[int | None, Query(ge=0, le=10**6, description="Default: the latest version")]
IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        max_length=200,
        pattern="^[!-~]*$",
        description="Requests with the same key create one study, however often they are sent",
    ),
]


def get_context(request: Request) -> AppContext:
    """Return the parts of the server that received a request."""
    context: AppContext = request.app.state.context
    return context


Context = Annotated[AppContext, Depends(get_context)]
Reader = Annotated[User, Depends(RequireScope("read"))]
Writer = Annotated[User, Depends(RequireScope("write"))]
