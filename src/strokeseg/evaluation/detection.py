"""Detection: how well slices with blood are distinguished from slices without."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

TOP_SHARE = 0.0005
"""Share of a slice's pixels whose mean is its score, those of highest probability: 131 of 512 x 512, about 0.2 cm² of a
head's slice. A single pixel would be noise."""


def detection_score(probability: ArrayLike, known: ArrayLike | None = None) -> float:
    """Score a slice by the mean of its highest probabilities (:data:`TOP_SHARE` of its pixels, at least one).

    Parameters
    ----------
    probability : array_like of float, shape (rows, columns)
        Probability of blood, 0..1.
    known : array_like of bool, same shape, optional
        Where False, the pixel is left out. By default all are known.

    Returns
    -------
    float
        The score, 0..1; NaN without a known pixel.
    """
    values = np.asarray(probability, dtype=np.float32)
    values = values.ravel() if known is None else values[np.asarray(known, dtype=bool)]
    if not values.size:
        return float("nan")
    top = max(1, round(TOP_SHARE * values.size))
    return float(np.partition(values, values.size - top)[-top:].mean(dtype=np.float64))


def roc_auc(blood: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Area under the ROC curve = probability that a slice with blood scores higher than one without; ties count half.

    NaN without slices with blood, or without slices without blood.

    Parameters
    ----------
    blood : array_like of bool, shape (slices,)
        Whether each slice holds blood.
    score : array_like of float, shape (slices,)
        Score of each slice.
    weight : array_like of float, shape (slices,), optional
        How often each slice counts. Default: once.

    Returns
    -------
    float
        The area, 0..1.
    """
    positive, values = np.asarray(blood, dtype=bool), np.asarray(score, dtype=np.float64)
    times = np.ones(len(values)) if weight is None else np.asarray(weight, dtype=np.float64)
    order = np.unique(values, return_inverse=True)[1]
    with_blood = np.bincount(order[positive], times[positive], minlength=order.max(initial=-1) + 1)
    without = np.bincount(order[~positive], times[~positive], minlength=len(with_blood))
    pairs = with_blood.sum() * without.sum()
    if pairs == 0:
        return float("nan")
    lower = np.cumsum(without) - without / 2
    return float((with_blood * lower).sum() / pairs)
