"""How sure it is that a scan holds blood, and whether it is answered with yes or no."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from strokeseg.imaging import components
from strokeseg.result import Remark
from strokeseg.scan import Scan
from strokeseg.segmentation.models import Card, HemorrhageCalibration
from strokeseg.segmentation.preprocess import HeadSquare

Mask = NDArray[np.bool_]

DECISION_THRESHOLD = 0.5
"""The least confidence of a yes. Below it nothing is outlined."""

NOMINAL_HEAD_SQUARE_MM = 225.0
NOMINAL_SLICE_MM = 5.0
"""What the square around a head and a slice measure where the spacing is not known, as for a card's
``smallest_share``. A lesion's nominal volume only ranks it and is told to nobody."""


@dataclass(frozen=True)
class Decision:
    """Whether there is blood.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        Empty where the answer is no.
    confidence : float or None
        Calibrated probability that there is blood; None without a calibration.
    remarks : tuple of Remark
        ``doubtful`` where something was seen and is taken for no blood; ``not-calibrated``.
    """

    mask: Mask
    confidence: float | None
    remarks: tuple[Remark, ...]


def decide(mask: Mask, scan: Scan, square: HeadSquare, card: Card) -> Decision:
    """Turn lesions into a confidence, and leave none where blood is less likely than not.

    The confidence is the largest lesion's. Without a calibration every lesion stays and the confidence is None.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        Without specks.
    square : HeadSquare
        The square around the head.
    """
    missing = _remark_not_calibrated(card)
    blood = card.calibration.blood if card.calibration else None
    if blood is None:
        return Decision(mask, None, missing)
    lesions_ml = lesion_volumes_ml(mask, scan, square)
    largest_ml = float(lesions_ml.max(initial=0))
    confidence = round(compute_probability(largest_ml, len(mask), blood), 3)
    if confidence >= DECISION_THRESHOLD or not lesions_ml.size:
        return Decision(mask, confidence, missing)
    return Decision(np.zeros_like(mask), confidence, (*missing, _remark_doubtful(mask, largest_ml, confidence, scan)))


def compute_probability(largest_ml: float, slices: int, blood: HemorrhageCalibration) -> float:
    """Return the probability that there is blood.

    Parameters
    ----------
    largest_ml : float
        The largest lesion's volume, nominal where the spacing is not known; 0 where there is none.
    slices : int
        Of the scan; one slice alone shows a part of a lesion, so it has a curve of its own.
    """
    curve = blood.scan if slices > 1 else blood.one_slice
    return 1 / (1 + exp(-(curve.intercept + curve.slope * log(max(largest_ml, blood.floor_ml)))))


def lesion_volumes_ml(mask: Mask, scan: Scan, square: HeadSquare) -> NDArray[np.float64]:
    """Return each lesion's volume, ml; nominal where the spacing is not known."""
    labels, count = components.label(mask, scan)
    places = components.find_labelled_pixels(labels)
    weights_mm, area_mm2 = scan.weights_mm, scan.planes.pixel_area_mm2
    if weights_mm is None:
        weights_mm, area_mm2 = np.full(len(mask), NOMINAL_SLICE_MM), (NOMINAL_HEAD_SQUARE_MM / square.side) ** 2
    sums = np.bincount(
        labels.reshape(-1)[places], (weights_mm * area_mm2 / 1000)[places // mask[0].size], minlength=count + 1
    )
    return np.asarray(sums[1:], dtype=np.float64)


def _remark_not_calibrated(card: Card) -> tuple[Remark, ...]:
    """Say what a network cannot give because it was not calibrated."""
    found = card.calibration
    missing = {"confidence": found and found.blood, "interval of the volume": found and found.volume}
    names = " and no ".join(name for name, calibration in missing.items() if calibration is None)
    message = f"The network {card.name} was not calibrated: it gives no {names}."
    return (Remark(code="not-calibrated", severity="info", message=message),) if names else ()


def _remark_doubtful(mask: Mask, largest_ml: float, confidence: float, scan: Scan) -> Remark:
    slices = [int(index) for index in np.flatnonzero(mask.any((1, 2)))]
    size = f", the largest of {largest_ml:.2f} ml" if scan.weights_mm is not None else ""
    message = (
        f"Something like blood was seen on {len(slices)} slice{'s' * (len(slices) != 1)}{size}, "
        f"and is more likely none: confidence {confidence:.2f}. Nothing is outlined. Look at these slices."
    )
    return Remark(code="doubtful", severity="warning", message=message, slices=slices)
