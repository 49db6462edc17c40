"""Shape and density of a lesion: longest diameter, surface, sphericity, Hounsfield units."""

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
"""Smallest area on a slice for a surface: the outline of a smaller disc, 5 pixels wide, is accurate to 10 % at best.
Also the smallest number of pixels for the standard deviation of the density."""

# Directions of the lines that intersect the outline, in pixels (row, column): eight, no two of them parallel.
_LINES = ((0, 1), (1, 0), (1, 1), (1, -1), (1, 2), (2, 1), (1, -2), (2, -1))
# The wall between two slices is summed over squares of this size, in which its slope is assumed constant.
_SQUARE_MM = 8.0


def max_diameter_mm(mask: Mask, scan: Scan) -> float | None:
    """Longest distance between two pixel corners of one lesion on one slice.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        One lesion.
    scan : Scan
        The scan.

    Returns
    -------
    float or None
        Diameter, mm; 0.0 for an empty mask; None if the pixel spacing is unknown.

    Raises
    ------
    ValueError
        If the mask is not bool or does not have the scan's shape.
    """
    components.check_mask(mask, scan)
    if not scan.spacing_known:
        return None
    spacing_mm = scan.planes.pixel_spacing_mm
    return max((diameter_mm(mask[index], spacing_mm)[0] for index in np.flatnonzero(areas_px(mask))), default=0.0)


def diameter_mm(plane: Mask, spacing_mm: tuple[float, float]) -> tuple[float, Floats]:
    """Longest distance between two pixel corners on a slice that is not empty, and its direction.

    Parameters
    ----------
    plane : ndarray of bool, shape (rows, columns)
        The slice.
    spacing_mm : tuple of (float, float)
        Pixel spacing (between rows, between columns), mm.

    Returns
    -------
    tuple of (float, ndarray of float)
        Diameter, mm, and its direction: a unit vector (down, right), shape (2,).
    """
    rows = np.flatnonzero(plane.any(1))
    first, last = plane[rows].argmax(1), plane.shape[1] - 1 - plane[rows, ::-1].argmax(1)
    # The first and the last pixel of each row determine the convex hull.
    ends = [
        np.column_stack([rows + down, ends + right])
        for down in (-0.5, 0.5)
        for ends, right in ((first, -0.5), (last, 0.5))
    ]
    corners = np.concatenate(ends) * np.asarray(spacing_mm)
    hull = _hull_vertices(corners)
    differences = hull[:, None] - hull[None]
    lengths = np.linalg.norm(differences, axis=2)
    first_corner, second_corner = np.unravel_index(lengths.argmax(), lengths.shape)
    longest = float(lengths[first_corner, second_corner])
    return longest, differences[first_corner, second_corner] / longest


def surface_mm2(mask: Mask, scan: Scan) -> float | None:
    """Estimate the surface area of a lesion, without the steps of its pixels and slices.

    The length of the outline on each slice is computed from its intersections with lines (Cauchy-Crofton). Between two
    slices at distance h, with outlines of length P and an area D that only one of them covers, the surface is a sloping
    wall of area sqrt((P h)² + D²), which is exact for a cone. The wall is summed over squares of 8 mm, so that a steep
    and a flat side are not averaged. At the first and the last slice, and at a gap of missing slices, the surface ends
    in a cap half a slice further out, as for a ball.

    The true positions of the slices are used: a gantry tilt shifts the outlines and adds no surface. The mask of a
    single slice is a plate as thick as the slice weight.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        One lesion.
    scan : Scan
        The scan.

    Returns
    -------
    float or None
        Area, mm²; None if the spacing or the slice weights are unknown, or no slice has :data:`MIN_PIXELS` pixels.

    Raises
    ------
    ValueError
        If the mask is not bool or does not have the scan's shape.
    """
    components.check_mask(mask, scan)
    weights = scan.weights_mm
    areas = areas_px(mask)
    if weights is None or areas.max(initial=0) < MIN_PIXELS:
        return None
    planes = scan.planes
    occupied = np.flatnonzero(areas)
    outlines = {int(index): _outline_mm(mask[index], planes.pixel_spacing_mm) for index in occupied}
    if len(occupied) == 1:
        plate = occupied[0]
        return 2 * float(areas[plate]) * planes.pixel_area_mm2 + float(outlines[int(plate)].sum() * weights[plate])
    half_extents_mm = _half_extents_mm(planes)
    adjacent = ~planes.gaps_with_missing_slices
    total = 0.0
    for index in outlines:
        area_mm2, length_mm = float(areas[index]) * planes.pixel_area_mm2, float(outlines[index].sum())
        for side, other in enumerate((index - 1, index + 1)):
            if other not in outlines or not adjacent[min(index, other)]:
                total += float(np.sqrt(area_mm2**2 + (length_mm * half_extents_mm[index, side]) ** 2 / 2))
    for low, high in pairwise(outlines):
        if high == low + 1 and adjacent[low]:
            total += _wall_mm2(mask[low : low + 2], (outlines[low], outlines[high]), planes, low)
    return total


def sphericity(volume_ml: float | None, surface_mm2: float | None) -> float | None:
    """Surface of a ball of the same volume, divided by the surface: 1 for a ball, lower for irregular shapes.

    Parameters
    ----------
    volume_ml : float or None
        Volume, ml.
    surface_mm2 : float or None
        Surface, mm².

    Returns
    -------
    float or None
        Sphericity, at most 1.0; None if volume or surface is unknown or zero.

    References
    ----------
    Wadell H. Volume, shape, and roundness of quartz particles. J Geol 1935;43:250-280.
    """
    if not volume_ml or not surface_mm2:
        return None
    return min(1.0, float(np.cbrt(36 * np.pi * (1000 * volume_ml) ** 2)) / surface_mm2)


