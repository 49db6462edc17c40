"""The metrics, one definition each.

Dice, IoU, precision and recall are functions of pixel counts, so that a slice, a patient (all of the patient's pixels
together) and a whole set (all patients' pixels together: "pooled") are scored by the same lines: add the counts, then
score. Average precision is a function of the probabilities and needs no threshold.

Where a metric is undefined it is NaN, never a number that flatters; each docstring says when.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Only the order of probabilities matters to average precision, and networks crowd at 0 and 1: bins of equal width on
# the logit scale resolve both ends. A float16 of 1 and one of 0.9995 still part; 1e-7 and 0 do not.
_LOGITS = np.linspace(-16.0, 16.0, 4000)
BIN_EDGES = 1 / (1 + np.exp(-_LOGITS))


@dataclass(frozen=True)
class Counts:
    """Pixels by truth and answer; true negatives are left out, no metric here uses them."""

    true_positive: int
    false_positive: int
    false_negative: int

    @classmethod
    def from_masks(cls, truth: ArrayLike, prediction: ArrayLike, known: ArrayLike | None = None) -> Counts:
        """Count the pixels of two masks.

        Parameters
        ----------
        truth, prediction : ArrayLike
            Bool, of one shape.
        known : ArrayLike, optional
            Bool, the same shape; where False the pixel is left out. All are known where not given.

        Raises
        ------
        ValueError
            If the shapes differ.
        """
        blood, drawn = np.asarray(truth, dtype=bool), np.asarray(prediction, dtype=bool)
        if blood.shape != drawn.shape:
            raise ValueError(f"truth is {blood.shape}, prediction is {drawn.shape}")
        if known is not None:
            sure = np.asarray(known, dtype=bool)
            blood, drawn = blood[sure], drawn[sure]
        both = int(np.count_nonzero(blood & drawn))
        return cls(both, int(np.count_nonzero(drawn)) - both, int(np.count_nonzero(blood)) - both)

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
        )


def dice(counts: Counts) -> float:
    """Dice = 2 TP / (2 TP + FP + FN).

    Truth and answer both empty: 1.0. One of them empty: 0.0. So a slice without blood scores 1 when nothing is drawn
    on it and 0 when a single pixel is.
    """
    total = 2 * counts.true_positive + counts.false_positive + counts.false_negative
    return 2 * counts.true_positive / total if total else 1.0


def iou(counts: Counts) -> float:
    """Intersection over union (Jaccard) = TP / (TP + FP + FN) = Dice / (2 - Dice).

    Truth and answer both empty: 1.0. One of them empty: 0.0.
    """
    total = counts.true_positive + counts.false_positive + counts.false_negative
    return counts.true_positive / total if total else 1.0


def precision(counts: Counts) -> float:
    """Precision = TP / (TP + FP): which share of the answer is blood. NaN where the answer is empty."""
    total = counts.true_positive + counts.false_positive
    return counts.true_positive / total if total else float("nan")


def recall(counts: Counts) -> float:
    """Recall = TP / (TP + FN): which share of the blood was found. NaN where the truth is empty."""
    total = counts.true_positive + counts.false_negative
    return counts.true_positive / total if total else float("nan")


def average_precision(truth: ArrayLike, probability: ArrayLike, known: ArrayLike | None = None) -> float:
    """Average precision = sum over thresholds n, from high to low, of (recall_n - recall_(n-1)) x precision_n.

    Every distinct probability is a threshold; nothing is interpolated (as scikit-learn's average_precision_score).
    NaN where the truth is empty. This is exact and sorts all pixels; over a whole set use :func:`probability_histogram`
    and :func:`average_precision_of_histogram`, whose memory does not grow.

    Parameters
    ----------
    truth : ArrayLike
        Bool, any shape.
    probability : ArrayLike
        Float in 0..1, the same shape.
    known : ArrayLike, optional
        Bool, the same shape; where False the pixel is left out.
    """
    blood, values = _pixels(truth, probability, known)
    _, group = np.unique(values, return_inverse=True)
    found = np.bincount(group, blood)
    return average_precision_of_histogram(np.stack([found, np.bincount(group) - found]))


def probability_histogram(truth: ArrayLike, probability: ArrayLike, known: ArrayLike | None = None) -> Integers:
    """Count pixels by truth and probability.

    Histograms of slices or patients may be added; the sum is that of all their pixels together.

    Returns
    -------
    Integers
        Int64, (2, bins): pixels with blood, pixels without; bins ascend, evenly on the logit scale.
    """
    blood, values = _pixels(truth, probability, known)
    place = np.searchsorted(BIN_EDGES, values, side="right")
    bins = len(BIN_EDGES) + 1
    return np.stack([np.bincount(place[blood], minlength=bins), np.bincount(place[~blood], minlength=bins)])


def average_precision_of_histogram(histogram: NDArray[Any]) -> float:
    """Average precision (see :func:`average_precision`) with the bins as thresholds.

    Pixels of one bin count as tied. Its bins are so narrow that this moves the result by less than 0.001 on
    probability maps; NaN where no pixel holds blood.

    Parameters
    ----------
    histogram : ndarray, shape (2, bins)
        Pixels with blood and without, by ascending probability.
    """
    blood, other = np.asarray(histogram, dtype=np.float64)[:, ::-1]
    total = blood.sum()
    if total == 0:
        return float("nan")
    found = np.cumsum(blood)
    drawn = found + np.cumsum(other)
    # A bin without blood adds nothing to the sum; leaving it out avoids 0 / 0 in the empty bins at the top.
    adds = blood > 0
    return float(np.sum(blood[adds] / total * found[adds] / drawn[adds]))


def mean_defined(values: ArrayLike) -> float:
    """Mean of the values that are no NaN; NaN where none is."""
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[~np.isnan(numbers)]
    return float(numbers.mean()) if numbers.size else float("nan")


def bootstrap_interval(
    values: ArrayLike,
    statistic: Callable[[NDArray[Any]], float] = mean_defined,
    *,
    level: float = 0.95,
    n: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval over patients.

    Patients are drawn with replacement, as many as there are, and the statistic is taken of what they bring; slices of
    one patient are alike and are never drawn apart. For a pooled metric let a patient bring its counts, and the
    statistic add them up.

    A wide interval with few patients is the truth, not a fault: with 5 patients the bootstrap knows 126 different
    draws, and its interval is rather too narrow than too wide. It says nothing of patients from another hospital.

    Parameters
    ----------
    values : ArrayLike
        (patients, ...), what each patient brings.
    statistic : callable, default: mean_defined
        Of the drawn values, (patients, ...); a draw where it is NaN is left out.
    level : float, default: 0.95
        Share of the draws inside the interval.
    n : int, default: 2000
        Draws.
    seed : int, default: 0
        Of the random numbers; one seed draws the same patients for every metric.

    Returns
    -------
    tuple of (float, float)
        (low, high); (NaN, NaN) with fewer than two patients or where the statistic is never defined.

    References
    ----------
    Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13
    """
    brought = np.asarray(values)
    patients = len(brought)
    if patients < 2:
        return float("nan"), float("nan")
    draws = np.random.default_rng(seed).integers(0, patients, (n, patients))
    results = np.array([statistic(brought[draw]) for draw in draws])
    results = results[~np.isnan(results)]
    if results.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(results, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _pixels(
    truth: ArrayLike, probability: ArrayLike, known: ArrayLike | None
) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Flatten to the known pixels, after checking them."""
    blood, values = np.asarray(truth, dtype=bool), np.asarray(probability)
    if blood.shape != values.shape:
        raise ValueError(f"truth is {blood.shape}, probability is {values.shape}")
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError("probabilities must lie in 0..1 and be no NaN")
    if known is None:
        return blood.ravel(), values.ravel()
    sure = np.asarray(known, dtype=bool)
    return blood[sure], values[sure]
