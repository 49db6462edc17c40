"""Swirl, black hole and blend: signs in a bleed's density that go with growth. Experimental.

Their authors read them by eye, on axial slices of about 5 mm. Here each is spelled out as far as pixels allow, and what
is left to the eye there (a "well-defined" margin) has a number here. No set with the signs read by people is at hand,
so how often these functions agree with readers is not known; tests show them on drawn lesions with noise.

Only a lesion's core is looked at: 2 mm inside of its outline, and with the lesion on the slices above and below. The
rest is partly brain, and dark for that reason.
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
"""A ball of 3 ml is 18 mm wide: its core has 14 mm, and lies on one or two slices of 5 mm."""

BLACK_HOLE_HU = 28.0
BLEND_HU = 18.0
SWIRL_HU = 15.0
BRAIN_HU = 40.0
"""Grey matter has about 40 HU, white matter about 30: what is no denser is iso- or hypodense to brain. In blood of 60
HU such an area is 20 HU darker; :data:`SWIRL_HU` keeps bleeds out that are hardly denser than brain as a whole."""

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
    """The slices of a lesion's core, cut to it: (slices, rows, columns), and the 90th percentile of each slice's HU."""

    inside: Mask
    deep: Mask
    hu: Values
    dense_hu: Floats
    spacing_mm: tuple[float, float]

    def px(self, area_mm2: float) -> float:
        return area_mm2 / (self.spacing_mm[0] * self.spacing_mm[1])


def detect_signs(mask: Mask, scan: Scan) -> Signs | None:
    """Look for the swirl sign, the black hole sign and the blend sign in one lesion.

    Dark areas that a mask leaves out are looked at too, where the lesion surrounds them on their slice. HU are smoothed
    to 2 mm in the plane, and thin slices to about 5 mm across.

    Black hole: an area of 12 mm² or more, and not more than half, that dense blood surrounds on its slice, and whose
    darker half has a median 28 HU or more below that of the dense rest of the slice.

    Blend: an area of 40 mm² or more, a tenth of the core and 5 mm wide, that reaches the core's edge (so it is not
    encapsulated), 18 HU or more below the dense rest, which is a tenth of the core or more. The margin counts as well
    defined if 70 % of that difference lie between the strips 1 to 4 mm on both sides of it.

    Swirl: 0.15 ml or more of 40 HU or less, as brain has, and 15 HU or more below the dense rest, on two slices on end
    or more and 7.5 mm tall (Ng: two slices of 5 mm), 4 mm inside of the outline: a mask drawn 3 mm too wide has a rim
    of brain, which is no swirl. A black hole or the dark side of a blend may be one as well.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        One lesion.
    scan : Scan
        Its scan.

    Returns
    -------
    Signs or None
        None where the scan is not calibrated, the spacing or a slice's weight is not known, the lesion has less than
        :data:`SMALLEST_ML`, or no slice of its core has 60 mm².

    Raises
    ------
    ValueError
        If the mask is not bool or not of the scan's shape.

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
    """Return a lesion's core, and the slice that its first is."""
    planes = scan.planes
    held = np.flatnonzero(areas_px(mask))
    rows, columns = np.flatnonzero(mask.any((0, 2))), np.flatnonzero(mask.any((0, 1)))
    box = tuple(slice(int(found[0]), int(found[-1]) + 1) for found in (held, rows, columns))
    filled = np.stack([ndimage.binary_fill_holes(plane) for plane in mask[box]])
    first = int(held[0])
    inside, deep = np.zeros_like(filled), np.zeros_like(filled)
    for index in range(1, len(filled) - 1):
        if filled[index].any():
            apart_mm = ndimage.distance_transform_edt(np.pad(filled[index], 1), sampling=planes.pixel_spacing_mm)
            inside[index] = (apart_mm > _RIM_MM)[1:-1, 1:-1] & _mark_covered(filled, index, planes, first)
            deep[index] = inside[index] & (apart_mm > _SWIRL_DEEP_MM)[1:-1, 1:-1]
    if areas_px(inside).max() * planes.pixel_area_mm2 < _CORE_MM2:
        return None, first
    smooth = _smooth_hu(scan.hu[box], filled, planes, first)
    dense = np.array(
        [np.percentile(hu[own], 90) if own.any() else np.nan for hu, own in zip(smooth, inside, strict=True)]
    )
    return _Core(inside, deep, smooth, dense, planes.pixel_spacing_mm), first


