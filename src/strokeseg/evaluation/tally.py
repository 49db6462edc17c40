"""Sums over slices and volumes that add up to a patient's; memory grows with patients, not pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.evaluation import calibration_error, metrics
from strokeseg.evaluation.detection import detection_score
from strokeseg.evaluation.lesions import count_lesions, lesion_f1
from strokeseg.evaluation.metrics import Counts, Floats, Integers
from strokeseg.evaluation.schema import PatientRow, ScoreRow
from strokeseg.evaluation.surface_distances import Spacing, SurfaceDistances, hd95_mm, surface_dice

Bools = NDArray[np.bool_]

COUNT_METRICS: dict[str, Callable[[Counts], float]] = {
    "dice": metrics.dice,
    "iou": metrics.iou,
    "precision": metrics.precision,
    "recall": metrics.recall,
}
_UNKNOWN_ML = np.full(2, np.nan)


@dataclass(frozen=True)
class ImagePrediction:
    """The annotated and the predicted mask of an image, all of shape (slices, rows, columns).

    Attributes
    ----------
    truth, mask : ndarray of bool
        Annotated and predicted blood; False where the truth is unknown.
    known : ndarray of bool
        Where False, the pixel counts neither way.
    probability : ndarray of float
        Probability of blood, 0..1.
    """

    truth: Bools
    known: Bools
    probability: NDArray[np.floating[Any]]
    mask: Bools

    def score_slices(self) -> list[tuple[bool, float, bool]]:
        """Return for each slice whether it holds blood, its detection score, and whether a pixel is marked."""
        return [
            (bool(truth.any()), detection_score(probability, known), bool(mask.any()))
            for truth, known, probability, mask in zip(self.truth, self.known, self.probability, self.mask, strict=True)
        ]


@dataclass(frozen=True)
class Tally:
    """The sums of a slice, of a volume, or of a patient.

    Attributes
    ----------
    counts : Counts
        Counts of pixels.
    histogram : ndarray of int
        As :func:`strokeseg.evaluation.metrics.probability_histogram`.
    calibration : ndarray of float
        As :func:`strokeseg.evaluation.calibration_error.calibration_sums`.
    lesions : Counts
        Counts of lesions.
    volumes_ml : ndarray of float, shape (2,)
        Annotated and predicted volume, ml; NaN if the spacing is unknown.
    surfaces : ndarray of float, shape (2, 2)
        Sums of the 95 % Hausdorff distance, mm, and of the surface Dice; beside each, the number of volumes for which
        it is defined.
    slices : int
        Number of slices.
    """

    counts: Counts
    histogram: Integers
    calibration: Floats
    lesions: Counts
    volumes_ml: Floats
    surfaces: Floats
    slices: int

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def to_row(self, name: str, patient: str) -> ScoreRow:
        """Compute the scores of the pixels."""
        return ScoreRow(**self._pixel_scores(name, patient))

    def to_patient_row(self, patient: str) -> PatientRow:
        """Compute the scores of the pixels, the lesions, the volume and the surfaces."""
        truth, predicted = self.volumes_ml if not np.isnan(self.volumes_ml).any() else self._pixel_totals()
        known = not np.isnan(self.volumes_ml).any()
        return PatientRow(
            **self._pixel_scores(patient, patient),
            lesions=self.lesions.true_positive + self.lesions.false_negative,
            lesions_found=self.lesions.true_positive,
            lesions_false=self.lesions.false_positive,
            lesion_f1=none_if_nan(lesion_f1(self.lesions)),
            truth_ml=float(truth) if known else None,
            predicted_ml=float(predicted) if known else None,
            volume_error_ml=float(abs(predicted - truth)) if known else None,
            volume_error_relative=float(abs(predicted - truth) / truth) if truth else None,
            hd95_mm=none_if_nan(mean_of_sums(self.surfaces[:1])),
            surface_dice_2mm=none_if_nan(mean_of_sums(self.surfaces[1:])),
        )

    def _pixel_totals(self) -> tuple[int, int]:
        both = self.counts.true_positive
        return both + self.counts.false_negative, both + self.counts.false_positive

    def _pixel_scores(self, name: str, patient: str) -> dict[str, Any]:
        truth, predicted = self._pixel_totals()
        return {
            "name": name,
            "patient": patient,
            "slices": self.slices,
            "truth_pixels": truth,
            "predicted_pixels": predicted,
            "average_precision": none_if_nan(metrics.average_precision_of_histogram(self.histogram)),
            **{metric: none_if_nan(function(self.counts)) for metric, function in COUNT_METRICS.items()},
        }


def tally_slices(prediction: ImagePrediction, spacing_mm: Spacing | None, lesions_by_slice: bool) -> Iterator[Tally]:
    """Tally each slice of an image.

    Parameters
    ----------
    prediction : ImagePrediction
        The image.
    spacing_mm : tuple of float, optional
        (slice, row, column), mm.
    lesions_by_slice : bool
        Count lesions in each slice. In a volume :func:`tally_volume` counts them.

    Yields
    ------
    Tally
        The sums of a slice.
    """
    voxel_ml = None if spacing_mm is None else float(np.prod(spacing_mm)) / 1000
    arrays = (prediction.truth, prediction.known, prediction.probability, prediction.mask)
    for truth, known, probability, mask in zip(*arrays, strict=True):
        # float32 represents every float16, and NumPy computes float16 in software.
        values = np.asarray(probability, dtype=np.float32) if probability.dtype == np.float16 else probability
        pixels = np.array([np.count_nonzero(truth), np.count_nonzero(mask)], dtype=np.float64)
        yield Tally(
            counts=Counts.from_masks(truth, mask, known),
            histogram=metrics.probability_histogram(truth, values, known),
            calibration=calibration_error.calibration_sums(truth, values, known),
            lesions=count_lesions(truth, mask) if lesions_by_slice else Counts(0, 0, 0),
            volumes_ml=_UNKNOWN_ML if voxel_ml is None else pixels * voxel_ml,
            surfaces=np.zeros((2, 2)),
            slices=1,
        )


def tally_volume(prediction: ImagePrediction, spacing_mm: Spacing, slices: Tally) -> Tally:
    """Add the lesions and the surfaces of a whole volume to the sum of its slices."""
    surfaces = SurfaceDistances.from_masks(prediction.truth, prediction.mask, spacing_mm)
    scores = np.array([hd95_mm(surfaces), surface_dice(surfaces)])
    defined = ~np.isnan(scores)
    return Tally(
        slices.counts,
        slices.histogram,
        slices.calibration,
        count_lesions(prediction.truth, prediction.mask),
        slices.volumes_ml,
        np.column_stack([np.where(defined, scores, 0), defined]),
        slices.slices,
    )


def mean_of_sums(sums: NDArray[Any]) -> float:
    """Compute the mean of (n, 2) rows of (sum, number) together; NaN if the numbers are 0."""
    total, number = sums.sum(axis=0)
    return float(total / number) if number else float("nan")


def none_if_nan(value: float) -> float | None:
    """Convert NaN to None."""
    return None if np.isnan(value) else float(value)
