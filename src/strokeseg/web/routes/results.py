"""What was found: slices, masks, files, people's corrections, comparisons."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as PathParameter
from fastapi.responses import Response, StreamingResponse

from strokeseg.errors import NotFound, TooLarge
from strokeseg.result import ResultDocument
from strokeseg.web import intermediates, multipart
from strokeseg.web import responses as sending
from strokeseg.web.auth import User
from strokeseg.web.context import AppContext, ComparisonId, FileName, LaterStudyId, StudyId, VersionNumber
from strokeseg.web.problems import document_problems
from strokeseg.web.schemas import Comparison, ResultFiles, SliceGeometry, Study
from strokeseg.web.serializers import serialize_comparison
from strokeseg.web.worker import LABELS, MANIFEST

_MAX_MASK_BYTES = 64 * 2**20  # gzip'd; a drawn mask of the largest scan is far smaller
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_BYTES: dict[int | str, dict[str, Any]] = {
    200: {"description": "the bytes", "content": {"application/octet-stream": _BINARY}},
    304: {"description": "you have it"},
}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "the file", "content": {"*/*": _BINARY}},
    206: {"description": "the part of it that was asked for", "content": {"*/*": _BINARY}},
    304: {"description": "you have it"},
    416: {"description": "the file has no such part"},
}
_MASK: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/octet-stream": _BINARY}}}


def create_router(here: AppContext) -> APIRouter:
    """Make the routes."""
    routes = APIRouter(tags=["results"])
    for add in (_add_slices, _add_files, _add_versions, _add_comparisons):
        add(here, routes)
    return routes


def _add_slices(here: AppContext, routes: APIRouter) -> None:
    read = Depends(here.guard.require("read"))

    def form(study: str) -> dict[str, Any]:
        try:
            known: dict[str, Any] = json.loads(here.storage.read(f"studies/{study}/scan/{intermediates.PAGE_FILES[0]}"))
        except NotFound:
            raise NotFound("this study has no slices yet", "Wait until `has_slices` is true.") from None
        return known

    @routes.get("/studies/{study_id}/slices", responses=document_problems(404))
    def slices(study_id: StudyId, user: User = read) -> SliceGeometry:
        """Say what form the slices have; they are there as soon as `has_slices` is true."""
        here.jobs.studies.get_row(study_id, user)
        return SliceGeometry.model_validate(form(study_id))

    @routes.get(
        "/studies/{study_id}/slices/{index}", response_class=Response, responses={**_BYTES, **document_problems(404)}
    )
    def plane(
        study_id: StudyId,
        index: Annotated[int, PathParameter(ge=0, le=10**6)],
        request: Request,
        user: User = read,
    ) -> Response:
        """Return a slice: rows x columns Hounsfield units, int16, little endian, gzip'd."""
        here.jobs.studies.get_row(study_id, user)
        offsets = form(study_id)["offsets"]
        if index + 1 >= len(offsets):
            raise NotFound(f"there is no slice {index}", f"Slices are numbered from 0 to {len(offsets) - 2}.")
        data = b"".join(
            here.storage.read_range(f"studies/{study_id}/scan/slices.bin", offsets[index], offsets[index + 1])
        )
        tag, packed = f"{study_id}-{index}", {"Content-Encoding": "gzip"}
        return sending.send_content(request, tag, data, "application/octet-stream", packed)

    @routes.get(
        "/studies/{study_id}/thumbnail",
        response_class=Response,
        responses={
            200: {"description": "the picture", "content": {"image/png": _BINARY}},
            304: {"description": "you have it"},
            **document_problems(404),
        },
    )
    def thumbnail(study_id: StudyId, request: Request, user: User = read) -> Response:
        """Return a small picture: the middle slice, later the one with most blood."""
        row = here.jobs.studies.get_row(study_id, user)
        data = here.storage.read(f"studies/{study_id}/scan/{intermediates.PAGE_FILES[1]}")
        return sending.send_content(request, f"{study_id}-{row.version}", data, "image/png", {})

    @routes.get("/studies/{study_id}/mask", response_class=Response, responses={**_BYTES, **document_problems(404)})
    def mask(study_id: StudyId, request: Request, user: User = read, version: VersionNumber = None) -> Response:
        """Return the number of each pixel's lesion: slices x rows x columns bytes, gzip'd; 0 is none, 255 any beyond."""
        here.jobs.studies.get_row(study_id, user)
        found = here.jobs.studies.get_version(study_id, version)
        data = here.storage.read(f"studies/{study_id}/{found.folder}/{LABELS}")
        packed = {"Content-Encoding": "gzip"}
        return sending.send_content(request, found.folder, data, "application/octet-stream", packed)


