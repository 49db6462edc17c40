"""Swirl, black hole and blend sign: patterns of density in a lesion that are associated with growth. Experimental.

The authors of the signs read them by eye on axial slices of about 5 mm. Here each sign is defined by pixels, and visual
criteria, such as a "well-defined" margin, are replaced by numbers. No data set with read signs was available, so the
agreement with readers is unknown; the tests use synthetic lesions with noise.

Only the core of a lesion is examined: pixels 2 mm or more inside of the outline that also have the lesion on the slices
above and below. Other pixels are dark because they partly contain brain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.imaging import components
from strokeseg.measurements.lesion.volume import areas_px, volume_ml
from strokeseg.result import Signs
from strokeseg.scan import Floats, Planes, Scan

Mask = NDArray[np.bool_]
Values = NDArray[np.float32]

MIN_VOLUME_ML = 3.0
"""A ball of 3 ml has a diameter of 18 mm; its core has 14 mm and lies on one or two slices of 5 mm."""

BLACK_HOLE_HU = 28.0
BLEND_HU = 18.0
SWIRL_HU = 15.0
BRAIN_HU = 40.0
"""Highest density that is iso- or hypodense to brain: grey matter has about 40 HU, white matter about 30. In blood of
60 HU such an area is 20 HU darker; :data:`SWIRL_HU` excludes lesions that are hardly denser than brain altogether."""

_BLUR_FWHM_MM = 2.0
_READ_SLICE_MM = 5.0
_RIM_MM = 2.0
_HOLE_MM2 = 12.0
_BLEND_MM2 = 40.0
_BLEND_SHARE = 0.1
_BLEND_WIDTH_MM = 5.0
_MARGIN_MM = (1.0, 4.0)
_MARGIN_SHARE = 0.7
_SWIRL_ML = 0.15
_SWIRL_DEEP_MM = 4.0
_SWIRL_TALL_MM = 7.5
_CORE_MM2 = 60.0


@dataclass(frozen=True)
class _Core:
    """The core of a lesion, cropped, shape (slices, rows, columns), and the 90th percentile of HU on each slice."""

    inside: Mask
    deep: Mask
    hu: Values
    dense_hu: Floats
    spacing_mm: tuple[float, float]

    def px(self, area_mm2: float) -> float:
        return area_mm2 / (self.spacing_mm[0] * self.spacing_mm[1])


def detect_signs(mask: Mask, scan: Scan) -> Signs | None:
    """Detect the swirl sign, the black hole sign and the blend sign in one lesion.

    Dark areas outside of the mask are included if the lesion surrounds them on their slice. HU are smoothed to 2 mm in
    the plane, and thin slices to about 5 mm across.

    Black hole: an area of at least 12 mm², at most half of the core, that dense blood surrounds on its slice. The
    median of its darker half is at least 28 HU below the median of the dense rest of the slice.

    Blend: an area of at least 40 mm² and a tenth of the core, at least 5 mm wide, that reaches the edge of the core (so
    it is not encapsulated). It is at least 18 HU below the dense rest, which is at least a tenth of the core. The
    margin is well defined if 70 % of that difference lie between the strips 1 to 4 mm on both sides of it.

    Swirl: at least 0.15 ml of at most 40 HU, as brain, and at least 15 HU below the dense rest, on at least two
    consecutive slices and 7.5 mm of height (Ng: two slices of 5 mm), at least 4 mm inside of the outline. A mask that
    is 3 mm too wide has a rim of brain, which is no swirl. A black hole or the dark side of a blend may be one too.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        One lesion.
    scan : Scan
        The scan.

    Returns
    -------
    Signs or None
        The signs. None if the scan is not calibrated, the spacing or a slice weight is unknown, the lesion is smaller
        than :data:`MIN_VOLUME_ML`, or no slice of its core has 60 mm².

    Raises
    ------
    ValueError
        If the mask is not bool or does not have the scan's shape.

    References
    ----------
    Selariu E et al. Swirl sign in intracerebral haemorrhage. BMC Neurol 2012;12:109.
    Ng D et al. The CT swirl sign is associated with hematoma expansion. AJNR 2018;39:232-237: two slices of 5 mm.
    Li Q et al. Black hole sign. Stroke 2016;47:1777-1781: encapsulated, 28 HU or more.
    Li Q et al. Blend sign. Stroke 2015;46:2119-2123: a well-defined margin, 18 HU or more, not encapsulated.
    """
    components.check_mask(mask, scan)
    volume = volume_ml(mask, scan)
    if volume is None or volume < MIN_VOLUME_ML or not scan.calibrated:
        return None
    core, first = _extract_core(mask, scan)
    if core is None:
        return None
    numbers = [index for index in range(len(core.hu)) if areas_px(core.inside)[index] >= core.px(_CORE_MM2)]
    return Signs(
        swirl=_has_swirl(core, scan, first),
        black_hole=any(_has_black_hole(core, index) for index in numbers),
        blend=any(_has_blend(core, index) for index in numbers),
    )


def _extract_core(mask: Mask, scan: Scan) -> tuple[_Core | None, int]:
    """Extract the core of a lesion; also return the index of its first slice."""
    planes = scan.planes
    slices = np.flatnonzero(areas_px(mask))
    rows, columns = np.flatnonzero(mask.any((0, 2))), np.flatnonzero(mask.any((0, 1)))
    box = tuple(slice(int(indices[0]), int(indices[-1]) + 1) for indices in (slices, rows, columns))
    filled = np.stack([ndimage.binary_fill_holes(plane) for plane in mask[box]])
    first = int(slices[0])
    inside, deep = np.zeros_like(filled), np.zeros_like(filled)
    for index in range(1, len(filled) - 1):
        if filled[index].any():
            depth_mm = ndimage.distance_transform_edt(np.pad(filled[index], 1), sampling=planes.pixel_spacing_mm)
            inside[index] = (depth_mm > _RIM_MM)[1:-1, 1:-1] & _mark_covered(filled, index, planes, first)
            deep[index] = inside[index] & (depth_mm > _SWIRL_DEEP_MM)[1:-1, 1:-1]
    if areas_px(inside).max() * planes.pixel_area_mm2 < _CORE_MM2:
        return None, first
    smooth = _smooth_hu(scan.hu[box], filled, planes, first)
    dense = np.array(
        [np.percentile(hu[core], 90) if core.any() else np.nan for hu, core in zip(smooth, inside, strict=True)]
    )
    return _Core(inside, deep, smooth, dense, planes.pixel_spacing_mm), first


def _mark_covered(filled: Mask, index: int, planes: Planes, first: int) -> Mask:
    """Mark the pixels that have the lesion directly above and below them."""
    offsets = components.compute_offsets_px(planes)
    rows, columns = np.indices(filled.shape[1:])
    covered = np.ones(filled.shape[1:], dtype=bool)
    for other, (down, right) in ((index + 1, offsets[first + index]), (index - 1, -offsets[first + index - 1])):
        row, column = rows - round(down), columns - round(right)
        inside = (row >= 0) & (row < filled.shape[1]) & (column >= 0) & (column < filled.shape[2])
        covered &= inside
        covered[inside] &= filled[other, row[inside], column[inside]]
    return covered


def _smooth_hu(hu: NDArray[np.int16], filled: Mask, planes: Planes, first: int) -> Values:
    """Smooth the HU inside of the lesion, without the surroundings."""
    step_mm = float(np.median(planes.weights_mm[first : first + len(hu)]))
    across_mm = np.sqrt(max(0.0, _READ_SLICE_MM**2 - step_mm**2))
    row_mm, column_mm = planes.pixel_spacing_mm
    widths = np.array([across_mm / step_mm, _BLUR_FWHM_MM / row_mm, _BLUR_FWHM_MM / column_mm])
    sigmas = widths / np.sqrt(8 * np.log(2))
    inside = filled.astype(np.float32)
    total = ndimage.gaussian_filter(hu * inside, sigmas, mode="constant", truncate=3.0)
    share = ndimage.gaussian_filter(inside, sigmas, mode="constant", truncate=3.0)
    return np.asarray(total / np.maximum(share, 1e-3), dtype=np.float32)


def _label_dark_areas(core: _Core, index: int, below_hu: float) -> tuple[NDArray[np.int32], int]:
    """Label the areas of a slice's core more than ``below_hu`` / 2 below its dense HU."""
    dark = core.inside[index] & (core.hu[index] < core.dense_hu[index] - below_hu / 2)
    areas, count = ndimage.label(dark, structure=np.ones((3, 3), dtype=bool))
    return areas, int(count)


