"""Limits on how long and how slowly a client may send a request or read the response.

`auth.BoundedRoute` limits the size of a body, `connections` the number of connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import struct
import termios
import time
from typing import Any

import h11
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_TIMEOUT_S = 20.0
"""Time for a complete request head, from its first byte or from the connection."""
BODY_TIMEOUT_S = 60.0
"""Time between two parts of a body; after this time a body must also have had the least rate."""
RESPONSE_TIMEOUT_S = 60.0
"""Time in which a client must read what waits for it, or read on at the least rate."""
MIN_BYTES_PER_S, REQUEST_TIMEOUT_S = 1024, 3600.0
"""The least rate of a body and of a response, and the time for a whole body; settings of the server."""
DISCARD_TIMEOUT_S, DISCARD_BYTES = 5.0, 64 * 2**20
"""Limits for the rest of a body after an early response: some clients send all of it before they read."""


class RequestLimits:
    """ASGI middleware that refuses a body that stalls, is too slow, or takes too long.

    Only the time in which the server waits for the client counts.

    Parameters
    ----------
    app : ASGIApp
        The application behind the middleware.
    min_bytes_per_s : int
        Least rate of a body, as the mean since its first byte.
    timeout_s : float
        Maximum time for a whole body.
    """

    def __init__(
        self, app: ASGIApp, min_bytes_per_s: int = MIN_BYTES_PER_S, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> None:
        self._app, self._min_bytes_per_s, self._timeout_s = app, min_bytes_per_s, timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and limit the time for its body and for the pauses in it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        more, waited_s, size = True, 0.0, 0

        async def receive_in_time() -> Message:
            nonlocal more, waited_s, size
            if not more:  # from here on it waits for the client to disconnect, which may take any time
                return await receive()
            started, allowed_s = time.monotonic(), min(BODY_TIMEOUT_S, self._timeout_s - waited_s)
            try:
                message = await asyncio.wait_for(receive(), allowed_s)
            except TimeoutError:
                raise _refuse("nothing for too long" if allowed_s == BODY_TIMEOUT_S else "for too long") from None
            waited_s += time.monotonic() - started
            size += len(message.get("body", b""))
            more = bool(message.get("more_body"))
            if more and waited_s > BODY_TIMEOUT_S and size < self._min_bytes_per_s * waited_s:
                raise _refuse("too slowly")
            return message

        await self._app(scope, receive_in_time, send)


def _refuse(how: str) -> HTTPException:
    return HTTPException(408, f"the client sent {how}")


class TimeoutProtocol(H11Protocol):
    """Closes a connection with a slow request head, a body that continues after the response, or an unread response.

    Without it, some hundred slow heads would use up all connections, and a refused body of gigabytes would be read to
    its end.
    """

    _close_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _bytes_to_discard = 0

    def connection_made(self, transport: Any) -> None:
        """Start the timeout of the first request."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # writing pauses whenever the client has not read everything
        self._close_after(HEAD_TIMEOUT_S)

    def pause_writing(self) -> None:
        """Start the time in which the client must read."""
        super().pause_writing()
        self._watch_reading()

    def resume_writing(self) -> None:
        """End it: the client has read everything."""
        super().resume_writing()
        self._cancel_write_timer()

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
        """Cancel the timers together with the connection."""
        self._cancel_close()
        self._cancel_write_timer()
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

    def _watch_reading(self) -> None:
        """Close the connection unless the client reads at the least rate; its unread bytes are given up."""
        before = self._count_unread()

        def check() -> None:
            if before - self._count_unread() < MIN_BYTES_PER_S * RESPONSE_TIMEOUT_S:
                self.transport.abort()
            else:
                self._watch_reading()

        self._cancel_write_timer()
        self._write_timer = self.loop.call_later(RESPONSE_TIMEOUT_S, check)

    def _count_unread(self) -> int:
        """Return the number of bytes that were written and have not reached the client, here and in the kernel."""
        queued = bytes(4)
        with contextlib.suppress(OSError, AttributeError):
            queued = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, queued)
        return self.transport.get_write_buffer_size() + int(struct.unpack("i", queued)[0])

    def _cancel_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
