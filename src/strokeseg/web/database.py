"""The application's database tables; DBOS keeps its own tables in the same database."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, Engine, Float, Integer, MetaData, String, Table, Text, event

from strokeseg.errors import UnusableDatabase
from strokeseg.web import private_files
from strokeseg.web.storage import Storage

metadata = MetaData()

# Studies and their progress. The row of a deleted study is emptied and kept for a day, so that open pages are notified.
studies = Table(
    "serve_studies",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("created", Float, nullable=False, index=True),
    Column("changed", Float, nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("owner", String(255), nullable=False, index=True),
    Column("group", String(255)),
    Column("status", String(16), nullable=False, index=True),
    Column("done", Integer),
    Column("total", Integer),
    Column("priority", String(8), nullable=False),
    Column("model", String(255), nullable=False),
    Column("options", Text, nullable=False),  # JSON: window, spacing_mm, order, series, formats, retries
    Column("upload", String(64), nullable=False),  # name of the uploaded file in the study's folder
    Column("slices", Integer, nullable=False, default=0),
    Column("version", Integer, nullable=False, default=-1),  # the latest; -1: none yet
    Column("bytes", BigInteger, nullable=False, default=0),
    Column("error", Text),  # JSON: code, detail, remedy
    Column("deleted", Boolean, nullable=False, default=False),
)

# Versions of a result: 0 is the network's, the others were corrected by people. One is valid once it has a folder.
versions = Table(
    "serve_versions",
    metadata,
    Column("study", String(32), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("created", Float, nullable=False),
    Column("author", String(255)),
    Column("note", Text, nullable=False, default=""),
    Column("accepted", Boolean),
    Column("edit", String(64)),  # name of the corrected mask in the study's folder
    Column("folder", String(64)),
    Column("findings", Text),  # JSON: the findings that the worklist shows
)

# Resumable uploads.
uploads = Table(
    "serve_uploads",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("created", Float, nullable=False, index=True),
    Column("owner", String(255), nullable=False),
    Column("name", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("offset", BigInteger, nullable=False, default=0),
    Column("pieces", Text, nullable=False, default="[]"),  # JSON: the names of the stored chunks, in order
)

comparisons = Table(
    "serve_comparisons",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("created", Float, nullable=False),
    Column("earlier", String(32), nullable=False, index=True),
    Column("later", String(32), nullable=False, index=True),
    Column("earlier_version", Integer, nullable=False),
    Column("later_version", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("folder", String(64)),
    Column("error", Text),
    sa.UniqueConstraint("earlier", "later", "earlier_version", "later_version"),
)

# The study that each idempotency key created.
idempotency_keys = Table(
    "serve_keys",
    metadata,
    Column("owner", String(255), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("study", String(32), nullable=False),
    Column("created", Float, nullable=False),
)

# Processes that work on studies; each updates its row every few seconds.
workers = Table(
    "serve_workers",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("machine", String(128), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started", Float, nullable=False),
    Column("seen", Float, nullable=False, index=True),
)

# Duration of each step, summed over all workers.
step_durations = Table(
    "serve_steps",
    metadata,
    Column("step", String(16), primary_key=True),
    Column("times", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
)


def connect(url: str) -> Engine:
    """Open the database and create the tables that are missing.

    SQLite uses a write-ahead log, so that readers do not wait for writers, and syncs to the disk at each commit. Its
    file is readable only for the user of this process.

    Parameters
    ----------
    url : str
        A URL for SQLAlchemy.

    Returns
    -------
    Engine
        The database.

    Raises
    ------
    UnusableDatabase
        `database`, for a damaged file of SQLite, such as one that was cut off.
    SQLAlchemyError
        If the database cannot be opened for another reason.
    """
    if (file := get_sqlite_file(url)) is not None:
        _make_private(file)
    engine = sa.create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=30)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_pragmas)
        _check_sqlite(engine, str(file))
    metadata.create_all(engine)
    return engine


def check_storage(engine: Engine, storage: Storage) -> None:
    """Check that a database without a study does not stand beside a storage with studies.

    A missing database is created. Beside the files of studies it is a wrong path or a lost file, and the worklist would
    be empty without a word.

    Parameters
    ----------
    engine : Engine
        The database.
    storage : Storage
        The files.

    Raises
    ------
    UnusableDatabase
        `database`, if the storage has studies that were read, and the database none.
    """
    with engine.connect() as connection:
        if connection.execute(sa.select(studies.c.id).limit(1)).first() is not None:
            return
    names = storage.list_names("studies")
    # A process that was killed may have left an upload without its row, but not more.
    count = sum("scan" in storage.list_names(f"studies/{name}") for name in names)
    if count:
        raise UnusableDatabase(
            f"the database contains no study, but the storage has the files of {count}",
            "Pass the database that belongs to this storage with --database, or restore it from a backup; for a new "
            "start, use another --storage.",
        )


def get_sqlite_file(url: str) -> Path | None:
    """Return the file of an SQLite database; None for another database."""
    parsed = sa.make_url(url)
    name = parsed.database
    is_file = parsed.get_backend_name() == "sqlite" and name and name != ":memory:" and not name.startswith("file:")
    return Path(str(name)) if is_file else None


def current_time(engine: Engine) -> Any:
    """Return an expression for the seconds since 1970 by the database's clock: clocks of machines may differ."""
    return (
        sa.literal(time.time()) if engine.dialect.name == "sqlite" else sa.extract("epoch", sa.func.clock_timestamp())
    )


def _check_sqlite(engine: Engine, file: str) -> None:
    try:
        with engine.connect() as connection:
            is_whole = connection.execute(sa.text("PRAGMA quick_check(1)")).scalar() == "ok"
    except sa.exc.DatabaseError as error:
        if isinstance(error, sa.exc.OperationalError):  # it cannot be opened, or is locked
            raise
        is_whole = False
    if not is_whole:
        raise UnusableDatabase(
            f"{file}: is damaged, or is not an SQLite database",
            "Restore it from a backup of the same time as the storage; docs/deploy.md says what to back up.",
        )


def _make_private(file: Path) -> None:
    """Create the file before SQLite does, which gives the files beside it the same mode."""
    with contextlib.suppress(OSError):  # SQLite reports it
        private_files.create_file(file)
        for suffix in ("", "-wal", "-shm"):
            private_files.restrict(file.with_name(file.name + suffix), "the database")


def _set_pragmas(connection: Any, _record: Any) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
