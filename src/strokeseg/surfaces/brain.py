"""The brain's surface, coarse and smooth, for the eye and not for a measure."""

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
    """Make the brain's surface.

    It is drawn at about 2 mm, smoothed, and interpolated between thick slices by the signed distance to the outline,
    also across missing slices. That changes the look and not the numbers: nothing is measured on it. Where the scan
    ends inside the brain the surface is cut flat.

    Parameters
    ----------
    scan : Scan
        The scan.
    labels : Labels
        (slices, rows, columns), above 0 in lesions: what is bright there is blood, not bone.

    Returns
    -------
    Mesh or None
        Mesh, LPS mm, about 18,000 triangles; None where no brain is found.
    """
    coarse = brain_mask.sample_tissue(scan, labels > 0)
    found = brain_mask.segment_brain(coarse, scan.planes)
    occupied = np.flatnonzero(found.any((1, 2)))
    if occupied.size == 0:
        return None
    first, last = int(occupied[0]), int(occupied[-1])
    return _mesh_brain(scan.planes, found[first : last + 1], coarse, first, (first == 0, last == len(found) - 1))


def _mesh_brain(planes: Planes, found: Mask, coarse: TissueSamples, first: int, cut: tuple[bool, bool]) -> Mesh | None:
    """Draw the brain's samples; ``cut`` tells whether the scan ends below and above them."""
    margin = 4
    rows, columns = np.flatnonzero(found.any((0, 2))), np.flatnonzero(found.any((0, 1)))
    box = found[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
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
    field, places = meshing.interpolate_slices(distances, parts, *sigma)
    field = meshing.close_ends(field, places, (step_mm, step_mm))
    # What smoothing has cut off is a crumb.
    field = np.where(brain_mask.keep_largest(field > 0), field, -np.abs(field))

    def to_lps(points: Floats) -> Floats:
        corner = np.array([0, rows[0] - margin, columns[0] - margin])
        indices = (points + corner + 0.5) * coarse.pixel_step - 0.5
        indices[:, 0] = first - len(below) + places[0] + points[:, 0] / parts
        indices[:, 0] = indices[:, 0] * coarse.slice_step + coarse.slice_step // 2
        return planes.to_lps_mm(indices)

    drawn = meshing.decimate(meshing.extract_isosurface(field, 0.0, to_lps), _TRIANGLES)
    return drawn if len(drawn.faces) else None


def _dome_distances(end: meshing.Field) -> meshing.Field:
    """Make the distances (mm) of one more slice, at which a brain that ends inside the scan closes as a dome.

    It rises by about 3/4 of a slice, as the brain is not seen on the next.
    """
    deepest = max(float(end.max()), 1.0)
    return np.asarray((np.minimum(end, deepest / 2) - deepest) / 2, dtype=np.float32)[None]
