"""The gate: a scan goes through with remarks, or is refused in one sentence. One function a row of the gate's table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from strokeseg.errors import InconsistentGeometry, NoHounsfield, NotHead
from strokeseg.reading import quality
from strokeseg.reading.head_detection import (
    MIN_AREA_SHARE,
    EnclosedTissue,
    TissueThresholds,
    find_enclosed_tissue,
    sample_slice_indices,
)
from strokeseg.result import Remark
from strokeseg.scan import Scan

_MIN_TILT_DEG = 0.5
_MAX_UNEVENNESS = 0.05
_MAX_STEP_MM = 6.0

_AIR_HU = np.int16(-1024)
_BELOW_AIR_HU = -2000
_KINDS_WITHOUT_PADDING_TAG = ("nifti", "nrrd", "metaimage")

_OFFSETS_HU = (1024, 1000)
_BRAIN_HU = 32.5  # the median inside the skull; three whole scans: 24, 28 and 33
_BRAIN_TOLERANCE_HU = 11.5  # under half of what the two offsets differ by: never near both
_AIR_TOLERANCE_HU = 11.5
_MIN_AIR_SHARE = 0.02

_SAMPLED_SLICES = 12
_MIN_AREA_SHARE = 0.02
_MIN_AREA_MM2 = 400.0  # the spinal canal has less, the smallest slice of a brain more
_MAX_RADIUS_MM = 105.0  # mean inner radius: of a skull about 70, of a rib cage about 130


def check_scan(scan: Scan) -> Scan:
    """Pass a scan on with what the gate repairs and remarks.

    Raises
    ------
    InconsistentGeometry
        `geometry`, if spacing, direction cosines or positions are no planes on which a length can be measured.
    NoHounsfield
        `no-hounsfield`, if the values cannot be Hounsfield units.
    NotHead
        `not-head`, if no slice shows a head.
    """
    if fault := scan.planes.describe_fault():
        raise InconsistentGeometry(fault)
    scan = fill_padding(scan)
    check_hounsfield_range(scan)
    scan = correct_hounsfield_offset(scan)
    if measure_head_area(scan) == 0:
        raise NotHead("no slice shows brain-like tissue of a head's size inside a ring of bone")
    rows = (check_gantry_tilt, check_missing_slices, check_uneven_spacing, check_single_slice, check_thick_slices)
    remarks = [remark for row in rows if (remark := row(scan)) is not None] + quality.check_quality(scan)
    known = {remark.code for remark in scan.remarks}
    return scan.with_remarks(*[remark for remark in remarks if remark.code not in known])


def fill_padding(scan: Scan) -> Scan:
    """Set to air what a converter put around the head: one value far below air, and nothing else there.

    DICOM names its padding, and its reader sees to it; the other volumes have no place to name it.
    """
    low = int(scan.hu.min())
    if scan.kind not in _KINDS_WITHOUT_PADDING_TAG or low >= _BELOW_AIR_HU:
        return scan
    below = scan.hu < _BELOW_AIR_HU
    if int(scan.hu[below].max()) != low:
        return scan
    message = f"{np.count_nonzero(below)} values of {low} are padding, no numbers; they were set to air."
    repaired = replace(scan, hu=np.where(below, _AIR_HU, scan.hu))
    return repaired.with_remarks(Remark(code="no-numbers", severity="repaired", message=message))


def check_hounsfield_range(scan: Scan) -> None:
    """Refuse values beyond any CT scale."""
    low, high = int(scan.hu.min()), int(scan.hu.max())
    if low == high:
        raise NotHead(f"every pixel has the value {low}")
    if scan.calibrated and (high < 20 or low < -9000):
        raise NoHounsfield(f"values reach from {low} to {high}: these are no Hounsfield units of a head")


def correct_hounsfield_offset(scan: Scan) -> Scan:
    """Take off the 1024 or 1000 that a lost rescale intercept leaves on every value, where it is certain which.

    Values are too high if they show twice as much of a head, or one at all, when lowered; the air in a sinus at 24 is
    like brain inside bone too, so that one look at the values as they are is not enough. The two offsets are told
    apart by two witnesses: brain, and the air around the head. Both must agree, for a wrong pick shifts every density
    by 24 HU.

    Raises
    ------
    NoHounsfield
        `no-hounsfield`, if the values are too high and the witnesses do not name one offset.
    """
    if not scan.calibrated:
        return scan
    few = _sample_slices(scan)
    area, found = measure_head_area(few), []
    for offset in _OFFSETS_HU:
        lowered = _subtract_offset(few, offset)
        if measure_head_area(lowered) > 2 * area:
            found.append((offset, _median_brain_hu(lowered), _median_air_hu(lowered)))
    if not found:
        return scan
    certain = [
        each
        for each in found
        if abs(each[1] - _BRAIN_HU) <= _BRAIN_TOLERANCE_HU and abs(each[2] + 1000) <= _AIR_TOLERANCE_HU
    ]
    if len(certain) != 1:
        offset, brain, air = found[0]
        raise NoHounsfield(
            f"the values are about {offset} above Hounsfield units (lowered, brain is at {brain:.0f} and air at "
            f"{air:.0f}), but not certainly so",
            f"Export the series with its rescale intercept, or subtract {offset} if you know that it is right.",
        )
    offset, brain, air = certain[0]
    message = (
        f"The values were {offset} above Hounsfield units and were lowered: brain is then at {brain:.0f} and the air "
        f"around the head at {air:.0f} HU."
    )
    return _subtract_offset(scan, offset).with_remarks(
        Remark(code="hounsfield-offset", severity="repaired", message=message)
    )


def _sample_slices(scan: Scan) -> Scan:
    """Give up to twelve slices: of a thin series' hundreds no second and third volume is made to be looked at."""
    picked = sample_slice_indices(len(scan.hu), _SAMPLED_SLICES)
    planes = replace(scan.planes, positions_mm=scan.planes.positions_mm[picked])
    return replace(scan, hu=scan.hu[picked], planes=planes, sop_instance_uids=())


