"""Workers that are processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import connection
from multiprocessing.connection import Connection
from pathlib import Path

from strokeseg.batch import host_resources, temporary_folders, worker
from strokeseg.batch.records import BatchSettings, StudyRecord, Task
from strokeseg.batch.scheduler import WorkerDiedError
from strokeseg.errors import StrokesegError

_OUT_OF_MEMORY_EXIT_CODE = 137  # as a shell reports a process that the system killed
_EXIT_TIMEOUT_S = 2.0


class ProcessWorker:
    """A worker that is a process with a loaded model, connected by a pipe."""

    def __init__(self, settings: BatchSettings, scratch: Path) -> None:
        self.scratch = scratch
        scratch.mkdir()
        # "spawn": a fork would copy the locks of threads, and some systems have none.
        context = multiprocessing.get_context("spawn")
        self.pipe, child_pipe = context.Pipe()
        self.process = context.Process(target=_run_worker, args=(child_pipe, settings, scratch), daemon=True)
        with _temporary_environment(worker.build_thread_environment(settings)):
            self.process.start()
        child_pipe.close()  # now the pipe breaks when the process ends

    def assign(self, task: Task) -> None:
        """Assign a study to the process; if it is dead, :meth:`receive` reports that."""
        try:
            self.pipe.send(task)
        except OSError:
            return

    def receive(self) -> StudyRecord | None:
        """Receive the record, or None once the model is loaded; see :class:`strokeseg.batch.scheduler.Worker`."""
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(_EXIT_TIMEOUT_S)
            raise WorkerDiedError(self._describe_exit()) from None
        if isinstance(answer, StrokesegError):
            raise answer
        return answer

    def kill(self) -> None:
        """Kill the process at once and remove the files that it has fetched."""
        self.process.kill()
        self.process.join(_EXIT_TIMEOUT_S)
        self.pipe.close()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _describe_exit(self) -> str:
        code = self.process.exitcode
        if code in (-signal.SIGKILL, _OUT_OF_MEMORY_EXIT_CODE):
            return "was killed by the system, as happens when memory runs out"
        return f"ended by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"


class ProcessPool:
    """Processes of this machine as a worker pool; the end of the block removes the files that they have fetched.

    Parameters
    ----------
    settings : BatchSettings
        Settings of all studies.
    workers : int
        Number of processes.
    limit_mb : int, optional
        Memory limit in MB for all processes together; above it the largest is killed. None is no limit.
    """

    def __init__(self, settings: BatchSettings, workers: int, limit_mb: int | None = None) -> None:
        self.settings, self.workers, self.limit_mb = settings, workers, limit_mb
        self._started_workers = 0

    def __enter__(self) -> ProcessPool:
        self._exit_stack = ExitStack()
        self._scratch = self._exit_stack.enter_context(temporary_folders.provide_folder())
        return self

    def __exit__(self, *_: object) -> None:
        self._exit_stack.close()

    def get_capacity(self) -> int:
        """Return how many processes may run."""
        return self.workers

    def get_retry_capacity(self) -> int:
        """Return 1: a worker may have died because the others left it too little memory."""
        return 1

    def start_worker(self) -> ProcessWorker:
        """Start a process."""
        self._started_workers += 1
        return ProcessWorker(self.settings, self._scratch / str(self._started_workers))

    def wait_ready(self, workers: list[ProcessWorker], timeout_s: float) -> list[ProcessWorker]:
        """Wait until at least one process has answered or is dead; enforce the memory limit on the others."""
        workers_by_pipe: dict[object, ProcessWorker] = {worker.pipe: worker for worker in workers}
        ready = [workers_by_pipe[pipe] for pipe in connection.wait([worker.pipe for worker in workers], timeout_s)]
        self._enforce_memory_limit([worker for worker in workers if worker not in ready])
        return ready

    def _enforce_memory_limit(self, workers: list[ProcessWorker]) -> None:
        if self.limit_mb is None or not workers:
            return
        sizes = {worker: host_resources.read_resident_memory_mb(worker.process.pid or 0) for worker in workers}
        if sum(sizes.values()) > self.limit_mb:
            max(workers, key=lambda worker: sizes[worker]).process.kill()


def _run_worker(pipe: Connection, settings: BatchSettings, scratch: Path) -> None:
    """Segment studies from the pipe until it is closed or the parent process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides what happens
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_exit_with_parent, args=(scratch,), daemon=True).start()
    try:
        worker.load_model(settings)
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
            pipe.send(worker.segment_study(task, settings, scratch))
        except MemoryError:
            os._exit(_OUT_OF_MEMORY_EXIT_CODE)


def _exit_with_parent(scratch: Path) -> None:
    """Remove the fetched files and exit when the parent process was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(1)


@contextmanager
def _temporary_environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a process that is started in the block."""
    previous = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
