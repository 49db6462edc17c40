"""The caller's choice between missed hemorrhages and false alarms."""

from __future__ import annotations

from dataclasses import dataclass

from strokeseg.errors import UsageError
from strokeseg.result import Remark
from strokeseg.scan import Scan
from strokeseg.scan_options import OperatingPointName
from strokeseg.segmentation.models import Card

DECISION_THRESHOLD = 0.5
"""Lowest confidence for the answer yes, for a card without operating points. Below it nothing is outlined."""


@dataclass(frozen=True)
class DecisionOptions:
    """Choices of the caller; the defaults are those of the card.

    Attributes
    ----------
    operating_point : str, default: "balanced"
        One of :class:`OperatingPointName`: which confidence is enough for the answer yes.
    threshold : float, optional
        Probability threshold of the outlines, above 0 and below 1.
    smallest_ml : float, optional
        Smaller lesions are left out, ml.
    """

    operating_point: str = OperatingPointName.balanced
    threshold: float | None = None
    smallest_ml: float | None = None

    def __post_init__(self) -> None:
        if self.operating_point not in list(OperatingPointName):
            raise UsageError(
                f"--operating-point {self.operating_point!r}: is not one of {', '.join(OperatingPointName)}"
            )
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise UsageError(f"--threshold {self.threshold}: must be above 0 and below 1")
        if self.smallest_ml is not None and not 0 <= self.smallest_ml < 1000:
            raise UsageError(f"--smallest-ml {self.smallest_ml}: must be a volume in ml")

    def find_decision(self, card: Card) -> float:
        """Return the lowest confidence for the answer yes.

        Parameters
        ----------
        card : Card
            Card of the network.

        Returns
        -------
        float
            Confidence, 0 to 1.

        Raises
        ------
        UsageError
            `usage`, if the card does not have the operating point.
        """
        if point := card.operating_points.get(self.operating_point):
            return point.decision
        if self.operating_point == OperatingPointName.balanced:
            return DECISION_THRESHOLD
        raise UsageError(
            f"the model {card.name} has no operating point {str(self.operating_point)!r}",
            "Leave --operating-point out, or calibrate the model on whole scans.",
        )

    def remark_unused(self, scan: Scan) -> tuple[Remark, ...]:
        """Return a remark (`unused-option`) if a volume is stated for a scan without a scale."""
        if not self.smallest_ml or scan.weights_mm is not None:
            return ()
        message = "--smallest-ml not used: the spacing is unknown, so no volume can be measured."
        return (Remark(code="unused-option", severity="warning", message=message),)
