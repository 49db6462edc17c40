"""Outgoing deliveries: kept in the database, retried with growing pauses for days, and then marked as dead.

A row's id is derived from series, version and target, so no delivery is entered twice. An object's UIDs are derived
from input, model and version: if the node is killed between the archive's answer and the note of it, the same object
is sent again and the archive recognizes it.
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

RETRY_AFTER_S = "again_s"  # key of a delivery function's returned content: not finished, continue after these seconds
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 3600.0

DeliveryFunction = Callable[[RowMapping, dict[str, Any]], dict[str, Any]]


def enqueue(
    connection: Connection, kind: str, target: str, series_uid: str, version: int, content: dict[str, Any]
) -> str:
    """Enter a delivery unless it exists; waiting deliveries of older versions to the same target are withdrawn.

    Parameters
    ----------
    connection : Connection
        Connection with an open transaction.
    kind : str
        "send" | "tell" | "commitment" | "prior".
    target : str
        Name of the target in the settings.
    series_uid : str
        Series instance UID.
    version : int
        Version of the result.
    content : dict
        Data of the delivery, stored as JSON.

    Returns
    -------
    str
        The row's id.
    """
    row_id = hashlib.sha256("\0".join((kind, target, series_uid, str(version))).encode()).hexdigest()[:32]
    now = time.time()
    row = {
        "id": row_id,
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
    is_older = (
        (outbox_table.c.kind == kind)
        & (outbox_table.c.target == target)
        & (outbox_table.c.series_uid == series_uid)
        & (outbox_table.c.version < version)
        & (outbox_table.c.state == "waiting")
    )
    change = {"state": "withdrawn", "error": f"replaced by version {version}"}
    connection.execute(update(outbox_table).where(is_older).values(change))
    return row_id


def deliver_due(
    engine: Engine,
    delivery_functions: Mapping[str, DeliveryFunction],
    keep_days: float,
    condition: ColumnElement[bool] | None = None,
    limit: int = 20,
) -> int:
    """Attempt the deliveries that are due and store the outcome of each.

    Parameters
    ----------
    engine : Engine
        Engine of the database.
    delivery_functions : mapping of str to callable
        For each kind a function that delivers a row with its content and returns the content to store. If it raises
        a StrokesegError, the attempt has failed.
    keep_days : float
        Days after which an undelivered row is dead.
    condition : ColumnElement, optional
        Rows to consider; None is all. One loop per target keeps an unreachable target from delaying the others.
    limit : int, default: 20
        Maximum number of rows.

    Returns
    -------
    int
        Number of attempts.
    """
    with engine.connect() as connection:
        is_due = (outbox_table.c.state == "waiting") & (outbox_table.c.next_at <= time.time())
        is_due = is_due if condition is None else is_due & condition
        query = select(outbox_table).where(is_due).order_by(outbox_table.c.next_at).limit(limit)
        rows = connection.execute(query).mappings().all()
    for row in rows:
        _attempt_delivery(engine, row, delivery_functions[row["kind"]], keep_days)
    return len(rows)


def _attempt_delivery(engine: Engine, row: RowMapping, deliver: DeliveryFunction, keep_days: float) -> None:
    try:
        content = deliver(row, json.loads(row["content"]))
        change: dict[str, Any] = {"state": "sent", "error": "", "content": json.dumps(content)}
        if pause_s := content.pop(RETRY_AFTER_S, None):
            plan = _plan_attempt(row, pause_s, keep_days)
            change = {**plan, "error": "not finished yet", "content": json.dumps(content)}
    except StrokesegError as error:
        change = _schedule_retry(row, str(error), keep_days)
    except Exception as error:  # one failed row must not stop the others
        log.exception("a delivery failed with an internal error in StrokeSeg")
        change = _schedule_retry(row, f"internal error in StrokeSeg ({type(error).__name__})", keep_days)
    with engine.begin() as connection:
        is_waiting = (outbox_table.c.id == row["id"]) & (outbox_table.c.state == "waiting")
        connection.execute(update(outbox_table).where(is_waiting).values(tries=row["tries"] + 1, **change))
    if change["state"] == "sent":
        log.info(
            "delivered %s to %s, series %s, version %d", row["kind"], row["target"], row["series_uid"], row["version"]
        )


def _schedule_retry(row: RowMapping, error: str, keep_days: float) -> dict[str, Any]:
    pause_s = min(FIRST_PAUSE_S * 2 ** min(row["tries"], 20), LONGEST_PAUSE_S)
    change = _plan_attempt(row, pause_s, keep_days)
    log.warning(
        "not delivered: %s to %s, series %s: %s; %s",
        row["kind"],
        row["target"],
        row["series_uid"],
        error,
        "given up: `strokeseg node FILE --resend ID` retries it"
        if change["state"] == "dead"
        else f"retry in {pause_s:.0f} s",
    )
    return {**change, "error": error}


def _plan_attempt(row: RowMapping, pause_s: float, keep_days: float) -> dict[str, Any]:
    at = time.time() + pause_s
    return {"state": "dead" if at > row["first_at"] + keep_days * 86400 else "waiting", "next_at": at}


def requeue_sent(engine: Engine, row_id: str, keep_days: float) -> None:
    """Requeue a sent row, as after a failed attempt, because the receiver reports that the objects are missing.

    Parameters
    ----------
    engine : Engine
        Engine of the database.
    row_id : str
        The row's id.
    keep_days : float
        Days after which an undelivered row is dead.
    """
    is_sent = (outbox_table.c.id == row_id) & (outbox_table.c.state == "sent")
    with engine.begin() as connection:
        if row := connection.execute(select(outbox_table).where(is_sent)).mappings().one_or_none():
            change = _schedule_retry(row, "the receiver reports that objects are missing", keep_days)
            connection.execute(update(outbox_table).where(is_sent).values(change))


def retry_now(engine: Engine, row_id: str) -> None:
    """Retry a dead or waiting row now, and allow it the full number of days again.

    Parameters
    ----------
    engine : Engine
        Engine of the database.
    row_id : str
        The row's id, or at least its first six characters.

    Raises
    ------
    NotFound
        `not-found`.
    """
    now = time.time()
    with engine.begin() as connection:
        is_match = outbox_table.c.id.startswith(row_id) & outbox_table.c.state.in_(("dead", "waiting"))
        change = {"state": "waiting", "first_at": now, "next_at": now, "tries": 0}
        if (
            not re.fullmatch("[0-9a-f]{6,64}", row_id)
            or not connection.execute(update(outbox_table).where(is_match).values(change)).rowcount
        ):
            raise NotFound(
                f"{row_id}: no undelivered row has this id",
                "List them with `strokeseg node FILE --undelivered`; give at least six characters of an id.",
            )


def list_undelivered(engine: Engine) -> list[RowMapping]:
    """List the waiting and dead rows, the oldest first."""
    is_undelivered = outbox_table.c.state.in_(("dead", "waiting"))
    with engine.connect() as connection:
        query = select(outbox_table).where(is_undelivered).order_by(outbox_table.c.first_at)
        return list(connection.execute(query).mappings())
