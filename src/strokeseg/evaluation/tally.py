"""What scoring keeps of slices and volumes: sums that add up to a patient's; memory grows with patients, not pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.evaluation import calibration_error, legacy, metrics
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
    """An image's truth and answer, all (slices, rows, columns).

    Parameters
    ----------
    truth, mask : Bools
        Bool; False where not known.
    known : Bools
        Bool; where False the pixel counts neither way.
    probability : ndarray of floating[Any]
        Float in 0..1.
    """

    truth: Bools
    known: Bools
    probability: NDArray[np.floating[Any]]
    mask: Bools

    def score_slices(self) -> list[tuple[bool, float, bool]]:
        """Give for each slice: is there blood, its score, is a pixel answered."""
        return [
            (bool(truth.any()), detection_score(probability, known), bool(mask.any()))
            for truth, known, probability, mask in zip(self.truth, self.known, self.probability, self.mask, strict=True)
        ]


@dataclass(frozen=True)
class Tally:
    """The sums of a slice, of a volume, or of all that a patient brings.

    Parameters
    ----------
    counts : Counts
        Pixels.
    histogram : Integers
        As :func:`strokeseg.evaluation.metrics.probability_histogram`.
    calibration : Floats
        As :func:`strokeseg.evaluation.calibration_error.calibration_sums`.
    columns : Floats
        As :func:`strokeseg.evaluation.legacy.seed_legacy_sums`.
    lesions : Counts
        Lesions.
    ml : object
        (truth, answer), ml; NaN where the spacing is not known.
    surfaces : Floats
        ((95 % Hausdorff distance in mm, volumes), (surface Dice, volumes)), of the volumes where defined.
    slices : int
        How many.
    """

    counts: Counts
    histogram: Integers
    calibration: Floats
    columns: Floats
    lesions: Counts
    volumes_ml: Floats
    surfaces: Floats
    slices: int

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def to_row(self, name: str, patient: str) -> ScoreRow:
        """Score the pixels."""
        return ScoreRow(**self._pixel_scores(name, patient))

    def to_patient_row(self, patient: str) -> PatientRow:
        """Score the pixels, the lesions, the volume and the surfaces."""
        truth, answer = self.volumes_ml if not np.isnan(self.volumes_ml).any() else self._pixel_totals()
        known = not np.isnan(self.volumes_ml).any()
        return PatientRow(
            **self._pixel_scores(patient, patient),
            lesions=self.lesions.true_positive + self.lesions.false_negative,
            lesions_found=self.lesions.true_positive,
            lesions_false=self.lesions.false_positive,
            lesion_f1=none_if_nan(lesion_f1(self.lesions)),
            truth_ml=float(truth) if known else None,
            predicted_ml=float(answer) if known else None,
            volume_error_ml=float(abs(answer - truth)) if known else None,
            volume_error_relative=float(abs(answer - truth) / truth) if truth else None,
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
            **{metric: none_if_nan(of(self.counts)) for metric, of in COUNT_METRICS.items()},
        }


def tally_slices(seen: ImagePrediction, spacing_mm: Spacing | None, lesions_by_slice: bool) -> Iterator[Tally]:
    """Tally each slice.

    Parameters
    ----------
    lesions_apart : object
        Count lesions slice by slice; not so in a volume, see :func:`volume_tally`.
    """
    voxel_ml = None if spacing_mm is None else float(np.prod(spacing_mm)) / 1000
    for truth, known, probability, mask in zip(seen.truth, seen.known, seen.probability, seen.mask, strict=True):
        # float32 holds every float16, and NumPy works through float16 in software.
        values = np.asarray(probability, dtype=np.float32) if probability.dtype == np.float16 else probability
        pixels = np.array([np.count_nonzero(truth), np.count_nonzero(mask)], dtype=np.float64)
        yield Tally(
            counts=Counts.from_masks(truth, mask, known),
            histogram=metrics.probability_histogram(truth, values, known),
            calibration=calibration_error.calibration_sums(truth, values, known),
            columns=legacy.seed_legacy_sums(truth, values * known),
            lesions=count_lesions(truth, mask) if lesions_by_slice else Counts(0, 0, 0),
            volumes_ml=_UNKNOWN_ML if voxel_ml is None else pixels * voxel_ml,
            surfaces=np.zeros((2, 2)),
            slices=1,
        )


def tally_volume(seen: ImagePrediction, spacing_mm: Spacing, slices: Tally) -> Tally:
    """Add to the sum of a volume's slices what only the whole volume shows: lesions and surfaces."""
    surfaces = SurfaceDistances.from_masks(seen.truth, seen.mask, spacing_mm)
    scores = np.array([hd95_mm(surfaces), surface_dice(surfaces)])
    defined = ~np.isnan(scores)
    return Tally(
        slices.counts,
        slices.histogram,
        slices.calibration,
        slices.columns,
        count_lesions(seen.truth, seen.mask),
        slices.volumes_ml,
        np.column_stack([np.where(defined, scores, 0), defined]),
        slices.slices,
    )


def mean_of_sums(sums: NDArray[Any]) -> float:
    """Return the mean of what (n, 2) rows of (sum, number) bring together; NaN where the numbers are 0."""
    total, number = sums.sum(axis=0)
    return float(total / number) if number else float("nan")


def none_if_nan(value: float) -> float | None:
    """Give None for NaN."""
    return None if np.isnan(value) else float(value)
