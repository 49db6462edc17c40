"""Tables of tokens, sessions and failures in the shared database, and the hashing of their secrets."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from sqlalchemy import Column, Engine, Float, Integer, String, Table
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from strokeseg.web.database import metadata

# A token's secret is never stored: 256 random bits cannot be guessed from their SHA-256, so no slow hash is needed.
tokens = Table(
    "serve_tokens",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("hash", String(64), nullable=False),
    Column("owner", String(255), nullable=False),
    Column("group", String(255)),
    Column("scopes", String(64), nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float),
    Column("revoked", Float),
)

# Browser sessions. A session opened with a token ends with that token.
sessions = Table(
    "serve_sessions",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("name", String(255), nullable=False, index=True),
    Column("group", String(255)),
    Column("scopes", String(64), nullable=False),
    Column("token", String(16)),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False, index=True),
)

# Number of requests with a wrong token per address.
failures = Table(
    "serve_failures",
    metadata,
    Column("address", String(64), primary_key=True),
    Column("count", Integer, nullable=False),
    Column("until", Float, nullable=False, index=True),
)


def create_tables(engine: Engine) -> None:
    """Create the tables that are missing; two processes may start at the same time."""
    tables = [tokens, sessions, failures]
    try:
        metadata.create_all(engine, tables)
    except (IntegrityError, OperationalError, ProgrammingError):
        # The other process created them between our check and our creation.
        metadata.create_all(engine, tables)


def generate_secret() -> str:
    """Return 256 random bits as text of 43 characters."""
    return secrets.token_urlsafe(32)


def hash_secret(text: str) -> str:
    """Return the hash of a secret, which is what is stored."""
    return hashlib.sha256(text.encode()).hexdigest()


def verify_secret(stored_hash: str, text: str) -> bool:
    """Return whether a secret has the stored hash; the duration does not depend on which character differs."""
    return hmac.compare_digest(stored_hash, hash_secret(text))
