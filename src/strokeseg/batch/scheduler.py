"""Assign studies to workers: start workers, collect results, replace dead workers and retry their studies alone."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from strokeseg.batch.records import TIMEOUT, WORKER_DIED, BatchSettings, Failure, StudyRecord, Task, record_failure
from strokeseg.batch.worker import remove_partial_output
from strokeseg.errors import DiskFull, ModelError

POLL_INTERVAL_S = 0.5
_MAX_FAILED_STARTS = 3


class WorkerDiedError(Exception):
    """A worker died; the message completes the sentence "the worker ..."."""


class Worker(Protocol):
    """A worker that first loads the model and then segments one study at a time."""

    def assign(self, task: Task) -> None:
        """Assign a study to the worker."""
        ...

    def receive(self) -> StudyRecord | None:
        """Receive the record of the study, or None once the model is loaded.

        Returns
        -------
        StudyRecord or None
            The record of the assigned study; None from a worker that has just loaded the model.

        Raises
        ------
        WorkerDiedError
            If the worker is dead.
        StrokesegError
            If the worker cannot load the model.
        """
        ...

    def kill(self) -> None:
        """Kill the worker at once."""
        ...


class WorkerPool(Protocol):
    """A source of workers."""

    def get_capacity(self) -> int:
        """Return how many workers may run now."""
        ...

    def get_retry_capacity(self) -> int:
        """Return how many workers may run while the studies of dead workers are retried."""
        ...

    def start_worker(self) -> Worker:
        """Start a worker."""
        ...

    def wait_ready(self, workers: list[Worker], timeout_s: float) -> list[Worker]:
        """Wait until at least one worker has something to receive or is dead, and return those workers."""
        ...


def run_tasks(
    tasks: Iterator[Task], pool: WorkerPool, settings: BatchSettings, timeout_s: float | None = None
) -> Iterator[StudyRecord]:
    """Segment studies and yield the record of each when it is finished.

    A study whose worker dies is retried once after all others, with as few other workers as the pool allows. If the
    worker dies again, the study has failed. ``tasks`` is read only as workers become free.

    Parameters
    ----------
    tasks : iterator of Task
        The studies.
    pool : WorkerPool
        Where the workers come from.
    settings : BatchSettings
        Settings of all studies.
    timeout_s : float, optional
        Time limit for one study in seconds; None is no limit.

    Yields
    ------
    StudyRecord
        One record per study.

    Raises
    ------
    DiskFull
        `disk-full`, as soon as a worker runs out of disk space.
    ModelError
        If no worker can load the model.
    """
    retries: deque[Task] = deque()
    with _Scheduler(pool, settings, timeout_s) as scheduler:
        for outcome in scheduler.run(tasks, pool.get_capacity):
            if isinstance(outcome, StudyRecord):
                yield outcome
            else:
                retries.append(outcome[0])
    with _Scheduler(pool, settings, timeout_s) as scheduler:
        for outcome in scheduler.run(iter(retries), pool.get_retry_capacity):
            if isinstance(outcome, StudyRecord):
                yield outcome
            else:
                task, reason = outcome
                yield record_failure(task.study, task.key, _make_worker_died_failure(reason))


class _Scheduler:
    """The workers of one pass over the studies; all of them are killed at the end of the block."""

    def __init__(self, pool: WorkerPool, settings: BatchSettings, timeout_s: float | None) -> None:
        self.pool, self.settings, self.timeout_s = pool, settings, timeout_s
        self.starting: list[Worker] = []
        self.idle: list[Worker] = []
        self.busy: dict[Worker, tuple[Task, float]] = {}
        self.failed_starts = 0

    def __enter__(self) -> _Scheduler:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in [*self.starting, *self.idle, *self.busy]:
            worker.kill()
        for task, _assigned_at in self.busy.values():
            remove_partial_output(self.settings.out, task.study)

    def run(self, tasks: Iterator[Task], get_capacity: Callable[[], int]) -> Iterator[StudyRecord | tuple[Task, str]]:
        """Yield the record of each study, or the study and how its worker died."""
        next_task = next(tasks, None)
        while next_task is not None or self.busy:
            while next_task is not None and self.idle:
                worker = self.idle.pop()
                worker.assign(next_task)
                self.busy[worker] = (next_task, time.monotonic())
                next_task = next(tasks, None)
            if next_task is not None and len(self.starting) + len(self.busy) < get_capacity():
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
                message = f"{_MAX_FAILED_STARTS} workers died before the model was loaded; the last one {death}"
                raise ModelError(message, "Give the workers more memory, or use fewer with --workers.") from None
            return
        self.failed_starts = 0
        self.idle.append(worker)

    def _collect_result(self, worker: Worker) -> StudyRecord | tuple[Task, str]:
        task, _assigned_at = self.busy.pop(worker)
        try:
            record = worker.receive()
        except WorkerDiedError as death:
            worker.kill()
            remove_partial_output(self.settings.out, task.study)
            return task, str(death)
        assert record is not None
        self.idle.append(worker)
        if record.failure is not None and record.failure.code == DiskFull.code:
            raise DiskFull(record.failure.message, "Free disk space and run the same command again: it continues.")
        return record

    def _stop_overdue(self) -> Iterator[StudyRecord]:
        limit = self.timeout_s
        now = time.monotonic()
        for worker, (task, assigned_at) in list(self.busy.items()):
            if limit is not None and now - assigned_at > limit:
                del self.busy[worker]
                worker.kill()
                remove_partial_output(self.settings.out, task.study)
                yield record_failure(task.study, task.key, _make_timeout_failure(limit))


def _make_worker_died_failure(reason: str) -> Failure:
    message = f"the worker died twice, also in the retry: it {reason}"
    return Failure(code=WORKER_DIED, message=message, remedy="Segment this study on a machine with more memory.")


def _make_timeout_failure(limit_s: float) -> Failure:
    message = f"not finished within {limit_s:g} s"
    return Failure(code=TIMEOUT, message=message, remedy="Set a longer limit with --timeout.")
