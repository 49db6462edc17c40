"""Surface of the skull, coarse, for display only: bone from the vertex to the end of the scan."""

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
    """Build the surface of the largest component of bone, sampled at about 2 mm.

    Bone is thin where it slopes from slice to slice. Its outer and inner face are therefore interpolated separately
    between slices by their signed distances, and the bone lies between them, so that the vault has no holes between
    thick slices. The surface is for display; nothing is measured on it. Sutures, air cells and bone thinner than a
    sample are lost.

    Parameters
    ----------
    scan : Scan
        The scan.
    labels : ndarray of int, shape (slices, rows, columns)
        Lesions, above 0: bright pixels in them are blood, not bone.

    Returns
    -------
    Mesh or None
        Mesh, LPS mm, at most 60,000 triangles; None if no bone is detected.
    """
    coarse = brain_mask.sample_tissue(scan, labels > 0)
    bone = _largest_component(coarse.bone_share > _BONE_SHARE)
    if bone.sum() < _SMALLEST_SAMPLES:
        return None
    boxes = ndimage.find_objects(bone.astype(np.uint8))[0]
    first, rows, columns = boxes[0].start, boxes[1].start, boxes[2].start
    bone = np.pad(bone[boxes], [(0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)])
    filled = np.stack([ndimage.binary_fill_holes(plane) for plane in bone])
    parts = max(1, round(coarse.slice_mm / _PART_MM))
    sigma = (_SIGMA_MM / min(coarse.spacing_mm), 0.4)
    outer, slice_positions = meshing.interpolate_slices(
        meshing.signed_distances_mm(filled, coarse.spacing_mm, _MAX_DISTANCE_MM), parts, *sigma
    )
    inner, _ = meshing.interpolate_slices(
        meshing.signed_distances_mm(filled & ~bone, coarse.spacing_mm, _MAX_DISTANCE_MM), parts, *sigma
    )
    field = meshing.close_ends(np.minimum(outer, -inner), slice_positions, (coarse.slice_mm, coarse.slice_mm))
    field = np.where(_largest_component(field > 0), field, -np.abs(field))

    def to_lps(points: Floats) -> Floats:
        indices = (points + np.array([0, rows - _MARGIN, columns - _MARGIN]) + 0.5) * coarse.pixel_step - 0.5
        indices[:, 0] = (first + slice_positions[0] + points[:, 0] / parts) * coarse.slice_step + coarse.slice_step // 2
        return scan.planes.to_lps_mm(indices)

    mesh = meshing.decimate(meshing.extract_isosurface(field, 0.0, to_lps), _TRIANGLES)
    return mesh if 0 < len(mesh.faces) <= _TRIANGLES else None


def _largest_component(mask: Mask) -> Mask:
    """Keep the largest component (26 neighbours, because bone slopes)."""
    labels, count = ndimage.label(mask, _NEIGHBOURS)
    if count < 2:
        return mask
    return np.asarray(labels == np.bincount(labels.ravel())[1:].argmax() + 1)
