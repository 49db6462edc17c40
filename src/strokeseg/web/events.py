"""What happens, told as it happens: one look at the database a moment, whoever made the change, for all who listen."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from strokeseg.web.auth.users import User
from strokeseg.web.schemas import Study
from strokeseg.web.study_store import StudyStore

log = logging.getLogger("strokeseg.web")
_POLL_S = 0.2
_KEEPALIVE_S = 15.0  # after which a comment says that the line is alive
_OVERLAP_S = 2.0  # a change may be seen later than one that was made after it
_MAX_QUEUED = 1000


@dataclass(eq=False)
class _Listener:
    viewer: User
    study: str | None
    queue: asyncio.Queue[str] = field(default_factory=lambda: asyncio.Queue(_MAX_QUEUED))


class EventBroadcaster:
    """The listeners of one server."""

    def __init__(self, studies: StudyStore) -> None:
        self._studies = studies
        self._listeners: set[_Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self._told: dict[str, str] = {}
        self._closed = False

    async def listen(self, viewer: User, study: str | None, first: Study | None) -> AsyncIterator[str]:
        """Return the events of one study, or of all that a viewer may see, as server-sent events.

        Parameters
        ----------
        viewer : User
            Who listens.
        study : str or None
            Its id, or None for all.
        first : Study or None
            What is told at once.
        """
        listener = _Listener(viewer, study)
        self._listeners.add(listener)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch(await asyncio.to_thread(self._studies.read_clock)))
        try:
            yield format_event("study", first.model_dump(mode="json")) if first else ": hello\n\n"
            while not self._closed:
                try:
                    text = await asyncio.wait_for(listener.queue.get(), _KEEPALIVE_S)
                except TimeoutError:
                    text = ": still here\n\n"
                if not text:
                    return
                yield text
        finally:
            self._listeners.discard(listener)

    async def close(self) -> None:
        """End all streams."""
        self._closed = True
        for listener in self._listeners:
            with contextlib.suppress(asyncio.QueueFull):
                listener.queue.put_nowait("")
        if self._task is not None:
            self._task.cancel()

    async def _watch(self, since: float) -> None:
        while self._listeners:
            await asyncio.sleep(_POLL_S)
            try:
                changed, gone, latest = await asyncio.to_thread(self._studies.list_changes, since - _OVERLAP_S)
            except DBAPIError as error:
                log.warning("the database does not answer: %s", type(error).__name__)
                continue
            since, told = max(since, latest), {}
            for study, owner, group in changed:
                told[study.id] = format_event("study", study.model_dump(mode="json"))
                self._tell(study.id, told[study.id], owner, group)
            for identity, owner, group in gone:
                told[identity] = format_event("deleted", {"id": identity})
                self._tell(identity, told[identity], owner, group)
            self._told = told

    def _tell(self, identity: str, text: str, owner: str, group: str | None) -> None:
        if self._told.get(identity) == text:
            return
        for listener in list(self._listeners):
            if listener.study in (None, identity) and listener.viewer.can_see(owner, group):
                try:
                    listener.queue.put_nowait(text)
                except asyncio.QueueFull:  # a client that does not read comes back and reads the list
                    self._listeners.discard(listener)


def format_event(event: str, data: object) -> str:
    """Write one server-sent event."""
    return f"event: {event}\ndata: {json.dumps(data)}\n\n"
