"""Detect a head on a slice: brain-range tissue inside a ring of bone. The gate and the window estimate use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.imaging import downsample

_COARSE_PX = 128
_DIRECTIONS = 72

MIN_TISSUE_AREA_SHARE = 0.005
"""Smallest share of the picture that the inside of a skull can have."""
_MIN_RING_SHARE = 0.5
_MIN_TISSUE_SHARE = 0.55
_MIN_CIRCLE_FILL = 0.35
_MAX_GAPS = 6
_MAX_EDGE_BONE_SHARE = 0.5


@dataclass(frozen=True)
class TissueThresholds:
    """Thresholds between air, brain and bone, in the values of the pixels.

    Attributes
    ----------
    air_below : float
        Lower values are air and fat; higher ones are brain or bone.
    brain_below : float
        Upper limit of brain-range tissue.
    bone_above : float
        Higher values are bone.
    """

    air_below: float
    brain_below: float
    bone_above: float

    @classmethod
    def for_hounsfield(cls) -> TissueThresholds:
        """Return the thresholds for Hounsfield units; the one of bone also holds for values cut off at 255."""
        return cls(air_below=5, brain_below=90, bone_above=150)

    @classmethod
    def for_window(cls, centre: float, width: float) -> TissueThresholds:
        """Return the thresholds for a picture through a window: bone is white, air is black, brain lies between."""
        bottom = centre - width / 2
        return cls(air_below=bottom + 0.04 * width, brain_below=bottom + 0.78 * width, bone_above=bottom + 0.8 * width)


@dataclass(frozen=True)
class Rays:
    """Rays from a pixel in 72 directions, in steps of one coarse pixel, as far as the picture reaches.

    Attributes
    ----------
    rows, columns : ndarray of int, shape (72, steps)
        Coarse pixel of each step; (0, 0) beyond the picture.
    in_picture : ndarray of bool, shape (72, steps)
        Which steps lie in the picture.
    is_bone : ndarray of bool, shape (72, steps)
        Which steps lie in bone.
    hits_bone : ndarray of bool, shape (72,)
        Which rays hit bone.
    distances : ndarray of int, shape (72,)
        Steps to the bone; 0 without bone.
    """

    rows: NDArray[np.int_]
    columns: NDArray[np.int_]
    in_picture: NDArray[np.bool_]
    is_bone: NDArray[np.bool_]
    hits_bone: NDArray[np.bool_]
    distances: NDArray[np.int_]


@dataclass(frozen=True)
class EnclosedTissue:
    """The largest component of brain-range tissue inside bone on one slice, measured on a coarse grid.

    Attributes
    ----------
    values : ndarray of float32, shape (n,)
        Values of its pixels, each the mean of a coarse pixel.
    area_share : float
        Its share of the picture, 0 to 1.
    ring_share : float
        Share of 72 directions from its deepest point in which there is bone.
    tissue_share : float
        Share of brain-range tissue along the rays from there to the bone.
    gap_count : int
        Number of gaps in the ring of bone.
    circle_fill : float
        Its area as a share of a circle whose radius is the mean distance to the bone.
    edge_bone_share : float
        Share of bone along the edge of the picture.
    radius_px : float
        Mean distance to the bone, pixels of the slice.
    coarse : ndarray of float32, shape (rows, columns)
        The slice on the coarse grid, air and fat raised.
    inside : ndarray of bool, shape (rows, columns)
        The tissue on the coarse grid.
    rays : Rays
        The rays from its deepest point.
    """

    values: NDArray[np.float32]
    area_share: float
    ring_share: float
    tissue_share: float
    gap_count: int
    circle_fill: float
    edge_bone_share: float
    radius_px: float
    coarse: NDArray[np.float32]
    inside: NDArray[np.bool_]
    rays: Rays

    @property
    def is_head_like(self) -> bool:
        """Whether it can be the inside of a skull of any size.

        This holds for each of 1,443 single slices of ten data sets (tests/reading/test_real_data.py). They have bone in
        at least 57 % of the directions (least where one side of the skull was removed), with at most 5 gaps (ribs have
        12); tissue makes up at least 58 % of the rays and fills at least 45 % of the circle.
        """
        return (
            self.ring_share >= _MIN_RING_SHARE
            and self.gap_count <= _MAX_GAPS
            and self.tissue_share >= _MIN_TISSUE_SHARE
            and self.circle_fill >= _MIN_CIRCLE_FILL
            and self.area_share >= MIN_TISSUE_AREA_SHARE
            and self.edge_bone_share <= _MAX_EDGE_BONE_SHARE
        )


def sample_slice_indices(count: int, max_samples: int) -> NDArray[np.intp]:
    """Return the indices of up to ``max_samples`` of ``count`` slices, evenly spaced from first to last."""
    return np.unique(np.linspace(0, count - 1, min(count, max_samples)).round().astype(np.intp))


def find_enclosed_tissue(
    plane: NDArray[Any], thresholds: TissueThresholds, min_area_share: float = 0
) -> EnclosedTissue | None:
    """Find the largest component of brain-range tissue inside bone; None if there is none.

    A pixel lies inside bone if there is bone on three of its four sides, so that open skulls, and slices through the
    base, have an inside too.

    Parameters
    ----------
    plane : ndarray, shape (rows, columns)
        Pixels of the slice.
    thresholds : TissueThresholds
        Thresholds in the values of the pixels.
    min_area_share : float, default 0
        None may be returned if brain-range tissue covers a smaller share of the picture.

    Returns
    -------
    EnclosedTissue or None
        The tissue and its measurements.
    """
    step = max(1, min(plane.shape) // _COARSE_PX)
    # The mean over a coarse pixel removes noise. Air is raised so that it does not lower its neighbours' mean.
    raised = np.maximum(plane.astype(np.float32), np.float32(thresholds.air_below - 50))
    coarse = downsample.downsample_mean(raised, step, np.float32)
    bone = coarse > thresholds.bone_above
    brain = (coarse > thresholds.air_below) & (coarse < thresholds.brain_below)
    if np.count_nonzero(brain) < min_area_share * brain.size:
        return None
    sides = sum(_mark_bone_on_side(bone, side).astype(np.uint8) for side in range(4))
    labels, count = ndimage.label(brain & (sides >= 3))
    if not count:
        return None
    inside = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
    depth = ndimage.distance_transform_edt(inside)
    row, column = np.unravel_index(int(depth.argmax()), inside.shape)
    rays = _cast_rays(bone, int(row), int(column))
    radius = float(rays.distances[rays.hits_bone].mean()) if rays.hits_bone.any() else 0.0
    edge = np.concatenate([bone[0], bone[-1], bone[:, 0], bone[:, -1]])
    return EnclosedTissue(
        values=coarse[inside],
        area_share=float(inside.mean()),
        ring_share=float(rays.hits_bone.mean()),
        tissue_share=_measure_tissue_share(rays, brain),
        gap_count=int(np.count_nonzero(rays.hits_bone & ~np.roll(rays.hits_bone, 1))),
        circle_fill=float(inside.sum() / max(1.0, np.pi * radius**2)),
        edge_bone_share=float(edge.mean()),
        radius_px=radius * step,
        coarse=coarse,
        inside=inside,
        rays=rays,
    )


def _mark_bone_on_side(bone: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Mark pixels that have bone above, below, left or right of them."""
    axis, is_reversed = side // 2, bool(side % 2)
    view = np.flip(bone, axis) if is_reversed else bone
    marked = np.logical_or.accumulate(view, axis=axis)
    return np.asarray(np.flip(marked, axis) if is_reversed else marked)


