"""Checks of an archive's members before they are read: number, size and names."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from strokeseg.errors import TooLarge, UnreadableFile, UnsafeArchive
from strokeseg.reading import limits

_ALWAYS_ALLOWED_BYTES = 100 * 2**20  # below this size the ratio is not checked: pixels of air compress well


def check_count(path: Path, count: int) -> None:
    """Raise TooLarge (`too-large`) above 20,000 files."""
    if count > limits.MAX_FILES:
        raise TooLarge(f"{path.name}: {count:,} files or more; at most {limits.MAX_FILES:,} are read")


def check_unpacked_bytes(path: Path, unpacked: int) -> None:
    """Raise TooLarge (`too-large`) above 4 GiB, UnsafeArchive (`unsafe-archive`) above 200 times the archive's size."""
    if unpacked > limits.MAX_UNPACKED_BYTES:
        message = f"{path.name}: unpacks to {unpacked / 2**30:.1f} GiB"
        raise TooLarge(f"{message}; at most {limits.MAX_UNPACKED_BYTES // 2**30} GiB are read")
    ratio = limits.MAX_COMPRESSION_RATIO
    if unpacked > _ALWAYS_ALLOWED_BYTES and unpacked > ratio * max(1, path.stat().st_size):
        raise UnsafeArchive(f"{path.name}: unpacks to more than {ratio} times its size")


def check_name(path: Path, name: str) -> None:
    """Raise UnreadableFile (`unreadable`) for an invalid name, UnsafeArchive for one that points out of the archive."""
    # A wrong length can make a name swallow a file, which may hold the patient's name: such a name is not quoted.
    if any(ord(letter) < 32 for letter in name):
        raise UnreadableFile(f"{path.name}: the archive is damaged: invalid member name", "Create the archive again.")
    member_path = PurePosixPath(name.replace("\\", "/"))
    if member_path.is_absolute() or ".." in member_path.parts or re.match("[A-Za-z]:", name):
        raise UnsafeArchive(f"{path.name}: the member {name!r} points out of the archive")
