"""Pixels of a scan at points in the patient: the inverse of :meth:`strokeseg.scan.Planes.to_lps_mm`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.scan import Floats, Planes


def lps_to_indices(planes: Planes, points_mm: Floats) -> Floats:
    """Map LPS mm to (slice, row, column) indices, also for tilted, unevenly spaced and oblique planes.

    A tilted stack is sheared: the position along the normal gives the slice; the first pixel of that slice then gives
    row and column.

    Parameters
    ----------
    planes : Planes
        The planes of a scan.
    points_mm : ndarray of float64, shape (n, 3)
        Points, LPS mm.

    Returns
    -------
    ndarray of float64, shape (n, 3)
        Fractional indices, below 0 or beyond the last index outside the scan; a fractional slice lies between the
        planes of its neighbours.
    """
    count = len(planes.positions_mm)
    along = points_mm @ planes.normal
    levels = planes.along_normal_mm
    if count == 1:
        slices = (along - levels[0]) / (planes.thickness_mm or 1.0)
        first_pixel = planes.positions_mm[0] + (along - levels[0])[:, None] * planes.normal
    else:
        low = np.clip(np.searchsorted(levels, along, side="right") - 1, 0, count - 2)
        fraction = (along - levels[low]) / (levels[low + 1] - levels[low])
        slices = low + fraction
        steps = np.diff(planes.positions_mm, axis=0)
        first_pixel = planes.positions_mm[low] + fraction[:, None] * steps[low]
    offset = points_mm - first_pixel
    row_mm, column_mm = planes.pixel_spacing_mm
    return np.column_stack([slices, offset @ planes.column_cosine / row_mm, offset @ planes.row_cosine / column_mm])


def find_covered(planes: Planes, shape: tuple[int, int, int], indices: Floats) -> NDArray[np.bool_]:
    """Find the points within the coverage of a scan.

    Along the normal, a slice covers its share of the axis (:attr:`Planes.weights_mm`); between two slices there is no
    uncovered gap unless slices are missing.

    Parameters
    ----------
    planes : Planes
        The planes of the scan.
    shape : tuple of (int, int, int)
        (slices, rows, columns) of the scan.
    indices : ndarray of float64, shape (n, 3)
        From :func:`lps_to_indices`.

    Returns
    -------
    ndarray of bool, shape (n,)
        True for the covered points.
    """
    slices, rows, columns = indices.T
    covered = (rows >= -0.5) & (rows < shape[1] - 0.5) & (columns >= -0.5) & (columns < shape[2] - 0.5)
    covered &= (slices >= -0.5) & (slices < shape[0] - 0.5)
    gaps_with_missing = planes.gaps_with_missing_slices
    if gaps_with_missing.any():
        low = np.clip(np.floor(slices).astype(int), 0, shape[0] - 2)
        from_slice_mm = np.abs(slices - np.rint(slices)) * planes.gaps_mm[low]
        covered &= ~gaps_with_missing[low] | (from_slice_mm <= planes.reach_mm) | (slices < 0) | (slices > shape[0] - 1)
    return np.asarray(covered)


def interpolate_linear(values: NDArray[Any], indices: Floats, outside: float) -> NDArray[np.float32]:
    """Interpolate values linearly between pixels.

    Up to half an index beyond the centre of the outermost pixel, the value of that pixel applies.

    Parameters
    ----------
    values : ndarray, shape (slices, rows, columns)
        Values of the pixels.
    indices : ndarray of float64, shape (n, 3)
        From :func:`lps_to_indices`.
    outside : float
        Value for points more than half an index outside.

    Returns
    -------
    ndarray of float32, shape (n,)
        Interpolated values.
    """
    last = np.asarray(values.shape) - 1
    is_inside = np.all((indices >= -0.5) & (indices <= last + 0.5), axis=1)
    result = np.full(len(indices), outside, dtype=np.float32)
    clipped = np.clip(indices[is_inside], 0, last).T
    result[is_inside] = ndimage.map_coordinates(values, clipped, output=np.float32, order=1, mode="nearest")
    return result


def look_up_nearest(values: NDArray[Any], indices: Floats) -> NDArray[Any]:
    """Look up the value of the pixel that contains each point; 0 outside the scan.

    Parameters
    ----------
    values : ndarray, shape (slices, rows, columns, ...)
        Values of the pixels.
    indices : ndarray of float64, shape (n, 3)
        From :func:`lps_to_indices`.

    Returns
    -------
    ndarray, shape (n, ...)
        Values, of the same type.
    """
    nearest = np.rint(indices).astype(np.intp)
    is_inside = np.all((nearest >= 0) & (nearest < values.shape[:3]), axis=1)
    result = np.zeros((len(indices), *values.shape[3:]), dtype=values.dtype)
    result[is_inside] = values[tuple(nearest[is_inside].T)]
    return result