def _add_files(here: AppContext, routes: APIRouter) -> None:
    read = Depends(here.guard.require("read"))

    def known(study: str, user: User, version: int | None) -> tuple[str, ResultFiles]:
        here.jobs.studies.get_row(study, user)
        prefix = f"studies/{study}/{here.jobs.studies.get_version(study, version).folder}"
        return prefix, ResultFiles.model_validate_json(here.storage.read(f"{prefix}/{MANIFEST}"))

    @routes.get("/studies/{study_id}/result", response_model=ResultDocument, responses=document_problems(404))
    def result(study_id: StudyId, user: User = read, version: VersionNumber = None) -> Response:
        """Return `result.json` (docs/outputs.md)."""
        prefix, _ = known(study_id, user, version)
        return Response(here.storage.read(f"{prefix}/result.json"), media_type="application/json")

    @routes.get("/studies/{study_id}/files", responses=document_problems(404))
    def files(study_id: StudyId, user: User = read, version: VersionNumber = None) -> ResultFiles:
        """List the files of a result."""
        return known(study_id, user, version)[1]

    @routes.head(
        "/studies/{study_id}/files/{name}", response_class=Response, responses={**_FILE, **document_problems(404)}
    )
    @routes.get(
        "/studies/{study_id}/files/{name}", response_class=Response, responses={**_FILE, **document_problems(404)}
    )
    def file(
        study_id: StudyId, name: FileName, request: Request, user: User = read, version: VersionNumber = None
    ) -> Response:
        """Return a file, or the part of it that a Range header asks for."""
        prefix, listed = known(study_id, user, version)
        return _send_listed_file(here, request, prefix, listed, name)

    @routes.get(
        "/studies/{study_id}/download",
        response_class=StreamingResponse,
        responses={200: {"description": "a zip", "content": {"application/zip": _BINARY}}, **document_problems(404)},
    )
    def download(
        study_id: StudyId, request: Request, user: User = read, version: VersionNumber = None
    ) -> StreamingResponse:
        """Return all files of a result as one zip."""
        prefix, listed = known(study_id, user, version)
        here.guard.audit(user, "download", study_id, "done", request)
        headers = {"Content-Disposition": f'attachment; filename="strokeseg-{study_id[:8]}.zip"'}
        made = sending.stream_zip(here.storage, prefix, listed.items)
        return StreamingResponse(made, headers=headers, media_type="application/zip")


def _add_versions(here: AppContext, routes: APIRouter) -> None:
    write = Depends(here.guard.require("write"))

    @routes.post(
        "/studies/{study_id}/versions",
        status_code=202,
        openapi_extra=_MASK,
        responses=document_problems(400, 404, 408, 409, 413, 507),
    )
    async def correct(
        study_id: StudyId,
        request: Request,
        user: User = write,
        author: Annotated[str, Query(max_length=100, description="who drew it; else the user")] = "",
        note: Annotated[str, Query(max_length=1000)] = "",
        accepted: Annotated[Literal["true", "false", ""], Query(description="fit to train a network with")] = "",
    ) -> Study:
        """Return a corrected mask: gzip'd bytes, slices x rows x columns, not 0 where there is blood.

        The machine's answer stays version 0; measures and files of the new version are made like those of the first.
        """

        def work(data: bytes) -> Study:
            here.retention.check_space(len(data))
            here.guard.audit(user, "correct", study_id, "done", request)
            name = f"{uuid4().hex}.gz"
            (folder / name).write_bytes(data)
            here.storage.put(folder / name, f"studies/{study_id}/edits/{name}")
            who = multipart.clean_text(author, 100) or user.name
            said = {"true": True, "false": False}.get(accepted)
            version = here.jobs.studies.add_version(study_id, name, who, multipart.clean_text(note, 1000), said)
            here.jobs.studies.set_status(study_id, version, "measuring", error=None)
            here.jobs.submit_edit(study_id, version)
            return here.jobs.studies.get_study(study_id, user)

        await asyncio.to_thread(here.jobs.studies.get_row, study_id, user)
        await asyncio.to_thread(here.jobs.studies.get_version, study_id, None)
        data = b""
        async for piece in request.stream():
            data += piece
            if len(data) > _MAX_MASK_BYTES:
                raise TooLarge("this is no mask of a scan", "Send it gzip'd.")
        async with here.temporary_folder() as folder:
            return await asyncio.to_thread(work, data)


