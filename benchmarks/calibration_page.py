"""docs/calibration.md, drawn from the cards of the shipped networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from strokeseg.segmentation.confidence import DECISION_THRESHOLD
from strokeseg.segmentation.models import Calibration, Card, HemorrhageCalibration, LogisticCurve, VolumeCalibration
from strokeseg.training.calibration import degradation

DEGRADATIONS = {
    "sharp-kernel": f"white noise of {degradation.NOISE_HU:g} HU",
    "motion": f"the head seen twice, {degradation.SHIFT_MM:g} mm apart",
    "metal": f"streaks of up to {degradation.STREAK_HU:g} HU",
    "window-estimated": f"a window wrong by a factor of {degradation.WINDOW_FACTOR:g}, both ways; the worse one counts",
    "thick-slices": "two slices joined into one",
    "missing-slices": "of five or more slices the middle one taken out",
}

INTRODUCTION = """\
# How sure: the confidence and the volume's interval

Drawn by `strokeseg bench calibration` from the networks' cards; do not edit. The same command calibrates again.

A network is calibrated on its **validation patients**: none of their slices was trained on. But checkpoint and
threshold were chosen by them, so what is found on them flatters. Five pictures without blood that the shipped networks
were trained on (Head CT, groups 104, 110 and 146) are neighbours of pictures that validate, so false alarms are told
too few. **Unseen** patients (`ctich_jpg`: trauma, 5 patients; `phe_sich_stacks`: 3 patients) were never chosen by; they
are only reported.

What these figures do not know:

- The sets hold drawn slices and no whole scans, and do not say their spacing. A patient's drawn slices together are
  taken for a scan: 5 mm apart, the square around the head 225 mm wide. That whole scans behave so is assumed. A whole
  scan has more slices to go wrong on than a patient here, at the vertex and the skull's base above all.
- The slices are pictures in a known window. Scans in Hounsfield units are assumed to behave like them.
- Patients are few, from three sources with three habits of drawing; more than half of those with blood have one large
  spontaneous bleed that is easy to outline. Those without blood come from one source.
- A promise holds for patients like these. Nothing is promised for others: infants, thin and isodense bleeds above all.
"""

INTERVAL = """\
## The volume's interval

Split conformal prediction. A patient's score is |drawn - answered volume| over the answer's own doubt on the side of
the error. Downwards the doubt is what of the mask has a probability under {sure_at:g}; upwards what has {possible_at:g}
or more and hangs together with the mask; {slack_ml:g} ml are added to both. Of n scores that of rank
⌈(n + 1) · 0.9⌉ is the quantile; where n is too small for that, the highest is taken, and the level is n / (n + 1). A
new answer's interval is its volume less and plus the quantile times its doubts, and never below 0.

No interval is given without a spacing, and none where nothing was answered: too few patients with blood were answered
with nothing (the table says how many) to tell what is missed then. What lies on slices that are not there, as beside a
single slice, is in no interval.
"""

CONFIDENCE = """\
## Whether there is blood

The confidence is a logistic curve over the logarithm of the largest lesion's volume: one for whole scans, fitted to
patients, and one for single slices, fitted to slices, for one slice shows only a part of a bleed. The targets are
Platt's, which keep the curve from being steeper than so few patients allow. Both sides count half: the confidence is
that of a reader who before looking thinks blood as likely as none. Where blood is rarer, it is too high.

