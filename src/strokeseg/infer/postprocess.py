"""From the probability map to the mask and its lesions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg import brain
from strokeseg.infer.models import Card
from strokeseg.infer.preprocess import Square
from strokeseg.scan import Scan

DENSEST_BLOOD_HU = 110
"""Above it lie bone, calcification, contrast medium and metal. Blood's density follows its hemoglobin, and a retracted
clot reaches 80-100 HU (New & Aronow, Radiology 1976;121:635); 10 HU are left for noise."""

NEAR_BRAIN_MM = 3.0
"""The brain's region is known to 2 mm; blood under the skull belongs to it."""

MOST_BONE_AROUND = 2 / 3
"""Of 202 bleeds drawn on slices in HU (BHSD, MBH-Seg) none has bone on more than 53 % of its surroundings:
tests/infer/test_answer.py."""

_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)


def keep_lesions(
    probability: NDArray[np.float16], scan: Scan, square: Square, card: Card
) -> tuple[NDArray[np.bool_], int]:
    """Cut at the card's threshold, and drop specks and what lies outside of the skull.

    Outside is a component of which less than half lies in the brain or within 3 mm of it
    (:func:`strokeseg.brain.near`); so it is with the face, the skull's base and the vertex, where bone's blurred edge
    has the density of blood. Nothing is dropped for its place where no brain is found, or in under five slices, on
    which the temporal lobes and the posterior fossa may lie apart.

    So it is with a component that bone surrounds (:data:`MOST_BONE_AROUND`) in a calibrated scan: there the skull's
    vault and the brain below share a slice's thickness.

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
    for number in np.flatnonzero(keep):
        keep[number] = _bone_around(labels, int(number), scan) <= MOST_BONE_AROUND
    return keep[labels], int(count - keep.sum())


def _in_the_skull(labels: NDArray[np.int32], count: int, scan: Scan) -> NDArray[np.bool_]:
    """Tell of each component (0 is background) whether at least half of it lies in the brain or near to it."""
    near = brain.near(scan, labels > 0, NEAR_BRAIN_MM) if len(labels) >= 5 else None
    if near is None:
        return np.ones(count + 1, dtype=bool)
    inside = np.bincount(labels[near], minlength=count + 1)
    return np.asarray(2 * inside >= np.bincount(labels.ravel(), minlength=count + 1))


def _bone_around(labels: NDArray[np.int32], number: int, scan: Scan) -> float:
    """Give the share of bone in a component's surroundings, from 2 to 5 mm around it in its slices; 0.0 where unknown.

    Blood under the skull has bone on its one side only, and the first 2 mm are blurred.
    """
    if not (scan.calibrated and scan.spacing_known):
        return 0.0
    row_mm, column_mm = scan.planes.pixel_spacing_mm
    slices, rows, columns = ndimage.find_objects(labels, max_label=number)[number - 1]
    reach = [int(np.ceil(5 / mm)) + 1 for mm in (row_mm, column_mm)]
    box = (
        slices,
        slice(max(0, rows.start - reach[0]), rows.stop + reach[0]),
        slice(max(0, columns.start - reach[1]), columns.stop + reach[1]),
    )
    around = bone = 0
    for component, hu in zip(labels[box] == number, scan.hu[box], strict=True):
        if component.any():
            apart_mm = ndimage.distance_transform_edt(~component, sampling=(row_mm, column_mm))
            ring = (apart_mm > 2) & (apart_mm <= 5)
            around += int(ring.sum())
            bone += int((hu[ring] > DENSEST_BLOOD_HU).sum())
    return bone / around if around else 0.0
