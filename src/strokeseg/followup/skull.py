"""The skull of a scan on a regular grid along the LPS axes, for registration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.followup import sampling
from strokeseg.imaging import brain_mask
from strokeseg.scan import Floats, Planes, Scan

Mask = NDArray[np.bool_]

GRID_MM = 2.5
MAX_DISTANCE_MM = 15.0
_NEAR_BRAIN_MM = 20.0
_MARGIN_MM = 12.0
_SURFACE_POINTS = 1200
_MIN_SAMPLES = 200


@dataclass(frozen=True)
class Skull:
    """A skull on grids (z, y, x) with a spacing of 2.5 mm.

    Attributes
    ----------
    planes : Planes
        Planes of the scan.
    shape : tuple of (int, int, int)
        (slices, rows, columns) of the scan.
    bone : ndarray of float32, shape (z, y, x)
        Fraction of bone in each sample.
    covered : ndarray of bool, shape (z, y, x)
        Samples within the coverage of the scan.
    near_brain : ndarray of bool, shape (z, y, x)
        Covered samples near the brain; jaw and neck move relative to it.
    origin_mm : ndarray of float64, shape (3,)
        Position of the sample (0, 0, 0), LPS mm.
    surface_mm : ndarray of float64, shape (n, 3)
        Points on the surface of the bone near the brain, LPS mm, in random order.
    distance_mm : ndarray of float32, shape (z, y, x)
        Distance to the surface of any bone, at most 15 mm.
    distance_gradient : ndarray of float32, shape (z, y, x, 3)
        Gradient of that distance along LPS x, y and z.
    """

    planes: Planes
    shape: tuple[int, int, int]
    bone: NDArray[np.float32]
    covered: Mask
    near_brain: Mask
    origin_mm: Floats
    surface_mm: Floats
    distance_mm: NDArray[np.float32]
    distance_gradient: NDArray[np.float32]

    def covers(self, points_mm: Floats) -> Mask:
        """Return which points, (n, 3) LPS mm, are within the coverage of the scan."""
        return sampling.find_covered(self.planes, self.shape, sampling.lps_to_indices(self.planes, points_mm))

    def interpolate_bone(self, points_mm: Floats) -> Floats:
        """Interpolate the fraction of bone at points, (n, 3) LPS mm; 0 outside the grid."""
        indices = ((points_mm - self.origin_mm) / GRID_MM)[:, ::-1].T
        return np.asarray(ndimage.map_coordinates(self.bone, indices, order=1, mode="constant"))

    def interpolate_distance_mm(self, points_mm: Floats) -> Floats:
        """Interpolate the distance of points, (n, 3) LPS mm, to the surface of the skull; at most 15 mm."""
        indices = ((points_mm - self.origin_mm) / GRID_MM)[:, ::-1].T
        return np.asarray(
            ndimage.map_coordinates(self.distance_mm, indices, order=1, mode="constant", cval=MAX_DISTANCE_MM)
        )

    def look_up_gradient(self, points_mm: Floats) -> Floats:
        """Look up the gradient of that distance, (n, 3) LPS; 0 outside the grid."""
        return np.asarray(
            sampling.look_up_nearest(self.distance_gradient, ((points_mm - self.origin_mm) / GRID_MM)[:, ::-1])
        )


def extract_skull(scan: Scan, blood: Mask) -> Skull | None:
    """Extract the skull of a scan, with every sample at its true position.

    Parameters
    ----------
    scan : Scan
        The scan.
    blood : ndarray of bool, shape (slices, rows, columns)
        Mask of the lesions: bright pixels there are blood, not bone.

    Returns
    -------
    Skull or None
        None if hardly any bone is detected.
    """
    samples = brain_mask.sample_tissue(scan, blood)
    brain = brain_mask.segment_brain(samples, scan.planes)
    near = np.ones(brain.shape, dtype=bool)
    if brain.any():
        spacing_mm = (samples.slice_mm, *samples.spacing_mm)
        near = ndimage.distance_transform_edt(~brain, sampling=spacing_mm) <= _NEAR_BRAIN_MM
    # Centre of the first sample, and the distance between samples, in indices of the scan.
    step, pixel = samples.slice_step, samples.pixel_step
    first = np.array([step // 2, (pixel - 1) / 2, (pixel - 1) / 2])
    steps = np.array([step, pixel, pixel])
    bone_samples = np.argwhere((samples.bone_share > 0.5) & near)
    if len(bone_samples) < _MIN_SAMPLES:
        return None
    points = scan.planes.to_lps_mm(bone_samples * steps + first)
    origin = points.min(axis=0) - _MARGIN_MM
    size = np.ceil((points.max(axis=0) + _MARGIN_MM - origin) / GRID_MM).astype(int) + 1
    z, y, x = np.meshgrid(*(np.arange(n) * GRID_MM for n in size[::-1]), indexing="ij")
    indices = sampling.lps_to_indices(scan.planes, np.column_stack([x.ravel(), y.ravel(), z.ravel()]) + origin)
    sample_indices = (indices - first) / steps
    covered = sampling.find_covered(scan.planes, scan.shape, indices).reshape(z.shape)
    bone = sampling.interpolate_linear(samples.bone_share, sample_indices, 0.0).reshape(z.shape)
    near_brain = sampling.look_up_nearest(near, sample_indices).reshape(z.shape) & covered
    return _add_surface(scan, bone, covered, near_brain, origin)


def _add_surface(scan: Scan, bone: NDArray[np.float32], covered: Mask, near_brain: Mask, origin: Floats) -> Skull:
    """Find the surface of the bone and choose points on it, the same ones in every run."""
    solid = bone > 0.5
    edge = solid & ~ndimage.binary_erosion(solid)
    distance = np.full(bone.shape, MAX_DISTANCE_MM, dtype=np.float32)
    if edge.any():
        distance = np.minimum(ndimage.distance_transform_edt(~edge, sampling=GRID_MM), MAX_DISTANCE_MM).astype(
            np.float32
        )
    surface = np.argwhere(edge & near_brain)
    chosen = np.random.default_rng(0).permutation(len(surface))[:_SURFACE_POINTS]
    surface_mm = surface[chosen][:, ::-1] * GRID_MM + origin
    gradient = np.stack(np.gradient(distance, GRID_MM)[::-1], axis=-1)
    return Skull(scan.planes, scan.shape, bone, covered, near_brain, origin, surface_mm, distance, gradient)
