"""What `strokeseg serve` was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from strokeseg.errors import NotFound, UsageError

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


@dataclass(frozen=True)
class ServerSettings:
    """The application's settings; each is an option of `strokeseg serve`.

    Parameters
    ----------
    host, port : str, default: "127.0.0.1"
        Where it listens.
    database : str, default: "sqlite:///strokeseg.db"
        URL for SQLAlchemy: sqlite:///FILE or postgresql+psycopg://...
    storage : str, default: "strokeseg-data"
        A folder, or a URL that fsspec knows, as s3://bucket/prefix.
    workers : int, default: 1
        Studies that this process works on at once; 0 answers requests alone.
    worker_only : bool, default: False
        Work on studies, and answer no request.
    root_path : str, default: ""
        Where a proxy shows the application, as /sub.
    max_upload_bytes : int, default: 4 * 2 ** 30
        Of one request and of one resumable upload.
    quota_bytes : int, optional
        Of all files of all studies; None is no limit.
    keep_days : float, optional
        A study is deleted so long after it was made; None keeps it.
    ephemeral : bool, default: False
        Database and files lie in a temporary folder that goes away with the process.
    memory_bytes : int, default: 8 * 2 ** 30
        What a child process may use for data; a study that needs more fails alone.
    step_timeout_s : float, default: 1800.0
        A step that takes longer is stopped and tried again.
    lease_s : float, default: 15.0
        A worker that gave no sign for so long is dead, and its studies are taken over.
    threads : int, default: 0
        Of the network, a worker; 0 shares the cores among the workers.
    formats : tuple of str, optional
        What is written of every study, where it can be.
    tls_cert, tls_key : Path, optional
        PEM files.
    auth_config : Path, optional
        A TOML file that says who gets in.
    audit : Path
        Where the audit log lies.
    trusted_proxies : tuple of str, default: ()
        Addresses whose X-Forwarded-* headers count.
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
    tls_cert: Path | None = None
    tls_key: Path | None = None
    auth_config: Path | None = None
    audit: Path = field(default_factory=lambda: Path("strokeseg-audit.jsonl"))
    trusted_proxies: tuple[str, ...] = ()

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in _LOOPBACK

    @property
    def base_path(self) -> str:
        """The path of a proxy in front, without a slash at its end."""
        return self.root_path.rstrip("/")


def parse_database_url(text: str) -> str:
    """Return a database's URL with the driver that is installed.

    Parameters
    ----------
    text : str
        "sqlite", a sqlite:/// or a postgresql:// URL.

    Raises
    ------
    UsageError
        `usage`, for anything else; the sentence does not repeat it, as it may hold a password.
    """
    try:
        url = make_url("sqlite:///strokeseg.db" if text == "sqlite" else text)
    except (ArgumentError, ValueError):
        url = None
    driver = None if url is None else _DRIVERS.get(url.get_backend_name())
    if url is None or driver is None or (driver == "sqlite" and url.database in (None, "", ":memory:")):
        raise UsageError(
            "--database: no database URL that is known", "Give sqlite:///FILE or postgresql://USER@HOST/NAME."
        )
    return url.set(drivername=driver).render_as_string(hide_password=False)


def parse_existing_database_url(text: str) -> str:
    """Return the URL of a database that is there: what only looks into one must not make an empty file.

    Raises
    ------
    UsageError
        As :func:`database_url`.
    NotFound
        `not-found`, if there is no such file.
    """
    url = parse_database_url(text)
    place = make_url(url)
    if place.get_backend_name() == "sqlite" and not Path(str(place.database)).exists():
        raise NotFound("there is no such database yet", "Name the one that serve or the node uses with --database.")
    return url
