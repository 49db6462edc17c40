"""From a scan and a mask to `Findings`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.imaging import components
from strokeseg.imaging.components import Labels
from strokeseg.measurements.head import location, midline, midplane
from strokeseg.measurements.head.coarse_head import CoarseHead, sample_head
from strokeseg.measurements.head.location import Locations
from strokeseg.measurements.head.midline import MidlineShift, ShiftNotMeasured
from strokeseg.measurements.head.midplane import Midplane
from strokeseg.measurements.ich_score import compute_ich_score_parts
from strokeseg.measurements.lesion import signs, types
from strokeseg.measurements.lesion.abc2 import abc2_differs, abc2_ml
from strokeseg.measurements.lesion.shape import density_hu, max_diameter_mm, sphericity, surface_mm2
from strokeseg.measurements.lesion.volume import centroid_lps_mm, volume_ml
from strokeseg.result import Findings, Lesion, Remark, are_sides_known
from strokeseg.scan import Scan

Mask = NDArray[np.bool_]

# A mask that marks a larger share of the brain outlines the head, not a hemorrhage.
_MAX_BRAIN_SHARE = 0.6


@dataclass(frozen=True)
class _HeadMeasurements:
    """Measurements of the head as a whole; None if no brain, or no mid-sagittal plane, is detected."""

    head: CoarseHead | None
    midplane: Midplane | None
    locations: Locations | None
    shift: MidlineShift | ShiftNotMeasured


def compute_findings(
    scan: Scan,
    mask: Any,
    probability: NDArray[np.floating[Any]] | None,
    dropped_specks: int,
    experimental: bool,
    labels: Labels | None = None,
) -> Findings:
    """Measure a mask; see :func:`strokeseg.measurements.measure`.

    Parameters
    ----------
    scan : Scan
        The scan.
    mask : array_like, shape (slices, rows, columns)
        The mask.
    probability : ndarray of float or None, shape (slices, rows, columns)
        Probability map.
    dropped_specks : int
        Number of components that the segmentation dropped.
    experimental : bool
        Whether to detect signs and types.
    labels : ndarray of int, shape (slices, rows, columns), optional
        Lesion ids of the mask as :func:`strokeseg.imaging.components.label` returns them, if computed already.

    Returns
    -------
    Findings
        The measurements.

    Raises
    ------
    ValueError
        If the input is invalid.
    """
    values = np.asarray(mask)
    if values.shape != scan.shape:
        raise ValueError(f"the mask has shape {values.shape}, the scan {scan.shape}")
    if values.dtype != bool and not np.isin(values, (0, 1)).all():
        raise ValueError("the mask must contain only 0 and 1")
    if fault := scan.planes.describe_fault():
        raise ValueError(fault)
    marked = values.astype(bool)
    if labels is None:
        labels, _ = components.label(marked, scan)
    count = int(labels.max(initial=0))
    checked = None if probability is None else _validate_probability(probability, marked)
    whole = _measure_head(scan, marked, labels, count)
    lesions = [
        _measure_lesion(number, lesion, part, None if checked is None else checked[:, *box])
        for number, (lesion, part, box) in enumerate(components.iterate_components(labels, scan), start=1)
    ]
    lesions = [_add_location(lesion, index, scan, labels, whole, experimental) for index, lesion in enumerate(lesions)]
    volumes = [lesion.volume_ml for lesion in lesions]
    findings = Findings(
        hemorrhage=bool(lesions),
        confidence=None,
        volume_ml=None
        if scan.weights_mm is None or scan.planes.has_key_slices
        else round(sum(v for v in volumes if v is not None), 3),
        dropped_specks=dropped_specks,
        lesions=lesions,
        **_head_fields(whole, scan),
    )
    parts = compute_ich_score_parts(lesions, findings.intraventricular)
    return findings.model_copy(update={"ich_score_parts": parts, "remarks": _collect_remarks(findings, scan, whole)})


def _validate_probability(probability: Any, mask: Mask) -> NDArray[np.floating[Any]]:
    values = np.asarray(probability)
    if values.shape != mask.shape:
        raise ValueError(f"the probability map has shape {values.shape}, the scan {mask.shape}")
    # Both comparisons are False for NaN.
    if values.dtype.kind not in "fiub" or not ((values[mask] >= 0) & (values[mask] <= 1)).all():
        raise ValueError("the probability map must contain numbers from 0 to 1")
    return values


def _measure_head(scan: Scan, mask: Mask, labels: Labels, count: int) -> _HeadMeasurements:
    """Measure the head as a whole, unless no brain is detected or the mask fills the head."""
    head = sample_head(scan, mask)
    if head is None:
        return _HeadMeasurements(
            None, None, None, ShiftNotMeasured("no-plane", "The midline shift was not measured: no brain was detected.")
        )
    if head.blood[head.brain].mean() > _MAX_BRAIN_SHARE:
        return _HeadMeasurements(
            None,
            None,
            None,
            ShiftNotMeasured("no-plane", "The midline shift was not measured: the mask fills the head."),
        )
    plane = midplane.find_midplane(head)
    return _HeadMeasurements(
        head, plane, location.locate_lesions(labels, count, head, plane), midline.measure_shift(head, plane)
    )


def _measure_lesion(number: int, mask: Mask, scan: Scan, probability: NDArray[np.floating[Any]] | None) -> Lesion:
    """Measure one lesion on the part of the scan that contains it."""
    slices = np.flatnonzero(mask.any((1, 2)))
    density = density_hu(mask, scan)
    volume, surface = volume_ml(mask, scan), surface_mm2(mask, scan)
    return Lesion(
        id=number,
        pixels=int(mask.sum()),
        slices=(int(slices[0]), int(slices[-1])),
        probability=None if probability is None else round(float(np.mean(probability[mask], dtype=np.float64)), 3),
        volume_ml=_round(volume, 3),
        abc2_ml=_round(abc2_ml(mask, scan), 3),
        max_diameter_mm=_round(max_diameter_mm(mask, scan), 1),
        surface_mm2=_round(surface, 1),
        sphericity=_round(sphericity(volume, surface), 3),
        mean_hu=None if density is None else round(density[0], 1),
        std_hu=None if density is None else _round(density[1], 1),
        centroid_lps_mm=centroid_lps_mm(mask, scan),
    )


def _add_location(
    lesion: Lesion, index: int, scan: Scan, labels: Labels, whole: _HeadMeasurements, experimental: bool
) -> Lesion:
    """Add a lesion's location and, on request, the experimental measures."""
    fields: dict[str, Any] = {"side": "unsure", "tentorium": "unsure", "place": "unsure"}
    if whole.locations is not None:
        place, blood = whole.locations.lesions[index], whole.locations.ventricular_blood
        fields = {"side": place.side, "tentorium": place.tentorium, "place": place.place}
        if blood is not None and scan.weights_mm is not None:
            fields["intraventricular_ml"] = round(blood.lesions_ml[index], 3)
    if experimental:
        mask = labels == lesion.id
        fields["signs"] = signs.detect_signs(mask, scan)
        probabilities = types.predict_probabilities(scan, mask, whole.head, whole.midplane)
        fields["type_probabilities"] = (
            None if probabilities is None else {k: round(v, 3) for k, v in probabilities.items()}
        )
    return lesion.model_copy(update=fields)


