"""Limits on how long the client of a request may pause. `auth.BoundedRoute` limits the size of its body."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_TIMEOUT_S = 20.0
"""Time for a complete request head, from its first byte or from the connection."""
BODY_TIMEOUT_S = 60.0
"""Time between two parts of a body."""
DISCARD_TIMEOUT_S, DISCARD_BYTES = 5.0, 64 * 2**20
"""Limits for the rest of a body after an early response: some clients send all of it before they read."""


class RequestLimits:
    """ASGI middleware that refuses a body that stalls.

    Parameters
    ----------
    app : ASGIApp
        The application behind the middleware.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and limit the time between two parts of its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        more = True

        async def receive_in_time() -> Message:
            nonlocal more
            if not more:  # from here on it waits for the client to disconnect, which may take any time
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), BODY_TIMEOUT_S)
            except TimeoutError:
                raise HTTPException(408, "the client sent nothing for too long") from None
            more = bool(message.get("more_body"))
            return message

        await self._app(scope, receive_in_time, send)


class TimeoutProtocol(H11Protocol):
    """Closes a connection whose request head is slow, or whose body continues long after the response.

    Without it, some hundred slow heads would use up all file handles, and a refused body of gigabytes would be read to
    its end.
    """

    _close_timer: asyncio.TimerHandle | None = None
    _bytes_to_discard = 0

    def connection_made(self, transport: Any) -> None:
        """Start the timeout of the first request."""
        super().connection_made(transport)
        self._close_after(HEAD_TIMEOUT_S)

    def data_received(self, data: bytes) -> None:
        """Handle bytes of a head, of a body, or of a body that has been answered already."""
        if self._is_discarding():
            self._bytes_to_discard -= len(data)
            if self._bytes_to_discard < 0:
                self.transport.close()
                return
        elif not self._is_answering():
            self._close_after(HEAD_TIMEOUT_S)
        super().data_received(data)
        if self._is_answering():
            self._cancel_close()

    def on_response_complete(self) -> None:
        """Limit the time and size of what is left of the body."""
        super().on_response_complete()
        if self._is_discarding():
            self._bytes_to_discard = DISCARD_BYTES
            self._close_after(DISCARD_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timer together with the connection."""
        self._cancel_close()
        super().connection_lost(exc)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _is_discarding(self) -> bool:
        """Return whether a body still arrives although its request has been answered."""
        return self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY

    def _close_after(self, seconds: float) -> None:
        if self._close_timer is None:
            self._close_timer = self.loop.call_later(seconds, self.transport.close)

    def _cancel_close(self) -> None:
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None
