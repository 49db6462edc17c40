"""Workers that are processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from strokeseg.batch import host_resources, scheduler
from strokeseg.batch import worker as work
from strokeseg.batch.records import BatchSettings, StudyRecord, Task
from strokeseg.errors import StrokesegError

_OUT_OF_MEMORY_EXIT_CODE = 137  # as a shell reports a process that the system killed
_EXIT_TIMEOUT_S = 2.0


class ProcessWorker:
    """A worker: a process with the network loaded, at the other end of a pipe."""

    def __init__(self, settings: BatchSettings, scratch: Path) -> None:
        self.scratch = scratch
        scratch.mkdir()
        # "spawn": a fork would copy threads' locks, and is not there on every system.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_run_worker, args=(theirs, settings, scratch), daemon=True)
        with _temporary_environment(work.build_thread_environment(settings)):
            self.process.start()
        theirs.close()  # now the pipe breaks when the process ends

    def assign(self, task: Task) -> None:
        """Hand over a study; a worker that is gone says so when its answer is taken."""
        try:
            self.pipe.send(task)
        except OSError:
            return

    def receive(self) -> StudyRecord | None:
        """Return the answer, None from a worker that has got ready; see :class:`crew.Worker`."""
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(_EXIT_TIMEOUT_S)
            raise scheduler.WorkerDiedError(self._describe_exit()) from None
        if isinstance(answer, StrokesegError):
            raise answer
        return answer

    def kill(self) -> None:
        """End it at once, and remove what it has fetched."""
        self.process.kill()
        self.process.join(_EXIT_TIMEOUT_S)
        self.pipe.close()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _describe_exit(self) -> str:
        code = self.process.exitcode
        if code in (-signal.SIGKILL, _OUT_OF_MEMORY_EXIT_CODE):
            return "was ended by the system, as it does when memory runs out"
        return f"ended by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"


class ProcessPool:
    """Processes of this machine; leaving the block removes what they have fetched.

    Parameters
    ----------
    workers : int
        How many.
    limit_mb : int, optional
        Beyond so much memory for all of them the largest is ended; None is no limit of ours.
    """

    def __init__(self, settings: BatchSettings, workers: int, limit_mb: int | None = None) -> None:
        self.settings, self.workers, self.limit_mb = settings, workers, limit_mb
        self._started_workers = 0

    def __enter__(self) -> ProcessPool:
        self._scratch = Path(tempfile.mkdtemp(prefix="strokeseg-batch-"))
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    def get_capacity(self) -> int:
        """How many there may be."""
        return self.workers

    def get_retry_capacity(self) -> int:
        """One: it may have died because the others left it too little memory."""
        return 1

    def start_worker(self) -> ProcessWorker:
        """Start one."""
        self._started_workers += 1
        return ProcessWorker(self.settings, self._scratch / str(self._started_workers))

    def wait_ready(self, workers: list[Any], timeout_s: float) -> list[Any]:
        """Wait until one has answered or is gone; the largest is ended where all use more than they may."""
        pipes = {worker.pipe: worker for worker in workers}
        found = [pipes[pipe] for pipe in connection.wait(list(pipes), timeout_s)]
        self._enforce_memory_limit([worker for worker in workers if worker not in found])
        return found

    def _enforce_memory_limit(self, workers: list[ProcessWorker]) -> None:
        if self.limit_mb is None or not workers:
            return
        sizes = {worker: host_resources.read_resident_memory_mb(worker.process.pid or 0) for worker in workers}
        if sum(sizes.values()) > self.limit_mb:
            max(workers, key=lambda worker: sizes[worker]).process.kill()


def _run_worker(pipe: Connection, settings: BatchSettings, scratch: Path) -> None:
    """Be a worker, until the pipe is closed or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent says what is to be done
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_exit_with_parent, args=(scratch,), daemon=True).start()
    try:
        work.load_model(settings)
    except StrokesegError as error:
        pipe.send(error)
        return
    pipe.send(None)
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(work.segment_study(task, settings, scratch))
        except MemoryError:
            os._exit(_OUT_OF_MEMORY_EXIT_CODE)


def _exit_with_parent(scratch: Path) -> None:
    """Leave nothing that works on, or that was fetched, when the parent was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(1)


@contextmanager
def _temporary_environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables while a process is started that shall have them."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
