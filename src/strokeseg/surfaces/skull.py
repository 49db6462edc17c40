"""The skull's surface, coarse, for the eye: bone from the vertex to where the scan ends."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from strokeseg.imaging import brain_mask
from strokeseg.imaging.components import Labels
from strokeseg.scan import Floats, Scan
from strokeseg.scene import Mesh
from strokeseg.surfaces import meshing
from strokeseg.surfaces.meshing import Mask

_TRIANGLES = 60_000
_BONE_SHARE = 0.4
_MARGIN = 3
_PART_MM = 2.0
_SIGMA_MM = 2.2
_MAX_DISTANCE_MM = 12.0
_SMALLEST_SAMPLES = 200
_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)


def build_skull(scan: Scan, labels: Labels) -> Mesh | None:
    """Make the surface of the largest piece of bone, drawn at about 2 mm.

    Bone is thin where it slants from slice to slice. Its outer and its inner face are therefore interpolated between
    the slices apart, each by its signed distance, and the bone is what lies between them: so the vault has no holes
    between thick slices. It changes the look and not the numbers; nothing is measured on it. Sutures, air cells and
    bone thinner than a sample are lost.

    Parameters
    ----------
    scan : Scan
        The scan.
    labels : Labels
        (slices, rows, columns), above 0 in lesions: what is bright there is blood, not bone.

    Returns
    -------
    Mesh or None
        Mesh, LPS mm, at most 60,000 triangles; None where no bone is found.
    """
    coarse = brain_mask.sample_tissue(scan, labels > 0)
    bone = _largest_component(coarse.bone_share > _BONE_SHARE)
    if bone.sum() < _SMALLEST_SAMPLES:
        return None
    boxes = ndimage.find_objects(bone.astype(np.uint8))[0]
    first, rows, columns = boxes[0].start, boxes[1].start, boxes[2].start
    bone = np.pad(bone[boxes], [(0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)])
    whole = np.stack([ndimage.binary_fill_holes(plane) for plane in bone])
    parts = max(1, round(coarse.slice_mm / _PART_MM))
    sigma = (_SIGMA_MM / min(coarse.spacing_mm), 0.4)
    outer, places = meshing.interpolate_slices(
        meshing.signed_distances_mm(whole, coarse.spacing_mm, _MAX_DISTANCE_MM), parts, *sigma
    )
    inner, _ = meshing.interpolate_slices(
        meshing.signed_distances_mm(whole & ~bone, coarse.spacing_mm, _MAX_DISTANCE_MM), parts, *sigma
    )
    field = meshing.close_ends(np.minimum(outer, -inner), places, (coarse.slice_mm, coarse.slice_mm))
    field = np.where(_largest_component(field > 0), field, -np.abs(field))

    def to_lps(points: Floats) -> Floats:
        indices = (points + np.array([0, rows - _MARGIN, columns - _MARGIN]) + 0.5) * coarse.pixel_step - 0.5
        indices[:, 0] = (first + places[0] + points[:, 0] / parts) * coarse.slice_step + coarse.slice_step // 2
        return scan.planes.to_lps_mm(indices)

    drawn = meshing.decimate(meshing.extract_isosurface(field, 0.0, to_lps), _TRIANGLES)
    return drawn if 0 < len(drawn.faces) <= _TRIANGLES else None


def _largest_component(mask: Mask) -> Mask:
    """Keep the largest part (26 neighbours: bone slants)."""
    pieces, count = ndimage.label(mask, _NEIGHBOURS)
    if count < 2:
        return mask
    return np.asarray(pieces == np.bincount(pieces.ravel())[1:].argmax() + 1)
