"""One line in the log for each request: route, status and duration, without anything that a user wrote."""

from __future__ import annotations

import logging
import re
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("strokeseg.serve")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ID = re.compile(r"[0-9a-f]{32}")


class RequestLog:
    """ASGI middleware that logs each request at its end.

    Parameters
    ----------
    app : ASGIApp
        The application behind the middleware.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and log it once it is answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, size = time.perf_counter(), 500, 0

        async def send_and_count(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, send_and_count)
        finally:
            duration_ms = round(1000 * (time.perf_counter() - started), 1)
            fields = {**_describe(scope), "status": status, "bytes": size, "duration_ms": duration_ms}
            log.info("request", extra={"fields": fields})


def _describe(scope: Scope) -> dict[str, str | None]:
    """Return method, route, study and address: the path itself and the query may contain anything."""
    route, client, ids = scope.get("route"), scope.get("client"), scope.get("path_params", {})
    study = str(ids.get("study_id", ""))
    return {
        "method": scope["method"] if scope["method"] in _METHODS else None,
        "route": getattr(route, "path", None),
        "study": study if _ID.fullmatch(study) else None,
        "address": client[0][:64] if client else None,
    }
