"""The metrics of pixels, one definition each.

Dice, IoU, precision and recall are functions of pixel counts, so that a slice, a patient (all pixels of the patient
together) and a whole set (all patients together: "pooled") are scored by the same functions: add the counts, then
compute the metric. Average precision is a function of the probabilities and needs no threshold.

An undefined metric is NaN, never a favourable number; each docstring states when.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Average precision depends only on the order of probabilities, and most are close to 0 or 1: bins of equal width on the
# logit scale resolve both ends. float16 values of 1 and 0.9995 are in different bins; 1e-7 and 0 are not.
_LOGITS = np.linspace(-16.0, 16.0, 4000)
BIN_EDGES = 1 / (1 + np.exp(-_LOGITS))


@dataclass(frozen=True)
class Counts:
    """Numbers of pixels (or lesions) by truth and prediction; no metric here uses true negatives."""

    true_positive: int
    false_positive: int
    false_negative: int

    @classmethod
    def from_masks(cls, truth: ArrayLike, prediction: ArrayLike, known: ArrayLike | None = None) -> Counts:
        """Count the pixels of two masks.

        Parameters
        ----------
        truth, prediction : array_like of bool, same shape
            Annotated and predicted blood.
        known : array_like of bool, same shape, optional
            Where False, the pixel is left out. By default all are known.

        Returns
        -------
        Counts
            Counts of pixels.

        Raises
        ------
        ValueError
            If the shapes differ.
        """
        blood, predicted = np.asarray(truth, dtype=bool), np.asarray(prediction, dtype=bool)
        if blood.shape != predicted.shape:
            raise ValueError(f"truth is {blood.shape}, prediction is {predicted.shape}")
        if known is not None:
            used = np.asarray(known, dtype=bool)
            blood, predicted = blood[used], predicted[used]
        both = int(np.count_nonzero(blood & predicted))
        return cls(both, int(np.count_nonzero(predicted)) - both, int(np.count_nonzero(blood)) - both)

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
        )


def dice(counts: Counts) -> float:
    """Dice = 2 TP / (2 TP + FP + FN).

    Both masks empty: 1.0. One of them empty: 0.0. So a slice without blood scores 1 if no pixel is marked, and 0 if a
    single pixel is.
    """
    total = 2 * counts.true_positive + counts.false_positive + counts.false_negative
    return 2 * counts.true_positive / total if total else 1.0


def iou(counts: Counts) -> float:
    """Intersection over union (Jaccard) = TP / (TP + FP + FN) = Dice / (2 - Dice).

    Both masks empty: 1.0. One of them empty: 0.0.
    """
    total = counts.true_positive + counts.false_positive + counts.false_negative
    return counts.true_positive / total if total else 1.0


def precision(counts: Counts) -> float:
    """Precision = TP / (TP + FP): the share of the prediction that is blood. NaN if the prediction is empty."""
    total = counts.true_positive + counts.false_positive
    return counts.true_positive / total if total else float("nan")


def recall(counts: Counts) -> float:
    """Recall = TP / (TP + FN): the share of the blood that is predicted. NaN if the truth is empty."""
    total = counts.true_positive + counts.false_negative
    return counts.true_positive / total if total else float("nan")


def average_precision(truth: ArrayLike, probability: ArrayLike, known: ArrayLike | None = None) -> float:
    """Average precision = sum over thresholds n, from high to low, of (recall_n - recall_(n-1)) x precision_n.

    Every distinct probability is a threshold; nothing is interpolated (as scikit-learn's average_precision_score).
    NaN if the truth is empty. This is exact and sorts all pixels. For a whole set use :func:`probability_histogram` and
    :func:`average_precision_of_histogram`, whose memory does not grow.

    Parameters
    ----------
    truth : array_like of bool, any shape
        Annotated blood.
    probability : array_like of float, same shape
        Probability of blood, 0..1.
    known : array_like of bool, same shape, optional
        Where False, the pixel is left out. By default all are known.
    """
    blood, values = _pixels(truth, probability, known)
    _, group = np.unique(values, return_inverse=True)
    with_blood = np.bincount(group, blood)
    return average_precision_of_histogram(np.stack([with_blood, np.bincount(group) - with_blood]))


def probability_histogram(truth: ArrayLike, probability: ArrayLike, known: ArrayLike | None = None) -> Integers:
    """Count pixels by truth and probability.

    Histograms of slices or patients may be added; the sum is that of all their pixels together.

    Returns
    -------
    ndarray of int64, shape (2, bins)
        Pixels with blood, and pixels without; bins ascend, evenly on the logit scale.
    """
    blood, values = _pixels(truth, probability, known)
    index = np.searchsorted(BIN_EDGES, values, side="right")
    bins = len(BIN_EDGES) + 1
    return np.stack([np.bincount(index[blood], minlength=bins), np.bincount(index[~blood], minlength=bins)])


def average_precision_of_histogram(histogram: NDArray[Any]) -> float:
    """Average precision (see :func:`average_precision`) with the bins as thresholds.

    Pixels of one bin count as tied. The bins are so narrow that this changes the result by less than 0.001 on
    probability maps. NaN if no pixel is blood.

    Parameters
    ----------
    histogram : ndarray, shape (2, bins)
        Pixels with blood and without, by ascending probability.
    """
    blood, other = np.asarray(histogram, dtype=np.float64)[:, ::-1]
    total = blood.sum()
    if total == 0:
        return float("nan")
    true_positive = np.cumsum(blood)
    predicted = true_positive + np.cumsum(other)
    # A bin without blood adds nothing to the sum; leaving it out avoids 0 / 0 in the empty bins at the top.
    used = blood > 0
    return float(np.sum(blood[used] / total * true_positive[used] / predicted[used]))


def mean_defined(values: ArrayLike) -> float:
    """Mean of the values other than NaN; NaN if there is none."""
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

    Patients are drawn with replacement, as many as there are, and the statistic is computed from their values. Slices
    of one patient are similar, and are always drawn together. For a pooled metric the values are counts, which the
    statistic adds up.

    A wide interval with few patients is correct: with 5 patients there are 126 different draws, and the interval is
    rather too narrow than too wide. It does not extend to patients from another hospital.

    Parameters
    ----------
    values : array_like, shape (patients, ...)
        Values of each patient.
    statistic : callable, default: mean_defined
        Function of the drawn values, (patients, ...); draws for which it is NaN are left out.
    level : float, default: 0.95
        Share of the draws inside the interval.
    n : int, default: 2000
        Number of draws.
    seed : int, default: 0
        Seed of the random numbers; the same seed draws the same patients for every metric.

    Returns
    -------
    low : float
        Lower end of the interval; NaN with fewer than two patients, or if the statistic is never defined.
    high : float
        Upper end, or NaN.

    References
    ----------
    Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13
    """
    of_patients = np.asarray(values)
    patients = len(of_patients)
    if patients < 2:
        return float("nan"), float("nan")
    draws = np.random.default_rng(seed).integers(0, patients, (n, patients))
    results = np.array([statistic(of_patients[draw]) for draw in draws])
    results = results[~np.isnan(results)]
    if results.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(results, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _pixels(
    truth: ArrayLike, probability: ArrayLike, known: ArrayLike | None
) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Check the pixels, and flatten the known ones."""
    blood, values = np.asarray(truth, dtype=bool), np.asarray(probability)
    if blood.shape != values.shape:
        raise ValueError(f"truth is {blood.shape}, probability is {values.shape}")
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError("probabilities must be in 0..1 and not NaN")
    if known is None:
        return blood.ravel(), values.ravel()
    used = np.asarray(known, dtype=bool)
    return blood[used], values[used]
