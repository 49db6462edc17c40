"""Every slice of a scan for the report's own viewer: 8-bit pictures from which the page makes any window.

A level stands for 1 HU where blood and brain lie (-20 to 120 HU), for 5 HU around them (-120 to 300), and for 40 HU in
what else a bone window shows (-800 to 2000). Packed as PNG nothing further is lost.
"""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from strokeseg import blocks
from strokeseg.scan import Floats, Scan
from strokeseg.write import pictures
from strokeseg.write.pictures import Points

WINDOWS = {
    "brain": pictures.WINDOW,
    "subdural": (75.0, 280.0),
    "stroke": (40.0, 40.0),
    "bone": (600.0, 2800.0),
}
"""(centre, width), Hounsfield units; only a calibrated scan has them all."""

_KNOTS_HU = (-800, -120, -20, 120, 300, 2000)
_KNOTS_LEVEL = (0, 17, 37, 177, 213, 255)
_LOWEST, _HIGHEST = -1024, 3071
# About 2.7 MB of PNG for 40 slices of 512 x 512; beyond 64 such slices they are drawn smaller.
_MOST_PIXELS = 64 * 512 * 512
_MOST_SHRUNK = 8
_THREADS = 2


@dataclass(frozen=True)
class Stack:
    """The slices, inferior first.

    Parameters
    ----------
    pngs : one a slice, 8-bit levels, face up, the patient's left on the right
    size : (width, height), pixels
    aspect : width by height in the patient
    hu : (256,), what a level stands for, HU
    outlines : of each slice, closed lines as in :class:`strokeseg.write.pictures.SlicePicture`
    shrunk : by so much the slices are smaller than the scan's
    """

    pngs: tuple[bytes, ...]
    size: tuple[int, int]
    aspect: float
    hu: Floats
    outlines: tuple[tuple[Points, ...], ...]
    shrunk: int


def pack(scan: Scan, mask: NDArray[np.bool_]) -> Stack:
    """Pack all slices of a scan.

    Parameters
    ----------
    mask : bool, (slices, rows, columns), on the scan's grid
    """
    count, rows, columns = scan.shape
    shrunk = 1
    while shrunk < min(_MOST_SHRUNK, rows, columns) and count * (rows // shrunk) * (columns // shrunk) > _MOST_PIXELS:
        shrunk += 1
    size = (max(1, columns // shrunk), max(1, rows // shrunk))
    steps = np.interp(np.arange(_LOWEST, _HIGHEST + 1), _KNOTS_HU, _KNOTS_LEVEL)
    levels = np.rint(steps).astype(np.uint8)

    def packed(index: int) -> bytes:
        hu = np.clip(scan.planes.upright(_smaller(scan.hu[index], shrunk)), _LOWEST, _HIGHEST)
        written = io.BytesIO()
        Image.fromarray(levels[hu - _LOWEST]).save(written, "PNG", compress_level=2)
        return written.getvalue()

    with ThreadPoolExecutor(_THREADS) as threads:
        pngs = tuple(threads.map(packed, range(count)))
    row_mm, column_mm = scan.planes.pixel_spacing_mm
    return Stack(
        pngs=pngs,
        size=size,
        aspect=columns * column_mm / (rows * row_mm),
        hu=np.interp(np.arange(256), _KNOTS_LEVEL, _KNOTS_HU),
        outlines=tuple(pictures.outlines(scan, plane, size) for plane in mask),
        shrunk=shrunk,
    )


def windows(scan: Scan) -> dict[str, tuple[float, float]]:
    """Give the windows in which a scan can be seen, by their names: pictures have only what they have."""
    if scan.calibrated:
        return WINDOWS
    brain = {"brain": WINDOWS["brain"]}
    return brain if scan.window in (None, WINDOWS["brain"]) else {**brain, "own": scan.window}


def _smaller(plane: NDArray[Any], by: int) -> NDArray[Any]:
    """Average blocks of by x by pixels; what is left over at the far edges is cut off."""
    if by == 1:
        return plane
    return np.rint(blocks.means(plane, by)).astype(plane.dtype)