def density_hu(mask: Mask, scan: Scan) -> tuple[float, float | None] | None:
    """Mean and standard deviation of a lesion's Hounsfield units, each pixel weighted by its slice.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        The lesion.
    scan : Scan
        The scan; all pixels have equal weight if its slice weights are unknown.

    Returns
    -------
    tuple of (float, float or None) or None
        Mean and standard deviation, HU. None if the scan is not calibrated or the mask is empty; the standard deviation
        is None for a lesion of fewer than :data:`MIN_PIXELS` pixels.

    Raises
    ------
    ValueError
        If the mask is not bool or does not have the scan's shape.
    """
    components.check_mask(mask, scan)
    pixels = np.nonzero(mask)
    if not scan.calibrated or not pixels[0].size:
        return None
    hu = scan.hu[pixels].astype(np.float64)
    weights = None if scan.weights_mm is None else scan.weights_mm[pixels[0]]
    mean = float(np.average(hu, weights=weights))
    if hu.size < MIN_PIXELS:
        return mean, None
    return mean, float(np.sqrt(np.average((hu - mean) ** 2, weights=weights)))


def _hull_vertices(points: Floats) -> Floats:
    try:
        return np.asarray(points[ConvexHull(points).vertices])
    except QhullError:
        return points


def _outline_mm(plane: Mask, spacing_mm: tuple[float, float]) -> Floats:
    """Length of the outline at each pixel, mm, shape (rows + 4, columns + 4): a margin of two pixels on each side.

    The length is half the integral, over all directions of a half turn, of the number of crossings times the distance
    between the lines.
    """
    directions = np.array(_LINES) * spacing_mm
    lengths = np.linalg.norm(directions, axis=1)
    angles = np.arctan2(directions[:, 0], directions[:, 1]) % np.pi
    order = np.argsort(angles)
    closed_angles = np.append(angles[order], angles[order[0]] + np.pi)
    angle_widths = np.empty(len(_LINES))
    angle_widths[order] = (np.diff(closed_angles) + np.roll(np.diff(closed_angles), 1)) / 2
    inside = np.pad(plane, 2)
    outline = np.zeros(inside.shape)
    rows, columns = inside.shape
    for (down, right), angle, length in zip(_LINES, angle_widths, lengths, strict=True):
        start, stop = max(0, -right), columns - max(0, right)
        crossed = inside[: rows - down, start:stop] != inside[down:, start + right : stop + right]
        outline[: rows - down, start:stop] += crossed * (angle / 2 * spacing_mm[0] * spacing_mm[1] / length)
    return outline


def _half_extents_mm(planes: Planes) -> Floats:
    """Extent of each slice below and above its centre, mm, shape (slices, 2)."""
    weights, gaps = planes.weights_mm, planes.gaps_mm
    extents = np.repeat(weights[:, None] / 2, 2, axis=1)
    contiguous = ~planes.gaps_with_missing_slices
    extents[1:, 0][contiguous], extents[:-1, 1][contiguous] = gaps[contiguous] / 2, gaps[contiguous] / 2
    below, above = np.flatnonzero(~contiguous) + 1, np.flatnonzero(~contiguous)
    extents[below, 0] = weights[below] - extents[below, 1]
    extents[above, 1] = weights[above] - extents[above, 0]
    return extents


def _wall_mm2(pair: Mask, outlines: tuple[Floats, Floats], planes: Planes, low: int) -> float:
    """Area of the wall between the outlines of two adjacent slices, mm²; ``low`` is the index of the lower slice."""
    row, column = components.compute_offsets_px(planes)[low]
    margin = int(np.ceil(max(abs(row), abs(column)))) + 2
    below, above = np.pad(pair[0], margin).astype(np.float64), np.pad(pair[1], margin).astype(np.float64)
    uncovered = np.abs(below - _shift_plane(above, row, column)) * planes.pixel_area_mm2
    lengths = np.pad(outlines[0], margin - 2) + _shift_plane(np.pad(outlines[1], margin - 2), round(row), round(column))
    squares = [max(1, round(_SQUARE_MM / mm)) for mm in planes.pixel_spacing_mm]
    uncovered, lengths = _sum_squares(uncovered, squares), _sum_squares(lengths, squares) / 2
    return float(np.sqrt((lengths * planes.gaps_mm[low]) ** 2 + uncovered**2).sum())


def _shift_plane(plane: Floats, rows: float, columns: float) -> Floats:
    """Shift a slice with a wide empty margin by fractions of pixels, and distribute each pixel by covered area."""
    down, right = int(np.floor(rows)), int(np.floor(columns))
    shifted = np.zeros_like(plane)
    for row, row_share in ((down, 1 - (rows - down)), (down + 1, rows - down)):
        for column, column_share in ((right, 1 - (columns - right)), (right + 1, columns - right)):
            if row_share * column_share > 0:
                shifted += row_share * column_share * np.roll(plane, (row, column), axis=(0, 1))
    return shifted


def _sum_squares(plane: Floats, squares: list[int]) -> Floats:
    across = np.add.reduceat(plane, np.arange(0, plane.shape[0], squares[0]), axis=0)
    return np.asarray(np.add.reduceat(across, np.arange(0, plane.shape[1], squares[1]), axis=1))
