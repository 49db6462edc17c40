"""Where the brain lies: the soft tissue that the skull encloses, on a coarse grid.

Lesions far from it are dropped, and its surface is drawn. Nothing is measured on it.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """A scan at about 2 mm.

    Parameters
    ----------
    soft : ndarray of float32, shape (slices, rows, columns)
        The share of each sample that is soft tissue, fluid or blood.
    bone : ndarray of float32
        The same shape, the share that is bone.
    slice_step, pixel_step : int
        The sample (k, i, j) is the scan's slice ``slice_step // 2 + k * slice_step`` and the mean of the pixels from
        ``i * pixel_step`` and ``j * pixel_step`` on.
    slice_mm : float
        The usual step from sample to sample along the stack; 1 mm, as ``Planes.to_lps_mm`` steps, where it is not
        known.
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
    """Find the brain: the largest soft tissue that bone encloses.

    A sample is enclosed if bone is met in at least 5 of 8 directions in its slice. Outside of a convex ring that cannot
    be, and inside of one it stays so beside a hole; an open skull therefore closes along the chord of its hole. The
    widest enclosed tissue after an erosion by 5 mm, which parts it from orbits, face and neck, is grown back.

    Parameters
    ----------
    stem_mm : float, default: _STEM_MM
        How much of the spinal canal below the foramen magnum is kept, so that the surface does not end in it.

    Returns
    -------
    ndarray of bool
        Bool, the shape of ``coarse.soft``; empty where nothing of 30 ml is found.
    """
    steps = max(1, round(_CORE_MM / min(samples.spacing_mm)))
    smooth = max(1, round(_OPENING_MM / min(samples.spacing_mm)))
    found = np.zeros(samples.bone_share.shape, dtype=bool)
    # Nothing is enclosed outside of the bone's own rows and columns.
    framed = _find_bone_box(samples.bone_share > 0.5, steps + 1)
    soft, bone, opened = samples.soft_share[framed], samples.bone_share[framed], found[framed]
    inside = _mark_enclosed(bone > 0.5)
    core = keep_largest(ndimage.binary_erosion((soft > 0.6) & (bone < 0.25) & inside, _CROSS, iterations=steps))
    if not core.any():
        return found
    grown = ndimage.binary_dilation(core, _SQUARE, iterations=steps, mask=(soft > 0.5) & inside)
    grown = ndimage.binary_closing(grown, _CROSS, iterations=steps) & (bone < 0.5)
    opened[:] = keep_largest(ndimage.binary_opening(_fill_holes(grown), _CROSS, iterations=smooth))
    _cut_canal(opened if planes.normal[2] >= 0 else opened[::-1], round(stem_mm / samples.slice_mm))
    if opened.sum() * samples.spacing_mm[0] * samples.spacing_mm[1] * samples.slice_mm < _MIN_BRAIN_ML * 1000:
        opened[:] = False
    return found


