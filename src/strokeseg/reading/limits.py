"""Limits on what is read: number of files, bytes, pixels and voxels."""

from __future__ import annotations

from strokeseg.errors import TooLarge

MAX_FILES = 20_000
MAX_UNPACKED_BYTES = 4 * 2**30
"""Of all members of an archive together."""
MAX_COMPRESSION_RATIO = 200
MAX_SLICE_PIXELS = 4096 * 4096
MAX_READING_BYTES = 5 * 2**28
"""Of pixels while they are read, as stored and in Hounsfield units: the process has less than 1.5 GB in all."""
MAX_VOXELS = MAX_READING_BYTES // 4
"""1,280 slices of 512 x 512 in 16 bits."""
MAX_VOLUME_BYTES = 2**31
"""Of a volume's file, decompressed; only its voxels are held in memory."""
MAX_PICTURE_BYTES = 2**29
"""Of a picture's file."""

_HOUNSFIELD_BYTES = 2


def check_size(size: int, max_bytes: int, name: str) -> None:
    """Raise TooLarge (`too-large`) if ``size`` exceeds ``max_bytes``."""
    if size > max_bytes:
        raise TooLarge(f"{name}: {size:,} bytes; at most {max_bytes:,} are read")


def check_voxels(voxels: int, stored_bytes: int, name: str) -> None:
    """Check a volume by its header, before a voxel is read or inflated.

    Parameters
    ----------
    voxels : int
        Number of voxels.
    stored_bytes : int
        Bytes of a voxel in the file.
    name : str
        Name of the file.

    Raises
    ------
    TooLarge
        `too-large`, if the voxels as stored and in Hounsfield units exceed the limit on memory.
    """
    limit = min(MAX_VOXELS, MAX_READING_BYTES // (stored_bytes + _HOUNSFIELD_BYTES))
    if voxels > limit:
        raise TooLarge(f"{name}: {voxels:,} voxels of {8 * stored_bytes} bits; at most {limit:,} are read")
