"""What this machine can do, as far as it decides which engine is the quickest."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

# As Linux spells them in /proc/cpuinfo; the first group multiplies 8-bit integers, the second 16-bit floats.
INT8_FLAGS = ("avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")
BF16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")
_OTHER_FLAGS = ("avx2", "avx512f", "asimd")


@dataclass(frozen=True)
class Hardware:
    """What a processor, and a card beside it, can do.

    Parameters
    ----------
    processor : str
        Its name, or its kind where the system tells no name.
    cores : int
        That this process may use.
    flags : tuple of str, default: ()
        Of the instruction sets that matter here, those that it has.
    nvidia : object
        Whether a card by NVIDIA and its driver are there.
    """

    processor: str
    cores: int
    flags: tuple[str, ...] = ()
    nvidia_gpu: bool = False

    @property
    def int8_instructions(self) -> str | None:
        """The instructions that multiply 8-bit integers quickly, or None."""
        return next((flag for flag in INT8_FLAGS if flag in self.flags), None)

    @property
    def bf16_instructions(self) -> str | None:
        """The instructions that multiply 16-bit floats quickly, or None."""
        return next((flag for flag in BF16_FLAGS if flag in self.flags), None)


def count_usable_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=1)
def detect_hardware() -> Hardware:
    """Look at this machine."""
    listed = Path("/proc/cpuinfo")
    name, flags = parse_cpuinfo(listed.read_text(errors="replace")) if listed.is_file() else ("", _read_numpy_flags())
    return Hardware(name or platform.processor() or platform.machine(), count_usable_cores(), flags, _has_nvidia_gpu())


def parse_cpuinfo(text: str) -> tuple[str, tuple[str, ...]]:
    """Read a processor's name and those of its flags that matter here from the text of /proc/cpuinfo."""
    entries: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        entries.setdefault(key.strip().lower(), value.strip())
    has = f"{entries.get('flags', '')} {entries.get('features', '')}".split()
    wanted = (*_OTHER_FLAGS, *INT8_FLAGS, *BF16_FLAGS)
    return entries.get("model name", ""), tuple(flag for flag in wanted if flag in has)


def _read_numpy_flags() -> tuple[str, ...]:
    """Ask NumPy where there is no /proc/cpuinfo; it knows the vector sets, not the matrix units."""
    try:
        found = importlib.import_module("numpy._core._multiarray_umath").__cpu_features__
    except (ImportError, AttributeError):
        return ()  # a private place of NumPy's
    names = {"AVX2": "avx2", "AVX512F": "avx512f", "AVX512VNNI": "avx512_vnni", "ASIMD": "asimd", "ASIMDDP": "asimddp"}
    return tuple(flag for name, flag in names.items() if found.get(name))


def _has_nvidia_gpu() -> bool:
    if sys.platform == "win32":
        return Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "nvcuda.dll").is_file()
    cards = Path("/proc/driver/nvidia/gpus")
    return cards.is_dir() and any(cards.iterdir())


def usable_memory_bytes() -> int | None:
    """Return the memory that this process may use: the machine's, or less where a container's bound is lower."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    bound = Path("/sys/fs/cgroup/memory.max")
    text = bound.read_text().strip() if bound.is_file() else "max"
    return min(whole, int(text)) if text.isdigit() else whole
