"""Studies: create, list, watch, cancel, retry, delete."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ValidationError

from strokeseg.errors import UsageError
from strokeseg.web import multipart, study_files
from strokeseg.web.auth import MAX_UPLOAD, BoundedRoute, User, limit_body
from strokeseg.web.context import AppContext
from strokeseg.web.problems import document_problems
from strokeseg.web.routes.parameters import Context, IdempotencyKey, Reader, StudyId, Writer
from strokeseg.web.schemas import Study, StudyOptions, StudyPage, StudyStatus
from strokeseg.web.study_creation import StudyRequest, create_study

router = APIRouter(route_class=BoundedRoute, tags=["studies"])
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events `study` and `deleted`", "content": {"text/event-stream": {}}}
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
                            "description": "DICOM files, a zip, NIfTI, or pictures; names may be relative paths",
                        },
                        **StudyOptions.model_json_schema()["properties"],
                    },
                }
            }
        },
    }
}


@router.post(
    "/studies",
    status_code=201,
    response_model=Study,
    openapi_extra=_FORM,
    responses={
        200: {"model": Study, "description": "The key created this study before"},
        **document_problems(400, 408, 409, 413, 503, 507),
    },
)
@limit_body(MAX_UPLOAD)
async def upload_study(
    context: Context, request: Request, response: Response, user: Writer, key: IdempotencyKey = ""
) -> Study:
    """Upload a study in one request: its files are parts named `files`, which are streamed to the disk."""
    announced = request.headers.get("content-length", "0")
    arrival = await asyncio.to_thread(context.retention.expect, int(announced) if announced.isdigit() else 0)
    async with context.temporary_folder() as folder:
        with arrival:
            fields, files = await multipart.receive_form(request, folder, arrival.add)

            def create() -> Study:
                options = _parse_options(fields)
                described = (f"{file.name} {file.size} {file.sha256}" for file in files)
                fingerprint = study_files.compute_fingerprint(described, options)
                arrival.check()
                new = StudyRequest(user, options, key, fingerprint, request, response)
                return create_study(context, new, files, folder)

            return await asyncio.to_thread(create)


@router.get("/studies", responses=document_problems(400))
def list_studies(
    context: Context,
    request: Request,
    user: Reader,
    status: Annotated[StudyStatus | Literal[""], Query(description="Only studies with this status")] = "",
    q: Annotated[str, Query(max_length=100, pattern="^[^\\x00]*$", description="Part of the name")] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str, Query(max_length=200, description="`next` of the previous page")] = "",
) -> StudyPage:
    """List the studies that you may see, newest first."""
    page = context.jobs.studies.list_page(user, status, q, limit, cursor)
    context.guard.audit_view(user, "list", None, request)
    return page


@router.get("/studies/events", response_class=StreamingResponse, responses=_STREAM)
async def watch_studies(context: Context, request: Request, user: Reader) -> StreamingResponse:
    """Watch all studies that you may see."""
    await asyncio.to_thread(context.guard.audit_view, user, "list", None, request)
    return _stream_events(context, user, None, None)


@router.get("/studies/{study_id}", responses=document_problems(404))
def get_study(context: Context, study_id: StudyId, request: Request, user: Reader) -> Study:
    """Get a study."""
    study = context.jobs.studies.get_study(study_id, user)
    context.guard.audit_view(user, "study", study_id, request)
    return study


@router.get(
    "/studies/{study_id}/events",
    response_class=StreamingResponse,
    responses={**_STREAM, **document_problems(404)},
)
async def watch_study(context: Context, study_id: StudyId, request: Request, user: Reader) -> StreamingResponse:
    """Watch a study; the first event is its current state."""
    first = await asyncio.to_thread(get_study, context, study_id, request, user)
    return _stream_events(context, user, study_id, first)


@router.delete("/studies/{study_id}", status_code=204, responses=document_problems(404))
def delete_study(context: Context, study_id: StudyId, request: Request, user: Writer) -> None:
    """Delete a study: its upload, its results and the comparisons that it is part of."""
    context.jobs.studies.get_row(study_id, user)
    context.guard.audit(user, "delete", study_id, "done", request)
    context.jobs.delete(study_id)


@router.post("/studies/{study_id}/cancel", status_code=202, responses=document_problems(404))
def cancel_study(context: Context, study_id: StudyId, request: Request, user: Writer) -> Study:
    """Cancel a study; one that has ended is not changed."""
    context.jobs.studies.get_row(study_id, user)
    context.guard.audit(user, "cancel", study_id, "done", request)
    context.jobs.cancel(study_id)
    return context.jobs.studies.get_study(study_id, user)


@router.post("/studies/{study_id}/retry", status_code=202, responses=document_problems(404, 409))
def retry_study(context: Context, study_id: StudyId, request: Request, user: Writer) -> Study:
    """Process a study again that failed or was refused; it keeps its ID, and its upload is not sent again."""
    context.jobs.studies.get_retryable_row(study_id, user)
    context.guard.audit(user, "retry", study_id, "done", request)
    context.jobs.retry(study_id)
    return context.jobs.studies.get_study(study_id, user)


def _parse_options(fields: dict[str, str]) -> StudyOptions:
    """Parse a form's fields; raises UsageError, `usage`, for an invalid one."""
    try:
        return StudyOptions.model_validate({name: value for name, value in fields.items() if value})
    except ValidationError as error:
        message = "; ".join(f"{each['loc'][0] if each['loc'] else '?'}: {each['msg']}" for each in error.errors())
        raise UsageError(message[:500], "Compare the request with /api/v1/openapi.json.") from None


def _stream_events(context: AppContext, user: User, study: str | None, first: Study | None) -> StreamingResponse:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(context.events.listen(user, study, first), headers=headers, media_type="text/event-stream")
