"""Page docs/calibration.md, rendered from the cards of the shipped networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.page import render_template
from strokeseg.segmentation.decision_options import DECISION_THRESHOLD
from strokeseg.segmentation.models import Card, LogisticCurve
from strokeseg.training.calibration import degradation

DEGRADATIONS = {
    "sharp-kernel": f"white noise of {degradation.NOISE_HU:g} HU",
    "motion": f"two copies of the head, {degradation.SHIFT_MM:g} mm apart",
    "metal": f"streaks of up to {degradation.STREAK_HU:g} HU",
    "window-estimated": f"a window wrong by a factor of {degradation.WINDOW_FACTOR:g}, both ways; the worse one counts",
    "thick-slices": "two slices merged into one",
    "missing-slices": "the middle one of five or more slices removed",
}
"""How the validation slices are degraded to measure a remark's factor, by remark code."""

DESIGNS = {
    "the doubt on the error's side": "doubtful volume on the side of the error",
    "the doubt of both sides": "doubtful volume on both sides",
    "the root of the volume": "square root of the volume",
    "the volume": "volume",
    "nothing": "constant",
}
"""What an error is divided by, by its name in the card."""


def render_page(cards: Sequence[Card]) -> str:
    """Render docs/calibration.md.

    Parameters
    ----------
    cards : sequence of Card
        Cards; those without a calibration are left out.

    Returns
    -------
    str
        The page.
    """
    calibrations = [(card.name, card.calibration) for card in cards if card.calibration is not None]
    volumes = [(name, each.volume, each.figures) for name, each in calibrations if each.volume is not None]
    curves = [
        (name, unit, curve, figures[key], figures.get("unseen", {}).get(unseen_key))
        for name, blood, figures in [(name, each.blood, each.figures) for name, each in calibrations]
        if blood is not None
        for unit, curve, key, unseen_key in (
            ("scan", blood.scan, "blood", "yes"),
            ("one slice", blood.one_slice, "one_slice", "yes_one_slice"),
        )
    ]
    return render_template(
        "calibration.md.j2",
        volumes=volumes,
        sources=_unique(source for _, _, figures in volumes for source in figures["volume"].get("sources", {})),
        factor_codes=_unique(code for _, volume, _ in volumes for code in volume.factors),
        degradations=DEGRADATIONS,
        designs=DESIGNS,
        curves=curves,
        evidence=[(name, row) for name, each in calibrations for row in each.figures.get("evidence", [])],
        decision_threshold=DECISION_THRESHOLD,
        reviewed=[
            (card, card.calibration.figures["whole_scans"])
            for card in cards
            if card.calibration is not None and card.review is not None and "whole_scans" in card.calibration.figures
        ],
        format_share=_format_share,
        find_even_volume=_find_even_volume,
    )


def _unique(names: Any) -> list[str]:
    return list(dict.fromkeys(names))


def _find_even_volume(curve: LogisticCurve) -> str:
    """Return the volume at which hemorrhage and none are equally likely, or a dash where there is none."""
    return f"{np.exp(-curve.intercept / curve.slope):.2f}" if curve.slope > 0 else "–"


def _format_share(share: dict[str, Any] | None) -> str:
    if not share or not share["of"]:
        return "–"
    return f"{share['hits']} of {share['of']} ({share['low']:.2f}–{share['high']:.2f})"
