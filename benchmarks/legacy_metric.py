"""The Dice and IoU over image columns that an earlier program printed, for the appendix of docs/results.md."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

THRESHOLD = 0.75


@dataclass(frozen=True)
class SeedLegacy:
    """Mean Dice and mean IoU over image columns; NaN if no column holds blood."""

    dice: float
    iou: float


def seed_legacy(truth: ArrayLike, probability: ArrayLike) -> SeedLegacy:
    """Compute the mean Dice and IoU over the image columns that hold blood.

    The mask is cut above 0.75. The sums run over (channels, rows) of (images, channels, rows, columns), so every column
    is a sample; columns without blood are dropped. False answers beside the columns of a lesion therefore cost nothing,
    and slices without blood do not count.

    Parameters
    ----------
    truth : ndarray of bool, shape (..., rows, columns)
        Annotated blood.
    probability : ndarray of float, same shape
        Probabilities, 0..1.

    Returns
    -------
    SeedLegacy
        Both means.
    """
    columns, dice, iou = seed_legacy_sums(truth, probability)
    return SeedLegacy(float(dice / columns), float(iou / columns)) if columns else SeedLegacy(np.nan, np.nan)


def seed_legacy_sums(truth: ArrayLike, probability: ArrayLike) -> NDArray[np.float64]:
    """Sum up the columns that hold blood; the sums of slices may be added.

    Parameters
    ----------
    truth : ndarray of bool, shape (..., rows, columns)
        Annotated blood.
    probability : ndarray of float, same shape
        Probabilities, 0..1.

    Returns
    -------
    ndarray of float, shape (3,)
        Number of columns that hold blood, sum of their Dice, sum of their IoU.
    """
    blood, predicted = np.asarray(truth, dtype=bool), np.asarray(probability) > THRESHOLD
    if blood.shape != predicted.shape:
        raise ValueError(f"truth is {blood.shape}, probability is {predicted.shape}")
    both, total = (blood & predicted).sum(axis=-2), blood.sum(axis=-2) + predicted.sum(axis=-2)
    used = blood.any(axis=-2)
    both, total = both[used].astype(np.float64), total[used]
    return np.array([used.sum(), (2 * both / total).sum(), (both / (total - both)).sum()], dtype=np.float64)
