"""A scan's skull out of its planes, on a regular grid along the axes of LPS, to be laid on another's."""

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
    """A skull; grids are (z, y, x), 2.5 mm a sample.

    Parameters
    ----------
    planes, shape : Planes
        Of the scan.
    bone : ndarray of float32
        Float32, the share of each sample that is bone.
    covered : ndarray of bool
        Bool, what the scan shows.
    used : object
        Bool, what of it lies at the brain's bone: the jaw and the neck move against it.
    origin_mm : Floats
        (3,), LPS mm of the sample (0, 0, 0).
    surface_mm : Floats
        (n, 3), LPS mm, places on the surface of the used bone, in no order.
    away_mm : object
        Float32, the distance to the surface of any bone, at most 15 mm.
    slopes : ndarray of float32, shape (z, y, x, 3)
        How that distance grows along LPS x, y and z.
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

    def covers(self, places_mm: Floats) -> Mask:
        """Mark the places, (n, 3) LPS mm, that the scan shows."""
        return sampling.find_covered(self.planes, self.shape, sampling.lps_to_indices(self.planes, places_mm))

    def interpolate_bone(self, places_mm: Floats) -> Floats:
        """Return the share of bone at places, (n, 3) LPS mm; 0 beyond the grid."""
        where = ((places_mm - self.origin_mm) / GRID_MM)[:, ::-1].T
        return np.asarray(ndimage.map_coordinates(self.bone, where, order=1, mode="constant"))

    def interpolate_distance_mm(self, places_mm: Floats) -> Floats:
        """Return the distance to the skull's surface of places, (n, 3) LPS mm; at most 15 mm."""
        where = ((places_mm - self.origin_mm) / GRID_MM)[:, ::-1].T
        return np.asarray(
            ndimage.map_coordinates(self.distance_mm, where, order=1, mode="constant", cval=MAX_DISTANCE_MM)
        )

    def look_up_gradient(self, places_mm: Floats) -> Floats:
        """Return (n, 3), which way that distance grows, LPS; 0 where it is no longer told."""
        return np.asarray(
            sampling.look_up_nearest(self.distance_gradient, ((places_mm - self.origin_mm) / GRID_MM)[:, ::-1])
        )


def extract_skull(scan: Scan, blood: Mask) -> Skull | None:
    """Take a scan's skull out of its planes, each sample from its true place.

    Parameters
    ----------
    blood : ndarray of bool, shape (slices, rows, columns)
        What is bright there is blood, not bone.

    Returns
    -------
    Skull or None
        None where hardly any bone is found.
    """
    samples = brain_mask.sample_tissue(scan, blood)
    found = brain_mask.segment_brain(samples, scan.planes)
    near = np.ones(found.shape, dtype=bool)
    if found.any():
        apart_mm = (samples.slice_mm, *samples.spacing_mm)
        near = ndimage.distance_transform_edt(~found, sampling=apart_mm) <= _NEAR_BRAIN_MM
    # A sample's centre, and the distance between two, in the scan's own indices.
    step, pixel = samples.slice_step, samples.pixel_step
    first = np.array([step // 2, (pixel - 1) / 2, (pixel - 1) / 2])
    steps = np.array([step, pixel, pixel])
    held = np.argwhere((samples.bone_share > 0.5) & near)
    if len(held) < _MIN_SAMPLES:
        return None
    ends = scan.planes.to_lps_mm(held * steps + first)
    origin = ends.min(axis=0) - _MARGIN_MM
    size = np.ceil((ends.max(axis=0) + _MARGIN_MM - origin) / GRID_MM).astype(int) + 1
    z, y, x = np.meshgrid(*(np.arange(n) * GRID_MM for n in size[::-1]), indexing="ij")
    where = sampling.lps_to_indices(scan.planes, np.column_stack([x.ravel(), y.ravel(), z.ravel()]) + origin)
    inner = (where - first) / steps
    covered = sampling.find_covered(scan.planes, scan.shape, where).reshape(z.shape)
    bone = sampling.interpolate_linear(samples.bone_share, inner, 0.0).reshape(z.shape)
    used = sampling.look_up_nearest(near, inner).reshape(z.shape) & covered
    return _add_surface(scan, bone, covered, used, origin)


def _add_surface(scan: Scan, bone: NDArray[np.float32], covered: Mask, used: Mask, origin: Floats) -> Skull:
    """Find the surface of the bone, and pick some places on it: the same ones in every run."""
    solid = bone > 0.5
    edge = solid & ~ndimage.binary_erosion(solid)
    away = np.full(bone.shape, MAX_DISTANCE_MM, dtype=np.float32)
    if edge.any():
        away = np.minimum(ndimage.distance_transform_edt(~edge, sampling=GRID_MM), MAX_DISTANCE_MM).astype(np.float32)
    surface = np.argwhere(edge & used)
    picked = np.random.default_rng(0).permutation(len(surface))[:_SURFACE_POINTS]
    surface_mm = surface[picked][:, ::-1] * GRID_MM + origin
    slopes = np.stack(np.gradient(away, GRID_MM)[::-1], axis=-1)
    return Skull(scan.planes, scan.shape, bone, covered, used, origin, surface_mm, away, slopes)
