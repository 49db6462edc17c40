"""Interval that contains the true volume with a stated probability: split conformal prediction.

For validation patients, who are not used for training, the score is the error of the volume divided by the uncertainty
of the prediction: the volume of low probability inside of the mask, and of notable probability beside it. The quantile
of these scores times the uncertainty of a new prediction is the half-width of its interval. For patients like those,
the interval contains the true volume with the stated probability, whatever the network does (Vovk, Gammerman & Shafer,
Algorithmic Learning in a Random World, 2005; normalised scores: Lei et al., JASA 2018;113:1094). For other patients
there is no guarantee: if a remark says that a scan differs, the interval is widened by that remark's factor.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from strokeseg.imaging import components
from strokeseg.result import Remark
from strokeseg.scan import Scan
from strokeseg.segmentation.models import VolumeCalibration

Mask = NDArray[np.bool_]

_MARGIN_PX = 16


class VolumeInterval(NamedTuple):
    """Interval of a volume.

    Attributes
    ----------
    low_ml, high_ml : float
        Limits, ml.
    level : float
        Probability that the interval contains the true volume.
    widened_by : list of str
        Codes of the remarks that widened the interval.
    """

    low_ml: float
    high_ml: float
    level: float
    widened_by: list[str]


class VolumeUncertainty(NamedTuple):
    """Uncertainty of a volume.

    Attributes
    ----------
    below_ml, above_ml : float
        Uncertain volume inside of the mask, and beside it, ml.
    """

    below_ml: float
    above_ml: float


def volume_interval_ml(
    volume_ml: float | None,
    probability: NDArray[np.floating[Any]],
    mask: Mask,
    scan: Scan,
    calibration: VolumeCalibration | None,
    remarks: Iterable[Remark] = (),
) -> VolumeInterval | None:
    """Compute the interval of a volume.

    Parameters
    ----------
    volume_ml : float or None
        Volume of the mask, ml.
    probability : ndarray of float, shape (slices, rows, columns)
        Probability map of the network.
    mask : ndarray of bool, shape (slices, rows, columns)
        Mask of the network.
    scan : Scan
        The scan.
    calibration : VolumeCalibration or None
        Calibration of the network.
    remarks : iterable of Remark, default: ()
        Remarks on the scan. Each code with a factor in the calibration widens the interval once; factors multiply.

    Returns
    -------
    VolumeInterval or None
        None without a calibration, without a volume (unknown spacing, or a single slice of unknown thickness), and for
        a volume of 0, because missed lesions cannot be estimated.
    """
    if calibration is None or not volume_ml or scan.weights_mm is None:
        return None
    uncertainty = volume_uncertainty_ml(probability, mask, scan, calibration.sure_at, calibration.possible_at)
    widened_by = sorted({remark.code for remark in remarks if calibration.factors.get(remark.code, 1) > 1})
    scale = calibration.quantile
    for code in widened_by:
        scale *= calibration.factors[code]
    low = max(0.0, volume_ml - scale * (uncertainty.below_ml + calibration.slack_ml))
    high = volume_ml + scale * (uncertainty.above_ml + calibration.slack_ml)
    return VolumeInterval(round(low, 3), round(high, 3), calibration.level, widened_by)


def volume_uncertainty_ml(
    probability: NDArray[np.floating[Any]], mask: Mask, scan: Scan, sure_at: float, possible_at: float
) -> VolumeUncertainty:
    """Compute how much of a volume is uncertain.

    Parameters
    ----------
    probability : ndarray of float, shape (slices, rows, columns)
        Probability map of the network.
    mask : ndarray of bool, shape (slices, rows, columns)
        Mask of the network.
    scan : Scan
        The scan.
    sure_at : float
        Pixels of the mask below this probability are uncertain.
    possible_at : float
        Pixels beside the mask at or above this probability are uncertain, if they are connected with the mask
        (:mod:`strokeseg.imaging.components`) and within 16 pixels and one slice of its bounding box.

    Returns
    -------
    VolumeUncertainty
        Uncertain volumes, ml.

    Raises
    ------
    ValueError
        If the shapes differ, or the spacing of the scan is unknown.
    """
    weights_mm = scan.weights_mm
    if weights_mm is None or not probability.shape == mask.shape == scan.shape:
        raise ValueError(
            "an uncertainty in ml needs a known spacing, and a probability map and a mask of the scan's shape"
        )
    bounding_box = components.find_bounding_box(mask)
    if bounding_box is None:
        return VolumeUncertainty(0.0, 0.0)
    margins = (1, _MARGIN_PX, _MARGIN_PX)
    box = tuple(
        slice(max(0, side.start - margin), side.stop + margin)
        for side, margin in zip(bounding_box, margins, strict=True)
    )
    inside, values = mask[box], probability[box]
    possible = np.zeros(scan.shape, dtype=bool)
    possible[box] = (values >= possible_at) | inside
    labels, count = components.label(possible, scan)
    labels = labels[box]
    connected = np.zeros(count + 1, dtype=bool)
    connected[np.unique(labels[inside])] = True
    connected[0] = False
    ml = weights_mm[box[0]] * scan.planes.pixel_area_mm2 / 1000
    below = ((inside & (values < sure_at)).sum((1, 2)) * ml).sum()
    above = ((connected[labels] & ~inside).sum((1, 2)) * ml).sum()
    return VolumeUncertainty(float(below), float(above))


def compute_nonconformity(
    truth_ml: ArrayLike, volume_ml: ArrayLike, below_ml: ArrayLike, above_ml: ArrayLike
) -> NDArray[np.float64]:
    """Compute each patient's nonconformity score: error divided by the uncertainty on the side of the error.

    Parameters
    ----------
    truth_ml, volume_ml : array_like, shape (patients,)
        True and predicted volumes, ml.
    below_ml, above_ml : array_like, shape (patients,)
        Uncertainties, ml, slack included.

    Returns
    -------
    ndarray of float64, shape (patients,)
        Scores; 1 is an error as large as the uncertainty.
    """
    error = np.asarray(truth_ml, dtype=np.float64) - np.asarray(volume_ml)
    return np.where(error > 0, error / np.asarray(above_ml), -error / np.asarray(below_ml))


def conformal_quantile(scores: ArrayLike, level: float) -> tuple[float, float]:
    """Compute the conformal quantile of scores.

    The quantile is the score of rank ceil((n + 1) x level) among n scores. If that rank exceeds n, the highest score is
    used, which holds for a level of n / (n + 1).

    Parameters
    ----------
    scores : array_like, shape (n,)
        Nonconformity scores.
    level : float
        Probability that the interval contains the true volume, between 0 and 1.

    Returns
    -------
    tuple of (float, float)
        Quantile, and the level that it holds for.

    Raises
    ------
    ValueError
        Without a score, or for a level outside of 0..1.
    """
    values = np.sort(np.asarray(scores, dtype=np.float64))
    if not values.size or not 0 < level < 1:
        raise ValueError("a quantile needs scores, and a level between 0 and 1")
    # 1e-9: rounding may lift (n + 1) x level slightly above a whole number.
    rank = ceil((values.size + 1) * level - 1e-9)
    if rank > values.size:
        return float(values[-1]), values.size / (values.size + 1)
    return float(values[rank - 1]), level
