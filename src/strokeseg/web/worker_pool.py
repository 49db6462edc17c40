"""Worker processes that run the steps of studies: a decoder that crashes ends one of them, never the server."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import queue
import resource
import signal
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from strokeseg.errors import StrokesegError, TooLarge, describe_fault, is_out_of_memory
from strokeseg.web import json_log

_POLL_S = 0.3  # interval at which a waiting parent checks whether the study was cancelled
_spawn = multiprocessing.get_context("spawn")


class WorkerDied(StrokesegError):  # noqa: N818 - named for what is wrong, as in errors.py
    """The worker process ended by itself, or a step took too long. A second try may succeed."""

    code = "worker-died"
    default_remedy = "Try again; start the server with a larger --memory if it happens again."


class StepCancelled(Exception):  # noqa: N818
    """The study was cancelled or deleted while a step was running."""


class WorkInterrupted(BaseException):
    """The process ends, and the step with it; the step runs again in another process or at the next start.

    Not an Exception: DBOS stores those as the outcome of a step or workflow, and this one must leave both unfinished.
    """


@dataclass(frozen=True)
class _Task:
    """A step to run, and how to supervise it; see :meth:`WorkerPool.run`."""

    step: Callable[..., Any]
    arguments: tuple[Any, ...]
    progress: Callable[[int, int], None]
    is_cancelled: Callable[[], bool]
    timeout_s: float
    progress_timeout_s: float | None

    def check(self, started: float, last_message: float) -> None:
        """Raise StepCancelled or WorkerDied if the step must be stopped."""
        now, name = time.monotonic(), self.step.__name__
        if self.is_cancelled():
            raise StepCancelled
        if now - started > self.timeout_s:
            raise WorkerDied(f"the step {name!r} took longer than {self.timeout_s:.0f} s", "Try again later.")
        if self.progress_timeout_s is not None and now - last_message > self.progress_timeout_s:
            raise WorkerDied(
                f"the step {name!r} made no progress for {self.progress_timeout_s:.0f} s", "Try again later."
            )


class WorkerPool:
    """A number of worker processes, each of which runs one step at a time.

    Parameters
    ----------
    count : int
        Number of processes.
    memory_bytes : int
        Data memory that each may use.
    model : str
        The model that each loads at its start.
    """

    def __init__(self, count: int, memory_bytes: int, model: str = "default") -> None:
        self._idle: queue.Queue[_WorkerProcess] = queue.Queue()
        self._workers = [_WorkerProcess(memory_bytes, model) for _ in range(count)]
        for worker in self._workers:
            worker.start()
            self._idle.put(worker)

    def run(
        self,
        step: Callable[..., Any],
        *arguments: Any,
        progress: Callable[[int, int], None] = lambda done, total: None,
        is_cancelled: Callable[[], bool] = lambda: False,
        timeout_s: float = 3600.0,
        progress_timeout_s: float | None = None,
    ) -> Any:
        """Run a function of :mod:`strokeseg.web.worker` in a worker process, and wait for it.

        Parameters
        ----------
        step : callable
            The function.
        *arguments : object
            Its arguments without the last one, which reports progress.
        progress : callable
            Is called with the progress that the function reports.
        is_cancelled : callable
            Is called regularly; the worker process is killed if it returns True.
        timeout_s : float
            Maximum duration.
        progress_timeout_s : float or None
            Maximum time between two reports of progress; None is no limit.

        Returns
        -------
        object
            What the function returns.

        Raises
        ------
        StrokesegError, OSError
            As the function raises them.
        WorkerDied
            `worker-died`, if the process ended by itself, or took too long.
        StepCancelled
            If ``is_cancelled`` returned True.
        WorkInterrupted
            If :meth:`close` was called.
        """
        task = _Task(step, arguments, progress, is_cancelled, timeout_s, progress_timeout_s)
        worker = self._idle.get()
        try:
            return worker.run(task)
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """Kill all worker processes; their steps raise WorkInterrupted, and so does each later one."""
        for worker in self._workers:
            worker.close()


class _WorkerProcess:
    def __init__(self, memory_bytes: int, model: str) -> None:
        self._memory_bytes, self._model = memory_bytes, model
        self._process: Any = None
        self._pipe: Connection | None = None
        self._closed = threading.Event()

    def start(self) -> None:
        self._pipe, remote_end = _spawn.Pipe()
        process = _spawn.Process(
            target=_run_steps, args=(remote_end, self._memory_bytes, self._model), daemon=True, name="strokeseg-step"
        )
        process.start()
        self._process = process  # only now, so that close() never kills one that is not started
        remote_end.close()

    def close(self) -> None:
        """Kill the process for good; the pipe belongs to the thread in :meth:`run`, which receives its end."""
        self._closed.set()
        _kill(self._process)

    def run(self, task: _Task) -> Any:
        try:
            return self._run(task)
        except Exception:
            if self._closed.is_set():  # whatever the step raised: its process was killed
                raise WorkInterrupted from None
            raise

    def _run(self, task: _Task) -> Any:
        if self._closed.is_set():
            raise WorkInterrupted
        if self._process is None or not self._process.is_alive():
            self._discard()
            self.start()
            if self._closed.is_set():  # in the meantime: close() did not see the new process
                self._discard()
                raise WorkInterrupted
        assert self._pipe is not None
        try:
            kind, value = self._exchange(self._pipe, task)
        except (EOFError, ConnectionError):
            self._discard()
            raise WorkerDied(
                f"the process that ran the step {task.step.__name__!r} ended by itself",
                "If it happens again, a file of this study crashes a decoder: convert it with another program.",
            ) from None
        except BaseException:
            self._discard()  # it is still running, and its result would be taken for that of the next step
            raise
        if kind == "error":
            raise value
        return value

    def _discard(self) -> None:
        """Kill the process and close its pipe; the next step starts another process."""
        _kill(self._process)
        self._process = None
        if self._pipe is not None:
            self._pipe.close()

    @staticmethod
    def _exchange(pipe: Connection, task: _Task) -> tuple[str, Any]:
        """Send a step and wait; return "done" and its result, or "error" and its exception."""
        started = time.monotonic()
        last_message, next_check = started, started + _POLL_S
        pipe.send((task.step, task.arguments))
        while True:
            if pipe.poll(_POLL_S):
                kind, value = pipe.recv()
                last_message = time.monotonic()
                if kind != "progress":
                    return kind, value
                task.progress(*value)
            if time.monotonic() >= next_check:
                next_check = time.monotonic() + _POLL_S
                task.check(started, last_message)


def _kill(process: Any) -> None:
    if process is not None:
        process.kill()
        process.join(10)


def _run_steps(pipe: Connection, memory_bytes: int, model: str) -> None:
    """Run steps until the parent process has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.nice(2)  # answering requests has priority
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    threading.Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()
    _silence_values()
    try:
        _run_received_steps(pipe, model)
    except Exception as error:
        logging.getLogger("strokeseg.serve").error("a worker process: %s", describe_fault(error))
        os._exit(1)  # multiprocessing would print the traceback


