"""Database rows of studies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Engine, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from strokeseg.errors import Conflict, NotFound, StrokesegError
from strokeseg.web.auth.users import User
from strokeseg.web.database import current_time, idempotency_keys, step_durations, studies, versions
from strokeseg.web.schemas import RETRYABLE_STATUSES, TERMINAL_STATUSES, ErrorInfo, Study, StudyPage
from strokeseg.web.serializers import decode_cursor, encode_cursor, serialize_study
from strokeseg.web.version_store import VersionStore


@dataclass(frozen=True)
class NewStudy:
    """The data of a study to be added.

    Attributes
    ----------
    id : str
        ID of the study; its upload is already stored under it.
    name : str
        Name of the study.
    upload : str
        Name of the uploaded file in the study's folder.
    size : int
        Size of the upload, bytes.
    options : dict of str to object
        Window, spacing_mm, order, series, operating_point, threshold and smallest_ml.
    model : str
        Name of the model.
    priority : str
        "normal" or "urgent".
    key : str
        The idempotency key; empty if there is none.
    fingerprint : str
        Checksum of the request with the key.
    """

    id: str
    name: str
    upload: str
    size: int
    options: dict[str, Any]
    model: str
    priority: str
    key: str = ""
    fingerprint: str = ""


class StudyStore:
    """The rows of studies; every method is one transaction.

    Parameters
    ----------
    engine : Engine
        The database.

    Attributes
    ----------
    versions : VersionStore
        The rows of their versions.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine, self.versions = engine, VersionStore(engine)

    def add(self, new: NewStudy, owner: str, group: str | None) -> tuple[str, bool]:
        """Add a study, or find the one that the same idempotency key created.

        Parameters
        ----------
        new : NewStudy
            The study.
        owner : str
            Name of the user.
        group : str or None
            Group of the user.

        Returns
        -------
        study : str
            ID of the study.
        is_new : bool
            Whether it was added.

        Raises
        ------
        Conflict
            `conflict`, if the key created a study from a different request.
        """
        now = current_time(self.engine)
        row = {
            "id": new.id,
            "created": now,
            "changed": now,
            "name": new.name,
            "owner": owner,
            "group": group,
            "status": "queued",
            "priority": new.priority,
            "model": new.model,
            "options": json.dumps(new.options),
            "upload": new.upload,
            "bytes": new.size,
        }
        try:
            with self.engine.begin() as connection:
                if new.key:
                    key = {"owner": owner, "key": new.key, "fingerprint": new.fingerprint, "study": new.id}
                    connection.execute(insert(idempotency_keys).values(**key, created=now))
                connection.execute(insert(studies).values(row))
        except IntegrityError:
            existing = self.find_by_key(new.key, new.fingerprint, owner)
            if existing is None:
                raise
            return existing, False
        return new.id, True

    def find_by_key(self, key: str, fingerprint: str, owner: str) -> str | None:
        """Return the ID of the study that an idempotency key created, or None.

        Raises
        ------
        Conflict
            `conflict`, if the key was used for a different request.
        """
        query = select(idempotency_keys).where(idempotency_keys.c.owner == owner, idempotency_keys.c.key == key)
        with self.engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        if row is not None and row.fingerprint != fingerprint:
            raise Conflict("this Idempotency-Key was used for another study", "Use a new key for each study.")
        return None if row is None else str(row.study)

    def get_row(self, study: str, viewer: User | None = None) -> Row[Any]:
        """Return a study's row.

        Raises
        ------
        NotFound
            `not-found`, if the study does not exist or the viewer may not see it.
        """
        with self.engine.connect() as connection:
            query = select(studies).where(studies.c.id == study, ~studies.c.deleted)
            row = connection.execute(query).one_or_none()
        if row is None or (viewer is not None and not viewer.can_see(row.owner, row.group)):
            raise NotFound("the study does not exist", "List the studies with GET /api/v1/studies.")
        return row

    def get_retryable_row(self, study: str, viewer: User | None = None) -> Row[Any]:
        """Return the row of a study that failed or was refused.

        Raises
        ------
        NotFound
            `not-found`, if the study does not exist or the viewer may not see it.
        Conflict
            `conflict`, if it has another status.
        """
        row = self.get_row(study, viewer)
        if row.status not in RETRYABLE_STATUSES:
            message = f"the status of this study is {row.status}: it cannot be tried again"
            raise Conflict(message, "Only a study that failed or was refused can be tried again.")
        return row

    def get_study(self, study: str, viewer: User | None = None) -> Study:
        """Return a study in the form of the REST interface; raises as :meth:`get_row`."""
        return self._serialize([self.get_row(study, viewer)])[0]

    def list_page(self, viewer: User, status: str, text: str, limit: int, cursor: str) -> StudyPage:
        """List the studies that a viewer may see, newest first.

        Parameters
        ----------
        viewer : User
            The user.
        status : str
            Only studies with this status; empty for all.
        text : str
            Only studies whose name contains it; empty for all.
        limit : int
            Maximum number of studies.
        cursor : str
            ``next`` of the previous page; empty for the first page.

        Returns
        -------
        StudyPage
            The studies.

        Raises
        ------
        UsageError
            `usage`, for an invalid cursor.
        """
        query = select(studies).where(~studies.c.deleted)
        if status:
            query = query.where(studies.c.status == status)
        if text:
            query = query.where(studies.c.name.icontains(text, autoescape=True))
        if cursor:
            created, last = decode_cursor(cursor)
            older = sa.and_(studies.c.created == created, studies.c.id < last)
            query = query.where(sa.or_(studies.c.created < created, older))
        query = query.order_by(studies.c.created.desc(), studies.c.id.desc())
        visible: list[Row[Any]] = []
        with self.engine.connect() as connection:
            for row in connection.execute(query):
                if viewer.can_see(row.owner, row.group):
                    visible.append(row)
                if len(visible) > limit:
                    break
        more, visible = len(visible) > limit, visible[:limit]
        return StudyPage(items=self._serialize(visible), next=encode_cursor(visible[-1]) if more else None)

    def list_changes(
        self, since: float
    ) -> tuple[list[tuple[Study, str, str | None]], list[tuple[str, str, str | None]], float]:
        """List the changes since a time by the database's clock.

        Parameters
        ----------
        since : float
            Seconds since 1970.

        Returns
        -------
        changed : list of (Study, str, str or None)
            Each changed study with its owner and group.
        deleted : list of (str, str, str or None)
            ID, owner and group of each deleted study.
        latest : float
            Time of the last change.
        """
        with self.engine.connect() as connection:
            rows = connection.execute(select(studies).where(studies.c.changed > since)).all()
        present = [row for row in rows if not row.deleted]
        serialized = zip(self._serialize(present), present, strict=True)
        changed = [(study, row.owner, row.group) for study, row in serialized]
        deleted = [(row.id, row.owner, row.group) for row in rows if row.deleted]
        return changed, deleted, max((row.changed for row in rows), default=since)

    def read_clock(self) -> float:
        """Return the database's time, seconds since 1970."""
        with self.engine.connect() as connection:
            return float(connection.execute(select(current_time(self.engine))).scalar_one())

    def set_status(self, study: str, version: int, status: str, **values: Any) -> bool:
        """Set the status of a study; a study that has ended or was deleted is left unchanged.

        The network's result is made once: only an edit makes a finished study active again.

        Parameters
        ----------
        study : str
            ID of the study.
        version : int
            The version that is worked on.
        status : str
            The new status.
        **values : object
            Other columns to set.

        Returns
        -------
        bool
            Whether the status was set.
        """
        values |= {"status": status, "changed": current_time(self.engine)}
        final = ("cancelled", "refused", "failed") if version else TERMINAL_STATUSES
        query = update(studies).where(studies.c.id == study, studies.c.status.not_in(final), ~studies.c.deleted)
        with self.engine.begin() as connection:
            return connection.execute(query.values(values)).rowcount > 0

    def is_cancelled(self, study: str, version: int) -> bool:
        """Return whether a study was cancelled or deleted, or the edit withdrawn."""
        with self.engine.connect() as connection:
            query = select(studies.c.status, studies.c.deleted).where(studies.c.id == study)
            row = connection.execute(query).first()
            if row is None or row.deleted or row.status == "cancelled":
                return True
            edit = select(versions.c.version).where(versions.c.study == study, versions.c.version == version)
            return version > 0 and connection.execute(edit).first() is None

    def record_failure(self, study: str, version: int, status: str, error: StrokesegError) -> None:
        """Record why a study ended without a result; after a failed edit the study is done again."""
        info = ErrorInfo(code=error.code, detail=error.message, remedy=error.remedy).model_dump_json()
        if version:
            self.versions.delete(study, version)
        self.set_status(study, version, "done" if version else status, error=info, done=None, total=None)

    def restart(self, study: str, options: str, statuses: Sequence[str]) -> bool:
        """Reset a study without a result to "queued", and count the retry in its options.

        Parameters
        ----------
        study : str
            ID of the study.
        options : str
            The options of its row as the caller read them; a study that was restarted since is left unchanged.
        statuses : sequence of str
            The statuses in which it may be restarted.

        Returns
        -------
        bool
            Whether the study was reset.
        """
        values = json.loads(options)
        values["retries"] = values.get("retries", 0) + 1
        change = {"status": "queued", "error": None, "done": None, "total": None, "options": json.dumps(values)}
        change["changed"] = current_time(self.engine)
        query = update(studies).where(
            studies.c.id == study,
            studies.c.options == options,
            studies.c.status.in_(statuses),
            studies.c.version < 0,
            ~studies.c.deleted,
        )
        with self.engine.begin() as connection:
            return connection.execute(query.values(change)).rowcount > 0

    def cancel(self, study: str) -> list[int]:
        """Stop a study unless it has ended, and return the versions of its withdrawn edits."""
        unfinished = sa.and_(versions.c.study == study, versions.c.folder.is_(None))
        with self.engine.begin() as connection:
            edits = list(connection.execute(select(versions.c.version).where(unfinished)).scalars())
            connection.execute(sa.delete(versions).where(unfinished))
            connection.execute(
                update(studies)
                .where(studies.c.id == study, studies.c.status.not_in(TERMINAL_STATUSES))
                .values(
                    status=sa.case((studies.c.version >= 0, "done"), else_="cancelled"),
                    changed=current_time(self.engine),
                    done=None,
                    total=None,
                )
            )
        return edits

    def mark_deleted(self, study: str) -> None:
        """Empty a study's row and mark it as deleted; the row is kept for a day, so that open pages are notified."""
        empty = {"name": "", "options": "{}", "error": None, "deleted": True, "bytes": 0}
        empty["changed"] = current_time(self.engine)
        with self.engine.begin() as connection:
            connection.execute(update(studies).where(studies.c.id == study).values(empty))
            connection.execute(sa.delete(versions).where(versions.c.study == study))
            connection.execute(sa.delete(idempotency_keys).where(idempotency_keys.c.study == study))

    def sum_bytes(self) -> int:
        """Return the size of all studies, bytes."""
        with self.engine.connect() as connection:
            return int(connection.execute(select(sa.func.coalesce(sa.func.sum(studies.c.bytes), 0))).scalar_one())

    def add_step_duration(self, step: str, seconds: float) -> None:
        """Add the duration of a step to the totals."""
        with self.engine.begin() as connection:
            values = {"times": step_durations.c.times + 1, "seconds": step_durations.c.seconds + seconds}
            query = update(step_durations).where(step_durations.c.step == step)
            if not connection.execute(query.values(values)).rowcount:
                connection.execute(insert(step_durations).values(step=step, times=1, seconds=seconds))

    def _serialize(self, rows: Sequence[Row[Any]]) -> list[Study]:
        ids = [row.id for row in rows]
        delivered: dict[str, list[Row[Any]]] = {study: [] for study in ids}
        if ids:
            query = select(versions).where(versions.c.study.in_(ids), versions.c.folder.is_not(None))
            with self.engine.connect() as connection:
                for version in connection.execute(query.order_by(versions.c.version)):
                    delivered[version.study].append(version)
        return [serialize_study(row, delivered[row.id]) for row in rows]


def list_study_jobs(study: str, options: str) -> list[str]:
    """Return the IDs of a study's jobs, the current one last: the first has the study's ID, each retry its own.

    Parameters
    ----------
    study : str
        ID of the study.
    options : str
        The options of its row.

    Returns
    -------
    list of str
        The IDs.
    """
    return [study, *(f"{study}-retry{number}" for number in range(1, json.loads(options).get("retries", 0) + 1))]
