"""What is measured of a lesion's pieces on its slices, to tell their type: shape, place in the skull, surroundings.

Every length is a share of the head's radius on that slice, and every grey level is held against the brain's own, so
that pictures without spacing and without Hounsfield units are measured like any CT.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from strokeseg.measurements.head.coarse_head import CoarseHead
from strokeseg.measurements.head.midplane import Midplane
from strokeseg.scan import Floats, Scan

Mask = NDArray[np.bool_]

FEATURES = (
    *("log_area", "depth_least", "depth_median", "depth_most", "contact", "near", "thickness", "slenderness"),
    *("solidity", "roughness", "elongation", "aside", "ahead", "tangential", "sagittal", "dark", "fluid", "far_fluid"),
    *("contrast", "arc_length", "arc_thickness", "arc_curve", "arc_ratio", "arc_ends", "beside_skull"),
)
"""What is measured of each connected piece of a lesion on a slice; docs/types.md says what each is."""

# A slice is looked at on a grid on which the inside of its skull has the area of a circle of so many pixels' radius.
_RADIUS_PX = 120
# Shares of the area inside of the skull: a piece below the first is too small to be told, above the second no lesion.
_MIN_AREA, _MAX_AREA = 0.001, 0.6
_MAX_SLICES = 3
# Lengths, in radii: in contact with bone, near to it, the ring around a piece (past its blurred edge), what is around.
_CONTACT, _NEAR_BONE, _RING_RANGE, _SURROUNDINGS = 0.035, 0.10, (0.02, 0.07), 0.2
# What is this much darker than the brain, HU: oedema and fluid; fluid alone; fluid near by.
_DARK_HU, _FLUID_HU, _FAR_FLUID_HU = 8.0, 18.0, 15.0
_BONE_HU = 130.0
# Bone so far inside of the skull is calcification; what lies so far outside counts as skull, also where it has a hole.
_MAX_BONE_DEPTH, _SKULL_MARGIN = 0.10, 0.04
_BIN_RAD = 0.04
_NEIGHBOURS = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class LesionSection:
    """A connected piece of a lesion on one slice.

    Parameters
    ----------
    slice : int
        Index, inferior first.
    share : object
        Its area, as a share of the area inside of the skull.
    weight : float
        Its area times the slice's weight.
    features : Floats
        (25,), in the order of :data:`FEATURES`.
    """

    slice: int
    area_share: float
    weight: float
    features: Floats


def measure_sections(
    scan: Scan, lesion_mask: Mask, head: CoarseHead | None, plane: Midplane | None = None
) -> list[LesionSection]:
    """Measure the pieces of a lesion; parameters and errors are those of `types.probabilities`."""
    if lesion_mask.shape != scan.shape:
        raise ValueError(f"the mask is {lesion_mask.shape}, the scan {scan.shape}")
    slices = np.flatnonzero(lesion_mask.any((1, 2)))
    if head is None or not slices.size:
        return []
    if slices.size > _MAX_SLICES:
        slices = slices[((np.arange(_MAX_SLICES) + 0.5) / _MAX_SLICES * slices.size).astype(int)]
    mm = np.ones(len(lesion_mask)) if scan.weights_mm is None else scan.weights_mm
    found = []
    for index in slices.tolist():
        seen = _SliceGeometry.from_slice(
            scan, lesion_mask, head, plane if plane is not None and plane.reliable else None, index
        )
        if seen is None:
            continue
        area = float(seen.inside.sum())
        labels, count = ndimage.label(seen.lesion, _NEIGHBOURS)
        sizes = np.bincount(labels.ravel(), minlength=count + 1) / area
        if sizes[1:].sum() > _MAX_AREA:
            return []
        for number in np.flatnonzero(sizes[1:] >= _MIN_AREA) + 1:
            share = float(sizes[number])
            weight = share * area * seen.pixel_mm**2 * float(mm[index])
            found.append(LesionSection(index, share, weight, _measure_features(seen, labels == number)))
    return found


@dataclass(frozen=True)
class _SliceGeometry:
    """One slice on the grid; lengths are in radii, ``axis`` and ``centre`` in (row, column) of the grid.

    ``depth`` is the distance to the skull, ``free`` what is inside and neither blood nor bone nor their blurred edge.
    """

    hu: NDArray[np.float32]
    lesion: Mask
    inside: Mask
    free: Mask
    depth: NDArray[np.float32]
    axis: Floats
    centre: Floats
    brain_hu: float
    pixel_mm: float

    @classmethod
    def from_slice(
        cls, scan: Scan, mask: Mask, head: CoarseHead, plane: Midplane | None, index: int
    ) -> _SliceGeometry | None:
        samples, sample = head.samples, int(np.abs(head.slices - index).argmin())
        region = head.brain[sample]
        if not region.any():
            return None
        spacing, step = np.array(scan.planes.pixel_spacing_mm), samples.pixel_step
        radius_mm = float(np.sqrt(region.sum() * np.prod(samples.spacing_mm) / np.pi))
        pixel_mm = radius_mm / _RADIUS_PX
        places = np.argwhere(region)
        low_mm = places.min(0) * step * spacing - (_SURROUNDINGS * radius_mm)
        high_mm = (places.max(0) + 1) * step * spacing + (_SURROUNDINGS * radius_mm)
        lines = [np.arange(low, high, pixel_mm) / mm for low, high, mm in zip(low_mm, high_mm, spacing, strict=True)]
        near = [np.clip(np.rint(line).astype(int), 0, n - 1) for line, n in zip(lines, scan.shape[1:], strict=True)]
        fine = np.ix_(*near)
        block = np.ix_(*(np.minimum(line // step, n - 1) for line, n in zip(near, region.shape, strict=True)))
        hu, lesion = scan.hu[index][fine].astype(np.float32), mask[index][fine]
        blood = (head.blood[sample][block] > 0.25) | lesion
        inside = (ndimage.uniform_filter(region[block].astype(np.float32), 9) > 0.5) | lesion
        deep, off = (_distances(part, samples.spacing_mm)[block] / radius_mm for part in (region, ~region))
        bone = (hu > _bone_hu(scan)) & ~blood & (deep < _MAX_BONE_DEPTH)
        depth = ndimage.distance_transform_edt(~bone & (off < _SKULL_MARGIN)).astype(np.float32) / _RADIUS_PX
        free = inside & ~ndimage.binary_dilation(blood | bone, _NEIGHBOURS)
        smooth = ndimage.uniform_filter(np.minimum(hu, _BONE_HU), 3)
        brain_hu = float(np.median(smooth[::2, ::2][free[::2, ::2]])) if free[::2, ::2].any() else 32.0
        centre, axis = _principal_axis(region, np.array(samples.spacing_mm))
        centre = (centre + step * spacing / 2 - low_mm) / pixel_mm
        if plane is not None:
            centre, axis = _midplane_axis(plane, scan, index, centre, low_mm, pixel_mm)
        return cls(smooth, lesion, inside, free, depth, axis, centre, brain_hu, pixel_mm)


def _bone_hu(scan: Scan) -> float:
    """Pictures end at their window: above 9/10 of it is bone."""
    return _BONE_HU if scan.window is None else min(_BONE_HU, scan.window[0] + 0.4 * scan.window[1])


def _distances(part: Mask, spacing_mm: tuple[float, float]) -> Floats:
    return np.asarray(ndimage.distance_transform_edt(part, sampling=spacing_mm))


def _principal_axis(region: Mask, spacing_mm: Floats) -> tuple[Floats, Floats]:
    """Centre (mm from the first sample) and long axis of a slice's inside; upright where it is round or lies askew."""
    places = np.argwhere(region) * spacing_mm
    centre = places.mean(0)
    values, vectors = np.linalg.eigh(np.cov((places - centre).T) if len(places) > 1 else np.eye(2))
    long = vectors[:, 1]
    if abs(long[0]) < 0.85 or values[1] < 1.1 * values[0]:
        long = np.array([1.0, 0.0])
    return centre, long * np.sign(long[0])