def _silence_values() -> None:
    """Log as the server does, and no warning of another package, which may quote a patient's values."""
    json_log.configure()
    logging.lastResort = None
    warnings.simplefilter("ignore", append=True)


def _run_received_steps(pipe: Connection, model: str) -> None:
    from strokeseg.web import worker

    with contextlib.suppress(Exception):
        worker.preload(model)
    while True:
        try:
            step, arguments = pipe.recv()
        except (EOFError, OSError):
            return
        with contextlib.suppress(BrokenPipeError):
            pipe.send(_call_step(step, arguments, lambda done, total: pipe.send(("progress", (done, total)))))


def _call_step(step: Callable[..., Any], arguments: tuple[Any, ...], report: Callable[[int, int], None]) -> Any:
    try:
        return "done", step(*arguments, report)
    except StrokesegError as error:
        return "error", error
    except Exception as error:
        return "error", _translate(error)


def _translate(error: Exception) -> Exception:
    """Return the error to report for one that a step raised, without the names of files and without values."""
    if is_out_of_memory(error):
        message = "this study needs more memory than a worker process may use"
        return TooLarge(message, "Send a single series, or start the worker with a larger --memory.")
    if isinstance(error, OSError):
        return OSError(error.errno, error.strerror)
    return StrokesegError(describe_fault(error), "Report it.")


def _exit_with_parent(parent: int) -> None:
    """End this process as soon as its parent has ended, even in the middle of a step."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
