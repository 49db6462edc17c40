"""Properties of this machine that decide which engine is fastest: processor instructions, cores, memory, GPU."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

# Spelled as in /proc/cpuinfo on Linux: instructions for 8-bit integers, and for 16-bit floats.
INT8_FLAGS = ("avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")
BF16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")
_OTHER_FLAGS = ("avx2", "avx512f", "asimd")


@dataclass(frozen=True)
class Hardware:
    """The processor and GPU of this machine.

    Attributes
    ----------
    processor : str
        Name of the processor, or its architecture if the system does not report a name.
    cores : int
        Number of cores that this process may use.
    flags : tuple of str, default: ()
        The processor's instruction sets that affect the selection of an engine.
    nvidia_gpu : bool, default: False
        Whether an NVIDIA GPU and its driver are present.
    """

    processor: str
    cores: int
    flags: tuple[str, ...] = ()
    nvidia_gpu: bool = False

    @property
    def int8_instructions(self) -> str | None:
        """Instruction set for 8-bit integer multiplication, or None."""
        return next((flag for flag in INT8_FLAGS if flag in self.flags), None)

    @property
    def bf16_instructions(self) -> str | None:
        """Instruction set for 16-bit float multiplication, or None."""
        return next((flag for flag in BF16_FLAGS if flag in self.flags), None)


def count_usable_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=1)
def detect_hardware() -> Hardware:
    """Detect the processor, cores and GPU of this machine."""
    cpuinfo = Path("/proc/cpuinfo")
    name, flags = parse_cpuinfo(cpuinfo.read_text(errors="replace")) if cpuinfo.is_file() else ("", _read_numpy_flags())
    return Hardware(name or platform.processor() or platform.machine(), count_usable_cores(), flags, _has_nvidia_gpu())


def parse_cpuinfo(text: str) -> tuple[str, tuple[str, ...]]:
    """Read the processor's name and relevant instruction sets from the text of /proc/cpuinfo.

    Parameters
    ----------
    text : str
        Contents of /proc/cpuinfo.

    Returns
    -------
    tuple of (str, tuple of str)
        Name of the processor, empty if not reported, and its instruction sets.
    """
    entries: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        entries.setdefault(key.strip().lower(), value.strip())
    flags = f"{entries.get('flags', '')} {entries.get('features', '')}".split()
    relevant = (*_OTHER_FLAGS, *INT8_FLAGS, *BF16_FLAGS)
    return entries.get("model name", ""), tuple(flag for flag in relevant if flag in flags)


def _read_numpy_flags() -> tuple[str, ...]:
    """Read the instruction sets from NumPy, which does not report matrix units, on systems without /proc/cpuinfo."""
    try:
        features = importlib.import_module("numpy._core._multiarray_umath").__cpu_features__
    except (ImportError, AttributeError):
        return ()  # a private attribute of NumPy
    names = {"AVX2": "avx2", "AVX512F": "avx512f", "AVX512VNNI": "avx512_vnni", "ASIMD": "asimd", "ASIMDDP": "asimddp"}
    return tuple(flag for name, flag in names.items() if features.get(name))


def _has_nvidia_gpu() -> bool:
    if sys.platform == "win32":
        return Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "nvcuda.dll").is_file()
    gpus = Path("/proc/driver/nvidia/gpus")
    return gpus.is_dir() and any(gpus.iterdir())


def usable_memory_bytes() -> int | None:
    """Return the memory that this process may use: the machine's, or a lower limit set by a container."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(total, int(text)) if text.isdigit() else total
