"""The rows of comparisons: which two versions, and how far it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy import Engine, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from strokeseg.errors import NotFound, StrokesegError
from strokeseg.web.database import comparisons, current_time
from strokeseg.web.schemas import ErrorInfo


class ComparisonStore:
    """The rows of comparisons."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def add(self, earlier: tuple[str, int], later: tuple[str, int]) -> tuple[str, bool]:
        """Make the comparison of two versions, or find the one that there is; one that failed is begun again.

        Returns
        -------
        tuple of (str, bool)
            Its id, and whether it has to be worked on.
        """
        same = sa.and_(
            comparisons.c.earlier == earlier[0],
            comparisons.c.later == later[0],
            comparisons.c.earlier_version == earlier[1],
            comparisons.c.later_version == later[1],
        )
        identity = uuid4().hex
        values = {"earlier": earlier[0], "earlier_version": earlier[1], "later": later[0], "later_version": later[1]}
        try:
            with self.engine.begin() as connection:
                connection.execute(sa.delete(comparisons).where(same, comparisons.c.status == "failed"))
                connection.execute(
                    insert(comparisons).values(
                        **values, id=identity, status="queued", created=current_time(self.engine)
                    )
                )
        except IntegrityError:
            with self.engine.connect() as connection:
                return str(connection.execute(select(comparisons.c.id).where(same)).scalar_one()), False
        return identity, True

    def get_row(self, comparison: str) -> Row[Any]:
        """Return a comparison; raises NotFound, `not-found`."""
        with self.engine.connect() as connection:
            found = connection.execute(select(comparisons).where(comparisons.c.id == comparison)).one_or_none()
        if found is None:
            raise NotFound("there is no such comparison", "Ask for one with POST /studies/ID/compare/OTHER.")
        return found

    def set_status(
        self, comparison: str, status: str, folder: str | None = None, error: StrokesegError | None = None
    ) -> None:
        """Say how far a comparison is; one that is done stays so."""
        why = None if error is None else ErrorInfo(code=error.code, detail=error.message, remedy=error.remedy)
        values = {"status": status, "folder": folder, "error": why and why.model_dump_json()}
        with self.engine.begin() as connection:
            connection.execute(
                update(comparisons).where(comparisons.c.id == comparison, comparisons.c.folder.is_(None)).values(values)
            )

    def list_for_study(self, study: str) -> list[str]:
        """List the comparisons that a study is part of."""
        part = sa.or_(comparisons.c.earlier == study, comparisons.c.later == study)
        with self.engine.connect() as connection:
            return list(connection.execute(select(comparisons.c.id).where(part)).scalars())

    def delete(self, ids: Iterable[str]) -> None:
        """Forget comparisons."""
        with self.engine.begin() as connection:
            connection.execute(sa.delete(comparisons).where(comparisons.c.id.in_(list(ids))))
