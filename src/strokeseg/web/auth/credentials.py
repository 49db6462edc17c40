"""The tables of tokens, sessions and failures; they lie in the database that all workers share."""

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

# Who is signed in with a browser. One made with a token ends with that token.
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

# How often an address came with something wrong.
failures = Table(
    "serve_failures",
    metadata,
    Column("address", String(64), primary_key=True),
    Column("count", Integer, nullable=False),
    Column("until", Float, nullable=False, index=True),
)


def create_tables(engine: Engine) -> None:
    """Make what is missing of the tables; two workers may start at once."""
    own = [tokens, sessions, failures]
    try:
        metadata.create_all(engine, own)
    except (IntegrityError, OperationalError, ProgrammingError):
        # The other one was quicker between our look and our making.
        metadata.create_all(engine, own)


def generate_secret() -> str:
    """Give 256 random bits as text of 43 characters."""
    return secrets.token_urlsafe(32)


def hash_secret(text: str) -> str:
    """Return what is stored of a secret."""
    return hashlib.sha256(text.encode()).hexdigest()


def verify_secret(stored: str, text: str) -> bool:
    """Whether a secret is the stored one; takes as long whichever character differs."""
    return hmac.compare_digest(stored, hash_secret(text))
