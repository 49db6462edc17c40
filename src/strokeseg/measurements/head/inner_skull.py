"""The skull's inner surface, followed in rays on every slice that shows a ring of bone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.measurements.head.coarse_head import CoarseHead
from strokeseg.scan import Floats

# Slices that show less than this share of the widest one's brain are skull base or vertex: no ring of bone.
_MIN_AREA_SHARE = 0.35
_RAYS = 96
# How far from the brain's edge the inner table may lie, mm (the edge is that of 2 mm samples, after an opening).
_REACH_MM = 7.0
_BONE_SHARE = 0.5


@dataclass(frozen=True)
class InnerSkull:
    """Points on the skull's inner surface.

    Parameters
    ----------
    places_mm : object
        (slices, angles, 3), LPS mm.
    normals : Floats
        The same shape, unit vectors, outwards.
    bony : ndarray of bool, shape (slices, angles)
        Whether bone lies there.
    samples : object
        (slices,), the head's sample slice that each comes from.
    """

    points_mm: Floats
    normals: Floats
    on_bone: NDArray[np.bool_]
    sample_slices: NDArray[np.intp]

    def intersect_plane(self, point_mm: Floats, normal: Floats, forward: Floats) -> Floats:
        """Return (slices, 2, 3), LPS mm: where a plane meets the surface in front and at the back of every slice.

        Parameters
        ----------
        forward : Floats
            (3,), LPS, the way to the front; NaN stands where a slice is not met.
        """
        away = (self.points_mm - point_mm) @ normal
        after = np.roll(away, -1, 1)
        part = np.where((away < 0) != (after < 0), away / np.where(away == after, 1, away - after), np.nan)[:, :, None]
        met = (1 - part) * self.points_mm + part * np.roll(self.points_mm, -1, 1)
        ahead = met @ forward
        ends = np.full((len(met), 2, 3), np.nan)
        crossed = np.isfinite(ahead).any(1)
        at = np.flatnonzero(crossed)
        ends[at, 0] = met[at, np.nanargmax(ahead[at], 1)]
        ends[at, 1] = met[at, np.nanargmin(ahead[at], 1)]
        return ends


def trace_inner_skull(head: CoarseHead) -> InnerSkull | None:
    """Follow the inner table on every slice that shows a ring of bone, in rays from the brain's middle."""
    planes = head.scan.planes
    areas = head.brain.sum((1, 2))
    wide = np.flatnonzero(areas > _MIN_AREA_SHARE * areas.max())
    if not wide.size:
        return None
    row_mm, column_mm = head.samples.spacing_mm
    angles = np.arange(_RAYS) * 2 * np.pi / _RAYS
    rays = np.column_stack([np.sin(angles), np.cos(angles)])
    step_mm = 1.0
    middles = np.array([_box_center(head.brain[k]) for k in wide])
    furthest = np.hypot(*(np.array(head.brain.shape[1:]) * (row_mm, column_mm)))
    along = np.arange(0, furthest, step_mm)
    # (slices, angles, steps): the brain's outermost step, then the first bone around it, to a part of a step.
    rows = middles[:, 0, None, None] + (rays[:, :1] * along / row_mm)[None]
    columns = middles[:, 1, None, None] + (rays[:, 1:] * along / column_mm)[None]
    edge = _find_edge_steps(head.brain, wide, rows, columns)
    radius, bony = _find_bone(
        head.samples.bone_share, wide, middles, rays, np.asarray(edge * step_mm, dtype=np.float64), (row_mm, column_mm)
    )
    pixel = head.samples.pixel_step
    at_row = (middles[:, :1] + rays[:, 0] * radius / row_mm) * pixel + (pixel - 1) / 2
    at_column = (middles[:, 1:] + rays[:, 1] * radius / column_mm) * pixel + (pixel - 1) / 2
    slice_index = np.broadcast_to(head.slices[wide][:, None], at_row.shape)
    places = planes.to_lps_mm(np.stack([slice_index, at_row, at_column], -1).reshape(-1, 3)).reshape(*at_row.shape, 3)
    return InnerSkull(places, _outward_normals(places, planes.normal), _erode_gaps(bony), wide)


def _box_center(mask: NDArray[np.bool_]) -> Floats:
    rows, columns = np.nonzero(mask)
    return np.array([(rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2])


def _find_edge_steps(
    brain: NDArray[np.bool_], wide: NDArray[np.intp], rows: Floats, columns: Floats
) -> NDArray[np.intp]:
    """(slices, angles), the last step of each ray that lies in the brain."""
    i, j = np.rint(rows).astype(np.intp), np.rint(columns).astype(np.intp)
    inside = (i >= 0) & (i < brain.shape[1]) & (j >= 0) & (j < brain.shape[2])
    seen = inside & brain[wide[:, None, None], np.clip(i, 0, brain.shape[1] - 1), np.clip(j, 0, brain.shape[2] - 1)]
    return np.asarray(seen.shape[2] - 1 - seen[:, :, ::-1].argmax(2))


def _find_bone(
    bone: NDArray[np.float32],
    wide: NDArray[np.intp],
    middles: Floats,
    rays: Floats,
    edge_mm: Floats,
    spacing_mm: tuple[float, float],
) -> tuple[Floats, NDArray[np.bool_]]:
    """Distance from the middle to where half of a sample is bone, near the brain's edge; and whether there is any."""
    steps = np.arange(-_REACH_MM, _REACH_MM + 0.1, 1.0)
    radius = edge_mm[:, :, None] + steps
    rows = middles[:, 0, None, None] + rays[:, 0, None] * radius / spacing_mm[0]
    columns = middles[:, 1, None, None] + rays[:, 1, None] * radius / spacing_mm[1]
    index = np.broadcast_to(wide[:, None, None].astype(float), rows.shape)
    share = ndimage.map_coordinates(bone, [index, rows, columns], order=1, mode="constant")
    crossing = (share[:, :, 1:] >= _BONE_SHARE) & (share[:, :, :-1] < _BONE_SHARE)
    bony = crossing.any(2)
    at = crossing.argmax(2)[:, :, None]
    low = np.take_along_axis(share, at, 2)[:, :, 0]
    high = np.take_along_axis(share, at + 1, 2)[:, :, 0]
    part = (_BONE_SHARE - low) / np.where(high > low, high - low, 1)
    found = np.take_along_axis(radius, at, 2)[:, :, 0] + part
    return np.where(bony, found, edge_mm), bony


def _erode_gaps(bony: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Leave out the rim of holes: the surface's normals there are not the bone's."""
    around = np.pad(bony, ((1, 1), (2, 2)), mode="edge")
    around[1:-1, :2], around[1:-1, -2:] = bony[:, -2:], bony[:, :2]
    return np.asarray(ndimage.binary_erosion(around, np.ones((3, 5), dtype=bool), border_value=1)[1:-1, 2:-2])


def _outward_normals(places_mm: Floats, slice_normal: Floats) -> Floats:
    """Outward unit normals of the surface through neighbouring rays and slices."""
    along = np.roll(places_mm, -2, 1) - np.roll(places_mm, 2, 1)
    up = np.gradient(places_mm, axis=0) if len(places_mm) > 1 else np.broadcast_to(slice_normal, places_mm.shape)
    normals = np.cross(along, up)
    outward = places_mm - places_mm.mean(1, keepdims=True)
    normals *= np.where((normals * outward).sum(-1, keepdims=True) < 0, -1, 1)
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9))
