"""From the probability map to the mask of the lesions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.imaging import brain_mask, components, float16
from strokeseg.imaging.brain_mask import BrainRegion
from strokeseg.imaging.components import Labels
from strokeseg.scan import Scan
from strokeseg.segmentation.lesion_features import measure_candidates
from strokeseg.segmentation.lesion_review import ReviewedLesion, review_lesion
from strokeseg.segmentation.models import Card
from strokeseg.segmentation.preprocess import HeadSquare

NOMINAL_HEAD_SQUARE_MM = 225.0
"""Assumed side of the square around the head if the spacing is unknown, as for a card's ``smallest_share``."""

MIN_WHOLE_SLICES = 5
"""Scans of fewer slices are not judged by location: temporal lobes and posterior fossa may appear as separate parts."""

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


@dataclass(frozen=True)
class LesionMask:
    """The lesions of a probability map.

    Attributes
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        Their pixels.
    dropped : int
        Number of dropped components.
    reviewed : tuple of ReviewedLesion
        The second look at each lesion, the largest first; empty if the card has none.
    """

    mask: NDArray[np.bool_]
    dropped: int
    reviewed: tuple[ReviewedLesion, ...] = ()


def extract_lesion_mask(
    probability: NDArray[np.float16],
    scan: Scan,
    square: HeadSquare,
    card: Card,
    *,
    threshold: float | None = None,
    smallest_ml: float | None = None,
) -> LesionMask:
    """Apply the card's threshold, and drop the components that are no lesions.

    Five kinds of components are dropped:

    - Small: smaller than ``card.smallest_mm3`` if the spacing is known; otherwise the area, summed over all slices, is
      less than ``card.smallest_share`` of the square around the head.
    - Outside of the skull: less than half lies in the brain or within 3 mm of it
      (:func:`strokeseg.imaging.brain_mask.find_brain`). At the face, the skull base and the vertex, the blurred
      edge of bone has the density of blood. This rule is skipped if no brain is detected, and below five slices, where
      the temporal lobes and the posterior fossa may appear as separate parts.
    - Surrounded by bone (:data:`MAX_SURROUNDING_BONE`), in a calibrated scan: one slice there contains both the vault
      of the skull and the brain below it.
    - Not denser than the surrounding tissue (:data:`MIN_CONTRAST_HU`), in a calibrated scan.
    - Improbable at a second look (``card.review``), in a scan of five slices or more.

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
    threshold : float, optional
        Probability threshold of the mask, in place of the card's.
    smallest_ml : float, optional
        Smaller lesions are dropped, ml; ignored if the spacing is unknown.

    Returns
    -------
    LesionMask
        Mask, number of dropped components, and the second look at each lesion.
    """
    raw = float16.at_least(probability, card.threshold if threshold is None else threshold)
    labels, count = components.label(raw, scan)
    if count == 0:
        return LesionMask(raw, 0)
    pixels = components.find_labelled_pixels(labels)
    numbers = labels.reshape(-1)[pixels]
    weights = scan.weights_mm
    if weights is not None:
        share = (weights * scan.planes.pixel_area_mm2)[pixels // labels[0].size]
        smallest = max(card.smallest_mm3, 1000 * (smallest_ml or 0))
    else:
        share = np.ones(len(pixels))
        smallest = card.smallest_share * square.side**2
    sizes = np.bincount(numbers, share, minlength=count + 1)
    sized = assume_spacing(scan, square)
    region = brain_mask.find_brain(sized, raw) if len(raw) >= MIN_WHOLE_SLICES else None
    keep = (sizes >= smallest) & _is_near_brain(pixels, numbers, count, region)
    keep[0] = False
    if scan.calibrated and scan.spacing_known:
        for number, box in enumerate(components.find_bounding_boxes(labels), start=1):
            if keep[number] and box is not None:
                inside, around = sample_component_and_surroundings(labels, number, box, scan)
                keep[number] = surrounding_bone_share(around) <= MAX_SURROUNDING_BONE and is_denser_than_surroundings(
                    inside, around
                )
    reviewed = []
    if card.review is not None and len(raw) >= MIN_WHOLE_SLICES:
        candidates = measure_candidates(
            labels, np.flatnonzero(keep), probability, sized, region, card.review.features.keys()
        )
        for candidate in candidates:
            judged = review_lesion(candidate.features, card.review)
            if judged.probability < card.review.drop_below:
                keep[candidate.number] = False
            else:
                reviewed.append(judged)
    mask = np.zeros(labels.size, dtype=bool)
    mask[pixels] = keep[numbers]
    return LesionMask(mask.reshape(labels.shape), int(count - keep.sum()), tuple(reviewed))


def assume_spacing(scan: Scan, square: HeadSquare) -> Scan:
    """Return a scan with the nominal spacing if its own is unknown: location and size rules need a scale.

    Parameters
    ----------
    scan : Scan
        The scan.
    square : HeadSquare
        Square around the head, whose side is taken for 225 mm.

    Returns
    -------
    Scan
        For these rules only: nothing in mm or ml may be given.
    """
    if scan.spacing_known:
        return scan
    pixel_mm = NOMINAL_HEAD_SQUARE_MM / square.side
    return replace(scan, planes=replace(scan.planes, pixel_spacing_mm=(pixel_mm, pixel_mm)))


def _is_near_brain(
    pixels: NDArray[np.intp], numbers: Labels, count: int, region: BrainRegion | None
) -> NDArray[np.bool_]:
    """Return for each component (0 is background) whether at least half of it lies in the brain or near to it.

    Parameters
    ----------
    pixels : ndarray of intp
        Flat indices of the components' pixels; a thin series has hundreds of times as many other pixels.
    numbers : ndarray of int
        Component number of each of these pixels.
    count : int
        Number of components.
    region : BrainRegion or None
        The brain.

    Returns
    -------
    ndarray of bool, shape (count + 1,)
        True near the brain.
    """
    if region is None:
        return np.ones(count + 1, dtype=bool)
    near = region.distance_mm[region.find_samples(pixels)] >= -NEAR_BRAIN_MM
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
