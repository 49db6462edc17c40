"""From the probability map to the mask and its lesions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.imaging import brain_mask, components, float16
from strokeseg.imaging.components import Labels
from strokeseg.scan import Scan
from strokeseg.segmentation.models import Card
from strokeseg.segmentation.preprocess import HeadSquare

MAX_BLOOD_HU = 110
"""Above it lie bone, calcification, contrast medium and metal. Blood's density follows its hemoglobin, and a retracted
clot reaches 80-100 HU (New & Aronow, Radiology 1976;121:635); 10 HU are left for noise."""

NEAR_BRAIN_MM = 3.0
"""The brain's region is known to 2 mm; blood under the skull belongs to it."""

MAX_SURROUNDING_BONE = 2 / 3
"""Of 202 bleeds drawn on slices in HU (BHSD, MBH-Seg) none has bone on more than 53 % of its surroundings:
tests/infer/test_answer.py."""

MIN_CONTRAST_HU = 5.0
"""What is no denser than its surroundings is no blood. Of 201 bleeds drawn on slices in HU (BHSD, MBH-Seg), 199 have a
densest tenth that is 8 HU and more above the soft tissue around them; the others are old blood of one patient."""


def extract_lesion_mask(
    probability: NDArray[np.float16], scan: Scan, square: HeadSquare, card: Card
) -> tuple[NDArray[np.bool_], int]:
    """Cut at the card's threshold, and drop specks and what lies outside of the skull.

    Outside is a component of which less than half lies in the brain or within 3 mm of it
    (:func:`strokeseg.imaging.brain_mask.find_near_brain`); so it is with the face, the skull's base and the vertex, where bone's blurred edge
    has the density of blood. Nothing is dropped for its place where no brain is found, or in under five slices, on
    which the temporal lobes and the posterior fossa may lie apart.

    So it is with a component that bone surrounds (:data:`MOST_BONE_AROUND`) in a calibrated scan: there the skull's
    vault and the brain below share a slice's thickness.

    So it is with what is no denser than the tissue around it (:data:`LEAST_CONTRAST_HU`) in a calibrated scan.

    A speck is a component under ``card.smallest_mm3`` where the spacing is known; elsewhere one that
    covers, over all its slices, less than ``card.smallest_share`` of the head's square on one slice.

    Returns
    -------
    tuple of (ndarray of bool, int), shape (slices, rows, columns)
        And the number of components dropped.
    """
    raw = float16.at_least(probability, card.threshold)
    labels, count = components.label(raw, scan)
    if count == 0:
        return raw, 0
    marked = components.find_labelled_pixels(labels)
    numbers = labels.reshape(-1)[marked]
    weights = scan.weights_mm
    if weights is not None:
        share = (weights * scan.planes.pixel_area_mm2)[marked // labels[0].size]
        smallest = card.smallest_mm3
    else:
        share = np.ones(len(marked))
        smallest = card.smallest_share * square.side**2
    sizes = np.bincount(numbers, share, minlength=count + 1)
    keep = (sizes >= smallest) & _is_near_brain(raw, marked, numbers, count, scan)
    keep[0] = False
    if scan.calibrated and scan.spacing_known:
        for number, box in enumerate(components.find_bounding_boxes(labels), start=1):
            if keep[number] and box is not None:
                inside, around = sample_component_and_surroundings(labels, number, box, scan)
                keep[number] = surrounding_bone_share(around) <= MAX_SURROUNDING_BONE and is_denser_than_surroundings(
                    inside, around
                )
    kept = np.zeros(labels.size, dtype=bool)
    kept[marked] = keep[numbers]
    return kept.reshape(labels.shape), int(count - keep.sum())


def _is_near_brain(
    raw: NDArray[np.bool_], marked: NDArray[np.intp], numbers: Labels, count: int, scan: Scan
) -> NDArray[np.bool_]:
    """Tell of each component (0 is background) whether at least half of it lies in the brain or near to it.

    Parameters
    ----------
    marked : ndarray of intp
        Where, in the flat scan, components lie; a thin series has hundreds of times as many other pixels.
    numbers : Labels
        The components' numbers there.
    """
    near = brain_mask.find_near_brain(scan, raw, NEAR_BRAIN_MM, marked) if len(raw) >= 5 else None
    if near is None:
        return np.ones(count + 1, dtype=bool)
    inside = np.bincount(numbers, near, minlength=count + 1)
    return np.asarray(2 * inside >= np.bincount(numbers, minlength=count + 1))


def surrounding_bone_share(around: NDArray[np.int16]) -> float:
    """Return the share of bone in a component's surroundings, HU; 0.0 where there are none.

    Blood under the skull has bone on its one side only.
    """
    return float((around > MAX_BLOOD_HU).mean()) if around.size else 0.0


def is_denser_than_surroundings(inside: NDArray[np.int16], around: NDArray[np.int16]) -> bool:
    """Return whether a component's densest tenth is denser than the soft tissue around it; True where there is none.

    Not its mean: old and layered blood is dense in parts only.
    """
    soft = around[(around > 0) & (around <= MAX_BLOOD_HU)]
    if not soft.size:
        return True
    return bool(np.percentile(inside, 90) - np.median(soft) >= MIN_CONTRAST_HU)


def sample_component_and_surroundings(
    labels: Labels, number: int, box: tuple[slice, slice, slice], scan: Scan
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Return the HU of a component's pixels and of those 2 to 5 mm around it in its slices; the first 2 mm are blurred.

    Parameters
    ----------
    labels : Labels
        (slices, rows, columns).
    number : int
        The component's.
    box : tuple of (slice, slice, slice)
        That just holds it.
    scan : Scan
        Calibrated and of known spacing.
    """
    slices, rows, columns = box
    row_mm, column_mm = scan.planes.pixel_spacing_mm
    reach = [int(np.ceil(5 / mm)) + 1 for mm in (row_mm, column_mm)]
    wide = (
        slices,
        slice(max(0, rows.start - reach[0]), rows.stop + reach[0]),
        slice(max(0, columns.start - reach[1]), columns.stop + reach[1]),
    )
    around = []
    for component, hu in zip(labels[wide] == number, scan.hu[wide], strict=True):
        if component.any():
            apart_mm = ndimage.distance_transform_edt(~component, sampling=(row_mm, column_mm))
            around.append(hu[(apart_mm > 2) & (apart_mm <= 5)])
    return scan.hu[box][labels[box] == number], np.concatenate(around)
