"""Surfaces of the lesions: smooth, closed, and of the same volume as the mask."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from strokeseg.imaging import components
from strokeseg.imaging.components import Labels
from strokeseg.scan import Floats, Planes, Scan
from strokeseg.scene import Mesh
from strokeseg.surfaces import meshing
from strokeseg.surfaces.meshing import Field, Mask

_TRIANGLES = (400, 6000)
_TRIANGLES_PER_MM2 = 1.5
_MAX_SAMPLES_ACROSS = 128
_MIN_SAMPLES_ACROSS = 24
_MARGIN = 4
_PART_MM = 1.25
_SIGMA_MM = 1.2
_ROUNDED, _SLAB_ROUNDED = 1.0, 0.2


def build_lesions(scan: Scan, labels: Labels) -> tuple[Mesh, ...]:
    """Build one closed surface for each lesion, in the order of the ids.

    Thick slices are connected by shape-based interpolation and the outline is smoothed, for display only. The surface
    encloses the volume of the lesion's pixels (sum of pixel area x slice weight), as in the findings.

    Parameters
    ----------
    scan : Scan
        The scan.
    labels : ndarray of int, shape (slices, rows, columns)
        Lesions, numbered by id 1 to n; 0 is background.

    Returns
    -------
    tuple of Mesh
        Mesh of each id, LPS mm; without triangles for an id without pixels.
    """
    boxes = components.find_bounding_boxes(labels)
    return tuple(
        meshing.EMPTY_MESH if box is None else _build_lesion(scan.planes, labels, index + 1, box)
        for index, box in enumerate(boxes)
    )


def _build_lesion(planes: Planes, labels: Labels, number: int, box: tuple[slice, slice, slice]) -> Mesh:
    """Build the surface of one lesion, in separate parts on both sides of missing slices."""
    mask = labels[box] == number
    first = box[0].start
    cuts = np.flatnonzero(planes.gaps_with_missing_slices[first : first + len(mask) - 1]) + 1
    meshes, start = [], first
    for part in np.split(mask, cuts):
        if part.any():
            meshes.append(_build_part(planes, part, start, (box[1].start, box[2].start)))
        start += len(part)
    return _join_meshes(meshes)


def _build_part(planes: Planes, mask: Mask, first: int, corner: tuple[int, int]) -> Mesh:
    """Build the surface of the slices from ``first`` on; ``corner`` is the (row, column) of the mask's first pixel."""
    face_distances, weights = _face_distances(planes), _weights_mm(planes)[first : first + len(mask)]
    target_mm3 = float(mask.sum((1, 2)) @ weights) * planes.pixel_area_mm2
    coarse, scale = _resample(mask)
    row_mm, column_mm = planes.pixel_spacing_mm[0] * scale, planes.pixel_spacing_mm[1] * scale
    sample_mm = float(np.sqrt(row_mm * column_mm))
    typical_mm = float(np.median(weights))
    distances = meshing.signed_distances_mm(coarse, (row_mm, column_mm), max(typical_mm, 2 * sample_mm))
    # A thin lesion is smoothed less, because it would otherwise break into parts.
    sigma_px = min(_SIGMA_MM, 0.35 * float(distances.max())) / sample_mm
    parts = max(1, round(typical_mm / max(_PART_MM, sample_mm)))
    field, slice_positions = meshing.interpolate_slices(distances, parts, sigma_px, 0.5)
    ends = (float(weights[0]), float(weights[-1]))
    max_distance_mm = float(distances.max())
    # A lesion on one slice is a slab; a lesion on several slices is rounded above and below, fully if its end is small.
    deepest_mm = [float(distances[index].max()) for index in (0, -1)] if len(mask) > 1 else [max_distance_mm / 2] * 2
    share = _ROUNDED if len(mask) > 1 else _SLAB_ROUNDED
    rounding = (min(share * ends[0], deepest_mm[0]), min(share * ends[1], deepest_mm[1]))
    samples_mm3 = (
        weights[np.clip(np.rint(slice_positions).astype(int), 0, len(weights) - 1)] * row_mm * column_mm / parts
    )

    # The surface must stay within the margin around the mask.
    lowest_mm = -min(0.6 * max_distance_mm, (_MARGIN - 1.5) * min(row_mm, column_mm))

    def closed(level_mm: float) -> Field:
        return meshing.close_ends(field - np.float32(level_mm), slice_positions, ends, rounding)

    def volume_mm3(level_mm: float) -> float:
        return float(np.clip(0.5 + closed(level_mm) / sample_mm, 0, 1).sum((1, 2)) @ samples_mm3)

    def to_lps(points: Floats) -> Floats:
        u = slice_positions[0] + points[:, 0] / parts
        last = len(mask) - 1
        below, above = (
            np.minimum(u, 0) * 2 * face_distances[first, 0],
            np.maximum(u - last, 0) * 2 * face_distances[first + last, 1],
        )
        indices = np.column_stack([first + np.clip(u, 0, last) + below + above, points[:, 1:]])
        indices[:, 1:] = corner + (points[:, 1:] - _MARGIN + 0.5) * scale - 0.5
        return planes.to_lps_mm(indices)

    fine = meshing.extract_isosurface(
        closed(_find_level_mm(volume_mm3, target_mm3, (lowest_mm, max_distance_mm))), 0.0, to_lps
    )
    mesh = meshing.decimate(fine, int(np.clip(_TRIANGLES_PER_MM2 * meshing.area_mm2(fine), *_TRIANGLES)))
    return meshing.adjust_volume(mesh, target_mm3) if len(mesh.faces) else mesh


