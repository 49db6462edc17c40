"""Limits on what is read: number of files, bytes, pixels and voxels."""

from __future__ import annotations

from strokeseg.errors import TooLarge

MAX_FILES = 20_000
MAX_UNPACKED_BYTES = 4 * 2**30
"""Of all members of an archive together."""
MAX_COMPRESSION_RATIO = 200
MAX_SLICE_PIXELS = 4096 * 4096
MAX_VOXELS = 2**30
MAX_VOLUME_BYTES = 2**31
"""Of a volume's file, and of its voxels in the file's own type: 2**30 voxels of 16 bits, or 2**28 of 64 bits."""
MAX_PICTURE_BYTES = 2**30


def check_size(size: int, max_bytes: int, name: str) -> None:
    """Raise TooLarge (`too-large`) if ``size`` exceeds ``max_bytes``."""
    if size > max_bytes:
        raise TooLarge(f"{name}: {size:,} bytes; at most {max_bytes:,} are read")
