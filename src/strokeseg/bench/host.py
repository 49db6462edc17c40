"""The machine that a figure was measured on."""

from __future__ import annotations

import platform
from pathlib import Path

from strokeseg.infer.engine import usable_cores


def described() -> str:
    """Name the processor and the cores that this process may use."""
    return f"{_processor()}, {usable_cores()} cores"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def worker_mb(mark: str) -> float:
    """Give the memory that this process's workers hold, MB, mean over them.

    Parameters
    ----------
    mark : what a worker's command line holds
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
