"""Volume, centroid and areas of a lesion: sums over its pixels, weighted by slice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from strokeseg.imaging import components
from strokeseg.scan import Scan

Mask = NDArray[np.bool_]


def volume_ml(mask: Mask, scan: Scan) -> float | None:
    """Volume of a lesion: the sum of pixels x pixel area x slice weight (planimetry).

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        The lesion.
    scan : Scan
        The scan.

    Returns
    -------
    float or None
        Volume, ml; 0.0 for an empty mask; None if the pixel spacing or the slice weights are unknown.

    Raises
    ------
    ValueError
        If the mask is not bool or does not have the scan's shape.
    """
    components.check_mask(mask, scan)
    weights = scan.weights_mm
    if weights is None:
        return None
    return float(areas_px(mask) @ weights) * scan.planes.pixel_area_mm2 / 1000


def centroid_lps_mm(mask: Mask, scan: Scan) -> tuple[float, float, float] | None:
    """Centre of mass of a lesion, each pixel weighted by its slice.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        The lesion.
    scan : Scan
        The scan.

    Returns
    -------
    tuple of (float, float, float) or None
        Point, LPS mm; None if the spacing or the slice weights are unknown, or the mask is empty.

    Raises
    ------
    ValueError
        If the mask is not bool or does not have the scan's shape.
    """
    components.check_mask(mask, scan)
    weights = scan.weights_mm
    sizes = areas_px(mask)
    if weights is None or not sizes.any():
        return None
    # Planes may be unevenly spaced: compute the centre of each slice, then their weighted mean.
    occupied = np.flatnonzero(sizes)
    rows = mask[occupied].sum(2) @ np.arange(mask.shape[1]) / sizes[occupied]
    columns = mask[occupied].sum(1) @ np.arange(mask.shape[2]) / sizes[occupied]
    centres = scan.planes.to_lps_mm(np.column_stack([occupied, rows, columns]))
    x, y, z = np.average(centres, axis=0, weights=sizes[occupied] * weights[occupied])
    return float(x), float(y), float(z)


def areas_px(mask: Mask) -> NDArray[np.intp]:
    """Number of marked pixels on each slice.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        The lesion.

    Returns
    -------
    ndarray of intp, shape (slices,)
        Areas, pixels.
    """
    return np.count_nonzero(mask.reshape(len(mask), -1), axis=1)