def _head_fields(whole: _HeadMeasurements, scan: Scan) -> dict[str, Any]:
    """Return the fields of `Findings` that concern all lesions together, and the midline shift."""
    fields: dict[str, Any] = {}
    locations, shift = whole.locations, whole.shift
    if locations is not None:
        fields["side"] = locations.side
        if locations.ventricular_blood is not None and locations.side is not None:
            blood = locations.ventricular_blood
            fields["intraventricular"] = blood.present
            if scan.weights_mm is not None:
                fields["intraventricular_ml"] = round(blood.total_ml, 3)
                fields["ventricular_share"] = _round(blood.share, 3)
    if isinstance(shift, MidlineShift):
        fields["midline_shift_mm"] = round(shift.shift_mm, 1)
        fields["midline_shift_side"] = shift.side if are_sides_known(scan.remarks) else None
        fields["midline"] = shift.midline
    return fields


def _collect_remarks(findings: Findings, scan: Scan, whole: _HeadMeasurements) -> list[Remark]:
    """Collect the remarks on measures that are missing or disagree."""
    remarks = []
    if not scan.spacing_known:
        message = "The pixel spacing is unknown, so no value in mm or ml is reported; pass --spacing slice,row,column."
        remarks.append(Remark(code="spacing-unknown", severity="warning", message=message))
    elif scan.weights_mm is None:
        message = "A single slice of unknown thickness has no volume; lengths in its plane are reported."
        if len(scan.hu) > 1:
            message = "Slices far apart, of unknown thickness, have no volume; lengths in their planes are reported."
        remarks.append(Remark(code="thickness-unknown", severity="warning", message=message))
    elif scan.planes.has_key_slices:
        message = (
            f"{len(scan.hu)} slices up to {scan.planes.gaps_mm.max():.0f} mm apart are not a whole scan: the volume of "
            "a lesion is that on these slices, and no total volume is reported."
        )
        remarks.append(Remark(code="key-slices", severity="warning", message=message))
    if isinstance(whole.shift, ShiftNotMeasured) and scan.spacing_known:
        remarks.append(Remark(code="midline-not-measured", severity="info", message=whole.shift.message))
    if findings.hemorrhage and (whole.locations is None or whole.locations.ventricular_blood is None):
        message = "The location of the hemorrhage is incomplete: the scan shows too little of the head."
        remarks.append(Remark(code="place-unsure", severity="info", message=message))
    if differing := [lesion for lesion in findings.lesions if abc2_differs(lesion.abc2_ml, lesion.volume_ml)]:
        listing = ", ".join(
            f"{lesion.id} ({lesion.abc2_ml:.1f} ml, measured {lesion.volume_ml:.1f} ml)" for lesion in differing
        )
        message = (
            f"ABC/2 differs by more than 30 % from the measured volume: lesion {listing}. ABC/2 is too low even for an "
            "ellipsoid, because smaller slices count half or not at all. The measured volume is more accurate."
        )
        remarks.append(Remark(code="abc2-differs", severity="info", message=message))
    return remarks


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
