"""How well a calibration holds: on its own patients, each left out once, and on patients whom it has never seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from strokeseg.evaluation.detection import roc_auc
from strokeseg.evaluation.metrics import bootstrap_interval
from strokeseg.segmentation.confidence import DECISION_THRESHOLD, compute_probability
from strokeseg.segmentation.interval import compute_nonconformity, conformal_quantile
from strokeseg.segmentation.models import Calibration, HemorrhageCalibration, VolumeCalibration
from strokeseg.training.calibration.fit import (
    FLOOR_ML,
    INTERVAL_LEVEL,
    SLACK_ML,
    CalibrationFit,
    CasePrediction,
    collect_evidence,
    fit_logistic,
    select_measurable,
)

Floats = NDArray[np.float64]
Intervals = tuple[Floats, Floats]

BINS = 5
_PROBABILITY_FLOOR = 0.02


def clopper_pearson(hits: int, of: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a share (Clopper & Pearson, Biometrika 1934;26:404)."""
    outside = (1 - level) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(outside, hits, of - hits + 1))
    high = 1.0 if hits == of else float(beta.ppf(1 - outside, hits + 1, of - hits))
    return low, high


def share_with_interval(hits: int, of: int) -> dict[str, Any]:
    """Return a share with its 95 % interval, for a card."""
    if not of:
        return {"hits": 0, "of": 0, "low": None, "high": None}
    low, high = clopper_pearson(hits, of)
    return {"hits": hits, "of": of, "low": round(low, 3), "high": round(high, 3)}


INTERVAL_DESIGNS: dict[str, Callable[[Floats, Floats, Floats], Intervals]] = {
    "the doubt on the error's side": lambda volume, below, above: (below + SLACK_ML, above + SLACK_ML),
    "the doubt of both sides": lambda volume, below, above: (below + above + SLACK_ML, below + above + SLACK_ML),
    "the root of the volume": lambda volume, below, above: (np.sqrt(volume) + SLACK_ML, np.sqrt(volume) + SLACK_ML),
    "the volume": lambda volume, below, above: (volume + SLACK_ML, volume + SLACK_ML),
    "nothing": lambda volume, below, above: (np.ones(len(volume)), np.ones(len(volume))),
}
"""What an error is put in relation to; the first is the one in use."""


def compare_interval_designs(rows: Sequence[CasePrediction]) -> list[dict[str, Any]]:
    """Compare the designs by coverage and width, each patient left out once."""
    used = select_measurable(rows)
    if len(used) < 2:
        return []
    truth, volume, below, above = _volume_columns(used)
    found = []
    for name, design in INTERVAL_DESIGNS.items():
        low, high = leave_one_out_intervals(truth, volume, *design(volume, below, above))
        found.append(
            {
                "over": name,
                "covered": int(((low <= truth) & (truth <= high)).sum()),
                "mean_width_ml": round(float((high - low).mean()), 2),
                "median_width_ml": round(float(np.median(high - low)), 2),
                "median_width_share": round(float(np.median((high - low) / volume)), 2),
            }
        )
    return found


def leave_one_out_intervals(truth: Floats, volume: Floats, below: Floats, above: Floats) -> Intervals:
    """Return each patient's interval by the quantile of all others' scores, (patients,) lows and highs, ml."""
    scores = compute_nonconformity(truth, volume, below, above)
    reach = np.array([conformal_quantile(np.delete(scores, each), INTERVAL_LEVEL)[0] for each in range(len(scores))])
    return np.maximum(0, volume - reach * below), volume + reach * above


def _volume_columns(rows: Sequence[CasePrediction]) -> tuple[Floats, Floats, Floats, Floats]:
    names = ("truth_ml", "volume_ml", "below_ml", "above_ml")
    truth, volume, below, above = (np.array([getattr(row, name) for row in rows], dtype=np.float64) for name in names)
    return truth, volume, below, above