def _midplane_axis(
    plane: Midplane, scan: Scan, index: int, centre: Floats, low_mm: Floats, pixel_mm: float
) -> tuple[Floats, Floats]:
    """Move the centre onto the mid-sagittal plane, and turn the axis into it; the plane meets a slice in a line."""
    spacing = np.array(scan.planes.pixel_spacing_mm)
    rows_columns = (np.array([centre, np.add(centre, (1, 0)), np.add(centre, (0, 1))]) * pixel_mm + low_mm) / spacing
    here, down, right = plane.distance_mm(scan.planes.to_lps_mm(np.column_stack([[index] * 3, rows_columns])))
    slope = np.array([down - here, right - here])
    if not slope.any():
        return centre, np.array([1.0, 0.0])
    across = slope / np.linalg.norm(slope)
    axis = np.array([-across[1], across[0]])
    return centre - here / (slope @ slope) * slope, axis * (np.sign(axis[0]) or 1.0)


def _measure_features(seen: _SliceGeometry, piece: Mask) -> Floats:
    """Measure one piece; the order is that of :data:`FEATURES`."""
    pad = int(_SURROUNDINGS * _RADIUS_PX) + 2
    box = ndimage.find_objects(piece.view(np.int8))[0]
    crop = tuple(slice(max(0, side.start - pad), side.stop + pad) for side in box)
    own, depth = piece[crop], seen.depth[crop]
    within = ndimage.distance_transform_edt(np.pad(own, 1))[1:-1, 1:-1] / _RADIUS_PX
    edge = own & (within * _RADIUS_PX < 1.5)
    places = np.argwhere(own).astype(float)
    depths, area = depth[own].astype(float), float(own.sum())
    from_centre = (places + [side.start for side in crop] - seen.centre) / _RADIUS_PX
    ahead, aside = from_centre @ seen.axis, from_centre @ np.array([-seen.axis[1], seen.axis[0]])
    thickness = float(within.max())
    shape = [
        *(np.log(area / (np.pi * _RADIUS_PX**2)), depths.min(), np.median(depths), depths.max()),
        *((depth[edge] < _CONTACT).mean(), (depths < _NEAR_BONE).mean(), thickness),
        *(
            area / (2 * (thickness * _RADIUS_PX) ** 2),
            area / _hull_area(np.argwhere(edge).astype(float), area),
            edge.sum() ** 2 / (4 * np.pi * area),
        ),
    ]
    lie = _orientation(places, from_centre.mean(0), seen.axis)
    place = [lie[0], np.abs(aside).mean(), np.abs(ahead).mean(), *lie[1:]]
    *around, beside = _measure_surroundings(seen, crop, own)
    return np.array([*shape, *place, *around, *_arc_features(ahead, aside, depths), beside])


