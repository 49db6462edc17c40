"""All slices of a scan for the report's viewer: 8-bit images from which the page computes any window.

One level is 1 HU in the range of blood and brain (-20 to 120 HU), 5 HU around it (-120 to 300), and 40 HU in the rest
of the bone window (-800 to 2000). The images are compressed as PNG, without further loss.
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
from strokeseg.outputs.images.slice_images import Polyline, trace_outlines
from strokeseg.scan import Floats, Scan
from strokeseg.scan_options import BRAIN_WINDOW

VIEWER_WINDOWS = {
    "brain": BRAIN_WINDOW,
    "subdural": (75.0, 280.0),
    "stroke": (40.0, 40.0),
    "bone": (600.0, 2800.0),
}
"""(centre, width), Hounsfield units; only a calibrated scan has them all."""

_SCALE_HU = (-800, -120, -20, 120, 300, 2000)
_SCALE_LEVELS = (0, 17, 37, 177, 213, 255)
_MIN_HU, _MAX_HU = -1024, 3071
# 40 slices of 512 x 512 take about 2.7 MB as PNG; more than 64 such slices are reduced.
_MAX_PIXELS = 64 * 512 * 512
_MAX_REDUCTION = 8
_THREADS = 2


@dataclass(frozen=True)
class SliceStack:
    """All slices of a scan, inferior first.

    Attributes
    ----------
    pngs : tuple of bytes
        One image per slice: 8-bit levels, upright, the patient's left on the right.
    size : tuple of (int, int)
        (width, height) of the images, pixels.
    aspect : float
        Width divided by height in the patient.
    level_hu : ndarray of float64, shape (256,)
        Hounsfield units of each level.
    outlines : tuple of tuple of ndarray of float64
        For each slice, closed lines as in :class:`strokeseg.outputs.images.slice_images.SliceImage`.
    reduction : int
        Factor by which rows and columns are fewer than those of the scan.
    """

    pngs: tuple[bytes, ...]
    size: tuple[int, int]
    aspect: float
    level_hu: Floats
    outlines: tuple[tuple[Polyline, ...], ...]
    reduction: int


def encode_stack(scan: Scan, mask: NDArray[np.bool_]) -> SliceStack:
    """Encode all slices of a scan.

    Parameters
    ----------
    scan : Scan
        The scan.
    mask : ndarray of bool, shape (slices, rows, columns)
        Mask of all lesions.

    Returns
    -------
    SliceStack
        Images and outlines.
    """
    count, rows, columns = scan.shape
    reduction = 1
    while (
        reduction < min(_MAX_REDUCTION, rows, columns)
        and count * (rows // reduction) * (columns // reduction) > _MAX_PIXELS
    ):
        reduction += 1
    size = (max(1, columns // reduction), max(1, rows // reduction))
    steps = np.interp(np.arange(_MIN_HU, _MAX_HU + 1), _SCALE_HU, _SCALE_LEVELS)
    levels = np.rint(steps).astype(np.uint8)

    def encode(index: int) -> bytes:
        hu = np.clip(scan.planes.turn_upright(_reduce(scan.hu[index], reduction)), _MIN_HU, _MAX_HU)
        buffer = io.BytesIO()
        Image.fromarray(levels[hu - _MIN_HU]).save(buffer, "PNG", compress_level=2)
        return buffer.getvalue()

    with ThreadPoolExecutor(_THREADS) as threads:
        pngs = tuple(threads.map(encode, range(count)))
    row_mm, column_mm = scan.planes.pixel_spacing_mm
    return SliceStack(
        pngs=pngs,
        size=size,
        aspect=columns * column_mm / (rows * row_mm),
        level_hu=np.interp(np.arange(256), _SCALE_LEVELS, _SCALE_HU),
        outlines=tuple(trace_outlines(scan, plane, size) for plane in mask),
        reduction=reduction,
    )


def choose_windows(scan: Scan) -> dict[str, tuple[float, float]]:
    """Return the windows for a scan by name; pictures have only the brain window and their own."""
    if scan.calibrated:
        return VIEWER_WINDOWS
    brain = {"brain": VIEWER_WINDOWS["brain"]}
    return brain if scan.window in (None, VIEWER_WINDOWS["brain"]) else {**brain, "own": scan.window}


def _reduce(plane: NDArray[Any], factor: int) -> NDArray[Any]:
    """Average square blocks of pixels; pixels left over at the far edges are cut off."""
    if factor == 1:
        return plane
    return np.rint(downsample.downsample_mean(plane, factor)).astype(plane.dtype)
