"""Conversion of database rows to the REST interface's models."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row

from strokeseg.errors import UsageError
from strokeseg.web.schemas import Comparison, ErrorInfo, Progress, Study, StudyVersion


def format_time(seconds: float) -> str:
    """Format seconds since 1970 as ISO 8601, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def serialize_study(row: Row[Any], delivered: Sequence[Row[Any]]) -> Study:
    """Convert a study's row.

    Parameters
    ----------
    row : Row
        The study's row.
    delivered : sequence of Row
        The rows of its delivered versions, in ascending order.

    Returns
    -------
    Study
        The study.
    """
    latest = json.loads(delivered[-1].findings) if delivered else {}
    return Study(
        id=row.id,
        name=row.name,
        created=format_time(row.created),
        status=row.status,
        progress=None if row.total is None else Progress(done=row.done or 0, total=row.total),
        priority=row.priority,
        owner=row.owner,
        group=row.group,
        model=row.model,
        version=delivered[-1].version if delivered else 0,
        versions=[_serialize_version(version) for version in delivered],
        hemorrhage=latest.get("hemorrhage"),
        confidence=latest.get("confidence"),
        volume_ml=latest.get("volume_ml"),
        volume_interval_ml=latest.get("volume_interval_ml"),
        error=None if row.error is None else ErrorInfo.model_validate_json(row.error),
        has_slices=row.slices > 0,
        has_result=bool(delivered),
    )


def _serialize_version(row: Row[Any]) -> StudyVersion:
    findings = json.loads(row.findings)
    return StudyVersion(
        version=row.version,
        created=format_time(row.created),
        author=row.author,
        note=row.note,
        accepted=row.accepted,
        hemorrhage=findings["hemorrhage"],
        volume_ml=findings["volume_ml"],
    )


def encode_cursor(row: Row[Any]) -> str:
    """Return the cursor for the page after a study."""
    return base64.urlsafe_b64encode(json.dumps([row.created, row.id]).encode()).decode()


def decode_cursor(cursor: str) -> tuple[float, str]:
    """Decode a cursor.

    Parameters
    ----------
    cursor : str
        A cursor of :func:`encode_cursor`.

    Returns
    -------
    created : float
        Creation time of the last study shown.
    study : str
        Its ID.

    Raises
    ------
    UsageError
        `usage`, for an invalid cursor.
    """
    try:
        created, study = json.loads(base64.urlsafe_b64decode(cursor))
        return float(created), str(study)
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise UsageError("invalid cursor", "Pass `next` of the previous page.") from None


def serialize_comparison(row: Row[Any]) -> Comparison:
    """Convert a comparison's row."""
    error = None if row.error is None else ErrorInfo.model_validate_json(row.error)
    return Comparison(id=row.id, earlier=row.earlier, later=row.later, status=row.status, error=error)
