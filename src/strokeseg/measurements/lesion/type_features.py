"""Features of a lesion's sections that decide its type: shape, location in the skull, surroundings.

Lengths are shares of the head's radius on the slice, and densities are relative to the brain, so that pictures without
spacing and Hounsfield units are measured like any CT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from strokeseg.measurements.head.coarse_head import CoarseHead
from strokeseg.measurements.head.midplane import Midplane
from strokeseg.measurements.lesion.slice_geometry import NEIGHBOURS, RADIUS_PX, SURROUNDINGS, SliceGeometry
from strokeseg.scan import Floats, Scan

Mask = NDArray[np.bool_]


class SectionFeatures(NamedTuple):
    """Features of a section; docs/types.md defines each. Lengths are in head radii, densities in HU.

    Attributes
    ----------
    log_area : float
        Logarithm of the area as a share of the intracranial area.
    depth_least, depth_median, depth_most : float
        Smallest, median and largest distance to the skull.
    contact : float
        Share of the outline in contact with bone.
    near : float
        Share of the pixels near bone.
    thickness : float
        Radius of the largest inscribed disc.
    slenderness : float
        Area divided by twice the square of the thickness.
    solidity : float
        Area divided by the area of the convex hull.
    roughness : float
        Square of the outline's length divided by 4 pi x area.
    elongation : float
        0 for a round section, 1 for a line.
    aside, ahead : float
        Mean distance from the centre across the midline and along it.
    tangential, sagittal : float
        Orientation along the skull and along the midline, -1 to 1, times the elongation.
    dark, fluid, far_fluid : float
        Share of dark pixels and of fluid in the ring around the section, and of fluid further out.
    contrast : float
        Density above that of the brain.
    arc_length, arc_thickness, arc_curve, arc_ratio, arc_ends : float
        Shape of the section unrolled along the skull: logarithm of the length, largest thickness, curvature of the
        inner border, logarithm of thickness / length, and depth at the ends relative to the largest depth.
    beside_skull : float
        Share of the ring around the section that is not intracranial.
    """

    log_area: float
    depth_least: float
    depth_median: float
    depth_most: float
    contact: float
    near: float
    thickness: float
    slenderness: float
    solidity: float
    roughness: float
    elongation: float
    aside: float
    ahead: float
    tangential: float
    sagittal: float
    dark: float
    fluid: float
    far_fluid: float
    contrast: float
    arc_length: float
    arc_thickness: float
    arc_curve: float
    arc_ratio: float
    arc_ends: float
    beside_skull: float


FEATURES = SectionFeatures._fields
"""Names of the features, in the order of the classifier's parameters in `types.json`."""

# Shares of the intracranial area: a smaller section is not classified, a larger one is no lesion.
_MIN_AREA, _MAX_AREA = 0.001, 0.6
_MAX_SLICES = 3
# Distances in radii: contact with bone, near bone, and the ring around a section, beyond its blurred edge.
_CONTACT, _NEAR_BONE, _RING_RANGE = 0.035, 0.10, (0.02, 0.07)
# Difference to the density of the brain, HU: edema and fluid; fluid alone; fluid further out.
_DARK_HU, _FLUID_HU, _FAR_FLUID_HU = 8.0, 18.0, 15.0
_BIN_RAD = 0.04


@dataclass(frozen=True)
class LesionSection:
    """A connected part of a lesion on one slice.

    Attributes
    ----------
    slice : int
        Index of the slice, inferior first.
    area_share : float
        Area as a share of the intracranial area.
    weight : float
        Area times slice weight.
    features : SectionFeatures
        Features of the section.
    """

    slice: int
    area_share: float
    weight: float
    features: SectionFeatures


