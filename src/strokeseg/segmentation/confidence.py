"""Confidence that a scan shows a hemorrhage, and the decision yes or no."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from strokeseg.imaging import components
from strokeseg.result import Remark
from strokeseg.scan import Scan
from strokeseg.segmentation.decision_options import DECISION_THRESHOLD
from strokeseg.segmentation.lesion_review import NO_LESION_LOG_ODDS, ReviewedLesion
from strokeseg.segmentation.models import Card, HemorrhageCalibration, LogisticCurve
from strokeseg.segmentation.postprocess import MIN_WHOLE_SLICES, NOMINAL_HEAD_SQUARE_MM, LesionMask
from strokeseg.segmentation.preprocess import HeadSquare

Mask = NDArray[np.bool_]

NOMINAL_SLICE_MM = 5.0
"""Assumed slice thickness if the spacing is unknown. The nominal volume of a lesion only ranks it and is never
reported."""


@dataclass(frozen=True)
class Decision:
    """The decision whether a scan shows a hemorrhage.

    Attributes
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        Lesions; empty if the answer is no.
    reviewed : tuple of ReviewedLesion
        The second look at each lesion, the largest first; empty if the answer is no or the card has none.
    confidence : float or None
        Calibrated probability of a hemorrhage; None without a calibration.
    remarks : tuple of Remark
        ``doubtful`` if lesions were detected but rejected; ``not-calibrated``.
    """

    mask: Mask
    reviewed: tuple[ReviewedLesion, ...]
    confidence: float | None
    remarks: tuple[Remark, ...]


def decide(
    lesions: LesionMask, scan: Scan, square: HeadSquare, card: Card, decision: float = DECISION_THRESHOLD
) -> Decision:
    """Compute the confidence, and remove all lesions if it is too low.

    The confidence is that of the most probable lesion, if the lesions have been reviewed, and otherwise that of the
    largest. Without a calibration all lesions stay and the confidence is None.

    Parameters
    ----------
    lesions : LesionMask
        The lesions.
    scan : Scan
        The scan.
    square : HeadSquare
        Square around the head.
    card : Card
        Card of the network.
    decision : float, default: 0.5
        Lowest confidence for the answer yes.

    Returns
    -------
    Decision
        Mask, confidence and remarks.
    """
    mask = lesions.mask
    uncalibrated = _remark_not_calibrated(card)
    calibration = card.calibration.blood if card.calibration else None
    if calibration is None:
        return Decision(mask, lesions.reviewed, None, uncalibrated)
    volumes_ml = lesion_volumes_ml(mask, scan, square)
    largest_ml = float(volumes_ml.max(initial=0))
    if card.review is not None and calibration.reviewed is not None and len(mask) >= MIN_WHOLE_SLICES:
        probability = compute_reviewed_probability(lesions.reviewed, calibration.reviewed)
    else:
        probability = compute_probability(largest_ml, len(mask), calibration)
    confidence = round(probability, 3)
    if confidence >= decision or not volumes_ml.size:
        return Decision(mask, lesions.reviewed, confidence, uncalibrated)
    return Decision(
        np.zeros_like(mask), (), confidence, (*uncalibrated, _remark_doubtful(mask, largest_ml, confidence, scan))
    )


def compute_reviewed_probability(reviewed: Sequence[ReviewedLesion], curve: LogisticCurve) -> float:
    """Compute the calibrated probability of a hemorrhage from the most probable lesion.

    Parameters
    ----------
    reviewed : sequence of ReviewedLesion
        The lesions.
    curve : LogisticCurve
        The calibration over log odds.

    Returns
    -------
    float
        Probability, 0 to 1.
    """
    strongest = max((lesion.log_odds for lesion in reviewed), default=NO_LESION_LOG_ODDS)
    return 1 / (1 + exp(-(curve.intercept + curve.slope * max(strongest, NO_LESION_LOG_ODDS))))


def compute_probability(largest_ml: float, slices: int, calibration: HemorrhageCalibration) -> float:
    """Compute the calibrated probability of a hemorrhage from the largest lesion.

    Parameters
    ----------
    largest_ml : float
        Volume of the largest lesion, nominal if the spacing is unknown; 0 without a lesion.
    slices : int
        Number of slices in the scan. A single slice shows only a part of a lesion, so it has its own curve.
    calibration : HemorrhageCalibration
        Calibration of the network.

    Returns
    -------
    float
        Probability, 0 to 1.
    """
    curve = calibration.scan if slices > 1 else calibration.one_slice
    return 1 / (1 + exp(-(curve.intercept + curve.slope * log(max(largest_ml, calibration.floor_ml)))))


def lesion_volumes_ml(mask: Mask, scan: Scan, square: HeadSquare) -> NDArray[np.float64]:
    """Compute the volume of each lesion, nominal if the spacing is unknown.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        Lesions.
    scan : Scan
        The scan.
    square : HeadSquare
        Square around the head.

    Returns
    -------
    ndarray of float64, shape (lesions,)
        Volumes, ml.
    """
    labels, count = components.label(mask, scan)
    pixels = components.find_labelled_pixels(labels)
    weights_mm, area_mm2 = scan.weights_mm, scan.planes.pixel_area_mm2
    if weights_mm is None:
        weights_mm, area_mm2 = np.full(len(mask), NOMINAL_SLICE_MM), (NOMINAL_HEAD_SQUARE_MM / square.side) ** 2
    sums = np.bincount(
        labels.reshape(-1)[pixels], (weights_mm * area_mm2 / 1000)[pixels // mask[0].size], minlength=count + 1
    )
    return np.asarray(sums[1:], dtype=np.float64)


def _remark_not_calibrated(card: Card) -> tuple[Remark, ...]:
    """Name the figures that are missing because the network is not calibrated."""
    calibration = card.calibration
    parts = {"confidence": calibration and calibration.blood, "volume interval": calibration and calibration.volume}
    names = " and no ".join(name for name, part in parts.items() if part is None)
    message = f"The model {card.name} is not calibrated: it has no {names}."
    return (Remark(code="not-calibrated", severity="info", message=message),) if names else ()


def _remark_doubtful(mask: Mask, largest_ml: float, confidence: float, scan: Scan) -> Remark:
    slices = [int(index) for index in np.flatnonzero(mask.any((1, 2)))]
    size = f" (largest lesion {largest_ml:.2f} ml)" if scan.weights_mm is not None else ""
    message = (
        f"Possible blood was detected on {len(slices)} slice{'s' * (len(slices) != 1)}{size}, "
        f"but a hemorrhage is unlikely (probability {confidence:.2f}). Nothing is outlined. Review these slices."
    )
    return Remark(code="doubtful", severity="warning", message=message, slices=slices)
