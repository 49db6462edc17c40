"""Score a predictor on pairs of images and masks, with intervals over patients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from rich.table import Table

from strokeseg.errors import TrainError
from strokeseg.evaluate import metrics
from strokeseg.evaluate.metrics import Counts, Whole, bootstrap_interval, mean_defined
from strokeseg.evaluate.pairs import Pair

Predict = Callable[[Path], NDArray[np.floating[Any]]]
Progress = Callable[[int, int], None]

_OF_COUNTS: dict[str, Callable[[Counts], float]] = {
    "dice": metrics.dice,
    "iou": metrics.iou,
    "precision": metrics.precision,
    "recall": metrics.recall,
}
_HEADINGS = {
    "dice": "Dice",
    "iou": "IoU",
    "average_precision": "AP",
    "precision": "Precision",
    "recall": "Recall",
}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Score(_Model):
    """A metric and its bootstrap interval; null where undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Scores(_Model):
    """The five metrics; definitions in :mod:`strokeseg.evaluate.metrics`."""

    dice: Score
    iou: Score
    average_precision: Score
    precision: Score
    recall: Score


class Row(_Model):
    """One slice, or all slices of a patient together; a metric is null where it is undefined."""

    name: str = Field(description="the image (of a volume with the slice's index, inferior first), or the patient")
    patient: str
    slices: int
    truth_pixels: int
    predicted_pixels: int
    dice: float | None
    iou: float | None
    average_precision: float | None
    precision: float | None
    recall: float | None


class Evaluation(_Model):
    """How good a predictor is on one set."""

    schema_: Literal["strokeseg.evaluation/1"] = Field(default="strokeseg.evaluation/1", alias="schema")
    threshold: float = Field(description="a pixel is blood where its probability is at least this")
    n_patients: int
    n_slices: int
    n_slices_with_blood: int
    interval_level: float
    bootstrap_draws: int
    bootstrap_seed: int
    per_slice: Scores = Field(description="mean over slices where the metric is defined")
    per_patient: Scores = Field(description="mean over patients of the metric of all of the patient's pixels")
    pooled: Scores = Field(description="the metric of all pixels of all patients")
    slices: list[Row]
    patients: list[Row]

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)


@dataclass(frozen=True)
class _Tally:
    """What scoring needs of a slice or of a patient's slices."""

    counts: Counts
    histogram: Whole
    slices: int = 1

    def __add__(self, other: _Tally) -> _Tally:
        return _Tally(self.counts + other.counts, self.histogram + other.histogram, self.slices + other.slices)

    def row(self, name: str, patient: str) -> Row:
        truth = self.counts.true_positive + self.counts.false_negative
        predicted = self.counts.true_positive + self.counts.false_positive
        scored = {metric: _or_none(of(self.counts)) for metric, of in _OF_COUNTS.items()}
        ranked = _or_none(metrics.average_precision_of_histogram(self.histogram))
        return Row(
            name=name,
            patient=patient,
            slices=self.slices,
            truth_pixels=truth,
            predicted_pixels=predicted,
            average_precision=ranked,
            **scored,
        )


@dataclass(frozen=True)
class _Draws:
    level: float
    number: int
    seed: int

    def score(self, values: Any, statistic: Callable[[NDArray[Any]], float]) -> Score:
        brought = np.asarray(values)
        low, high = bootstrap_interval(brought, statistic, level=self.level, n=self.number, seed=self.seed)
        return Score(value=_or_none(statistic(brought)), low=_or_none(low), high=_or_none(high))


