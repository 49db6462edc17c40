"""From the probability map to the mask and its lesions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.infer.models import Card
from strokeseg.infer.preprocess import Square
from strokeseg.scan import Scan

_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)


def keep_lesions(
    probability: NDArray[np.float16], scan: Scan, square: Square, card: Card
) -> tuple[NDArray[np.bool_], int]:
    """Cut at the card's threshold and drop specks.

    A speck is a component (26 neighbours) under ``card.smallest_mm3`` where the spacing is known; elsewhere one that
    covers, over all its slices, less than ``card.smallest_share`` of the head's square on one slice.

    Returns
    -------
    bool, (slices, rows, columns), and the number of specks dropped
    """
    raw = probability >= np.float16(card.threshold)
    labels, count = ndimage.label(raw, structure=_NEIGHBOURS)
    if count == 0:
        return raw, 0
    weights = scan.weights_mm
    if weights is not None:
        per_slice = np.repeat(weights * scan.planes.pixel_area_mm2, raw[0].size).reshape(raw.shape)
        sizes = np.bincount(labels.ravel(), per_slice.ravel(), minlength=count + 1)
        smallest = card.smallest_mm3
    else:
        sizes = np.bincount(labels.ravel(), minlength=count + 1).astype(float)
        smallest = card.smallest_share * square.side**2
    keep = sizes >= smallest
    keep[0] = False
    return keep[labels], int(count - keep.sum())
