"""Two heads laid on each other by their skulls: a turn and a shift, nothing is stretched."""

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
# Of the points, the nearest that count for the distance: a piece of skull may have been taken out between the scans.
_COUNTED_FRACTION = 0.8
_START_POINTS = 200
# (points of each skull, how many of the settled starts go on)
_ROUNDS = ((200, 6), (600, 2), (1200, 1))
_OPTIMIZER_STEPS = 8
_DAMPING_MM = 2.0
# A turn by 1 / 80 moves the skull by 1 mm: turns and shifts weigh alike.
_RADIUS_MM = 80.0


@dataclass(frozen=True)
class Alignment:
    """How the earlier head lies in the later scan's space.

    Parameters
    ----------
    rotation : Floats
        (3, 3).
    shift_mm : Floats
        (3,); a place p of the earlier scan is ``rotation @ p + shift_mm`` of the later one, LPS mm.
    distance_mm : float
        How far the two skulls' surfaces are then apart: the mean over the nearest 80 % of their points, of the two
        ways the larger.
    shared : float
        Of each skull's surface, the share that the other scan shows; of the two the smaller.
    overlap : float, default: 0.0
        How far the bone lies in the same places, 0 to 1: twice the product of the two shares of bone over the sum of
        their squares, wherever both scans show the head (Dice's figure for shares); about 0.95 or more for one head.
    """

    rotation: Floats
    shift_mm: Floats
    distance_mm: float
    shared: float
    overlap: float = 0.0

    @property
    def angle_deg(self) -> float:
        """The angle of the turn, degrees."""
        return float(np.degrees(Rotation.from_matrix(self.rotation).magnitude()))

    def to_later(self, places_mm: Floats) -> Floats:
        """Map places of the earlier scan, (n, 3) LPS mm, to the later one's space."""
        return np.asarray(places_mm @ self.rotation.T + self.shift_mm)

    def to_earlier(self, places_mm: Floats) -> Floats:
        """Map places of the later scan, (n, 3) LPS mm, to the earlier one's space."""
        return np.asarray((places_mm - self.shift_mm) @ self.rotation)


def align_skulls(earlier: Skull, later: Skull) -> Alignment | None:
    """Lay the earlier skull on the later one.

    Some hundred turns and shifts are weighed by how far the surfaces are apart, and the best are let settle where that
    is least, ever fewer of them with ever more points. The last is refined by SimpleITK: least mean square difference
    of the shares of bone. Turns of up to about 30 degrees are found.

    Returns
    -------
    Alignment or None
        None where the two show too little of the same skull: less than 40 % of its surface.
    """
    starts = _find_starts(earlier, later)
    for points, kept in _ROUNDS:
        settled = [_optimize(earlier, later, rotation, shift_mm, points) for rotation, shift_mm in starts]
        settled = [each for each in settled if each.shared >= _MIN_SHARED]
        settled.sort(key=lambda each: each.distance_mm)
        starts = [(each.rotation, each.shift_mm) for each in settled[:kept]]
    if not settled:
        return None
    refined = _refine(earlier, later, settled[0])
    return refined if refined.shared >= _MIN_SHARED else None


def _find_starts(earlier: Skull, later: Skull) -> list[tuple[Floats, Floats]]:
    """Return a (rotation, shift) for every turn that lets enough of the skulls meet."""
    middle, target = earlier.surface_mm.mean(axis=0), later.surface_mm.mean(axis=0)
    found = []
    angles = np.array(np.meshgrid(_START_ANGLES_DEG, _START_ANGLES_DEG, _START_ANGLES_DEG)).reshape(3, -1).T
    for rotation in Rotation.from_euler("xyz", angles, degrees=True).as_matrix():
        shifts = [target - rotation @ middle + (0, 0, up_mm) for up_mm in _START_SHIFTS_MM]
        apart = [_measure_distances(earlier, later, rotation, shift_mm, _START_POINTS) for shift_mm in shifts]
        means = [each.mean_mm(1.0) if each.shared >= _MIN_SHARED else MAX_DISTANCE_MM for each in apart]
        best = int(np.argmin(means))
        found.append((means[best], rotation, shifts[best]))
    found.sort(key=lambda each: each[0])
    return [(rotation, shift_mm) for mean_mm, rotation, shift_mm in found[:_MAX_STARTS] if mean_mm < MAX_DISTANCE_MM]


