"""Compare predicted probabilities with the frequency of blood."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

BINS = 15
MIN_PROBABILITY = 0.01
"""Pixels of lower probability are left out: nearly all lie outside of the head or in healthy brain, have the correct
probability 0, and would make any network look calibrated. Pixels are selected by the prediction; a selection by the
truth would bias the bins."""


def calibration_sums(truth: ArrayLike, probability: ArrayLike, known: ArrayLike | None = None) -> Floats:
    """Sum up pixels by probability; sums of slices or patients may be added.

    Parameters
    ----------
    truth : array_like of bool, any shape
        Annotated blood.
    probability : array_like of float, same shape
        Probability of blood, 0..1.
    known : array_like of bool, same shape, optional
        Where False, the pixel is left out. By default all are known.

    Returns
    -------
    ndarray of float, shape (3, bins)
        Number of pixels, sum of their probabilities, number of pixels with blood; bins of equal width over 0..1.
    """
    values = np.asarray(probability, dtype=np.float32)
    used = values >= MIN_PROBABILITY
    if known is not None:
        used &= np.asarray(known, dtype=bool)
    selected = values[used].astype(np.float64)
    bins = np.minimum((selected * BINS).astype(np.int64), BINS - 1)
    blood = np.asarray(truth, dtype=bool)[used]
    return np.stack([np.bincount(bins, weight, minlength=BINS) for weight in (np.ones(len(selected)), selected, blood)])


def calibration_error(sums: ArrayLike) -> float:
    """Expected calibration error = sum over bins of (n_b / n) x |share with blood in b - mean probability in b|.

    Over the pixels of probability 0.01 and more (Guo et al., ICML 2017: 15 bins). NaN without such a pixel.

    Parameters
    ----------
    sums : array_like of float, shape (3, bins)
        Of :func:`calibration_sums`.

    Returns
    -------
    float
        The error, 0..1.
    """
    pixels, expected, blood = np.asarray(sums, dtype=np.float64)
    return float(np.abs(blood - expected).sum() / pixels.sum()) if pixels.sum() else float("nan")
