"""Uploads in pieces, which go on after a lost connection."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from starlette.requests import ClientDisconnect

from strokeseg.errors import Conflict, TooLarge, UsageError
from strokeseg.web import multipart
from strokeseg.web.auth import User
from strokeseg.web.context import AppContext, UploadId
from strokeseg.web.problems import document_problems
from strokeseg.web.routes.studies import IdempotencyKey, create_study
from strokeseg.web.schemas import FinishUploads, NewUpload, Study, StudyOptions, Upload
from strokeseg.web.upload_store import CHUNK_BYTES

UploadOffset = Annotated[int, Header(alias="Upload-Offset", ge=0, le=2**53, description="where this piece begins")]
_PIECE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_FINISHED: dict[int | str, dict[str, Any]] = {
    200: {"model": Study, "description": "the key made this study before"},
    **document_problems(400, 404, 409, 413, 503, 507),
}


def create_router(here: AppContext) -> APIRouter:
    """Make the routes."""
    routes = APIRouter(tags=["uploads"])
    write = Depends(here.guard.require("write"))

    @routes.post("/uploads", status_code=201, responses=document_problems(413, 507))
    def begin(new: NewUpload, response: Response, user: User = write) -> Upload:
        """Announce a file that will come in pieces."""
        if new.size > here.settings.max_upload_bytes:
            raise TooLarge(
                f"{new.size} bytes; at most {here.settings.max_upload_bytes} are taken", "Send one series alone."
            )
        here.retention.check_space(new.size)
        upload = here.uploads.create(user.name, new.name, new.size)
        response.headers["Location"] = f"{here.settings.base_path}/api/v1/uploads/{upload}"
        return Upload(id=upload, offset=0, size=new.size, chunk_bytes=CHUNK_BYTES)

    @routes.head("/uploads/{upload_id}", status_code=200, responses=document_problems(404))
    @routes.get("/uploads/{upload_id}", responses=document_problems(404))
    def state(upload_id: UploadId, response: Response, user: User = write) -> Upload:
        """Say how much of an upload is here: the next piece begins there."""
        row = here.uploads.get_row(upload_id, user.name)
        response.headers["Upload-Offset"] = str(row.offset)
        return Upload(id=row.id, offset=row.offset, size=row.size, chunk_bytes=CHUNK_BYTES)

    @routes.patch(
        "/uploads/{upload_id}",
        status_code=204,
        openapi_extra=_PIECE,
        responses=document_problems(400, 404, 408, 409, 413, 507),
    )
    async def append(upload_id: UploadId, offset: UploadOffset, request: Request, user: User = write) -> Response:
        """Send a piece. Of one that is cut off, what came is kept: ask for the offset and go on there."""
        row = await asyncio.to_thread(here.uploads.get_row, upload_id, user.name)
        if offset != row.offset:
            raise Conflict(
                f"the next piece begins at {row.offset}, not at {offset}", "Ask for the offset and go on there."
            )
        async with here.temporary_folder() as folder:
            size = await _receive_body(request, folder / "piece", row.size - row.offset)
            if not size:
                raise UsageError("the piece is empty", "Send bytes.")
            now_at = await asyncio.to_thread(here.uploads.append, row, folder / "piece", size)
        return Response(status_code=204, headers={"Upload-Offset": str(now_at)})

    @routes.delete("/uploads/{upload_id}", status_code=204, responses=document_problems(404))
    def remove(upload_id: UploadId, user: User = write) -> None:
        """Return an upload up."""
        here.uploads.get_row(upload_id, user.name)
        here.uploads.delete(upload_id)

    @routes.post("/uploads/finish", status_code=201, responses=_FINISHED)
    async def finish(
        asked: FinishUploads, request: Request, response: Response, user: User = write, key: IdempotencyKey = ""
    ) -> Study:
        """Make a study of one or several uploads."""
        return await _create_study(here, request, response, user, asked.uploads, asked, key)

    @routes.post("/uploads/{upload_id}/finish", status_code=201, responses=_FINISHED)
    async def finish_one(
        upload_id: UploadId,
        asked: StudyOptions,
        request: Request,
        response: Response,
        user: User = write,
        key: IdempotencyKey = "",
    ) -> Study:
        """Make a study of one upload."""
        return await _create_study(here, request, response, user, [upload_id], asked, key)

    return routes


async def _receive_body(request: Request, path: Path, room: int) -> int:
    """Write a body to a file and give its bytes; of a body that is cut off, what came. Raises TooLarge."""
    size = 0
    with path.open("wb") as stream:
        try:
            async for piece in request.stream():
                size += len(piece)
                if size > room:
                    raise TooLarge("this piece is longer than what was announced", "Begin a new upload.")
                stream.write(piece)
        except ClientDisconnect:
            pass
    return size


async def _create_study(
    here: AppContext,
    request: Request,
    response: Response,
    user: User,
    uploads: list[str],
    options: StudyOptions,
    key: str,
) -> Study:
    if not uploads or len(set(uploads)) != len(uploads):
        raise UsageError("uploads: name each upload once, and one at least", "Give the ids of finished uploads.")
    for upload in uploads:
        if not (len(upload) == 32 and upload.isalnum() and upload.isascii()):
            raise UsageError("uploads: not all of them are ids", "Give the ids of finished uploads.")

    plain = StudyOptions.model_validate(options.model_dump(include=set(StudyOptions.model_fields)))
    once = (key, multipart.compute_fingerprint(uploads, plain))

    def work(folder: Path) -> Study:
        if key and (made := here.jobs.studies.find_by_key(*once, user.name)):
            response.status_code = 200  # its answer was lost on the way; the uploads may be gone since
            return here.jobs.studies.get_study(made, user)
        files = [here.uploads.assemble(upload, user.name, folder, number) for number, upload in enumerate(uploads)]
        study = create_study(here, request, response, user, files, plain, once, folder)
        for upload in uploads:
            here.uploads.delete(upload)
        return study

    async with here.temporary_folder() as folder:
        return await asyncio.to_thread(work, folder)
