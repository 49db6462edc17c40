"""What is to go out: kept in the database, tried again with growing pauses for days, and then shown as dead.

A row's id follows from series, version and target, so nothing is put in twice. An object's UIDs follow from input,
model and version: where a kill comes between an archive's answer and our note of it, the same object is sent once more,
and the archive knows it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Engine, RowMapping, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from strokeseg.errors import NotFound, StrokesegError
from strokeseg.pacs.database import outbox_table

log = logging.getLogger("strokeseg.node")

RETRY_AFTER_S = "again_s"  # in the content that a way gives back: it is not done yet, and goes on after so many seconds
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 3600.0

DeliveryFunction = Callable[[RowMapping, dict[str, Any]], dict[str, Any]]


def enqueue(
    connection: Connection, kind: str, target: str, series_uid: str, version: int, content: dict[str, Any]
) -> str:
    """Put something in, unless it is in already; older versions for the same target that still wait are withdrawn.

    Returns
    -------
    str
        The row's id.
    """
    key = hashlib.sha256("\0".join((kind, target, series_uid, str(version))).encode()).hexdigest()[:32]
    now = time.time()
    row = {
        "id": key,
        "kind": kind,
        "target": target,
        "series_uid": series_uid,
        "version": version,
        "content": json.dumps(content),
        "state": "waiting",
        "tries": 0,
        "first_at": now,
        "next_at": now,
        "error": "",
    }
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(dialect.insert(outbox_table).values(row).on_conflict_do_nothing())
    older = (
        (outbox_table.c.kind == kind)
        & (outbox_table.c.target == target)
        & (outbox_table.c.series_uid == series_uid)
        & (outbox_table.c.version < version)
        & (outbox_table.c.state == "waiting")
    )
    connection.execute(
        update(outbox_table).where(older).values(state="withdrawn", error=f"version {version} took its place")
    )
    return key


def deliver_due(
    engine: Engine,
    ways: Mapping[str, DeliveryFunction],
    keep_days: float,
    among: ColumnElement[bool] | None = None,
    most: int = 20,
) -> int:
    """Try what is due, and note what became of it.

    Parameters
    ----------
    ways : mapping of str to DeliveryFunction
        For each kind the function that delivers a row with its content, and gives the content to keep; a
        StrokesegError of it is a failed try.
    keep_days : float
        After so long a row is dead.
    among : ColumnElement, optional
        Which rows are looked at, None for all: a target that does not answer must not hold up the others.

    Returns
    -------
    int
        How many were tried.
    """
    with engine.connect() as connection:
        due = (outbox_table.c.state == "waiting") & (outbox_table.c.next_at <= time.time())
        due = due if among is None else due & among
        rows = (
            connection.execute(select(outbox_table).where(due).order_by(outbox_table.c.next_at).limit(most))
            .mappings()
            .all()
        )
    for row in rows:
        _attempt_delivery(engine, row, ways[row["kind"]], keep_days)
    return len(rows)


def _attempt_delivery(engine: Engine, row: RowMapping, way: DeliveryFunction, keep_days: float) -> None:
    try:
        content = way(row, json.loads(row["content"]))
        change: dict[str, Any] = {"state": "sent", "error": "", "content": json.dumps(content)}
        if pause := content.pop(RETRY_AFTER_S, None):
            change = {
                **_plan_attempt(row, pause, keep_days),
                "error": "not finished yet",
                "content": json.dumps(content),
            }
    except StrokesegError as error:
        change = _schedule_retry(row, str(error), keep_days)
    except Exception as error:  # one row that cannot be delivered must not stop the others
        log.exception("a delivery failed by a fault of ours")
        change = _schedule_retry(row, f"a fault of ours ({type(error).__name__})", keep_days)
    with engine.begin() as connection:
        still = (outbox_table.c.id == row["id"]) & (outbox_table.c.state == "waiting")
        connection.execute(update(outbox_table).where(still).values(tries=row["tries"] + 1, **change))
    if change["state"] == "sent":
        log.info(
            "delivered %s to %s, series %s, version %d", row["kind"], row["target"], row["series_uid"], row["version"]
        )


def _schedule_retry(row: RowMapping, error: str, keep_days: float) -> dict[str, Any]:
    pause = min(FIRST_PAUSE_S * 2 ** min(row["tries"], 20), LONGEST_PAUSE_S)
    change = _plan_attempt(row, pause, keep_days)
    log.warning(
        "not delivered: %s to %s, series %s: %s; %s",
        row["kind"],
        row["target"],
        row["series_uid"],
        error,
        "given up: `strokeseg node FILE --resend ID` tries again"
        if change["state"] == "dead"
        else f"again in {pause:.0f} s",
    )
    return {**change, "error": error}


def _plan_attempt(row: RowMapping, pause_s: float, keep_days: float) -> dict[str, Any]:
    at = time.time() + pause_s
    return {"state": "dead" if at > row["first_at"] + keep_days * 86400 else "waiting", "next_at": at}


def requeue_sent(engine: Engine, key: str, keep_days: float) -> None:
    """Put a row that was sent back, as after a failed try: its receiver says that it does not keep it."""
    sent = (outbox_table.c.id == key) & (outbox_table.c.state == "sent")
    with engine.begin() as connection:
        if row := connection.execute(select(outbox_table).where(sent)).mappings().one_or_none():
            change = _schedule_retry(row, "the receiver says that it does not keep it", keep_days)
            connection.execute(update(outbox_table).where(sent).values(change))


def retry_now(engine: Engine, key: str) -> None:
    """Put a dead row, or one that waits, back to be tried now, for as many days again.

    Raises
    ------
    NotFound
        `not-found`.
    """
    now = time.time()
    with engine.begin() as connection:
        found = outbox_table.c.id.startswith(key) & outbox_table.c.state.in_(("dead", "waiting"))
        change = {"state": "waiting", "first_at": now, "next_at": now, "tries": 0}
        if (
            not re.fullmatch("[0-9a-f]{6,64}", key)
            or not connection.execute(update(outbox_table).where(found).values(change)).rowcount
        ):
            raise NotFound(
                f"{key}: nothing undelivered has this id",
                "`strokeseg node FILE --undelivered` lists them; give at least six of an id's signs.",
            )


def list_undelivered(engine: Engine) -> list[RowMapping]:
    """List what waits and what is dead, the oldest first."""
    with engine.connect() as connection:
        found = outbox_table.c.state.in_(("dead", "waiting"))
        return list(connection.execute(select(outbox_table).where(found).order_by(outbox_table.c.first_at)).mappings())
