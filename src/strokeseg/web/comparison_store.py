"""Database rows of comparisons."""

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
    """The rows of comparisons; every method is one transaction.

    Parameters
    ----------
    engine : Engine
        The database.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def add(self, earlier: tuple[str, int], later: tuple[str, int]) -> tuple[str, bool]:
        """Add the comparison of two versions, or find the existing one; one that failed is started again.

        Parameters
        ----------
        earlier : tuple of (str, int)
            ID and version of the earlier study.
        later : tuple of (str, int)
            ID and version of the later study.

        Returns
        -------
        comparison : str
            ID of the comparison.
        is_new : bool
            Whether it must be queued.
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
        """Return a comparison's row.

        Raises
        ------
        NotFound
            `not-found`, if the comparison does not exist.
        """
        with self.engine.connect() as connection:
            row = connection.execute(select(comparisons).where(comparisons.c.id == comparison)).one_or_none()
        if row is None:
            raise NotFound("the comparison does not exist", "Create one with POST /studies/ID/compare/OTHER.")
        return row

    def set_status(
        self, comparison: str, status: str, folder: str | None = None, error: StrokesegError | None = None
    ) -> None:
        """Set the status of a comparison; one that is done is left unchanged.

        Parameters
        ----------
        comparison : str
            ID of the comparison.
        status : str
            The new status.
        folder : str or None
            Name of the folder with its files.
        error : StrokesegError or None
            Why it was refused or failed.
        """
        info = None if error is None else ErrorInfo(code=error.code, detail=error.message, remedy=error.remedy)
        values = {"status": status, "folder": folder, "error": info and info.model_dump_json()}
        with self.engine.begin() as connection:
            connection.execute(
                update(comparisons).where(comparisons.c.id == comparison, comparisons.c.folder.is_(None)).values(values)
            )

    def list_for_study(self, study: str) -> list[str]:
        """List the IDs of the comparisons that a study is part of."""
        is_part = sa.or_(comparisons.c.earlier == study, comparisons.c.later == study)
        with self.engine.connect() as connection:
            return list(connection.execute(select(comparisons.c.id).where(is_part)).scalars())

    def delete(self, ids: Iterable[str]) -> None:
        """Delete comparisons."""
        with self.engine.begin() as connection:
            connection.execute(sa.delete(comparisons).where(comparisons.c.id.in_(list(ids))))
