"""Header of a NRRD or MetaImage volume, and the parsing that both share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strokeseg.scan import Floats

MAX_HEADER_BYTES = 2**16


@dataclass(frozen=True)
class VolumeHeader:
    """Header of a volume.

    Attributes
    ----------
    sizes : tuple of int
        Lengths of the axes, the fastest first.
    dtype : str
        NumPy type of a voxel, with its byte order.
    encoding : {"raw", "zlib", "gzip", "bzip2"}
        Compression of the voxels.
    data_file : str or None
        Name of the file that holds the voxels; None if they follow the header.
    data_offset : int
        Bytes to skip in the data; -1 if the voxels are the end of the file.
    affine : ndarray of float64, shape (4, 4)
        Maps indices, in the order of the axes, to LPS mm.
    oriented : bool
        Whether the header states the orientation.
    decoded_offset : int, default 0
        Bytes to skip in the decompressed data.
    """

    sizes: tuple[int, ...]
    dtype: str
    encoding: str
    data_file: str | None
    data_offset: int
    affine: Floats
    oriented: bool
    decoded_offset: int = 0


def parse_fields(data: bytes, separator: str) -> dict[str, str]:
    """Parse a header's lines of keys and values; keys are in lower case, comments and empty lines are skipped."""
    text = data.decode("latin-1").replace("\r\n", "\n")
    parts = (line.partition(separator) for line in text.split("\n") if line and not line.startswith("#"))
    return {key.strip().lower(): value.strip() for key, has_separator, value in parts if has_separator}


def parse_numbers(text: str) -> Floats:
    """Parse numbers separated by white space."""
    return np.array([float(part) for part in text.split()])


def make_affine(matrix: Floats, origin: Floats) -> Floats:
    """Make a (4, 4) affine of three axes; a missing third axis gets length 1."""
    affine = np.eye(4)
    count = min(3, *matrix.shape)
    affine[:count, :count] = matrix[:count, :count]
    affine[:count, 3] = origin[:count]
    return affine
