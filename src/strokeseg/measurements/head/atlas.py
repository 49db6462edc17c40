"""The ICBM 152 template, registered to a patient's skull: which part of the brain a point lies in.

The template is symmetric, and only half of it is stored: x is the distance from the mid-sagittal plane, without a side.
``python -m tools.derive_atlas`` writes `atlas.npz`; `atlas.md` contains its license notice.
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

# Grid of the maps (|x|, y, z): first sample and step, template mm; distance of one stored unit; largest distance.
ORIGIN_MM = (0, -134, -72)
STEP_MM = 4.0
UNIT_MM = 0.5
MAX_DISTANCE_MM = 24.0

_MIN_SLICES, _MIN_SPAN_MM = 6, 45.0
_FEW_POINTS, _MANY_POINTS = 250, 1000
_STARTS_DEG = (-20.0, 0.0, 20.0)
_STARTS_MM = (-15.0, 15.0)
# Larger residuals have little influence (soft L1, mm): holes in the skull, tissue below the brain.
_ROBUST_MM = 3.0
# Priors that regularize the shape, against residuals of 1 mm at this number of independent points: a scan that is
# truncated at its top or bottom does not determine height and pitch. Most heads are smaller than the template.
_INDEPENDENT = 40.0
_USUAL_SCALE, _SCALE_SD, _PITCH_SD_DEG = 0.97, 0.06, 12.0
_MIN_SCALE, _MAX_SCALE = 0.75, 1.3
_MAX_RESIDUAL_MM = 4.0


@dataclass(frozen=True)
class AtlasFit:
    """The template registered to a head.

    Attributes
    ----------
    midplane : Midplane
        The mid-sagittal plane.
    origin_mm : ndarray of float, shape (3,)
        Position of the template's (0, 0, 0), the centre of the anterior commissure, LPS mm.
    forward, up : ndarray of float, shape (3,)
        Unit vectors of the template's y and z axes, in the plane, LPS.
    scales : ndarray of float, shape (3,)
        Size of the head divided by the size of the template, along x, y, z.
    residual_mm : float
        Median distance between the inner surfaces of skull and template, mm.
    """

    midplane: Midplane
    origin_mm: Floats
    forward: Floats
    up: Floats
    scales: Floats
    residual_mm: float

    def to_template_mm(self, points_mm: Floats) -> Floats:
        """Map points to the template.

        Parameters
        ----------
        points_mm : ndarray of float, shape (..., 3)
            Points, LPS mm.

        Returns
        -------
        ndarray of float, shape (..., 3)
            |x|, y to the front, z up, template mm.
        """
        offsets = np.asarray(points_mm, dtype=np.float64) - self.origin_mm
        across = np.abs(self.midplane.distance_mm(points_mm))
        return np.stack([across, offsets @ self.forward, offsets @ self.up], -1) / self.scales

    def distance_mm(self, name: AtlasMap, points_mm: Floats) -> Floats:
        """Signed distance from a part of the brain, negative inside, in mm of the head, at most 24 template mm.

        ``inside`` is the interior of the skull. ``ventricle`` is any ventricle; distances from the third and the fourth
        ventricle are stretched, because they widen less than the lateral ones. ``infratentorial`` is twice the distance
        from the tentorium and the upper end of the midbrain. ``deep`` are basal ganglia, thalamus, capsules and walls
        of the ventricles.

        Parameters
        ----------
        name : {"inside", "ventricle", "infratentorial", "brainstem", "deep"}
            Part of the brain.
        points_mm : ndarray of float, shape (..., 3)
            Points, LPS mm.

        Returns
        -------
        ndarray of float, shape (...)
            Distances, mm.
        """
        return _sample_map(name, self.to_template_mm(points_mm)) * float(np.prod(self.scales)) ** (1 / 3)


def fit_atlas(head: CoarseHead, plane: Midplane, table: InnerTable) -> AtlasFit | None:
    """Register the template to a head by the inner surface of the skull.

    The mid-sagittal plane determines the position across and two of the three angles. Pitch, shift and scale minimize
    the distance of the inner table from the template's surface; the cut surface of a truncated head is not used. On
    heads made of the template, rotated, scaled and truncated, points are located within 4 mm
    (tests/measurements/head/test_atlas.py). The error in patients was inspected, but not measured.

    Parameters
    ----------
    head : CoarseHead
        The head.
    plane : Midplane
        The mid-sagittal plane.
    table : InnerTable
        Inner table of the skull.

    Returns
    -------
    AtlasFit or None
        The registration. None if the spacing is unknown, the plane is not reliable, the inner table extends over fewer
        than six slices or less than 45 mm, or its median distance from the template exceeds 4 mm.
    """
    if not head.scan.spacing_known or not plane.reliable or len(head.hu) < _MIN_SLICES or not len(table.points_mm):
        return None
    if np.ptp(table.points_mm @ head.scan.planes.normal) < _MIN_SPAN_MM:
        return None
    problem = _FitProblem.from_points(table.points_mm, plane)
    candidates = [problem.solve(start, _FEW_POINTS) for start in problem.starts()]
    best = problem.solve(min(candidates, key=lambda candidate: candidate[1])[0], _MANY_POINTS)[0]
    fit = problem.make_fit(best, plane)
    return fit if fit.residual_mm <= _MAX_RESIDUAL_MM else None


@dataclass(frozen=True)
class _FitProblem:
    """Points of the inner table in the frame of the plane: x across, y forward, z up, mm, from ``centre_mm``."""

    points: Floats
    centre_mm: Floats
    forward: Floats
    up: Floats

    @classmethod
    def from_points(cls, points_mm: Floats, plane: Midplane) -> _FitProblem:
        up = np.array([0, 0, 1.0]) - plane.normal[2] * plane.normal
        up /= np.linalg.norm(up)
        forward = np.cross(plane.normal, up)
        centre = points_mm.mean(0)
        centre = centre - plane.distance_mm(centre) * plane.normal
        offsets = points_mm - centre
        x = np.abs(plane.distance_mm(points_mm))
        # Shuffled, so that the first points are distributed over the whole surface.
        points = np.column_stack([x, offsets @ forward, offsets @ up])
        return cls(np.random.default_rng(0).permutation(points), centre, forward, up)

    def starts(self) -> list[Floats]:
        """Return starts (pitch, y, z, log scales); the points are centred at about (-20, 15) of the template."""
        size = np.log(_USUAL_SCALE)
        return [
            np.array([np.radians(pitch), 18.0, -15.0 + up, size, size, size])
            for pitch in _STARTS_DEG
            for up in _STARTS_MM
        ]

    def solve(self, start: Floats, max_points: int) -> tuple[Floats, float]:
        """Optimize the parameters from a start; return them and their cost."""
        points = self.points[:max_points]
        weight = np.sqrt(_INDEPENDENT / len(points))

        def residuals(parameters: Floats) -> Floats:
            distance = _sample_map("inside", self._to_template(parameters, points))
            robust = np.sqrt(2 * (np.sqrt(1 + (distance / _ROBUST_MM) ** 2) - 1)) * _ROBUST_MM
            priors = np.append(
                (parameters[3:] - np.log(_USUAL_SCALE)) / _SCALE_SD, parameters[0] / np.radians(_PITCH_SD_DEG)
            )
            return np.concatenate([weight * robust * np.sign(distance), priors])

        lengths = np.array([0.1, 5.0, 5.0, 0.05, 0.05, 0.05])
        solution = optimize.least_squares(
            residuals, start, x_scale=lengths, diff_step=1e-3, max_nfev=12, xtol=1e-3, ftol=1e-3
        )
        return solution.x, float(solution.cost)

    def _to_template(self, parameters: Floats, points: Floats) -> Floats:
        pitch, y, z = parameters[:3]
        cos, sin = np.cos(pitch), np.sin(pitch)
        forward, up = points[:, 1] - y, points[:, 2] - z
        rotated = np.column_stack([points[:, 0], cos * forward + sin * up, -sin * forward + cos * up])
        return np.asarray(rotated / np.exp(parameters[3:]))

    def make_fit(self, parameters: Floats, plane: Midplane) -> AtlasFit:
        pitch, y, z = parameters[:3]
        cos, sin = np.cos(pitch), np.sin(pitch)
        scales = np.exp(parameters[3:])
        distances = _sample_map("inside", self._to_template(parameters, self.points)) * scales.mean()
        residual = float(np.median(np.abs(distances)))
        if not ((scales > _MIN_SCALE) & (scales < _MAX_SCALE)).all():
            residual = float("inf")
        return AtlasFit(
            plane,
            self.centre_mm + y * self.forward + z * self.up,
            cos * self.forward + sin * self.up,
            cos * self.up - sin * self.forward,
            scales,
            residual,
        )


@cache
def load_maps() -> dict[str, NDArray[np.float32]]:
    """Load the maps of the atlas.

    Returns
    -------
    dict of str to ndarray of float32
        Signed distances, template mm, by name; arrays are (|x|, y, z).
    """
    with (
        resources.files(__package__).joinpath("atlas.npz").open("rb") as stream,
        np.load(stream) as stored,
    ):
        return {name: stored[name].astype(np.float32) * np.float32(UNIT_MM) for name in stored.files}


def _sample_map(name: AtlasMap, template_mm: Floats) -> Floats:
    """Sample a map at template points, shape (..., 3); beyond its edge the last value is used."""
    indices = (template_mm.reshape(-1, 3) - ORIGIN_MM) / STEP_MM
    values = ndimage.map_coordinates(load_maps()[name], indices.T, order=1, mode="nearest")
    return np.asarray(values, dtype=np.float64).reshape(template_mm.shape[:-1])
