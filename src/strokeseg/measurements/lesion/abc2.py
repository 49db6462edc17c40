"""ABC/2: the volume estimated from three diameters, as radiologists do by hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.imaging import components
from strokeseg.measurements.lesion.shape import diameter_mm
from strokeseg.measurements.lesion.volume import areas_px
from strokeseg.scan import Floats, Scan

Mask = NDArray[np.bool_]

MAX_RELATIVE_DIFFERENCE = 0.3
"""Share of the planimetric volume. A larger difference is reported by a remark."""

MIN_COMPARED_ML = 0.5
"""Smallest compared volume. For smaller lesions one slice is 30 % of the volume, and no decision depends on it."""


def abc2_ml(mask: Mask, scan: Scan) -> float | None:
    """Estimate a lesion's volume as half the product of three diameters (ABC/2).

    A is the longest diameter on the slice with the largest area. B is the longest diameter perpendicular to A on that
    slice: an unbroken line inside the lesion, as drawn on a screen; holes count as inside. For an ellipse B equals the
    width of its hull; for a crescent B is its thickness, while the hull is wider because it is curved. C is the
    sum of the slice weights, each slice counted by its area relative to the largest area: above 75 % fully, 25-75 %
    half, below 25 % not at all. The paper used uniform slices of 10 mm.

    For an ellipsoid on thin slices ABC/2 is 35 % too low: 50 % of its height count fully and 37 % half, so C is 68 % of
    the height (using 3 for pi removes another 4.5 %). A C of the full height would differ from the published measure.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        One lesion.
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

    References
    ----------
    Kothari RU et al. The ABCs of measuring intracerebral hemorrhage volumes. Stroke 1996;27:1304-1305: 118 hemorrhages,
    R2 to planimetry 0.96.
    """
    components.check_mask(mask, scan)
    if scan.weights_mm is None:
        return None
    areas = areas_px(mask)
    if not areas.any():
        return 0.0
    widest = mask[areas.argmax()]
    a_mm, along = diameter_mm(widest, scan.planes.pixel_spacing_mm)
    b_mm = _longest_perpendicular_mm(widest, along, scan.planes.pixel_spacing_mm)
    relative = areas / areas.max()
    share = np.where(relative > 0.75, 1.0, np.where(relative >= 0.25, 0.5, 0.0))
    return float(a_mm * b_mm * (share @ scan.weights_mm) / 2 / 1000)


def abc2_differs(abc2_ml: float | None, volume_ml: float | None) -> bool:
    """Return whether ABC/2 and the planimetric volume differ by more than 30 %, for a lesion of 0.5 ml or more.

    Parameters
    ----------
    abc2_ml, volume_ml : float or None
        The two volumes, ml.

    Returns
    -------
    bool
        False if either is unknown.
    """
    if abc2_ml is None or volume_ml is None or volume_ml < MIN_COMPARED_ML:
        return False
    return abs(abc2_ml - volume_ml) > MAX_RELATIVE_DIFFERENCE * volume_ml


def _longest_perpendicular_mm(plane: Mask, along: Floats, spacing_mm: tuple[float, float]) -> float:
    """Length of the longest unbroken line inside a slice's pixels perpendicular to a direction, mm.

    Lines at steps of a tenth of a pixel are intersected with all edges between pixels inside and outside. Along each
    line the crossings alternately enter and leave the lesion.
    """
    starts, stops = _edges_mm(plane, spacing_mm)
    across = np.array([-along[1], along[0]])
    # Each edge is oriented so that its coordinate increases; its lower end is excluded.
    reversed_ = starts @ along > stops @ along
    starts[reversed_], stops[reversed_] = stops[reversed_], starts[reversed_].copy()
    lower, upper = starts @ along, stops @ along
    step = min(spacing_mm) / 10
    first = np.floor(lower / step - 0.5).astype(int) + 1
    count = int(np.ceil(max(spacing_mm) / step)) + 1
    lines = first[:, None] + np.arange(count)
    positions = (lines + 0.5) * step
    edge, column = np.nonzero((positions > lower[:, None]) & (positions <= upper[:, None]))
    fraction = (positions[edge, column] - lower[edge]) / (upper[edge] - lower[edge])
    crossings = (1 - fraction) * (starts[edge] @ across) + fraction * (stops[edge] @ across)
    order = np.lexsort((crossings, lines[edge, column]))
    lengths = np.diff(crossings[order])[::2]
    return float(lengths.max())


def _edges_mm(plane: Mask, spacing_mm: tuple[float, float]) -> tuple[Floats, Floats]:
    """Return the ends of all edges between pixels inside and outside, two arrays of shape (n, 2), mm (down, right)."""
    inside = np.pad(ndimage.binary_fill_holes(plane), 1)
    horizontal = np.argwhere(inside[1:] != inside[:-1])
    upright = np.argwhere(inside[:, 1:] != inside[:, :-1])
    # Coordinates of pixel corners: pixel (0, 0) extends from (0, 0) to (1, 1).
    right, down = np.array([0, 1]), np.array([1, 0])
    starts = np.concatenate([horizontal + down, upright + right])
    stops = np.concatenate([horizontal, upright]) + down + right
    return starts * np.asarray(spacing_mm), stops * np.asarray(spacing_mm)