def _resample(mask: Mask) -> tuple[Mask, float]:
    """Resample the mask to a width of 24 to 128 samples with an empty margin; also return the sample size, pixels."""
    widest = max(mask.shape[1:])
    if widest > _MAX_SAMPLES_ACROSS:
        step = -(-widest // _MAX_SAMPLES_ACROSS)
        padding = [(0, 0), (0, -mask.shape[1] % step), (0, -mask.shape[2] % step)]
        blocks = np.pad(mask, padding).reshape(len(mask), -(-mask.shape[1] // step), step, -1, step)
        coarse, scale = blocks.mean((2, 4)) >= 0.5, float(step)
        if not coarse.any():
            coarse = blocks.any((2, 4))
    else:
        factor = max(1, min(4, _MIN_SAMPLES_ACROSS // widest))
        coarse, scale = mask.repeat(factor, axis=1).repeat(factor, axis=2), 1 / factor
    return np.pad(coarse, [(0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)]), scale


def _find_level_mm(volume_mm3: Callable[[float], float], target_mm3: float, between_mm: tuple[float, float]) -> float:
    """Find the distance from the outline at which the surface encloses the volume, by bisection."""
    low, high = between_mm
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if volume_mm3(middle) > target_mm3 else (low, middle)
    return low


def _weights_mm(planes: Planes) -> Floats:
    """Slice weights, mm, shape (slices,); a single slice of unknown thickness is 1 mm thick, as in ``to_lps_mm``."""
    weights = planes.weights_mm
    return np.where(weights > 0, weights, 1.0)


def _face_distances(planes: Planes) -> Floats:
    """Distance of each slice's lower and upper face from its centre, in steps to that neighbour, shape (slices, 2)."""
    gaps, count = planes.gaps_mm, len(planes.positions_mm)
    if count == 1:
        return np.full((1, 2), 0.5)
    share = np.full(count - 1, 0.5)
    missing = planes.gaps_with_missing_slices
    share[missing] = (planes.reach_mm or 0.5) / gaps[missing]  # a slice of unknown thickness is 1 mm thick
    return np.column_stack([np.concatenate([share[:1], share]), np.concatenate([share, share[-1:]])])


def _join_meshes(meshes: list[Mesh]) -> Mesh:
    offsets = np.cumsum([0] + [len(mesh.vertices_mm) for mesh in meshes])
    faces = [mesh.faces + np.int32(offset) for mesh, offset in zip(meshes, offsets, strict=False)]
    return Mesh(np.concatenate([mesh.vertices_mm for mesh in meshes]), np.concatenate(faces))
