"""Speed of this processor at the moment, so that time limits of tests mean the same on every machine."""

import time

import numpy as np
from scipy import ndimage

_REFERENCE_S = 0.018
"""Duration of the reference work on an idle core of the machine that the limits were set on, an AMD EPYC (Zen 4)."""


def measure_slowdown():
    """Return how many times longer work takes now than on that machine, at least 1.

    The work resembles that of StrokeSeg: filters and sorts of whole arrays, and plain Python.
    """
    durations = []
    for _ in range(5):
        start = time.process_time()
        _run_reference_work()
        durations.append(time.process_time() - start)
    return max(1.0, min(durations) / _REFERENCE_S)


def _run_reference_work():
    values = np.random.default_rng(0).normal(size=(128, 1024))
    ndimage.gaussian_filter(values, 3)
    np.sort(values, axis=1)
    ndimage.label(values > 1)
    total = 0
    for number in range(200_000):
        total += number & 7
    return total
