"""How large a lesion is and where it lies: sums over its pixels, each with its slice's share of the axis."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from strokeseg.imaging import components
from strokeseg.scan import Scan

Mask = NDArray[np.bool_]


def volume_ml(mask: Mask, scan: Scan) -> float | None:
    """Return a lesion's volume: pixels x pixel area x slice weight, summed (planimetry).

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        Mask.
    scan : Scan
        Its scan.

    Returns
    -------
    float or None
        Float, ml, 0.0 for an empty mask; None where the pixel spacing or the slice weights are not known.

    Raises
    ------
    ValueError
        If the mask is not bool or not of the scan's shape.
    """
    components.check_mask(mask, scan)
    weights = scan.weights_mm
    if weights is None:
        return None
    return float(areas_px(mask) @ weights) * scan.planes.pixel_area_mm2 / 1000


def centroid_lps_mm(mask: Mask, scan: Scan) -> tuple[float, float, float] | None:
    """Return a lesion's centre of mass, LPS mm, every pixel with its slice's weight.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        Mask.
    scan : Scan
        Its scan.

    Returns
    -------
    tuple of (float, float, float) or None
        None where the spacing or the slice weights are not known, or the mask is empty.

    Raises
    ------
    ValueError
        If the mask is not bool or not of the scan's shape.
    """
    components.check_mask(mask, scan)
    weights = scan.weights_mm
    sizes = areas_px(mask)
    if weights is None or not sizes.any():
        return None
    # Slice by slice, as planes need not lie at even steps: first each slice's own centre, then their mean.
    held = np.flatnonzero(sizes)
    rows = mask[held].sum(2) @ np.arange(mask.shape[1]) / sizes[held]
    columns = mask[held].sum(1) @ np.arange(mask.shape[2]) / sizes[held]
    centres = scan.planes.to_lps_mm(np.column_stack([held, rows, columns]))
    x, y, z = np.average(centres, axis=0, weights=sizes[held] * weights[held])
    return float(x), float(y), float(z)


def areas_px(mask: Mask) -> NDArray[np.intp]:
    """(slices,), the pixels marked on every slice."""
    return np.count_nonzero(mask.reshape(len(mask), -1), axis=1)
