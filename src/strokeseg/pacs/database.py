"""The node's own tables, in the database of the jobs."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Engine, Float, Integer, MetaData, String, Table, Text
from sqlalchemy.exc import SQLAlchemyError

from strokeseg.errors import NotWritable
from strokeseg.web import database

metadata = MetaData()

# Instances that were answered with success.
instances_table = Table(
    "node_instances",
    metadata,
    Column("sop_uid", String(64), primary_key=True),
    Column("sop_class", String(64), nullable=False),
    Column("series_uid", String(64), nullable=False, index=True),
    Column("study_uid", String(64), nullable=False),
    Column("path", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("at", Float, nullable=False),
)

# Series and their state. `version` counts how often a series was complete, each time with other instances.
series_table = Table(
    "node_series",
    metadata,
    Column("series_uid", String(64), primary_key=True),
    Column("study_uid", String(64), nullable=False),
    Column("sender", String(32), nullable=False),
    Column("prior", Boolean, nullable=False),
    Column("instances", Integer, nullable=False),
    Column("expected", Integer),
    Column("committed", Boolean, nullable=False),
    Column("first_at", Float, nullable=False),
    Column("last_at", Float, nullable=False),
    Column("state", String(16), nullable=False, index=True),  # open, queued, delivering, done, ignored, failed
    Column("version", Integer, nullable=False),
    Column("why", Text, nullable=False),
    Column("rule", String(32), nullable=False),
    Column("job", String(64), nullable=False),
)

# Deliveries, waiting or finished: objects, notices, answers to storage commitment requests.
outbox_table = Table(
    "node_outbox",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),  # send, tell, commitment, prior
    Column("target", String(64), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("content", Text, nullable=False),  # JSON
    Column("state", String(16), nullable=False, index=True),  # waiting, sent, withdrawn, dead
    Column("tries", Integer, nullable=False),
    Column("first_at", Float, nullable=False),
    Column("next_at", Float, nullable=False),
    Column("error", Text, nullable=False),
)


def open_database(url: str) -> Engine:
    """Open the database of the jobs and create missing tables of the web application and the node.

    Parameters
    ----------
    url : str
        URL of the database.

    Returns
    -------
    Engine
        SQLAlchemy's engine.

    Raises
    ------
    NotWritable
        `not-writable`, if it cannot be opened.
    """
    try:
        engine = database.connect(url)
        metadata.create_all(engine)
    except SQLAlchemyError as error:  # its own message contains the URL with a password
        message = f"the database cannot be opened ({type(error).__name__})"
        raise NotWritable(message, "Set it with --database; it must exist, run and allow writing.") from None
    return engine
