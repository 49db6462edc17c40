"""Description and memory of the machine that runs a benchmark."""

from __future__ import annotations

import platform
from pathlib import Path

from strokeseg.segmentation.engines.cpu_features import count_usable_cores


def describe_machine() -> str:
    """Return the processor and the number of cores that this process may use."""
    return f"{_read_processor()}, {count_usable_cores()} cores"


def _read_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def measure_worker_mb(command_part: str) -> float:
    """Measure the mean memory of this process's workers.

    Parameters
    ----------
    command_part : str
        Part of a worker's command line.

    Returns
    -------
    float
        MB; 0 without workers.
    """
    import psutil

    sizes = []
    for process in psutil.Process().children(recursive=True):
        try:
            if command_part in " ".join(process.cmdline()):
                sizes.append(process.memory_info().rss / 2**20)
        except psutil.Error:  # the process has just ended
            continue
    return sum(sizes) / len(sizes) if sizes else 0.0
