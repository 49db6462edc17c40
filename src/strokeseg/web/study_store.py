"""The rows of studies and their versions: who owns what, and how far it is."""

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
from strokeseg.web.schemas import TERMINAL_STATUSES, ErrorInfo, Study, StudyPage
from strokeseg.web.serializers import decode_cursor, encode_cursor, serialize_study


@dataclass(frozen=True)
class NewStudy:
    """A study to be.

    Parameters
    ----------
    id : str
        Of the study, under which its upload lies already.
    upload : str
        The name of the uploaded file in the study's folder.
    size : int
        Of it, bytes.
    options : dict of str to object
        Window, spacing_mm, series.
    key, fingerprint : str, default: ""
        Of the idempotency key, if there is one.
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
    """All rows, through one engine; every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def add(self, new: NewStudy, owner: str, group: str | None) -> tuple[str, bool]:
        """Make a study, or find the one that the same idempotency key made.

        Returns
        -------
        tuple of (str, bool)
            The study's id, and whether it is new.

        Raises
        ------
        Conflict
            `conflict`, if the key made a study of something else.
        """
        at = current_time(self.engine)
        row = {
            "id": new.id,
            "created": at,
            "changed": at,
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
                    known = {"owner": owner, "key": new.key, "fingerprint": new.fingerprint, "study": new.id}
                    connection.execute(insert(idempotency_keys).values(**known, created=at))
                connection.execute(insert(studies).values(row))
        except IntegrityError:
            made = self.find_by_key(new.key, new.fingerprint, owner)
            if made is None:
                raise
            return made, False
        return new.id, True

    def find_by_key(self, key: str, fingerprint: str, owner: str) -> str | None:
        """Return the study that an idempotency key made, if it did; raises Conflict, `conflict`, for another content."""
        query = select(idempotency_keys).where(idempotency_keys.c.owner == owner, idempotency_keys.c.key == key)
        with self.engine.connect() as connection:
            found = connection.execute(query).one_or_none()
        if found is not None and found.fingerprint != fingerprint:
            raise Conflict("this Idempotency-Key was used for another study", "Use a new key for each study.")
        return None if found is None else str(found.study)

    def get_row(self, study: str, viewer: User | None = None) -> Row[Any]:
        """Return a study's row; raises NotFound, `not-found`, also where it is not the viewer's to see."""
        with self.engine.connect() as connection:
            query = select(studies).where(studies.c.id == study, ~studies.c.deleted)
            found = connection.execute(query).one_or_none()
        if found is None or (viewer is not None and not viewer.can_see(found.owner, found.group)):
            raise NotFound("there is no such study", "List the studies with GET /api/v1/studies.")
        return found

    def get_study(self, study: str, viewer: User | None = None) -> Study:
        """Return a study as the interface tells it; raises as :meth:`row`."""
        return self._serialize([self.get_row(study, viewer)])[0]

    def list_page(self, viewer: User, status: str, text: str, limit: int, cursor: str) -> StudyPage:
        """List the studies that a viewer may see, the newest first. Raises UsageError for a cursor that is none."""
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
        found: list[Row[Any]] = []
        with self.engine.connect() as connection:
            for row in connection.execute(query):
                if viewer.can_see(row.owner, row.group):
                    found.append(row)
                if len(found) > limit:
                    break
        more, found = len(found) > limit, found[:limit]
        return StudyPage(items=self._serialize(found), next=encode_cursor(found[-1]) if more else None)

    def list_changes(
        self, since: float
    ) -> tuple[list[tuple[Study, str, str | None]], list[tuple[str, str, str | None]], float]:
        """Return what changed since a time, by the database's clock.

        Returns
        -------
        tuple of (list of tuple of (Study, str, str or None), list of tuple of (str, str, str or None), float)
            (study, owner, group) of each changed, (id, owner, group) of each deleted, and the time of the last
            change.
        """
        with self.engine.connect() as connection:
            rows = connection.execute(select(studies).where(studies.c.changed > since)).all()
        alive = [row for row in rows if not row.deleted]
        heard = [(said, row.owner, row.group) for said, row in zip(self._serialize(alive), alive, strict=True)]
        gone = [(row.id, row.owner, row.group) for row in rows if row.deleted]
        return heard, gone, max((row.changed for row in rows), default=since)

    def read_clock(self) -> float:
        """Return the database's time."""
        with self.engine.connect() as connection:
            return float(connection.execute(select(current_time(self.engine))).scalar_one())

    def set_status(self, study: str, version: int, status: str, **values: Any) -> bool:
        """Say how far a version of a study is; False where it ended meanwhile or was deleted, and is left so.

        A machine's answer is made once: only an edit brings a study that is done back into work.
        """
        values |= {"status": status, "changed": current_time(self.engine)}
        ended = ("cancelled", "refused", "failed") if version else TERMINAL_STATUSES
        query = update(studies).where(studies.c.id == study, studies.c.status.not_in(ended), ~studies.c.deleted)
        with self.engine.begin() as connection:
            return connection.execute(query.values(values)).rowcount > 0

    def is_cancelled(self, study: str, version: int) -> bool:
        """Return whether a study was cancelled or deleted, or the edit taken back."""
        with self.engine.connect() as connection:
            found = connection.execute(select(studies.c.status, studies.c.deleted).where(studies.c.id == study)).first()
            if found is None or found.deleted or found.status == "cancelled":
                return True
            edit = select(versions.c.version).where(versions.c.study == study, versions.c.version == version)
            return version > 0 and connection.execute(edit).first() is None

    def record_failure(self, study: str, version: int, status: str, error: StrokesegError) -> None:
        """Say why a study ended without a result; an edit that failed leaves the study done."""
        why = ErrorInfo(code=error.code, detail=error.message, remedy=error.remedy).model_dump_json()
        if version:
            self.delete_version(study, version)
        self.set_status(study, version, "done" if version else status, error=why, done=None, total=None)

    def cancel(self, study: str) -> list[int]:
        """Stop a study that has not ended; one that has is left as it is. Gives the edits that are taken back."""
        waiting = sa.and_(versions.c.study == study, versions.c.folder.is_(None))
        with self.engine.begin() as connection:
            edits = list(connection.execute(select(versions.c.version).where(waiting)).scalars())
            connection.execute(sa.delete(versions).where(waiting))
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
        """Empty a study's row: from now on it is gone; the row stays for a day, so that every page hears of it."""
        empty = {
            "name": "",
            "options": "{}",
            "error": None,
            "deleted": True,
            "changed": current_time(self.engine),
            "bytes": 0,
        }
        with self.engine.begin() as connection:
            connection.execute(update(studies).where(studies.c.id == study).values(empty))
            connection.execute(sa.delete(versions).where(versions.c.study == study))
            connection.execute(sa.delete(idempotency_keys).where(idempotency_keys.c.study == study))

    def add_version(self, study: str, edit: str, author: str, note: str, accepted: bool | None) -> int:
        """Number a new version, drawn in the file ``edit``; it counts once :meth:`deliver` is called for it."""
        while True:
            last = select(sa.func.max(versions.c.version)).where(versions.c.study == study)
            try:
                with self.engine.begin() as connection:
                    number = int(connection.execute(last).scalar() or 0) + 1
                    row = {"study": study, "version": number, "author": author, "note": note, "accepted": accepted}
                    connection.execute(insert(versions).values(**row, edit=edit, created=current_time(self.engine)))
                return number
            except IntegrityError:
                continue  # another edit took the number

    def deliver_version(self, study: str, version: int, folder: str, findings: dict[str, Any], size: int) -> bool:
        """Make a version the study's latest, all at once; False where the study is gone or the version there already.

        Whoever comes second, after a takeover, changes nothing.
        """
        at, shown = current_time(self.engine), json.dumps(findings)
        this = sa.and_(versions.c.study == study, versions.c.version == version)
        open_ = sa.and_(
            studies.c.id == study, studies.c.status.not_in(("cancelled", "refused", "failed")), ~studies.c.deleted
        )
        ended = {"status": "done", "changed": at, "done": None, "total": None, "error": None}
        with self.engine.begin() as connection:
            # The study's row first: it is locked from here on, so that two that deliver come one after the other.
            if not connection.execute(update(studies).where(open_).values(ended)).rowcount:
                return False
            there = connection.execute(select(versions.c.folder).where(this)).first()
            if (there is None) == (version > 0) or (there is not None and there.folder is not None):
                return False
            if there is None:
                row = {"study": study, "version": version, "folder": folder, "findings": shown, "note": ""}
                connection.execute(insert(versions).values(**row, created=at))
            else:
                connection.execute(update(versions).where(this).values(folder=folder, findings=shown))
            latest = sa.case((studies.c.version > version, studies.c.version), else_=version)
            connection.execute(
                update(studies).where(studies.c.id == study).values(version=latest, bytes=studies.c.bytes + size)
            )
        return True

    def get_version(self, study: str, version: int | None) -> Row[Any]:
        """Return a delivered version, the latest where none is named; raises NotFound, `not-found`."""
        query = select(versions).where(versions.c.study == study, versions.c.folder.is_not(None))
        query = query.order_by(versions.c.version.desc()).limit(1)
        if version is not None:
            query = query.where(versions.c.version == version)
        with self.engine.connect() as connection:
            found = connection.execute(query).one_or_none()
        if found is None:
            raise NotFound("this study has no such result yet", "Wait until its status is done.")
        return found

    def get_edit_name(self, study: str, version: int) -> str:
        """Return the name of the file with what a person drew; raises NotFound, `not-found`, if it was taken back."""
        query = select(versions.c.edit).where(versions.c.study == study, versions.c.version == version)
        with self.engine.connect() as connection:
            found = connection.execute(query).scalar()
        if not found:
            raise NotFound("this edit was taken back")
        return str(found)

    def delete_version(self, study: str, version: int) -> None:
        """Forget a version that came to nothing."""
        with self.engine.begin() as connection:
            connection.execute(
                sa.delete(versions).where(
                    versions.c.study == study, versions.c.version == version, versions.c.folder.is_(None)
                )
            )

    def sum_bytes(self) -> int:
        """Sum the bytes of all studies."""
        with self.engine.connect() as connection:
            return int(connection.execute(select(sa.func.coalesce(sa.func.sum(studies.c.bytes), 0))).scalar_one())

    def add_step_duration(self, step: str, seconds: float) -> None:
        """Count the seconds of a step."""
        with self.engine.begin() as connection:
            values = {"times": step_durations.c.times + 1, "seconds": step_durations.c.seconds + seconds}
            if not connection.execute(
                update(step_durations).where(step_durations.c.step == step).values(values)
            ).rowcount:
                connection.execute(insert(step_durations).values(step=step, times=1, seconds=seconds))

    def _serialize(self, rows: Sequence[Row[Any]]) -> list[Study]:
        ids = [row.id for row in rows]
        found: dict[str, list[Row[Any]]] = {study: [] for study in ids}
        if ids:
            query = select(versions).where(versions.c.study.in_(ids), versions.c.folder.is_not(None))
            with self.engine.connect() as connection:
                for version in connection.execute(query.order_by(versions.c.version)):
                    found[version.study].append(version)
        return [serialize_study(row, found[row.id]) for row in rows]