def _subtract_offset(scan: Scan, offset: int) -> Scan:
    hu = np.maximum(scan.hu, offset - 32768)
    hu -= np.int16(offset)
    return replace(scan, hu=hu)


def _median_brain_hu(scan: Scan) -> float:
    seen = [found.values for found in _find_enclosed_tissues(scan) if _has_head_size(found, scan)]
    return float(np.median(np.concatenate(seen)))


def _median_air_hu(scan: Scan) -> float:
    """Return the median of what is near air, without the one value that padding or a cut scale heaps up."""
    near = scan.hu[:: max(1, len(scan.hu) // _SAMPLED_SLICES)]
    near = near[(near > -1100) & (near < -900)]
    values, counts = np.unique(near, return_counts=True)
    if values.size == 0:
        return 0.0
    heap = values[counts.argmax()]
    rest = near[near != heap]
    return float(np.median(rest)) if rest.size > _MIN_AIR_SHARE * near.size else float(heap)


def measure_head_area(scan: Scan) -> float:
    """Sum, over up to twelve slices, the share of each that is brain-range tissue of a head's size inside bone."""
    return sum(found.area_share for found in _find_enclosed_tissues(scan) if _has_head_size(found, scan))


def _find_enclosed_tissues(scan: Scan) -> list[EnclosedTissue]:
    levels = TissueThresholds.for_window(*scan.window) if scan.window else TissueThresholds.for_hounsfield()
    seen = (
        find_enclosed_tissue(scan.hu[index], levels, MIN_AREA_SHARE)
        for index in sample_slice_indices(len(scan.hu), _SAMPLED_SLICES)
    )
    return [found for found in seen if found is not None]


def _has_head_size(found: EnclosedTissue, scan: Scan) -> bool:
    if not found.is_head_like:
        return False
    if not scan.spacing_known:
        return found.area_share >= _MIN_AREA_SHARE
    pixels = found.area_share * scan.shape[1] * scan.shape[2]
    radius_mm = found.radius_px * max(scan.planes.pixel_spacing_mm)
    return pixels * scan.planes.pixel_area_mm2 >= _MIN_AREA_MM2 and radius_mm <= _MAX_RADIUS_MM


def check_gantry_tilt(scan: Scan) -> Remark | None:
    """Remark a tilted gantry, by positions."""
    tilt = scan.planes.tilt_deg
    if not scan.spacing_known or tilt < _MIN_TILT_DEG:
        return None
    message = (
        f"The gantry was tilted by {tilt:.1f} degrees (from the slices' positions); the planes are kept as they are."
    )
    return Remark(code="gantry-tilt", severity="info", message=message)


def check_missing_slices(scan: Scan) -> Remark | None:
    """Remark gaps in which slices are missing."""
    planes = scan.planes
    where = np.flatnonzero(planes.gaps_with_missing_slices)
    if where.size == 0:
        return None
    gaps = ", ".join(f"{planes.gaps_mm[index]:.1f} mm after slice {index + 1}" for index in where)
    message = f"Slices are missing: {gaps}. No slice stands for the tissue in between."
    return Remark(code="missing-slices", severity="warning", message=message, slices=[int(index) for index in where])


def check_uneven_spacing(scan: Scan) -> Remark | None:
    """Remark steps that differ by more than 5 %, missing slices apart."""
    gaps = scan.planes.gaps_mm[~scan.planes.gaps_with_missing_slices]
    if not scan.spacing_known or gaps.size == 0 or np.ptp(gaps) <= _MAX_UNEVENNESS * np.median(gaps):
        return None
    message = f"The slices are {gaps.min():.2f} to {gaps.max():.2f} mm apart; each counts with its own weight."
    return Remark(code="uneven-spacing", severity="info", message=message)


def check_single_slice(scan: Scan) -> Remark | None:
    """Warn of one slice alone."""
    if len(scan.hu) > 1:
        return None
    return Remark(code="single-slice", severity="warning", message="One slice only: bleeding elsewhere cannot be seen.")


def check_thick_slices(scan: Scan) -> Remark | None:
    """Warn of slices over 6 mm apart."""
    weights = scan.weights_mm
    if weights is None or np.median(weights) <= _MAX_STEP_MM:
        return None
    message = f"The slices are {np.median(weights):.1f} mm apart: small bleeds may be missed and volumes are rough."
    return Remark(code="thick-slices", severity="warning", message=message)
