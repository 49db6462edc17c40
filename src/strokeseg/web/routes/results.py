"""Results of studies: slices, masks, files, and people's corrections."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Query, Request
from fastapi import Path as PathParameter
from fastapi.responses import Response, StreamingResponse

from strokeseg.errors import NotFound, TooLarge
from strokeseg.result import ResultDocument
from strokeseg.web import intermediates, responses
from strokeseg.web.auth import BoundedRoute, User, limit_body
from strokeseg.web.body_stream import receive_file
from strokeseg.web.context import AppContext
from strokeseg.web.problems import document_problems
from strokeseg.web.routes.parameters import Context, FileName, Reader, StudyId, VersionNumber, Writer
from strokeseg.web.schemas import ResultFiles, SliceGeometry, Study
from strokeseg.web.study_files import clean_text
from strokeseg.web.worker import LABELS, MANIFEST

router = APIRouter(route_class=BoundedRoute, tags=["results"])
_MAX_MASK_BYTES = 64 * 2**20  # compressed; the mask of the largest scan is far smaller
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_BYTES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The bytes", "content": {"application/octet-stream": _BINARY}},
    304: {"description": "Not modified"},
}
FILE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file", "content": {"*/*": _BINARY}},
    206: {"description": "The requested range of it", "content": {"*/*": _BINARY}},
    304: {"description": "Not modified"},
    416: {"description": "The range is past the end of the file"},
    **document_problems(404),
}
_MASK: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/octet-stream": _BINARY}}}


@router.get("/studies/{study_id}/slices", responses=document_problems(404))
def get_slice_geometry(context: Context, study_id: StudyId, request: Request, user: Reader) -> SliceGeometry:
    """Get the geometry of the slices; available once `has_slices` is true."""
    context.jobs.studies.get_row(study_id, user)
    geometry = SliceGeometry.model_validate(_read_geometry(context, study_id))
    context.guard.audit_view(user, "slices", study_id, request)
    return geometry


@router.get(
    "/studies/{study_id}/slices/{index}", response_class=Response, responses={**_BYTES, **document_problems(404)}
)
def get_slice(
    context: Context,
    study_id: StudyId,
    index: Annotated[int, PathParameter(ge=0, le=10**6)],
    request: Request,
    user: Reader,
) -> Response:
    """Get a slice: rows x columns Hounsfield units, int16, little endian, compressed with gzip."""
    context.jobs.studies.get_row(study_id, user)
    offsets = _read_geometry(context, study_id)["offsets"]
    if index + 1 >= len(offsets):
        raise NotFound(f"there is no slice {index}", f"Slices are numbered from 0 to {len(offsets) - 2}.")
    key = f"studies/{study_id}/scan/slices.bin"
    data = b"".join(context.storage.read_range(key, offsets[index], offsets[index + 1]))
    headers = {"Content-Encoding": "gzip"}
    context.guard.audit_view(user, "slices", study_id, request)
    return responses.send_content(request, f"{study_id}-{index}", data, "application/octet-stream", headers)


@router.get(
    "/studies/{study_id}/thumbnail",
    response_class=Response,
    responses={
        200: {"description": "The image", "content": {"image/png": _BINARY}},
        304: {"description": "Not modified"},
        **document_problems(404),
    },
)
def get_thumbnail(context: Context, study_id: StudyId, request: Request, user: Reader) -> Response:
    """Get a small image: the middle slice, or the one with the most blood once there is a result."""
    row = context.jobs.studies.get_row(study_id, user)
    data = context.storage.read(f"studies/{study_id}/scan/{intermediates.PAGE_FILES[1]}")
    context.guard.audit_view(user, "thumbnail", study_id, request)
    return responses.send_content(request, f"{study_id}-{row.version}", data, "image/png", {})


@router.get("/studies/{study_id}/mask", response_class=Response, responses={**_BYTES, **document_problems(404)})
def get_mask(
    context: Context, study_id: StudyId, request: Request, user: Reader, version: VersionNumber = None
) -> Response:
    """Get each pixel's lesion number: slices x rows x columns bytes, compressed with gzip.

    0 is no lesion; 255 stands for all numbers from 255.
    """
    context.jobs.studies.get_row(study_id, user)
    folder = context.jobs.studies.versions.get_row(study_id, version).folder
    data = context.storage.read(f"studies/{study_id}/{folder}/{LABELS}")
    headers = {"Content-Encoding": "gzip"}
    context.guard.audit_view(user, "mask", study_id, request)
    return responses.send_content(request, folder, data, "application/octet-stream", headers)


@router.get("/studies/{study_id}/result", response_model=ResultDocument, responses=document_problems(404))
def get_result(
    context: Context, study_id: StudyId, request: Request, user: Reader, version: VersionNumber = None
) -> Response:
    """Get `result.json` (docs/outputs.md)."""
    prefix, _ = _read_manifest(context, study_id, user, version)
    data = context.storage.read(f"{prefix}/result.json")
    context.guard.audit_view(user, "result", study_id, request)
    return Response(data, media_type="application/json")


@router.get("/studies/{study_id}/files", responses=document_problems(404))
def list_files(context: Context, study_id: StudyId, user: Reader, version: VersionNumber = None) -> ResultFiles:
    """List the files of a result."""
    return _read_manifest(context, study_id, user, version)[1]


@router.head("/studies/{study_id}/files/{name}", response_class=Response, responses=FILE_RESPONSES)
@router.get("/studies/{study_id}/files/{name}", response_class=Response, responses=FILE_RESPONSES)
def get_file(
    context: Context,
    study_id: StudyId,
    name: FileName,
    request: Request,
    user: Reader,
    version: VersionNumber = None,
) -> Response:
    """Get a file, or the range of it in the Range header."""
    prefix, files = _read_manifest(context, study_id, user, version)
    response = send_listed_file(context, request, prefix, files, name)
    context.guard.audit_view(user, "report" if name.startswith("report.") else "files", study_id, request)
    return response


@router.get(
    "/studies/{study_id}/download",
    response_class=StreamingResponse,
    responses={200: {"description": "A zip", "content": {"application/zip": _BINARY}}, **document_problems(404)},
)
def download_files(
    context: Context, study_id: StudyId, request: Request, user: Reader, version: VersionNumber = None
) -> StreamingResponse:
    """Get all files of a result as one zip."""
    prefix, files = _read_manifest(context, study_id, user, version)
    context.guard.audit(user, "download", study_id, "done", request)
    headers = {"Content-Disposition": f'attachment; filename="strokeseg-{study_id[:8]}.zip"'}
    content = responses.stream_zip(context.storage, prefix, files.items)
    return StreamingResponse(content, headers=headers, media_type="application/zip")


@router.post(
    "/studies/{study_id}/versions",
    status_code=202,
    openapi_extra=_MASK,
    responses=document_problems(400, 404, 408, 409, 413, 507),
)
@limit_body(_MAX_MASK_BYTES)
async def correct_study(
    context: Context,
    study_id: StudyId,
    request: Request,
    user: Writer,
    author: Annotated[str, Query(max_length=100, description="Who drew it; default: the user")] = "",
    note: Annotated[str, Query(max_length=1000)] = "",
    accepted: Annotated[Literal["true", "false", ""], Query(description="Whether it may be used for training")] = "",
) -> Study:
    """Upload a corrected mask: slices x rows x columns bytes, compressed with gzip; not 0 for blood.

    The network's result stays version 0; the measurements and files of the new version are created in the same way.
    """
    studies = context.jobs.studies

    def store() -> Study:
        arrival.check()
        context.guard.audit(user, "correct", study_id, "done", request)
        context.storage.put(folder / name, f"studies/{study_id}/edits/{name}")
        author_name = clean_text(author, 100) or user.name
        decision = {"true": True, "false": False}.get(accepted)
        version = studies.versions.add(study_id, name, author_name, clean_text(note, 1000), decision)
        studies.set_status(study_id, version, "measuring", error=None)
        context.jobs.submit_edit(study_id, version)
        return studies.get_study(study_id, user)

    await asyncio.to_thread(studies.get_row, study_id, user)
    await asyncio.to_thread(studies.versions.get_row, study_id, None)
    announced = request.headers.get("content-length", "0")
    arrival = await asyncio.to_thread(context.retention.expect, int(announced) if announced.isdigit() else 0)
    name, error = f"{uuid4().hex}.gz", TooLarge("the body is larger than any mask", "Compress the mask with gzip.")
    async with context.temporary_folder() as folder:
        with arrival:
            await receive_file(request, folder / name, _MAX_MASK_BYTES, error, arrival.add)
            return await asyncio.to_thread(store)


def send_listed_file(context: AppContext, request: Request, prefix: str, files: ResultFiles, name: str) -> Response:
    """Create the response with a file of a manifest.

    Parameters
    ----------
    context : AppContext
        The server's parts.
    request : Request
        The request.
    prefix : str
        Key of the folder.
    files : ResultFiles
        The folder's manifest.
    name : str
        The requested name.

    Returns
    -------
    Response
        The response.

    Raises
    ------
    NotFound
        `not-found`, if the manifest does not list the name; it is then not used as a path either.
    """
    for file in files.items:
        if file.name == name:
            return responses.send_file(request, context.storage, f"{prefix}/{name}", file)
    raise NotFound("the file does not exist", "List the files.")


def _read_geometry(context: AppContext, study: str) -> dict[str, Any]:
    try:
        data = context.storage.read(f"studies/{study}/scan/{intermediates.PAGE_FILES[0]}")
    except NotFound:
        raise NotFound("this study has no slices yet", "Wait until `has_slices` is true.") from None
    geometry: dict[str, Any] = json.loads(data)
    return geometry


def _read_manifest(context: AppContext, study: str, user: User, version: int | None) -> tuple[str, ResultFiles]:
    context.jobs.studies.get_row(study, user)
    prefix = f"studies/{study}/{context.jobs.studies.versions.get_row(study, version).folder}"
    return prefix, ResultFiles.model_validate_json(context.storage.read(f"{prefix}/{MANIFEST}"))
