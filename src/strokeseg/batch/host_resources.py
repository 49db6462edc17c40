"""What this machine has for a batch: memory, and how many workers fit."""

from __future__ import annotations

import os
from pathlib import Path

from strokeseg.errors import UsageError
from strokeseg.segmentation.engines.cpu_features import count_usable_cores

WORKER_MEMORY_MB = 900
"""What one worker may need: 600 slices of 512 x 512 are under 1.5 GB, the usual 40 under 600 MB."""
_CGROUP_FILES = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


def choose_worker_count(asked: int | None, limit_mb: int | None) -> int:
    """Choose how many workers: a core and :data:`WORKER_MB` each, at least one.

    Parameters
    ----------
    asked : int or None
        The user's number, which is taken as it is.
    limit_mb : int or None
        What all of them may use; None is what is free.

    Raises
    ------
    UsageError
        `usage`, for fewer than 1 worker, or a limit in which none fits.
    """
    if asked is not None and asked < 1:
        raise UsageError(f"{asked} workers", "Give 1 or more.")
    if limit_mb is not None and limit_mb < WORKER_MEMORY_MB:
        raise UsageError(
            f"a limit of {limit_mb} MB is too small for one worker", f"Give {WORKER_MEMORY_MB} MB or more."
        )
    if asked is not None:
        return asked
    memory_mb = limit_mb if limit_mb is not None else read_available_memory_mb()
    fitting = count_usable_cores() if memory_mb is None else min(count_usable_cores(), memory_mb // WORKER_MEMORY_MB)
    return max(1, fitting)


def read_available_memory_mb() -> int | None:
    """Return the memory that is free to this process, MB; None where the system does not say."""
    known = [each for each in (_read_available_system_bytes(), _read_available_cgroup_bytes()) if each is not None]
    return min(known) // 2**20 if known else None


def read_resident_memory_mb(pid: int) -> int:
    """Return the memory that a process holds, MB; 0 where the system does not say."""
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
    try:  # macOS: all of it, half of which is taken as free
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (OSError, ValueError, AttributeError):
        return None


def _read_available_cgroup_bytes() -> int | None:
    """Return what a container's limit leaves."""
    for limit, used in _CGROUP_FILES:
        try:
            root = Path("/sys/fs/cgroup")
            return max(0, int((root / limit).read_text()) - int((root / used).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return None
