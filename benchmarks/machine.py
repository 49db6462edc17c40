"""The machine that a figure was measured on."""

from __future__ import annotations

import platform
from pathlib import Path

from strokeseg.segmentation.engines.cpu_features import count_usable_cores


def describe_machine() -> str:
    """Name the processor and the cores that this process may use."""
    return f"{_read_processor()}, {count_usable_cores()} cores"


def _read_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def measure_worker_mb(mark: str) -> float:
    """Return the memory that this process's workers hold, MB, mean over them.

    Parameters
    ----------
    mark : str
        What a worker's command line holds.
    """
    import psutil

    sizes = []
    for child in psutil.Process().children(recursive=True):
        try:
            if mark in " ".join(child.cmdline()):
                sizes.append(child.memory_info().rss / 2**20)
        except psutil.Error:  # it has just ended
            continue
    return sum(sizes) / len(sizes) if sizes else 0.0