def compute_volume_figures(rows: Sequence[CasePrediction]) -> dict[str, Any]:
    """Tell how often the interval holds the truth, each patient left out once, by source too."""
    used = select_measurable(rows)
    unanswered = sum(row.blood and row.volume_ml == 0 for row in rows)
    if len(used) < 2:
        return {"patients": len(used), "unanswered": unanswered}
    truth, volume, below, above = _volume_columns(used)
    low, high = leave_one_out_intervals(truth, volume, below + SLACK_ML, above + SLACK_ML)
    covered = (low <= truth) & (truth <= high)
    source = np.array([row.source for row in used])
    return {
        "patients": len(used),
        "unanswered": unanswered,
        "coverage": share_with_interval(int(covered.sum()), len(used)),
        "sources": {
            str(name): share_with_interval(int(covered[source == name].sum()), int((source == name).sum()))
            for name in dict.fromkeys(source.tolist())
        },
        "designs": compare_interval_designs(rows),
    }


def compute_blood_figures(rows: Sequence[CasePrediction]) -> dict[str, Any]:
    """Tell how well the confidence parts patients with blood from those without, each patient left out once.

    Both sides count half, whatever their number, as the confidence itself takes it.
    """
    sizes, blood, weights = collect_evidence(rows)
    stated = _leave_one_out_confidence(rows, sizes, blood, weights)
    table = np.column_stack([blood, stated, sizes, weights])
    return {
        "with_blood": len({row.patient for row in rows if row.blood}),
        "without": len({row.patient for row in rows if not row.blood}),
        "brier": _bootstrap_statistic(rows, table, _brier),
        "ece": _bootstrap_statistic(rows, table, _ece),
        "auc": _bootstrap_statistic(rows, table, lambda each: roc_auc(each[:, 0] > 0, each[:, 2], each[:, 3])),
        "with_blood_answered_no": int((blood & (stated < DECISION_THRESHOLD)).sum()),
        "without_answered_yes": int((~blood & (stated >= DECISION_THRESHOLD)).sum()),
    }


def compare_evidence(rows: Sequence[CasePrediction]) -> list[dict[str, Any]]:
    """Compare what of the strongest lesion the confidence may rest on, by the Brier score, each left out once."""
    _, blood, weights = collect_evidence(rows)
    found = []
    for name, field in (
        ("volume", "lesion_ml"),
        ("volume x mean probability", "soft_ml"),
        ("mean probability", "mean"),
        ("top probability", "top"),
    ):
        values = np.array([getattr(row, field) for row in rows], dtype=np.float64)
        if field in ("mean", "top"):
            kept = np.clip(values, _PROBABILITY_FLOOR, 0.999)
            sizes = kept / (1 - kept)
        else:
            sizes = np.maximum(values, FLOOR_ML)
        stated = _leave_one_out_confidence(rows, sizes, blood, weights)
        table = np.column_stack([blood, stated, sizes, weights])
        missed, false = (
            int((blood & (stated < DECISION_THRESHOLD)).sum()),
            int((~blood & (stated >= DECISION_THRESHOLD)).sum()),
        )
        found.append({"evidence": name, "brier": round(_brier(table), 4), "missed": missed, "false": false})
    return found


def _leave_one_out_confidence(
    rows: Sequence[CasePrediction], sizes: Floats, blood: NDArray[np.bool_], weights: Floats
) -> Floats:
    patients = np.array([row.patient for row in rows])
    stated = np.empty(len(rows))
    for patient in dict.fromkeys(patients.tolist()):
        others = patients != patient
        if blood[others].all() or not blood[others].any():
            stated[~others] = nan
            continue
        intercept, slope = fit_logistic(sizes[others], blood[others], weights[others])
        stated[~others] = 1 / (1 + np.exp(-(intercept + slope * np.log(sizes[~others]))))
    return stated