def _optimize(earlier: Skull, later: Skull, rotation: Floats, shift_mm: Floats, points: int) -> Alignment:
    """Let a start settle where the surfaces are nearest: damped least squares of the distances, the far ones eased.

    A small turn w and shift t move a point at the arm q from the middle by w x q + t; what the other scan does not
    show pulls nowhere.
    """
    middle = earlier.surface_mm.mean(axis=0)
    target = rotation @ middle + shift_mm
    for _ in range(_OPTIMIZER_STEPS):
        apart = _measure_distances(earlier, later, rotation, shift_mm, points)
        arm = earlier.surface_mm[:points] @ rotation.T + shift_mm - target
        there = later.look_up_gradient(arm + target)
        # The later scan's points go the other way: back by the turn, and against it.
        counter = later.surface_mm[:points] - target
        back = -earlier.look_up_gradient((counter + target - shift_mm) @ rotation) @ rotation.T
        pulls = np.block([[np.cross(arm, there) / _RADIUS_MM, there], [np.cross(counter, back) / _RADIUS_MM, back]])
        ease = apart.covered / np.sqrt(1 + (apart.all_mm / _DAMPING_MM) ** 2)
        normal = pulls.T @ (ease[:, None] * pulls) + 0.02 * len(ease) / 6 * np.eye(6)
        step = np.linalg.solve(normal, -pulls.T @ (ease * apart.all_mm))
        rotation = Rotation.from_rotvec(step[:3] / _RADIUS_MM).as_matrix() @ rotation
        target = target + step[3:]
        shift_mm = target - rotation @ middle
    apart = _measure_distances(earlier, later, rotation, shift_mm)
    return Alignment(rotation, shift_mm, apart.mean_mm(1.0), apart.shared)


def _refine(earlier: Skull, later: Skull, start: Alignment) -> Alignment:
    """Refine with SimpleITK, whose transform leads from the later scan to the earlier one."""
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
    # In hundredths: for shares the optimiser would take its slope for none.
    method.Execute(_make_itk_image(100 * later.bone, later), _make_itk_image(100 * earlier.bone, earlier))
    back = np.reshape(transform.GetMatrix(), (3, 3))
    rotation = back.T
    shift_mm = centre - rotation @ (centre + np.array(transform.GetTranslation()))
    apart = _measure_distances(earlier, later, rotation, shift_mm)
    fine = Alignment(rotation, shift_mm, apart.mean_mm(_COUNTED_FRACTION), apart.shared)
    return replace(fine, overlap=_measure_overlap(earlier, later, fine))


def _measure_overlap(earlier: Skull, later: Skull, alignment: Alignment) -> float:
    """Return the overlap of the bone, see :class:`Alignment`, over what is used of the later skull."""
    used = np.argwhere(later.near_brain)
    back = alignment.to_earlier(used[:, ::-1] * GRID_MM + later.origin_mm)
    shown = earlier.covers(back)
    one, other = later.bone[later.near_brain][shown], earlier.interpolate_bone(back[shown])
    return float(2 * (one * other).sum() / max((one**2).sum() + (other**2).sum(), 1e-6))


def _make_itk_image(values: NDArray[Any], head: Skull) -> SimpleITK.Image:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing((GRID_MM, GRID_MM, GRID_MM))
    image.SetOrigin(head.origin_mm.tolist())
    return image


@dataclass(frozen=True)
class _SurfaceDistances:
    """How far each skull's points are from the other's surface, mm, and which of them the other scan shows."""

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

    def mean_mm(self, kept: float) -> float:
        """Of the two ways the larger mean over the nearest points, of which the share ``kept`` counts."""
        ways = [np.sort(self.earlier_mm[self.earlier_covered]), np.sort(self.later_mm[self.later_covered])]
        return max(float(way[: max(1, int(kept * len(way)))].mean()) if len(way) else MAX_DISTANCE_MM for way in ways)


def _measure_distances(
    earlier: Skull, later: Skull, rotation: Floats, shift_mm: Floats, most: int | None = None
) -> _SurfaceDistances:
    there = earlier.surface_mm[:most] @ rotation.T + shift_mm
    back = (later.surface_mm[:most] - shift_mm) @ rotation
    return _SurfaceDistances(
        later.interpolate_distance_mm(there),
        earlier.interpolate_distance_mm(back),
        later.covers(there),
        earlier.covers(back),
    )
