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
from strokeseg.serve import intake, parts, sending
from strokeseg.serve.auth import User
from strokeseg.serve.here import ComparisonId, FileName, Here, OtherId, StudyId, VersionNumber
from strokeseg.serve.problems import responses
from strokeseg.serve.schemas import Comparison, Files, Slices, Study
from strokeseg.serve.telling import compared
from strokeseg.serve.work import LABELS, MANIFEST

_MOST_MASK = 64 * 2**20  # gzip'd; a drawn mask of the largest scan is far smaller
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


def router(here: Here) -> APIRouter:
    """Make the routes."""
    routes = APIRouter(tags=["results"])
    for add in (_add_slices, _add_files, _add_versions, _add_comparisons):
        add(here, routes)
    return routes


def _add_slices(here: Here, routes: APIRouter) -> None:
    read = Depends(here.guard.require("read"))

    def form(study: str) -> dict[str, Any]:
        try:
            known: dict[str, Any] = json.loads(here.storage.read(f"studies/{study}/scan/{parts.SHOWN[0]}"))
        except NotFound:
            raise NotFound("this study has no slices yet", "Wait until `has_slices` is true.") from None
        return known

    @routes.get("/studies/{study_id}/slices", responses=responses(404))
    def slices(study_id: StudyId, user: User = read) -> Slices:
        """Say what form the slices have; they are there as soon as `has_slices` is true."""
        here.jobs.studies.row(study_id, user)
        return Slices.model_validate(form(study_id))

    @routes.get("/studies/{study_id}/slices/{index}", response_class=Response, responses={**_BYTES, **responses(404)})
    def plane(
        study_id: StudyId,
        index: Annotated[int, PathParameter(ge=0, le=10**6)],
        request: Request,
        user: User = read,
    ) -> Response:
        """Give a slice: rows x columns Hounsfield units, int16, little endian, gzip'd."""
        here.jobs.studies.row(study_id, user)
        offsets = form(study_id)["offsets"]
        if index + 1 >= len(offsets):
            raise NotFound(f"there is no slice {index}", f"Slices are numbered from 0 to {len(offsets) - 2}.")
        data = b"".join(here.storage.part(f"studies/{study_id}/scan/slices.bin", offsets[index], offsets[index + 1]))
        tag, packed = f"{study_id}-{index}", {"Content-Encoding": "gzip"}
        return sending.content(request, tag, data, "application/octet-stream", packed)

    @routes.get(
        "/studies/{study_id}/thumbnail",
        response_class=Response,
        responses={
            200: {"description": "the picture", "content": {"image/png": _BINARY}},
            304: {"description": "you have it"},
            **responses(404),
        },
    )
    def thumbnail(study_id: StudyId, request: Request, user: User = read) -> Response:
        """Give a small picture: the middle slice, later the one with most blood."""
        row = here.jobs.studies.row(study_id, user)
        data = here.storage.read(f"studies/{study_id}/scan/{parts.SHOWN[1]}")
        return sending.content(request, f"{study_id}-{row.version}", data, "image/png", {})

    @routes.get("/studies/{study_id}/mask", response_class=Response, responses={**_BYTES, **responses(404)})
    def mask(study_id: StudyId, request: Request, user: User = read, version: VersionNumber = None) -> Response:
        """Give the number of each pixel's lesion: slices x rows x columns bytes, gzip'd; 0 is none, 255 any beyond."""
        here.jobs.studies.row(study_id, user)
        found = here.jobs.studies.version(study_id, version)
        data = here.storage.read(f"studies/{study_id}/{found.folder}/{LABELS}")
        packed = {"Content-Encoding": "gzip"}
        return sending.content(request, found.folder, data, "application/octet-stream", packed)


def _add_files(here: Here, routes: APIRouter) -> None:
    read = Depends(here.guard.require("read"))

    def known(study: str, user: User, version: int | None) -> tuple[str, Files]:
        here.jobs.studies.row(study, user)
        prefix = f"studies/{study}/{here.jobs.studies.version(study, version).folder}"
        return prefix, Files.model_validate_json(here.storage.read(f"{prefix}/{MANIFEST}"))

    @routes.get("/studies/{study_id}/result", response_model=ResultDocument, responses=responses(404))
    def result(study_id: StudyId, user: User = read, version: VersionNumber = None) -> Response:
        """Give `result.json` (docs/outputs.md)."""
        prefix, _ = known(study_id, user, version)
        return Response(here.storage.read(f"{prefix}/result.json"), media_type="application/json")

    @routes.get("/studies/{study_id}/files", responses=responses(404))
    def files(study_id: StudyId, user: User = read, version: VersionNumber = None) -> Files:
        """List the files of a result."""
        return known(study_id, user, version)[1]

    @routes.head("/studies/{study_id}/files/{name}", response_class=Response, responses={**_FILE, **responses(404)})
    @routes.get("/studies/{study_id}/files/{name}", response_class=Response, responses={**_FILE, **responses(404)})
    def file(
        study_id: StudyId, name: FileName, request: Request, user: User = read, version: VersionNumber = None
    ) -> Response:
        """Give a file, or the part of it that a Range header asks for."""
        prefix, listed = known(study_id, user, version)
        return _listed(here, request, prefix, listed, name)

    @routes.get(
        "/studies/{study_id}/download",
        response_class=StreamingResponse,
        responses={200: {"description": "a zip", "content": {"application/zip": _BINARY}}, **responses(404)},
    )
    def download(
        study_id: StudyId, request: Request, user: User = read, version: VersionNumber = None
    ) -> StreamingResponse:
        """Give all files of a result as one zip."""
        prefix, listed = known(study_id, user, version)
        here.guard.audit(user, "download", study_id, "done", request)
        headers = {"Content-Disposition": f'attachment; filename="strokeseg-{study_id[:8]}.zip"'}
        made = sending.archive(here.storage, prefix, listed.items)
        return StreamingResponse(made, headers=headers, media_type="application/zip")


