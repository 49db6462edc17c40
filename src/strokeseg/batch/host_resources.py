"""Memory of this machine, and the number of workers that fit into it."""

from __future__ import annotations

import os
from pathlib import Path

from strokeseg.errors import UsageError
from strokeseg.segmentation.engines.cpu_features import count_usable_cores

WORKER_MEMORY_MB = 900
"""Memory that one worker may need: 600 slices of 512 x 512 take under 1.5 GB, the usual 40 under 600 MB."""
_CGROUP_FILES = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


def choose_worker_count(requested: int | None, limit_mb: int | None) -> int:
    """Choose the number of workers: one core and :data:`WORKER_MEMORY_MB` each, at least one.

    Parameters
    ----------
    requested : int or None
        The user's number, which is used unchanged; None chooses one.
    limit_mb : int or None
        Memory limit in MB for all workers together; None is the free memory.

    Returns
    -------
    int
        Number of workers.

    Raises
    ------
    UsageError
        `usage`, if fewer than 1 worker is requested, or the limit is too small for one worker.
    """
    if requested is not None and requested < 1:
        raise UsageError(f"invalid number of workers: {requested}", "Give 1 or more.")
    if limit_mb is not None and limit_mb < WORKER_MEMORY_MB:
        raise UsageError(
            f"a limit of {limit_mb} MB is too small for one worker", f"Give {WORKER_MEMORY_MB} MB or more."
        )
    if requested is not None:
        return requested
    memory_mb = limit_mb if limit_mb is not None else read_available_memory_mb()
    fitting = count_usable_cores() if memory_mb is None else min(count_usable_cores(), memory_mb // WORKER_MEMORY_MB)
    return max(1, fitting)


def read_available_memory_mb() -> int | None:
    """Return the memory in MB that is free to this process; None if the system does not report it."""
    sizes = [size for size in (_read_available_system_bytes(), _read_available_cgroup_bytes()) if size is not None]
    return min(sizes) // 2**20 if sizes else None


def read_resident_memory_mb(pid: int) -> int:
    """Return the resident memory of a process in MB; 0 if the system does not report it."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


def _read_available_system_bytes() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        pass
    try:  # macOS reports only the total; half of it is assumed to be free
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (OSError, ValueError, AttributeError):
        return None


def _read_available_cgroup_bytes() -> int | None:
    """Return how much memory the limit of a container leaves."""
    for limit, used in _CGROUP_FILES:
        try:
            root = Path("/sys/fs/cgroup")
            return max(0, int((root / limit).read_text()) - int((root / used).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return None
