"""The midline shift at the septum pellucidum, as it is measured on an axial slice.

The ideal midline runs from the inner table in front to the inner table at the back, where the mid-sagittal plane meets
them; where the two halves of a skull differ, that chord is what "ideal" means. The shift is the septum's distance from
it, on the slices near the foramen of Monro (:mod:`strokeseg.measure.septum` finds it on a slice).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from strokeseg.measure import septum
from strokeseg.measure.head import Head
from strokeseg.measure.midplane import Midplane
from strokeseg.measure.shell import Shell, follow
from strokeseg.result import Midline
from strokeseg.scan import Floats

# Below this nothing is said of a side, mm: radiologists differ by about as much.
_SIDE_MM = 1.0
# The foramen of Monro lies about so far below the vertex, in parts of the head's length (70 of 168 mm), and the septum
# near it; a scan whose end slice is wider than this share of the widest one does not show the vertex.
_LEVEL, _LEVEL_SD, _LEVEL_MOST, _CUT = 0.42, 0.1, 2.2, 0.4
# Where it does not, slices of the skull's base are told by what else their bone surrounds.
_MOSTLY_BRAIN = 0.955
# Slices so near to the best one and so good beside it take part. They must agree so well, in mm or parts of the shift
# (which is less above and below), and so must any other slice that is nearly as good as the best.
_NEAR_MM, _GOOD, _AGREE_MM, _AGREE, _RIVAL = 8.0, 0.4, 3.0, 0.35, 0.75


@dataclass(frozen=True)
class Shift:
    """The midline shift.

    Parameters
    ----------
    mm : the septum's distance from the mid-sagittal plane
    side : of the patient, to which it is pushed; None below 1 mm
    figure : where it was measured
    """

    mm: float
    side: Literal["left", "right"] | None
    figure: Midline


@dataclass(frozen=True)
class NoShift:
    """Why the midline shift was not measured: a stable code, and a sentence."""

    code: Literal["no-spacing", "no-plane", "no-septum", "levels-disagree"]
    message: str


@dataclass(frozen=True)
class _Level:
    """The septum on one of the scan's slices.

    Parameters
    ----------
    slice_index : of the scan
    off_mm : the septum's distance from the plane, positive towards the patient's left
    weight : how well it is seen, times how likely it is to be seen there
    figure : its place
    """

    slice_index: int
    off_mm: float
    weight: float
    figure: Midline


def shift(head: Head, plane: Midplane | None) -> Shift | NoShift:
    """Measure the midline shift at the septum pellucidum.

    The slices on which the septum is seen best are asked, and their median is given. Where the ventricles are pressed
    shut, filled with blood or not in the scan, nothing is.

    Parameters
    ----------
    plane : the mid-sagittal plane of the same head
    """
    if not head.scan.spacing_known:
        return NoShift("no-spacing", "The midline shift was not measured: the pixel spacing is not known.")
    if plane is None or not plane.sure:
        return NoShift(
            "no-plane", "The midline shift was not measured: the skull is too asymmetric or too little of it is seen."
        )
    shell = follow(head)
    seen = [] if shell is None else _septa(head, plane, shell)
    if not seen:
        return NoShift(
            "no-septum", "The midline shift was not measured: the septum between the ventricles is not seen."
        )
    return _agreed(head, seen)


def _agreed(head: Head, seen: list[_Level]) -> Shift | NoShift:
    """The median of the best slice and those near it."""
    best = max(seen, key=lambda level: level.weight)
    heights = head.scan.planes.along_normal_mm
    near = [
        level
        for level in seen
        if abs(heights[level.slice_index] - heights[best.slice_index]) <= _NEAR_MM
        and level.weight >= _GOOD * best.weight
    ]
    offs = np.array([level.off_mm for level in near])
    middle = float(np.median(offs))
    rivals = [level.off_mm for level in seen if level.weight >= _RIVAL * best.weight]
    if np.abs(np.append(offs, rivals) - middle).max() > max(_AGREE_MM, _AGREE * abs(middle)):
        return NoShift(
            "levels-disagree",
            "The midline shift was not measured: neighbouring slices show the septum at other places.",
        )
    shown = min(near, key=lambda level: abs(level.off_mm - middle))
    side: Literal["left", "right"] = "left" if middle > 0 else "right"
    return Shift(abs(middle), side if abs(middle) >= _SIDE_MM else None, shown.figure)


def _septa(head: Head, plane: Midplane, shell: Shell) -> list[_Level]:
    """Look for the septum on every slice that may show it."""
    up = head.scan.planes.normal
    forward = np.cross(plane.normal, up)
    forward *= -np.sign(forward[1]) / np.linalg.norm(forward)
    ends = shell.ends_mm(plane.point_mm, plane.normal, forward)
    lengths = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
    if not np.isfinite(lengths).any():
        return []
    longest = float(np.nanmax(lengths))
    found = []
    levels, known = _levels(head, longest)
    for sample, likely in levels.items():
        at = np.flatnonzero(shell.samples == sample)
        if at.size and np.isfinite(lengths[at[0]]):
            seen = septum.find(head, sample, ends[at[0]], level_known=known)
            if seen is not None:
                figure = _figure(int(head.slices[sample]), ends[at[0]], seen.place_mm)
                off = float(plane.distance_mm(seen.place_mm))
                found.append(_Level(figure.slice, off, seen.weight * likely, figure))
    return found


def _levels(head: Head, length_mm: float) -> tuple[dict[int, float], bool]:
    """Slices that may show the septum, and how likely, by their depth below the vertex; and if that is known."""
    areas = head.brain.sum((1, 2))
    some = np.flatnonzero(areas)
    heights = head.scan.planes.along_normal_mm[head.slices]
    top, way = (some[-1], 1) if head.scan.planes.normal[2] >= 0 else (some[0], -1)
    if areas[top] > _CUT * areas.max():
        return {int(k): 1.0 for k in some if _above_base(head, int(k))}, False
    off = ((heights[top] - heights[some]) * way / length_mm - _LEVEL) / _LEVEL_SD
    return {
        int(k): float(np.exp(-(part**2) / 2)) for k, part in zip(some, off, strict=True) if abs(part) < _LEVEL_MOST
    }, True


def _above_base(head: Head, sample: int) -> bool:
    """Whether nearly all soft tissue that bone surrounds on a slice is brain: no orbit, no face, no ear."""
    bone = head.samples.bone[sample] > 0.5
    met = [
        np.flip(np.logical_or.accumulate(np.flip(bone, axis) if flip else bone, axis=axis), axis if flip else ())
        for axis in (0, 1)
        for flip in (False, True)
    ]
    within = np.logical_and.reduce(met) & (head.samples.soft[sample] > 0.5)
    return bool((head.brain[sample] & within).sum() >= _MOSTLY_BRAIN * within.sum())


def _figure(slice_index: int, ends_mm: Floats, septum_mm: Floats) -> Midline:
    front, back, middle = (
        (float(place[0]), float(place[1]), float(place[2])) for place in (ends_mm[0], ends_mm[1], septum_mm)
    )
    return Midline(slice=slice_index, front_lps_mm=front, back_lps_mm=back, septum_lps_mm=middle)
