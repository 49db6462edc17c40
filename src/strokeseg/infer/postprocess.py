"""From the probability map to the mask and its lesions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg import brain
from strokeseg.infer.models import Card
from strokeseg.infer.preprocess import Square
from strokeseg.scan import Scan

NEAR_BRAIN_MM = 3.0
"""The brain's region is known to 2 mm; blood under the skull belongs to it."""

_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)


def keep_lesions(
    probability: NDArray[np.float16], scan: Scan, square: Square, card: Card
) -> tuple[NDArray[np.bool_], int]:
    """Cut at the card's threshold, and drop specks and what lies outside of the skull.

    Outside is a component of which less than half lies in the brain or within 3 mm of it
    (:func:`strokeseg.brain.near`); so it is with the face, the skull's base and the vertex, where bone's blurred edge
    has the density of blood. Nothing is dropped for its place where no brain is found, or in under five slices, on
    which the temporal lobes and the posterior fossa may lie apart.

    A speck is a component (26 neighbours) under ``card.smallest_mm3`` where the spacing is known; elsewhere one that
    covers, over all its slices, less than ``card.smallest_share`` of the head's square on one slice.

    Returns
    -------
    bool, (slices, rows, columns), and the number of components dropped
    """
    raw = probability >= np.float16(card.threshold)
    labels, count = ndimage.label(raw, structure=_NEIGHBOURS)
    if count == 0:
        return raw, 0
    weights = scan.weights_mm
    if weights is not None:
        places = np.nonzero(labels)
        share = (weights * scan.planes.pixel_area_mm2)[places[0]]
        sizes = np.bincount(labels[places], share, minlength=count + 1)
        smallest = card.smallest_mm3
    else:
        sizes = np.bincount(labels.ravel(), minlength=count + 1).astype(float)
        smallest = card.smallest_share * square.side**2
    keep = (sizes >= smallest) & _in_the_skull(labels, count, scan)
    keep[0] = False
    return keep[labels], int(count - keep.sum())


def _in_the_skull(labels: NDArray[np.int32], count: int, scan: Scan) -> NDArray[np.bool_]:
    """Tell of each component (0 is background) whether at least half of it lies in the brain or near to it."""
    near = brain.near(scan, labels > 0, NEAR_BRAIN_MM) if len(labels) >= 5 else None
    if near is None:
        return np.ones(count + 1, dtype=bool)
    inside = np.bincount(labels[near], minlength=count + 1)
    return np.asarray(2 * inside >= np.bincount(labels.ravel(), minlength=count + 1))