def _orientation(places: Floats, from_centre: Floats, axis: Floats) -> tuple[float, float, float]:
    """How long a piece is (0 round, 1 a line), and whether it lies along the skull and along the midline (-1 to 1)."""
    values, vectors = np.linalg.eigh(np.cov((places - places.mean(0)).T) + 0.1 * np.eye(2))
    elongation, long = 1 - float(np.sqrt(values[0] / values[1])), vectors[:, 1]
    outwards = from_centre / max(1e-6, float(np.linalg.norm(from_centre)))
    return (
        elongation,
        (1 - 2 * float(long @ outwards) ** 2) * elongation,
        (2 * float(long @ axis) ** 2 - 1) * elongation,
    )


def _measure_surroundings(seen: _SliceGeometry, crop: tuple[slice, ...], own: Mask) -> tuple[float, ...]:
    """Look around a piece.

    Returns
    -------
    tuple of float
        Shares of dark and of fluid pixels in the ring around it, and of fluid farther out; its density above the
        brain's; the share of the ring that is not inside of the skull.
    """
    away = ndimage.distance_transform_edt(~own) / _RADIUS_PX
    above, free = seen.hu[crop] - seen.brain_hu, seen.free[crop]
    ring = (away > _RING_RANGE[0]) & (away < _RING_RANGE[1])
    near, far = above[ring & free], above[free & (away > _RING_RANGE[1]) & (away < _SURROUNDINGS)]
    shares = (_share_below(near, -_DARK_HU), _share_below(near, -_FLUID_HU), _share_below(far, -_FAR_FLUID_HU))
    return (*shares, float(above[own].mean()), float((ring & ~seen.inside[crop]).sum() / max(1, ring.sum())))


def _share_below(values: NDArray[np.float32], below: float) -> float:
    return float((values < below).mean()) if values.size else 0.0


def _arc_features(ahead: Floats, aside: Floats, depths: Floats) -> tuple[float, ...]:
    """Unroll a piece along the skull, by its angle at the head's centre.

    Returns
    -------
    tuple of float
        Log of its length; its greatest thickness; the curve of its inner border, from the parabola through its depths
        (below 0 bulges into the brain, as a lens does; 0 follows the skull, as a crescent does); log of thickness
        over length; the depth at its ends relative to the greatest.
    """
    angle = np.arctan2(aside, ahead)
    apart = np.angle(np.exp(1j * (angle - np.angle(np.exp(1j * angle).mean()))))
    bins = np.floor(apart / _BIN_RAD).astype(int)
    bins -= bins.min()
    counts = np.bincount(bins)
    top, low = np.zeros(len(counts)), np.full(len(counts), np.inf)
    np.maximum.at(top, bins, depths)
    np.minimum.at(low, bins, depths)
    used = counts > 0
    top, low, counts = top[used], low[used], counts[used]
    place = np.flatnonzero(used) * _BIN_RAD
    place = place - np.average(place, weights=counts)
    length = float(used.sum() * _BIN_RAD * np.median(np.hypot(ahead, aside) + depths))
    thickness = float((top - low).max()) + 1 / _RADIUS_PX
    if len(top) >= 4:
        curve = float(np.polyfit(place, top, 2, w=np.sqrt(counts))[0])
    else:
        curve = -float(top.max()) / (2 * max(float(np.sqrt(np.average(place**2, weights=counts))), 0.02)) ** 2
    fifth = max(1, len(top) // 5)
    ends = float(top[:fifth].mean() + top[-fifth:].mean()) / 2 / max(float(top.max()), 1e-3)
    return np.log(length + 0.02), thickness, np.arctan(curve), np.log(thickness / (length + 0.02)), ends


def _hull_area(places: Floats, area: float) -> float:
    """Area of the convex hull over the pixels' corners."""
    corners = np.concatenate([np.add(places, (down, right)) for down in (-0.5, 0.5) for right in (-0.5, 0.5)])
    try:
        return float(ConvexHull(corners).volume)
    except QhullError:
        return area
