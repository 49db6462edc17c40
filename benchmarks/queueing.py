"""Scans that wait for workers: a simulation, and the closed forms that it is held to."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Draw = Callable[[np.random.Generator], float]


def waits_s(per_second: float, service_s: Draw, workers: int, scans: int, seed: int = 0) -> NDArray[np.float64]:
    """Simulate scans that arrive at random (Poisson) and are taken in turn by the workers that are free.

    Parameters
    ----------
    per_second : float
        Arrivals, mean.
    service_s : Draw
        Draws how long a worker has to do with a scan.
    workers : int
        How many scans are answered at once.
    scans : int
        How many arrive; the first tenth, which finds the workers idle, is left out.

    Returns
    -------
    ndarray of float64, shape (scans - scans // 10,)
        Seconds from each scan's arrival to its worker.
    """
    import simpy

    draw = np.random.default_rng(seed)
    world = simpy.Environment()
    desk = simpy.Resource(world, capacity=workers)
    waited = np.zeros(scans)

    def scan(number: int) -> Generator[Any, Any, None]:
        came = world.now
        with desk.request() as turn:
            yield turn
            waited[number] = world.now - came
            yield world.timeout(service_s(draw))

    def arrivals() -> Generator[Any, Any, None]:
        for number in range(scans):
            yield world.timeout(draw.exponential(1 / per_second))
            world.process(scan(number))

    world.process(arrivals())
    world.run()
    return waited[scans // 10 :]


def workers_needed(per_second: float, service_s: Draw, mean_s: float, limit_s: float, scans: int = 20_000) -> int:
    """Find the fewest workers with which 95 of 100 scans wait no longer than a limit.

    Parameters
    ----------
    mean_s : float
        Of ``service_s``: fewer workers than arrivals times this never catch up.
    """
    workers = max(1, math.floor(per_second * mean_s) + 1)
    while np.quantile(waits_s(per_second, service_s, workers, scans), 0.95) > limit_s:
        workers += 1
    return workers


def mean_wait_mmc_s(per_second: float, mean_s: float, workers: int) -> float:
    """Return the mean wait of M/M/c: service times exponential (Erlang 1917, formula C)."""
    load = per_second * mean_s
    below = sum(load**k / math.factorial(k) for k in range(workers))
    last = load**workers / math.factorial(workers) * workers / (workers - load)
    return last / (below + last) * mean_s / (workers - load)


def mean_wait_md1_s(per_second: float, service_s: float) -> float:
    """Return the mean wait of M/D/1: one worker, every scan takes the same (Pollaczek 1930, Khinchine 1932)."""
    load = per_second * service_s
    return load * service_s / (2 * (1 - load))
