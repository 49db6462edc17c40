"""The settings of `strokeseg serve`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from strokeseg.errors import NotFound, UsageError

_LOOPBACK_HOSTS = {"127.0.0.1", "::1", "localhost"}
_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


@dataclass(frozen=True)
class ServerSettings:
    """Settings of the web application; each is an option of `strokeseg serve`.

    Attributes
    ----------
    host : str
        The address to listen on.
    port : int
        The port to listen on.
    database : str
        SQLAlchemy URL: sqlite:///FILE or postgresql+psycopg://...
    storage : str
        A folder, or a URL that fsspec supports, such as s3://bucket/prefix.
    workers : int
        Number of studies that this process works on at a time; 0 only answers requests.
    worker_only : bool
        Process studies and answer no requests.
    root_path : str
        The path under which a proxy publishes the application, such as /sub.
    max_upload_bytes : int
        Maximum size of one request and of one resumable upload.
    quota_bytes : int or None
        Maximum size of all files of all studies; None is no limit.
    keep_days : float or None
        Age at which a study is deleted; None keeps it.
    ephemeral : bool
        Keep database and files in a temporary folder that is deleted when the process ends.
    memory_bytes : int
        Data memory that a worker process may use; a study that needs more fails alone.
    step_timeout_s : float
        A step that takes longer is stopped and tried again.
    lease_s : float
        A process without a sign of life for this long counts as dead, and another takes over its studies.
    threads : int
        Threads of the network per worker; 0 divides the cores among the workers.
    formats : tuple of str
        The output formats written for every study that supports them.
    max_connections : int
        Connections at a time, in all.
    max_per_address : int
        Connections at a time from one address, or one /64 network of IPv6; a trusted proxy may have more.
    min_rate : int
        Least rate of a request's body, bytes per second.
    request_timeout_s : float
        Maximum time for a request's body.
    tls_cert : Path or None
        Certificate, PEM.
    tls_key : Path or None
        Private key, PEM.
    auth_config : Path or None
        TOML file with the sign-in rules.
    audit : Path
        File of the audit log.
    trusted_proxies : tuple of str
        Addresses whose X-Forwarded-* headers are trusted.
    debug : bool
        Log tracebacks and messages of other packages, which may contain values of patients.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    database: str = "sqlite:///strokeseg.db"
    storage: str = "strokeseg-data"
    workers: int = 1
    worker_only: bool = False
    root_path: str = ""
    max_upload_bytes: int = 4 * 2**30
    quota_bytes: int | None = None
    keep_days: float | None = None
    ephemeral: bool = False
    memory_bytes: int = 8 * 2**30
    step_timeout_s: float = 1800.0
    lease_s: float = 15.0
    threads: int = 0
    formats: tuple[str, ...] = ("json", "nifti", "mesh", "report", "keys", "nrrd", "stl", "seg", "sr")
    max_connections: int = 500
    max_per_address: int = 100
    min_rate: int = 1024
    request_timeout_s: float = 3600.0
    tls_cert: Path | None = None
    tls_key: Path | None = None
    auth_config: Path | None = None
    audit: Path = field(default_factory=lambda: Path("strokeseg-audit.jsonl"))
    trusted_proxies: tuple[str, ...] = ()
    debug: bool = False

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in _LOOPBACK_HOSTS

    @property
    def base_path(self) -> str:
        """The proxy's path without a trailing slash."""
        return self.root_path.rstrip("/")


def parse_database_url(text: str) -> str:
    """Return a database URL with the name of the installed driver.

    Parameters
    ----------
    text : str
        "sqlite", a sqlite:/// URL or a postgresql:// URL.

    Returns
    -------
    str
        A URL for SQLAlchemy.

    Raises
    ------
    UsageError
        `usage`, for anything else; the message does not repeat the URL, which may contain a password.
    """
    try:
        url = make_url("sqlite:///strokeseg.db" if text == "sqlite" else text)
    except (ArgumentError, ValueError):
        url = None
    driver = None if url is None else _DRIVERS.get(url.get_backend_name())
    if url is None or driver is None or (driver == "sqlite" and url.database in (None, "", ":memory:")):
        raise UsageError(
            "--database: not a supported database URL", "Use sqlite:///FILE or postgresql://USER@HOST/NAME."
        )
    return url.set(drivername=driver).render_as_string(hide_password=False)


def parse_existing_database_url(text: str) -> str:
    """Return the URL of an existing database, so that a reading command does not create an empty file.

    Parameters
    ----------
    text : str
        As for :func:`parse_database_url`.

    Returns
    -------
    str
        A URL for SQLAlchemy.

    Raises
    ------
    UsageError
        `usage`, as :func:`parse_database_url`.
    NotFound
        `not-found`, if the SQLite file does not exist.
    """
    text = parse_database_url(text)
    url = make_url(text)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        raise NotFound(
            "the database does not exist", "Pass the database of `strokeseg serve` or of the node with --database."
        )
    return text
