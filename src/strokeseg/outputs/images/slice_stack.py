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

from strokeseg.imaging import downsample
from strokeseg.outputs.images import slice_images
from strokeseg.outputs.images.slice_images import Polyline
from strokeseg.scan import Floats, Scan

VIEWER_WINDOWS = {
    "brain": slice_images.BRAIN_WINDOW,
    "subdural": (75.0, 280.0),
    "stroke": (40.0, 40.0),
    "bone": (600.0, 2800.0),
}
"""(centre, width), Hounsfield units; only a calibrated scan has them all."""

_SCALE_HU = (-800, -120, -20, 120, 300, 2000)
_SCALE_LEVELS = (0, 17, 37, 177, 213, 255)
_MIN_HU, _MAX_HU = -1024, 3071
# About 2.7 MB of PNG for 40 slices of 512 x 512; beyond 64 such slices they are drawn smaller.
_MAX_PIXELS = 64 * 512 * 512
_MAX_REDUCTION = 8
_THREADS = 2


@dataclass(frozen=True)
class SliceStack:
    """The slices, inferior first.

    Parameters
    ----------
    pngs : tuple of bytes
        One a slice, 8-bit levels, face up, the patient's left on the right.
    size : tuple of (int, int)
        (width, height), pixels.
    aspect : float
        Width by height in the patient.
    hu : object
        (256,), what a level stands for, HU.
    outlines : tuple of tuple of Polyline
        Of each slice, closed lines as in :class:`strokeseg.outputs.images.slice_images.SliceImage`.
    shrunk : object
        By so much the slices are smaller than the scan's.
    """

    pngs: tuple[bytes, ...]
    size: tuple[int, int]
    aspect: float
    level_hu: Floats
    outlines: tuple[tuple[Polyline, ...], ...]
    reduction: int


def encode_stack(scan: Scan, mask: NDArray[np.bool_]) -> SliceStack:
    """Pack all slices of a scan.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        On the scan's grid.
    """
    count, rows, columns = scan.shape
    shrunk = 1
    while shrunk < min(_MAX_REDUCTION, rows, columns) and count * (rows // shrunk) * (columns // shrunk) > _MAX_PIXELS:
        shrunk += 1
    size = (max(1, columns // shrunk), max(1, rows // shrunk))
    steps = np.interp(np.arange(_MIN_HU, _MAX_HU + 1), _SCALE_HU, _SCALE_LEVELS)
    levels = np.rint(steps).astype(np.uint8)

    def packed(index: int) -> bytes:
        hu = np.clip(scan.planes.turn_upright(_reduce(scan.hu[index], shrunk)), _MIN_HU, _MAX_HU)
        written = io.BytesIO()
        Image.fromarray(levels[hu - _MIN_HU]).save(written, "PNG", compress_level=2)
        return written.getvalue()

    with ThreadPoolExecutor(_THREADS) as threads:
        pngs = tuple(threads.map(packed, range(count)))
    row_mm, column_mm = scan.planes.pixel_spacing_mm
    return SliceStack(
        pngs=pngs,
        size=size,
        aspect=columns * column_mm / (rows * row_mm),
        level_hu=np.interp(np.arange(256), _SCALE_LEVELS, _SCALE_HU),
        outlines=tuple(slice_images.trace_outlines(scan, plane, size) for plane in mask),
        reduction=shrunk,
    )


def choose_windows(scan: Scan) -> dict[str, tuple[float, float]]:
    """Return the windows in which a scan can be seen, by their names: pictures have only what they have."""
    if scan.calibrated:
        return VIEWER_WINDOWS
    brain = {"brain": VIEWER_WINDOWS["brain"]}
    return brain if scan.window in (None, VIEWER_WINDOWS["brain"]) else {**brain, "own": scan.window}


def _reduce(plane: NDArray[Any], by: int) -> NDArray[Any]:
    """Average blocks of by x by pixels; what is left over at the far edges is cut off."""
    if by == 1:
        return plane
    return np.rint(downsample.downsample_mean(plane, by)).astype(plane.dtype)
