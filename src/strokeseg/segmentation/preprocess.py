"""Convert slices to the network's input, and its output back to the scan's own grid.

The input is a square around the head, in a brain window, at a fixed size. Training uses the same functions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from strokeseg.scan_options import BRAIN_WINDOW

_TISSUE_HU = 10.0
_MARGIN = 0.04
_COARSE = 4
_FAT_HU = -200
_MAX_HEAD_MM2 = 40_000.0  # a circumference of 600 mm encloses 28,600; 36,000 with a headrest; shoulders have 60,000

Floats32 = NDArray[np.float32]
_Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class HeadSquare:
    """A square of pixels around the head, which may extend beyond the image.

    Attributes
    ----------
    row : int
        First row.
    column : int
        First column.
    side : int
        Length of the side, pixels.
    """

    row: int
    column: int
    side: int


def find_head_square(hu: NDArray[np.int16], pixel_spacing_mm: tuple[float, float] | None = None) -> HeadSquare:
    """Find the square around the head, one for all slices.

    In each slice the head is the largest component above 10 HU: skull and brain, without the fat of the scalp and the
    headrest. The square contains the union of these components and a margin of 4 % on each side. For pictures, their
    pseudo Hounsfield units are used. Without such a component, the square covers the whole image. A slice with
    more tissue than a head has, such as one through the shoulders, is left out if any other slice remains: a square
    around it would show the network the head at half its size.

    Parameters
    ----------
    hu : ndarray of int16, shape (slices, rows, columns)
        Hounsfield units.
    pixel_spacing_mm : tuple of (float, float), optional
        (between rows, between columns), mm; None if unknown.

    Returns
    -------
    HeadSquare
        The square.
    """
    coarse = hu[:, ::_COARSE, ::_COARSE]
    pixel_mm2 = None if pixel_spacing_mm is None else pixel_spacing_mm[0] * pixel_spacing_mm[1] * _COARSE**2
    boxes = _leave_out_bodies(coarse, [_find_largest_box(plane > _TISSUE_HU) for plane in coarse], pixel_mm2)
    height, width = hu.shape[1:]
    if boxes.size == 0:
        side = max(height, width)
        return HeadSquare((height - side) // 2, (width - side) // 2, side)
    (first_row, first_column), (end_row, end_column) = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    top, bottom = first_row * _COARSE, min(height, end_row * _COARSE)
    left, right = first_column * _COARSE, min(width, end_column * _COARSE)
    side = round(max(bottom - top, right - left) * (1 + 2 * _MARGIN))
    return HeadSquare(int((top + bottom - side) // 2), int((left + right - side) // 2), side)


def _find_largest_box(plane: NDArray[np.bool_]) -> _Box | None:
    """Return (first row, first column, end row, end column) of the largest component; None if it is small."""
    labels, count = ndimage.label(ndimage.binary_opening(plane))
    if not count:
        return None
    sizes = np.bincount(labels.ravel())[1:]
    if sizes.max() <= 0.02 * plane.size:
        return None
    rows, columns = ndimage.find_objects(labels)[sizes.argmax()]
    return rows.start, columns.start, rows.stop, columns.stop


def _leave_out_bodies(
    coarse: NDArray[np.int16], boxes: list[_Box | None], coarse_pixel_mm2: float | None
) -> NDArray[np.int_]:
    """Return the boxes of the slices that can show a head by their area of tissue; all boxes if no such slice remains.

    The area includes fat and a headrest: the shoulders may be two components of muscle, each as small as a head.
    """
    present = [(plane, box) for plane, box in zip(coarse, boxes, strict=True) if box is not None]
    heads = [
        box
        for plane, box in present
        if coarse_pixel_mm2 is None or _measure_largest_px(plane > _FAT_HU) * coarse_pixel_mm2 <= _MAX_HEAD_MM2
    ]
    return np.array(heads or [box for _, box in present])


def _measure_largest_px(plane: NDArray[np.bool_]) -> int:
    labels, count = ndimage.label(ndimage.binary_opening(plane))
    return int(np.bincount(labels.ravel())[1:].max()) if count else 0


def crop_square(plane: NDArray[np.generic], square: HeadSquare, outside: float) -> NDArray[np.generic]:
    """Crop one slice to the square; pixels beyond the image are set to ``outside``.

    Parameters
    ----------
    plane : ndarray, shape (rows, columns)
        The slice.
    square : HeadSquare
        The square.
    outside : float
        Value of pixels beyond the image.

    Returns
    -------
    ndarray, shape (side, side)
        The cropped slice, of the same type.
    """
    height, width = plane.shape
    top, left = max(square.row, 0), max(square.column, 0)
    bottom, right = min(square.row + square.side, height), min(square.column + square.side, width)
    whole = np.full((square.side, square.side), outside, dtype=plane.dtype)
    whole[top - square.row : bottom - square.row, left - square.column : right - square.column] = plane[
        top:bottom, left:right
    ]
    return whole


def resize(plane: NDArray[np.generic], size: tuple[int, int]) -> Floats32:
    """Resize a slice by bilinear interpolation; downsampling averages over the joined pixels.

    Parameters
    ----------
    plane : ndarray, shape (rows, columns)
        The slice.
    size : tuple of (int, int)
        New size (rows, columns).

    Returns
    -------
    ndarray of float32
        The resized slice.
    """
    image = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR), dtype=np.float32)


def apply_window(hu: NDArray[np.generic], centre_width: tuple[float, float] = BRAIN_WINDOW) -> Floats32:
    """Map Hounsfield units to 0..1 with a window.

    Parameters
    ----------
    hu : ndarray
        Hounsfield units.
    centre_width : tuple of (float, float), default: (40.0, 80.0)
        Window (centre, width).

    Returns
    -------
    ndarray of float32
        Values 0 to 1.
    """
    centre, width = centre_width
    return np.clip((hu.astype(np.float32) - (centre - width / 2)) / width, 0, 1)


def make_network_input(plane: NDArray[np.int16], square: HeadSquare, size: int) -> Floats32:
    """Create the network's input from one slice.

    Parameters
    ----------
    plane : ndarray of int16, shape (rows, columns)
        Hounsfield units.
    square : HeadSquare
        Square around the head.
    size : int
        Side of the network's input, pixels.

    Returns
    -------
    ndarray of float32, shape (1, 1, size, size)
        Values -1 to 1.
    """
    image = resize(apply_window(crop_square(plane, square, -1024)), (size, size))
    return (image * 2 - 1)[None, None]


def resample_to_slice(
    probability: Floats32, square: HeadSquare, shape: tuple[int, int]
) -> tuple[tuple[slice, slice], Floats32]:
    """Resample the network's output for one slice to the slice's own pixels.

    Parameters
    ----------
    probability : ndarray of float32, shape (size, size)
        Probabilities from the network.
    square : HeadSquare
        Square that the input was cropped to.
    shape : tuple of (int, int)
        Size of the slice (rows, columns).

    Returns
    -------
    tuple of (tuple of (slice, slice), ndarray of float32)
        Rows and columns that the square covers, and the probabilities there, 0 to 1.
    """
    whole = resize(probability, (square.side, square.side))
    top, left = max(square.row, 0), max(square.column, 0)
    bottom, right = min(square.row + square.side, shape[0]), min(square.column + square.side, shape[1])
    inside = whole[top - square.row : bottom - square.row, left - square.column : right - square.column]
    return (slice(top, bottom), slice(left, right)), np.clip(inside, 0, 1)
