"""The septum pellucidum on one slice: the wall between the two lateral ventricles.

On many lines across the head, narrow gaps between two runs of fluid are detected. Gaps that lie on one line from front
to back are the septum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.measurements.head.coarse_head import CoarseHead
from strokeseg.scan import Floats

# Grid on which a slice is resampled: half-width across the midline, and steps across and along it, mm; standard
# deviations of the smoothing along the septum and across it, mm.
_ASIDE_MM, _ACROSS_MM, _ALONG_MM = 44.0, 0.5, 1.0
_SMOOTH_MM = (2.0, 0.8)
# Examined part of the midline, as shares of its length from the front; further back the ventricles diverge.
_FROM, _TO = 0.08, 0.55
# Position of the foramen of Monro, near which the septum is measured.
_FORAMEN_PART, _FORAMEN_SD = 0.42, 0.06
# The centre of the septum lies in this part of the midline; a gap that begins before the second limit is the fissure
# between the hemispheres.
_SEPTUM_PART, _FISSURE_PART = (0.25, 0.52), 0.2
# Lowest contrast between fluid and brain, HU. Fluid ends at these levels between fluid (0) and brain (1); the lower
# levels separate ventricles with a thin, blurred septum between them.
_LEAST_CONTRAST_HU = 10.0
_LEVELS = (0.5, 0.36, 0.24)
_DARKEST_HU = -15.0
# The density of fluid is the lowest one in the centre of the head: behind this part of the midline, within this width.
_CENTRE_PART, _CENTRE_MM = 0.28, 20.0
# Gap between two runs of fluid: largest width, width with weight 1/e, and smallest width of the runs, mm.
_WIDEST_MM, _NARROW_MM, _RUN_MM = 14.0, 7.0, 1.5
# Limits for ventricles filled with blood: a hemorrhage beside a ventricle is thicker and further away, mm.
_BLOODY_GAP_MM, _BLOODY_RUN_MM = 5.0, 18.0
_SOME_BLOOD, _BLOOD = 0.3, 0.5
# The septum: largest slope, smallest length, smallest area of fluid on each side, smallest mean visibility of its lines
# (3 for wide runs at all levels), and largest distance between two lines.
_LEAN, _LONG_MM, _FLUID_MM2, _LEAST_SEEN, _BREAK_MM = 0.36, 8.0, 15.0, 0.85, 3.5
_FURTHEST_MM, _OFF_LINE_MM = 22.0, 1.5


@dataclass(frozen=True)
class Septum:
    """The septum on one slice.

    Attributes
    ----------
    point_mm : ndarray of float, shape (3,)
        Point on the septum, LPS mm.
    weight : float
        Visibility: sum over its gaps, where narrow gaps near the foramen of Monro count most.
    """

    point_mm: Floats
    weight: float


def find_septum(head: CoarseHead, sample: int, ends_mm: Floats, *, level_known: bool) -> Septum | None:
    """Detect the septum on one slice.

    Parameters
    ----------
    head : CoarseHead
        The head.
    sample : int
        Index of the slice of samples.
    ends_mm : ndarray of float, shape (2, 3)
        Front and back end of the ideal midline on the slice, LPS mm.
    level_known : bool
        Whether the slice is known to lie at the level of the ventricles; only then may blood fill the ventricles.

    Returns
    -------
    Septum or None
        The septum; None if nothing separates two ventricles.
    """
    front_mm, back_mm = ends_mm
    length = float(np.linalg.norm(back_mm - front_mm))
    back = (back_mm - front_mm) / length
    left = np.cross(head.scan.planes.normal, back)
    aside = np.arange(-_ASIDE_MM, _ASIDE_MM + _ACROSS_MM, _ACROSS_MM)
    along = np.arange(_FROM * length, _TO * length, _ALONG_MM)
    grey, blood = _resample(head, sample, front_mm + along[:, None, None] * back + aside[:, None] * left)
    brain = _brain_hu(head, sample)
    centre = grey[np.ix_(along > _CENTRE_PART * length, np.abs(aside) < _CENTRE_MM)]
    fluid = max(float(np.percentile(centre, 2)), _DARKEST_HU)
    if brain - fluid < _LEAST_CONTRAST_HU:
        return None
    # Air, fat and blood are no fluid. If no septum is detected then, blood may fill a ventricle.
    filled = np.where((grey < _DARKEST_HU) | (blood > _SOME_BLOOD), brain, grey)
    line = _fit_line(_find_gaps_at_levels(filled, brain, fluid, along, aside), length)
    if line is None and level_known and blood.max() > _BLOOD:
        gaps = _find_gaps_at_levels(np.where(blood > _BLOOD, fluid, filled), brain, fluid, along, aside)
        narrow = (gaps[:, 2] <= _BLOODY_GAP_MM) & (gaps[:, 3:5] <= _BLOODY_RUN_MM).all(1)
        line = _fit_line(gaps[narrow], length)
    if line is None:
        return None
    return Septum(front_mm + line[0] * back + line[1] * left, line[2])


def _resample(head: CoarseHead, sample: int, points_mm: Floats) -> tuple[Floats, Floats]:
    """Resample a slice at points: smoothed HU of the scan's own pixels, and the share of blood.

    Thin slices are averaged over the slices that the sample represents.
    """
    planes, step = head.scan.planes, head.samples.slice_step
    index = int(head.slices[sample])
    first = max(0, index - (step - 1) // 2)
    pixels = head.scan.hu[first : first + step]
    offsets = points_mm - planes.positions_mm[index]
    rows = offsets @ planes.column_cosine / planes.pixel_spacing_mm[0]
    columns = offsets @ planes.row_cosine / planes.pixel_spacing_mm[1]
    starts = [
        min(max(0, int(positions.min()) - 1), size - 1)
        for positions, size in zip((rows, columns), pixels.shape[1:], strict=True)
    ]
    box = [
        slice(start, max(start + 1, int(positions.max()) + 3))
        for start, positions in zip(starts, (rows, columns), strict=True)
    ]
    cropped = pixels[:, box[0], box[1]].mean(0, dtype=np.float32)
    grey = ndimage.map_coordinates(cropped, [rows - box[0].start, columns - box[1].start], order=1, mode="nearest")
    grey = ndimage.gaussian_filter(grey, (_SMOOTH_MM[0] / _ALONG_MM, _SMOOTH_MM[1] / _ACROSS_MM))
    pixel = head.samples.pixel_step
    blood = ndimage.map_coordinates(
        head.blood[sample],
        [(positions - (pixel - 1) / 2) / pixel for positions in (rows, columns)],
        order=1,
        mode="nearest",
    )
    return grey, blood


def _brain_hu(head: CoarseHead, sample: int) -> float:
    inside = ndimage.binary_erosion(head.brain[sample], iterations=2) & (head.blood[sample] < 0.1)
    return float(np.median(head.hu[sample][inside])) if inside.any() else 0.0


def _find_gaps_at_levels(grey: Floats, brain: float, fluid: float, along: Floats, aside: Floats) -> Floats:
    """Find the gaps (:func:`_find_gaps`) at every level."""
    return np.concatenate([_find_gaps(grey < fluid + level * (brain - fluid), along, aside) for level in _LEVELS])


def _find_gaps(fluid: NDArray[np.bool_], along: Floats, aside: Floats) -> Floats:
    """Find the gaps between adjacent runs of fluid on lines across the midline.

    Runs that leave the grid are not used.

    Returns
    -------
    ndarray of float, shape (n, 7)
        For every gap: position along and across the midline, width, widths of both runs, mm; weight; visibility.
    """
    padded = np.pad(fluid, ((0, 0), (1, 1))).astype(np.int8)
    transitions = np.diff(padded, axis=1)
    row, start = np.nonzero(transitions == 1)
    stop = np.nonzero(transitions == -1)[1]
    inner = (start > 0) & (stop < fluid.shape[1])
    widths = (stop - start) * _ACROSS_MM
    left, right = np.arange(row.size - 1), np.arange(1, row.size)
    gap = (start[right] - stop[left]) * _ACROSS_MM
    valid = (row[left] == row[right]) & (gap <= _WIDEST_MM) & inner[left] & inner[right]
    valid &= np.minimum(widths[left], widths[right]) >= _RUN_MM
    left, right, gap = left[valid], right[valid], gap[valid]
    centre = aside[0] + (start[right] + stop[left] - 1) / 2 * _ACROSS_MM
    visibility = np.minimum(1, np.minimum(widths[left], widths[right]) / 3)
    weight = visibility * np.exp(-((gap / _NARROW_MM) ** 2))
    return np.column_stack([along[row[left]], centre, gap, widths[left], widths[right], weight, visibility])


def _fit_line(gaps: Floats, length_mm: float) -> tuple[float, float, float] | None:
    """Fit the straight line with most gaps; return the position along and across of its centre, and its weight."""
    if len(gaps) < 3:
        return None
    slopes = np.arange(-_LEAN, _LEAN + 0.01, 0.06)
    origin = length_mm * _FORAMEN_PART
    bins = np.arange(-40.0, 41.0)
    votes = np.stack(
        [np.histogram(gaps[:, 1] - slope * (gaps[:, 0] - origin), bins, weights=gaps[:, 5])[0] for slope in slopes]
    )
    votes = votes + 0.5 * (np.roll(votes, 1, 1) + np.roll(votes, -1, 1))
    slope_index, bin_index = np.unravel_index(votes.argmax(), votes.shape)
    slope, aside = float(slopes[slope_index]), float(bins[bin_index] + 0.5)
    for _ in range(2):
        distance = np.abs(gaps[:, 1] - aside - slope * (gaps[:, 0] - origin))
        members = gaps[distance < _OFF_LINE_MM]
        # Gaps on one or two lines across do not determine a line.
        if np.unique(members[:, 0]).size < 3:
            return None
        slope, intercept = np.polyfit(members[:, 0] - origin, members[:, 1], 1, w=np.sqrt(members[:, 5]))
        aside = float(intercept)
    return _check_septum(members, length_mm) if abs(slope) <= 1.5 * _LEAN else None


def _check_septum(gaps: Floats, length_mm: float) -> tuple[float, float, float] | None:
    """Return centre and weight if gaps on a line form a septum; only their longest unbroken part counts."""
    gaps = gaps[np.argsort(gaps[:, 0], kind="stable")]
    runs = np.split(gaps, np.flatnonzero(np.diff(gaps[:, 0]) > _BREAK_MM) + 1)
    gaps = max(runs, key=lambda run: float(run[:, 5].sum()))
    rows, first = np.unique(gaps[:, 0], return_index=True)
    if rows.size * _ALONG_MM < _LONG_MM or gaps[:, 6].sum() < _LEAST_SEEN * rows.size:
        return None
    if min(gaps[first, 3].sum(), gaps[first, 4].sum()) * _ALONG_MM < _FLUID_MM2:
        return None
    centre = float(np.average(gaps[:, 0], weights=gaps[:, 5]))
    if not _SEPTUM_PART[0] <= centre / length_mm <= _SEPTUM_PART[1] or rows[0] < _FISSURE_PART * length_mm:
        return None
    weights = gaps[:, 5] * np.exp(-(((gaps[:, 0] / length_mm - _FORAMEN_PART) / _FORAMEN_SD) ** 2) / 2)
    along, across = (float(np.average(gaps[:, column], weights=weights + 1e-6)) for column in (0, 1))
    return (along, across, float(weights.sum())) if abs(across) <= _FURTHEST_MM else None
