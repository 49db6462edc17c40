"""What a reader of a comparison must know: other protocols, what one scan does not show, and what cannot be said."""

from __future__ import annotations

import numpy as np

from strokeseg.followup.document import Change
from strokeseg.result import Remark
from strokeseg.scan import Scan

_SPACING_RATIO = 1.5
_TILT_DIFFERENCE_DEG = 5.0
_MIN_SHARED = 0.8

_SCAN_CONDITIONS = {
    "contrast-medium": "contrast medium",
    "sharp-kernel": "a sharp kernel",
    "metal": "metal",
    "motion": "motion",
    "missing-slices": "missing slices",
}


def have_different_patient_ids(earlier: Scan, later: Scan) -> bool:
    """Return whether both carry a patient's number and the two differ; the numbers themselves are never shown."""
    numbers = _read_both(earlier, later, "PatientID")
    return numbers is not None and numbers[0] != numbers[1]


def check_order(earlier: Scan, later: Scan) -> list[Remark]:
    """Warn where the two were given in the other order than they were made; the dates themselves are never shown."""
    days, times = _read_both(earlier, later, "StudyDate"), _read_both(earlier, later, "StudyTime")
    if days is None or days[0] < days[1]:
        return []
    # Times are HH, HHMM, HHMMSS or HHMMSS.FFFFFF: what both state is compared.
    length = 0 if times is None else min(map(len, times))
    if days[0] == days[1] and (times is None or times[0][:length] <= times[1][:length]):
        return []
    message = "By its date the scan given as the later one was made first: what is told as growth may be the reverse."
    return [make_warning(code="order-doubtful", message=message)]


def _read_both(earlier: Scan, later: Scan, keyword: str) -> tuple[str, str] | None:
    """Return what both series say under a keyword; None where one of them says nothing, or was de-identified."""
    if earlier.source is None or later.source is None or earlier.source.deidentified or later.source.deidentified:
        return None
    said = (earlier.source.attribute(keyword).strip(), later.source.attribute(keyword).strip())
    return said if all(said) else None


def check_protocols(earlier: Scan, later: Scan, same_network: bool) -> list[Remark]:
    """Say in which way the two were scanned differently, one remark for all."""
    scans = (earlier, later)
    differs = []
    steps = [float(np.median(scan.planes.weights_mm)) for scan in scans]
    if max(steps) > _SPACING_RATIO * min(steps):
        differs.append(f"slices {steps[0]:.1f} and {steps[1]:.1f} mm apart")
    pixels = [max(scan.planes.pixel_spacing_mm) for scan in scans]
    if max(pixels) > _SPACING_RATIO * min(pixels):
        differs.append(f"pixels of {pixels[0]:.2f} and {pixels[1]:.2f} mm")
    tilts = [scan.planes.tilt_deg for scan in scans]
    if abs(tilts[0] - tilts[1]) > _TILT_DIFFERENCE_DEG:
        differs.append(f"a gantry tilt of {tilts[0]:.0f} and {tilts[1]:.0f} degrees")
    if scans[0].calibrated != scans[1].calibrated:
        differs.append("Hounsfield units in one and a picture's grey levels in the other")
    codes = [{remark.code for remark in scan.remarks} for scan in scans]
    for code, words in _SCAN_CONDITIONS.items():
        if (code in codes[0]) != (code in codes[1]):
            differs.append(f"{words} in the {'earlier' if code in codes[0] else 'later'} one only")
    if not same_network:
        differs.append("two networks")
    if not differs:
        return []
    message = f"The two scans were made differently, which alone changes volumes: {'; '.join(differs)}."
    return [make_warning(code="other-protocol", message=message)]


def check_coverage(found: Change, shared: float) -> list[Remark]:
    """Say which lesions one of the scans does not show, or that it shows less of the head."""
    remarks = []
    outside = sum(lesion.kind == "not-covered" for lesion in found.lesions)
    cut = sum(lesion.kind == "cut" for lesion in found.lesions)
    edge = sum(lesion.cut and lesion.kind in ("new", "gone") for lesion in found.lesions)
    parts = {
        "lie where the other scan shows nothing": outside,
        "are cut by the end of a scan, so that their change cannot be told": cut,
        "are new or gone, but lie partly where the other scan shows nothing": edge,
    }
    if any(parts.values()):
        said = "; ".join(f"{count} {words}" for words, count in parts.items() if count)
        left_out = " Those cut or not shown are left out of the volumes in all." if outside or cut else ""
        remarks.append(make_warning(code="lesion-not-covered", message=f"Of the lesions {said}.{left_out}"))
    elif shared < _MIN_SHARED:
        remarks.append(
            Remark(
                code="other-coverage",
                severity="info",
                message=f"One scan shows only {shared:.0%} of the skull that the other shows; "
                "no lesion lies outside of either.",
            )
        )
    return remarks


def explain_missing_values(found: Change) -> list[Remark]:
    """Say why a number that the reader expects is null."""
    if found.change_ml is None:
        message = "No change is given: a volume is not known, or no lesion is wholly shown by both scans."
        return [make_warning(code="change-unknown", message=message)]
    if found.growth is None and found.earlier_ml == 0:
        message = "There was no bleeding before: it is new, and growth is defined for a bleed that was there."
        return [make_warning(code="new-bleeding", message=message)]
    if found.change_interval_ml is None and (found.earlier_ml or found.later_ml):
        message = "A volume has no interval, so it is not told whether the change is more than the error."
        return [Remark(code="change-unsure", severity="info", message=message)]
    return []


def make_warning(code: str, message: str) -> Remark:
    """Make a remark that warns."""
    return Remark(code=code, severity="warning", message=message)
