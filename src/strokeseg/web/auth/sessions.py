"""Browser sessions: a cookie refers to a row in the database, so that a session can be ended at once."""

from __future__ import annotations

import time

from sqlalchemy import Engine, delete, insert, select

from strokeseg.web.auth import credentials
from strokeseg.web.auth.tokens import Token
from strokeseg.web.auth.users import SCOPES, Credential, User

_MAX_SESSIONS = 20
"""Sessions of one user; the oldest ends when another one starts."""


def create_session(engine: Engine, user: User, hours: float, token: Token | None = None) -> str:
    """Sign a user in.

    Parameters
    ----------
    engine : Engine
        The server's database.
    user : User
        The user.
    hours : float
        Maximum duration of the session.
    token : Token or None
        The token that the user signed in with; the session ends with it.

    Returns
    -------
    str
        The cookie's value; it is stored nowhere.
    """
    value, table, now = credentials.generate_secret(), credentials.sessions, time.time()
    expires = now + hours * 3600
    if token is not None and token.expires is not None:
        expires = min(expires, token.expires)
    row = {
        "hash": credentials.hash_secret(value),
        "name": user.name,
        "group": user.group,
        "scopes": ",".join(scope for scope in SCOPES if scope in user.scopes),
        "token": token.id if token else None,
        "created": now,
        "expires": expires,
    }
    newest_first = select(table.c.hash).where(table.c.name == user.name).order_by(table.c.created.desc())
    with engine.begin() as connection:
        connection.execute(delete(table).where(table.c.expires <= now))
        surplus = [hashed for (hashed,) in connection.execute(newest_first.offset(_MAX_SESSIONS - 1))]
        connection.execute(delete(table).where(table.c.hash.in_(surplus)))
        connection.execute(insert(table).values(row))
    return value


def find_user(engine: Engine, value: str) -> User | None:
    """Return the user of a session cookie; None if the session has ended or never existed."""
    session, token = credentials.sessions, credentials.tokens
    query = (
        select(session, token.c.id.label("token_id"), token.c.revoked)
        .join_from(session, token, session.c.token == token.c.id, isouter=True)
        .where(session.c.hash == credentials.hash_secret(value[:100]), session.c.expires > time.time())
    )
    with engine.connect() as connection:
        row = connection.execute(query).first()
    if row is None or not credentials.verify_secret(row.hash, value):
        return None
    if row.token is not None and (row.token_id is None or row.revoked is not None):
        return None
    return User(row.name, row.group, frozenset(row.scopes.split(",")), Credential(session=row.hash))


def list_valid_hashes(engine: Engine, hashes: list[str]) -> set[str]:
    """Return those of some sessions, by the hashes of their cookies, that have not ended."""
    session, token = credentials.sessions, credentials.tokens
    is_allowed = session.c.token.is_(None) | (token.c.id.is_not(None) & token.c.revoked.is_(None))
    query = select(session.c.hash).join_from(session, token, session.c.token == token.c.id, isouter=True)
    query = query.where(session.c.hash.in_(hashes), session.c.expires > time.time(), is_allowed)
    with engine.connect() as connection:
        return set(connection.execute(query).scalars())


def delete_session(engine: Engine, value: str) -> None:
    """Sign a user out; a session that does not exist is ignored."""
    hashed = credentials.hash_secret(value[:100])
    with engine.begin() as connection:
        connection.execute(delete(credentials.sessions).where(credentials.sessions.c.hash == hashed))
