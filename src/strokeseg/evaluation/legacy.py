"""The predecessor's metric, for comparison with its figures and for nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

THRESHOLD = 0.75


@dataclass(frozen=True)
class SeedLegacy:
    """Mean Dice and mean IoU over image columns; NaN where no column holds blood."""

    dice: float
    iou: float


def seed_legacy(truth: ArrayLike, probability: ArrayLike) -> SeedLegacy:
    """Score as the predecessor did: the mean over the image columns that hold blood of each column's Dice and IoU.

    The mask is cut above 0.75. Its sums ran over (channels, rows) of (images, channels, rows, columns), so that every
    column became a sample; a column without blood was dropped. What is drawn beside or away from the lesion's columns
    therefore costs nothing, and no slice without blood counts at all.

    Parameters
    ----------
    truth : ArrayLike
        Bool, (..., rows, columns).
    probability : ArrayLike
        Float in 0..1, the same shape.
    """
    columns, dice, iou = seed_legacy_sums(truth, probability)
    return SeedLegacy(float(dice / columns), float(iou / columns)) if columns else SeedLegacy(np.nan, np.nan)


def seed_legacy_sums(truth: ArrayLike, probability: ArrayLike) -> NDArray[np.float64]:
    """Return (columns that hold blood, sum of their Dice, sum of their IoU); the sums of slices may be added.

    Parameters are those of :func:`seed_legacy`.
    """
    blood, drawn = np.asarray(truth, dtype=bool), np.asarray(probability) > THRESHOLD
    if blood.shape != drawn.shape:
        raise ValueError(f"truth is {blood.shape}, probability is {drawn.shape}")
    both, sides = (blood & drawn).sum(axis=-2), blood.sum(axis=-2) + drawn.sum(axis=-2)
    used = blood.any(axis=-2)
    both, sides = both[used].astype(np.float64), sides[used]
    return np.array([used.sum(), (2 * both / sides).sum(), (both / (sides - both)).sum()], dtype=np.float64)
