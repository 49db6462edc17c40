"""Studies to workers and back, whatever the workers are: hand out, wait, replace who died, try again alone."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from strokeseg.batch import work
from strokeseg.batch.study import TIMEOUT, WORKER_DIED, Failure, Record, Settings, Task, failed
from strokeseg.errors import DiskFull, ModelError

TICK_S = 0.5
_MOST_FALSE_STARTS = 3


class DiedError(Exception):
    """A worker is gone; the sentence says how."""


class Worker(Protocol):
    """Answers one study at a time; at first it only gets ready."""

    def give(self, task: Task) -> None:
        """Hand over a study."""
        ...

    def take(self) -> Record | None:
        """Give what became of the study, or None at first, when the worker has got ready.

        Raises
        ------
        DiedError
            if the worker is gone
        StrokesegError
            if the worker cannot get ready
        """
        ...

    def kill(self) -> None:
        """End it at once, whatever it does."""
        ...


class Crew(Protocol):
    """Where workers come from."""

    def size(self) -> int:
        """How many there may be now."""
        ...

    def alone(self) -> int:
        """How many there may be when studies are tried again of which a worker died."""
        ...

    def hire(self) -> Worker:
        """Start one."""
        ...

    def ready(self, workers: list[Worker], timeout_s: float) -> list[Worker]:
        """Wait until one of these has something to take, or is gone."""
        ...


def records(tasks: Iterator[Task], crew: Crew, settings: Settings, timeout_s: float | None = None) -> Iterator[Record]:
    """Answer studies; give what became of each as it ends.

    A study whose worker dies is tried once more when all others are done, with as few beside it as the crew can; then
    it has failed. Not more studies are handed out than there are workers: ``tasks`` is taken from as they get free.

    Parameters
    ----------
    timeout_s : a study may take so long; None is for ever

    Raises
    ------
    DiskFull
        `disk-full`, as soon as a worker meets it
    ModelError
        if no worker can get ready
    """
    lost: deque[Task] = deque()
    with _Shift(crew, settings, timeout_s) as shift:
        for end in shift.work(tasks, crew.size):
            if isinstance(end, Record):
                yield end
            else:
                lost.append(end[0])
    with _Shift(crew, settings, timeout_s) as shift:
        for end in shift.work(iter(lost), crew.alone):
            yield end if isinstance(end, Record) else failed(end[0].study, end[0].key, _death(end[1]))


class _Shift:
    """Some workers, as long as there are studies for them; all are ended with the block."""

    def __init__(self, crew: Crew, settings: Settings, timeout_s: float | None) -> None:
        self.crew, self.settings, self.timeout_s = crew, settings, timeout_s
        self.starting: list[Worker] = []
        self.idle: list[Worker] = []
        self.busy: dict[Worker, tuple[Task, float]] = {}
        self.false_starts = 0

    def __enter__(self) -> _Shift:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in [*self.starting, *self.idle, *self.busy]:
            worker.kill()
        for task, _since in self.busy.values():
            work.tidy(self.settings.out, task.study)

    def work(self, tasks: Iterator[Task], size: Callable[[], int]) -> Iterator[Record | tuple[Task, str]]:
        """Give what became of each study, or the study and how its worker died."""
        waiting = next(tasks, None)
        while waiting is not None or self.busy:
            while waiting is not None and self.idle:
                worker = self.idle.pop()
                worker.give(waiting)
                self.busy[worker] = (waiting, time.monotonic())
                waiting = next(tasks, None)
            if waiting is not None and len(self.starting) + len(self.busy) < size():
                self.starting.append(self.crew.hire())
                continue
            for worker in self.crew.ready([*self.starting, *self.busy], TICK_S):
                if worker in self.busy:
                    yield self._end(worker)
                else:
                    self._started(worker)
            yield from self._late()

    def _started(self, worker: Worker) -> None:
        self.starting.remove(worker)
        try:
            worker.take()
        except DiedError as death:
            worker.kill()
            self.false_starts += 1
            if self.false_starts >= _MOST_FALSE_STARTS:
                message = f"{_MOST_FALSE_STARTS} workers ended before the network was loaded: the last {death}"
                raise ModelError(message, "Give them more memory, or fewer with --workers.") from None
            return
        self.false_starts = 0
        self.idle.append(worker)

    def _end(self, worker: Worker) -> Record | tuple[Task, str]:
        task, _since = self.busy.pop(worker)
        try:
            record = worker.take()
        except DiedError as death:
            worker.kill()
            work.tidy(self.settings.out, task.study)
            return task, str(death)
        assert record is not None
        self.idle.append(worker)
        if record.failure is not None and record.failure.code == DiskFull.code:
            raise DiskFull(record.failure.message, "Free space and give the same command again: it goes on from there.")
        return record

    def _late(self) -> Iterator[Record]:
        limit = self.timeout_s
        now = time.monotonic()
        for worker, (task, since) in list(self.busy.items()):
            if limit is not None and now - since > limit:
                del self.busy[worker]
                worker.kill()
                work.tidy(self.settings.out, task.study)
                yield failed(task.study, task.key, _lateness(limit))


def _death(how: str) -> Failure:
    message = f"its worker died twice, at last alone: it {how}"
    return Failure(code=WORKER_DIED, message=message, remedy="Segment it on a machine with more memory.")


def _lateness(limit_s: float) -> Failure:
    message = f"it was not answered within {limit_s:g} s"
    return Failure(code=TIMEOUT, message=message, remedy="Give it longer with --timeout.")
