"""Studies to workers and back, whatever the workers are: hand out, wait, replace who died, try again alone."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from strokeseg.batch import worker as work
from strokeseg.batch.records import TIMEOUT, WORKER_DIED, BatchSettings, Failure, StudyRecord, Task, record_failure
from strokeseg.errors import DiskFull, ModelError

POLL_INTERVAL_S = 0.5
_MAX_FAILED_STARTS = 3


class WorkerDiedError(Exception):
    """A worker is gone; the sentence says how."""


class Worker(Protocol):
    """Answers one study at a time; at first it only gets ready."""

    def assign(self, task: Task) -> None:
        """Hand over a study."""
        ...

    def receive(self) -> StudyRecord | None:
        """Return what became of the study, or None at first, when the worker has got ready.

        Raises
        ------
        DiedError
            If the worker is gone.
        StrokesegError
            If the worker cannot get ready.
        """
        ...

    def kill(self) -> None:
        """End it at once, whatever it does."""
        ...


class WorkerPool(Protocol):
    """Where workers come from."""

    def get_capacity(self) -> int:
        """How many there may be now."""
        ...

    def get_retry_capacity(self) -> int:
        """How many there may be when studies are tried again of which a worker died."""
        ...

    def start_worker(self) -> Worker:
        """Start one."""
        ...

    def wait_ready(self, workers: list[Worker], timeout_s: float) -> list[Worker]:
        """Wait until one of these has something to take, or is gone."""
        ...


def run_tasks(
    tasks: Iterator[Task], crew: WorkerPool, settings: BatchSettings, timeout_s: float | None = None
) -> Iterator[StudyRecord]:
    """Answer studies; give what became of each as it ends.

    A study whose worker dies is tried once more when all others are done, with as few beside it as the crew can; then
    it has failed. Not more studies are handed out than there are workers: ``tasks`` is taken from as they get free.

    Parameters
    ----------
    timeout_s : float, optional
        A study may take so long; None is for ever.

    Raises
    ------
    DiskFull
        `disk-full`, as soon as a worker meets it.
    ModelError
        If no worker can get ready.
    """
    lost: deque[Task] = deque()
    with _Scheduler(crew, settings, timeout_s) as shift:
        for end in shift.run(tasks, crew.get_capacity):
            if isinstance(end, StudyRecord):
                yield end
            else:
                lost.append(end[0])
    with _Scheduler(crew, settings, timeout_s) as shift:
        for end in shift.run(iter(lost), crew.get_retry_capacity):
            yield (
                end
                if isinstance(end, StudyRecord)
                else record_failure(end[0].study, end[0].key, _make_worker_died_failure(end[1]))
            )


class _Scheduler:
    """Some workers, as long as there are studies for them; all are ended with the block."""

    def __init__(self, crew: WorkerPool, settings: BatchSettings, timeout_s: float | None) -> None:
        self.pool, self.settings, self.timeout_s = crew, settings, timeout_s
        self.starting: list[Worker] = []
        self.idle: list[Worker] = []
        self.busy: dict[Worker, tuple[Task, float]] = {}
        self.failed_starts = 0

    def __enter__(self) -> _Scheduler:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in [*self.starting, *self.idle, *self.busy]:
            worker.kill()
        for task, _since in self.busy.values():
            work.remove_partial_output(self.settings.out, task.study)

    def run(self, tasks: Iterator[Task], size: Callable[[], int]) -> Iterator[StudyRecord | tuple[Task, str]]:
        """Return what became of each study, or the study and how its worker died."""
        waiting = next(tasks, None)
        while waiting is not None or self.busy:
            while waiting is not None and self.idle:
                worker = self.idle.pop()
                worker.assign(waiting)
                self.busy[worker] = (waiting, time.monotonic())
                waiting = next(tasks, None)
            if waiting is not None and len(self.starting) + len(self.busy) < size():
                self.starting.append(self.pool.start_worker())
                continue
            for worker in self.pool.wait_ready([*self.starting, *self.busy], POLL_INTERVAL_S):
                if worker in self.busy:
                    yield self._collect_result(worker)
                else:
                    self._finish_start(worker)
            yield from self._stop_overdue()

    def _finish_start(self, worker: Worker) -> None:
        self.starting.remove(worker)
        try:
            worker.receive()
        except WorkerDiedError as death:
            worker.kill()
            self.failed_starts += 1
            if self.failed_starts >= _MAX_FAILED_STARTS:
                message = f"{_MAX_FAILED_STARTS} workers ended before the network was loaded: the last {death}"
                raise ModelError(message, "Give them more memory, or fewer with --workers.") from None
            return
        self.failed_starts = 0
        self.idle.append(worker)

    def _collect_result(self, worker: Worker) -> StudyRecord | tuple[Task, str]:
        task, _since = self.busy.pop(worker)
        try:
            record = worker.receive()
        except WorkerDiedError as death:
            worker.kill()
            work.remove_partial_output(self.settings.out, task.study)
            return task, str(death)
        assert record is not None
        self.idle.append(worker)
        if record.failure is not None and record.failure.code == DiskFull.code:
            raise DiskFull(record.failure.message, "Free space and give the same command again: it goes on from there.")
        return record

    def _stop_overdue(self) -> Iterator[StudyRecord]:
        limit = self.timeout_s
        now = time.monotonic()
        for worker, (task, since) in list(self.busy.items()):
            if limit is not None and now - since > limit:
                del self.busy[worker]
                worker.kill()
                work.remove_partial_output(self.settings.out, task.study)
                yield record_failure(task.study, task.key, _make_timeout_failure(limit))


def _make_worker_died_failure(how: str) -> Failure:
    message = f"its worker died twice, at last alone: it {how}"
    return Failure(code=WORKER_DIED, message=message, remedy="Segment it on a machine with more memory.")


def _make_timeout_failure(limit_s: float) -> Failure:
    message = f"it was not answered within {limit_s:g} s"
    return Failure(code=TIMEOUT, message=message, remedy="Give it longer with --timeout.")
