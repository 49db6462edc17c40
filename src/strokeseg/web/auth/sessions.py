"""Who is signed in with a browser: a cookie leads to a row in the database, so that it can be ended at once."""

from __future__ import annotations

import time

from sqlalchemy import Engine, delete, insert, select

from strokeseg.web.auth import credentials
from strokeseg.web.auth.tokens import Token
from strokeseg.web.auth.users import SCOPES, User

_MAX_SESSIONS = 20
"""Sessions of one user; the oldest goes when one more begins."""


def create_session(engine: Engine, user: User, hours: float, token: Token | None = None) -> str:
    """Sign a user in.

    Parameters
    ----------
    engine : Engine
        Of the server's database.
    user : User
        Who.
    hours : float
        How long it lasts at most.
    token : Token, optional
        What it was opened with; it ends with it.

    Returns
    -------
    str
        What the cookie holds; stored nowhere.
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
    own = (
        select(table.c.hash).where(table.c.name == user.name).order_by(table.c.created.desc()).offset(_MAX_SESSIONS - 1)
    )
    with engine.begin() as connection:
        connection.execute(delete(table).where(table.c.expires <= now))
        older = [hashed for (hashed,) in connection.execute(own)]
        connection.execute(delete(table).where(table.c.hash.in_(older)))
        connection.execute(insert(table).values(row))
    return value


def find_user(engine: Engine, value: str) -> User | None:
    """Give whose session a cookie is; None where it ended or never was."""
    session, token = credentials.sessions, credentials.tokens
    asked = (
        select(session, token.c.id.label("found"), token.c.revoked)
        .join_from(session, token, session.c.token == token.c.id, isouter=True)
        .where(session.c.hash == credentials.hash_secret(value[:100]), session.c.expires > time.time())
    )
    with engine.connect() as connection:
        row = connection.execute(asked).first()
    if row is None or not credentials.verify_secret(row.hash, value):
        return None
    if row.token is not None and (row.found is None or row.revoked is not None):
        return None
    return User(row.name, row.group, frozenset(row.scopes.split(",")))


def delete_session(engine: Engine, value: str) -> None:
    """Sign a user out; a session that is not there is fine."""
    with engine.begin() as connection:
        connection.execute(
            delete(credentials.sessions).where(credentials.sessions.c.hash == credentials.hash_secret(value[:100]))
        )
