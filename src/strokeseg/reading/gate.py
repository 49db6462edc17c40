"""The gate: every scan passes with remarks or is refused. One function for each row of the table in docs/gate.md."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import InconsistentGeometry, NoHounsfield, NotHead
from strokeseg.reading.head_check import keep_head
from strokeseg.reading.head_detection import (
    MIN_TISSUE_AREA_SHARE,
    EnclosedTissue,
    TissueThresholds,
    find_enclosed_tissue,
    sample_slice_indices,
)
from strokeseg.reading.quality import check_quality
from strokeseg.reading.scale import check_scale
from strokeseg.result import Remark
from strokeseg.scan import Scan

_MIN_TILT_DEG = 0.5
_MAX_UNEVENNESS = 0.05
_MAX_STEP_MM = 6.0

_AIR_HU = np.int16(-1024)
_BELOW_AIR_HU = -2000
_KINDS_WITHOUT_PADDING_TAG = ("nifti", "nrrd", "metaimage")

_OFFSETS_HU = (1024, 1000)
_BRAIN_HU = 32.5  # median inside the skull; 24, 28 and 33 in three whole scans
_BRAIN_TOLERANCE_HU = 11.5  # less than half the difference of the two offsets: a value is never near both
_AIR_TOLERANCE_HU = 11.5
_MIN_AIR_SHARE = 0.02

_MIN_ALIGNED_SLICES = 3
_ALIGNED_STEP = 4
_ALIGNED_RANGES_HU = ((-1200, -900), (-200, 200))  # air and soft tissue, on the slice with the lower values
_MIN_SCALE_STEP_HU = 500.0
_MAX_STEP_DIFFERENCE_HU = 100.0

_SAMPLED_SLICES = 12
_MIN_HEAD_AREA_SHARE = 0.02
_MIN_HEAD_AREA_MM2 = 400.0  # the spinal canal has less, the smallest slice of a brain more
_MAX_HEAD_RADIUS_MM = 105.0  # mean inner radius; about 70 of a skull, about 130 of a rib cage


def check_scan(scan: Scan) -> Scan:
    """Check a scan, repair it where possible, and add remarks.

    Parameters
    ----------
    scan : Scan
        The scan as it was read.

    Returns
    -------
    Scan
        The scan with repairs and remarks.

    Raises
    ------
    InconsistentGeometry
        `geometry`, if lengths cannot be measured with its spacing, direction cosines or positions, or the head has an
        impossible size.
    NoHounsfield
        `no-hounsfield`, if the values cannot be Hounsfield units.
    NotHead
        `not-head`, if too few slices show a head.
    """
    if fault := scan.planes.describe_fault():
        raise InconsistentGeometry(fault)
    scan = fill_padding(scan)
    check_hounsfield_range(scan)
    scan = align_slice_scales(scan)
    scan = keep_head(check_scale(correct_hounsfield_offset(scan)))
    checks = (check_gantry_tilt, check_missing_slices, check_uneven_spacing, check_single_slice, check_thick_slices)
    remarks = [remark for check in checks if (remark := check(scan)) is not None] + check_quality(scan)
    codes = {remark.code for remark in scan.remarks}
    return scan.with_remarks(*[remark for remark in remarks if remark.code not in codes])


def fill_padding(scan: Scan) -> Scan:
    """Set padding around the head to air: a single value far below air, if no other value lies there.

    DICOM headers state the padding value, and the DICOM reader applies it; other volumes cannot state it.

    Parameters
    ----------
    scan : Scan
        The scan.

    Returns
    -------
    Scan
        The scan, with remark `no-numbers` if padding was filled.
    """
    lowest = int(scan.hu.min())
    if scan.kind not in _KINDS_WITHOUT_PADDING_TAG or lowest >= _BELOW_AIR_HU:
        return scan
    if any((plane[plane < _BELOW_AIR_HU] != lowest).any() for plane in scan.hu):
        return scan
    hu = scan.hu.copy()
    is_padding = hu == lowest
    hu[is_padding] = _AIR_HU
    message = f"{np.count_nonzero(is_padding)} values of {lowest} are padding; they were set to air."
    repaired = replace(scan, hu=hu)
    return repaired.with_remarks(Remark(code="no-numbers", severity="repaired", message=message))


def check_hounsfield_range(scan: Scan) -> None:
    """Refuse values outside any CT scale.

    Parameters
    ----------
    scan : Scan
        The scan.

    Raises
    ------
    NotHead
        `not-head`, if all pixels have one value.
    NoHounsfield
        `no-hounsfield`, if a calibrated scan's values are outside any CT scale.
    """
    lowest, highest = int(scan.hu.min()), int(scan.hu.max())
    if lowest == highest:
        raise NotHead(f"every pixel has the value {lowest}")
    if scan.calibrated and (highest < 20 or lowest < -9000):
        raise NoHounsfield(f"values range from {lowest} to {highest}: these are not Hounsfield units of a head")


def align_slice_scales(scan: Scan) -> Scan:
    """Lower slices whose scale is 1024 or 1000 above that of their neighbours: a rescale intercept was lost.

    Neighbouring slices show nearly the same pixels. Where air and tissue both step by the same amount from one slice to
    the next, the scale has changed, not the anatomy. The scale of most slices is kept.

    Parameters
    ----------
    scan : Scan
        The scan.

    Returns
    -------
    Scan
        The scan, with remark `hounsfield-offset` if slices were changed.

    Raises
    ------
    NoHounsfield
        `no-hounsfield`, if the slices' scales differ by another amount, or slices are too low.
    """
    if not scan.calibrated or len(scan.hu) < _MIN_ALIGNED_SLICES:
        return scan
    coarse = scan.hu[:, ::_ALIGNED_STEP, ::_ALIGNED_STEP].astype(np.int32)
    steps = [_measure_scale_step(low, high) for low, high in pairwise(coarse)]
    if not any(steps):
        return scan
    levels = np.concatenate([[0.0], np.cumsum(steps)])
    nearest = np.array([np.abs(levels - level) < _MIN_SCALE_STEP_HU for level in levels]).sum(1)
    offsets = levels - np.median(levels[np.abs(levels - levels[nearest.argmax()]) < _MIN_SCALE_STEP_HU])
    indices = np.flatnonzero(np.abs(offsets) >= _MIN_SCALE_STEP_HU)
    known = np.array(_OFFSETS_HU)
    distances = np.abs(offsets[indices][:, None] - known)
    if (distances.min(1) > _AIR_TOLERANCE_HU).any():
        worst = int(indices[distances.min(1).argmax()])
        message = f"slice {worst + 1} is about {offsets[worst]:.0f} HU off the scale of most slices"
        raise NoHounsfield(message, "Export the series again with the rescale intercept of each slice.")
    hu = scan.hu.copy()
    for index, offset in zip(indices, known[distances.argmin(1)], strict=True):
        lowered = np.clip(hu[index].astype(np.int32) - offset, -32768, 32767).astype(np.int16)
        hu[index] = np.where(hu[index] <= _AIR_HU, hu[index], lowered)  # padding stays air
    amounts = ", ".join(f"{offset}" for offset in sorted({int(each) for each in known[distances.argmin(1)]}))
    message = f"{len(indices)} slices were {amounts} HU above the scale of the other slices and were lowered."
    slices = [int(index) for index in indices]
    remark = Remark(code="hounsfield-offset", severity="repaired", message=message, slices=slices)
    return replace(scan, hu=hu).with_remarks(remark)


def _measure_scale_step(low: NDArray[np.int32], high: NDArray[np.int32]) -> float:
    """Return by how much the scale rises from a slice to the next, HU; 0 if air and tissue do not rise alike."""
    lowest, difference = np.minimum(low, high), high - low
    inside = np.maximum(low, high) > _AIR_HU
    steps = []
    for first, last in _ALIGNED_RANGES_HU:
        values = difference[inside & (lowest > first) & (lowest < last)]
        if values.size < _MIN_AIR_SHARE * difference.size:
            return 0.0
        steps.append(float(np.median(values)))
    if min(abs(step) for step in steps) < _MIN_SCALE_STEP_HU or np.ptp(steps) > _MAX_STEP_DIFFERENCE_HU:
        return 0.0
    return steps[0]


def correct_hounsfield_offset(scan: Scan) -> Scan:
    """Subtract the offset of 1024 or 1000 that a lost rescale intercept leaves, if it is certain which of the two.

    Values are too high if they show a head only, or twice as much of a head, after an offset is subtracted. The values
    as they are do not suffice: air in a sinus at 24 looks like brain inside bone. The offset is determined from two
    densities, brain and the air around the head. Both must agree, because the wrong offset shifts every density by
    24 HU.

    Parameters
    ----------
    scan : Scan
        The scan.

    Returns
    -------
    Scan
        The scan, with remark `hounsfield-offset` if an offset was subtracted.

    Raises
    ------
    NoHounsfield
        `no-hounsfield`, if the values are too high and brain and air do not agree on one offset.
    """
    if not scan.calibrated:
        return scan
    sample = _sample_slices(scan)
    area, candidates = measure_head_area(sample), []
    for offset in _OFFSETS_HU:
        lowered = _subtract_offset(sample, offset)
        if measure_head_area(lowered) > 2 * area:
            candidates.append((offset, _median_brain_hu(lowered), _median_air_hu(lowered)))
    if not candidates:
        return scan
    certain = [
        (offset, brain_hu, air_hu)
        for offset, brain_hu, air_hu in candidates
        if abs(brain_hu - _BRAIN_HU) <= _BRAIN_TOLERANCE_HU and abs(air_hu + 1000) <= _AIR_TOLERANCE_HU
    ]
    if len(certain) != 1:
        offset, brain_hu, air_hu = candidates[0]
        raise NoHounsfield(
            f"the values are about {offset} above Hounsfield units, but this is not certain: after subtraction brain "
            f"is at {brain_hu:.0f} and air at {air_hu:.0f}",
            f"Export the series with its rescale intercept, or subtract {offset} if you know that it is right.",
        )
    offset, brain_hu, air_hu = certain[0]
    message = (
        f"The values were {offset} above Hounsfield units and were lowered: brain is now at {brain_hu:.0f} HU, the air "
        f"around the head at {air_hu:.0f} HU."
    )
    remark = Remark(code="hounsfield-offset", severity="repaired", message=message)
    return _subtract_offset(scan, offset).with_remarks(remark)


def _sample_slices(scan: Scan) -> Scan:
    """Return up to twelve slices, so that a thin series of hundreds is not copied two and three times."""
    indices = sample_slice_indices(len(scan.hu), _SAMPLED_SLICES)
    planes = replace(scan.planes, positions_mm=scan.planes.positions_mm[indices])
    return replace(scan, hu=scan.hu[indices], planes=planes, sop_instance_uids=())


def _subtract_offset(scan: Scan, offset: int) -> Scan:
    hu = np.maximum(scan.hu, offset - 32768)
    hu -= np.int16(offset)
    return replace(scan, hu=hu)


def _median_brain_hu(scan: Scan) -> float:
    values = [tissue.values for tissue in _find_enclosed_tissues(scan) if _has_head_size(tissue, scan)]
    return float(np.median(np.concatenate(values)))


def _median_air_hu(scan: Scan) -> float:
    """Return the median of values near air, without the most frequent value, to which padding or a cut scale adds."""
    near_air = scan.hu[:: max(1, len(scan.hu) // _SAMPLED_SLICES)]
    near_air = near_air[(near_air > -1100) & (near_air < -900)]
    values, counts = np.unique(near_air, return_counts=True)
    if values.size == 0:
        return 0.0
    most_frequent = values[counts.argmax()]
    rest = near_air[near_air != most_frequent]
    return float(np.median(rest)) if rest.size > _MIN_AIR_SHARE * near_air.size else float(most_frequent)


def measure_head_area(scan: Scan) -> float:
    """Sum the share of brain-range tissue of a head's size inside bone over up to twelve slices.

    Parameters
    ----------
    scan : Scan
        The scan.
    """
    return sum(tissue.area_share for tissue in _find_enclosed_tissues(scan) if _has_head_size(tissue, scan))


def _find_enclosed_tissues(scan: Scan) -> list[EnclosedTissue]:
    thresholds = TissueThresholds.for_window(*scan.window) if scan.window else TissueThresholds.for_hounsfield()
    tissues = (
        find_enclosed_tissue(scan.hu[index], thresholds, MIN_TISSUE_AREA_SHARE)
        for index in sample_slice_indices(len(scan.hu), _SAMPLED_SLICES)
    )
    return [tissue for tissue in tissues if tissue is not None]


def _has_head_size(tissue: EnclosedTissue, scan: Scan) -> bool:
    if not tissue.is_head_like:
        return False
    if not scan.spacing_known:
        return tissue.area_share >= _MIN_HEAD_AREA_SHARE
    pixels = tissue.area_share * scan.shape[1] * scan.shape[2]
    radius_mm = tissue.radius_px * max(scan.planes.pixel_spacing_mm)
    return pixels * scan.planes.pixel_area_mm2 >= _MIN_HEAD_AREA_MM2 and radius_mm <= _MAX_HEAD_RADIUS_MM


def check_gantry_tilt(scan: Scan) -> Remark | None:
    """Report a tilted gantry (`gantry-tilt`), by the slices' positions."""
    tilt = scan.planes.tilt_deg
    if not scan.spacing_known or tilt < _MIN_TILT_DEG:
        return None
    message = f"The gantry was tilted by {tilt:.1f} degrees (from the slices' positions); the slices keep their planes."
    return Remark(code="gantry-tilt", severity="info", message=message)


