"""A lesion's form: its longest diameter, its surface and how far from a ball it is; and its density."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from strokeseg.imaging import components
from strokeseg.measurements.lesion.volume import areas_px
from strokeseg.scan import Floats, Planes, Scan

Mask = NDArray[np.bool_]

MIN_PIXELS = 20
"""A disc of fewer pixels, 5 across, has an outline that is known to a tenth at best, so no surface is given; of fewer
in all, the deviation of the density is not given either."""

# Directions of the lines that count an outline's crossings, in pixels (row, column): eight that share no line.
_LINES = ((0, 1), (1, 0), (1, 1), (1, -1), (1, 2), (2, 1), (1, -2), (2, -1))
# Walls are measured in squares of this size: within one they are taken to be equally steep.
_SQUARE_MM = 8.0


def max_diameter_mm(mask: Mask, scan: Scan) -> float | None:
    """Return the longest distance between two pixel corners of one lesion on one slice.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        One lesion.
    scan : Scan
        Its scan.

    Returns
    -------
    float or None
        Float, mm, 0.0 for an empty mask; None where the pixel spacing is not known.

    Raises
    ------
    ValueError
        If the mask is not bool or not of the scan's shape.
    """
    components.check_mask(mask, scan)
    if not scan.spacing_known:
        return None
    spacing_mm = scan.planes.pixel_spacing_mm
    return max((diameter_mm(mask[index], spacing_mm)[0] for index in np.flatnonzero(areas_px(mask))), default=0.0)


def diameter_mm(plane: Mask, spacing_mm: tuple[float, float]) -> tuple[float, Floats]:
    """Return the longest distance between two pixel corners on a slice that is not empty, and its direction.

    Parameters
    ----------
    plane : ndarray of bool, shape (rows, columns)
        Plane.
    spacing_mm : tuple of (float, float)
        (between rows, between columns).

    Returns
    -------
    tuple of (float, Floats)
        Float, mm; and (2,), a unit vector (down, right) in mm.
    """
    rows = np.flatnonzero(plane.any(1))
    first, last = plane[rows].argmax(1), plane.shape[1] - 1 - plane[rows, ::-1].argmax(1)
    # The hull of a row of pixels is that of its first and its last.
    ends = [
        np.column_stack([rows + down, ends + right])
        for down in (-0.5, 0.5)
        for ends, right in ((first, -0.5), (last, 0.5))
    ]
    corners = np.concatenate(ends) * np.asarray(spacing_mm)
    hull = _hull_vertices(corners)
    apart = hull[:, None] - hull[None]
    lengths = np.linalg.norm(apart, axis=2)
    one, other = np.unravel_index(lengths.argmax(), lengths.shape)
    longest = float(lengths[one, other])
    return longest, apart[one, other] / longest


def surface_mm2(mask: Mask, scan: Scan) -> float | None:
    """Estimate the area of a lesion's surface, without the steps of its pixels and slices.

    The outline's length on every slice follows from how often lines cross it (Cauchy-Crofton). Between two slices the
    surface is a sloping wall: h apart, with outlines of length P, and D the area that one slice covers and the other
    does not, it has sqrt((P h)² + D²), which is exact for a cone. This is summed over squares of 8 mm, so that a steep
    wall on one side and a slope on the other are not mixed up. At the first and last slice, and at a gap in which
    slices are missing, it ends half a slice further in a cap, about as a ball does.

    The slices' true places count: a tilt shifts what is compared, and makes no wall. The mask of a single slice is a
    plate as thick as its weight.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        One lesion.
    scan : Scan
        Its scan.

    Returns
    -------
    float or None
        Float, mm²; None where the spacing or the slice weights are not known, or no slice has :data:`FEWEST_PX`
        pixels.

    Raises
    ------
    ValueError
        If the mask is not bool or not of the scan's shape.
    """
    components.check_mask(mask, scan)
    weights = scan.weights_mm
    areas = areas_px(mask)
    if weights is None or areas.max(initial=0) < MIN_PIXELS:
        return None
    planes = scan.planes
    held = np.flatnonzero(areas)
    outlines = {int(index): _outline_mm(mask[index], planes.pixel_spacing_mm) for index in held}
    if len(held) == 1:
        plate = held[0]
        return 2 * float(areas[plate]) * planes.pixel_area_mm2 + float(outlines[int(plate)].sum() * weights[plate])
    ends = _half_extents_mm(planes)
    joined = ~planes.gaps_with_missing_slices
    total = 0.0
    for index in outlines:
        area_mm2, length_mm = float(areas[index]) * planes.pixel_area_mm2, float(outlines[index].sum())
        for side, other in enumerate((index - 1, index + 1)):
            if other not in outlines or not joined[min(index, other)]:
                total += float(np.sqrt(area_mm2**2 + (length_mm * ends[index, side]) ** 2 / 2))
    for low, high in pairwise(outlines):
        if high == low + 1 and joined[low]:
            total += _wall_mm2(mask[low : low + 2], (outlines[low], outlines[high]), planes, low)
    return total


def sphericity(volume_ml: float | None, surface_mm2: float | None) -> float | None:
    """Return the surface of the ball of the same volume, as a share of the surface: 1 is a ball, less is irregular.

    Returns
    -------
    float or None
        At most 1.0; None where one of the two is not known or zero.

    References
    ----------
    Wadell H. Volume, shape, and roundness of quartz particles. J Geol 1935;43:250-280.
    """
    if not volume_ml or not surface_mm2:
        return None
    return min(1.0, float(np.cbrt(36 * np.pi * (1000 * volume_ml) ** 2)) / surface_mm2)


def density_hu(mask: Mask, scan: Scan) -> tuple[float, float | None] | None:
    """Return the mean and the standard deviation of a lesion's Hounsfield units, every pixel with its slice's weight.

    Where the weights are not known, every pixel counts alike.

    Returns
    -------
    tuple of (float, float or None) or None
        None where the scan is not calibrated or the mask is empty; the deviation alone is None for a lesion of fewer
        than :data:`FEWEST_PX` pixels.

    Raises
    ------
    ValueError
        If the mask is not bool or not of the scan's shape.
    """
    components.check_mask(mask, scan)
    places = np.nonzero(mask)
    if not scan.calibrated or not places[0].size:
        return None
    hu = scan.hu[places].astype(np.float64)
    share = None if scan.weights_mm is None else scan.weights_mm[places[0]]
    mean = float(np.average(hu, weights=share))
    if hu.size < MIN_PIXELS:
        return mean, None
    return mean, float(np.sqrt(np.average((hu - mean) ** 2, weights=share)))


def _hull_vertices(points: Floats) -> Floats:
    try:
        return np.asarray(points[ConvexHull(points).vertices])
    except QhullError:
        return points


def _outline_mm(plane: Mask, spacing_mm: tuple[float, float]) -> Floats:
    """(rows + 4, columns + 4), the length of the outline at each pixel, mm; two pixels of margin on every side.

    Half the integral, over the directions of a half turn, of the crossings times the distance between the lines.
    """
    directions = np.array(_LINES) * spacing_mm
    lengths = np.linalg.norm(directions, axis=1)
    angles = np.arctan2(directions[:, 0], directions[:, 1]) % np.pi
    order = np.argsort(angles)
    turns = np.append(angles[order], angles[order[0]] + np.pi)
    share = np.empty(len(_LINES))
    share[order] = (np.diff(turns) + np.roll(np.diff(turns), 1)) / 2
    inside = np.pad(plane, 2)
    outline = np.zeros(inside.shape)
    rows, columns = inside.shape
    for (down, right), angle, length in zip(_LINES, share, lengths, strict=True):
        from_, to = max(0, -right), columns - max(0, right)
        crossed = inside[: rows - down, from_:to] != inside[down:, from_ + right : to + right]
        outline[: rows - down, from_:to] += crossed * (angle / 2 * spacing_mm[0] * spacing_mm[1] / length)
    return outline


def _half_extents_mm(planes: Planes) -> Floats:
    """(slices, 2), how far each slice's prism reaches below and above its centre, mm."""
    weights, gaps = planes.weights_mm, planes.gaps_mm
    reach = np.repeat(weights[:, None] / 2, 2, axis=1)
    whole = ~planes.gaps_with_missing_slices
    reach[1:, 0][whole], reach[:-1, 1][whole] = gaps[whole] / 2, gaps[whole] / 2
    below, above = np.flatnonzero(~whole) + 1, np.flatnonzero(~whole)
    reach[below, 0] = weights[below] - reach[below, 1]
    reach[above, 1] = weights[above] - reach[above, 0]
    return reach


