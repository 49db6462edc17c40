"""How comparable two scans are: remarks on order, protocols, coverage and missing values."""

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
    """Return whether both scans have a patient ID and the two differ; the IDs themselves are never shown.

    Parameters
    ----------
    earlier, later : Scan
        The scans.

    Returns
    -------
    bool
        True if both are known and differ.
    """
    ids = _read_both(earlier, later, "PatientID")
    return ids is not None and ids[0] != ids[1]


def check_order(earlier: Scan, later: Scan) -> list[Remark]:
    """Warn if the later scan was acquired before the earlier one; the dates themselves are never shown.

    Parameters
    ----------
    earlier, later : Scan
        The scans.

    Returns
    -------
    list of Remark
        The warning, or nothing.
    """
    dates, times = _read_both(earlier, later, "StudyDate"), _read_both(earlier, later, "StudyTime")
    if dates is None or dates[0] < dates[1]:
        return []
    # Times are HH, HHMM, HHMMSS or HHMMSS.FFFFFF: only the common digits are compared.
    length = 0 if times is None else min(map(len, times))
    if dates[0] == dates[1] and (times is None or times[0][:length] <= times[1][:length]):
        return []
    message = "By date, the scan passed as the later one was acquired first: reported growth may be the reverse."
    return [make_warning(code="order-doubtful", message=message)]


def check_protocols(earlier: Scan, later: Scan, is_same_model: bool) -> list[Remark]:
    """Describe in one remark how the acquisition of the two scans differs.

    Parameters
    ----------
    earlier, later : Scan
        The scans.
    is_same_model : bool
        Whether one model segmented both.

    Returns
    -------
    list of Remark
        One warning, or nothing.
    """
    scans = (earlier, later)
    differences = []
    steps = [float(np.median(scan.planes.weights_mm)) for scan in scans]
    if max(steps) > _SPACING_RATIO * min(steps):
        differences.append(f"slice spacing {steps[0]:.1f} and {steps[1]:.1f} mm")
    pixels = [max(scan.planes.pixel_spacing_mm) for scan in scans]
    if max(pixels) > _SPACING_RATIO * min(pixels):
        differences.append(f"pixel spacing {pixels[0]:.2f} and {pixels[1]:.2f} mm")
    tilts = [scan.planes.tilt_deg for scan in scans]
    if abs(tilts[0] - tilts[1]) > _TILT_DIFFERENCE_DEG:
        differences.append(f"gantry tilt {tilts[0]:.0f} and {tilts[1]:.0f} degrees")
    if scans[0].calibrated != scans[1].calibrated:
        differences.append("Hounsfield units in one scan, grey levels of a picture in the other")
    codes = [{remark.code for remark in scan.remarks} for scan in scans]
    for code, name in _SCAN_CONDITIONS.items():
        if (code in codes[0]) != (code in codes[1]):
            differences.append(f"{name} in the {'earlier' if code in codes[0] else 'later'} scan only")
    if not is_same_model:
        differences.append("two models")
    if not differences:
        return []
    message = f"The scans differ in acquisition or processing, which alone changes volumes: {'; '.join(differences)}."
    return [make_warning(code="other-protocol", message=message)]


def check_coverage(change: Change, shared: float) -> list[Remark]:
    """Describe which lesions a scan does not cover, or that a scan covers less of the head.

    Parameters
    ----------
    change : Change
        The change.
    shared : float
        Common coverage, as in :class:`strokeseg.followup.registration.Alignment`.

    Returns
    -------
    list of Remark
        One remark, or nothing.
    """
    not_covered = sum(lesion.kind == "not-covered" for lesion in change.lesions)
    cut = sum(lesion.kind == "cut" for lesion in change.lesions)
    partial = sum(lesion.cut and lesion.kind in ("new", "gone") for lesion in change.lesions)
    counts = {
        "outside the coverage of the other scan": not_covered,
        "cut off by the end of a scan, so that the change is unknown": cut,
        "new or gone, but partly outside the coverage of the other scan": partial,
    }
    if any(counts.values()):
        parts = "; ".join(f"{count} {description}" for description, count in counts.items() if count)
        excluded = " Lesions that are cut off or not covered are excluded from the total volumes."
        message = f"Lesions with incomplete coverage: {parts}.{excluded if not_covered or cut else ''}"
        return [make_warning(code="lesion-not-covered", message=message)]
    if shared < _MIN_SHARED:
        message = f"One scan covers only {shared:.0%} of the skull that the other covers. All lesions are covered."
        return [Remark(code="other-coverage", severity="info", message=message)]
    return []


def explain_missing_values(change: Change) -> list[Remark]:
    """Explain why a value that the reader expects is null.

    Parameters
    ----------
    change : Change
        The change.

    Returns
    -------
    list of Remark
        One remark, or nothing.
    """
    if change.change_ml is None:
        message = "The change is unknown: a volume is unknown, or no lesion is completely covered by both scans."
        return [make_warning(code="change-unknown", message=message)]
    if change.growth is None and change.earlier_ml == 0:
        message = "The earlier scan has no hemorrhage: it is new. Growth is defined for an existing hemorrhage only."
        return [make_warning(code="new-bleeding", message=message)]
    if change.change_interval_ml is None and (change.earlier_ml or change.later_ml):
        message = "A volume has no interval, so it is unknown whether the change exceeds the error."
        return [Remark(code="change-unsure", severity="info", message=message)]
    return []


def make_warning(code: str, message: str) -> Remark:
    """Make a remark of severity "warning"."""
    return Remark(code=code, severity="warning", message=message)


def _read_both(earlier: Scan, later: Scan, keyword: str) -> tuple[str, str] | None:
    """Return an attribute of both series; None if one of them has no value, or was de-identified."""
    if earlier.source is None or later.source is None or earlier.source.deidentified or later.source.deidentified:
        return None
    values = (earlier.source.attribute(keyword).strip(), later.source.attribute(keyword).strip())
    return values if all(values) else None
