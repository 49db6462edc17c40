"""How quick this processor is just now, so that a bound on seconds means the same on every machine."""

import time

import numpy as np
from scipy import ndimage

_REFERENCE_S = 0.018
"""What :func:`_work` takes on an idle core of the machine on which the tests' bounds were set, an AMD EPYC (Zen 4)."""


def measure_slowdown():
    """How many times longer work takes here and now than on that machine; never below 1.

    The same kinds of work as ours: filters and sorts of whole arrays, and plain Python.
    """
    took = []
    for _ in range(5):
        start = time.process_time()
        _run_reference_work()
        took.append(time.process_time() - start)
    return max(1.0, min(took) / _REFERENCE_S)


def _run_reference_work():
    values = np.random.default_rng(0).normal(size=(128, 1024))
    ndimage.gaussian_filter(values, 3)
    np.sort(values, axis=1)
    ndimage.label(values > 1)
    total = 0
    for number in range(200_000):
        total += number & 7
    return total
