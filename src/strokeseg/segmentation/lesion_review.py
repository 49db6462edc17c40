"""Second look: how probable it is that a candidate lesion is blood, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp

from strokeseg.segmentation.models import FeatureWeight, LesionReview

NO_LESION_LOG_ODDS = -6.0
"""Log odds that stand for a scan without any candidate."""

_MAX_DEVIATION = 3.0
_MIN_REASON = 0.4
_MAX_REASONS = 3

REASONS: dict[str, tuple[str, str]] = {
    "log_volume": ("it is larger than most false lesions", "it is as small as most false lesions"),
    "mean_probability": ("the network is sure of most of it", "the network is unsure of most of it"),
    "top_probability": ("the network is sure of its core", "the network is nowhere sure of it"),
    "slices": ("it continues on neighbouring slices", "no neighbouring slice continues it"),
    "thickness_mm": ("it is thick", "it is thin"),
    "contrast_hu": ("it is denser than the tissue around it", "it is hardly denser than the tissue around it"),
    "top_contrast_hu": ("its core is dense", "it has no dense core"),
    "bone_share": ("no bone touches it", "bone touches it"),
    "fluid_share": ("no fluid or air touches it", "fluid or air touches it"),
    "depth_mm": ("it lies deep in the brain", "it lies at the border of the brain"),
    "height": ("its height in the head is usual for bleeding", "its height in the head is usual for false alarms"),
    "lateral": (
        "its distance from the middle is usual for bleeding",
        "its distance from the middle is usual for false alarms",
    ),
    "front": (
        "its position from front to back is usual for bleeding",
        "its position from front to back is usual for false alarms",
    ),
    "twin": ("the other side of the head does not look alike", "the other side of the head looks alike"),
}
"""By feature: the words if it speaks for blood, and if it speaks against it."""


@dataclass(frozen=True)
class ReviewedLesion:
    """The second look at one candidate.

    Attributes
    ----------
    log_odds : float
        Log odds that it is blood.
    reasons_for, reasons_against : tuple of str
        What speaks for blood and what against it, the strongest first.
    """

    log_odds: float
    reasons_for: tuple[str, ...]
    reasons_against: tuple[str, ...]

    @property
    def probability(self) -> float:
        """Probability that it is blood, 0 to 1."""
        return 1 / (1 + exp(-self.log_odds))


def review_lesion(features: Mapping[str, float], review: LesionReview) -> ReviewedLesion:
    """Judge one candidate.

    Parameters
    ----------
    features : mapping of str to float
        From :func:`strokeseg.segmentation.lesion_features.measure_candidates`.
    review : LesionReview
        The weights.

    Returns
    -------
    ReviewedLesion
        Log odds and reasons.
    """
    shares = {name: _share(features[name], weight) for name, weight in review.features.items()}
    strongest = sorted(shares, key=lambda name: -abs(shares[name]))
    return ReviewedLesion(
        review.intercept + sum(shares.values()),
        tuple(REASONS[name][0] for name in strongest if shares[name] >= _MIN_REASON)[:_MAX_REASONS],
        tuple(REASONS[name][1] for name in strongest if shares[name] <= -_MIN_REASON)[:_MAX_REASONS],
    )


def _share(value: float, feature: FeatureWeight) -> float:
    deviation = (value - feature.centre) / feature.scale
    return feature.weight * min(max(deviation, -_MAX_DEVIATION), _MAX_DEVIATION)
