"""Lesions apart, and the lengths that a radiologist measures on them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from strokeseg.scan import Floats, Scan

Mask = NDArray[np.bool_]


def label(mask: Mask, scan: Scan) -> tuple[NDArray[np.int32], int]:
    """Number the connected components (26 neighbours), the largest first.

    Size is the sum of the slice weights over the pixels, or the number of pixels where the spacing is not known.

    Returns
    -------
    int32, (slices, rows, columns), 0 is background; and the number of components
    """
    raw, count = ndimage.label(mask, structure=np.ones((3, 3, 3), dtype=bool))
    weights = scan.weights_mm if scan.weights_mm is not None else np.ones(len(mask))
    places = np.nonzero(raw)
    sizes = np.bincount(raw[places], weights[places[0]], minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable")
    numbers = np.zeros(count + 1, dtype=np.int32)
    numbers[order + 1] = np.arange(1, count + 1)
    return numbers[raw], int(count)


def max_diameter_mm(mask: Mask, scan: Scan) -> float:
    """Give the longest distance between two pixel edges of one lesion on one slice, mm; 0.0 for an empty mask."""
    longest = 0.0
    for plane in mask[np.flatnonzero(mask.any((1, 2)))]:
        longest = max(longest, _diameters_mm(plane, scan.planes.pixel_spacing_mm)[0])
    return longest


def abc2_ml(mask: Mask, scan: Scan) -> float:
    """Estimate a lesion's volume as half the product of three diameters (ABC/2).

    A is the longest in-plane diameter on the slice with the largest area, B the extent of its hull at right angles to A
    on that slice, C the sum of the slice weights, each slice counted by its area relative to the largest one: above
    75 % whole, 25-75 % half, below not at all. For a crescent B is wider than the crescent is thick.

    Parameters
    ----------
    mask : bool, (slices, rows, columns), one lesion
    scan : its scan; the spacing must be known

    Returns
    -------
    float, ml; 0.0 for an empty mask

    Raises
    ------
    ValueError
        if the spacing is not known

    References
    ----------
    Kothari RU et al. The ABCs of measuring intracerebral hemorrhage volumes. Stroke 1996;27:1304-1305.
    """
    if scan.weights_mm is None:
        raise ValueError("ABC/2 needs the pixel spacing and the slice weights")
    areas = mask.sum((1, 2))
    if not areas.any():
        return 0.0
    a, b = _diameters_mm(mask[areas.argmax()], scan.planes.pixel_spacing_mm)
    relative = areas / areas.max()
    share = np.where(relative > 0.75, 1.0, np.where(relative >= 0.25, 0.5, 0.0))
    return float(a * b * (share * scan.weights_mm).sum() / 2 / 1000)


def _diameters_mm(plane: Mask, spacing_mm: tuple[float, float]) -> tuple[float, float]:
    """Longest diameter and the extent at right angles to it, over the pixels' corners, mm."""
    rows, columns = np.nonzero(plane)
    corners = np.concatenate(
        [np.column_stack([rows + down, columns + right]) for down in (-0.5, 0.5) for right in (-0.5, 0.5)]
    ) * np.asarray(spacing_mm)
    hull = _hull(corners)
    apart = hull[:, None] - hull[None]
    lengths = np.linalg.norm(apart, axis=2)
    first, second = np.unravel_index(lengths.argmax(), lengths.shape)
    along = apart[first, second] / lengths[first, second]
    across = hull @ np.array([-along[1], along[0]])
    return float(lengths[first, second]), float(np.ptp(across))


def _hull(points: Floats) -> Floats:
    try:
        return np.asarray(points[ConvexHull(points).vertices])
    except QhullError:
        return points