def _balanced_weights(table: Floats) -> Floats:
    """Weigh rows so that both sides add up to a half."""
    blood, weights = table[:, 0] > 0, table[:, 3].copy()
    for side in (blood, ~blood):
        total = weights[side].sum()
        weights[side] *= 0.5 / total if total else nan
    return weights if blood.any() and not blood.all() else np.full(len(weights), nan)


def _brier(table: Floats) -> float:
    return float((_balanced_weights(table) * (table[:, 1] - table[:, 0]) ** 2).sum())


def _ece(table: Floats) -> float:
    weights = _balanced_weights(table)
    place = np.minimum((table[:, 1] * BINS).astype(int), BINS - 1)
    return float(np.abs(np.bincount(place, weights * (table[:, 1] - table[:, 0]), minlength=BINS)).sum())


def _bootstrap_statistic(
    rows: Sequence[CasePrediction], table: Floats, statistic: Callable[[Floats], float]
) -> dict[str, Any]:
    """Return a statistic of the rows' table with its 95 % bootstrap interval; patients are drawn, with all their rows."""
    patients = np.array([row.patient for row in rows])
    of = [np.flatnonzero(patients == patient) for patient in dict.fromkeys(patients.tolist())]
    low, high = bootstrap_interval(
        np.arange(len(of)), lambda drawn: statistic(table[np.concatenate([of[each] for each in drawn])]), n=1000
    )
    return {
        name: None if np.isnan(value) else round(float(value), 4)
        for name, value in (("value", statistic(table)), ("low", low), ("high", high))
    }


def compute_figures(found: CalibrationFit) -> dict[str, Any]:
    """Return all figures of a calibration on its own patients."""
    calibration = found.calibration
    told: dict[str, Any] = {"volume": compute_volume_figures(found.patient_predictions)}
    if calibration.blood is not None:
        told |= {
            "blood": compute_blood_figures(found.patient_predictions),
            "one_slice": compute_blood_figures(found.slice_predictions),
            "evidence": compare_evidence(found.patient_predictions),
        }
    return told


def compute_unseen_figures(
    rows: Sequence[CasePrediction], alone: Sequence[CasePrediction], calibration: Calibration
) -> dict[str, Any]:
    """Hold a calibration to patients with blood whom nobody chose anything by: one row a patient, one a slice."""
    told: dict[str, Any] = {}
    if calibration.volume is not None:
        used = select_measurable(rows)
        low, high = compute_intervals(used, calibration.volume)
        truth = np.array([row.truth_ml for row in used])
        covered = (low <= truth) & (truth <= high)
        told["coverage"] = share_with_interval(int(covered.sum()), len(used))
        told["unanswered"] = len(rows) - len(used)
        told["patients"] = [
            {
                "source": row.source,
                "truth_ml": round(row.truth_ml, 2),
                "volume_ml": round(row.volume_ml, 2),
                "interval_ml": [round(float(least), 2), round(float(most), 2)],
            }
            for row, least, most in zip(used, low, high, strict=True)
        ]
    if calibration.blood is not None:
        told["yes"] = share_with_interval(*_count_yes(rows, 2, calibration.blood))
        told["yes_one_slice"] = share_with_interval(*_count_yes(alone, 1, calibration.blood))
    return told


def _count_yes(rows: Sequence[CasePrediction], slices: int, blood: HemorrhageCalibration) -> tuple[int, int]:
    of = [row for row in rows if row.blood]
    return sum(compute_probability(row.lesion_ml, slices, blood) >= DECISION_THRESHOLD for row in of), len(of)


def compute_intervals(rows: Sequence[CasePrediction], volume: VolumeCalibration) -> Intervals:
    """Return the intervals of rows by a calibration, (rows,) lows and highs, ml."""
    _, answered, below, above = _volume_columns(rows)
    reach, slack = volume.quantile, volume.slack_ml
    return np.maximum(0, answered - reach * (below + slack)), answered + reach * (above + slack)
