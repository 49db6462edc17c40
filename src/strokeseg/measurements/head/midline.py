"""Midline shift at the septum pellucidum, as measured on an axial slice.

The ideal midline connects the points where the mid-sagittal plane intersects the inner table at the front and at the
back; this chord is also used if the two halves of the skull differ. The shift is the distance of the septum from this
line, on the slices near the foramen of Monro (:mod:`strokeseg.measurements.head.septum` detects the septum).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from strokeseg.measurements.head import septum
from strokeseg.measurements.head.coarse_head import CoarseHead
from strokeseg.measurements.head.inner_skull import InnerSkull, trace_inner_skull
from strokeseg.measurements.head.midplane import Midplane
from strokeseg.result import Midline
from strokeseg.scan import Floats

# A smaller shift has no side, mm: radiologists differ by about this much.
_SIDE_MM = 1.0
# Depth of the foramen of Monro below the vertex, as a share of the head's length (70 of 168 mm); the septum is near it.
# A scan whose end slice exceeds this share of the largest intracranial area does not show the vertex.
_LEVEL_MEAN, _LEVEL_SD, _LEVEL_MAX_SD, _MAX_END_AREA = 0.42, 0.1, 2.2, 0.4
# Slices without this share of brain in the tissue that bone surrounds belong to the skull base.
_MIN_BRAIN_SHARE = 0.955
# Slices within this distance of the best slice and above this share of its weight are used. Their shifts must agree
# within these limits, in mm or as a share of the shift (which is smaller above and below). Every other slice with
# nearly the weight of the best slice must agree too.
_NEAR_MM, _MIN_WEIGHT, _AGREE_MM, _AGREE_SHARE, _RIVAL_WEIGHT = 8.0, 0.4, 3.0, 0.35, 0.75


@dataclass(frozen=True)
class MidlineShift:
    """The midline shift.

    Attributes
    ----------
    shift_mm : float
        Distance of the septum from the mid-sagittal plane, mm.
    side : {"left", "right"} or None
        Side of the patient to which the septum is displaced; None below 1 mm.
    midline : Midline
        Points of the measurement.
    """

    shift_mm: float
    side: Literal["left", "right"] | None
    midline: Midline


@dataclass(frozen=True)
class ShiftNotMeasured:
    """Reason why the midline shift was not measured.

    Attributes
    ----------
    code : {"no-spacing", "no-plane", "no-septum", "levels-disagree"}
        Stable code.
    message : str
        The reason, one sentence.
    """

    code: Literal["no-spacing", "no-plane", "no-septum", "levels-disagree"]
    message: str


@dataclass(frozen=True)
class _SeptumLevel:
    """The septum on one slice of the scan.

    Attributes
    ----------
    slice_index : int
        Index of the slice.
    offset_mm : float
        Distance of the septum from the plane, mm, positive towards the patient's left.
    weight : float
        Visibility of the septum, times the prior probability of this slice.
    midline : Midline
        Points of the measurement.
    """

    slice_index: int
    offset_mm: float
    weight: float
    midline: Midline


def measure_shift(head: CoarseHead, plane: Midplane | None) -> MidlineShift | ShiftNotMeasured:
    """Measure the midline shift at the septum pellucidum.

    The result is the median over the slices with the most visible septum. The shift is not measured if the ventricles
    are compressed, filled with blood or not in the scan.

    Parameters
    ----------
    head : CoarseHead
        The head.
    plane : Midplane or None
        The mid-sagittal plane of the same head.

    Returns
    -------
    MidlineShift or ShiftNotMeasured
        The shift, or the reason why it was not measured.
    """
    if not head.scan.spacing_known:
        return ShiftNotMeasured("no-spacing", "The midline shift was not measured: the pixel spacing is unknown.")
    if plane is None or not plane.reliable:
        return ShiftNotMeasured(
            "no-plane",
            "The midline shift was not measured: the skull is too asymmetric or too little of it is visible.",
        )
    skull = trace_inner_skull(head)
    levels = [] if skull is None else _find_septa(head, plane, skull)
    if not levels:
        return ShiftNotMeasured(
            "no-septum", "The midline shift was not measured: the septum between the ventricles is not visible."
        )
    return _agree(head, levels)


def _agree(head: CoarseHead, levels: list[_SeptumLevel]) -> MidlineShift | ShiftNotMeasured:
    """Compute the median over the best slice and its neighbours, if the slices agree."""
    best = max(levels, key=lambda level: level.weight)
    heights = head.scan.planes.along_normal_mm
    near = [
        level
        for level in levels
        if abs(heights[level.slice_index] - heights[best.slice_index]) <= _NEAR_MM
        and level.weight >= _MIN_WEIGHT * best.weight
    ]
    offsets = np.array([level.offset_mm for level in near])
    median = float(np.median(offsets))
    rivals = [level.offset_mm for level in levels if level.weight >= _RIVAL_WEIGHT * best.weight]
    if np.abs(np.append(offsets, rivals) - median).max() > max(_AGREE_MM, _AGREE_SHARE * abs(median)):
        return ShiftNotMeasured(
            "levels-disagree",
            "The midline shift was not measured: adjacent slices show the septum at different positions.",
        )
    representative = min(near, key=lambda level: abs(level.offset_mm - median))
    side: Literal["left", "right"] = "left" if median > 0 else "right"
    return MidlineShift(abs(median), side if abs(median) >= _SIDE_MM else None, representative.midline)


def _find_septa(head: CoarseHead, plane: Midplane, skull: InnerSkull) -> list[_SeptumLevel]:
    """Detect the septum on every slice that may show it."""
    up = head.scan.planes.normal
    forward = np.cross(plane.normal, up)
    forward *= -np.sign(forward[1]) / np.linalg.norm(forward)
    ends = skull.intersect_plane(plane.point_mm, plane.normal, forward)
    lengths = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
    if not np.isfinite(lengths).any():
        return []
    longest = float(np.nanmax(lengths))
    septa = []
    levels, known = _candidate_levels(head, longest)
    for sample, prior in levels.items():
        rows = np.flatnonzero(skull.sample_slices == sample)
        if rows.size and np.isfinite(lengths[rows[0]]):
            detected = septum.find_septum(head, sample, ends[rows[0]], level_known=known)
            if detected is not None:
                midline = _make_midline(int(head.slices[sample]), ends[rows[0]], detected.point_mm)
                offset = float(plane.distance_mm(detected.point_mm))
                septa.append(_SeptumLevel(midline.slice, offset, detected.weight * prior, midline))
    return septa


def _candidate_levels(head: CoarseHead, length_mm: float) -> tuple[dict[int, float], bool]:
    """Select the slices that may show the septum, with their prior probability; also return if the depth is known."""
    areas = head.brain.sum((1, 2))
    candidates = np.flatnonzero(areas)
    heights = head.scan.planes.along_normal_mm[head.slices]
    top, sign = (candidates[-1], 1) if head.scan.planes.normal[2] >= 0 else (candidates[0], -1)
    if areas[top] > _MAX_END_AREA * areas.max():
        return {int(index): 1.0 for index in candidates if _is_above_base(head, int(index))}, False
    deviations = ((heights[top] - heights[candidates]) * sign / length_mm - _LEVEL_MEAN) / _LEVEL_SD
    return {
        int(index): float(np.exp(-(deviation**2) / 2))
        for index, deviation in zip(candidates, deviations, strict=True)
        if abs(deviation) < _LEVEL_MAX_SD
    }, True


def _is_above_base(head: CoarseHead, sample: int) -> bool:
    """Return whether nearly all soft tissue that bone surrounds is brain: no orbit, face or ear on the slice."""
    bone = head.samples.bone_share[sample] > 0.5
    enclosed = [
        np.flip(np.logical_or.accumulate(np.flip(bone, axis) if flip else bone, axis=axis), axis if flip else ())
        for axis in (0, 1)
        for flip in (False, True)
    ]
    inside = np.logical_and.reduce(enclosed) & (head.samples.soft_share[sample] > 0.5)
    return bool((head.brain[sample] & inside).sum() >= _MIN_BRAIN_SHARE * inside.sum())


def _make_midline(slice_index: int, ends_mm: Floats, septum_mm: Floats) -> Midline:
    front, back, centre = (
        (float(point[0]), float(point[1]), float(point[2])) for point in (ends_mm[0], ends_mm[1], septum_mm)
    )
    return Midline(slice=slice_index, front_lps_mm=front, back_lps_mm=back, septum_lps_mm=centre)
