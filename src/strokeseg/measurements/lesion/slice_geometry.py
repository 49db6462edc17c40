"""A slice resampled to the size of the head, on which the sections of a lesion are measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.measurements.head.coarse_head import CoarseHead
from strokeseg.measurements.head.midplane import Midplane
from strokeseg.scan import Floats, Scan

Mask = NDArray[np.bool_]

RADIUS_PX = 120
"""A slice is resampled so that its intracranial area equals that of a circle of this radius, pixels."""

SURROUNDINGS = 0.2
"""Width of the surroundings of the head and of a section, radii."""

NEIGHBOURS = np.ones((3, 3), dtype=bool)
"""Structuring element of the 8 neighbours of a pixel."""

_BONE_HU = 130.0
# Bone deeper inside is calcification; everything further outside counts as skull, also at a hole in the skull.
_MAX_BONE_DEPTH, _SKULL_MARGIN = 0.10, 0.04


@dataclass(frozen=True)
class SliceGeometry:
    """One slice, resampled so that its intracranial area is that of a circle of :data:`RADIUS_PX`.

    Attributes
    ----------
    hu : ndarray of float32, shape (rows, columns)
        Smoothed density, HU.
    lesion : ndarray of bool, shape (rows, columns)
        The lesion.
    inside : ndarray of bool, shape (rows, columns)
        Intracranial pixels.
    free : ndarray of bool, shape (rows, columns)
        Intracranial pixels that are neither blood nor bone nor their blurred edge.
    depth : ndarray of float32, shape (rows, columns)
        Distance to the skull, in radii.
    axis : ndarray of float, shape (2,)
        Direction of the midline, a unit vector (row, column).
    centre : ndarray of float, shape (2,)
        Centre of the head on the grid (row, column).
    brain_hu : float
        Density of the brain, HU.
    pixel_mm : float
        Size of a pixel, mm.
    """

    hu: NDArray[np.float32]
    lesion: Mask
    inside: Mask
    free: Mask
    depth: NDArray[np.float32]
    axis: Floats
    centre: Floats
    brain_hu: float
    pixel_mm: float

    @classmethod
    def from_slice(
        cls, scan: Scan, mask: Mask, head: CoarseHead, plane: Midplane | None, index: int
    ) -> SliceGeometry | None:
        """Resample one slice of a scan.

        Parameters
        ----------
        scan : Scan
            The scan.
        mask : ndarray of bool, shape (slices, rows, columns)
            One lesion.
        head : CoarseHead
            Head of the same scan.
        plane : Midplane or None
            The mid-sagittal plane; without it, the long axis of the intracranial area is used.
        index : int
            Index of the slice.

        Returns
        -------
        SliceGeometry or None
            The resampled slice; None if it shows no brain.
        """
        samples, sample = head.samples, int(np.abs(head.slices - index).argmin())
        intracranial = head.brain[sample]
        if not intracranial.any():
            return None
        spacing, step = np.array(scan.planes.pixel_spacing_mm), samples.pixel_step
        radius_mm = float(np.sqrt(intracranial.sum() * np.prod(samples.spacing_mm) / np.pi))
        pixel_mm = radius_mm / RADIUS_PX
        points = np.argwhere(intracranial)
        low_mm = points.min(0) * step * spacing - (SURROUNDINGS * radius_mm)
        high_mm = (points.max(0) + 1) * step * spacing + (SURROUNDINGS * radius_mm)
        lines = [np.arange(low, high, pixel_mm) / mm for low, high, mm in zip(low_mm, high_mm, spacing, strict=True)]
        nearest = [np.clip(np.rint(line).astype(int), 0, n - 1) for line, n in zip(lines, scan.shape[1:], strict=True)]
        fine = np.ix_(*nearest)
        coarse = np.ix_(*(np.minimum(line // step, n - 1) for line, n in zip(nearest, intracranial.shape, strict=True)))
        hu, lesion = scan.hu[index][fine].astype(np.float32), mask[index][fine]
        blood = (head.blood[sample][coarse] > 0.25) | lesion
        inside = (ndimage.uniform_filter(intracranial[coarse].astype(np.float32), 9) > 0.5) | lesion
        depth_inside, distance_outside = (
            _distances(area, samples.spacing_mm)[coarse] / radius_mm for area in (intracranial, ~intracranial)
        )
        bone = (hu > _bone_hu(scan)) & ~blood & (depth_inside < _MAX_BONE_DEPTH)
        depth = (
            ndimage.distance_transform_edt(~bone & (distance_outside < _SKULL_MARGIN)).astype(np.float32) / RADIUS_PX
        )
        free = inside & ~ndimage.binary_dilation(blood | bone, NEIGHBOURS)
        smooth = ndimage.uniform_filter(np.minimum(hu, _BONE_HU), 3)
        brain_hu = float(np.median(smooth[::2, ::2][free[::2, ::2]])) if free[::2, ::2].any() else 32.0
        centre, axis = _principal_axis(intracranial, np.array(samples.spacing_mm))
        centre = (centre + step * spacing / 2 - low_mm) / pixel_mm
        if plane is not None:
            centre, axis = _midplane_axis(plane, scan, index, centre, low_mm, pixel_mm)
        return cls(smooth, lesion, inside, free, depth, axis, centre, brain_hu, pixel_mm)


def _bone_hu(scan: Scan) -> float:
    """Lowest density of bone, HU; in pictures, the upper tenth of their window is bone."""
    return _BONE_HU if scan.window is None else min(_BONE_HU, scan.window[0] + 0.4 * scan.window[1])


def _distances(part: Mask, spacing_mm: tuple[float, float]) -> Floats:
    return np.asarray(ndimage.distance_transform_edt(part, sampling=spacing_mm))


def _principal_axis(area: Mask, spacing_mm: Floats) -> tuple[Floats, Floats]:
    """Center (mm from the first sample) and long axis of the intracranial area; vertical if it is round or oblique."""
    points = np.argwhere(area) * spacing_mm
    centre = points.mean(0)
    values, vectors = np.linalg.eigh(np.cov((points - centre).T) if len(points) > 1 else np.eye(2))
    axis = vectors[:, 1]
    if abs(axis[0]) < 0.85 or values[1] < 1.1 * values[0]:
        axis = np.array([1.0, 0.0])
    return centre, axis * np.sign(axis[0])


def _midplane_axis(
    plane: Midplane, scan: Scan, index: int, centre: Floats, low_mm: Floats, pixel_mm: float
) -> tuple[Floats, Floats]:
    """Move the centre onto the line where the mid-sagittal plane meets the slice, and align the axis with it."""
    spacing = np.array(scan.planes.pixel_spacing_mm)
    rows_columns = (np.array([centre, np.add(centre, (1, 0)), np.add(centre, (0, 1))]) * pixel_mm + low_mm) / spacing
    distance, distance_down, distance_right = plane.distance_mm(
        scan.planes.to_lps_mm(np.column_stack([[index] * 3, rows_columns]))
    )
    slope = np.array([distance_down - distance, distance_right - distance])
    if not slope.any():
        return centre, np.array([1.0, 0.0])
    across = slope / np.linalg.norm(slope)
    axis = np.array([-across[1], across[0]])
    return centre - distance / (slope @ slope) * slope, axis * (np.sign(axis[0]) or 1.0)
