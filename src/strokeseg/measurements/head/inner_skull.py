"""Inner surface of the skull, traced along rays on every slice that shows a ring of bone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.measurements.head.coarse_head import CoarseHead
from strokeseg.scan import Floats

# Slices with a smaller share of the largest intracranial area show the skull base or the vertex: no ring of bone.
_MIN_AREA_SHARE = 0.35
_RAYS = 96
# Largest distance of the inner table from the edge of the brain, mm (an edge of 2 mm samples after an opening).
_REACH_MM = 7.0
_BONE_SHARE = 0.5


@dataclass(frozen=True)
class InnerSkull:
    """Points on the inner surface of the skull.

    Attributes
    ----------
    points_mm : ndarray of float, shape (slices, angles, 3)
        Points, LPS mm.
    normals : ndarray of float, shape (slices, angles, 3)
        Outward unit normals.
    on_bone : ndarray of bool, shape (slices, angles)
        Whether the point lies on bone.
    sample_slices : ndarray of intp, shape (slices,)
        Index of the slice of samples for each slice of points.
    """

    points_mm: Floats
    normals: Floats
    on_bone: NDArray[np.bool_]
    sample_slices: NDArray[np.intp]

    def intersect_plane(self, point_mm: Floats, normal: Floats, forward: Floats) -> Floats:
        """Intersect the surface with a plane, at the front and at the back of every slice.

        Parameters
        ----------
        point_mm : ndarray of float, shape (3,)
            A point on the plane, LPS mm.
        normal : ndarray of float, shape (3,)
            Normal of the plane, LPS.
        forward : ndarray of float, shape (3,)
            Direction to the front, LPS.

        Returns
        -------
        ndarray of float, shape (slices, 2, 3)
            Front and back point of each slice, LPS mm; NaN if the plane does not intersect the slice.
        """
        distance = (self.points_mm - point_mm) @ normal
        next_distance = np.roll(distance, -1, 1)
        fraction = np.where(
            (distance < 0) != (next_distance < 0),
            distance / np.where(distance == next_distance, 1, distance - next_distance),
            np.nan,
        )[:, :, None]
        crossings = (1 - fraction) * self.points_mm + fraction * np.roll(self.points_mm, -1, 1)
        ahead = crossings @ forward
        ends = np.full((len(crossings), 2, 3), np.nan)
        intersected = np.isfinite(ahead).any(1)
        slices = np.flatnonzero(intersected)
        ends[slices, 0] = crossings[slices, np.nanargmax(ahead[slices], 1)]
        ends[slices, 1] = crossings[slices, np.nanargmin(ahead[slices], 1)]
        return ends


def trace_inner_skull(head: CoarseHead) -> InnerSkull | None:
    """Trace the inner table on every slice that shows a ring of bone, along rays from the centre of the brain.

    Parameters
    ----------
    head : CoarseHead
        The head.

    Returns
    -------
    InnerSkull or None
        The surface; None if no slice shows a ring of bone.
    """
    planes = head.scan.planes
    areas = head.brain.sum((1, 2))
    ring_slices = np.flatnonzero(areas > _MIN_AREA_SHARE * areas.max())
    if not ring_slices.size:
        return None
    row_mm, column_mm = head.samples.spacing_mm
    angles = np.arange(_RAYS) * 2 * np.pi / _RAYS
    rays = np.column_stack([np.sin(angles), np.cos(angles)])
    step_mm = 1.0
    centres = np.array([_box_center(head.brain[k]) for k in ring_slices])
    longest_mm = np.hypot(*(np.array(head.brain.shape[1:]) * (row_mm, column_mm)))
    along = np.arange(0, longest_mm, step_mm)
    # Arrays are (slices, angles, steps): first the outermost step in the brain, then the nearest bone, interpolated.
    rows = centres[:, 0, None, None] + (rays[:, :1] * along / row_mm)[None]
    columns = centres[:, 1, None, None] + (rays[:, 1:] * along / column_mm)[None]
    edge = _find_edge_steps(head.brain, ring_slices, rows, columns)
    radius, on_bone = _find_bone(
        head.samples.bone_share,
        ring_slices,
        centres,
        rays,
        np.asarray(edge * step_mm, dtype=np.float64),
        (row_mm, column_mm),
    )
    pixel = head.samples.pixel_step
    rows_px = (centres[:, :1] + rays[:, 0] * radius / row_mm) * pixel + (pixel - 1) / 2
    columns_px = (centres[:, 1:] + rays[:, 1] * radius / column_mm) * pixel + (pixel - 1) / 2
    slice_index = np.broadcast_to(head.slices[ring_slices][:, None], rows_px.shape)
    points = planes.to_lps_mm(np.stack([slice_index, rows_px, columns_px], -1).reshape(-1, 3)).reshape(
        *rows_px.shape, 3
    )
    return InnerSkull(points, _outward_normals(points, planes.normal), _erode_gaps(on_bone), ring_slices)


def _box_center(mask: NDArray[np.bool_]) -> Floats:
    rows, columns = np.nonzero(mask)
    return np.array([(rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2])


def _find_edge_steps(
    brain: NDArray[np.bool_], ring_slices: NDArray[np.intp], rows: Floats, columns: Floats
) -> NDArray[np.intp]:
    """Last step of each ray that lies in the brain, shape (slices, angles)."""
    i, j = np.rint(rows).astype(np.intp), np.rint(columns).astype(np.intp)
    inside = (i >= 0) & (i < brain.shape[1]) & (j >= 0) & (j < brain.shape[2])
    in_brain = (
        inside & brain[ring_slices[:, None, None], np.clip(i, 0, brain.shape[1] - 1), np.clip(j, 0, brain.shape[2] - 1)]
    )
    return np.asarray(in_brain.shape[2] - 1 - in_brain[:, :, ::-1].argmax(2))


def _find_bone(
    bone: NDArray[np.float32],
    ring_slices: NDArray[np.intp],
    centres: Floats,
    rays: Floats,
    edge_mm: Floats,
    spacing_mm: tuple[float, float],
) -> tuple[Floats, NDArray[np.bool_]]:
    """Distance from the centre to half bone near the edge of the brain, mm, and whether there is bone."""
    steps = np.arange(-_REACH_MM, _REACH_MM + 0.1, 1.0)
    radius = edge_mm[:, :, None] + steps
    rows = centres[:, 0, None, None] + rays[:, 0, None] * radius / spacing_mm[0]
    columns = centres[:, 1, None, None] + rays[:, 1, None] * radius / spacing_mm[1]
    index = np.broadcast_to(ring_slices[:, None, None].astype(float), rows.shape)
    share = ndimage.map_coordinates(bone, [index, rows, columns], order=1, mode="constant")
    crossing = (share[:, :, 1:] >= _BONE_SHARE) & (share[:, :, :-1] < _BONE_SHARE)
    has_bone = crossing.any(2)
    step = crossing.argmax(2)[:, :, None]
    low = np.take_along_axis(share, step, 2)[:, :, 0]
    high = np.take_along_axis(share, step + 1, 2)[:, :, 0]
    fraction = (_BONE_SHARE - low) / np.where(high > low, high - low, 1)
    bone_radius = np.take_along_axis(radius, step, 2)[:, :, 0] + fraction
    return np.where(has_bone, bone_radius, edge_mm), has_bone


def _erode_gaps(on_bone: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Exclude the rim of holes, where the normals of the surface differ from those of the bone."""
    padded = np.pad(on_bone, ((1, 1), (2, 2)), mode="edge")
    padded[1:-1, :2], padded[1:-1, -2:] = on_bone[:, -2:], on_bone[:, :2]
    return np.asarray(ndimage.binary_erosion(padded, np.ones((3, 5), dtype=bool), border_value=1)[1:-1, 2:-2])


def _outward_normals(points_mm: Floats, slice_normal: Floats) -> Floats:
    """Compute the outward unit normals of the surface from adjacent rays and slices."""
    along = np.roll(points_mm, -2, 1) - np.roll(points_mm, 2, 1)
    up = np.gradient(points_mm, axis=0) if len(points_mm) > 1 else np.broadcast_to(slice_normal, points_mm.shape)
    normals = np.cross(along, up)
    outward = points_mm - points_mm.mean(1, keepdims=True)
    normals *= np.where((normals * outward).sum(-1, keepdims=True) < 0, -1, 1)
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9))
