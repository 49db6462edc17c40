"""Access tokens for programs, and for people who paste one into the page."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Row, insert, select, update

from strokeseg.errors import NotFound, UsageError
from strokeseg.web.auth import credentials
from strokeseg.web.auth.users import SCOPES, Credential, User, expand_scopes

# The prefix lets secret scanners recognize a token that was published by mistake.
_TOKEN_PATTERN = re.compile(r"strokeseg_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_DUMMY_HASH = credentials.hash_secret("nobody")


@dataclass(frozen=True)
class Token:
    """The stored data of a token; times are seconds since 1970, UTC."""

    id: str
    owner: str
    group: str | None
    scopes: frozenset[str]
    created: float
    expires: float | None
    revoked: float | None

    @property
    def state(self) -> str:
        """The token's state: "valid", "expired" or "revoked"."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= time.time() else "valid"

    @property
    def user(self) -> User:
        """The user that the token identifies."""
        return User(self.owner, self.group, self.scopes, Credential(token=self.id))


def create_token(
    engine: Engine, owner: str, group: str | None, scope_names: list[str], days: float | None
) -> tuple[str, Token]:
    """Create a token.

    Parameters
    ----------
    engine : Engine
        The server's database.
    owner : str
        The user's name.
    group : str or None
        The user's group.
    scope_names : list of str
        Names of scopes.
    days : float or None
        Days until it expires; None is never.

    Returns
    -------
    text : str
        The token itself, which is stored nowhere.
    token : Token
        Its stored data.

    Raises
    ------
    UsageError
        `usage`, for an invalid name, scope or number of days.
    """
    for kind, name in (("owner", owner), ("group", group)):
        if name is not None and not (name.isprintable() and name.strip() == name and 0 < len(name) <= 255):
            raise UsageError(f"invalid {kind} name", "Use 1 to 255 printable characters.")
    if days is not None and not 0 < days <= 36500:
        raise UsageError("a token's lifetime must be more than 0 days", "Use a number of days, such as 90.")
    public, hidden, now = secrets.token_hex(8), credentials.generate_secret(), time.time()
    expires = None if days is None else now + days * 86400
    token = Token(public, owner, group, expand_scopes(scope_names), now, expires, None)
    row = {**vars(token), "scopes": _join_scopes(token.scopes), "hash": credentials.hash_secret(hidden)}
    with engine.begin() as connection:
        connection.execute(insert(credentials.tokens).values(row))
    return f"strokeseg_{public}_{hidden}", token


def list_tokens(engine: Engine) -> list[Token]:
    """List all tokens, oldest first."""
    table = credentials.tokens
    with engine.connect() as connection:
        return [_read_row(row) for row in connection.execute(select(table).order_by(table.c.created))]


def revoke_token(engine: Engine, token_id: str) -> Token:
    """Revoke a token at once, and with it every session that was opened with it.

    Parameters
    ----------
    engine : Engine
        The server's database.
    token_id : str
        The token's ID.

    Returns
    -------
    Token
        Its stored data.

    Raises
    ------
    NotFound
        `not-found`, if the token does not exist.
    """
    table = credentials.tokens
    with engine.begin() as connection:
        # A token that was revoked before keeps its time.
        connection.execute(
            update(table).where(table.c.id == token_id, table.c.revoked.is_(None)).values(revoked=time.time())
        )
        row = connection.execute(select(table).where(table.c.id == token_id)).first()
    if row is None:
        raise NotFound("the token does not exist", "List the tokens with `strokeseg tokens list`.")
    return _read_row(row)


def find_valid_token(engine: Engine, text: str) -> Token | None:
    """Return the stored data of a token; None if it is unknown, expired or revoked."""
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


def list_valid_ids(engine: Engine, ids: list[str]) -> set[str]:
    """Return those of some token IDs that are neither expired nor revoked."""
    table = credentials.tokens
    is_valid = table.c.revoked.is_(None) & (table.c.expires.is_(None) | (table.c.expires > time.time()))
    with engine.connect() as connection:
        return set(connection.execute(select(table.c.id).where(table.c.id.in_(ids), is_valid)).scalars())


def _read_row(row: Row[Any]) -> Token:
    scopes = frozenset(row.scopes.split(","))
    return Token(row.id, row.owner, row.group, scopes, row.created, row.expires, row.revoked)


def _join_scopes(scopes: frozenset[str]) -> str:
    return ",".join(scope for scope in SCOPES if scope in scopes)
