"""The brain's surface: the soft tissue inside the skull, coarse and smooth, for the eye and not for a measure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.result import Mesh
from strokeseg.scan import Floats, Planes, Scan
from strokeseg.surface import mesh
from strokeseg.surface.mesh import Mask

_SAMPLE_MM = 2.0
_MOST_ACROSS, _LEAST_ACROSS = 128, 16
_SLICE_MM = 2.5
_PART_MM = 2.5
_TRIANGLES = 18_000
_BONE_HU = 130.0
_SOFT_HU = -15.0
_CORE_MM = 5.0
_OPENING_MM = 8.0
_SMALLEST_ML = 30.0
_SIGMA_MM = 2.5
_MOST_MM = 20.0
_STEM_MM = 15.0
_CANAL = 0.06

_CROSS = np.array([[[0, 1, 0], [1, 1, 1], [0, 1, 0]]], dtype=bool)
_SQUARE = np.ones((1, 3, 3), dtype=bool)


@dataclass(frozen=True)
class Coarse:
    """A scan at about 2 mm.

    Parameters
    ----------
    soft : float32, (slices, rows, columns), the share of each sample that is soft tissue, fluid or blood
    bone : float32, the same shape, the share that is bone
    slice_step, pixel_step : the sample (k, i, j) is the scan's slice ``slice_step // 2 + k * slice_step`` and the mean
        of the pixels from ``i * pixel_step`` and ``j * pixel_step`` on
    """

    soft: NDArray[np.float32]
    bone: NDArray[np.float32]
    slice_step: int
    pixel_step: int


def surface(scan: Scan, labels: NDArray[np.int32]) -> Mesh | None:
    """Make the brain's surface.

    It is drawn at about 2 mm, smoothed, and interpolated between thick slices by the signed distance to the outline,
    also across missing slices. That changes the look and not the numbers: nothing is measured on it. Where the scan
    ends inside the brain the surface is cut flat.

    Parameters
    ----------
    scan : the scan
    labels : int32, (slices, rows, columns), above 0 in lesions: what is bright there is blood, not bone

    Returns
    -------
    Mesh, LPS mm, about 18,000 triangles; None where no brain is found
    """
    coarse = _coarse(scan, labels)
    found = region(coarse, scan.planes)
    occupied = np.flatnonzero(found.any((1, 2)))
    if occupied.size == 0:
        return None
    first, last = int(occupied[0]), int(occupied[-1])
    return _drawn(scan.planes, found[first : last + 1], coarse, first, (first == 0, last == len(found) - 1))


def region(coarse: Coarse, planes: Planes) -> Mask:
    """Find the brain: the largest soft tissue that bone encloses.

    A sample is enclosed if bone is met in at least 5 of 8 directions in its slice. Outside of a convex ring that cannot
    be, and inside of one it stays so beside a hole; an open skull therefore closes along the chord of its hole. The
    widest enclosed tissue after an erosion by 5 mm, which parts it from orbits, face and neck, is grown back.

    Returns
    -------
    bool, the shape of ``coarse.soft``; empty where nothing of 30 ml is found
    """
    spacing_mm = _spacing_mm(planes, coarse)
    steps = max(1, round(_CORE_MM / min(spacing_mm)))
    smooth = max(1, round(_OPENING_MM / min(spacing_mm)))
    inside = _enclosed(coarse.bone > 0.5)
    core = ndimage.binary_erosion((coarse.soft > 0.6) & (coarse.bone < 0.25) & inside, _CROSS, iterations=steps)
    core = _largest(core)
    if not core.any():
        return core
    grown = ndimage.binary_dilation(core, _SQUARE, iterations=steps, mask=(coarse.soft > 0.5) & inside)
    grown = ndimage.binary_closing(grown, _CROSS, iterations=steps) & (coarse.bone < 0.5)
    filled = ndimage.binary_fill_holes(grown, structure=np.concatenate([0 * _CROSS, _CROSS, 0 * _CROSS]))
    opened = _largest(ndimage.binary_opening(filled, _CROSS, iterations=smooth))
    slice_mm = _slice_mm(planes, coarse)
    _cut_canal(opened if planes.normal[2] >= 0 else opened[::-1], round(_STEM_MM / slice_mm))
    if opened.sum() * spacing_mm[0] * spacing_mm[1] * slice_mm < _SMALLEST_ML * 1000:
        opened[:] = False
    return opened


def _coarse(scan: Scan, labels: NDArray[np.int32]) -> Coarse:
    """Sort the scan's pixels into bone, soft tissue and neither, and give the shares of each at about 2 mm."""
    planes = scan.planes
    pixel = max(1, round(_SAMPLE_MM / max(planes.pixel_spacing_mm)), -(-max(scan.shape[1:]) // _MOST_ACROSS))
    pixel = min(pixel, 255, max(1, min(scan.shape[1:]) // _LEAST_ACROSS))
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
    blood = labels[picked] > 0
    bone = (hu > bone_hu) & ~blood
    soft = ((hu > soft_hu) & ~bone) | blood
    return Coarse(_shares(soft, pixel), _shares(bone, pixel), step, pixel)


def _shares(mask: Mask, step: int) -> NDArray[np.float32]:
    """Share of each block's pixels that are marked; a rest at the edge narrower than a block is left out."""
    rows, columns = mask.shape[1] // step, mask.shape[2] // step
    blocks = mask[:, : rows * step, : columns * step].view(np.uint8)
    across = np.add.reduceat(blocks, np.arange(0, rows * step, step), axis=1, dtype=np.uint8)
    both = np.add.reduceat(across, np.arange(0, columns * step, step), axis=2, dtype=np.uint16)
    return np.asarray(both / step**2, dtype=np.float32)


def _enclosed(bone: Mask) -> Mask:
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


def _largest(mask: Mask) -> Mask:
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
    narrow = np.flatnonzero(areas[: int(areas.argmax())] < _CANAL * areas.max())
    if narrow.size:
        found[: max(0, int(narrow[-1]) + 1 - slices)] = False


def _slice_mm(planes: Planes, coarse: Coarse) -> float:
    """Give the usual step along the stack; 1 mm, as ``to_lps_mm`` steps, where it is not known."""
    return (float(np.median(planes.weights_mm)) or 1.0) * coarse.slice_step


def _spacing_mm(planes: Planes, coarse: Coarse) -> tuple[float, float]:
    row_mm, column_mm = planes.pixel_spacing_mm
    return row_mm * coarse.pixel_step, column_mm * coarse.pixel_step


def _drawn(planes: Planes, found: Mask, coarse: Coarse, first: int, cut: tuple[bool, bool]) -> Mesh | None:
    """Draw the brain's samples; ``cut`` tells whether the scan ends below and above them."""
    margin = 4
    rows, columns = np.flatnonzero(found.any((0, 2))), np.flatnonzero(found.any((0, 1)))
    box = found[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    box = np.pad(box, [(0, 0), (margin, margin), (margin, margin)])
    spacing_mm = _spacing_mm(planes, coarse)
    step_mm = _slice_mm(planes, coarse)
    distances = mesh.distances_mm(box, spacing_mm, _MOST_MM)
    below, above = ([] if ends else [_dome(distances[index])] for ends, index in zip(cut, (0, -1), strict=True))
    distances = np.concatenate([*below, distances, *above])
    parts = max(2, round(step_mm / _PART_MM))
    widest_mm = max(step_mm, float(planes.weights_mm.max()) * coarse.slice_step)
    sigma = (_SIGMA_MM / min(spacing_mm), max(0.5, _SIGMA_MM / widest_mm))
    field, places = mesh.between_slices(distances, parts, *sigma)
    field = mesh.close_ends(field, places, (step_mm, step_mm))
    # What smoothing has cut off is a crumb.
    field = np.where(_largest(field > 0), field, -np.abs(field))

    def to_lps(points: Floats) -> Floats:
        corner = np.array([0, rows[0] - margin, columns[0] - margin])
        indices = (points + corner + 0.5) * coarse.pixel_step - 0.5
        indices[:, 0] = first - len(below) + places[0] + points[:, 0] / parts
        indices[:, 0] = indices[:, 0] * coarse.slice_step + coarse.slice_step // 2
        return planes.to_lps_mm(indices)

    drawn = mesh.fewer(mesh.isosurface(field, 0.0, to_lps), _TRIANGLES)
    return drawn if len(drawn.faces) else None


def _dome(end: mesh.Field) -> mesh.Field:
    """Make the distances (mm) of one more slice, at which a brain that ends inside the scan closes as a dome.

    It rises by about 3/4 of a slice, as the brain is not seen on the next.
    """
    deepest = max(float(end.max()), 1.0)
    return np.asarray((np.minimum(end, deepest / 2) - deepest) / 2, dtype=np.float32)[None]
