"""From a place in the patient back to a scan's pixels; the inverse of :meth:`strokeseg.scan.Planes.to_lps_mm`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.scan import Floats, Planes


def lps_to_indices(planes: Planes, places_mm: Floats) -> Floats:
    """Map LPS mm to (slice, row, column) indices, right for tilted, uneven and oblique planes.

    A tilted stack is sheared: where a place lies along the normal tells the slice, and only then that slice's own first
    pixel tells the row and the column.

    Parameters
    ----------
    places_mm : Floats
        (n, 3), LPS mm.

    Returns
    -------
    Floats
        (n, 3), fractional, and outside of the scan below 0 or beyond its last index; a fractional slice lies between
        its neighbours' planes.
    """
    count = len(planes.positions_mm)
    along = places_mm @ planes.normal
    levels = planes.along_normal_mm
    if count == 1:
        slices = (along - levels[0]) / (planes.thickness_mm or 1.0)
        first = planes.positions_mm[0] + (along - levels[0])[:, None] * planes.normal
    else:
        low = np.clip(np.searchsorted(levels, along, side="right") - 1, 0, count - 2)
        part = (along - levels[low]) / (levels[low + 1] - levels[low])
        slices = low + part
        steps = np.diff(planes.positions_mm, axis=0)
        first = planes.positions_mm[low] + part[:, None] * steps[low]
    inside = places_mm - first
    row_mm, column_mm = planes.pixel_spacing_mm
    return np.column_stack([slices, inside @ planes.column_cosine / row_mm, inside @ planes.row_cosine / column_mm])


def find_covered(planes: Planes, shape: tuple[int, int, int], where: Floats) -> NDArray[np.bool_]:
    """Mark the places that the scan shows.

    Along the normal a slice shows what its share of the axis (:attr:`Planes.weights_mm`) reaches, and no gap of
    ordinary width is left between two of them.

    Parameters
    ----------
    shape : tuple of (int, int, int)
        (slices, rows, columns).
    where : Floats
        (n, 3), what :func:`indices` gives.

    Returns
    -------
    ndarray of bool, shape (n,)
        The result.
    """
    slices, rows, columns = where.T
    held = (rows >= -0.5) & (rows < shape[1] - 0.5) & (columns >= -0.5) & (columns < shape[2] - 0.5)
    held &= (slices >= -0.5) & (slices < shape[0] - 0.5)
    if planes.gaps_with_missing_slices.any():
        low = np.clip(np.floor(slices).astype(int), 0, shape[0] - 2)
        from_slice_mm = np.abs(slices - np.rint(slices)) * planes.gaps_mm[low]
        reach_mm = 0.75 * np.median(planes.gaps_mm[~planes.gaps_with_missing_slices])
        held &= (
            ~planes.gaps_with_missing_slices[low] | (from_slice_mm <= reach_mm) | (slices < 0) | (slices > shape[0] - 1)
        )
    return np.asarray(held)


def interpolate_linear(values: NDArray[Any], where: Floats, outside: float) -> NDArray[np.float32]:
    """Give values between pixels, linearly; beyond the outermost pixel's centre its own value, far out ``outside``.

    Parameters
    ----------
    values : ndarray, shape (slices, rows, columns)
        Values.
    where : Floats
        (n, 3), what :func:`indices` gives.
    outside : float
        For places more than half an index outside.
    """
    last = np.asarray(values.shape) - 1
    kept = np.all((where >= -0.5) & (where <= last + 0.5), axis=1)
    given = np.full(len(where), outside, dtype=np.float32)
    inner = np.clip(where[kept], 0, last).T
    given[kept] = ndimage.map_coordinates(values, inner, output=np.float32, order=1, mode="nearest")
    return given


def look_up_nearest(labels: NDArray[Any], where: Floats) -> NDArray[Any]:
    """Return the value of the pixel that a place lies in; 0 outside of the scan.

    Parameters
    ----------
    labels : ndarray, shape (slices, rows, columns)
        Or with more axes behind.
    where : Floats
        (n, 3), what :func:`indices` gives.
    """
    whole = np.rint(where).astype(np.intp)
    kept = np.all((whole >= 0) & (whole < labels.shape[:3]), axis=1)
    given = np.zeros((len(where), *labels.shape[3:]), dtype=labels.dtype)
    given[kept] = labels[tuple(whole[kept].T)]
    return given
