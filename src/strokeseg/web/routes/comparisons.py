"""Comparisons of two studies."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from strokeseg.errors import NotFound
from strokeseg.web.auth import BoundedRoute, User
from strokeseg.web.context import AppContext
from strokeseg.web.problems import document_problems
from strokeseg.web.routes.parameters import ComparisonId, Context, FileName, LaterStudyId, Reader, StudyId, Writer
from strokeseg.web.routes.results import FILE_RESPONSES, send_listed_file
from strokeseg.web.schemas import Comparison, ResultFiles
from strokeseg.web.serializers import serialize_comparison
from strokeseg.web.worker import MANIFEST

router = APIRouter(route_class=BoundedRoute, tags=["results"])
_JSON: dict[int | str, dict[str, Any]] = {
    200: {"description": "`change.json`", "content": {"application/json": {}}},
    **document_problems(404),
}


@router.post("/studies/{study_id}/compare/{other_id}", status_code=202, responses=document_problems(400, 404, 409))
def compare_studies(
    context: Context, study_id: StudyId, other_id: LaterStudyId, request: Request, user: Writer
) -> Comparison:
    """Compare two studies of one patient; the first is the earlier one."""
    jobs = context.jobs
    for study in (study_id, other_id):
        jobs.studies.get_row(study, user)
    earlier, later = ((study, jobs.studies.versions.get_row(study, None).version) for study in (study_id, other_id))
    context.guard.audit(user, "compare", study_id, "done", request)
    comparison, is_new = jobs.comparisons.add(earlier, later)
    if is_new:
        jobs.submit_comparison(comparison)
    return serialize_comparison(jobs.comparisons.get_row(comparison))


@router.get("/comparisons/{comparison_id}", responses=document_problems(404))
def get_comparison(context: Context, comparison_id: ComparisonId, user: Reader) -> Comparison:
    """Get the state of a comparison."""
    return serialize_comparison(_get_row(context, comparison_id, user))


@router.get("/comparisons/{comparison_id}/result", response_class=Response, responses=_JSON)
def get_comparison_result(context: Context, comparison_id: ComparisonId, request: Request, user: Reader) -> Response:
    """Get `change.json` (docs/compare.md)."""
    row = _get_row(context, comparison_id, user)
    prefix, _ = _read_manifest(context, row)
    data = context.storage.read(f"{prefix}/change.json")
    _audit_view(context, row, request, user)
    return Response(data, media_type="application/json")


@router.get("/comparisons/{comparison_id}/files/{name}", response_class=Response, responses=FILE_RESPONSES)
def get_comparison_file(
    context: Context, comparison_id: ComparisonId, name: FileName, request: Request, user: Reader
) -> Response:
    """Get a file of a comparison."""
    row = _get_row(context, comparison_id, user)
    response = send_listed_file(context, request, *_read_manifest(context, row), name)
    _audit_view(context, row, request, user)
    return response


def _get_row(context: AppContext, comparison: str, user: User) -> Any:
    """Return the row of a comparison whose studies the user may see."""
    row = context.jobs.comparisons.get_row(comparison)
    for study in (row.earlier, row.later):
        try:
            context.jobs.studies.get_row(study, user)
        except NotFound:
            raise NotFound("the comparison does not exist") from None
    return row


def _audit_view(context: AppContext, row: Any, request: Request, user: User) -> None:
    """Log that a user sees a comparison, once for each of its studies."""
    for study in (row.earlier, row.later):
        context.guard.audit_view(user, "comparison", study, request)


def _read_manifest(context: AppContext, row: Any) -> tuple[str, ResultFiles]:
    if row.folder is None:
        raise NotFound("this comparison has no result yet", "Wait until its status is done.")
    prefix = f"comparisons/{row.folder}"
    return prefix, ResultFiles.model_validate_json(context.storage.read(f"{prefix}/{MANIFEST}"))
