"""Segment the brain on a coarse grid: the soft tissue that the skull encloses.

Lesions far from the brain are dropped, and its surface is shown. No measurement uses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.imaging import downsample
from strokeseg.scan import Planes, Scan

Mask = NDArray[np.bool_]

_SAMPLE_MM = 2.0
_MAX_ACROSS, _MIN_ACROSS = 128, 16
_SLICE_MM = 2.5
_BONE_HU = 130.0
_SOFT_HU = -15.0
_CORE_MM = 5.0
_OPENING_MM = 8.0
_MIN_BRAIN_ML = 30.0
_STEM_MM = 15.0
_MAX_CANAL_SHARE = 0.06

_CROSS = np.array([[[0, 1, 0], [1, 1, 1], [0, 1, 0]]], dtype=bool)
_IN_SLICE = np.concatenate([0 * _CROSS, _CROSS, 0 * _CROSS])
_SQUARE = np.ones((1, 3, 3), dtype=bool)


@dataclass(frozen=True)
class TissueSamples:
    """Shares of soft tissue and bone on a grid of about 2 mm.

    Attributes
    ----------
    soft_share : ndarray of float32, shape (slices, rows, columns)
        Share of each sample that is soft tissue, fluid or blood.
    bone_share : ndarray of float32, shape (slices, rows, columns)
        Share of each sample that is bone.
    slice_step, pixel_step : int
        The sample (k, i, j) is the scan's slice ``slice_step // 2 + k * slice_step`` and the mean of the pixels from
        ``i * pixel_step`` and ``j * pixel_step`` on.
    slice_mm : float
        Usual step between samples along the stack; 1 mm, as in ``Planes.to_lps_mm``, if unknown.
    spacing_mm : tuple of (float, float)
        (between rows, between columns) of the samples.
    """

    soft_share: NDArray[np.float32]
    bone_share: NDArray[np.float32]
    slice_step: int
    pixel_step: int
    slice_mm: float
    spacing_mm: tuple[float, float]


def segment_brain(samples: TissueSamples, planes: Planes, stem_mm: float = _STEM_MM) -> Mask:
    """Segment the brain: the largest soft tissue that bone encloses.

    A sample is enclosed if there is bone in at least 5 of 8 directions in its slice. Outside a convex ring this is
    impossible, and inside it remains true beside a hole; an open skull is therefore closed along the chord of its hole.
    The widest enclosed tissue after an erosion by 5 mm, which separates it from orbits, face and neck, is grown back.

    Parameters
    ----------
    samples : TissueSamples
        Samples of the scan.
    planes : Planes
        Planes of the scan.
    stem_mm : float, default 15
        Length of the spinal canal below the foramen magnum that is kept, so that the surface does not end in the
        foramen.

    Returns
    -------
    ndarray of bool, shape (slices, rows, columns)
        On the grid of the samples; empty if there is no brain of at least 30 ml.
    """
    erosion_steps = max(1, round(_CORE_MM / min(samples.spacing_mm)))
    opening_steps = max(1, round(_OPENING_MM / min(samples.spacing_mm)))
    brain = np.zeros(samples.bone_share.shape, dtype=bool)
    # Nothing is enclosed outside the rows and columns of the bone.
    box = _find_bone_box(samples.bone_share > 0.5, erosion_steps + 1)
    soft, bone, brain_in_box = samples.soft_share[box], samples.bone_share[box], brain[box]
    inside = _mark_enclosed(bone > 0.5)
    soft_inside = (soft > 0.6) & (bone < 0.25) & inside
    core = keep_largest(ndimage.binary_erosion(soft_inside, _CROSS, iterations=erosion_steps))
    if not core.any():
        return brain
    grown = ndimage.binary_dilation(core, _SQUARE, iterations=erosion_steps, mask=(soft > 0.5) & inside)
    grown = ndimage.binary_closing(grown, _CROSS, iterations=erosion_steps) & (bone < 0.5)
    brain_in_box[:] = keep_largest(ndimage.binary_opening(_fill_holes(grown), _CROSS, iterations=opening_steps))
    upwards = brain_in_box if planes.normal[2] >= 0 else brain_in_box[::-1]
    _cut_canal(upwards, round(stem_mm / samples.slice_mm))
    volume_mm3 = brain_in_box.sum() * samples.spacing_mm[0] * samples.spacing_mm[1] * samples.slice_mm
    if volume_mm3 < _MIN_BRAIN_ML * 1000:
        brain_in_box[:] = False
    return brain


@dataclass(frozen=True)
class BrainRegion:
    """The brain of a scan on the grid of its samples.

    Attributes
    ----------
    samples : TissueSamples
        The samples.
    brain : ndarray of bool, shape (slices, rows, columns)
        Samples in the brain, above the foramen magnum; at least one.
    shape : tuple of (int, int, int)
        Shape of the scan.
    """

    samples: TissueSamples
    brain: Mask
    shape: tuple[int, int, int]

    @cached_property
    def distance_mm(self) -> NDArray[np.float32]:
        """Distance to the brain's border in each slice, mm: positive inside, negative outside; shape of ``brain``."""
        spacing = self.samples.spacing_mm
        distances = np.full(self.brain.shape, -np.inf, dtype=np.float32)
        for plane, values in zip(self.brain, distances, strict=True):
            if plane.any():
                values[:] = ndimage.distance_transform_edt(plane, sampling=spacing)
                values -= ndimage.distance_transform_edt(~plane, sampling=spacing)
        return distances

    def find_samples(self, pixels: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """Return the index (slice, row, column) of the sample of each pixel.

        Parameters
        ----------
        pixels : ndarray of intp, shape (n,)
            Indices in the flat scan.

        Returns
        -------
        tuple of ndarray of intp, each of shape (n,)
            Indices in ``brain``.
        """
        steps = (self.samples.slice_step, self.samples.pixel_step, self.samples.pixel_step)
        indices = np.unravel_index(pixels, self.shape)
        slices, rows, columns = (
            np.minimum(index // step, size - 1)
            for index, step, size in zip(indices, steps, self.brain.shape, strict=True)
        )
        return slices, rows, columns


def find_brain(scan: Scan, blood: Mask) -> BrainRegion | None:
    """Find the brain. The spinal canal is left out: the ligaments around it are as dense as blood.

    Parameters
    ----------
    scan : Scan
        The scan.
    blood : ndarray of bool, shape (slices, rows, columns)
        Bright pixels of this mask are blood, not bone.

    Returns
    -------
    BrainRegion or None
        None if there is no brain.
    """
    samples = sample_tissue(scan, blood)
    brain = segment_brain(samples, scan.planes, stem_mm=0)
    return BrainRegion(samples, brain, scan.shape) if brain.any() else None


def sample_tissue(scan: Scan, blood: Mask) -> TissueSamples:
    """Classify pixels as bone, soft tissue or neither, and compute the shares on a grid of about 2 mm.

    Parameters
    ----------
    scan : Scan
        The scan.
    blood : ndarray of bool, shape (slices, rows, columns)
        Bright pixels of this mask are blood, not bone.

    Returns
    -------
    TissueSamples
        Shares of soft tissue and bone.
    """
    planes = scan.planes
    pixel_step = max(1, round(_SAMPLE_MM / max(planes.pixel_spacing_mm)), -(-max(scan.shape[1:]) // _MAX_ACROSS))
    pixel_step = min(pixel_step, 255, max(1, min(scan.shape[1:]) // _MIN_ACROSS))
    gaps = planes.gaps_mm
    slice_step = max(1, round(_SLICE_MM / float(np.median(gaps)))) if gaps.size else 1
    slice_step = min(slice_step, len(scan.hu))
    sampled = slice(slice_step // 2, None, slice_step)
    hu = scan.hu[sampled]
    bone_hu, soft_hu = _BONE_HU, _SOFT_HU
    if scan.window is not None:
        # Pictures end at their window: its upper tenth is bone, its lower end is air and fat.
        low, high = scan.window[0] - scan.window[1] / 2, scan.window[0] + scan.window[1] / 2
        bone_hu, soft_hu = min(bone_hu, 0.9 * high), max(soft_hu, low + 0.03 * scan.window[1])
    bone = (hu > bone_hu) & ~blood[sampled]
    soft = ((hu > soft_hu) & ~bone) | blood[sampled]
    row_mm, column_mm = planes.pixel_spacing_mm
    dtype = np.uint8 if pixel_step**2 < 2**8 else np.uint16
    return TissueSamples(
        downsample.downsample_mean(soft, pixel_step, dtype),
        downsample.downsample_mean(bone, pixel_step, dtype),
        slice_step=slice_step,
        pixel_step=pixel_step,
        slice_mm=(float(np.median(planes.weights_mm)) or 1.0) * slice_step,
        spacing_mm=(row_mm * pixel_step, column_mm * pixel_step),
    )


def keep_largest(mask: Mask) -> Mask:
    """Keep the largest connected component (6 neighbours)."""
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    return np.asarray(labels == np.bincount(labels.ravel())[1:].argmax() + 1)


def _find_bone_box(bone: Mask, margin: int) -> tuple[slice, slice, slice]:
    """Return the rows and columns that contain bone, with a margin; empty slices if there is none."""
    sides = [slice(None)]
    for axes in ((0, 2), (0, 1)):
        indices = np.flatnonzero(bone.any(axes))
        start, stop = (int(indices[0]) - margin, int(indices[-1]) + margin + 1) if indices.size else (0, 0)
        sides.append(slice(max(0, start), stop))
    return sides[0], sides[1], sides[2]


def _fill_holes(mask: Mask) -> Mask:
    """Fill the holes of every slice; four times as fast as SciPy's ``binary_fill_holes``, which grows from the edge."""
    labels, count = ndimage.label(~mask, _IN_SLICE)
    reaches_edge = np.zeros(count + 1, dtype=bool)
    for edge in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        reaches_edge[edge] = True
    reaches_edge[0] = False
    return np.asarray(~reaches_edge[labels])


def _mark_enclosed(bone: Mask) -> Mask:
    """Mark the samples with bone in at least 5 of the 8 directions in their slice."""
    directions = np.zeros(bone.shape, dtype=np.uint8)
    for axis in (1, 2):
        for is_reversed in (False, True):
            view = np.flip(bone, axis) if is_reversed else bone
            marked = np.logical_or.accumulate(view, axis=axis)
            directions += np.flip(marked, axis) if is_reversed else marked
    for down in (False, True):
        for right in (False, True):
            marked = bone[:, :: -1 if down else 1, :: -1 if right else 1].copy()
            for row in range(1, marked.shape[1]):
                marked[:, row, 1:] |= marked[:, row - 1, :-1]
            directions += marked[:, :: -1 if down else 1, :: -1 if right else 1]
    return directions >= 5


def _cut_canal(brain: Mask, kept_slices: int) -> None:
    """Clear the spinal canal in place, except for some slices below the foramen magnum.

    Below the widest slice, slices with less than 6 % of its area are canal and foramen: the foramen magnum has about
    8 cm², the widest slice at least 150 cm².
    """
    areas = brain.sum((1, 2))
    narrow = np.flatnonzero(areas[: int(areas.argmax())] < _MAX_CANAL_SHARE * areas.max())
    if narrow.size:
        brain[: max(0, int(narrow[-1]) + 1 - kept_slices)] = False