def _add_versions(here: Here, routes: APIRouter) -> None:
    write = Depends(here.guard.require("write"))

    @routes.post(
        "/studies/{study_id}/versions",
        status_code=202,
        openapi_extra=_MASK,
        responses=responses(400, 404, 408, 409, 413, 507),
    )
    async def correct(
        study_id: StudyId,
        request: Request,
        user: User = write,
        author: Annotated[str, Query(max_length=100, description="who drew it; else the user")] = "",
        note: Annotated[str, Query(max_length=1000)] = "",
        accepted: Annotated[Literal["true", "false", ""], Query(description="fit to train a network with")] = "",
    ) -> Study:
        """Give a corrected mask: gzip'd bytes, slices x rows x columns, not 0 where there is blood.

        The machine's answer stays version 0; measures and files of the new version are made like those of the first.
        """

        def work(data: bytes) -> Study:
            here.retention.room_for(len(data))
            here.guard.audit(user, "correct", study_id, "done", request)
            name = f"{uuid4().hex}.gz"
            (folder / name).write_bytes(data)
            here.storage.put(folder / name, f"studies/{study_id}/edits/{name}")
            who = intake.cleaned(author, 100) or user.name
            said = {"true": True, "false": False}.get(accepted)
            version = here.jobs.studies.add_version(study_id, name, who, intake.cleaned(note, 1000), said)
            here.jobs.studies.move(study_id, version, "measuring", error=None)
            here.jobs.submit_edit(study_id, version)
            return here.jobs.studies.study(study_id, user)

        await asyncio.to_thread(here.jobs.studies.row, study_id, user)
        await asyncio.to_thread(here.jobs.studies.version, study_id, None)
        data = b""
        async for piece in request.stream():
            data += piece
            if len(data) > _MOST_MASK:
                raise TooLarge("this is no mask of a scan", "Send it gzip'd.")
        async with here.place() as folder:
            return await asyncio.to_thread(work, data)


def _add_comparisons(here: Here, routes: APIRouter) -> None:
    read, write = Depends(here.guard.require("read")), Depends(here.guard.require("write"))

    def row(comparison: str, user: User) -> Any:
        found = here.jobs.comparisons.row(comparison)
        for study in (found.earlier, found.later):
            try:
                here.jobs.studies.row(study, user)
            except NotFound:
                raise NotFound("there is no such comparison") from None
        return found

    def known(comparison: str, user: User) -> tuple[str, Files]:
        found = row(comparison, user)
        if found.folder is None:
            raise NotFound("this comparison has no result yet", "Wait until its status is done.")
        prefix = f"comparisons/{found.folder}"
        return prefix, Files.model_validate_json(here.storage.read(f"{prefix}/{MANIFEST}"))

    @routes.post("/studies/{study_id}/compare/{other_id}", status_code=202, responses=responses(400, 404, 409))
    def compare(study_id: StudyId, other_id: OtherId, request: Request, user: User = write) -> Comparison:
        """Lay two studies of one patient on each other: the first is the earlier one."""
        for study in (study_id, other_id):
            here.jobs.studies.row(study, user)
        sides = [(study, here.jobs.studies.version(study, None).version) for study in (study_id, other_id)]
        here.guard.audit(user, "compare", study_id, "done", request)
        comparison, is_new = here.jobs.comparisons.add(sides[0], sides[1])
        if is_new:
            here.jobs.submit_comparison(comparison)
        return compared(here.jobs.comparisons.row(comparison))

    @routes.get("/comparisons/{comparison_id}", responses=responses(404))
    def one(comparison_id: ComparisonId, user: User = read) -> Comparison:
        """Say how far a comparison is."""
        return compared(row(comparison_id, user))

    @routes.get("/comparisons/{comparison_id}/result", response_class=Response, responses=_json("`change.json`"))
    def result(comparison_id: ComparisonId, user: User = read) -> Response:
        """Give `change.json` (docs/compare.md)."""
        prefix, _ = known(comparison_id, user)
        return Response(here.storage.read(f"{prefix}/change.json"), media_type="application/json")

    @routes.get(
        "/comparisons/{comparison_id}/files/{name}", response_class=Response, responses={**_FILE, **responses(404)}
    )
    def file(comparison_id: ComparisonId, name: FileName, request: Request, user: User = read) -> Response:
        """Give a file of a comparison."""
        prefix, listed = known(comparison_id, user)
        return _listed(here, request, prefix, listed, name)


def _json(said: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"description": said, "content": {"application/json": {}}}, **responses(404)}


def _listed(here: Here, request: Request, prefix: str, listed: Files, name: str) -> Response:
    """Answer with a file that a list names; what a list does not name is not there, whatever the name says."""
    for known in listed.items:
        if known.name == name:
            return sending.file(request, here.storage, f"{prefix}/{name}", known)
    raise NotFound("there is no such file", "List the files.")
