"""The application: its parts put together, and the page."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, Response
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from strokeseg.version import __version__
from strokeseg.web import auth, problems
from strokeseg.web.context import AppContext
from strokeseg.web.database import connect
from strokeseg.web.events import EventBroadcaster
from strokeseg.web.jobs import JobQueue
from strokeseg.web.limits import RequestLimits
from strokeseg.web.retention import Retention
from strokeseg.web.routes import results, service, studies, uploads
from strokeseg.web.settings import ServerSettings
from strokeseg.web.storage import Storage
from strokeseg.web.upload_store import UploadStore

API_PREFIX = "/api/v1"
STATIC = Path(__file__).parent / "static"
_SWEEP_S = 60.0


def create_context(settings: ServerSettings) -> AppContext:
    """Open database, storage and queue; nothing runs yet."""
    engine = connect(settings.database)
    guard = auth.create_guard(settings, engine)
    storage = Storage(settings.storage)
    jobs = JobQueue(settings, engine, storage)
    pieces = UploadStore(engine, storage)
    retention = Retention(settings, engine, storage, jobs, pieces)
    return AppContext(settings, engine, storage, jobs, pieces, EventBroadcaster(jobs.studies), retention, guard)


def create_app(settings: ServerSettings, context: AppContext | None = None) -> FastAPI:
    """Make the application; its jobs run while it does.

    Parameters
    ----------
    settings : ServerSettings
        What was asked for.
    here : object
        Its parts, where they are made already.
    """
    context = context or create_context(settings)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        stop = await asyncio.to_thread(start_background, context)
        yield
        await context.events.close()
        await asyncio.to_thread(stop)

    app = FastAPI(
        title="StrokeSeg",
        version=__version__,
        description="Find, outline and measure bleeding in a CT of the head. For research; no medical device.",
        root_path=settings.base_path,
        openapi_url=f"{API_PREFIX}/openapi.json",
        docs_url=None,  # it would load its scripts from another server
        redoc_url=None,
        lifespan=running,
        responses=problems.document_problems(400, 401, 403, 408, 413, 422, 429),
    )
    app.state.here, app.state.guard = context, context.guard
    problems.add_exception_handlers(app)
    for module in (studies, uploads, results, service):
        app.include_router(module.router(context), prefix=API_PREFIX)
    app.add_api_route("/", _send_page, include_in_schema=False, response_class=FileResponse)
    app.mount("/static", _CachedStaticFiles(directory=STATIC), name="static")
    app.add_middleware(RequestLimits, most=settings.max_upload_bytes)
    app.add_middleware(_StaticGzip)
    context.guard.install(app)
    app.openapi = lambda: _make_openapi(app)  # type: ignore[method-assign]
    return app


def start_background(here: AppContext) -> Any:
    """Begin to work on jobs and to sweep; gives what stops it."""
    here.jobs.start()
    ending = threading.Event()

    def sweeping() -> None:
        while not ending.wait(_SWEEP_S):
            try:
                here.retention.sweep()
            except Exception as error:
                problems.log.warning("the sweep failed: %s", type(error).__name__)

    sweeper = threading.Thread(target=sweeping, name="strokeseg-sweep", daemon=True)
    sweeper.start()

    def stop() -> None:
        ending.set()
        here.jobs.close()
        here.engine.dispose()

    return stop


class _StaticGzip(GZipMiddleware):
    """Compresses the page and its scripts; results are compressed already, and an event must not wait."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "/static/" in scope["path"]:
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class _CachedStaticFiles(StaticFiles):
    """The page's files, asked for again by their tag."""

    def file_response(self, *arguments: Any, **keywords: Any) -> Response:
        response = super().file_response(*arguments, **keywords)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _send_page(_request: Request) -> FileResponse:
    return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


def _make_openapi(app: FastAPI) -> dict[str, Any]:
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
