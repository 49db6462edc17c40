"""From the probability map to the mask of the lesions."""

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
"""Highest density of blood. Bone, calcification, contrast medium and metal are denser. The density of blood follows its
hemoglobin; a retracted clot reaches 80-100 HU (New & Aronow, Radiology 1976;121:635), and 10 HU allow for noise."""

NEAR_BRAIN_MM = 3.0
"""Tolerance for blood under the skull: the brain mask is accurate to 2 mm."""

MAX_SURROUNDING_BONE = 2 / 3
"""Of 202 lesions drawn on slices in HU (BHSD, MBH-Seg), none has bone on more than 53 % of its surroundings:
tests/segmentation/test_prediction.py."""

MIN_CONTRAST_HU = 5.0
"""Lowest contrast of blood to its surroundings. Of 201 lesions drawn on slices in HU (BHSD, MBH-Seg), the densest tenth
of 199 is 8 HU or more above the surrounding soft tissue; the other two are old blood of one patient."""


def extract_lesion_mask(
    probability: NDArray[np.float16], scan: Scan, square: HeadSquare, card: Card
) -> tuple[NDArray[np.bool_], int]:
    """Apply the card's threshold, and drop the components that are no lesions.

    Four kinds of components are dropped:

    - Small: smaller than ``card.smallest_mm3`` if the spacing is known; otherwise the area, summed over all slices, is
      less than ``card.smallest_share`` of the square around the head.
    - Outside of the skull: less than half lies in the brain or within 3 mm of it
      (:func:`strokeseg.imaging.brain_mask.find_near_brain`). At the face, the skull base and the vertex, the blurred
      edge of bone has the density of blood. This rule is skipped if no brain is detected, and below five slices, where
      the temporal lobes and the posterior fossa may appear as separate parts.
    - Surrounded by bone (:data:`MAX_SURROUNDING_BONE`), in a calibrated scan: one slice there contains both the vault
      of the skull and the brain below it.
    - Not denser than the surrounding tissue (:data:`MIN_CONTRAST_HU`), in a calibrated scan.

    Parameters
    ----------
    probability : ndarray of float16, shape (slices, rows, columns)
        Probability map.
    scan : Scan
        The scan.
    square : HeadSquare
        Square around the head.
    card : Card
        Card of the network.

    Returns
    -------
    tuple of (ndarray of bool, int)
        Mask, shape (slices, rows, columns), and the number of dropped components.
    """
    raw = float16.at_least(probability, card.threshold)
    labels, count = components.label(raw, scan)
    if count == 0:
        return raw, 0
    pixels = components.find_labelled_pixels(labels)
    numbers = labels.reshape(-1)[pixels]
    weights = scan.weights_mm
    if weights is not None:
        share = (weights * scan.planes.pixel_area_mm2)[pixels // labels[0].size]
        smallest = card.smallest_mm3
    else:
        share = np.ones(len(pixels))
        smallest = card.smallest_share * square.side**2
    sizes = np.bincount(numbers, share, minlength=count + 1)
    keep = (sizes >= smallest) & _is_near_brain(raw, pixels, numbers, count, scan)
    keep[0] = False
    if scan.calibrated and scan.spacing_known:
        for number, box in enumerate(components.find_bounding_boxes(labels), start=1):
            if keep[number] and box is not None:
                inside, around = sample_component_and_surroundings(labels, number, box, scan)
                keep[number] = surrounding_bone_share(around) <= MAX_SURROUNDING_BONE and is_denser_than_surroundings(
                    inside, around
                )
    mask = np.zeros(labels.size, dtype=bool)
    mask[pixels] = keep[numbers]
    return mask.reshape(labels.shape), int(count - keep.sum())


def _is_near_brain(
    raw: NDArray[np.bool_], pixels: NDArray[np.intp], numbers: Labels, count: int, scan: Scan
) -> NDArray[np.bool_]:
    """Return for each component (0 is background) whether at least half of it lies in the brain or near to it.

    Parameters
    ----------
    raw : ndarray of bool, shape (slices, rows, columns)
        Pixels at or above the threshold.
    pixels : ndarray of intp
        Flat indices of the components' pixels; a thin series has hundreds of times as many other pixels.
    numbers : ndarray of int
        Component number of each of these pixels.
    count : int
        Number of components.
    scan : Scan
        The scan.

    Returns
    -------
    ndarray of bool, shape (count + 1,)
        True near the brain.
    """
    near = brain_mask.find_near_brain(scan, raw, NEAR_BRAIN_MM, pixels) if len(raw) >= 5 else None
    if near is None:
        return np.ones(count + 1, dtype=bool)
    inside = np.bincount(numbers, near, minlength=count + 1)
    return np.asarray(2 * inside >= np.bincount(numbers, minlength=count + 1))


def surrounding_bone_share(around: NDArray[np.int16]) -> float:
    """Compute the share of bone in a component's surroundings; blood under the skull has bone on one side only.

    Parameters
    ----------
    around : ndarray of int16
        Hounsfield units of the surroundings.

    Returns
    -------
    float
        Share, 0 to 1; 0.0 without surroundings.
    """
    return float((around > MAX_BLOOD_HU).mean()) if around.size else 0.0


def is_denser_than_surroundings(inside: NDArray[np.int16], around: NDArray[np.int16]) -> bool:
    """Compare a component's densest tenth with the soft tissue around it.

    The mean is not used, because old and layered blood is dense only in parts.

    Parameters
    ----------
    inside, around : ndarray of int16
        Hounsfield units of the component and of its surroundings.

    Returns
    -------
    bool
        True if the densest tenth is :data:`MIN_CONTRAST_HU` or more above the median of the soft tissue, or if there
        is no soft tissue.
    """
    soft = around[(around > 0) & (around <= MAX_BLOOD_HU)]
    if not soft.size:
        return True
    return bool(np.percentile(inside, 90) - np.median(soft) >= MIN_CONTRAST_HU)


def sample_component_and_surroundings(
    labels: Labels, number: int, box: tuple[slice, slice, slice], scan: Scan
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Return the HU of a component and of its surroundings, 2 to 5 mm away on its slices; the first 2 mm are blurred.

    Parameters
    ----------
    labels : ndarray of int, shape (slices, rows, columns)
        Numbered components.
    number : int
        Number of the component.
    box : tuple of (slice, slice, slice)
        Bounding box of the component.
    scan : Scan
        A calibrated scan of known spacing.

    Returns
    -------
    tuple of (ndarray of int16, ndarray of int16)
        Hounsfield units of the component and of its surroundings.
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
            distances_mm = ndimage.distance_transform_edt(~component, sampling=(row_mm, column_mm))
            around.append(hu[(distances_mm > 2) & (distances_mm <= 5)])
    return scan.hu[box][labels[box] == number], np.concatenate(around)
