"""Tokens for programs, and for people who paste one into the page."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Row, insert, select, update

from strokeseg.errors import NotFound, UsageError
from strokeseg.web.auth import credentials
from strokeseg.web.auth.users import SCOPES, User, expand_scopes

# A name of its own, so that scanners of repositories know one that was published by mistake.
_TOKEN_PATTERN = re.compile(r"strokeseg_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_DUMMY_HASH = credentials.hash_secret("nobody")


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


def create_token(
    engine: Engine, owner: str, group: str | None, scope_names: list[str], days: float | None
) -> tuple[str, Token]:
    """Make a token.

    Parameters
    ----------
    engine : Engine
        Of the server's database.
    owner, group : str
        As :class:`User` has them.
    named : object
        Scopes.
    days : float or None
        Until it expires; None is never.

    Returns
    -------
    tuple of (str, Token)
        The token itself, which is stored nowhere, and what is kept of it.

    Raises
    ------
    UsageError
        `usage`.
    """
    for what, name in (("owner", owner), ("group", group)):
        if name is not None and not (name.isprintable() and name.strip() == name and 0 < len(name) <= 255):
            raise UsageError(f"the {what} is no name", "Give 1 to 255 printable characters.")
    if days is not None and not 0 < days <= 36500:
        raise UsageError("a token must expire after more than 0 days", "Give a number of days, as 90.")
    public, hidden, now = secrets.token_hex(8), credentials.generate_secret(), time.time()
    made = Token(
        public, owner, group, expand_scopes(scope_names), now, None if days is None else now + days * 86400, None
    )
    row = {**vars(made), "scopes": _join_scopes(made.scopes), "hash": credentials.hash_secret(hidden)}
    with engine.begin() as connection:
        connection.execute(insert(credentials.tokens).values(row))
    return f"strokeseg_{public}_{hidden}", made


def list_tokens(engine: Engine) -> list[Token]:
    """List all tokens, the oldest first."""
    with engine.connect() as connection:
        return [
            _read_row(row)
            for row in connection.execute(select(credentials.tokens).order_by(credentials.tokens.c.created))
        ]


def revoke_token(engine: Engine, token_id: str) -> Token:
    """End a token, and every session that was opened with it, at once.

    Raises
    ------
    NotFound
        `not-found`.
    """
    table = credentials.tokens
    with engine.begin() as connection:
        # One that was revoked before keeps its time.
        connection.execute(
            update(table).where(table.c.id == token_id, table.c.revoked.is_(None)).values(revoked=time.time())
        )
        row = connection.execute(select(table).where(table.c.id == token_id)).first()
    if row is None:
        raise NotFound("there is no such token", "List them with `strokeseg tokens list`.")
    return _read_row(row)


def find_valid_token(engine: Engine, text: str) -> Token | None:
    """Return what is kept of a token, if it is one and still opens."""
    match = _TOKEN_PATTERN.fullmatch(text)
    if match is None:
        return None
    public, hidden = match.groups()
    with engine.connect() as connection:
        row = connection.execute(select(credentials.tokens).where(credentials.tokens.c.id == public)).first()
    if not credentials.verify_secret(_DUMMY_HASH if row is None else row.hash, hidden) or row is None:
        return None
    token = _read_row(row)
    return token if token.state == "valid" else None


def _read_row(row: Row[Any]) -> Token:
    held = frozenset(row.scopes.split(","))
    return Token(row.id, row.owner, row.group, held, row.created, row.expires, row.revoked)


def _join_scopes(held: frozenset[str]) -> str:
    return ",".join(scope for scope in SCOPES if scope in held)