def find_near_brain(scan: Scan, blood: Mask, reach_mm: float, pixels: NDArray[np.intp]) -> Mask | None:
    """Say which pixels lie in the brain or at most ``reach_mm`` from it, in their slice.

    What lies below the foramen magnum is not near: the ligaments around the spinal canal are as dense as blood.

    Parameters
    ----------
    blood : ndarray of bool, shape (slices, rows, columns)
        What is bright there is blood, not bone.
    pixels : ndarray of intp, shape (n,)
        Indices in the flat scan.

    Returns
    -------
    ndarray of bool or None, shape (n,)
        At the resolution of the samples; None where no brain is found.
    """
    samples = sample_tissue(scan, blood)
    found = segment_brain(samples, scan.planes, stem_mm=0)
    if not found.any():
        return None
    across = [ndimage.distance_transform_edt(~plane, sampling=samples.spacing_mm) <= reach_mm for plane in found]
    grown = np.stack([plane if some.any() else some for plane, some in zip(across, found, strict=True)])
    steps = (samples.slice_step, samples.pixel_step, samples.pixel_step)
    places = np.unravel_index(pixels, scan.shape)
    nearest = tuple(
        np.minimum(place // step, size - 1) for place, step, size in zip(places, steps, found.shape, strict=True)
    )
    return np.asarray(grown[nearest])


def sample_tissue(scan: Scan, blood: Mask) -> TissueSamples:
    """Sort the scan's pixels into bone, soft tissue and neither, and give the shares of each at about 2 mm.

    Parameters
    ----------
    blood : ndarray of bool, shape (slices, rows, columns)
        What is bright there is blood, not bone.
    """
    planes = scan.planes
    pixel = max(1, round(_SAMPLE_MM / max(planes.pixel_spacing_mm)), -(-max(scan.shape[1:]) // _MAX_ACROSS))
    pixel = min(pixel, 255, max(1, min(scan.shape[1:]) // _MIN_ACROSS))
    gaps = planes.gaps_mm
    step = max(1, round(_SLICE_MM / float(np.median(gaps)))) if gaps.size else 1
    step = min(step, len(scan.hu))
    picked = slice(step // 2, None, step)
    hu = scan.hu[picked]
    bone_hu, soft_hu = _BONE_HU, _SOFT_HU
    if scan.window is not None:
        # Pictures end at their window: above 9/10 of it is bone, at its bottom are air and fat.
        low, high = scan.window[0] - scan.window[1] / 2, scan.window[0] + scan.window[1] / 2
        bone_hu, soft_hu = min(bone_hu, 0.9 * high), max(soft_hu, low + 0.03 * scan.window[1])
    bone = (hu > bone_hu) & ~blood[picked]
    soft = ((hu > soft_hu) & ~bone) | blood[picked]
    row_mm, column_mm = planes.pixel_spacing_mm
    kind = np.uint8 if pixel**2 < 2**8 else np.uint16
    return TissueSamples(
        downsample.downsample_mean(soft, pixel, kind),
        downsample.downsample_mean(bone, pixel, kind),
        slice_step=step,
        pixel_step=pixel,
        slice_mm=(float(np.median(planes.weights_mm)) or 1.0) * step,
        spacing_mm=(row_mm * pixel, column_mm * pixel),
    )


def _find_bone_box(bone: Mask, margin: int) -> tuple[slice, slice, slice]:
    """Return the rows and columns that hold bone, with a margin; no rows where there is none."""
    sides = [slice(None)]
    for axes in ((0, 2), (0, 1)):
        held = np.flatnonzero(bone.any(axes))
        sides.append(slice(max(0, int(held[0]) - margin), int(held[-1]) + margin + 1) if held.size else slice(0))
    return sides[0], sides[1], sides[2]


def _fill_holes(mask: Mask) -> Mask:
    """Fill the holes of every slice; SciPy's ``binary_fill_holes`` grows in from the edge, four times as slowly."""
    parts, count = ndimage.label(~mask, _IN_SLICE)
    open_ = np.zeros(count + 1, dtype=bool)
    for edge in (parts[:, 0], parts[:, -1], parts[:, :, 0], parts[:, :, -1]):
        open_[edge] = True
    open_[0] = False
    return np.asarray(~open_[parts])


def _mark_enclosed(bone: Mask) -> Mask:
    """Mark the samples from which bone is met in at least 5 of the 8 directions in their slice."""
    met = np.zeros(bone.shape, dtype=np.uint8)
    for axis in (1, 2):
        for flip in (False, True):
            view = np.flip(bone, axis) if flip else bone
            seen = np.logical_or.accumulate(view, axis=axis)
            met += np.flip(seen, axis) if flip else seen
    for down in (False, True):
        for right in (False, True):
            seen = bone[:, :: -1 if down else 1, :: -1 if right else 1].copy()
            for row in range(1, seen.shape[1]):
                seen[:, row, 1:] |= seen[:, row - 1, :-1]
            met += seen[:, :: -1 if down else 1, :: -1 if right else 1]
    return met >= 5


def keep_largest(mask: Mask) -> Mask:
    """Keep the largest connected part (6 neighbours)."""
    parts, count = ndimage.label(mask)
    if count < 2:
        return mask
    return np.asarray(parts == np.bincount(parts.ravel())[1:].argmax() + 1)


def _cut_canal(found: Mask, slices: int) -> None:
    """Empty the spinal canal in place, but for some slices below the foramen magnum.

    Below the widest slice, the canal and the foramen are what is under 6 % of the widest slice: the foramen magnum has
    about 8 cm², and the widest slice 150 cm² or more.
    """
    areas = found.sum((1, 2))
    narrow = np.flatnonzero(areas[: int(areas.argmax())] < _MAX_CANAL_SHARE * areas.max())
    if narrow.size:
        found[: max(0, int(narrow[-1]) + 1 - slices)] = False
