"""Retry of series whose study failed: `strokeseg node FILE --retry`."""

from __future__ import annotations

import getpass
from dataclasses import dataclass

from sqlalchemy import Engine, RowMapping, select, update

from strokeseg.errors import NotFound
from strokeseg.pacs.database import series_table
from strokeseg.web.auth.audit import AuditLog
from strokeseg.web.schemas import RETRYABLE_STATUSES
from strokeseg.web.study_store import StudyStore


@dataclass(frozen=True)
class RetriedSeries:
    """A series that is processed again.

    Attributes
    ----------
    series_uid : str
        Series instance UID.
    study : str
        ID of its study in the worklist.
    reason : str
        Why it had failed.
    """

    series_uid: str
    study: str
    reason: str


def retry_series(engine: Engine, series_uid: str | None, audit: AuditLog) -> list[RetriedSeries]:
    """Queue failed series again; a process that works on the same database processes them.

    Parameters
    ----------
    engine : Engine
        The database.
    series_uid : str or None
        Series instance UID. None is every series whose study failed; studies that were refused are then left out,
        because they would be refused again.
    audit : AuditLog
        The audit log; it gets a line with the operating system's user for each study.

    Returns
    -------
    list of RetriedSeries
        The series.

    Raises
    ------
    NotFound
        `not-found`, if no failed series has this UID, or its study was deleted.
    NotWritable, DiskFull
        `not-writable`, `disk-full`, if the audit log cannot be written; the series is then not retried.
    """
    query = select(series_table).where(series_table.c.state == "failed").order_by(series_table.c.first_at)
    if series_uid is not None:
        query = query.where(series_table.c.series_uid == series_uid)
    with engine.connect() as connection:
        rows = connection.execute(query).mappings().all()
    if series_uid is not None and not rows:
        raise NotFound(f"{series_uid}: no failed series has this UID", "Give a full series UID, or all.")
    return [retried for row in rows if (retried := _retry(engine, row, series_uid is not None, audit))]


def _retry(engine: Engine, row: RowMapping, is_named: bool, audit: AuditLog) -> RetriedSeries | None:
    studies, job = StudyStore(engine), row["job"]
    try:
        study = studies.get_row(job)
    except NotFound:
        if not is_named:
            return None
        message = f"series {row['series_uid']}: its study was deleted"
        raise NotFound(
            message, "Send the series to `strokeseg serve`, or segment it with `strokeseg segment`."
        ) from None
    if study.status == "refused" and not is_named:
        return None
    audit.append(getpass.getuser(), "retry", job, "done", "local")
    # The study first. If this process ends before the series is changed, a second call changes it: the study may then
    # have any status.
    if study.status in RETRYABLE_STATUSES:
        studies.restart(job, study.options, RETRYABLE_STATUSES)
    same = (
        (series_table.c.series_uid == row["series_uid"])
        & (series_table.c.state == "failed")
        & (series_table.c.job == job)
    )
    with engine.begin() as connection:
        connection.execute(update(series_table).where(same).values(state="queued", why="retried"))
    return RetriedSeries(row["series_uid"], job, row["why"])
