"""The midline shift at the septum pellucidum, as it is measured on an axial slice.

The ideal midline runs from the inner table in front to the inner table at the back, where the mid-sagittal plane meets
them; where the two halves of a skull differ, that chord is what "ideal" means. The shift is the septum's distance from
it, on the slices near the foramen of Monro (:mod:`strokeseg.measurements.head.septum` finds it on a slice).
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

# Below this nothing is said of a side, mm: radiologists differ by about as much.
_SIDE_MM = 1.0
# The foramen of Monro lies about so far below the vertex, in parts of the head's length (70 of 168 mm), and the septum
# near it; a scan whose end slice is wider than this share of the widest one does not show the vertex.
_LEVEL_MEAN, _LEVEL_SD, _LEVEL_MAX_SD, _MAX_END_AREA = 0.42, 0.1, 2.2, 0.4
# Where it does not, slices of the skull's base are told by what else their bone surrounds.
_MIN_BRAIN_SHARE = 0.955
# Slices so near to the best one and so good beside it take part. They must agree so well, in mm or parts of the shift
# (which is less above and below), and so must any other slice that is nearly as good as the best.
_NEAR_MM, _MIN_WEIGHT, _AGREE_MM, _AGREE_SHARE, _RIVAL_WEIGHT = 8.0, 0.4, 3.0, 0.35, 0.75


@dataclass(frozen=True)
class MidlineShift:
    """The midline shift.

    Parameters
    ----------
    mm : object
        The septum's distance from the mid-sagittal plane.
    side : {"left", "right"} or None
        Of the patient, to which it is pushed; None below 1 mm.
    figure : object
        Where it was measured.
    """

    shift_mm: float
    side: Literal["left", "right"] | None
    midline: Midline


@dataclass(frozen=True)
class ShiftNotMeasured:
    """Why the midline shift was not measured: a stable code, and a sentence."""

    code: Literal["no-spacing", "no-plane", "no-septum", "levels-disagree"]
    message: str


@dataclass(frozen=True)
class _SeptumLevel:
    """The septum on one of the scan's slices.

    Parameters
    ----------
    slice_index : int
        Of the scan.
    off_mm : object
        The septum's distance from the plane, positive towards the patient's left.
    weight : float
        How well it is seen, times how likely it is to be seen there.
    figure : object
        Its place.
    """

    slice_index: int
    offset_mm: float
    weight: float
    midline: Midline


def measure_shift(head: CoarseHead, plane: Midplane | None) -> MidlineShift | ShiftNotMeasured:
    """Measure the midline shift at the septum pellucidum.

    The slices on which the septum is seen best are asked, and their median is given. Where the ventricles are pressed
    shut, filled with blood or not in the scan, nothing is.

    Parameters
    ----------
    plane : Midplane or None
        The mid-sagittal plane of the same head.
    """
    if not head.scan.spacing_known:
        return ShiftNotMeasured("no-spacing", "The midline shift was not measured: the pixel spacing is not known.")
    if plane is None or not plane.reliable:
        return ShiftNotMeasured(
            "no-plane", "The midline shift was not measured: the skull is too asymmetric or too little of it is seen."
        )
    shell = trace_inner_skull(head)
    seen = [] if shell is None else _find_septa(head, plane, shell)
    if not seen:
        return ShiftNotMeasured(
            "no-septum", "The midline shift was not measured: the septum between the ventricles is not seen."
        )
    return _agree(head, seen)


def _agree(head: CoarseHead, seen: list[_SeptumLevel]) -> MidlineShift | ShiftNotMeasured:
    """The median of the best slice and those near it."""
    best = max(seen, key=lambda level: level.weight)
    heights = head.scan.planes.along_normal_mm
    near = [
        level
        for level in seen
        if abs(heights[level.slice_index] - heights[best.slice_index]) <= _NEAR_MM
        and level.weight >= _MIN_WEIGHT * best.weight
    ]
    offs = np.array([level.offset_mm for level in near])
    middle = float(np.median(offs))
    rivals = [level.offset_mm for level in seen if level.weight >= _RIVAL_WEIGHT * best.weight]
    if np.abs(np.append(offs, rivals) - middle).max() > max(_AGREE_MM, _AGREE_SHARE * abs(middle)):
        return ShiftNotMeasured(
            "levels-disagree",
            "The midline shift was not measured: neighbouring slices show the septum at other places.",
        )
    shown = min(near, key=lambda level: abs(level.offset_mm - middle))
    side: Literal["left", "right"] = "left" if middle > 0 else "right"
    return MidlineShift(abs(middle), side if abs(middle) >= _SIDE_MM else None, shown.midline)


def _find_septa(head: CoarseHead, plane: Midplane, shell: InnerSkull) -> list[_SeptumLevel]:
    """Look for the septum on every slice that may show it."""
    up = head.scan.planes.normal
    forward = np.cross(plane.normal, up)
    forward *= -np.sign(forward[1]) / np.linalg.norm(forward)
    ends = shell.intersect_plane(plane.point_mm, plane.normal, forward)
    lengths = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
    if not np.isfinite(lengths).any():
        return []
    longest = float(np.nanmax(lengths))
    found = []
    levels, known = _candidate_levels(head, longest)
    for sample, likely in levels.items():
        at = np.flatnonzero(shell.sample_slices == sample)
        if at.size and np.isfinite(lengths[at[0]]):
            seen = septum.find_septum(head, sample, ends[at[0]], level_known=known)
            if seen is not None:
                figure = _make_midline(int(head.slices[sample]), ends[at[0]], seen.point_mm)
                off = float(plane.distance_mm(seen.point_mm))
                found.append(_SeptumLevel(figure.slice, off, seen.weight * likely, figure))
    return found


def _candidate_levels(head: CoarseHead, length_mm: float) -> tuple[dict[int, float], bool]:
    """Slices that may show the septum, and how likely, by their depth below the vertex; and if that is known."""
    areas = head.brain.sum((1, 2))
    some = np.flatnonzero(areas)
    heights = head.scan.planes.along_normal_mm[head.slices]
    top, way = (some[-1], 1) if head.scan.planes.normal[2] >= 0 else (some[0], -1)
    if areas[top] > _MAX_END_AREA * areas.max():
        return {int(k): 1.0 for k in some if _is_above_base(head, int(k))}, False
    off = ((heights[top] - heights[some]) * way / length_mm - _LEVEL_MEAN) / _LEVEL_SD
    return {
        int(k): float(np.exp(-(part**2) / 2)) for k, part in zip(some, off, strict=True) if abs(part) < _LEVEL_MAX_SD
    }, True


def _is_above_base(head: CoarseHead, sample: int) -> bool:
    """Whether nearly all soft tissue that bone surrounds on a slice is brain: no orbit, no face, no ear."""
    bone = head.samples.bone_share[sample] > 0.5
    met = [
        np.flip(np.logical_or.accumulate(np.flip(bone, axis) if flip else bone, axis=axis), axis if flip else ())
        for axis in (0, 1)
        for flip in (False, True)
    ]
    within = np.logical_and.reduce(met) & (head.samples.soft_share[sample] > 0.5)
    return bool((head.brain[sample] & within).sum() >= _MIN_BRAIN_SHARE * within.sum())


def _make_midline(slice_index: int, ends_mm: Floats, septum_mm: Floats) -> Midline:
    front, back, middle = (
        (float(place[0]), float(place[1]), float(place[2])) for place in (ends_mm[0], ends_mm[1], septum_mm)
    )
    return Midline(slice=slice_index, front_lps_mm=front, back_lps_mm=back, septum_lps_mm=middle)