def _add_comparisons(here: AppContext, routes: APIRouter) -> None:
    read, write = Depends(here.guard.require("read")), Depends(here.guard.require("write"))

    def row(comparison: str, user: User) -> Any:
        found = here.jobs.comparisons.get_row(comparison)
        for study in (found.earlier, found.later):
            try:
                here.jobs.studies.get_row(study, user)
            except NotFound:
                raise NotFound("there is no such comparison") from None
        return found

    def known(comparison: str, user: User) -> tuple[str, ResultFiles]:
        found = row(comparison, user)
        if found.folder is None:
            raise NotFound("this comparison has no result yet", "Wait until its status is done.")
        prefix = f"comparisons/{found.folder}"
        return prefix, ResultFiles.model_validate_json(here.storage.read(f"{prefix}/{MANIFEST}"))

    @routes.post("/studies/{study_id}/compare/{other_id}", status_code=202, responses=document_problems(400, 404, 409))
    def compare(study_id: StudyId, other_id: LaterStudyId, request: Request, user: User = write) -> Comparison:
        """Lay two studies of one patient on each other: the first is the earlier one."""
        for study in (study_id, other_id):
            here.jobs.studies.get_row(study, user)
        sides = [(study, here.jobs.studies.get_version(study, None).version) for study in (study_id, other_id)]
        here.guard.audit(user, "compare", study_id, "done", request)
        comparison, is_new = here.jobs.comparisons.add(sides[0], sides[1])
        if is_new:
            here.jobs.submit_comparison(comparison)
        return serialize_comparison(here.jobs.comparisons.get_row(comparison))

    @routes.get("/comparisons/{comparison_id}", responses=document_problems(404))
    def one(comparison_id: ComparisonId, user: User = read) -> Comparison:
        """Say how far a comparison is."""
        return serialize_comparison(row(comparison_id, user))

    @routes.get(
        "/comparisons/{comparison_id}/result", response_class=Response, responses=_document_json("`change.json`")
    )
    def result(comparison_id: ComparisonId, user: User = read) -> Response:
        """Return `change.json` (docs/compare.md)."""
        prefix, _ = known(comparison_id, user)
        return Response(here.storage.read(f"{prefix}/change.json"), media_type="application/json")

    @routes.get(
        "/comparisons/{comparison_id}/files/{name}",
        response_class=Response,
        responses={**_FILE, **document_problems(404)},
    )
    def file(comparison_id: ComparisonId, name: FileName, request: Request, user: User = read) -> Response:
        """Return a file of a comparison."""
        prefix, listed = known(comparison_id, user)
        return _send_listed_file(here, request, prefix, listed, name)


def _document_json(said: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"description": said, "content": {"application/json": {}}}, **document_problems(404)}


def _send_listed_file(here: AppContext, request: Request, prefix: str, listed: ResultFiles, name: str) -> Response:
    """Answer with a file that a list names; what a list does not name is not there, whatever the name says."""
    for known in listed.items:
        if known.name == name:
            return sending.send_file(request, here.storage, f"{prefix}/{name}", known)
    raise NotFound("there is no such file", "List the files.")
