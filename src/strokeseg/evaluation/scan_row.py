"""One whole scan: the answer of `strokeseg segment` beside the annotation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.evaluation.image_files import Spacing
from strokeseg.evaluation.lesions import MATCH_IOU
from strokeseg.evaluation.metrics import Counts, dice
from strokeseg.evaluation.schema import AnnotatedLesion, AnsweredLesion, ScanRow, ScoreRow
from strokeseg.evaluation.tally import ImagePrediction, Tally, tally_slices, tally_volume
from strokeseg.imaging import components
from strokeseg.imaging.components import Labels
from strokeseg.measurements.lesion.abc2 import abc2_ml
from strokeseg.measurements.lesion.volume import volume_ml
from strokeseg.pipeline import Result
from strokeseg.scan import Scan

Bools = NDArray[np.bool_]

_NO_SPACING = (1.0, 1.0, 1.0)
"""Of a scan without a stated or assumed spacing: relative errors of volumes do not depend on it."""


@dataclass(frozen=True)
class Reference:
    """The annotation of a whole scan, on the pixels of the scan.

    Attributes
    ----------
    truth : ndarray of bool, shape (slices, rows, columns)
        Annotated blood.
    known : ndarray of bool, shape (slices, rows, columns)
        Where the truth is known.
    """

    truth: Bools
    known: Bools


@dataclass(frozen=True)
class ScoredScan:
    """The scores of a whole scan.

    Attributes
    ----------
    row : ScanRow
        The row of the scan.
    slices : list of ScoreRow
        Scores of the slices with a known pixel.
    tally : Tally or None
        Sums over these slices; None if there are none.
    """

    row: ScanRow
    slices: list[ScoreRow]
    tally: Tally | None


def score_scan(
    name: str, patient: str, result: Result, reference: Reference, blood: bool | None, assumed_mm: Spacing | None
) -> ScoredScan:
    """Score the answer for a whole scan.

    Parameters
    ----------
    name, patient : str
        The scan and its patient.
    result : Result
        The answer.
    reference : Reference
        The annotation.
    blood : bool, optional
        Whether the scan holds blood, outlined or not; by default whether a pixel is annotated.
    assumed_mm : tuple of float, optional
        (slice, row, column), mm, if the scan has no spacing. The answer does not depend on it.

    Returns
    -------
    ScoredScan
        The scores.
    """
    scan, is_known_mm = _measure_with(result.scan, assumed_mm)
    labels = np.where(reference.known, result.labels, 0)
    prediction = ImagePrediction(reference.truth, reference.known, result.probability, labels > 0)
    used = np.flatnonzero(reference.known.any((1, 2)))
    has_blood = bool(reference.truth.any()) if blood is None else blood
    slice_scores = prediction.score_slices()
    counts = Counts.from_masks(reference.truth, prediction.mask)
    tally, slices = _tally_scan(name, patient, prediction, scan, used, is_known_mm)
    is_outlined = bool(reference.truth.any()) or not has_blood
    lesions = _describe_lesions(reference.truth, labels, scan, is_known_mm)
    row = ScanRow(
        name=name,
        patient=patient,
        slices=len(used),
        blood=has_blood,
        hemorrhage=result.findings.hemorrhage,
        confidence=result.findings.confidence,
        detection_score=max((slice_scores[index][1] for index in used), default=0.0),
        truth_pixels=counts.true_positive + counts.false_negative,
        predicted_pixels=counts.true_positive + counts.false_positive,
        dice=dice(counts) if is_outlined and len(used) else None,
        spacing_assumed=assumed_mm is not None and result.scan.weights_mm is None,
        lesions=lesions,
        answered_lesions=_describe_answer(result, labels, {number for each in lesions for number in each.matches}),
        slice_blood=[slice_scores[index][0] for index in used],
        slice_score=[slice_scores[index][1] for index in used],
        slice_marked=[slice_scores[index][2] for index in used],
        **_measure_volumes(prediction, scan, is_known_mm),
    )
    return ScoredScan(row, slices, tally)


def _measure_with(scan: Scan, assumed_mm: Spacing | None) -> tuple[Scan, bool]:
    """Return the scan with a spacing, and whether its mm are known or assumed rather than arbitrary."""
    if scan.weights_mm is not None:
        return scan, True
    planes = Scan.from_array(scan.hu, assumed_mm or _NO_SPACING).planes
    return replace(scan, planes=planes, spacing_known=True), assumed_mm is not None


def _tally_scan(
    name: str, patient: str, prediction: ImagePrediction, scan: Scan, used: NDArray[np.intp], is_known_mm: bool
) -> tuple[Tally | None, list[ScoreRow]]:
    weights, (row_mm, column_mm) = scan.weights_mm, scan.planes.pixel_spacing_mm
    assert weights is not None
    tallies: list[Tally] = []
    rows: list[ScoreRow] = []
    for index in used:
        one = slice(index, index + 1)
        part = ImagePrediction(
            prediction.truth[one], prediction.known[one], prediction.probability[one], prediction.mask[one]
        )
        spacing_mm = (float(weights[index]), row_mm, column_mm) if is_known_mm else None
        tallies += tally_slices(part, spacing_mm, lesions_by_slice=False)
        rows.append(tallies[-1].to_row(f"{name}[{index}]", patient))
    if not tallies:
        return None, []
    whole = reduce(add, tallies)
    # Surfaces and lesions need a spacing; without one, only the counts of lesions are used.
    volume = tally_volume(prediction, (float(weights.mean()), row_mm, column_mm), whole)
    return volume if is_known_mm else replace(volume, surfaces=whole.surfaces), rows


def _measure_volumes(prediction: ImagePrediction, scan: Scan, is_known_mm: bool) -> dict[str, float | None]:
    truth = volume_ml(prediction.truth, scan) or 0.0
    predicted = volume_ml(prediction.mask, scan) or 0.0
    abc2 = sum(_iterate_abc2_ml(prediction.truth, scan))
    return {
        "truth_ml": truth if is_known_mm else None,
        "predicted_ml": predicted if is_known_mm else None,
        "abc2_ml": abc2 if is_known_mm else None,
        "volume_difference_relative": (predicted - truth) / truth if truth else None,
        "abc2_difference_relative": (abc2 - truth) / truth if truth else None,
    }


def _iterate_abc2_ml(truth: Bools, scan: Scan) -> list[float]:
    labels, _ = components.label(truth, scan)
    return [abc2_ml(lesion, part) or 0.0 for lesion, part, _ in components.iterate_components(labels, scan)]


def _describe_lesions(truth: Bools, answered: Labels, scan: Scan, is_known_mm: bool) -> list[AnnotatedLesion]:
    labels, _ = components.label(truth, scan)
    answered_sizes = np.bincount(answered[answered > 0], minlength=int(answered.max(initial=0)) + 1)
    lesions = []
    for lesion, part, (rows, columns) in components.iterate_components(labels, scan):
        pixels = int(lesion.sum())
        inside = answered[:, rows, columns][lesion]
        shared = np.bincount(inside[inside > 0], minlength=len(answered_sizes))
        touching = np.flatnonzero(shared)
        iou = shared[touching] / (pixels + answered_sizes[touching] - shared[touching])
        lesions.append(
            AnnotatedLesion(
                pixels=pixels,
                volume_ml=volume_ml(lesion, part) if is_known_mm else None,
                thickness_mm=thickness_mm(lesion, scan.planes.pixel_spacing_mm) if is_known_mm else None,
                matches=[int(number) for number in touching[iou >= MATCH_IOU]],
                overlapped=bool(len(touching)),
            )
        )
    return lesions


def thickness_mm(lesion: Bools, pixel_spacing_mm: tuple[float, float]) -> float:
    """Measure the thickness of a lesion: the diameter of the largest circle inside it on a slice.

    For a crescent it is the width in the middle, which decides on surgery; for a round lesion the diameter.

    Parameters
    ----------
    lesion : ndarray of bool, shape (slices, rows, columns)
        One lesion.
    pixel_spacing_mm : tuple of float
        (between rows, between columns), mm.

    Returns
    -------
    float
        Thickness, mm; 0.0 for an empty mask.
    """
    half = [mm / 2 for mm in pixel_spacing_mm]
    thickest = 0.0
    for plane in lesion[lesion.any((1, 2))]:
        # Pixels are halved: the middle of a strip of an even number of pixels lies between two of them.
        fine = np.pad(plane.repeat(2, axis=0).repeat(2, axis=1), 1)
        thickest = max(thickest, 2 * float(ndimage.distance_transform_edt(fine, sampling=half).max()))
    return thickest


def _describe_answer(result: Result, labels: Labels, matched: set[int]) -> list[AnsweredLesion]:
    """Describe the lesions of the answer; one that matches nothing is left out if most of its pixels are unknown."""
    sizes = np.bincount(labels.ravel(), minlength=len(result.findings.lesions) + 1)
    return [
        AnsweredLesion(id=lesion.id, pixels=int(sizes[lesion.id]), probability=lesion.probability or 0.0)
        for lesion in result.findings.lesions
        if lesion.id in matched or 2 * sizes[lesion.id] >= lesion.pixels
    ]