def evaluate(
    pairs: Sequence[Pair],
    predict: Predict,
    threshold: float,
    *,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Score a predictor, slice by slice, patient by patient and pooled.

    Parameters
    ----------
    pairs : as :func:`strokeseg.evaluate.pairs.find_pairs` gives them
    predict : image path to probability in 0..1, (rows, columns), or (slices, rows, columns) in the order of a Scan
    threshold : a pixel is blood where its probability is at least this
    level, draws, seed : of the bootstrap over patients, see :func:`strokeseg.evaluate.metrics.bootstrap_interval`
    progress : is called with (images done, images in all)

    Raises
    ------
    TrainError
        `train`, for no pairs, a mask that cannot be used, or an answer of another size than the mask
    """
    if not pairs:
        raise TrainError("no pair of image and mask to evaluate", "Give a folder that holds some.")
    rows: list[Row] = []
    tallies: dict[str, _Tally] = {}
    for done, pair in enumerate(pairs, start=1):
        for name, tally in _tallies(pair, predict, threshold):
            rows.append(tally.row(name, pair.patient))
            # Only sums over patients are kept: memory grows with patients, not with pixels.
            tallies[pair.patient] = tallies[pair.patient] + tally if pair.patient in tallies else tally
        if progress:
            progress(done, len(pairs))
    patients = [tally.row(patient, patient) for patient, tally in tallies.items()]
    bootstrap = _Draws(level, draws, seed)
    return Evaluation(
        threshold=threshold,
        n_patients=len(patients),
        n_slices=len(rows),
        n_slices_with_blood=sum(row.truth_pixels > 0 for row in rows),
        interval_level=level,
        bootstrap_draws=draws,
        bootstrap_seed=seed,
        per_slice=_slice_scores(rows, list(tallies), bootstrap),
        per_patient=_patient_scores(patients, bootstrap),
        pooled=_pooled_scores(list(tallies.values()), bootstrap),
        slices=rows,
        patients=patients,
    )


def _tallies(pair: Pair, predict: Predict, threshold: float) -> Iterable[tuple[str, _Tally]]:
    truth, known = pair.truth()
    answer = np.asarray(predict(pair.image))
    answer = answer[None] if answer.ndim == 2 else answer
    if answer.shape != truth.shape:
        raise TrainError(
            f"{pair.image.name}: the answer has (slices, rows, columns) {answer.shape}, the mask {truth.shape}",
            "Give every image with its mask on the same pixels.",
        )
    for index, (blood, sure, probability) in enumerate(zip(truth, known, answer, strict=True)):
        name = pair.name if len(truth) == 1 else f"{pair.name}[{index}]"
        counts = Counts.of(blood, probability >= threshold, sure)
        yield name, _Tally(counts, metrics.probability_histogram(blood, probability, sure))


def _pooled_scores(tallies: list[_Tally], draws: _Draws) -> Scores:
    """Score all pixels together; a draw adds up the counts of its patients."""
    counts = [(t.counts.true_positive, t.counts.false_positive, t.counts.false_negative) for t in tallies]

    def pooled(of: Callable[[Counts], float]) -> Callable[[NDArray[Any]], float]:
        return lambda drawn: of(Counts(*(int(number) for number in drawn.sum(axis=0))))

    histograms = np.stack([tally.histogram for tally in tallies])
    # Bins that no patient uses would only cost time in every draw.
    histograms = histograms[:, :, histograms.any(axis=(0, 1))]
    return Scores(
        average_precision=draws.score(
            histograms, lambda drawn: metrics.average_precision_of_histogram(drawn.sum(axis=0))
        ),
        **{metric: draws.score(counts, pooled(of)) for metric, of in _OF_COUNTS.items()},
    )


def _patient_scores(patients: list[Row], draws: _Draws) -> Scores:
    """Take the mean over patients where the metric is defined."""
    return Scores(
        **{metric: draws.score([_or_nan(row, metric) for row in patients], mean_defined) for metric in _HEADINGS}
    )


def _slice_scores(rows: list[Row], patients: list[str], draws: _Draws) -> Scores:
    """Take the mean over slices; a draw takes all slices of its patients."""
    place = {patient: index for index, patient in enumerate(patients)}

    def one(metric: str) -> Score:
        sums = np.zeros((len(patients), 2))
        for row in rows:
            value = _or_nan(row, metric)
            if not np.isnan(value):
                sums[place[row.patient]] += (value, 1)
        return draws.score(sums, _ratio)

    return Scores(**{metric: one(metric) for metric in _HEADINGS})


def _ratio(sums: NDArray[Any]) -> float:
    total, number = reduce(np.add, sums)
    return float(total / number) if number else float("nan")


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _or_nan(row: Row, metric: str) -> float:
    value = getattr(row, metric)
    return float("nan") if value is None else float(value)


def table(evaluation: Evaluation) -> Table:
    """Draw the evaluation for a terminal: a line a metric, with its interval over patients."""
    percent = f"{evaluation.interval_level:.0%}"
    drawn = Table(
        title=f"{_several(evaluation.n_slices, 'slice')} of {_several(evaluation.n_patients, 'patient')}",
        caption=f"threshold {evaluation.threshold:g}; AP is average precision; ({percent} interval over patients)",
    )
    drawn.add_column("Metric")
    for heading in ("Mean of slices", "Mean of patients", "All pixels"):
        drawn.add_column(heading, justify="right")
    for metric, heading in _HEADINGS.items():
        scores = (evaluation.per_slice, evaluation.per_patient, evaluation.pooled)
        drawn.add_row(heading, *(_shown(getattr(each, metric)) for each in scores))
    return drawn


def _several(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _shown(score: Score) -> str:
    if score.value is None:
        return "undefined"
    if score.low is None or score.high is None:
        return f"{score.value:.3f}"
    return f"{score.value:.3f} ({score.low:.3f}–{score.high:.3f})"
