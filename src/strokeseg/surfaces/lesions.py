"""The lesions' surfaces: smooth, closed, and of the very volume that the mask has."""

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
    """Make one closed surface per lesion, in the order of the ids.

    Thick slices are joined by shape-based interpolation and the outline is smoothed; that changes the look only. The
    surface encloses the volume of the lesion's pixels (pixel area x slice weight, summed), as the findings have it.

    Parameters
    ----------
    scan : Scan
        The scan.
    labels : Labels
        (slices, rows, columns), 0 is background, 1 to n the lesions' ids.

    Returns
    -------
    tuple of Mesh
        One mesh an id, LPS mm; without triangles for an id that no pixel has.
    """
    boxes = components.find_bounding_boxes(labels)
    return tuple(
        meshing.EMPTY_MESH if box is None else _build_lesion(scan.planes, labels, index + 1, box)
        for index, box in enumerate(boxes)
    )


def _build_lesion(planes: Planes, labels: Labels, number: int, box: tuple[slice, slice, slice]) -> Mesh:
    """Make one lesion's surface; a gap in which slices are missing parts it, as no slice stands for what lies there."""
    mask = labels[box] == number
    first = box[0].start
    cuts = np.flatnonzero(planes.gaps_with_missing_slices[first : first + len(mask) - 1]) + 1
    pieces, start = [], first
    for part in np.split(mask, cuts):
        if part.any():
            pieces.append(_build_part(planes, part, start, (box[1].start, box[2].start)))
        start += len(part)
    return _join_meshes(pieces)


def _build_part(planes: Planes, mask: Mask, first: int, corner: tuple[int, int]) -> Mesh:
    """Make the surface of the slices from ``first`` on; ``corner`` is the (row, column) of the mask's first pixel."""
    reach, weights = _reach(planes), _weights_mm(planes)[first : first + len(mask)]
    target_mm3 = float(mask.sum((1, 2)) @ weights) * planes.pixel_area_mm2
    coarse, scale = _resample(mask)
    row_mm, column_mm = planes.pixel_spacing_mm[0] * scale, planes.pixel_spacing_mm[1] * scale
    sample_mm = float(np.sqrt(row_mm * column_mm))
    typical_mm = float(np.median(weights))
    distances = meshing.signed_distances_mm(coarse, (row_mm, column_mm), max(typical_mm, 2 * sample_mm))
    # A thin lesion is smoothed less, or it would part.
    sigma_px = min(_SIGMA_MM, 0.35 * float(distances.max())) / sample_mm
    parts = max(1, round(typical_mm / max(_PART_MM, sample_mm)))
    field, places = meshing.interpolate_slices(distances, parts, sigma_px, 0.5)
    ends = (float(weights[0]), float(weights[-1]))
    most_mm = float(distances.max())
    # A lesion on one slice is a slab; one on several is rounded off above and below, all over where its end is small.
    deepest_mm = [float(distances[index].max()) for index in (0, -1)] if len(mask) > 1 else [most_mm / 2] * 2
    share = _ROUNDED if len(mask) > 1 else _SLAB_ROUNDED
    rounding = (min(share * ends[0], deepest_mm[0]), min(share * ends[1], deepest_mm[1]))
    samples_mm3 = weights[np.clip(np.rint(places).astype(int), 0, len(weights) - 1)] * row_mm * column_mm / parts

    # Within the margin around the mask.
    lowest_mm = -min(0.6 * most_mm, (_MARGIN - 1.5) * min(row_mm, column_mm))

    def closed(level_mm: float) -> Field:
        return meshing.close_ends(field - np.float32(level_mm), places, ends, rounding)

    def volume_mm3(level_mm: float) -> float:
        return float(np.clip(0.5 + closed(level_mm) / sample_mm, 0, 1).sum((1, 2)) @ samples_mm3)

    def to_lps(points: Floats) -> Floats:
        u = places[0] + points[:, 0] / parts
        last = len(mask) - 1
        below, above = np.minimum(u, 0) * 2 * reach[first, 0], np.maximum(u - last, 0) * 2 * reach[first + last, 1]
        indices = np.column_stack([first + np.clip(u, 0, last) + below + above, points[:, 1:]])
        indices[:, 1:] = corner + (points[:, 1:] - _MARGIN + 0.5) * scale - 0.5
        return planes.to_lps_mm(indices)

    fine = meshing.extract_isosurface(closed(_find_level_mm(volume_mm3, target_mm3, (lowest_mm, most_mm))), 0.0, to_lps)
    drawn = meshing.decimate(fine, int(np.clip(_TRIANGLES_PER_MM2 * meshing.area_mm2(fine), *_TRIANGLES)))
    return meshing.adjust_volume(drawn, target_mm3) if len(drawn.faces) else drawn


def _resample(mask: Mask) -> tuple[Mask, float]:
    """Return the mask between 24 and 128 samples wide, with an empty margin, and the size of a sample in pixels."""
    widest = max(mask.shape[1:])
    if widest > _MAX_SAMPLES_ACROSS:
        step = -(-widest // _MAX_SAMPLES_ACROSS)
        short = [(0, 0), (0, -mask.shape[1] % step), (0, -mask.shape[2] % step)]
        blocks = np.pad(mask, short).reshape(len(mask), -(-mask.shape[1] // step), step, -1, step)
        coarse, scale = blocks.mean((2, 4)) >= 0.5, float(step)
        if not coarse.any():
            coarse = blocks.any((2, 4))
    else:
        times = max(1, min(4, _MIN_SAMPLES_ACROSS // widest))
        coarse, scale = mask.repeat(times, axis=1).repeat(times, axis=2), 1 / times
    return np.pad(coarse, [(0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)]), scale


def _find_level_mm(volume_mm3: Callable[[float], float], target_mm3: float, between_mm: tuple[float, float]) -> float:
    """Find the distance to the outline at which the surface encloses the volume, by bisection between two."""
    low, high = between_mm
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if volume_mm3(middle) > target_mm3 else (low, middle)
    return low


def _weights_mm(planes: Planes) -> Floats:
    """(slices,), mm; a single slice of unknown thickness is drawn 1 mm thick, as ``to_lps_mm`` steps."""
    weights = planes.weights_mm
    return np.where(weights > 0, weights, 1.0)


def _reach(planes: Planes) -> Floats:
    """(slices, 2), how far each slice's lower and upper face lie from its centre, in steps to the neighbour there."""
    gaps, count = planes.gaps_mm, len(planes.positions_mm)
    if count == 1:
        return np.full((1, 2), 0.5)
    share = np.full(count - 1, 0.5)
    share[planes.gaps_with_missing_slices] = (
        0.75 * np.median(gaps[~planes.gaps_with_missing_slices]) / gaps[planes.gaps_with_missing_slices]
    )
    return np.column_stack([np.concatenate([share[:1], share]), np.concatenate([share, share[-1:]])])


def _join_meshes(pieces: list[Mesh]) -> Mesh:
    counts = np.cumsum([0] + [len(piece.vertices_mm) for piece in pieces])
    faces = [piece.faces + np.int32(before) for piece, before in zip(pieces, counts, strict=False)]
    return Mesh(np.concatenate([piece.vertices_mm for piece in pieces]), np.concatenate(faces))
