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

from strokeseg.serve import auth, problems
from strokeseg.serve.events import Events
from strokeseg.serve.here import Here
from strokeseg.serve.jobs import Jobs
from strokeseg.serve.limits import Limits
from strokeseg.serve.retention import Retention
from strokeseg.serve.routes import results, service, studies, uploads
from strokeseg.serve.settings import Settings
from strokeseg.serve.storage import Storage
from strokeseg.serve.tables import connect
from strokeseg.serve.uploads import Uploads
from strokeseg.version import __version__

PREFIX = "/api/v1"
STATIC = Path(__file__).parent / "static"
_SWEEP_S = 60.0


def parts(settings: Settings) -> Here:
    """Open database, storage and queue; nothing runs yet."""
    engine = connect(settings.database)
    guard = auth.guard(settings, engine)
    storage = Storage(settings.storage)
    jobs = Jobs(settings, engine, storage)
    pieces = Uploads(engine, storage)
    retention = Retention(settings, engine, storage, jobs, pieces)
    return Here(settings, engine, storage, jobs, pieces, Events(jobs.studies), retention, guard)


def build(settings: Settings, here: Here | None = None) -> FastAPI:
    """Make the application; its jobs run while it does.

    Parameters
    ----------
    settings : what was asked for
    here : its parts, where they are made already
    """
    here = here or parts(settings)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        stop = await asyncio.to_thread(start, here)
        yield
        await here.events.close()
        await asyncio.to_thread(stop)

    app = FastAPI(
        title="StrokeSeg",
        version=__version__,
        description="Find, outline and measure bleeding in a CT of the head. For research; no medical device.",
        root_path=settings.base,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # it would load its scripts from another server
        redoc_url=None,
        lifespan=running,
        responses=problems.responses(400, 401, 403, 408, 413, 422, 429),
    )
    app.state.here, app.state.guard = here, here.guard
    problems.install(app)
    for module in (studies, uploads, results, service):
        app.include_router(module.router(here), prefix=PREFIX)
    app.add_api_route("/", _page, include_in_schema=False, response_class=FileResponse)
    app.mount("/static", _Static(directory=STATIC), name="static")
    app.add_middleware(Limits, most=settings.max_upload_bytes)
    app.add_middleware(_Packed)
    here.guard.install(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def start(here: Here) -> Any:
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


class _Packed(GZipMiddleware):
    """Compresses the page and its scripts; results are compressed already, and an event must not wait."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "/static/" in scope["path"]:
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class _Static(StaticFiles):
    """The page's files, asked for again by their tag."""

    def file_response(self, *arguments: Any, **keywords: Any) -> Response:
        response = super().file_response(*arguments, **keywords)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _page(_request: Request) -> FileResponse:
    return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


def _openapi(app: FastAPI) -> dict[str, Any]:
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
