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
from strokeseg.segmentation import models
from strokeseg.web import multipart
from strokeseg.web.auth import User
from strokeseg.web.context import AppContext, StudyId
from strokeseg.web.problems import document_problems
from strokeseg.web.schemas import Study, StudyOptions, StudyPage, StudyStatus
from strokeseg.web.study_store import NewStudy

IdempotencyKey = Annotated[
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
                        **StudyOptions.model_json_schema()["properties"],
                    },
                }
            }
        },
    }
}


def create_router(here: AppContext) -> APIRouter:
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
            **document_problems(400, 408, 409, 413, 503, 507),
        },
    )
    async def make(request: Request, response: Response, user: User = write, key: IdempotencyKey = "") -> Study:
        """Upload a study in one request: its files as parts named `files`, which are streamed to the disk."""
        announced = request.headers.get("content-length", "0")
        await asyncio.to_thread(here.retention.check_space, int(announced) if announced.isdigit() else 0)
        async with here.temporary_folder() as folder:
            fields, files = await multipart.receive_form(request, folder)
            options = parse_options(fields)
            once = (
                key,
                multipart.compute_fingerprint((f"{each.name} {each.size} {each.sha256}" for each in files), options),
            )
            return await asyncio.to_thread(create_study, here, request, response, user, files, options, once, folder)

    @routes.get("/studies", responses=document_problems(400))
    def page(
        user: User = read,
        status: Annotated[StudyStatus | Literal[""], Query(description="only studies that are so far")] = "",
        q: Annotated[str, Query(max_length=100, pattern="^[^\\x00]*$", description="part of the name")] = "",
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: Annotated[str, Query(max_length=200, description="`next` of the page before")] = "",
    ) -> StudyPage:
        """List the studies that you may see, the newest first."""
        return here.jobs.studies.list_page(user, status, q, limit, cursor)

    @routes.get("/studies/events", response_class=StreamingResponse, responses=_STREAM)
    async def events(user: User = read) -> StreamingResponse:
        """Watch all studies that you may see."""
        return _stream_events(here, user, None, None)

    @routes.get("/studies/{study_id}", responses=document_problems(404))
    def one(study_id: StudyId, user: User = read) -> Study:
        """Return a study."""
        return here.jobs.studies.get_study(study_id, user)

    @routes.get(
        "/studies/{study_id}/events", response_class=StreamingResponse, responses={**_STREAM, **document_problems(404)}
    )
    async def progress(study_id: StudyId, user: User = read) -> StreamingResponse:
        """Watch a study; the first event is how it is now."""
        first = await asyncio.to_thread(here.jobs.studies.get_study, study_id, user)
        return _stream_events(here, user, study_id, first)

    @routes.delete("/studies/{study_id}", status_code=204, responses=document_problems(404))
    def delete(study_id: StudyId, request: Request, user: User = write) -> None:
        """Delete a study: its upload, its results and the comparisons that it is part of."""
        here.jobs.studies.get_row(study_id, user)
        here.guard.audit(user, "delete", study_id, "done", request)
        here.jobs.delete(study_id)

    @routes.post("/studies/{study_id}/cancel", status_code=202, responses=document_problems(404))
    def cancel(study_id: StudyId, request: Request, user: User = write) -> Study:
        """Stop a study; one that has ended stays as it is."""
        here.jobs.studies.get_row(study_id, user)
        here.guard.audit(user, "cancel", study_id, "done", request)
        here.jobs.cancel(study_id)
        return here.jobs.studies.get_study(study_id, user)

    return routes


def parse_options(fields: dict[str, str]) -> StudyOptions:
    """Read a form's fields; raises UsageError, `usage`, for one that cannot be."""
    try:
        return StudyOptions.model_validate({name: value for name, value in fields.items() if value})
    except ValidationError as error:
        said = "; ".join(f"{each['loc'][0] if each['loc'] else '?'}: {each['msg']}" for each in error.errors())
        raise UsageError(said[:500], "The OpenAPI document says what is expected.") from None


def create_study(
    here: AppContext,
    request: Request,
    response: Response,
    user: User,
    files: list[multipart.ReceivedFile],
    options: StudyOptions,
    once: tuple[str, str],
    folder: Path,
) -> Study:
    """Make a study of files that came in, unless the key made it before (``once``: the key and the fingerprint).

    Its files are stored first, then its row, then its job; whatever ends in between, nothing is half there: files
    without a row are nobody's, and a row without a job is found (:meth:`strokeseg.web.jobs.Jobs.enqueue_missing`).
    """
    reading = multipart.parse_reading_options(options)
    models.load_card(options.model)
    name = multipart.clean_text(options.name) or (files[0].name.split("/")[0] if files else "")
    upload = multipart.pack_files(files, folder)
    study, size = uuid4().hex, upload.stat().st_size
    here.guard.audit(user, "upload", study, "done", request)
    here.storage.put(upload, f"studies/{study}/upload/{upload.name}")
    new = NewStudy(
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
    response.headers["Location"] = f"{here.settings.base_path}/api/v1/studies/{made}"
    return here.jobs.studies.get_study(made, user)


def _stream_events(here: AppContext, user: User, study: str | None, first: Study | None) -> StreamingResponse:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(here.events.listen(user, study, first), headers=headers, media_type="text/event-stream")
