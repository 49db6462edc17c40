"""The FastAPI application: its parts, its routes, and the page."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, Response
from sqlalchemy.exc import SQLAlchemyError
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from strokeseg.errors import UnusableDatabase
from strokeseg.version import __version__
from strokeseg.web import auth, problems
from strokeseg.web.context import AppContext
from strokeseg.web.database import check_storage, connect
from strokeseg.web.events import EventBroadcaster
from strokeseg.web.jobs import JobQueue
from strokeseg.web.limits import RequestLimits
from strokeseg.web.request_log import RequestLog
from strokeseg.web.retention import Retention
from strokeseg.web.routes import comparisons, results, service, studies, uploads
from strokeseg.web.settings import ServerSettings
from strokeseg.web.storage import Storage
from strokeseg.web.upload_store import UploadStore

API_PREFIX = "/api/v1"
STATIC = Path(__file__).parent / "static"
_SWEEP_S = 60.0


def create_context(settings: ServerSettings) -> AppContext:
    """Open the database, the storage and the job queue without starting any work.

    Parameters
    ----------
    settings : ServerSettings
        The options of `strokeseg serve`.

    Returns
    -------
    AppContext
        The application's parts.

    Raises
    ------
    UnusableDatabase
        `database`, if the database cannot be opened, is damaged, or has no study beside a storage with studies.
    """
    try:
        engine = connect(settings.database)
    except SQLAlchemyError as error:  # its own message contains the URL with a password
        raise UnusableDatabase(f"the database cannot be opened ({type(error).__name__})") from None
    guard = auth.create_guard(settings, engine)
    storage = Storage(settings.storage)
    check_storage(engine, storage)
    jobs = JobQueue(settings, engine, storage)
    upload_store = UploadStore(engine, storage)
    retention = Retention(settings, engine, storage, jobs, upload_store)
    return AppContext(
        settings,
        engine,
        storage,
        jobs,
        upload_store,
        EventBroadcaster(jobs.studies, guard.find_ended),
        retention,
        guard,
    )


def create_app(settings: ServerSettings, context: AppContext | None = None) -> FastAPI:
    """Create the application; it works on jobs from its startup to its shutdown.

    Parameters
    ----------
    settings : ServerSettings
        The options of `strokeseg serve`.
    context : AppContext or None
        The application's parts, if they exist already.

    Returns
    -------
    FastAPI
        The application, ready for a web server.
    """
    context = context or create_context(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        stop = await asyncio.to_thread(start_background, context)
        yield
        await context.events.close()
        await asyncio.to_thread(stop)

    app = FastAPI(
        title="StrokeSeg",
        version=__version__,
        description="Detect, outline and measure intracranial hemorrhage on head CT. Research software, not a "
        "medical device.",
        root_path=settings.base_path,
        openapi_url=f"{API_PREFIX}/openapi.json",
        docs_url=None,  # FastAPI's page loads scripts from another server
        redoc_url=None,
        lifespan=lifespan,
        responses=problems.document_problems(400, 401, 403, 408, 413, 422, 429),
    )
    app.state.context = context
    problems.add_exception_handlers(app)
    for module in (studies, uploads, results, comparisons, service):
        app.include_router(module.router, prefix=API_PREFIX)
    app.add_api_route("/", _send_page, include_in_schema=False, response_class=FileResponse)
    app.mount("/static", _RevalidatedStaticFiles(directory=STATIC), name="static")
    app.add_middleware(RequestLimits, min_bytes_per_s=settings.min_rate, timeout_s=settings.request_timeout_s)
    app.add_middleware(_StaticGzip)
    auth.protect(app, context.guard)
    app.add_middleware(RequestLog)
    app.openapi = lambda: _create_openapi(app)  # type: ignore[method-assign]
    return app


def start_background(context: AppContext) -> Callable[[], None]:
    """Start the jobs and the regular clean-up; return the function that stops both."""
    context.jobs.start()
    stopping = threading.Event()

    def sweep_regularly() -> None:
        while not stopping.wait(_SWEEP_S):
            try:
                context.retention.sweep()
            except Exception as error:
                problems.log.warning("the clean-up failed: %s", type(error).__name__)

    threading.Thread(target=sweep_regularly, name="strokeseg-sweep", daemon=True).start()

    def stop() -> None:
        stopping.set()
        context.jobs.close()
        context.engine.dispose()

    return stop


class _StaticGzip(GZipMiddleware):
    """Compresses the page and its scripts only: results are compressed already, and events must not be delayed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "/static/" in scope["path"]:
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class _RevalidatedStaticFiles(StaticFiles):
    """Serves the page's files; the browser checks their ETag on every load."""

    def file_response(self, *arguments: Any, **keywords: Any) -> Response:
        response = super().file_response(*arguments, **keywords)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _send_page(_request: Request) -> FileResponse:
    return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


def _create_openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            openapi_version="3.1.0",
        )
        schema["components"]["schemas"]["Problem"] = problems.Problem.model_json_schema()
        app.openapi_schema = schema
    return app.openapi_schema
