"""Workers that are actors of a Ray cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from strokeseg.batch import worker
from strokeseg.batch.records import BatchSettings, StudyRecord, Task
from strokeseg.batch.scheduler import WorkerDiedError
from strokeseg.errors import StrokesegError, UsageError
from strokeseg.segmentation.engines.cpu_features import count_usable_cores

AUTO, LOCAL = "auto", "local"
_ACTORS_PER_GPU = 4
"""Actors that share a GPU: reading and measuring run on the CPU and take longer than the network on a GPU."""
_SPARE_CORES = 1
"""Cores left to Ray and to this process: with an actor on every core, Ray hangs on a small machine."""


class RayWorker:
    """A worker that is a Ray actor with a loaded model."""

    def __init__(self, ray: Any, settings: BatchSettings, options: dict[str, Any]) -> None:
        self.ray = ray
        self.handle = ray.remote(_WorkerActor).options(**options).remote(settings)
        self.pending = self.handle.load_model.remote()

    def assign(self, task: Task) -> None:
        """Assign a study to the actor."""
        self.pending = self.handle.segment_study.remote(task)

    def receive(self) -> StudyRecord | None:
        """Receive the record, or None once the model is loaded; see :class:`strokeseg.batch.scheduler.Worker`."""
        try:
            answer = self.ray.get(self.pending)
        except self.ray.exceptions.RayActorError:
            raise WorkerDiedError("was killed, or its machine was lost") from None
        except self.ray.exceptions.RayError as error:
            raise WorkerDiedError(f"ended with {type(error).__name__}") from None
        if isinstance(answer, StrokesegError):
            raise answer
        return answer

    def kill(self) -> None:
        """Kill the actor at once."""
        self.ray.kill(self.handle)


class _WorkerActor:
    """The code that runs on the cluster; it holds no state but the settings, so a lost actor loses one study only."""

    def __init__(self, settings: BatchSettings) -> None:
        self.settings = settings

    def load_model(self) -> StrokesegError | None:
        """Load the model; an error is returned instead of raised, so that Ray does not wrap it."""
        try:
            worker.load_model(self.settings)
        except StrokesegError as error:
            return error
        return None

    def segment_study(self, task: Task) -> StudyRecord:
        return worker.segment_study(task, self.settings)


class RayCluster:
    """A Ray cluster as a worker pool; the end of the block disconnects, and stops a cluster that was started here.

    Parameters
    ----------
    settings : BatchSettings
        Settings of all studies.
    address : str
        Address of a cluster, as "ray://HOST:10001". "auto" is the cluster that this machine belongs to; without one, a
        cluster of this machine alone is started. "local" always starts one on this machine.
    workers : int, optional
        Number of actors; None is one less than the cluster has cores.

    Raises
    ------
    UsageError
        `usage`, on entering: Ray is not installed, or no cluster answers at the address.
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
        """Return how many actors may run now: a cluster may grow."""
        if self.workers is not None:
            return self.workers
        return max(1, int(self.ray.cluster_resources().get("CPU", 1)) - _SPARE_CORES)

    def get_retry_capacity(self) -> int:
        """Return the same number: Ray decides which actors share a machine."""
        return self.get_capacity()

    def start_worker(self) -> RayWorker:
        """Start an actor, with its share of a GPU while any is left."""
        gpus = int(self.ray.cluster_resources().get("GPU", 0))
        options: dict[str, Any] = {"num_cpus": 1, "max_restarts": 0, "max_task_retries": 0}
        if self._started_workers < gpus * _ACTORS_PER_GPU:
            options["num_gpus"] = 1 / _ACTORS_PER_GPU
        self._started_workers += 1
        return RayWorker(self.ray, self.settings, options)

    def wait_ready(self, workers: list[RayWorker], timeout_s: float) -> list[RayWorker]:
        """Wait until at least one actor has answered or is dead, and return those actors."""
        workers_by_answer = {worker.pending: worker for worker in workers}
        ready_answers, _ = self.ray.wait(list(workers_by_answer), num_returns=1, timeout=timeout_s)
        return [workers_by_answer[answer] for answer in ready_answers]

    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would send usage statistics to its makers
        common = {
            "logging_level": logging.ERROR,
            "log_to_driver": False,
            "runtime_env": {"env_vars": worker.build_thread_environment(self.settings)},
        }
        new_cluster: dict[str, Any] = {"num_cpus": count_usable_cores() + _SPARE_CORES, "include_dashboard": False}
        attempts_by_address: dict[str, list[dict[str, Any]]] = {
            AUTO: [{"address": AUTO}, new_cluster],
            LOCAL: [{"address": LOCAL, **new_cluster}],
        }
        attempts = attempts_by_address.get(self.address, [{"address": self.address}])
        connect: Callable[..., Any] = self.ray.init
        for attempt in attempts:
            try:
                connect(**common, **attempt)
                return
            except (ConnectionError, RuntimeError, ValueError):
                continue
        raise UsageError(
            f"no Ray cluster answers at {self.address}", "Start one with `ray start --head`, or check the address."
        )