def check_missing_slices(scan: Scan) -> Remark | None:
    """Report gaps in which slices are missing (`missing-slices`)."""
    planes = scan.planes
    indices = np.flatnonzero(planes.gaps_with_missing_slices)
    if indices.size == 0:
        return None
    gaps = ", ".join(f"{planes.gaps_mm[index]:.1f} mm after slice {index + 1}" for index in indices)
    message = f"Slices are missing: {gaps}. No slice represents the tissue in between."
    return Remark(code="missing-slices", severity="warning", message=message, slices=[int(index) for index in indices])


def check_uneven_spacing(scan: Scan) -> Remark | None:
    """Report steps that differ by more than 5 %, apart from missing slices (`uneven-spacing`)."""
    gaps = scan.planes.gaps_mm[~scan.planes.gaps_with_missing_slices]
    if not scan.spacing_known or gaps.size == 0 or np.ptp(gaps) <= _MAX_UNEVENNESS * np.median(gaps):
        return None
    message = f"The slices are {gaps.min():.2f} to {gaps.max():.2f} mm apart; each counts with its own weight."
    return Remark(code="uneven-spacing", severity="info", message=message)


def check_single_slice(scan: Scan) -> Remark | None:
    """Warn of a single slice (`single-slice`)."""
    if len(scan.hu) > 1:
        return None
    message = "One slice only: hemorrhage elsewhere cannot be seen."
    return Remark(code="single-slice", severity="warning", message=message)


def check_thick_slices(scan: Scan) -> Remark | None:
    """Warn of slices more than 6 mm apart (`thick-slices`)."""
    weights = scan.weights_mm
    if weights is None or np.median(weights) <= _MAX_STEP_MM:
        return None
    message = (
        f"The slices are {np.median(weights):.1f} mm apart: small lesions may be missed, and volumes are imprecise."
    )
    return Remark(code="thick-slices", severity="warning", message=message)
