"""Studies: make, list, watch, stop, delete."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ValidationError

from strokeseg.errors import UsageError
from strokeseg.infer import models
from strokeseg.serve import intake
from strokeseg.serve.auth import User
from strokeseg.serve.here import Here, StudyId
from strokeseg.serve.problems import responses
from strokeseg.serve.schemas import Options, Status, Study, StudyPage
from strokeseg.serve.studies import New

Key = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        max_length=200,
        pattern="^[!-~]*$",
        description="the same key makes the same study, however often it is sent",
    ),
]
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "server-sent events `study` and `deleted`", "content": {"text/event-stream": {}}}
}
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                            "description": "DICOM files, a zip, NIfTI, or pictures; names may hold relative paths",
                        },
                        **Options.model_json_schema()["properties"],
                    },
                }
            }
        },
    }
}


def router(here: Here) -> APIRouter:
    """Make the routes."""
    routes = APIRouter(tags=["studies"])
    read, write = Depends(here.guard.require("read")), Depends(here.guard.require("write"))

    @routes.post(
        "/studies",
        status_code=201,
        response_model=Study,
        openapi_extra=_FORM,
        responses={
            200: {"model": Study, "description": "the key made this study before"},
            **responses(400, 408, 409, 413, 503, 507),
        },
    )
    async def make(request: Request, response: Response, user: User = write, key: Key = "") -> Study:
        """Upload a study in one request: its files as parts named `files`, which are streamed to the disk."""
        announced = request.headers.get("content-length", "0")
        await asyncio.to_thread(here.retention.room_for, int(announced) if announced.isdigit() else 0)
        async with here.place() as folder:
            fields, files = await intake.form(request, folder)
            options = checked(fields)
            once = (key, intake.fingerprint((f"{each.name} {each.size} {each.sha256}" for each in files), options))
            return await asyncio.to_thread(added, here, request, response, user, files, options, once, folder)

    @routes.get("/studies", responses=responses(400))
    def page(
        user: User = read,
        status: Annotated[Status | Literal[""], Query(description="only studies that are so far")] = "",
        q: Annotated[str, Query(max_length=100, pattern="^[^\\x00]*$", description="part of the name")] = "",
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: Annotated[str, Query(max_length=200, description="`next` of the page before")] = "",
    ) -> StudyPage:
        """List the studies that you may see, the newest first."""
        return here.jobs.studies.page(user, status, q, limit, cursor)

    @routes.get("/studies/events", response_class=StreamingResponse, responses=_STREAM)
    async def events(user: User = read) -> StreamingResponse:
        """Watch all studies that you may see."""
        return _stream(here, user, None, None)

    @routes.get("/studies/{study_id}", responses=responses(404))
    def one(study_id: StudyId, user: User = read) -> Study:
        """Give a study."""
        return here.jobs.studies.study(study_id, user)

    @routes.get("/studies/{study_id}/events", response_class=StreamingResponse, responses={**_STREAM, **responses(404)})
    async def progress(study_id: StudyId, user: User = read) -> StreamingResponse:
        """Watch a study; the first event is how it is now."""
        first = await asyncio.to_thread(here.jobs.studies.study, study_id, user)
        return _stream(here, user, study_id, first)

    @routes.delete("/studies/{study_id}", status_code=204, responses=responses(404))
    def delete(study_id: StudyId, request: Request, user: User = write) -> None:
        """Delete a study: its upload, its results and the comparisons that it is part of."""
        here.jobs.studies.row(study_id, user)
        here.guard.audit(user, "delete", study_id, "done", request)
        here.jobs.delete(study_id)

    @routes.post("/studies/{study_id}/cancel", status_code=202, responses=responses(404))
    def cancel(study_id: StudyId, request: Request, user: User = write) -> Study:
        """Stop a study; one that has ended stays as it is."""
        here.jobs.studies.row(study_id, user)
        here.guard.audit(user, "cancel", study_id, "done", request)
        here.jobs.cancel(study_id)
        return here.jobs.studies.study(study_id, user)

    return routes


def checked(fields: dict[str, str]) -> Options:
    """Read a form's fields; raises UsageError, `usage`, for one that cannot be."""
    try:
        return Options.model_validate({name: value for name, value in fields.items() if value})
    except ValidationError as error:
        said = "; ".join(f"{each['loc'][0] if each['loc'] else '?'}: {each['msg']}" for each in error.errors())
        raise UsageError(said[:500], "The OpenAPI document says what is expected.") from None


def added(
    here: Here,
    request: Request,
    response: Response,
    user: User,
    files: list[intake.Received],
    options: Options,
    once: tuple[str, str],
    folder: Path,
) -> Study:
    """Make a study of files that came in, unless the key made it before (``once``: the key and the fingerprint).

    Its files are stored first, then its row, then its job; whatever ends in between, nothing is half there: files
    without a row are nobody's, and a row without a job is found (:meth:`strokeseg.serve.jobs.Jobs.mend`).
    """
    reading = intake.reading(options)
    models.card(options.model)
    name = intake.cleaned(options.name) or (files[0].name.split("/")[0] if files else "")
    upload = intake.packed(files, folder)
    study, size = uuid4().hex, upload.stat().st_size
    here.guard.audit(user, "upload", study, "done", request)
    here.storage.put(upload, f"studies/{study}/upload/{upload.name}")
    new = New(
        id=study,
        name=name,
        upload=upload.name,
        size=size,
        options=reading,
        model=options.model,
        priority=options.priority,
        key=once[0],
        fingerprint=once[1],
    )
    try:
        made, is_new = here.jobs.studies.add(new, user.name, user.group)
    except BaseException:
        here.storage.remove(f"studies/{study}")
        raise
    if is_new:
        here.jobs.submit(made, options.priority)
    else:
        here.storage.remove(f"studies/{study}")
        response.status_code = 200
    response.headers["Location"] = f"{here.settings.base}/api/v1/studies/{made}"
    return here.jobs.studies.study(made, user)


def _stream(here: Here, user: User, study: str | None, first: Study | None) -> StreamingResponse:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(here.events.listen(user, study, first), headers=headers, media_type="text/event-stream")
