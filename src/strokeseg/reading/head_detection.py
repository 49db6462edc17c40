"""What a slice shows of a head: brain-range tissue inside a ring of bone. The gate and the window's estimate use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.imaging import downsample

_COARSE_PX = 128
_DIRECTIONS = 72

_MIN_RING_SHARE = 0.5
_MIN_TISSUE_SHARE = 0.55
_MIN_CIRCLE_FILL = 0.35
MIN_AREA_SHARE = 0.005
"""Of what can be the inside of a skull, a share of the picture."""

_MAX_GAPS = 6
_MAX_EDGE_BONE_SHARE = 0.5


@dataclass(frozen=True)
class TissueThresholds:
    """Where tissue begins and ends: below ``low`` is air and fat, above ``bone`` is bone, between them is brain."""

    air_below: float
    brain_below: float
    bone_above: float

    @classmethod
    def for_hounsfield(cls) -> TissueThresholds:
        """Return the levels of Hounsfield units; those of bone also hold for values cut off at 255."""
        return cls(air_below=5, brain_below=90, bone_above=150)

    @classmethod
    def for_window(cls, centre: float, width: float) -> TissueThresholds:
        """Return the levels of a picture through a window: bone is white, air is black, brain lies between."""
        bottom = centre - width / 2
        return cls(air_below=bottom + 0.04 * width, brain_below=bottom + 0.78 * width, bone_above=bottom + 0.8 * width)


@dataclass(frozen=True)
class EnclosedTissue:
    """The largest piece of brain-range tissue inside bone on one slice, on a coarse grid.

    Parameters
    ----------
    values : ndarray of float32, shape (n,)
        The values of its pixels, each a mean over a coarse pixel.
    area : object
        Its share of the picture, 0..1.
    ring : object
        Share of 72 directions from its deepest point in which bone is met.
    tissue : object
        Share of brain-range tissue on the way from there to that bone.
    gaps : object
        Number of pieces that are missing in that ring.
    fill : object
        Its area, as a share of the circle with the mean distance to that bone.
    edge : object
        Share of bone along the picture's edge.
    radius_px : float
        Mean distance to that bone, pixels of the slice.
    """

    values: NDArray[np.float32]
    area_share: float
    ring_share: float
    tissue_share: float
    gap_count: int
    circle_fill: float
    edge_bone_share: float
    radius_px: float

    @property
    def is_head_like(self) -> bool:
        """Whether it can be the inside of a skull, whatever its size.

        Every one of 1,443 single slices of ten data sets is (tests/read/test_real_data.py). There, bone is met in 57 %
        of the directions or more (least where one side of the skull was taken out), with at most 5 gaps (ribs have
        12); tissue is 58 % of the way and fills 45 % of the circle.
        """
        return (
            self.ring_share >= _MIN_RING_SHARE
            and self.gap_count <= _MAX_GAPS
            and self.tissue_share >= _MIN_TISSUE_SHARE
            and self.circle_fill >= _MIN_CIRCLE_FILL
            and self.area_share >= MIN_AREA_SHARE
            and self.edge_bone_share <= _MAX_EDGE_BONE_SHARE
        )


def sample_slice_indices(count: int, most: int) -> NDArray[np.intp]:
    """Return the indices of up to ``most`` of ``count`` slices, evenly spread from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.intp))


def find_enclosed_tissue(plane: NDArray[Any], levels: TissueThresholds, least_area: float = 0) -> EnclosedTissue | None:
    """Find what lies inside bone; None where nothing does.

    A pixel lies inside if bone is met on three of its four sides: so open skulls, and slices through the base, have an
    inside too.

    Parameters
    ----------
    plane : ndarray, shape (rows, columns)
        In the scale of the levels.
    least_area : float, default: 0
        Share of the picture under which an inside need not be found.
    """
    step = max(1, min(plane.shape) // _COARSE_PX)
    # A mean over the coarse pixel takes the noise away. Air is cut off so that it does not weigh down its neighbours.
    floor = np.maximum(plane.astype(np.float32), np.float32(levels.air_below - 50))
    coarse = downsample.downsample_mean(floor, step, np.float32)
    bone = coarse > levels.bone_above
    brain = (coarse > levels.air_below) & (coarse < levels.brain_below)
    if np.count_nonzero(brain) < least_area * brain.size:
        return None
    sides = sum(_mark_bone_seen(bone, side).astype(np.uint8) for side in range(4))
    labels, found = ndimage.label(brain & (sides >= 3))
    if not found:
        return None
    region = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
    depth = ndimage.distance_transform_edt(region)
    row, column = np.unravel_index(int(depth.argmax()), region.shape)
    meets, tissue, radius = _cast_rays(bone, brain, int(row), int(column))
    edge = np.concatenate([bone[0], bone[-1], bone[:, 0], bone[:, -1]])
    return EnclosedTissue(
        values=coarse[region],
        area_share=float(region.mean()),
        ring_share=float(meets.mean()),
        tissue_share=tissue,
        gap_count=int(np.count_nonzero(meets & ~np.roll(meets, 1))),
        circle_fill=float(region.sum() / max(1.0, np.pi * radius**2)),
        edge_bone_share=float(edge.mean()),
        radius_px=radius * step,
    )


def _mark_bone_seen(bone: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Mark pixels from which bone is met when looking up, down, left or right."""
    axis, back = side // 2, bool(side % 2)
    view = np.flip(bone, axis) if back else bone
    met = np.logical_or.accumulate(view, axis=axis)
    return np.asarray(np.flip(met, axis) if back else met)


def _cast_rays(
    bone: NDArray[np.bool_], brain: NDArray[np.bool_], row: int, column: int
) -> tuple[NDArray[np.bool_], float, float]:
    """Look from a point to all sides: which rays meet bone, the share of brain before it, and its mean distance."""
    angles = np.linspace(0, 2 * np.pi, _DIRECTIONS, endpoint=False)
    steps = np.arange(np.hypot(*bone.shape))
    rows = np.rint(row + np.outer(np.sin(angles), steps)).astype(int)
    columns = np.rint(column + np.outer(np.cos(angles), steps)).astype(int)
    on = (rows >= 0) & (rows < bone.shape[0]) & (columns >= 0) & (columns < bone.shape[1])
    rows, columns = np.where(on, rows, 0), np.where(on, columns, 0)
    hit = bone[rows, columns] & on
    meets = hit.any(axis=1)
    if not meets.any():
        return meets, 0.0, 0.0
    before = ~np.logical_or.accumulate(hit, axis=1) & on & meets[:, None]
    tissue = (brain[rows, columns] & before).sum() / max(1, before.sum())
    return meets, float(tissue), float(hit.argmax(axis=1)[meets].mean())