def _wall_mm2(pair: Mask, outlines: tuple[Floats, Floats], planes: Planes, low: int) -> float:
    """Return the area of the wall between the outlines of two neighbouring slices, the lower of them ``low``."""
    row, column = components.compute_offsets_px(planes)[low]
    wide = int(np.ceil(max(abs(row), abs(column)))) + 2
    below, above = np.pad(pair[0], wide).astype(np.float64), np.pad(pair[1], wide).astype(np.float64)
    apart = np.abs(below - _shift_plane(above, row, column)) * planes.pixel_area_mm2
    lengths = np.pad(outlines[0], wide - 2) + _shift_plane(np.pad(outlines[1], wide - 2), round(row), round(column))
    squares = [max(1, round(_SQUARE_MM / mm)) for mm in planes.pixel_spacing_mm]
    apart, lengths = _sum_squares(apart, squares), _sum_squares(lengths, squares) / 2
    return float(np.sqrt((lengths * planes.gaps_mm[low]) ** 2 + apart**2).sum())


def _shift_plane(plane: Floats, rows: float, columns: float) -> Floats:
    """Move a picture with a wide empty margin by a fraction of pixels, each pixel's share by the area it covers."""
    down, right = int(np.floor(rows)), int(np.floor(columns))
    moved = np.zeros_like(plane)
    for row, of_row in ((down, 1 - (rows - down)), (down + 1, rows - down)):
        for column, of_column in ((right, 1 - (columns - right)), (right + 1, columns - right)):
            if of_row * of_column > 0:
                moved += of_row * of_column * np.roll(plane, (row, column), axis=(0, 1))
    return moved


def _sum_squares(plane: Floats, squares: list[int]) -> Floats:
    across = np.add.reduceat(plane, np.arange(0, plane.shape[0], squares[0]), axis=0)
    return np.asarray(np.add.reduceat(across, np.arange(0, plane.shape[1], squares[1]), axis=1))
