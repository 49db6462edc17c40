"""Database rows of the versions of studies."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Engine, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from strokeseg.errors import NotFound
from strokeseg.web.database import current_time, studies, versions


class VersionStore:
    """The rows of versions; every method is one transaction.

    Parameters
    ----------
    engine : Engine
        The database.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def add(self, study: str, edit: str, author: str, note: str, accepted: bool | None) -> int:
        """Add a version for an edit; it becomes valid with :meth:`deliver`.

        Parameters
        ----------
        study : str
            ID of the study.
        edit : str
            Name of the file with the corrected mask.
        author : str
            Who drew it.
        note : str
            The author's note.
        accepted : bool or None
            Whether it may be used for training; None if the author did not decide.

        Returns
        -------
        int
            Number of the version.
        """
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

    def deliver(self, study: str, version: int, folder: str, findings: dict[str, Any], size: int) -> bool:
        """Publish a version as the study's latest, in one transaction.

        After a takeover two processes may deliver the same version: the second one changes nothing.

        Parameters
        ----------
        study : str
            ID of the study.
        version : int
            Number of the version.
        folder : str
            Name of the folder with its files.
        findings : dict of str to object
            The findings that the worklist shows.
        size : int
            Size of the files, bytes.

        Returns
        -------
        bool
            False if the study is gone or the version was delivered before.
        """
        now, summary = current_time(self.engine), json.dumps(findings)
        this = sa.and_(versions.c.study == study, versions.c.version == version)
        active = sa.and_(
            studies.c.id == study, studies.c.status.not_in(("cancelled", "refused", "failed")), ~studies.c.deleted
        )
        finished = {"status": "done", "changed": now, "done": None, "total": None, "error": None}
        with self.engine.begin() as connection:
            # The study's row first: it is locked from here on, so that two deliveries run one after the other.
            if not connection.execute(update(studies).where(active).values(finished)).rowcount:
                return False
            row = connection.execute(select(versions.c.folder).where(this)).first()
            if (row is None) == (version > 0) or (row is not None and row.folder is not None):
                return False
            if row is None:
                values = {"study": study, "version": version, "folder": folder, "findings": summary, "note": ""}
                connection.execute(insert(versions).values(**values, created=now))
            else:
                connection.execute(update(versions).where(this).values(folder=folder, findings=summary))
            latest = sa.case((studies.c.version > version, studies.c.version), else_=version)
            connection.execute(
                update(studies).where(studies.c.id == study).values(version=latest, bytes=studies.c.bytes + size)
            )
        return True

    def get_row(self, study: str, version: int | None) -> Row[Any]:
        """Return the row of a delivered version, by default the latest.

        Raises
        ------
        NotFound
            `not-found`, if there is no such version.
        """
        query = select(versions).where(versions.c.study == study, versions.c.folder.is_not(None))
        query = query.order_by(versions.c.version.desc()).limit(1)
        if version is not None:
            query = query.where(versions.c.version == version)
        with self.engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound("this study does not have this result yet", "Wait until its status is done.")
        return row

    def get_edit_name(self, study: str, version: int) -> str:
        """Return the name of the file with a corrected mask.

        Raises
        ------
        NotFound
            `not-found`, if the edit was withdrawn.
        """
        query = select(versions.c.edit).where(versions.c.study == study, versions.c.version == version)
        with self.engine.connect() as connection:
            name = connection.execute(query).scalar()
        if not name:
            raise NotFound("this edit was withdrawn")
        return str(name)

    def delete(self, study: str, version: int) -> None:
        """Delete a version that was not delivered."""
        with self.engine.begin() as connection:
            connection.execute(
                sa.delete(versions).where(
                    versions.c.study == study, versions.c.version == version, versions.c.folder.is_(None)
                )
            )
