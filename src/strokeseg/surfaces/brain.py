"""Surface of the brain, coarse and smooth, for display only."""

from __future__ import annotations

import numpy as np

from strokeseg.imaging import brain_mask
from strokeseg.imaging.brain_mask import TissueSamples
from strokeseg.imaging.components import Labels
from strokeseg.scan import Floats, Planes, Scan
from strokeseg.scene import Mesh
from strokeseg.surfaces import meshing
from strokeseg.surfaces.meshing import Mask

_PART_MM = 2.5
_TRIANGLES = 18_000
_SIGMA_MM = 2.5
_MAX_DISTANCE_MM = 20.0


def build_brain(scan: Scan, labels: Labels) -> Mesh | None:
    """Build the surface of the brain.

    The brain is sampled at about 2 mm, smoothed, and interpolated between thick slices and across missing slices by the
    signed distance to the outline. The surface is for display; nothing is measured on it. If the scan ends inside of
    the brain, the surface is cut flat.

    Parameters
    ----------
    scan : Scan
        The scan.
    labels : ndarray of int, shape (slices, rows, columns)
        Lesions, above 0: bright pixels in them are blood, not bone.

    Returns
    -------
    Mesh or None
        Mesh, LPS mm, about 18,000 triangles; None if no brain is detected.
    """
    coarse = brain_mask.sample_tissue(scan, labels > 0)
    brain = brain_mask.segment_brain(coarse, scan.planes)
    occupied = np.flatnonzero(brain.any((1, 2)))
    if occupied.size == 0:
        return None
    first, last = int(occupied[0]), int(occupied[-1])
    return _mesh_brain(scan.planes, brain[first : last + 1], coarse, first, (first == 0, last == len(brain) - 1))


def _mesh_brain(planes: Planes, brain: Mask, coarse: TissueSamples, first: int, cut: tuple[bool, bool]) -> Mesh | None:
    """Build the mesh of the brain's samples; ``cut`` is True where the scan ends directly below or above them."""
    margin = 4
    rows, columns = np.flatnonzero(brain.any((0, 2))), np.flatnonzero(brain.any((0, 1)))
    box = brain[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    box = np.pad(box, [(0, 0), (margin, margin), (margin, margin)])
    spacing_mm, step_mm = coarse.spacing_mm, coarse.slice_mm
    distances = meshing.signed_distances_mm(box, spacing_mm, _MAX_DISTANCE_MM)
    below, above = (
        [] if ends else [_dome_distances(distances[index])] for ends, index in zip(cut, (0, -1), strict=True)
    )
    distances = np.concatenate([*below, distances, *above])
    parts = max(2, round(step_mm / _PART_MM))
    widest_mm = max(step_mm, float(planes.weights_mm.max()) * coarse.slice_step)
    sigma = (_SIGMA_MM / min(spacing_mm), max(0.5, _SIGMA_MM / widest_mm))
    field, slice_positions = meshing.interpolate_slices(distances, parts, *sigma)
    field = meshing.close_ends(field, slice_positions, (step_mm, step_mm))
    # Only the largest component is kept; smoothing may separate small parts.
    field = np.where(brain_mask.keep_largest(field > 0), field, -np.abs(field))

    def to_lps(points: Floats) -> Floats:
        corner = np.array([0, rows[0] - margin, columns[0] - margin])
        indices = (points + corner + 0.5) * coarse.pixel_step - 0.5
        indices[:, 0] = first - len(below) + slice_positions[0] + points[:, 0] / parts
        indices[:, 0] = indices[:, 0] * coarse.slice_step + coarse.slice_step // 2
        return planes.to_lps_mm(indices)

    mesh = meshing.decimate(meshing.extract_isosurface(field, 0.0, to_lps), _TRIANGLES)
    return mesh if len(mesh.faces) else None


def _dome_distances(end: meshing.Field) -> meshing.Field:
    """Compute the distances (mm) of one more slice, so that a brain that ends inside of the scan closes as a dome.

    The dome rises by about 3/4 of a slice, because the next slice does not show the brain.
    """
    deepest = max(float(end.max()), 1.0)
    return np.asarray((np.minimum(end, deepest / 2) - deepest) / 2, dtype=np.float32)[None]
