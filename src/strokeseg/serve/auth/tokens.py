"""Tokens for programs, and for people who paste one into the page."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Row, insert, select, update

from strokeseg.errors import NotFound, UsageError
from strokeseg.serve.auth import tables
from strokeseg.serve.auth.users import SCOPES, User, scopes

# A name of its own, so that scanners of repositories know one that was published by mistake.
_FORM = re.compile(r"strokeseg_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_NOBODY = tables.digest("nobody")


@dataclass(frozen=True)
class Token:
    """What is kept of a token; times are seconds since 1970, UTC."""

    id: str
    owner: str
    group: str | None
    scopes: frozenset[str]
    created: float
    expires: float | None
    revoked: float | None

    @property
    def state(self) -> str:
        """Whether it still opens: "valid", "expired" or "revoked"."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= time.time() else "valid"

    @property
    def user(self) -> User:
        """Who comes with it."""
        return User(self.owner, self.group, self.scopes)


def create(engine: Engine, owner: str, group: str | None, named: list[str], days: float | None) -> tuple[str, Token]:
    """Make a token.

    Parameters
    ----------
    engine : of the server's database
    owner, group : as :class:`User` has them
    named : scopes
    days : until it expires; None is never

    Returns
    -------
    The token itself, which is stored nowhere, and what is kept of it

    Raises
    ------
    UsageError
        `usage`
    """
    for what, name in (("owner", owner), ("group", group)):
        if name is not None and not (name.isprintable() and name.strip() == name and 0 < len(name) <= 255):
            raise UsageError(f"the {what} is no name", "Give 1 to 255 printable characters.")
    if days is not None and not 0 < days <= 36500:
        raise UsageError("a token must expire after more than 0 days", "Give a number of days, as 90.")
    public, hidden, now = secrets.token_hex(8), tables.secret(), time.time()
    made = Token(public, owner, group, scopes(named), now, None if days is None else now + days * 86400, None)
    row = {**vars(made), "scopes": _joined(made.scopes), "hash": tables.digest(hidden)}
    with engine.begin() as connection:
        connection.execute(insert(tables.tokens).values(row))
    return f"strokeseg_{public}_{hidden}", made


def every(engine: Engine) -> list[Token]:
    """List all tokens, the oldest first."""
    with engine.connect() as connection:
        return [_token(row) for row in connection.execute(select(tables.tokens).order_by(tables.tokens.c.created))]


def revoke(engine: Engine, token_id: str) -> Token:
    """End a token, and every session that was opened with it, at once.

    Raises
    ------
    NotFound
        `not-found`
    """
    table = tables.tokens
    with engine.begin() as connection:
        # One that was revoked before keeps its time.
        connection.execute(
            update(table).where(table.c.id == token_id, table.c.revoked.is_(None)).values(revoked=time.time())
        )
        row = connection.execute(select(table).where(table.c.id == token_id)).first()
    if row is None:
        raise NotFound("there is no such token", "List them with `strokeseg tokens list`.")
    return _token(row)


def known(engine: Engine, text: str) -> Token | None:
    """Give what is kept of a token, if it is one and still opens."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    public, hidden = match.groups()
    with engine.connect() as connection:
        row = connection.execute(select(tables.tokens).where(tables.tokens.c.id == public)).first()
    if not tables.same(_NOBODY if row is None else row.hash, hidden) or row is None:
        return None
    token = _token(row)
    return token if token.state == "valid" else None


def _token(row: Row[Any]) -> Token:
    held = frozenset(row.scopes.split(","))
    return Token(row.id, row.owner, row.group, held, row.created, row.expires, row.revoked)


def _joined(held: frozenset[str]) -> str:
    return ",".join(scope for scope in SCOPES if scope in held)
