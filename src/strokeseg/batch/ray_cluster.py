"""Workers that are actors of a Ray cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from strokeseg.batch import scheduler
from strokeseg.batch import worker as work
from strokeseg.batch.records import BatchSettings, StudyRecord, Task
from strokeseg.errors import StrokesegError, UsageError
from strokeseg.segmentation.engines.cpu_features import count_usable_cores

AUTO, LOCAL = "auto", "local"
_ACTORS_PER_GPU = 4
"""Actors that share a GPU: reading and measuring are the processor's work, and take longer than the network there."""
_SPARE_CORES = 1
"""What is left to Ray itself and to this process: actors on every core of a small machine leave it hanging."""


class RayWorker:
    """A worker: an actor with the network loaded."""

    def __init__(self, ray: Any, settings: BatchSettings, options: dict[str, Any]) -> None:
        self.ray = ray
        self.handle = ray.remote(_WorkerActor).options(**options).remote(settings)
        self.pending = self.handle.ready.remote()

    def assign(self, task: Task) -> None:
        """Hand over a study."""
        self.pending = self.handle.answer.remote(task)

    def receive(self) -> StudyRecord | None:
        """Return the answer, None from an actor that has got ready; see :class:`crew.Worker`."""
        try:
            answer = self.ray.get(self.pending)
        except self.ray.exceptions.RayActorError:
            raise scheduler.WorkerDiedError("was ended, or its machine was lost") from None
        except self.ray.exceptions.RayError as error:
            raise scheduler.WorkerDiedError(f"ended with {type(error).__name__}") from None
        if isinstance(answer, StrokesegError):
            raise answer
        return answer

    def kill(self) -> None:
        """End it at once."""
        self.ray.kill(self.handle)


class _WorkerActor:
    """What runs on the cluster; holds no state but the settings, so an actor that is lost loses one study."""

    def __init__(self, settings: BatchSettings) -> None:
        self.settings = settings

    def load_model(self) -> StrokesegError | None:
        """Load the network; what hinders it is an answer, not a fault of Ray's."""
        try:
            work.load_model(self.settings)
        except StrokesegError as error:
            return error
        return None

    def segment_study(self, task: Task) -> StudyRecord:
        return work.segment_study(task, self.settings)


class RayCluster:
    """A Ray cluster; leaving the block lets go of it, and ends one that was started here.

    Parameters
    ----------
    address : str
        Of a cluster, as "ray://HOST:10001"; "auto" is the one that this machine belongs to, else one of this machine
        alone is started; "local" is always that.
    workers : int, optional
        How many actors; None is as many as the cluster has cores, but one.

    Raises
    ------
    UsageError
        `usage`, on entering: Ray is not installed, or no cluster answers there.
    """

    def __init__(self, settings: BatchSettings, address: str, workers: int | None = None) -> None:
        self.settings, self.address, self.workers = settings, address, workers
        self._started_workers = 0

    def __enter__(self) -> RayCluster:
        try:
            import ray
        except ImportError:
            raise UsageError("Ray is not installed", "pip install 'strokeseg[ray]'") from None
        self.ray: Any = ray
        self._connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.ray.shutdown()

    def get_capacity(self) -> int:
        """How many there may be now: a cluster may grow."""
        if self.workers is not None:
            return self.workers
        return max(1, int(self.ray.cluster_resources().get("CPU", 1)) - _SPARE_CORES)

    def get_retry_capacity(self) -> int:
        """As many as ever: who shares a machine is Ray's choice."""
        return self.get_capacity()

    def start_worker(self) -> RayWorker:
        """Start one; with its share of a GPU, as long as there are any that no actor has asked for."""
        gpus = int(self.ray.cluster_resources().get("GPU", 0))
        options: dict[str, Any] = {"num_cpus": 1, "max_restarts": 0, "max_task_retries": 0}
        if self._started_workers < gpus * _ACTORS_PER_GPU:
            options["num_gpus"] = 1 / _ACTORS_PER_GPU
        self._started_workers += 1
        return RayWorker(self.ray, self.settings, options)

    def wait_ready(self, workers: list[Any], timeout_s: float) -> list[Any]:
        """Wait until one has answered or is gone."""
        answers = {worker.answer: worker for worker in workers}
        found, _ = self.ray.wait(list(answers), num_returns=1, timeout=timeout_s)
        return [answers[answer] for answer in found]

    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report its use to its makers
        common = {
            "logging_level": logging.ERROR,
            "log_to_driver": False,
            "runtime_env": {"env_vars": work.build_thread_environment(self.settings)},
        }
        here: dict[str, Any] = {"num_cpus": count_usable_cores() + _SPARE_CORES, "include_dashboard": False}
        tries: dict[str, list[dict[str, Any]]] = {AUTO: [{"address": AUTO}, here], LOCAL: [{"address": LOCAL, **here}]}
        attempts = tries.get(self.address, [{"address": self.address}])
        start: Callable[..., Any] = self.ray.init
        for attempt in attempts:
            try:
                start(**common, **attempt)
                return
            except (ConnectionError, RuntimeError, ValueError):
                continue
        raise UsageError(f"no Ray cluster answers at {self.address}", "Start one with `ray start --head`, or check it.")
