"""Whether a stated probability is as often right as it says."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

BINS = 15
MIN_PROBABILITY = 0.01
"""Pixels below are left out: nearly all lie outside of the head or deep in healthy brain, are answered with 0 and are
right, and any network would look calibrated. The choice is by the answer; one by the truth would bias the bins."""


def calibration_sums(truth: ArrayLike, probability: ArrayLike, known: ArrayLike | None = None) -> Floats:
    """Sum up pixels by probability; sums of slices or patients may be added.

    Parameters
    ----------
    truth : ArrayLike
        Bool, any shape.
    probability : ArrayLike
        Float in 0..1, the same shape.
    known : ArrayLike, optional
        Bool, the same shape; where False the pixel is left out.

    Returns
    -------
    Floats
        (3, bins): pixels, their probabilities added up, pixels with blood; bins are of equal width over 0..1.
    """
    values = np.asarray(probability, dtype=np.float32)
    used = values >= MIN_PROBABILITY
    if known is not None:
        used &= np.asarray(known, dtype=bool)
    chosen = values[used].astype(np.float64)
    place = np.minimum((chosen * BINS).astype(np.int64), BINS - 1)
    blood = np.asarray(truth, dtype=bool)[used]
    return np.stack([np.bincount(place, weight, minlength=BINS) for weight in (np.ones(len(chosen)), chosen, blood)])


def calibration_error(sums: ArrayLike) -> float:
    """Expected calibration error = sum over bins of (n_b / n) x |share with blood in b - mean probability in b|.

    Over the pixels of probability 0.01 and more (Guo et al., ICML 2017: 15 bins). NaN where there is none, as when the
    network answers nothing at all.

    Parameters
    ----------
    sums : ArrayLike
        (3, bins), of :func:`calibration_sums`.
    """
    pixels, stated, blood = np.asarray(sums, dtype=np.float64)
    return float(np.abs(blood - stated).sum() / pixels.sum()) if pixels.sum() else float("nan")