def measure_sections(
    scan: Scan, lesion_mask: Mask, head: CoarseHead | None, plane: Midplane | None = None
) -> list[LesionSection]:
    """Measure the sections of a lesion on up to three slices.

    Parameters
    ----------
    scan : Scan
        A scan or a single slice, calibrated or not.
    lesion_mask : ndarray of bool, shape (slices, rows, columns)
        One lesion.
    head : CoarseHead or None
        Head of the same scan, sampled with the mask of all lesions.
    plane : Midplane, optional
        The mid-sagittal plane.

    Returns
    -------
    list of LesionSection
        The sections; empty without a head, or if the mask fills the head.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if lesion_mask.shape != scan.shape:
        raise ValueError(f"the mask has shape {lesion_mask.shape}, the scan {scan.shape}")
    slices = np.flatnonzero(lesion_mask.any((1, 2)))
    if head is None or not slices.size:
        return []
    if slices.size > _MAX_SLICES:
        slices = slices[((np.arange(_MAX_SLICES) + 0.5) / _MAX_SLICES * slices.size).astype(int)]
    weights_mm = np.ones(len(lesion_mask)) if scan.weights_mm is None else scan.weights_mm
    sections = []
    for index in slices.tolist():
        geometry = SliceGeometry.from_slice(
            scan, lesion_mask, head, plane if plane is not None and plane.reliable else None, index
        )
        if geometry is None:
            continue
        area = float(geometry.inside.sum())
        labels, count = ndimage.label(geometry.lesion, NEIGHBOURS)
        sizes = np.bincount(labels.ravel(), minlength=count + 1) / area
        if sizes[1:].sum() > _MAX_AREA:
            return []
        for number in np.flatnonzero(sizes[1:] >= _MIN_AREA) + 1:
            share = float(sizes[number])
            weight = share * area * geometry.pixel_mm**2 * float(weights_mm[index])
            sections.append(LesionSection(index, share, weight, _measure_features(geometry, labels == number)))
    return sections


def _measure_features(geometry: SliceGeometry, section: Mask) -> SectionFeatures:
    """Measure one section of a slice."""
    pad = int(SURROUNDINGS * RADIUS_PX) + 2
    box = ndimage.find_objects(section.view(np.int8))[0]
    crop = tuple(slice(max(0, side.start - pad), side.stop + pad) for side in box)
    own, depth = section[crop], geometry.depth[crop]
    inner_distance = ndimage.distance_transform_edt(np.pad(own, 1))[1:-1, 1:-1] / RADIUS_PX
    edge = own & (inner_distance * RADIUS_PX < 1.5)
    points = np.argwhere(own).astype(float)
    depths, area = depth[own].astype(float), float(own.sum())
    from_centre = (points + [side.start for side in crop] - geometry.centre) / RADIUS_PX
    ahead, aside = from_centre @ geometry.axis, from_centre @ np.array([-geometry.axis[1], geometry.axis[0]])
    thickness = float(inner_distance.max())
    orientation = _measure_orientation(points, from_centre.mean(0), geometry.axis)
    surroundings = _measure_surroundings(geometry, crop, own)
    arc = _measure_arc(ahead, aside, depths)
    return SectionFeatures(
        log_area=np.log(area / (np.pi * RADIUS_PX**2)),
        depth_least=depths.min(),
        depth_median=float(np.median(depths)),
        depth_most=depths.max(),
        contact=(depth[edge] < _CONTACT).mean(),
        near=(depths < _NEAR_BONE).mean(),
        thickness=thickness,
        slenderness=area / (2 * (thickness * RADIUS_PX) ** 2),
        solidity=area / _hull_area(np.argwhere(edge).astype(float), area),
        roughness=edge.sum() ** 2 / (4 * np.pi * area),
        elongation=orientation.elongation,
        aside=np.abs(aside).mean(),
        ahead=np.abs(ahead).mean(),
        tangential=orientation.tangential,
        sagittal=orientation.sagittal,
        dark=surroundings.dark,
        fluid=surroundings.fluid,
        far_fluid=surroundings.far_fluid,
        contrast=surroundings.contrast,
        arc_length=arc.length,
        arc_thickness=arc.thickness,
        arc_curve=arc.curve,
        arc_ratio=arc.ratio,
        arc_ends=arc.ends,
        beside_skull=surroundings.beside_skull,
    )


class _Orientation(NamedTuple):
    """Elongation of a section (0 round, 1 a line), and its orientation along skull and midline (-1 to 1)."""

    elongation: float
    tangential: float
    sagittal: float


def _measure_orientation(points: Floats, from_centre: Floats, axis: Floats) -> _Orientation:
    """Measure how elongated a section is, and how it lies relative to the skull and the midline."""
    values, vectors = np.linalg.eigh(np.cov((points - points.mean(0)).T) + 0.1 * np.eye(2))
    elongation, long = 1 - float(np.sqrt(values[0] / values[1])), vectors[:, 1]
    outwards = from_centre / max(1e-6, float(np.linalg.norm(from_centre)))
    return _Orientation(
        elongation,
        (1 - 2 * float(long @ outwards) ** 2) * elongation,
        (2 * float(long @ axis) ** 2 - 1) * elongation,
    )


class _Surroundings(NamedTuple):
    """Shares of dark pixels and fluid around a section, its contrast, and the share of the ring beyond the skull."""

    dark: float
    fluid: float
    far_fluid: float
    contrast: float
    beside_skull: float


def _measure_surroundings(geometry: SliceGeometry, crop: tuple[slice, ...], own: Mask) -> _Surroundings:
    """Measure the density of a section and of its surroundings relative to the brain."""
    distance = ndimage.distance_transform_edt(~own) / RADIUS_PX
    above_brain, free = geometry.hu[crop] - geometry.brain_hu, geometry.free[crop]
    ring = (distance > _RING_RANGE[0]) & (distance < _RING_RANGE[1])
    near = above_brain[ring & free]
    far = above_brain[free & (distance > _RING_RANGE[1]) & (distance < SURROUNDINGS)]
    return _Surroundings(
        dark=_share_below(near, -_DARK_HU),
        fluid=_share_below(near, -_FLUID_HU),
        far_fluid=_share_below(far, -_FAR_FLUID_HU),
        contrast=float(above_brain[own].mean()),
        beside_skull=float((ring & ~geometry.inside[crop]).sum() / max(1, ring.sum())),
    )


def _share_below(values: NDArray[np.float32], below: float) -> float:
    return float((values < below).mean()) if values.size else 0.0


class _Arc(NamedTuple):
    """Shape of a section unrolled along the skull.

    ``length`` and ``ratio`` (thickness / length) are logarithms. ``curve`` is the curvature of the inner border from a
    parabola through its depths: negative if it bulges into the brain, as a lens does; 0 if it follows the skull, as a
    crescent does. ``ends`` is the depth at both ends relative to the largest depth.
    """

    length: float
    thickness: float
    curve: float
    ratio: float
    ends: float


def _measure_arc(ahead: Floats, aside: Floats, depths: Floats) -> _Arc:
    """Unroll a section along the skull by the angle at the centre of the head."""
    angles = np.arctan2(aside, ahead)
    angles = np.angle(np.exp(1j * (angles - np.angle(np.exp(1j * angles).mean()))))
    bins = np.floor(angles / _BIN_RAD).astype(int)
    bins -= bins.min()
    counts = np.bincount(bins)
    deepest, shallowest = np.zeros(len(counts)), np.full(len(counts), np.inf)
    np.maximum.at(deepest, bins, depths)
    np.minimum.at(shallowest, bins, depths)
    used = counts > 0
    deepest, shallowest, counts = deepest[used], shallowest[used], counts[used]
    position = np.flatnonzero(used) * _BIN_RAD
    position = position - np.average(position, weights=counts)
    length = float(used.sum() * _BIN_RAD * np.median(np.hypot(ahead, aside) + depths))
    thickness = float((deepest - shallowest).max()) + 1 / RADIUS_PX
    if len(deepest) >= 4:
        curve = float(np.polyfit(position, deepest, 2, w=np.sqrt(counts))[0])
    else:
        curve = -float(deepest.max()) / (2 * max(float(np.sqrt(np.average(position**2, weights=counts))), 0.02)) ** 2
    fifth = max(1, len(deepest) // 5)
    ends = float(deepest[:fifth].mean() + deepest[-fifth:].mean()) / 2 / max(float(deepest.max()), 1e-3)
    return _Arc(np.log(length + 0.02), thickness, np.arctan(curve), np.log(thickness / (length + 0.02)), ends)


def _hull_area(points: Floats, area: float) -> float:
    """Area of the convex hull of the pixels' corners."""
    corners = np.concatenate([np.add(points, (down, right)) for down in (-0.5, 0.5) for right in (-0.5, 0.5)])
    try:
        return float(ConvexHull(corners).volume)
    except QhullError:
        return area
