"""Running it: one process that answers requests and works on studies, or one that only works."""

from __future__ import annotations

import logging
import signal
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from types import FrameType

import uvicorn

from strokeseg.errors import UsageError
from strokeseg.web.app import create_app, create_context, start_background
from strokeseg.web.limits import TimeoutProtocol
from strokeseg.web.settings import ServerSettings

log = logging.getLogger("strokeseg.web")


def run(settings: ServerSettings) -> None:
    """Serve, or work, until a signal ends it.

    Raises
    ------
    UsageError
        `usage`, for settings that do not go together.
    """
    if settings.worker_only and not settings.workers:
        raise UsageError("--worker-only with no worker does nothing", "Give --workers 1 or more.")
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise UsageError("TLS needs a certificate and a key", "Give --tls-cert and --tls-key.")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for noisy in ("httpx", "alembic", "sqlalchemy"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if not settings.ephemeral:
        _run_server(settings)
        return
    with tempfile.TemporaryDirectory(prefix="strokeseg-") as folder:
        place = Path(folder)
        _run_server(
            replace(
                settings,
                database=f"sqlite:///{place / 'strokeseg.db'}",
                storage=str(place / "data"),
                audit=place / "audit.jsonl",
            )
        )


def _run_server(settings: ServerSettings) -> None:
    if settings.worker_only:
        _run_worker(settings)
        return
    scheme = "https" if settings.tls_cert else "http"
    log.info(
        "StrokeSeg at %s://%s:%d%s/ with %d workers",
        scheme,
        settings.host,
        settings.port,
        settings.base_path,
        settings.workers,
    )
    uvicorn.Server(create_config(settings)).run()


def create_config(settings: ServerSettings) -> uvicorn.Config:
    """Make the web server's configuration, with the application in it."""
    return uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        server_header=False,
        log_config=None,
        access_log=False,  # its lines would hold what users search for
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=32 * 1024,
        http=TimeoutProtocol,
        timeout_keep_alive=20,
    )


def _run_worker(settings: ServerSettings) -> None:
    """Work on studies until a signal comes."""
    ending = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ending.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    stop = start_background(create_context(settings))
    log.info("StrokeSeg works on studies of the queue, %d at once", settings.workers)
    ending.wait()
    stop()
