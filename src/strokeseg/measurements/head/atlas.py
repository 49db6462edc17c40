"""Where in the brain a place lies: the ICBM 152 template, laid on a patient's skull.

The template is symmetric, so that half of it is kept: its x is the distance from the mid-sagittal plane, and it never
says left or right. `atlas.npz` is made by ``python -m tools.derive_atlas``; `atlas.md` holds its notice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from strokeseg.measurements.head.coarse_head import CoarseHead
from strokeseg.measurements.head.inner_table import InnerTable
from strokeseg.measurements.head.midplane import Midplane
from strokeseg.scan import Floats

AtlasMap = Literal["inside", "ventricle", "infratentorial", "brainstem", "deep"]

# The grid of the maps: (|x|, y, z), template mm of the first sample and from sample to sample; and what an integer is.
ORIGIN_MM = (0, -134, -72)
STEP_MM = 4.0
UNIT_MM = 0.5
MAX_DISTANCE_MM = 24.0

_MIN_SLICES, _MIN_SPAN_MM = 6, 45.0
_FEW_POINTS, _MANY_POINTS = 250, 1000
_STARTS_DEG = (-20.0, 0.0, 20.0)
_STARTS_MM = (-15.0, 15.0)
# Residuals above this (soft L1, mm) count little: holes in the skull, what hangs on to the brain's bottom.
_ROBUST_MM = 3.0
# What the shape is held to, against residuals of 1 mm at so many independent points: a scan that is cut off at its top
# or bottom leaves height and pitch open. Heads are about so many times the template (which is larger than most).
_INDEPENDENT = 40.0
_USUAL_SCALE, _SCALE_SD, _PITCH_SD_DEG = 0.97, 0.06, 12.0
_MIN_SCALE, _MAX_SCALE = 0.75, 1.3
_MAX_RESIDUAL_MM = 4.0


@dataclass(frozen=True)
class AtlasFit:
    """The template laid on a head.

    Attributes
    ----------
    plane : object
        The mid-sagittal plane.
    origin_mm : Floats
        (3,), LPS mm, where the template's (0, 0, 0) lies, the middle of the anterior commissure.
    forward, up : Floats
        (3,), LPS unit vectors of the template's y and z, in the plane.
    scales : Floats
        (3,), the head's size / the template's, along x, y, z.
    residual_mm : float
        How far the skull's inner surface is off the template's, median.
    """

    midplane: Midplane
    origin_mm: Floats
    forward: Floats
    up: Floats
    scales: Floats
    residual_mm: float

    def to_template_mm(self, places_mm: Floats) -> Floats:
        """Map LPS mm, (..., 3), to the template: (..., 3), |x|, y to the front, z up, mm."""
        apart = np.asarray(places_mm, dtype=np.float64) - self.origin_mm
        across = np.abs(self.midplane.distance_mm(places_mm))
        return np.stack([across, apart @ self.forward, apart @ self.up], -1) / self.scales

    def distance_mm(self, name: AtlasMap, places_mm: Floats) -> Floats:
        """Signed distance from a part of the brain, negative inside, at most 24 template mm, in the head's mm.

        ``inside``: of the skull. ``ventricle``: of any ventricle, that of the third and the fourth stretched, because
        they widen less than the lateral ones. ``infratentorial``: twice the distance from the tentorium and the
        midbrain's upper end. ``brainstem``, ``deep``: basal ganglia, thalamus, capsules, walls of the ventricles.

        Parameters
        ----------
        places_mm : Floats
            (..., 3), LPS mm.

        Returns
        -------
        Floats
            (...).
        """
        return _sample_map(name, self.to_template_mm(places_mm)) * float(np.prod(self.scales)) ** (1 / 3)


def fit_atlas(head: CoarseHead, plane: Midplane, table: InnerTable) -> AtlasFit | None:
    """Lay the template on a head by the skull's inner surface.

    The plane gives the place across and two of the three angles. Pitch, shift and scale are those that bring the points
    of the inner table nearest to the template's surface; where a head is cut off at its top or bottom, nothing is asked
    of the cut. On heads made of the template itself, turned, stretched and cut off in many ways, a place is found again
    within 4 mm (tests/measure/test_atlas.py); how far it is off in patients was looked at, and not measured.

    Returns
    -------
    AtlasFit or None
        None where the spacing is not known, the plane is not sure, fewer than six slices or less than 45 mm show the
        inner table, or where the template lies more than 4 mm off it (median).
    """
    if not head.scan.spacing_known or not plane.reliable or len(head.hu) < _MIN_SLICES or not len(table.points_mm):
        return None
    if np.ptp(table.points_mm @ head.scan.planes.normal) < _MIN_SPAN_MM:
        return None
    problem = _FitProblem.from_points(table.points_mm, plane)
    few = [problem.solve(start, _FEW_POINTS) for start in problem.starts()]
    best = problem.solve(min(few, key=lambda each: each[1])[0], _MANY_POINTS)[0]
    found = problem.make_fit(best, plane)
    return found if found.residual_mm <= _MAX_RESIDUAL_MM else None


@dataclass(frozen=True)
class _FitProblem:
    """Points of the inner table in the plane's own frame: x across, y forward, z up, mm, from ``middle_mm``."""

    points: Floats
    middle_mm: Floats
    forward: Floats
    up: Floats

    @classmethod
    def from_points(cls, places: Floats, plane: Midplane) -> _FitProblem:
        up = np.array([0, 0, 1.0]) - plane.normal[2] * plane.normal
        up /= np.linalg.norm(up)
        forward = np.cross(plane.normal, up)
        middle = places.mean(0)
        middle = middle - plane.distance_mm(middle) * plane.normal
        apart = places - middle
        x = np.abs(plane.distance_mm(places))
        # Shuffled, so that the first of them are spread over the whole.
        points = np.column_stack([x, apart @ forward, apart @ up])
        return cls(np.random.default_rng(0).permutation(points), middle, forward, up)

    def starts(self) -> list[Floats]:
        """(pitch, y, z, log scales): the middle of the points is about (-20, 15) of the template."""
        size = np.log(_USUAL_SCALE)
        return [
            np.array([np.radians(pitch), 18.0, -15.0 + up, size, size, size])
            for pitch in _STARTS_DEG
            for up in _STARTS_MM
        ]

    def solve(self, start: Floats, most: int) -> tuple[Floats, float]:
        """Return the parameters from a start, and their cost."""
        points = self.points[:most]
        weight = np.sqrt(_INDEPENDENT / len(points))

        def residuals(parameters: Floats) -> Floats:
            off = _sample_map("inside", self._to_template(parameters, points))
            robust = np.sqrt(2 * (np.sqrt(1 + (off / _ROBUST_MM) ** 2) - 1)) * _ROBUST_MM
            held = np.append(
                (parameters[3:] - np.log(_USUAL_SCALE)) / _SCALE_SD, parameters[0] / np.radians(_PITCH_SD_DEG)
            )
            return np.concatenate([weight * robust * np.sign(off), held])

        lengths = np.array([0.1, 5.0, 5.0, 0.05, 0.05, 0.05])
        found = optimize.least_squares(
            residuals, start, x_scale=lengths, diff_step=1e-3, max_nfev=12, xtol=1e-3, ftol=1e-3
        )
        return found.x, float(found.cost)

    def _to_template(self, parameters: Floats, points: Floats) -> Floats:
        pitch, y, z = parameters[:3]
        cos, sin = np.cos(pitch), np.sin(pitch)
        forward, up = points[:, 1] - y, points[:, 2] - z
        turned = np.column_stack([points[:, 0], cos * forward + sin * up, -sin * forward + cos * up])
        return np.asarray(turned / np.exp(parameters[3:]))

    def make_fit(self, parameters: Floats, plane: Midplane) -> AtlasFit:
        pitch, y, z = parameters[:3]
        cos, sin = np.cos(pitch), np.sin(pitch)
        scales = np.exp(parameters[3:])
        off = _sample_map("inside", self._to_template(parameters, self.points)) * scales.mean()
        residual = float(np.median(np.abs(off)))
        if not ((scales > _MIN_SCALE) & (scales < _MAX_SCALE)).all():
            residual = float("inf")
        return AtlasFit(
            plane,
            self.middle_mm + y * self.forward + z * self.up,
            cos * self.forward + sin * self.up,
            cos * self.up - sin * self.forward,
            scales,
            residual,
        )


@cache
def load_maps() -> dict[str, NDArray[np.float32]]:
    """Read the maps: float32, (|x|, y, z), template mm."""
    with (
        resources.files(__package__).joinpath("atlas.npz").open("rb") as stream,
        np.load(stream) as stored,
    ):
        return {name: stored[name].astype(np.float32) * np.float32(UNIT_MM) for name in stored.files}


def _sample_map(name: AtlasMap, template_mm: Floats) -> Floats:
    """Return a map at places, (..., 3), |x|, y, z; beyond its edge its last value."""
    at = (template_mm.reshape(-1, 3) - ORIGIN_MM) / STEP_MM
    values = ndimage.map_coordinates(load_maps()[name], at.T, order=1, mode="nearest")
    return np.asarray(values, dtype=np.float64).reshape(template_mm.shape[:-1])