Below {yes:g} the answer is no, nothing is outlined, and the remark `doubtful` says what was seen on which slices. Where
a lesion can be held to the tissue around it (Hounsfield units, spacing known), one that is no denser is dropped before:
`infer/postprocess.py` states the limit, found on drawn bleeds.
"""


def render_page(cards: Sequence[Card]) -> str:
    """Draw the page of the cards that hold a calibration."""
    known = [(card.name, card.calibration) for card in cards if card.calibration is not None]
    volumes = [(name, each.volume, each) for name, each in known if each.volume is not None]
    bloods = [(name, each.blood, each) for name, each in known if each.blood is not None]
    parts = [INTRODUCTION]
    if volumes:
        first = volumes[0][1]
        parts.append(
            INTERVAL.format(sure_at=first.sure_at, possible_at=first.possible_at, slack_ml=first.slack_ml)
            + "\n"
            + _volumes(volumes)
        )
    if bloods:
        parts.append(CONFIDENCE.format(yes=DECISION_THRESHOLD) + "\n" + _bloods(bloods))
    return "\n".join(parts)


def _volumes(found: Sequence[tuple[str, VolumeCalibration, Calibration]]) -> str:
    sources = list(dict.fromkeys(name for _, _, each in found for name in each.figures["volume"].get("sources", {})))
    lines = _table(
        (
            "network",
            "patients",
            "answered with nothing",
            "level",
            "quantile",
            "held, each left out once",
            *sources,
            "held, unseen",
        ),
        [
            (
                f"`{name}`",
                str(volume.patients),
                str(each.figures["volume"]["unanswered"]),
                f"{volume.level:.0%}",
                f"{volume.quantile:.2f}",
                _share(each.figures["volume"].get("coverage")),
                *(_short(each.figures["volume"].get("sources", {}).get(source)) for source in sources),
                _share(each.figures.get("unseen", {}).get("coverage")),
            )
            for name, volume, each in found
        ],
    )
    lines += ["", "In brackets: 95 % intervals (Clopper-Pearson). Each unseen patient, ml:", ""]
    lines += _table(
        ("network", "set", "drawn", "answered", "interval", "held"),
        [
            (f"`{name}`", row["source"], *_numbers(row))
            for name, _, each in found
            for row in each.figures.get("unseen", {}).get("patients", [])
        ],
    )
    lines += [
        "",
        "What an error may be put in relation to, at one level; the first is in use, chosen by the width:",
        "",
    ]
    lines += _table(
        ("network", "over", "held", "mean width, ml", "median width, ml", "median width / volume"),
        [
            (
                f"`{name}`",
                row["over"],
                f"{row['covered']} of {volume.patients}",
                f"{row['mean_width_ml']:.1f}",
                f"{row['median_width_ml']:.1f}",
                f"{row['median_width_share']:.2f}",
            )
            for name, volume, each in found
            for row in each.figures["volume"].get("designs", [])
        ],
    )
    lines += ["", *_factors(found), ""]
    return "\n".join(lines)


def _unanswered(found: Sequence[tuple[str, VolumeCalibration, Calibration]]) -> list[str]:
    """Say of each network how many unseen patients with blood it does not answer at all."""
    counts = [(name, each.figures.get("unseen", {}).get("unanswered", 0)) for name, _, each in found]
    missed = ", ".join(f"`{name}` {count}" for name, count in counts)
    return [f"Unseen patients with blood who were answered with nothing, and so have no interval: {missed}."]


def _factors(found: Sequence[tuple[str, VolumeCalibration, Calibration]]) -> list[str]:
    codes = list(dict.fromkeys(code for _, volume, _ in found for code in volume.factors))
    return [
        "A remark that says a scan is unlike these widens the interval. Measured is by what the quantile grows when",
        "the validation slices are degraded; the others are stated on the careful side, for nothing here can measure",
        "them. Factors multiply.",
        "",
        *_table(
            ("remark", "how", *(f"`{name}`" for name, _, _ in found)),
            [
                (
                    f"`{code}`",
                    DEGRADATIONS.get(code, "not measured"),
                    *(f"{volume.factors[code]:g}" if code in volume.factors else "–" for _, volume, _ in found),
                )
                for code in codes
            ],
        ),
    ]


def _bloods(found: Sequence[tuple[str, HemorrhageCalibration, Calibration]]) -> str:
    lines = _table(
        (
            "network",
            "unit",
            "patients with / without",
            "even at",
            "Brier",
            "ECE, 5 bins",
            "AUC",
            "missed",
            "false",
            "unseen: yes",
        ),
        [
            (
                f"`{name}`",
                unit,
                f"{curve.with_blood} / {curve.without}",
                _even(curve),
                *(_scored(each.figures[key][score]) for score in ("brier", "ece", "auc")),
                str(each.figures[key]["with_blood_answered_no"]),
                str(each.figures[key]["without_answered_yes"]),
                _share(each.figures.get("unseen", {}).get(unseen)),
            )
            for name, blood, each in found
            for unit, curve, key, unseen in (
                ("scan", blood.scan, "blood", "yes"),
                ("one slice", blood.one_slice, "one_slice", "yes_one_slice"),
            )
        ],
    )
    lines += [
        "",
        "Each patient left out once; intervals are of a bootstrap over patients. An AUC of 1 says that these patients",
        "part without overlap, not that any will. Missed and false are patients, or slices. Unseen patients without",
        "blood there are none. Even at: the nominal volume, ml, at which yes and no are as likely.",
        "",
        "What of the strongest lesion the confidence may rest on; the first is in use:",
        "",
    ]
    lines += _table(
        ("network", "evidence", "Brier", "missed", "false"),
        [
            (f"`{name}`", row["evidence"], f"{row['brier']:.4f}", str(row["missed"]), str(row["false"]))
            for name, _, each in found
            for row in each.figures.get("evidence", [])
        ],
    )
    return "\n".join([*lines, ""])


def _even(curve: LogisticCurve) -> str:
    return f"{np.exp(-curve.intercept / curve.slope):.2f}" if curve.slope > 0 else "–"


def _numbers(row: dict[str, Any]) -> tuple[str, str, str, str]:
    low, high = row["interval_ml"]
    held = "yes" if low <= row["truth_ml"] <= high else "no"
    return f"{row['truth_ml']:.1f}", f"{row['volume_ml']:.1f}", f"{low:.1f} to {high:.1f}", held


def _share(share: dict[str, Any] | None) -> str:
    if not share or not share["of"]:
        return "–"
    return f"{share['hits']} of {share['of']} ({share['low']:.2f}–{share['high']:.2f})"


def _short(share: dict[str, Any] | None) -> str:
    return f"{share['hits']} of {share['of']}" if share else "–"


def _scored(score: dict[str, Any]) -> str:
    if score["value"] is None:
        return "–"
    if score["low"] is None:
        return f"{score['value']:.3f}"
    return f"{score['value']:.3f} ({score['low']:.3f}–{score['high']:.3f})"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(headings)} |",
        "|" + "---|" * len(headings),
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
