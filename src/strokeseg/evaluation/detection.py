"""Whether a slice with blood is told from one without."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

TOP_SHARE = 0.0005
"""Of a slice's pixels, those of highest probability that its score is the mean of: 131 of 512 x 512, about 0.2 cm² of a
head's slice. One pixel alone would be noise."""


def detection_score(probability: ArrayLike, known: ArrayLike | None = None) -> float:
    """Score a slice by the mean of its highest probabilities (:data:`TOP_SHARE` of its pixels, at least one).

    Parameters
    ----------
    probability : ArrayLike
        Float in 0..1, (rows, columns).
    known : ArrayLike, optional
        Bool, the same shape; where False the pixel is left out.

    Returns
    -------
    float
        Float in 0..1; NaN without a pixel.
    """
    values = np.asarray(probability, dtype=np.float32)
    values = values.ravel() if known is None else values[np.asarray(known, dtype=bool)]
    if not values.size:
        return float("nan")
    top = max(1, round(TOP_SHARE * values.size))
    return float(np.partition(values, values.size - top)[-top:].mean(dtype=np.float64))


def roc_auc(blood: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Area under the ROC curve = chance that a slice with blood scores higher than one without; ties count half.

    NaN where slices with blood, or slices without, are missing.

    Parameters
    ----------
    blood : ArrayLike
        Bool, (slices,).
    score : ArrayLike
        Float, (slices,).
    weight : ArrayLike, optional
        Float, (slices,), how often each slice counts; once where not given.
    """
    ill, values = np.asarray(blood, dtype=bool), np.asarray(score, dtype=np.float64)
    times = np.ones(len(values)) if weight is None else np.asarray(weight, dtype=np.float64)
    order = np.unique(values, return_inverse=True)[1]
    with_blood = np.bincount(order[ill], times[ill], minlength=order.max(initial=-1) + 1)
    without = np.bincount(order[~ill], times[~ill], minlength=len(with_blood))
    pairs = with_blood.sum() * without.sum()
    if pairs == 0:
        return float("nan")
    lower = np.cumsum(without) - without / 2
    return float((with_blood * lower).sum() / pairs)