def _mark_covered(filled: Mask, index: int, planes: Planes, first: int) -> Mask:
    """Mark what has the lesion straight above and straight below it."""
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
    """Blur the HU inside of the lesion, without what lies around it."""
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
    """Number the parts of a slice's core that lie nearer to dark than to dense, if dark is so much below dense."""
    dark = core.inside[index] & (core.hu[index] < core.dense_hu[index] - below_hu / 2)
    parts, count = ndimage.label(dark, structure=np.ones((3, 3), dtype=bool))
    return parts, int(count)


def _has_black_hole(core: _Core, index: int) -> bool:
    parts, count = _label_dark_areas(core, index, BLACK_HOLE_HU)
    dense = core.inside[index] & (parts == 0)
    if not dense.any():
        return False
    dense_hu = float(np.median(core.hu[index][dense]))
    for number in range(1, count + 1):
        part = parts == number
        if not core.px(_HOLE_MM2) <= part.sum() <= dense.sum() or _reaches_edge(part, core.inside[index]):
            continue
        # A reader measures inside of it; its outer half is blurred.
        if dense_hu - float(np.percentile(core.hu[index][part], 25)) >= BLACK_HOLE_HU:
            return True
    return False


def _has_blend(core: _Core, index: int) -> bool:
    parts, count = _label_dark_areas(core, index, BLEND_HU)
    inside, hu = core.inside[index], core.hu[index]
    dense = inside & (parts == 0)
    least = max(core.px(_BLEND_MM2), _BLEND_SHARE * float(inside.sum()))
    if dense.sum() < least:
        return False
    dense_hu = float(np.median(hu[dense]))
    for number in range(1, count + 1):
        part = parts == number
        if part.sum() < least or not _reaches_edge(part, inside) or not _is_wide(part, core.spacing_mm):
            continue
        apart = dense_hu - float(np.median(hu[part]))
        if apart >= BLEND_HU and _margin_step_hu(part, dense, hu, core.spacing_mm) >= _MARGIN_SHARE * apart:
            return True
    return False


def _has_swirl(core: _Core, scan: Scan, first: int) -> bool:
    weights = scan.planes.weights_mm
    found = np.zeros(scan.shape[:1] + core.inside.shape[1:], dtype=bool)
    for index, inside in enumerate(core.inside):
        parts, count = _label_dark_areas(core, index, 2 * SWIRL_HU)
        dense = inside & (parts == 0)
        if count == 0 or not dense.any():
            continue
        dense_hu = float(np.median(core.hu[index][dense]))
        found[first + index] = core.deep[index] & (core.hu[index] <= min(BRAIN_HU, dense_hu - SWIRL_HU))
    part_scan = Scan(np.zeros(found.shape, np.int16), scan.planes)
    labels, count = components.label(found, part_scan)
    sizes = np.stack([np.bincount(plane.ravel(), minlength=count + 1)[1:] for plane in labels])
    large = weights @ sizes * scan.planes.pixel_area_mm2 / 1000 >= _SWIRL_ML
    tall = (np.count_nonzero(sizes, axis=0) >= 2) & (weights @ (sizes > 0) >= _SWIRL_TALL_MM)
    return bool((large & tall).any())


def _reaches_edge(part: Mask, inside: Mask) -> bool:
    """Return whether a part of the core touches what is not core."""
    around = np.pad(part, 1)
    grown = ndimage.binary_dilation(around, structure=np.ones((3, 3), dtype=bool))
    return bool((grown & ~np.pad(inside, 1)).any())


def _is_wide(part: Mask, spacing_mm: tuple[float, float]) -> bool:
    """Return whether a disc of 5 mm fits into a part."""
    apart_mm = ndimage.distance_transform_edt(np.pad(part, 1), sampling=spacing_mm)
    return bool(apart_mm.max() >= _BLEND_WIDTH_MM / 2)


def _margin_step_hu(part: Mask, dense: Mask, hu: Values, spacing_mm: tuple[float, float]) -> float:
    """Return how much denser the strip on the dense side of a part's margin is than the strip on the part's side."""
    near, far = _MARGIN_MM
    to_part = ndimage.distance_transform_edt(~part, sampling=spacing_mm)
    to_dense = ndimage.distance_transform_edt(~dense, sampling=spacing_mm)
    bright = hu[dense & (to_part >= near) & (to_part <= far)]
    dark = hu[part & (to_dense >= near) & (to_dense <= far)]
    if not bright.size or not dark.size:
        return 0.0
    return float(np.median(bright) - np.median(dark))
