"""Score a predictor on pairs of images and masks, with intervals over patients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import InputError, TrainError
from strokeseg.evaluation import metrics
from strokeseg.evaluation.bootstrap import Bootstrap, sum_by_patient
from strokeseg.evaluation.calibration_error import calibration_error
from strokeseg.evaluation.metrics import Counts, mean_defined
from strokeseg.evaluation.pairs import Normal, Pair
from strokeseg.evaluation.schema import (
    Evaluation,
    PatientRow,
    Score,
    ScoreRow,
    Scores,
    SingleLevelScores,
    WholeScanScores,
)
from strokeseg.evaluation.tally import (
    COUNT_METRICS,
    ImagePrediction,
    Tally,
    mean_of_sums,
    none_if_nan,
    tally_slices,
    tally_volume,
)

ProbabilityMap = NDArray[np.floating[Any]]
Progress = Callable[[int, int], None]


class Prediction(Protocol):
    """A probability map and the final mask, (rows, columns), or (slices, rows, columns) in the order of a Scan."""

    @property
    def probability(self) -> ProbabilityMap:
        """Probability of blood, 0..1."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The final mask, of the same shape."""


Predictor = Callable[[Path], ProbabilityMap | Prediction]


@dataclass(frozen=True)
class SliceResult:
    """The values of a slice, also of a normal, from which detection and quiet are computed."""

    patient: str
    blood: bool
    score: float
    predicted: bool


