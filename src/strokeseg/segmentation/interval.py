"""Between which volumes the true one lies, as sure as a stated level: split conformal prediction.

On patients who were kept out of training, the error of every answered volume is put in relation to the answer's own
doubt: what the probability map is less sure of inside of the mask, and what it holds possible beside it. The quantile
of these scores, times a new answer's doubt, is how far its volume may be off. Whatever the network does, the interval
holds the truth as often as it promises on patients like those (Vovk, Gammerman & Shafer, Algorithmic Learning in a
Random World, 2005; normalised scores: Lei et al., JASA 2018;113:1094). Patients unlike those are promised nothing:
where a remark tells that a scan is unlike them, the interval grows by that remark's factor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from strokeseg.imaging import components
from strokeseg.result import Remark
from strokeseg.scan import Scan

Mask = NDArray[np.bool_]

_MARGIN_PX = 16


class Calibration(Protocol):
    """What must be known of the network's errors; a model's card holds it."""

    @property
    def level(self) -> float:
        """What the quantile promises."""

    @property
    def quantile(self) -> float:
        """Of the scores."""

    @property
    def sure_at(self) -> float:
        """The probability from which a pixel of the mask is no doubt."""

    @property
    def possible_at(self) -> float:
        """The probability from which a pixel beside the mask is doubt."""

    @property
    def slack_ml(self) -> float:
        """Doubt that every answer has, ml."""

    @property
    def factors(self) -> Mapping[str, float]:
        """By what a remark of this code widens the interval."""


class VolumeInterval(NamedTuple):
    """Where the true volume lies.

    ``low_ml`` and ``high_ml`` at ``level``; ``widened_by`` are the codes of the remarks that made it wider.
    """

    low_ml: float
    high_ml: float
    level: float
    widened_by: list[str]


class VolumeUncertainty(NamedTuple):
    """By how much a volume is in doubt, ml, downwards and upwards."""

    below_ml: float
    above_ml: float


def volume_interval_ml(
    volume_ml: float | None,
    probability: NDArray[np.floating[Any]],
    mask: Mask,
    scan: Scan,
    calibration: Calibration | None,
    remarks: Iterable[Remark] = (),
) -> VolumeInterval | None:
    """Return the interval of a volume.

    Parameters
    ----------
    volume_ml : float or None
        Of the mask.
    probability, mask : ndarray of floating[Any]
        The network's own, (slices, rows, columns).
    calibration : Calibration or None
        Of the network that answered.
    remarks : iterable of Remark, default: ()
        Of the scan; each code that the calibration has a factor for widens the interval once, and factors multiply.

    Returns
    -------
    VolumeInterval or None
        None without a calibration, without a volume (no spacing, or no thickness of a single slice), and for a volume
        of 0: what is missed where nothing is answered is not known.
    """
    if calibration is None or not volume_ml or scan.weights_mm is None:
        return None
    doubt = volume_uncertainty_ml(probability, mask, scan, calibration.sure_at, calibration.possible_at)
    widened_by = sorted({remark.code for remark in remarks if calibration.factors.get(remark.code, 1) > 1})
    reach = calibration.quantile
    for code in widened_by:
        reach *= calibration.factors[code]
    low = max(0.0, volume_ml - reach * (doubt.below_ml + calibration.slack_ml))
    high = volume_ml + reach * (doubt.above_ml + calibration.slack_ml)
    return VolumeInterval(round(low, 3), round(high, 3), calibration.level, widened_by)


def volume_uncertainty_ml(
    probability: NDArray[np.floating[Any]], mask: Mask, scan: Scan, sure_at: float, possible_at: float
) -> VolumeUncertainty:
    """Measure how much of a volume is in doubt.

    Downwards it is what of the mask has a probability under ``sure_at``; upwards what beside the mask has
    ``possible_at`` or more and hangs together with it (:mod:`strokeseg.imaging.components`), within 16 pixels and one slice of
    the mask's bounding box.

    Raises
    ------
    ValueError
        If the shapes differ, or the scan's spacing is not known.
    """
    weights_mm = scan.weights_mm
    if weights_mm is None or not probability.shape == mask.shape == scan.shape:
        raise ValueError("a doubt in ml needs a known spacing, and a probability and a mask of the scan's shape")
    found = components.find_bounding_box(mask)
    if found is None:
        return VolumeUncertainty(0.0, 0.0)
    reach = (1, _MARGIN_PX, _MARGIN_PX)
    box = tuple(slice(max(0, side.start - far), side.stop + far) for side, far in zip(found, reach, strict=True))
    inside, sure = mask[box], probability[box]
    possible = np.zeros(scan.shape, dtype=bool)
    possible[box] = (sure >= possible_at) | inside
    parts, count = components.label(possible, scan)
    parts = parts[box]
    touched = np.zeros(count + 1, dtype=bool)
    touched[np.unique(parts[inside])] = True
    touched[0] = False
    ml = weights_mm[box[0]] * scan.planes.pixel_area_mm2 / 1000
    below = ((inside & (sure < sure_at)).sum((1, 2)) * ml).sum()
    above = ((touched[parts] & ~inside).sum((1, 2)) * ml).sum()
    return VolumeUncertainty(float(below), float(above))


def compute_nonconformity(
    truth_ml: ArrayLike, volume_ml: ArrayLike, below_ml: ArrayLike, above_ml: ArrayLike
) -> NDArray[np.float64]:
    """Return each patient's error over the doubt on its side (slack included): 1 is an error as large as the doubt."""
    off = np.asarray(truth_ml, dtype=np.float64) - np.asarray(volume_ml)
    return np.where(off > 0, off / np.asarray(above_ml), -off / np.asarray(below_ml))


def conformal_quantile(scores: ArrayLike, level: float) -> tuple[float, float]:
    """Return the conformal quantile, and the level that it promises.

    It is the score of rank ceil((n + 1) x level) among n. Where that is above n, the highest score is given, which
    promises n / (n + 1).

    Raises
    ------
    ValueError
        Without a score, or for a level outside of 0..1.
    """
    values = np.sort(np.asarray(scores, dtype=np.float64))
    if not values.size or not 0 < level < 1:
        raise ValueError("a quantile needs scores, and a level between 0 and 1")
    # 1e-9: (n + 1) x level may come out a hair above a whole number.
    rank = ceil((values.size + 1) * level - 1e-9)
    if rank > values.size:
        return float(values[-1]), values.size / (values.size + 1)
    return float(values[rank - 1]), level
