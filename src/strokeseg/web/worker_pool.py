"""Child processes that do the work: a decoder that crashes ends one of them, and never the server."""

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
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from strokeseg.errors import StrokesegError, TooLarge

log = logging.getLogger("strokeseg.web")
_POLL_S = 0.3  # how often a waiting parent looks whether the study was cancelled
_PROGRESS_TIMEOUT_S = 60.0  # a child that answers slices and says nothing for so long hangs
_spawn = multiprocessing.get_context("spawn")


class WorkerDied(StrokesegError):  # noqa: N818 - named for what is wrong, as in errors.py
    """The child process ended by itself, or a step took too long. May pass when tried again."""

    code = "worker-died"
    default_remedy = "Try again; give the worker more memory where it dies again."


class StepCancelled(Exception):  # noqa: N818
    """The study was cancelled or deleted while a step of it ran."""


class WorkerPool:
    """Some child processes, each of which does one step at a time.

    Parameters
    ----------
    count : int
        How many.
    memory_bytes : int
        What each may use for data.
    model : str, default: "default"
        Is loaded by each at its start.
    """

    def __init__(self, count: int, memory_bytes: int, model: str = "default") -> None:
        self._free: queue.Queue[_WorkerProcess] = queue.Queue()
        self._all = [_WorkerProcess(memory_bytes, model) for _ in range(count)]
        for child in self._all:
            child.start()
            self._free.put(child)

    def run(
        self,
        step: str,
        *arguments: Any,
        progress: Callable[[int, int], None] = lambda done, total: None,
        is_cancelled: Callable[[], bool] = lambda: False,
        timeout_s: float = 3600.0,
    ) -> Any:
        """Have a child do a function of :mod:`strokeseg.web.worker`, and wait.

        Parameters
        ----------
        step : str
            The function's name.
        arguments : object
            Its own, without the last one.
        progress : callable, default: lambda done, total: None
            Is called with what the child reports.
        stopped : object
            Is asked now and then; True ends the child.

        Raises
        ------
        StrokesegError, OSError
            As the function raises them.
        Crashed
            If the child ended by itself, or took too long.
        Stopped
            If ``stopped`` said so.
        """
        child = self._free.get()
        try:
            return child.run(step, arguments, progress, is_cancelled, timeout_s)
        finally:
            self._free.put(child)

    def close(self) -> None:
        """End all children."""
        for child in self._all:
            child.kill()


class _WorkerProcess:
    def __init__(self, memory_bytes: int, model: str) -> None:
        self._memory, self._model = memory_bytes, model
        self._process: Any = None
        self._pipe: Connection | None = None
        self._closed = False

    def start(self) -> None:
        self._pipe, far = _spawn.Pipe()
        self._process = _spawn.Process(
            target=_run_steps, args=(far, self._memory, self._model), daemon=True, name="strokeseg-step"
        )
        self._process.start()
        far.close()

    def kill(self, close: bool = True) -> None:
        self._closed = self._closed or close
        if self._process is not None:
            self._process.kill()
            self._process.join(10)
            self._process = None
        if self._pipe is not None:
            self._pipe.close()

    def run(
        self,
        step: str,
        arguments: tuple[Any, ...],
        progress: Callable[[int, int], None],
        stopped: Callable[[], bool],
        timeout_s: float,
    ) -> Any:
        if self._closed:
            raise StepCancelled
        if self._process is None or not self._process.is_alive():
            self.kill(close=False)
            self.start()
        assert self._pipe is not None
        try:
            kind, value = self._exchange(self._pipe, (step, arguments), progress, stopped, timeout_s)
        except (EOFError, ConnectionError):
            self.kill(close=False)
            raise WorkerDied(
                f"the process that did the step {step!r} ended by itself",
                "If it does so again, a file of this study makes a decoder fail: convert it with another program.",
            ) from None
        except BaseException:
            self.kill(close=False)  # it is still at work, and its answer would be taken for that of the next step
            raise
        if kind == "error":
            raise value
        return value

    @staticmethod
    def _exchange(
        pipe: Connection,
        task: tuple[str, tuple[Any, ...]],
        progress: Callable[[int, int], None],
        stopped: Callable[[], bool],
        timeout_s: float,
    ) -> tuple[str, Any]:
        """Hand a step over and wait: gives "done" and what it gave, or "error" and the exception."""
        step, begun = task[0], time.monotonic()
        heard, look = begun, begun + _POLL_S
        pipe.send(task)
        while True:
            if pipe.poll(_POLL_S):
                kind, value = pipe.recv()
                heard = time.monotonic()
                if kind != "progress":
                    return kind, value
                progress(*value)
            now = time.monotonic()
            if now < look:
                continue
            look = now + _POLL_S
            if stopped():
                raise StepCancelled
            if now - begun > timeout_s:
                raise WorkerDied(f"the step {step!r} took longer than {timeout_s:.0f} s", "Try again later.")
            if step == "segment" and now - heard > _PROGRESS_TIMEOUT_S:
                raise WorkerDied(
                    f"the step {step!r} answered no slice for {_PROGRESS_TIMEOUT_S:.0f} s", "Try again later."
                )


def _run_steps(pipe: Connection, memory_bytes: int, model: str) -> None:
    """Do steps until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.nice(2)  # answering requests comes first
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    threading.Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()
    from strokeseg.web import worker

    with contextlib.suppress(Exception):
        worker.preload(model, lambda done, total: None)
    while True:
        try:
            step, arguments = pipe.recv()
        except (EOFError, OSError):
            return
        with contextlib.suppress(BrokenPipeError):
            pipe.send(
                _call_step(getattr(worker, step), arguments, lambda done, total: pipe.send(("progress", (done, total))))
            )


def _call_step(function: Callable[..., Any], arguments: tuple[Any, ...], report: Callable[[int, int], None]) -> Any:
    try:
        return "done", function(*arguments, report)
    except StrokesegError as error:
        return "error", error
    except MemoryError:
        said = "this study needs more memory than a worker may use"
        return "error", TooLarge(said, "Send one series alone, or start the worker with a larger --memory.")
    except OSError as error:
        return "error", OSError(error.errno, error.strerror)  # without the file's name
    except Exception as error:
        # The exception's own words may hold a patient's data.
        trace, place = error.__traceback__, ""
        while trace:
            place, trace = f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}", trace.tb_next
        return "error", StrokesegError(f"a fault of StrokeSeg: {type(error).__name__} in {place}", "Report it.")


def _exit_with_parent(parent: int) -> None:
    """End this process when its parent is gone, in the middle of a step too."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
