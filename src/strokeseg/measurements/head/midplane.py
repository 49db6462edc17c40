"""The mid-sagittal plane, from the symmetry of the skull.

The inner surface of the skull is mirrored at a plane and compared with itself; the plane with the best agreement is the
result. Structures inside of the skull may be displaced by a hemorrhage and are not used, except for the two ends of the
falx, which are attached to the bone.
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

# Number of mirrored points: for the starts, and for the final iterations.
_FEW_POINTS, _MANY_POINTS = 200, 800
_STARTS_DEG = (-36.0, -24.0, -12.0, 0.0, 12.0, 24.0, 36.0)
# Fits with normals closer than this are the same; fits with a much higher cost than the best one are discarded.
# A plane is not reliable unless the next best fit costs clearly more.
_SAME_COSINE, _MAX_EXTRA_COST, _RIVAL_MARGIN = float(np.cos(np.radians(6))), 0.25, 0.07
# Rotation of the head that costs as much as a tenth of the skull without a mirror image, degrees.
_TURN_COST_DEG = 40.0
# Widths of Tukey's biweight, mm. Residuals above the last width are holes, fractures or flattened bone.
_WIDTHS_MM = (20.0, 14.0, 10.0, 8.0, 6.0)
_LAST_WIDTH_MM = 5.0
# A mirrored point further from the surface has no counterpart, mm.
_MAX_PAIR_MM = 20.0
# Standard deviations that regularize roll and yaw, degrees, against residuals of 1 mm at this number of independent
# points: a few slices do not determine the roll, and a round head does not determine the yaw.
_ROLL_DEG, _YAW_DEG, _INDEPENDENT = 12.0, 30.0, 40.0
# A residual of this size is fully unexplained, mm.
_UNEXPLAINED_MM = 8.0
_MAX_ASYMMETRY = 0.4
_MIN_BONE = 0.3
# Slices are axial if their normal is tilted by less than 60 degrees.
_MIN_AXIAL_COSINE = 0.5

# Ends of the falx: examined depth from the bone into the brain and width to both sides, mm; largest offset from the
# plane of the skull, and its standard deviation, mm.
_DEPTHS_MM = np.arange(-5.0, 22.0, 2.0)
_ASIDE_MM = np.arange(-22.0, 22.5, 1.0)
_MAX_OFFSET_MM, _OFFSET_SD_MM = 7.0, 6.0
# Largest number of slices on which the falx is located.
_MAX_SLICES = 20


@dataclass(frozen=True)
class Midplane:
    """The mid-sagittal plane.

    Attributes
    ----------
    point_mm : ndarray of float, shape (3,)
        A point on the plane, inside of the head, LPS mm.
    normal : ndarray of float, shape (3,)
        Unit normal, LPS, towards the patient's left (``normal[0] > 0``).
    asymmetry : float
        Share of the skull without a mirror image, 0 to 1; 0 for a symmetric skull.
    reliable : bool
        False if the skull is too asymmetric, or too little of it is visible, to assign a side near the plane.
    """

    point_mm: Floats
    normal: Floats
    asymmetry: float
    reliable: bool

    def distance_mm(self, points_mm: Any) -> Floats:
        """Signed distance from the plane, positive towards the patient's left.

        Parameters
        ----------
        points_mm : array_like, shape (..., 3)
            Points, LPS mm.

        Returns
        -------
        ndarray of float, shape (...)
            Distances, mm.
        """
        return np.asarray((np.asarray(points_mm, dtype=np.float64) - self.point_mm) @ self.normal)


def find_midplane(head: CoarseHead) -> Midplane | None:
    """Find the mid-sagittal plane.

    A single slice, or a few slices, do not determine the tilt of the plane, which is then kept near the slices' normal.
    If the two halves of the skull differ, the plane passes through the front and the back end of the falx.

    Parameters
    ----------
    head : CoarseHead
        The head.

    Returns
    -------
    Midplane or None
        The plane; None if no slice shows a ring of bone, or the slices are not axial.
    """
    if abs(head.scan.planes.normal[2]) < _MIN_AXIAL_COSINE:
        return None
    skull = trace_inner_skull(head)
    if skull is None or skull.on_bone.mean() < _MIN_BONE:
        return None
    mirror = _Mirror(skull, head.scan.planes.normal)
    starts = _distinct_fits([mirror.fit(normal, _WIDTHS_MM, _FEW_POINTS) for normal in mirror.starts()])
    fits = [
        mirror.fit(fit.normal, (_WIDTHS_MM[-1], *4 * (_LAST_WIDTH_MM,)), _MANY_POINTS, fit.offset) for fit in starts
    ]
    first, *rivals = _distinct_fits(fits)
    if first.normal[0] <= 0:
        return None
    best = _fit_to_falx(head, skull, mirror, first)
    asymmetry = mirror.asymmetry(best.normal, best.offset, skull)
    unrivalled = not rivals or rivals[0].cost > first.cost + _RIVAL_MARGIN
    return Midplane(
        mirror.centre + best.offset * best.normal, best.normal, asymmetry, unrivalled and asymmetry < _MAX_ASYMMETRY
    )


def _distinct_fits(fits: list[_PlaneFit]) -> list[_PlaneFit]:
    """Sort fits by cost, and drop those that equal a better one or cost much more."""
    distinct: list[_PlaneFit] = []
    for fit in sorted(fits, key=lambda fit: fit.cost):
        if (not distinct or fit.cost < distinct[0].cost + _MAX_EXTRA_COST) and all(
            fit.normal @ other.normal < _SAME_COSINE for other in distinct
        ):
            distinct.append(fit)
    return distinct


@dataclass(frozen=True)
class _PlaneFit:
    """A plane through ``centre + offset * normal``, and its cost: mean over the mirrored points plus rotation."""

    normal: Floats
    offset: float
    cost: float


class _Mirror:
    """The inner surface of the skull, prepared for the comparison with its mirror image."""

    def __init__(self, skull: InnerSkull, slice_normal: Floats) -> None:
        self.points, self.normals = skull.points_mm[skull.on_bone], skull.normals[skull.on_bone]
        self.centre = self.points.mean(0)
        self.up = slice_normal
        self.left = _normalize(np.array([1.0, 0, 0]) - self.up[0] * self.up)
        self.back = np.cross(self.up, self.left)
        self.tree = cKDTree(self.points)
        heights = skull.points_mm[:, 0] @ slice_normal
        self.one_slice = heights.size == 1
        half = 1.0 if self.one_slice else float(np.median(np.diff(heights))) / 2
        self.slab = (heights.min() - half, heights.max() + half)

    def starts(self) -> list[Floats]:
        """Return start normals in the plane of the slices, rotated from the patient's left by several angles."""
        return [np.cos(turn) * self.left + np.sin(turn) * self.back for turn in np.radians(_STARTS_DEG)]

    def residuals(self, points: Floats, normal: Floats, offset: float) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Mirror points, and compare them with the surface.

        Returns
        -------
        tuple of (ndarray of float, ndarray of float, ndarray of bool)
            Distance of each mirrored point from the surface, mm, infinite without a counterpart; normal of the surface
            there; whether the scan covers the mirrored point.
        """
        distance = (points - self.centre) @ normal - offset
        mirrored = points - 2 * distance[:, None] * normal
        gap, nearest = self.tree.query(mirrored)
        normals = self.normals[nearest]
        error = ((mirrored - self.points[nearest]) * normals).sum(1)
        height = mirrored @ self.up
        return np.where(gap < _MAX_PAIR_MM, error, np.inf), normals, (height >= self.slab[0]) & (height <= self.slab[1])

    def fit(self, normal: Floats, widths_mm: Iterable[float], max_points: int, offset: float = 0.0) -> _PlaneFit:
        """Fit a plane by Gauss-Newton, one iteration a width, so that the mirrored points lie on the surface."""
        points = self.points[:: max(1, len(self.points) // max_points)]
        relative = points - self.centre
        for width in widths_mm:
            error, normals, covered = self.residuals(points, normal, offset)
            weight = np.where(covered, np.clip(1 - (error / width) ** 2, 0, None) ** 2, 0)
            if weight.sum() < 10:
                break
            error = np.where(weight > 0, error, 0)
            ahead = _normalize(np.cross(self.up, normal))
            above = np.cross(normal, ahead)
            across, distance = (normals * normal).sum(1), relative @ normal - offset
            slopes = np.column_stack(
                [-2 * ((relative @ axis) * across + distance * (normals @ axis)) for axis in (ahead, above)]
                + [2 * across]
            )
            hessian = (slopes * weight[:, None]).T @ slopes / weight.sum()
            gradient = (slopes * weight[:, None]).T @ error / weight.sum()
            self._regularize(hessian, gradient, normal, ahead, above)
            move = np.linalg.solve(hessian, -gradient)
            rotation = np.clip(move[:2], -0.3, 0.3)
            normal = _normalize(normal + rotation[0] * ahead + rotation[1] * above)
            offset += float(move[2])
        error, _, covered = self.residuals(points, normal, offset)
        unexplained = np.where(covered, 1 - np.clip(1 - (error / _WIDTHS_MM[-1]) ** 2, 0, None) ** 3, 0)
        rotation = np.degrees(np.arccos(np.clip(normal @ self.left, -1, 1))) / _TURN_COST_DEG
        return _PlaneFit(normal, offset, float(unexplained.sum() / max(covered.sum(), 1) + 0.1 * rotation**2))

    def _regularize(self, hessian: Floats, gradient: Floats, normal: Floats, ahead: Floats, above: Floats) -> None:
        """Regularize roll and yaw in place, fully for a single slice."""
        roll = 1e6 if self.one_slice else 1 / (_INDEPENDENT * np.radians(_ROLL_DEG) ** 2)
        yaw = 1 / (_INDEPENDENT * np.radians(_YAW_DEG) ** 2)
        for index, weight, axis, direction in ((0, yaw, self.back, ahead), (1, roll, self.up, above)):
            slope = float(direction @ axis)
            hessian[index, index] += weight * slope**2 + 1e-9
            gradient[index] += weight * slope * float(normal @ axis)
        hessian[2, 2] += 1e-9

    def asymmetry(self, normal: Floats, offset: float, skull: InnerSkull) -> float:
        """Compute the share of rays whose mirrored end has no counterpart; a small distance counts in part."""
        points = skull.points_mm.reshape(-1, 3)
        step = max(1, len(points) // _MANY_POINTS)
        step += step % 2 == 0
        error, _, covered = self.residuals(points[::step], normal, offset)
        unexplained = np.where(skull.on_bone.ravel()[::step], np.clip(np.abs(error) / _UNEXPLAINED_MM, 0, 1), 1)
        return float(unexplained[covered].mean()) if covered.any() else 1.0


def _fit_to_falx(head: CoarseHead, skull: InnerSkull, mirror: _Mirror, fit: _PlaneFit) -> _PlaneFit:
    """Rotate and shift the plane of the skull to the ends of the falx.

    An end of the falx is the position about which the pixels near the inner table at the front or back (frontal crest,
    falx, the fissure beside it) are most symmetric.
    """
    forward = _normalize(np.cross(fit.normal, mirror.up))
    forward *= 1 if forward[1] < 0 else -1
    ends = skull.intersect_plane(mirror.centre + fit.offset * fit.normal, fit.normal, forward)
    slices = np.flatnonzero(np.isfinite(ends).all((1, 2)))
    if not slices.size:
        return fit
    slices = slices[:: -(-slices.size // _MAX_SLICES)]
    front, back = [
        _falx_offset_mm(head, ends[slices, end], sign * forward, fit.normal) for end, sign in ((0, -1), (1, 1))
    ]
    length = float(np.median((ends[slices, 0] - ends[slices, 1]) @ forward))
    centre_ahead = float(np.median((ends[slices].mean(1) - mirror.centre) @ forward))
    slope = (front - back) / max(length, 1.0)
    normal = _normalize(fit.normal - slope * forward)
    point = mirror.centre + fit.offset * fit.normal + ((front + back) / 2 - slope * centre_ahead) * fit.normal
    return _PlaneFit(normal, float((point - mirror.centre) @ normal), fit.cost)


def _falx_offset_mm(head: CoarseHead, ends_mm: Floats, inwards: Floats, across: Floats) -> float:
    """Offset of one end of the falx from the plane of the skull, mm, positive along ``across``."""
    points = (
        ends_mm[:, None, None] + _DEPTHS_MM[None, :, None, None] * inwards + _ASIDE_MM[None, None, :, None] * across
    )
    indices = head.to_sample_indices(points)
    grey = ndimage.map_coordinates(np.clip(head.hu, 0, 80), indices, order=1, mode="nearest")
    centre_index, width = _ASIDE_MM.size // 2, int(_ASIDE_MM[-1] - _MAX_OFFSET_MM)
    offsets = np.arange(-_MAX_OFFSET_MM, _MAX_OFFSET_MM + 1).astype(int)
    costs = np.empty(offsets.size)
    for index, offset in enumerate(offsets):
        axis_index = centre_index + offset
        differences = (
            grey[:, :, axis_index + 1 : axis_index + 1 + width]
            - grey[:, :, axis_index - width : axis_index][:, :, ::-1]
        )
        costs[index] = np.mean(np.median(np.abs(differences), axis=0))
    costs = costs / max(float(np.ptp(costs)), 1.0) + 0.5 * (offsets / _OFFSET_SD_MM) ** 2
    return _interpolate_minimum(offsets, costs)


def _interpolate_minimum(positions: NDArray[np.integer], costs: Floats) -> float:
    """Position of the lowest cost, interpolated by a parabola through its neighbours."""
    lowest = int(costs.argmin())
    if lowest in (0, costs.size - 1):
        return float(positions[lowest])
    before, minimum, after = costs[lowest - 1 : lowest + 2]
    curvature = before - 2 * minimum + after
    return float(positions[lowest] + (0.5 * (before - after) / curvature if curvature > 0 else 0))


def _normalize(vector: Floats) -> Floats:
    return np.asarray(vector / np.linalg.norm(vector))