def evaluate(
    pairs: Sequence[Pair],
    predict: Predictor,
    threshold: float,
    *,
    normals: Sequence[Normal] = (),
    as_segmented: bool = False,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate a predictor: by slice, by patient and pooled.

    Parameters
    ----------
    pairs : sequence of Pair
        As :func:`strokeseg.evaluation.pairs.find_pairs` returns them.
    predict : callable
        Takes the path of an image, and returns the probability, 0..1, of shape (rows, columns), or (slices, rows,
        columns) in the order of a Scan; or an object with a probability and a final mask.
    threshold : float
        A pixel is blood if its probability is at least this.
    normals : sequence of Normal, default: ()
        Further images without blood, for detection and quiet alone. If a patient of the pairs has the same name, it
        is the same patient.
    as_segmented : bool, default: False
        Evaluate the final mask; the threshold is then only reported.
    level : float, default: 0.95
        Level of the bootstrap intervals over patients.
    draws, seed : int
        Number of draws and seed of the bootstrap, see :func:`strokeseg.evaluation.metrics.bootstrap_interval`.
    progress : callable, optional
        Called with the number of completed images and the number of all images.

    Returns
    -------
    Evaluation
        All scores.

    Raises
    ------
    TrainError
        `train`, if there are no pairs, a mask cannot be used, or a prediction has another size than the mask.
    InputError
        As the predictor raises it, with the name of the image.
    ValueError
        If ``as_segmented`` is set and the predictor returns no mask.
    """
    if not pairs:
        raise TrainError("no pair of image and mask to evaluate", "Name a folder that holds such pairs.")
    rows: list[ScoreRow] = []
    tallies: dict[str, Tally] = {}
    slices: list[SliceResult] = []
    images: list[Pair | Normal] = [*pairs, *normals]
    for count, image in enumerate(images, start=1):
        prediction = _predict_image(image, predict, threshold, as_segmented)
        slices += [SliceResult(image.patient, *scores) for scores in prediction.score_slices()]
        if isinstance(image, Pair):
            image_rows, tally = _tally_image(image, prediction)
            rows += image_rows
            tallies[image.patient] = tallies[image.patient] + tally if image.patient in tallies else tally
        if progress:
            progress(count, len(images))
    return assemble(
        rows,
        tallies,
        slices,
        Bootstrap(level, draws, seed),
        threshold=threshold,
        as_segmented=as_segmented,
        n_normal_patients=len({image.patient for image in normals} - set(tallies)),
    )


def assemble(
    rows: Sequence[ScoreRow],
    tallies: Mapping[str, Tally],
    slices: Sequence[SliceResult],
    draws: Bootstrap,
    *,
    threshold: float,
    as_segmented: bool,
    n_normal_patients: int = 0,
    whole_scans: WholeScanScores | None = None,
) -> Evaluation:
    """Compute all scores from those of the slices and the sums of the patients.

    Parameters
    ----------
    rows : sequence of ScoreRow
        Slices with a mask.
    tallies : mapping of str to Tally
        Sums of each patient.
    slices : sequence of SliceResult
        Slices with a mask, and those of normals.
    draws : Bootstrap
        How intervals are drawn.
    threshold : float
        The threshold, as reported.
    as_segmented : bool
        Whether the final mask was scored.
    n_normal_patients : int, default: 0
        Number of patients who have normals alone.
    whole_scans : WholeScanScores, optional
        Scores of whole scans.

    Returns
    -------
    Evaluation
        All scores.
    """
    patients = [tally.to_patient_row(patient) for patient, tally in tallies.items()]
    return Evaluation(
        threshold=threshold,
        as_segmented=as_segmented,
        n_patients=len(patients),
        n_slices=len(rows),
        n_slices_with_blood=sum(row.truth_pixels > 0 for row in rows),
        n_normal_patients=n_normal_patients,
        n_normal_slices=len(slices) - len(rows),
        interval_level=draws.level,
        bootstrap_draws=draws.number,
        bootstrap_seed=draws.seed,
        per_slice=_slice_scores(rows, list(tallies), draws),
        per_patient=_patient_scores(patients, draws),
        pooled=_pooled_scores(list(tallies.values()), draws),
        further=_single_level_scores(rows, patients, list(tallies.values()), slices, draws),
        whole_scans=whole_scans,
        slices=list(rows),
        patients=patients,
    )


def _predict_image(image: Pair | Normal, predict: Predictor, threshold: float, as_segmented: bool) -> ImagePrediction:
    truth, known = image.read_truth()
    try:
        output = predict(image.image)
    except InputError as error:
        # The gate knows no file names, but the user must know which of hundreds of images it refuses.
        raise type(error)(f"{image.image.name}: {error.message}", error.remedy) from error
    probability, mask = (output, None) if isinstance(output, np.ndarray) else (output.probability, output.mask)
    if as_segmented and mask is None:
        raise ValueError("as_segmented needs a predictor that returns a mask too")
    predicted = mask if as_segmented and mask is not None else probability >= threshold
    if probability.ndim == 2:
        probability, predicted = probability[None], predicted[None]
    if probability.shape != truth.shape:
        raise TrainError(
            f"{image.image.name}: the prediction has (slices, rows, columns) {probability.shape}, "
            f"the mask {truth.shape}",
            "Give every image a mask on the same pixels.",
        )
    return ImagePrediction(truth, known, probability, predicted & known)


def _tally_image(pair: Pair, prediction: ImagePrediction) -> tuple[list[ScoreRow], Tally]:
    """Compute the scores of the slices of an image, and their sum."""
    spacing_mm = pair.read_spacing_mm()
    tallies = list(tally_slices(prediction, spacing_mm, lesions_by_slice=not pair.is_volume))
    names = [pair.name] if len(tallies) == 1 else [f"{pair.name}[{index}]" for index in range(len(tallies))]
    rows = [tally.to_row(name, pair.patient) for name, tally in zip(names, tallies, strict=True)]
    whole = reduce(add, tallies)
    return rows, tally_volume(prediction, spacing_mm, whole) if pair.is_volume and spacing_mm else whole


def _pooled_scores(tallies: list[Tally], draws: Bootstrap) -> Scores:
    """Compute the scores of all pixels; a draw adds up the counts of its patients."""
    counts = [(t.counts.true_positive, t.counts.false_positive, t.counts.false_negative) for t in tallies]

    def pooled(metric: Callable[[Counts], float]) -> Callable[[NDArray[Any]], float]:
        return lambda drawn: metric(Counts(*(int(number) for number in drawn.sum(axis=0))))

    histograms = np.stack([tally.histogram for tally in tallies])
    # Bins that no patient uses only cost time in every draw.
    histograms = histograms[:, :, histograms.any(axis=(0, 1))]

    def precision(drawn: NDArray[Any]) -> float:
        return metrics.average_precision_of_histogram(drawn.sum(axis=0))

    # False positives of patients without blood count too; but one patient with blood says nothing about others.
    several = sum(tally.counts.true_positive + tally.counts.false_negative > 0 for tally in tallies) > 1
    return Scores(
        average_precision=draws.score(histograms, precision, all_drawn=True)
        if several
        else Score(value=none_if_nan(precision(histograms))),
        **{metric: draws.score(counts, pooled(function)) for metric, function in COUNT_METRICS.items()},
    )


def _patient_scores(patients: list[PatientRow], draws: Bootstrap) -> Scores:
    """Compute the mean over the patients for whom the metric is defined."""
    return Scores(**{metric: _patient_mean(patients, metric, draws) for metric in Scores.model_fields})


def _patient_mean(patients: list[PatientRow], metric: str, draws: Bootstrap) -> Score:
    return draws.score([_or_nan(row, metric) for row in patients], mean_defined)


def _slice_scores(rows: Sequence[ScoreRow], patients: list[str], draws: Bootstrap) -> Scores:
    """Compute the mean over slices; a draw takes all slices of its patients."""
    scored = {metric: [(row.patient, _or_nan(row, metric)) for row in rows] for metric in Scores.model_fields}
    return Scores(
        **{metric: draws.score(sum_by_patient(values, patients), mean_of_sums) for metric, values in scored.items()}
    )


def _single_level_scores(
    rows: Sequence[ScoreRow],
    patients: list[PatientRow],
    tallies: list[Tally],
    slices: Sequence[SliceResult],
    draws: Bootstrap,
) -> SingleLevelScores:
    with_blood = [(row.patient, _or_nan(row, "dice")) for row in rows if row.truth_pixels]
    without = [(each.patient, float(not each.predicted)) for each in slices if not each.blood]
    of_patients = ("lesion_f1", "hd95_mm", "surface_dice_2mm", "volume_error_ml", "volume_error_relative")
    return SingleLevelScores(
        dice_with_blood=draws.score_mean(with_blood),
        detection_auc=draws.score_auc([(each.patient, each.blood, each.score) for each in slices]),
        quiet=draws.score_mean(without),
        calibration_error=draws.score(
            [tally.calibration for tally in tallies], lambda drawn: calibration_error(drawn.sum(axis=0))
        ),
        **{metric: _patient_mean(patients, metric, draws) for metric in of_patients},
    )


def _or_nan(row: ScoreRow, metric: str) -> float:
    value = getattr(row, metric)
    return float("nan") if value is None else float(value)
