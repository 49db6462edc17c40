"""Rigid registration of two scans by the skull: rotation and translation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from strokeseg.followup.skull import GRID_MM, MAX_DISTANCE_MM, Skull
from strokeseg.scan import Floats

if TYPE_CHECKING:
    import SimpleITK

_START_ANGLES_DEG = (-24.0, -12.0, 0.0, 12.0, 24.0)
_START_SHIFTS_MM = (-40.0, -20.0, 0.0, 20.0, 40.0)
_MAX_STARTS = 32
_MIN_SHARED = 0.4
# Fraction of the points, the nearest, that counts for the distance: bone may have been removed between the scans.
_COUNTED_FRACTION = 0.8
_START_POINTS = 200
# (points of each skull, number of optimized starts that are kept)
_ROUNDS = ((200, 6), (600, 2), (1200, 1))
_OPTIMIZER_STEPS = 8
_DAMPING_MM = 2.0
# A rotation by 1 / 80 moves the skull by 1 mm, so that rotation and translation have equal weight.
_RADIUS_MM = 80.0


@dataclass(frozen=True)
class Alignment:
    """The registration of the earlier scan to the later one.

    Attributes
    ----------
    rotation : ndarray of float64, shape (3, 3)
        Rotation, LPS.
    shift_mm : ndarray of float64, shape (3,)
        Translation: a point p of the earlier scan is ``rotation @ p + shift_mm`` in the later one, LPS mm.
    distance_mm : float
        Distance of the two skull surfaces after registration: the mean over the nearest 80 % of the points of one
        surface to the other, the larger of the two directions.
    shared : float
        Fraction of a skull's surface within the coverage of the other scan; the smaller of the two.
    overlap : float, default: 0.0
        Overlap of the bone, 0 to 1: twice the sum of the products of the two bone fractions divided by the sum of their
        squares, within the common coverage (the Dice coefficient for fractions); about 0.95 or more for the same head.
    """

    rotation: Floats
    shift_mm: Floats
    distance_mm: float
    shared: float
    overlap: float = 0.0

    @property
    def angle_deg(self) -> float:
        """The rotation angle, degrees."""
        return float(np.degrees(Rotation.from_matrix(self.rotation).magnitude()))

    def to_later(self, points_mm: Floats) -> Floats:
        """Map points of the earlier scan, (n, 3) LPS mm, to the space of the later scan."""
        return np.asarray(points_mm @ self.rotation.T + self.shift_mm)

    def to_earlier(self, points_mm: Floats) -> Floats:
        """Map points of the later scan, (n, 3) LPS mm, to the space of the earlier scan."""
        return np.asarray((points_mm - self.shift_mm) @ self.rotation)


def align_skulls(earlier: Skull, later: Skull) -> Alignment | None:
    """Register the earlier skull to the later one.

    Some hundred rotations and translations are ranked by the distance of the surfaces. The best are optimized, in each
    round fewer of them with more points. SimpleITK refines the last one: it minimizes the mean square difference of the
    bone fractions. Rotations of up to about 30 degrees are found.

    Parameters
    ----------
    earlier, later : Skull
        The skulls.

    Returns
    -------
    Alignment or None
        None if the two scans share less than 40 % of the skull surface.
    """
    starts = _find_starts(earlier, later)
    for points, kept_count in _ROUNDS:
        optimized = [_optimize(earlier, later, rotation, shift_mm, points) for rotation, shift_mm in starts]
        optimized = [each for each in optimized if each.shared >= _MIN_SHARED]
        optimized.sort(key=lambda each: each.distance_mm)
        starts = [(each.rotation, each.shift_mm) for each in optimized[:kept_count]]
    if not optimized:
        return None
    refined = _refine(earlier, later, optimized[0])
    return refined if refined.shared >= _MIN_SHARED else None


def _find_starts(earlier: Skull, later: Skull) -> list[tuple[Floats, Floats]]:
    """Return the best (rotation, shift) of every start rotation with enough common coverage."""
    centre, target = earlier.surface_mm.mean(axis=0), later.surface_mm.mean(axis=0)
    starts = []
    angles = np.array(np.meshgrid(_START_ANGLES_DEG, _START_ANGLES_DEG, _START_ANGLES_DEG)).reshape(3, -1).T
    for rotation in Rotation.from_euler("xyz", angles, degrees=True).as_matrix():
        shifts = [target - rotation @ centre + (0, 0, z_mm) for z_mm in _START_SHIFTS_MM]
        distances = [_measure_distances(earlier, later, rotation, shift_mm, _START_POINTS) for shift_mm in shifts]
        means = [each.mean_mm(1.0) if each.shared >= _MIN_SHARED else MAX_DISTANCE_MM for each in distances]
        best = int(np.argmin(means))
        starts.append((means[best], rotation, shifts[best]))
    starts.sort(key=lambda each: each[0])
    return [(rotation, shift_mm) for mean_mm, rotation, shift_mm in starts[:_MAX_STARTS] if mean_mm < MAX_DISTANCE_MM]


def _optimize(earlier: Skull, later: Skull, rotation: Floats, shift_mm: Floats, points: int) -> Alignment:
    """Optimize a start: damped least squares of the surface distances, in which large distances weigh less.

    A small rotation w and translation t move a point at the position q from the centre by w x q + t. Points outside the
    coverage of the other scan have no weight.
    """
    centre = earlier.surface_mm.mean(axis=0)
    target = rotation @ centre + shift_mm
    for _ in range(_OPTIMIZER_STEPS):
        distances = _measure_distances(earlier, later, rotation, shift_mm, points)
        earlier_arm = earlier.surface_mm[:points] @ rotation.T + shift_mm - target
        earlier_gradient = later.look_up_gradient(earlier_arm + target)
        # Points of the later scan move by the inverse transform.
        later_arm = later.surface_mm[:points] - target
        later_gradient = -earlier.look_up_gradient((later_arm + target - shift_mm) @ rotation) @ rotation.T
        jacobian = np.block(
            [
                [np.cross(earlier_arm, earlier_gradient) / _RADIUS_MM, earlier_gradient],
                [np.cross(later_arm, later_gradient) / _RADIUS_MM, later_gradient],
            ]
        )
        weights = distances.covered / np.sqrt(1 + (distances.all_mm / _DAMPING_MM) ** 2)
        normal = jacobian.T @ (weights[:, None] * jacobian) + 0.02 * len(weights) / 6 * np.eye(6)
        step = np.linalg.solve(normal, -jacobian.T @ (weights * distances.all_mm))
        rotation = Rotation.from_rotvec(step[:3] / _RADIUS_MM).as_matrix() @ rotation
        target = target + step[3:]
        shift_mm = target - rotation @ centre
    distances = _measure_distances(earlier, later, rotation, shift_mm)
    return Alignment(rotation, shift_mm, distances.mean_mm(1.0), distances.shared)


def _refine(earlier: Skull, later: Skull, start: Alignment) -> Alignment:
    """Refine with SimpleITK, whose transform maps the later scan to the earlier one."""
    import SimpleITK

    centre = later.surface_mm.mean(axis=0)
    transform = SimpleITK.Euler3DTransform()
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(start.rotation.T.ravel().tolist())
    transform.SetTranslation((start.to_earlier(centre[None])[0] - centre).tolist())
    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsMeanSquares()
    method.SetMetricFixedMask(_make_itk_image(later.near_brain.astype(np.uint8), later))
    method.SetMetricMovingMask(_make_itk_image(earlier.covered.astype(np.uint8), earlier))
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentagePerLevel([0.2, 0.3], seed=1)
    method.SetShrinkFactorsPerLevel([1, 1])
    method.SetSmoothingSigmasPerLevel([2.0, 1.0])
    method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(True)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 0.005, 150, 0.7, 1e-8)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    # In percent: with fractions, the optimizer would treat the gradient as zero.
    method.Execute(_make_itk_image(100 * later.bone, later), _make_itk_image(100 * earlier.bone, earlier))
    rotation = np.reshape(transform.GetMatrix(), (3, 3)).T
    shift_mm = centre - rotation @ (centre + np.array(transform.GetTranslation()))
    distances = _measure_distances(earlier, later, rotation, shift_mm)
    refined = Alignment(rotation, shift_mm, distances.mean_mm(_COUNTED_FRACTION), distances.shared)
    return replace(refined, overlap=_measure_overlap(earlier, later, refined))


def _measure_overlap(earlier: Skull, later: Skull, alignment: Alignment) -> float:
    """Return the bone overlap (see :class:`Alignment`) over the later skull near the brain."""
    samples = np.argwhere(later.near_brain)
    points = alignment.to_earlier(samples[:, ::-1] * GRID_MM + later.origin_mm)
    covered = earlier.covers(points)
    one, other = later.bone[later.near_brain][covered], earlier.interpolate_bone(points[covered])
    return float(2 * (one * other).sum() / max((one**2).sum() + (other**2).sum(), 1e-6))


def _make_itk_image(values: NDArray[Any], skull: Skull) -> SimpleITK.Image:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing((GRID_MM, GRID_MM, GRID_MM))
    image.SetOrigin(skull.origin_mm.tolist())
    return image


@dataclass(frozen=True)
class _SurfaceDistances:
    """Distances of each skull's points to the other surface, mm, and which of them the other scan covers."""

    earlier_mm: Floats
    later_mm: Floats
    earlier_covered: NDArray[np.bool_]
    later_covered: NDArray[np.bool_]

    @property
    def shared(self) -> float:
        return float(min(self.earlier_covered.mean(), self.later_covered.mean()))

    @property
    def all_mm(self) -> Floats:
        return np.concatenate([self.earlier_mm, self.later_mm])

    @property
    def covered(self) -> NDArray[np.bool_]:
        return np.concatenate([self.earlier_covered, self.later_covered])

    def mean_mm(self, fraction: float) -> float:
        """Return the mean over a fraction of the points, the nearest; the larger of the two directions."""
        directions = [np.sort(self.earlier_mm[self.earlier_covered]), np.sort(self.later_mm[self.later_covered])]
        return max(
            float(each[: max(1, int(fraction * len(each)))].mean()) if len(each) else MAX_DISTANCE_MM
            for each in directions
        )


def _measure_distances(
    earlier: Skull, later: Skull, rotation: Floats, shift_mm: Floats, most: int | None = None
) -> _SurfaceDistances:
    earlier_points = earlier.surface_mm[:most] @ rotation.T + shift_mm
    later_points = (later.surface_mm[:most] - shift_mm) @ rotation
    return _SurfaceDistances(
        later.interpolate_distance_mm(earlier_points),
        earlier.interpolate_distance_mm(later_points),
        later.covers(earlier_points),
        earlier.covers(later_points),
    )
