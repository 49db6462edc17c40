"""Routes that identify the user before they read a body, and that bound the body by what they take."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import Message

from strokeseg.web.auth.guard import Guard, RequireScope

MAX_UPLOAD = -1
"""The bound of a route that takes files: the server's --max-upload."""
_DEFAULT_BYTES = 64 * 2**10
"""The bound of every other route: far more than its JSON needs. Routes without a body do not read one."""
_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])


def limit_body(max_bytes: int) -> Callable[[_Endpoint], _Endpoint]:
    """Create a decorator that sets the maximum size of a route's body, bytes, or :data:`MAX_UPLOAD`.

    It stands below the decorator that makes the function a route.
    """

    def decorate(endpoint: _Endpoint) -> _Endpoint:
        endpoint.max_body_bytes = max_bytes  # type: ignore[attr-defined]
        return endpoint

    return decorate


class BoundedRoute(APIRoute):
    """A route that identifies the user first, then reads at most as much as it takes, whatever the content type.

    FastAPI reads a JSON body completely into memory before it calls any dependency, so that anybody could fill the
    memory. The route class of every router is therefore this one.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of requests, with the checks before FastAPI's own."""
        handler = super().get_route_handler()
        requirement = next(find_requirements(self.dependant), None)
        declared = int(getattr(self.endpoint, "max_body_bytes", _DEFAULT_BYTES))

        async def handle(request: Request) -> Response:
            if requirement is not None:
                guard: Guard = request.app.state.guard
                user = await run_in_threadpool(guard.authorize, request, requirement.scope)
                requirement.remember(request, user)
            limit = request.app.state.context.settings.max_upload_bytes if declared == MAX_UPLOAD else declared
            return await handler(_limit(request, limit))

        return handle


def find_requirements(dependant: Any) -> Iterator[RequireScope]:
    """Yield the scopes that a route requires, directly or through other dependencies."""
    for each in dependant.dependencies if dependant else ():
        if isinstance(each.call, RequireScope):
            yield each.call
        yield from find_requirements(each)


def _limit(request: Request, limit: int) -> Request:
    """Return the request with a body that raises status 413 beyond a limit, or at once if it announces more."""
    message, count = f"the body is larger than {limit} bytes", 0
    announced = request.headers.get("content-length", "0")
    if not announced.isdigit() or int(announced) > limit:
        raise HTTPException(413, message)

    async def receive() -> Message:
        nonlocal count
        part = await request.receive()
        count += len(part.get("body", b""))
        if count > limit:
            raise HTTPException(413, message)
        return part

    return Request(request.scope, receive, request._send)
