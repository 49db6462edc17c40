"""Running `strokeseg serve`: a process that answers requests and processes studies, or one that only processes."""

from __future__ import annotations

import logging
import signal
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from strokeseg.errors import UsageError
from strokeseg.web import connections, json_log
from strokeseg.web.app import create_app, create_context, start_background
from strokeseg.web.limits import TimeoutProtocol
from strokeseg.web.settings import ServerSettings

log = logging.getLogger("strokeseg.serve")


def run(settings: ServerSettings) -> None:
    """Run the server or the worker until a signal ends it.

    Parameters
    ----------
    settings : ServerSettings
        The options of `strokeseg serve`.

    Raises
    ------
    UsageError
        `usage`, for settings that contradict each other.
    """
    if settings.worker_only and not settings.workers:
        raise UsageError("--worker-only with --workers 0 does nothing", "Use --workers 1 or more.")
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise UsageError("TLS needs a certificate and a key", "Use both --tls-cert and --tls-key.")
    json_log.configure_server(settings.debug)
    if not settings.ephemeral:
        _run(settings)
        return
    with tempfile.TemporaryDirectory(prefix="strokeseg-") as name:
        folder = Path(name)
        _run(
            replace(
                settings,
                database=f"sqlite:///{folder / 'strokeseg.db'}",
                storage=str(folder / "data"),
                audit=folder / "audit.jsonl",
            )
        )


def _run(settings: ServerSettings) -> None:
    if settings.worker_only:
        _run_worker(settings)
        return
    scheme = "https" if settings.tls_cert else "http"
    log.info(
        "StrokeSeg listens on %s://%s:%d%s/ with %d workers",
        scheme,
        settings.host,
        settings.port,
        settings.base_path,
        settings.workers,
    )
    most = connections.fit_to_descriptors(settings.max_connections)
    limits = connections.ConnectionLimits(most, settings.max_per_address, settings.trusted_proxies)
    listeners = connections.open_listeners(settings.host, settings.port, limits, scheme == "http")
    app = create_app(settings)
    try:
        uvicorn.Server(create_config(settings, app)).run(sockets=list(listeners))
    finally:
        app.state.context.jobs.close()  # after a second Ctrl-C the application itself is not shut down


def create_config(settings: ServerSettings, app: FastAPI | None = None) -> uvicorn.Config:
    """Create the configuration of the web server that runs the application, and the application if it is missing."""
    return uvicorn.Config(
        app or create_app(settings),
        host=settings.host,
        port=settings.port,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        server_header=False,
        log_config=None,
        access_log=False,  # its lines would contain what users search for; RequestLog writes one
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=32 * 1024,
        http=TimeoutProtocol,
        loop="asyncio",  # it accepts by the listener's own method, which counts connections
        timeout_keep_alive=20,
    )


def _run_worker(settings: ServerSettings) -> None:
    """Process studies until a signal arrives."""
    stopping = threading.Event()

    def handle_signal(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle_signal)
    stop = start_background(create_context(settings))
    log.info("StrokeSeg processes studies from the queue, %d at a time", settings.workers)
    stopping.wait()
    stop()
