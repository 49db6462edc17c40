"""From a scan's slices to what the network sees, and the network's answer back onto the scan's own grid.

The network sees a square around the head, in a brain window, at a fixed size. Training uses these same functions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

BRAIN_WINDOW = (40.0, 80.0)
"""(centre, width) of the network's input, Hounsfield units: the brain window, which every training set holds whole."""

_TISSUE_HU = 10.0
_MARGIN = 0.04
_COARSE = 4

Floats32 = NDArray[np.float32]


@dataclass(frozen=True)
class HeadSquare:
    """A square of pixels that may reach over the picture's edge: first row, first column, side, all in pixels."""

    row: int
    column: int
    side: int


def find_head_square(hu: NDArray[np.int16]) -> HeadSquare:
    """Find the square around the head, one for all slices.

    The head is the largest connected region of tissue above 10 HU (skull and brain; the scalp's fat and the headrest
    drop out) in every slice; the square holds the union of these regions and a margin of 4 % at each side. Pictures
    count as their pseudo Hounsfield units. A scan without such a region gives the whole picture.

    Parameters
    ----------
    hu : ndarray of int16, shape (slices, rows, columns)
        Hounsfield units.
    """
    coarse = hu[:, ::_COARSE, ::_COARSE] > _TISSUE_HU
    found = np.zeros(coarse.shape[1:], dtype=bool)
    for plane in coarse:
        plane = ndimage.binary_opening(plane)
        labels, count = ndimage.label(plane)
        if count:
            sizes = np.bincount(labels.ravel())[1:]
            if sizes.max() > 0.02 * plane.size:
                found |= labels == sizes.argmax() + 1
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    height, width = hu.shape[1:]
    if rows.size == 0:
        side = max(height, width)
        return HeadSquare((height - side) // 2, (width - side) // 2, side)
    top, bottom = rows[0] * _COARSE, min(height, (rows[-1] + 1) * _COARSE)
    left, right = columns[0] * _COARSE, min(width, (columns[-1] + 1) * _COARSE)
    side = round(max(bottom - top, right - left) * (1 + 2 * _MARGIN))
    return HeadSquare(int((top + bottom - side) // 2), int((left + right - side) // 2), side)


def crop_square(plane: NDArray[np.generic], square: HeadSquare, outside: float) -> NDArray[np.generic]:
    """Cut the square out of one slice; what lies over the edge is filled with ``outside``."""
    height, width = plane.shape
    top, left = max(square.row, 0), max(square.column, 0)
    bottom, right = min(square.row + square.side, height), min(square.column + square.side, width)
    whole = np.full((square.side, square.side), outside, dtype=plane.dtype)
    whole[top - square.row : bottom - square.row, left - square.column : right - square.column] = plane[
        top:bottom, left:right
    ]
    return whole


def resize(plane: NDArray[np.generic], size: tuple[int, int]) -> Floats32:
    """Resize to (rows, columns), bilinear; shrinking averages over the pixels that it joins."""
    image = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR), dtype=np.float32)


def apply_window(hu: NDArray[np.generic], centre_width: tuple[float, float] = BRAIN_WINDOW) -> Floats32:
    """Map Hounsfield units to 0..1 through a window (centre, width)."""
    centre, width = centre_width
    return np.clip((hu.astype(np.float32) - (centre - width / 2)) / width, 0, 1)


def make_network_input(plane: NDArray[np.int16], square: HeadSquare, size: int) -> Floats32:
    """Make the network's input of one slice.

    Parameters
    ----------
    plane : ndarray of int16, shape (rows, columns)
        Hounsfield units.
    square : HeadSquare
        The square around the head.
    size : int
        The network's side in pixels.

    Returns
    -------
    ndarray of float32, shape (1, 1, size, size)
        -1..1.
    """
    seen = resize(apply_window(crop_square(plane, square, -1024)), (size, size))
    return (seen * 2 - 1)[None, None]


def resample_to_slice(
    answer: Floats32, square: HeadSquare, shape: tuple[int, int]
) -> tuple[tuple[slice, slice], Floats32]:
    """Bring the network's answer for one slice back onto the slice's own pixels.

    Parameters
    ----------
    answer : ndarray of float32, shape (size, size)
        Probability.
    square : HeadSquare
        The square that the input was cut with.
    shape : tuple of (int, int)
        (rows, columns) of the slice.

    Returns
    -------
    tuple of (tuple of (slice, slice), ndarray of float32)
        The rows and columns that the square covers, and the probabilities there, 0 to 1.
    """
    whole = resize(answer, (square.side, square.side))
    top, left = max(square.row, 0), max(square.column, 0)
    bottom, right = min(square.row + square.side, shape[0]), min(square.column + square.side, shape[1])
    inside = whole[top - square.row : bottom - square.row, left - square.column : right - square.column]
    return (slice(top, bottom), slice(left, right)), np.clip(inside, 0, 1)
