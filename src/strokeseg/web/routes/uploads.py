"""Resumable uploads: a file is sent in chunks and can continue after a lost connection."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from starlette.requests import ClientDisconnect

from strokeseg.errors import Conflict, TooLarge, UsageError
from strokeseg.web import study_files
from strokeseg.web.auth import MAX_UPLOAD, BoundedRoute, User, limit_body
from strokeseg.web.body_stream import receive_file
from strokeseg.web.context import AppContext
from strokeseg.web.problems import document_problems
from strokeseg.web.routes.parameters import Context, IdempotencyKey, UploadId, Writer
from strokeseg.web.schemas import FinishUploads, NewUpload, Study, StudyOptions, Upload
from strokeseg.web.study_creation import StudyRequest, create_study
from strokeseg.web.upload_store import CHUNK_BYTES

router = APIRouter(route_class=BoundedRoute, tags=["uploads"])
_MAX_LIST_BYTES = 2**20  # 20,000 IDs
UploadOffset = Annotated[
    int, Header(alias="Upload-Offset", ge=0, le=2**53, description="Position of the chunk in the file")
]
_CHUNK: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_FINISHED: dict[int | str, dict[str, Any]] = {
    200: {"model": Study, "description": "The key created this study before"},
    **document_problems(400, 404, 409, 413, 503, 507),
}


@router.post("/uploads", status_code=201, responses=document_problems(413, 507))
def create_upload(context: Context, new: NewUpload, response: Response, user: Writer) -> Upload:
    """Announce a file that will be sent in chunks."""
    limit = context.settings.max_upload_bytes
    if new.size > limit:
        raise TooLarge(f"the upload has {new.size} bytes; the limit is {limit}", "Send a single series.")
    context.retention.check_space(new.size)
    upload = context.uploads.create(user.name, new.name, new.size)
    response.headers["Location"] = f"{context.settings.base_path}/api/v1/uploads/{upload}"
    return Upload(id=upload, offset=0, size=new.size, chunk_bytes=CHUNK_BYTES)


@router.head("/uploads/{upload_id}", status_code=200, responses=document_problems(404))
@router.get("/uploads/{upload_id}", responses=document_problems(404))
def get_upload(context: Context, upload_id: UploadId, response: Response, user: Writer) -> Upload:
    """Get the progress of an upload; the next chunk starts at its offset."""
    row = context.uploads.get_row(upload_id, user.name)
    response.headers["Upload-Offset"] = str(row.offset)
    return Upload(id=row.id, offset=row.offset, size=row.size, chunk_bytes=CHUNK_BYTES)


@router.patch(
    "/uploads/{upload_id}",
    status_code=204,
    openapi_extra=_CHUNK,
    responses=document_problems(400, 404, 408, 409, 413, 507),
)
@limit_body(MAX_UPLOAD)
async def append_chunk(
    context: Context, upload_id: UploadId, offset: UploadOffset, request: Request, user: Writer
) -> Response:
    """Send a chunk. If the connection breaks, what arrived is kept: get the offset and continue from there."""
    row = await asyncio.to_thread(context.uploads.get_row, upload_id, user.name)
    if offset != row.offset:
        raise Conflict(
            f"the next chunk starts at {row.offset}, not at {offset}", "Get the offset and continue from there."
        )
    announced = request.headers.get("content-length", "0")
    error = TooLarge("the chunk exceeds the announced size of the file", "Create a new upload.")
    left = row.size - row.offset
    expected = min(left, int(announced) if announced.isdigit() else 0)
    arrival = await asyncio.to_thread(context.retention.expect, expected, row.is_held)
    async with context.temporary_folder() as folder:
        with arrival:
            piece = folder / "piece"
            with contextlib.suppress(ClientDisconnect):  # what arrived is kept
                await receive_file(request, piece, left, error, arrival.add)
            if not (size := piece.stat().st_size):
                raise UsageError("the chunk is empty", "Send at least one byte.")
            new_offset = await asyncio.to_thread(context.uploads.append, row, piece, size)
    return Response(status_code=204, headers={"Upload-Offset": str(new_offset)})


@router.delete("/uploads/{upload_id}", status_code=204, responses=document_problems(404))
def delete_upload(context: Context, upload_id: UploadId, user: Writer) -> None:
    """Cancel an upload."""
    context.uploads.get_row(upload_id, user.name)
    context.uploads.delete(upload_id)


@router.post("/uploads/finish", status_code=201, responses=_FINISHED)
@limit_body(_MAX_LIST_BYTES)
async def finish_uploads(
    context: Context,
    body: FinishUploads,
    request: Request,
    response: Response,
    user: Writer,
    key: IdempotencyKey = "",
) -> Study:
    """Create a study from one or several uploads."""
    ids = body.uploads
    if not ids or len(set(ids)) != len(ids):
        raise UsageError("uploads: must list at least one upload, and each only once", "List the IDs of the uploads.")
    if not all(len(upload) == 32 and upload.isalnum() and upload.isascii() for upload in ids):
        raise UsageError("uploads: contains an invalid ID", "List the IDs of the uploads.")
    new = await asyncio.to_thread(_create_request, user, body, key, ids, request, response)
    return await _create_study(context, new, ids)


@router.post("/uploads/{upload_id}/finish", status_code=201, responses=_FINISHED)
async def finish_upload(
    context: Context,
    upload_id: UploadId,
    body: StudyOptions,
    request: Request,
    response: Response,
    user: Writer,
    key: IdempotencyKey = "",
) -> Study:
    """Create a study from one upload."""
    new = _create_request(user, body, key, [upload_id], request, response)
    return await _create_study(context, new, [upload_id])


def _create_request(
    user: User, body: StudyOptions, key: str, uploads: list[str], request: Request, response: Response
) -> StudyRequest:
    options = StudyOptions.model_validate(body.model_dump(include=set(StudyOptions.model_fields)))
    fingerprint = study_files.compute_fingerprint(uploads, options)
    return StudyRequest(user, options, key, fingerprint, request, response)


async def _create_study(context: AppContext, new: StudyRequest, uploads: list[str]) -> Study:
    studies = context.jobs.studies

    def create(folder: Path) -> Study:
        if new.key and (existing := studies.find_by_key(new.key, new.fingerprint, new.user.name)):
            new.response.status_code = 200  # the first response was lost; the uploads may have been deleted since
            return studies.get_study(existing, new.user)
        owner = new.user.name
        files = [context.uploads.assemble(upload, owner, folder, number) for number, upload in enumerate(uploads)]
        study = create_study(context, new, files, folder)
        for upload in uploads:
            context.uploads.delete(upload)
        return study

    async with context.temporary_folder() as folder:
        return await asyncio.to_thread(create, folder)
