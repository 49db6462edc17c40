"""Server-sent events: one regular query for changes in the database serves all listeners."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from strokeseg.web.auth.users import Credential, User
from strokeseg.web.schemas import Study
from strokeseg.web.study_store import StudyStore

log = logging.getLogger("strokeseg.serve")
_POLL_S = 0.2
_CHECK_S = 0.4  # a revoked token ends its streams within a second
_KEEPALIVE_S = 15.0  # time without events after which a comment keeps the connection open
_OVERLAP_S = 2.0  # a change may become visible after a later one
_MAX_QUEUED = 1000


@dataclass(eq=False)
class _Listener:
    viewer: User
    study: str | None
    is_ended: bool = False
    queue: asyncio.Queue[str] = field(default_factory=lambda: asyncio.Queue(_MAX_QUEUED))

    def end(self) -> None:
        """End the stream; what is queued is not sent any more."""
        self.is_ended = True
        with contextlib.suppress(asyncio.QueueFull):  # then it is not waiting
            self.queue.put_nowait("")


class EventBroadcaster:
    """Sends the changes of studies to the listeners of one server.

    Parameters
    ----------
    studies : StudyStore
        The rows of studies.
    find_ended : callable
        Returns those of some credentials that are no longer valid, on whichever process they ended.
    """

    def __init__(self, studies: StudyStore, find_ended: Callable[[Iterable[Credential]], set[Credential]]) -> None:
        self._studies, self._find_ended = studies, find_ended
        self._checked_at = 0.0
        self._listeners: set[_Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self._last_sent: dict[str, str] = {}
        self._closed = False

    async def listen(self, viewer: User, study: str | None, first: Study | None) -> AsyncIterator[str]:
        """Yield the events of one study, or of all that a viewer may see, as server-sent events.

        Parameters
        ----------
        viewer : User
            The user.
        study : str or None
            ID of the study; None is all.
        first : Study or None
            Sent at once.

        Yields
        ------
        str
            An event or a comment.
        """
        listener = _Listener(viewer, study)
        self._listeners.add(listener)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch(await asyncio.to_thread(self._studies.read_clock)))
        try:
            yield format_event("study", first.model_dump(mode="json")) if first else ": connected\n\n"
            while not (self._closed or listener.is_ended):
                try:
                    text = await asyncio.wait_for(listener.queue.get(), _KEEPALIVE_S)
                except TimeoutError:
                    text = ": keep-alive\n\n"
                if not text or listener.is_ended:
                    return
                yield text
        finally:
            self._listeners.discard(listener)

    async def close(self) -> None:
        """End all streams."""
        self._closed = True
        for listener in self._listeners:
            listener.end()
        if self._task is not None:
            self._task.cancel()

    async def _watch(self, since: float) -> None:
        while self._listeners:
            await asyncio.sleep(_POLL_S)
            try:
                await self._end_revoked()
                now = await asyncio.to_thread(self._studies.read_clock)
                # A clock that was set back gives new changes an earlier time than those that were sent.
                since = min(since, now)
                changed, deleted, latest = await asyncio.to_thread(self._studies.list_changes, since - _OVERLAP_S)
            except DBAPIError as error:
                log.warning("the database does not respond: %s", type(error).__name__)
                continue
            since, sent = min(max(since, latest), now), {}
            for study, owner, group in changed:
                sent[study.id] = format_event("study", study.model_dump(mode="json"))
                self._send(study.id, sent[study.id], owner, group)
            for identity, owner, group in deleted:
                sent[identity] = format_event("deleted", {"id": identity})
                self._send(identity, sent[identity], owner, group)
            self._last_sent = sent

    async def _end_revoked(self) -> None:
        """End the streams whose token or session has ended since they were opened."""
        if time.monotonic() - self._checked_at < _CHECK_S:
            return
        listeners = [listener for listener in self._listeners if listener.viewer.credential is not None]
        every = {listener.viewer.credential for listener in listeners if listener.viewer.credential is not None}
        ended = await asyncio.to_thread(self._find_ended, every) if every else set()
        self._checked_at = time.monotonic()
        for listener in listeners:
            if listener.viewer.credential in ended:
                self._listeners.discard(listener)
                listener.end()

    def _send(self, identity: str, text: str, owner: str, group: str | None) -> None:
        if self._last_sent.get(identity) == text:
            return
        for listener in list(self._listeners):
            if listener.study in (None, identity) and listener.viewer.can_see(owner, group):
                try:
                    listener.queue.put_nowait(text)
                except asyncio.QueueFull:  # a client that does not read reconnects and reads the list
                    self._listeners.discard(listener)
                    listener.end()


def format_event(event: str, data: object) -> str:
    """Format a server-sent event."""
    return f"event: {event}\ndata: {json.dumps(data)}\n\n"