def _has_black_hole(core: _Core, index: int) -> bool:
    areas, count = _label_dark_areas(core, index, BLACK_HOLE_HU)
    dense = core.inside[index] & (areas == 0)
    if not dense.any():
        return False
    dense_hu = float(np.median(core.hu[index][dense]))
    for number in range(1, count + 1):
        area = areas == number
        if not core.px(_HOLE_MM2) <= area.sum() <= dense.sum() or _reaches_edge(area, core.inside[index]):
            continue
        # A reader measures inside of the area; its outer half is blurred.
        if dense_hu - float(np.percentile(core.hu[index][area], 25)) >= BLACK_HOLE_HU:
            return True
    return False


def _has_blend(core: _Core, index: int) -> bool:
    areas, count = _label_dark_areas(core, index, BLEND_HU)
    inside, hu = core.inside[index], core.hu[index]
    dense = inside & (areas == 0)
    smallest = max(core.px(_BLEND_MM2), _BLEND_SHARE * float(inside.sum()))
    if dense.sum() < smallest:
        return False
    dense_hu = float(np.median(hu[dense]))
    for number in range(1, count + 1):
        area = areas == number
        if area.sum() < smallest or not _reaches_edge(area, inside) or not _is_wide(area, core.spacing_mm):
            continue
        difference_hu = dense_hu - float(np.median(hu[area]))
        if (
            difference_hu >= BLEND_HU
            and _margin_step_hu(area, dense, hu, core.spacing_mm) >= _MARGIN_SHARE * difference_hu
        ):
            return True
    return False


