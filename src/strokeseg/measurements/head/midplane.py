"""The mid-sagittal plane, from the skull's own symmetry.

The skull's inner surface is mirrored at a plane and held against itself; the plane at which it meets itself best is the
one. What lies inside of the skull may be pushed aside by a bleed and is not asked, but for the two ends of the falx,
where it is fixed to the bone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from strokeseg.measurements.head.coarse_head import CoarseHead
from strokeseg.measurements.head.inner_skull import InnerSkull, trace_inner_skull
from strokeseg.scan import Floats

# The rays' ends that are mirrored: for the starts, and for the last turns.
_FEW_POINTS, _MANY_POINTS = 200, 800
_STARTS_DEG = (-36.0, -24.0, -12.0, 0.0, 12.0, 24.0, 36.0)
# Fits whose normals are so near are one; fits so much worse than the best are not looked at.
# A plane whose best rival is not clearly worse is not sure.
_SAME_COSINE, _MAX_EXTRA_COST, _RIVAL_MARGIN = float(np.cos(np.radians(6))), 0.25, 0.07
# A head turned by so many degrees costs as much as a tenth of the skull without a mirror image.
_TURN_COST_DEG = 40.0
# Residuals above the last of these widths (Tukey's biweight, mm) are holes, fractures or flattened bone.
_WIDTHS_MM = (20.0, 14.0, 10.0, 8.0, 6.0)
_LAST_WIDTH_MM = 5.0
# A point with no surface so near to its mirror image has no counterpart, mm.
_MAX_PAIR_MM = 20.0
# What a roll and a yaw are held to, degrees, against residuals of 1 mm at so many independent points: a few slices
# leave the roll open, and a round head the yaw.
_ROLL_DEG, _YAW_DEG, _INDEPENDENT = 12.0, 30.0, 40.0
# A residual of this many mm counts as wholly unexplained.
_UNEXPLAINED_MM = 8.0
_MAX_ASYMMETRY = 0.4
_MIN_BONE = 0.3
# Slices are axial if their normal leans less than 60 degrees.
_MIN_AXIAL_COSINE = 0.5

# The falx's ends: so far from bone into the brain, and to both sides, mm; and how far they may lie from the skull's
# plane (standard deviation), mm.
_DEPTHS_MM = np.arange(-5.0, 22.0, 2.0)
_ASIDE_MM = np.arange(-22.0, 22.5, 1.0)
_MAX_OFFSET_MM, _OFFSET_SD_MM = 7.0, 6.0
# So many slices tell where the falx is.
_MAX_SLICES = 20


@dataclass(frozen=True)
class Midplane:
    """The mid-sagittal plane.

    Parameters
    ----------
    point_mm : Floats
        (3,), LPS mm, a point on it, inside the head.
    normal : Floats
        (3,), unit vector, LPS; it points to the patient's left (``normal[0] > 0``).
    asymmetry : float
        0 to 1, what the plane leaves unexplained: 0 is a skull that meets its mirror image everywhere.
    sure : object
        False where so little of the skull is symmetric or seen that nothing near the plane can be given a side.
    """

    point_mm: Floats
    normal: Floats
    asymmetry: float
    reliable: bool

    def distance_mm(self, places_mm: Any) -> Floats:
        """Signed distance from the plane, mm, positive towards the patient's left.

        Parameters
        ----------
        places_mm : object
            (..., 3), LPS mm.

        Returns
        -------
        Floats
            (...).
        """
        return np.asarray((np.asarray(places_mm, dtype=np.float64) - self.point_mm) @ self.normal)


def find_midplane(head: CoarseHead) -> Midplane | None:
    """Find the mid-sagittal plane.

    A single slice, or a few, cannot tell how the plane leans: it is then held near the slices' normal. Where the two
    halves of the skull differ, the plane is the one through the falx's ends in front and at the back.

    Returns
    -------
    Midplane or None
        None where the skull's ring is not seen on any slice, or the slices are not axial.
    """
    if abs(head.scan.planes.normal[2]) < _MIN_AXIAL_COSINE:
        return None
    shell = trace_inner_skull(head)
    if shell is None or shell.on_bone.mean() < _MIN_BONE:
        return None
    mirror = _Mirror(shell, head.scan.planes.normal)
    few = _distinct_fits([mirror.fit(normal, _WIDTHS_MM, _FEW_POINTS) for normal in mirror.starts()])
    fits = [mirror.fit(fit.normal, (_WIDTHS_MM[-1], *4 * (_LAST_WIDTH_MM,)), _MANY_POINTS, fit.offset) for fit in few]
    first, *rivals = _distinct_fits(fits)
    if first.normal[0] <= 0:
        return None
    best = _fit_to_falx(head, shell, mirror, first)
    asymmetry = mirror.asymmetry(best.normal, best.offset, shell)
    alone = not rivals or rivals[0].cost > first.cost + _RIVAL_MARGIN
    return Midplane(
        mirror.middle + best.offset * best.normal, best.normal, asymmetry, alone and asymmetry < _MAX_ASYMMETRY
    )


def _distinct_fits(fits: list[_PlaneFit]) -> list[_PlaneFit]:
    """The best first, without those that are nearly a better one."""
    kept: list[_PlaneFit] = []
    for fit in sorted(fits, key=lambda fit: fit.cost):
        if (not kept or fit.cost < kept[0].cost + _MAX_EXTRA_COST) and all(
            fit.normal @ other.normal < _SAME_COSINE for other in kept
        ):
            kept.append(fit)
    return kept


@dataclass(frozen=True)
class _PlaneFit:
    """A plane through ``middle + offset * normal``, and its cost: the mirrored points' mean, and its turn's."""

    normal: Floats
    offset: float
    cost: float


class _Mirror:
    """The skull's inner surface, ready to be held against its own mirror image."""

    def __init__(self, shell: InnerSkull, slice_normal: Floats) -> None:
        self.points, self.normals = shell.points_mm[shell.on_bone], shell.normals[shell.on_bone]
        self.middle = self.points.mean(0)
        self.up = slice_normal
        self.left = _normalize(np.array([1.0, 0, 0]) - self.up[0] * self.up)
        self.back = np.cross(self.up, self.left)
        self.tree = cKDTree(self.points)
        heights = shell.points_mm[:, 0] @ slice_normal
        self.one_slice = heights.size == 1
        half = 1.0 if self.one_slice else float(np.median(np.diff(heights))) / 2
        self.slab = (heights.min() - half, heights.max() + half)

    def starts(self) -> list[Floats]:
        """Normals in the slices' plane, turned away from the patient's left by several angles."""
        return [np.cos(turn) * self.left + np.sin(turn) * self.back for turn in np.radians(_STARTS_DEG)]

    def residuals(self, places: Floats, normal: Floats, offset: float) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Mirror points: how far each is off the surface, the surface's normal there, and whether the scan reaches it.

        A point without a counterpart is infinitely far off.
        """
        away = (places - self.middle) @ normal - offset
        mirrored = places - 2 * away[:, None] * normal
        apart, nearest = self.tree.query(mirrored)
        met = self.normals[nearest]
        error = ((mirrored - self.points[nearest]) * met).sum(1)
        height = mirrored @ self.up
        return np.where(apart < _MAX_PAIR_MM, error, np.inf), met, (height >= self.slab[0]) & (height <= self.slab[1])

    def fit(self, normal: Floats, widths_mm: Iterable[float], most: int, offset: float = 0.0) -> _PlaneFit:
        """Move a plane, by Gauss and Newton, one turn a width, to where the mirrored points lie on the surface."""
        places = self.points[:: max(1, len(self.points) // most)]
        apart = places - self.middle
        for width in widths_mm:
            error, met, reached = self.residuals(places, normal, offset)
            weight = np.where(reached, np.clip(1 - (error / width) ** 2, 0, None) ** 2, 0)
            if weight.sum() < 10:
                break
            error = np.where(weight > 0, error, 0)
            ahead = _normalize(np.cross(self.up, normal))
            above = np.cross(normal, ahead)
            across, away = (met * normal).sum(1), apart @ normal - offset
            slopes = np.column_stack(
                [-2 * ((apart @ turned) * across + away * (met @ turned)) for turned in (ahead, above)] + [2 * across]
            )
            hessian = (slopes * weight[:, None]).T @ slopes / weight.sum()
            gradient = (slopes * weight[:, None]).T @ error / weight.sum()
            self._regularize(hessian, gradient, normal, ahead, above)
            move = np.linalg.solve(hessian, -gradient)
            turned = np.clip(move[:2], -0.3, 0.3)
            normal = _normalize(normal + turned[0] * ahead + turned[1] * above)
            offset += float(move[2])
        error, _, reached = self.residuals(places, normal, offset)
        left = np.where(reached, 1 - np.clip(1 - (error / _WIDTHS_MM[-1]) ** 2, 0, None) ** 3, 0)
        turned = np.degrees(np.arccos(np.clip(normal @ self.left, -1, 1))) / _TURN_COST_DEG
        return _PlaneFit(normal, offset, float(left.sum() / max(reached.sum(), 1) + 0.1 * turned**2))

    def _regularize(self, hessian: Floats, gradient: Floats, normal: Floats, ahead: Floats, above: Floats) -> None:
        """Hold the plane upright on the slices and along the patient's axis, in place; wholly so on one slice."""
        roll = 1e6 if self.one_slice else 1 / (_INDEPENDENT * np.radians(_ROLL_DEG) ** 2)
        yaw = 1 / (_INDEPENDENT * np.radians(_YAW_DEG) ** 2)
        for index, weight, axis, turned in ((0, yaw, self.back, ahead), (1, roll, self.up, above)):
            slope = float(turned @ axis)
            hessian[index, index] += weight * slope**2 + 1e-9
            gradient[index] += weight * slope * float(normal @ axis)
        hessian[2, 2] += 1e-9

    def asymmetry(self, normal: Floats, offset: float, shell: InnerSkull) -> float:
        """Share of the rays whose end meets nothing when it is mirrored, a small distance counting as a part."""
        places = shell.points_mm.reshape(-1, 3)
        step = max(1, len(places) // _MANY_POINTS)
        step += step % 2 == 0
        error, _, reached = self.residuals(places[::step], normal, offset)
        left = np.where(shell.on_bone.ravel()[::step], np.clip(np.abs(error) / _UNEXPLAINED_MM, 0, 1), 1)
        return float(left[reached].mean()) if reached.any() else 1.0


def _fit_to_falx(head: CoarseHead, shell: InnerSkull, mirror: _Mirror, fit: _PlaneFit) -> _PlaneFit:
    """Turn and move the skull's plane to where the ends of the falx are: the places about which the pixels near the
    inner table in front and at the back (frontal crest, falx, the fissure beside it) are most symmetric.
    """
    forward = _normalize(np.cross(fit.normal, mirror.up))
    forward *= 1 if forward[1] < 0 else -1
    ends = shell.intersect_plane(mirror.middle + fit.offset * fit.normal, fit.normal, forward)
    met = np.flatnonzero(np.isfinite(ends).all((1, 2)))
    if not met.size:
        return fit
    met = met[:: -(-met.size // _MAX_SLICES)]
    front, back = [_falx_offset_mm(head, ends[met, end], way * forward, fit.normal) for end, way in ((0, -1), (1, 1))]
    length = float(np.median((ends[met, 0] - ends[met, 1]) @ forward))
    middle_ahead = float(np.median((ends[met].mean(1) - mirror.middle) @ forward))
    slope = (front - back) / max(length, 1.0)
    normal = _normalize(fit.normal - slope * forward)
    moved = mirror.middle + fit.offset * fit.normal + ((front + back) / 2 - slope * middle_ahead) * fit.normal
    return _PlaneFit(normal, float((moved - mirror.middle) @ normal), fit.cost)


def _falx_offset_mm(head: CoarseHead, ends_mm: Floats, inwards: Floats, across: Floats) -> float:
    """How far aside of the skull's plane one end of the falx is, mm, positive along ``across``."""
    places = (
        ends_mm[:, None, None] + _DEPTHS_MM[None, :, None, None] * inwards + _ASIDE_MM[None, None, :, None] * across
    )
    index = head.to_sample_indices(places)
    grey = ndimage.map_coordinates(np.clip(head.hu, 0, 80), index, order=1, mode="nearest")
    middle, wide = _ASIDE_MM.size // 2, int(_ASIDE_MM[-1] - _MAX_OFFSET_MM)
    tried = np.arange(-_MAX_OFFSET_MM, _MAX_OFFSET_MM + 1).astype(int)
    costs = np.empty(tried.size)
    for at, off in enumerate(tried):
        here = middle + off
        differ = grey[:, :, here + 1 : here + 1 + wide] - grey[:, :, here - wide : here][:, :, ::-1]
        costs[at] = np.mean(np.median(np.abs(differ), axis=0))
    costs = costs / max(float(np.ptp(costs)), 1.0) + 0.5 * (tried / _OFFSET_SD_MM) ** 2
    return _interpolate_minimum(tried, costs)


def _interpolate_minimum(places: NDArray[np.integer], costs: Floats) -> float:
    """The place of the lowest cost, to a part of a step by the parabola through its neighbours."""
    at = int(costs.argmin())
    if at in (0, costs.size - 1):
        return float(places[at])
    before, here, after = costs[at - 1 : at + 2]
    bend = before - 2 * here + after
    return float(places[at] + (0.5 * (before - after) / bend if bend > 0 else 0))


def _normalize(vector: Floats) -> Floats:
    return np.asarray(vector / np.linalg.norm(vector))
