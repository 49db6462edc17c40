"""The limits on a request: how many bytes it may have, and for how long its client may be silent."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from strokeseg.errors import TooLarge
from strokeseg.web import problems

HEAD_TIMEOUT_S = 20.0
"""For the whole head of a request, from its first byte or from the connection."""
BODY_TIMEOUT_S = 60.0
"""Between two pieces of a body."""
DISCARD_TIMEOUT_S, DISCARD_BYTES = 5.0, 64 * 2**20
"""For the rest of a body that was answered before its end: a client may have to send it before it reads the answer."""
_MAX_JSON_BYTES = 2 * 2**20


class RequestLimits:
    """Refuses a body that is too large, by what it announces or as soon as it is, and one that does not go on."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, counting its bytes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        is_json = headers.get(b"content-type", b"").lower().startswith(b"application/json")
        most, seen, more = _MAX_JSON_BYTES if is_json else self._most, 0, True
        error = TooLarge(f"the body is larger than {most} bytes", "Send one series alone, or in pieces.")
        announced = headers.get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > most:
            await problems.create_response(error)(scope, receive, send)
            return

        async def counted() -> Message:
            nonlocal seen, more
            if not more:  # then it waits for the client to leave, which may take as long as it will
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), BODY_TIMEOUT_S)
            except TimeoutError:
                raise HTTPException(408, "nothing came for too long") from None
            seen += len(message.get("body", b""))
            more = bool(message.get("more_body"))
            if seen > most:
                raise HTTPException(413, error.message)
            return message

        await self._app(scope, counted, send)


class TimeoutProtocol(H11Protocol):
    """Closes a connection whose request's head takes too long, or whose body goes on long after it was answered.

    Some hundred slow heads would take every file handle, and a refused body of gigabytes would be read to its end.
    """

    _late: asyncio.TimerHandle | None = None
    _rest = 0

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._close_after(HEAD_TIMEOUT_S)

    def data_received(self, data: bytes) -> None:
        """Take bytes: of a head, of a body, or of what nobody waits for."""
        if self._unwanted():
            self._rest -= len(data)
            if self._rest < 0:
                self.transport.close()
                return
        elif not self._answering():
            self._close_after(HEAD_TIMEOUT_S)
        super().data_received(data)
        if self._answering():
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Return what is left of a body a little time."""
        super().on_response_complete()
        if self._unwanted():
            self._rest = DISCARD_BYTES
            self._close_after(DISCARD_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer with the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _unwanted(self) -> bool:
        """Return whether a body still comes whose request was answered."""
        return self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY

    def _close_after(self, seconds: float) -> None:
        if self._late is None:
            self._late = self.loop.call_later(seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