def _has_swirl(core: _Core, scan: Scan, first: int) -> bool:
    weights = scan.planes.weights_mm
    dark = np.zeros(scan.shape[:1] + core.inside.shape[1:], dtype=bool)
    for index, inside in enumerate(core.inside):
        areas, count = _label_dark_areas(core, index, 2 * SWIRL_HU)
        dense = inside & (areas == 0)
        if count == 0 or not dense.any():
            continue
        dense_hu = float(np.median(core.hu[index][dense]))
        dark[first + index] = core.deep[index] & (core.hu[index] <= min(BRAIN_HU, dense_hu - SWIRL_HU))
    geometry = Scan(np.zeros(dark.shape, np.int16), scan.planes)
    labels, count = components.label(dark, geometry)
    sizes = np.stack([np.bincount(plane.ravel(), minlength=count + 1)[1:] for plane in labels])
    large = weights @ sizes * scan.planes.pixel_area_mm2 / 1000 >= _SWIRL_ML
    tall = (np.count_nonzero(sizes, axis=0) >= 2) & (weights @ (sizes > 0) >= _SWIRL_TALL_MM)
    return bool((large & tall).any())


def _reaches_edge(area: Mask, inside: Mask) -> bool:
    """Return whether an area of the core reaches the edge of the core."""
    padded = np.pad(area, 1)
    dilated = ndimage.binary_dilation(padded, structure=np.ones((3, 3), dtype=bool))
    return bool((dilated & ~np.pad(inside, 1)).any())


def _is_wide(area: Mask, spacing_mm: tuple[float, float]) -> bool:
    """Return whether a disc of 5 mm fits into an area."""
    depth_mm = ndimage.distance_transform_edt(np.pad(area, 1), sampling=spacing_mm)
    return bool(depth_mm.max() >= _BLEND_WIDTH_MM / 2)


def _margin_step_hu(area: Mask, dense: Mask, hu: Values, spacing_mm: tuple[float, float]) -> float:
    """Difference of density between the strips on the dense and on the dark side of an area's margin, HU."""
    near, far = _MARGIN_MM
    to_area_mm = ndimage.distance_transform_edt(~area, sampling=spacing_mm)
    to_dense_mm = ndimage.distance_transform_edt(~dense, sampling=spacing_mm)
    bright = hu[dense & (to_area_mm >= near) & (to_area_mm <= far)]
    dark = hu[area & (to_dense_mm >= near) & (to_dense_mm <= far)]
    if not bright.size or not dark.size:
        return 0.0
    return float(np.median(bright) - np.median(dark))