def _cast_rays(bone: NDArray[np.bool_], row: int, column: int) -> Rays:
    """Cast rays from a pixel in 72 directions."""
    angles = np.linspace(0, 2 * np.pi, _DIRECTIONS, endpoint=False)
    steps = np.arange(np.hypot(*bone.shape))
    rows = np.rint(row + np.outer(np.sin(angles), steps)).astype(int)
    columns = np.rint(column + np.outer(np.cos(angles), steps)).astype(int)
    in_picture = (rows >= 0) & (rows < bone.shape[0]) & (columns >= 0) & (columns < bone.shape[1])
    rows, columns = np.where(in_picture, rows, 0), np.where(in_picture, columns, 0)
    is_bone = bone[rows, columns] & in_picture
    return Rays(rows, columns, in_picture, is_bone, is_bone.any(axis=1), is_bone.argmax(axis=1))


def _measure_tissue_share(rays: Rays, brain: NDArray[np.bool_]) -> float:
    """Return the share of brain-range tissue on the rays before the bone; 0 if none hits bone."""
    before_bone = ~np.logical_or.accumulate(rays.is_bone, axis=1) & rays.in_picture & rays.hits_bone[:, None]
    return float((brain[rays.rows, rays.columns] & before_bone).sum() / max(1, before_bone.sum()))
