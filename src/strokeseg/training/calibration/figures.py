"""Figures of a calibration: on its own patients, each left out once, and on unseen patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from strokeseg.evaluation.detection import roc_auc
from strokeseg.evaluation.metrics import bootstrap_interval
from strokeseg.segmentation.confidence import compute_probability
from strokeseg.segmentation.decision_options import DECISION_THRESHOLD
from strokeseg.segmentation.interval import compute_nonconformity, conformal_quantile
from strokeseg.segmentation.models import Calibration, HemorrhageCalibration, VolumeCalibration
from strokeseg.training.calibration.cases import CasePrediction
from strokeseg.training.calibration.fit import (
    FLOOR_ML,
    INTERVAL_LEVEL,
    SLACK_ML,
    CalibrationFit,
    collect_evidence,
    fit_logistic,
    select_measurable,
)

Floats = NDArray[np.float64]
Intervals = tuple[Floats, Floats]

BINS = 5
_PROBABILITY_FLOOR = 0.02


def clopper_pearson(hits: int, of: int, level: float = 0.95) -> tuple[float, float]:
    """Compute the exact interval of a share (Clopper & Pearson, Biometrika 1934;26:404)."""
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
"""Uncertainties below and above a volume, by which an error is divided; the first is the one in use."""


def compare_interval_designs(rows: Sequence[CasePrediction]) -> list[dict[str, Any]]:
    """Compare the designs of the interval by coverage and width, each patient left out once."""
    used = select_measurable(rows)
    if len(used) < 2:
        return []
    truth, volume, below, above = _volume_columns(used)
    figures = []
    for name, design in INTERVAL_DESIGNS.items():
        low, high = leave_one_out_intervals(truth, volume, *design(volume, below, above))
        figures.append(
            {
                "over": name,
                "covered": int(((low <= truth) & (truth <= high)).sum()),
                "mean_width_ml": round(float((high - low).mean()), 2),
                "median_width_ml": round(float(np.median(high - low)), 2),
                "median_width_share": round(float(np.median((high - low) / volume)), 2),
            }
        )
    return figures


def leave_one_out_intervals(truth: Floats, volume: Floats, below: Floats, above: Floats) -> Intervals:
    """Compute each patient's interval from the scores of all other patients.

    Parameters
    ----------
    truth, volume : ndarray of float, shape (patients,)
        Annotated and predicted volumes, ml.
    below, above : ndarray of float, shape (patients,)
        Uncertainties of the volumes, with slack.

    Returns
    -------
    low : ndarray of float, shape (patients,)
        Lower ends of the intervals, ml.
    high : ndarray of float, shape (patients,)
        Upper ends, ml.
    """
    scores = compute_nonconformity(truth, volume, below, above)
    reach = np.array([conformal_quantile(np.delete(scores, each), INTERVAL_LEVEL)[0] for each in range(len(scores))])
    return np.maximum(0, volume - reach * below), volume + reach * above


def _volume_columns(rows: Sequence[CasePrediction]) -> tuple[Floats, Floats, Floats, Floats]:
    names = ("truth_ml", "volume_ml", "below_ml", "above_ml")
    truth, volume, below, above = (np.array([getattr(row, name) for row in rows], dtype=np.float64) for name in names)
    return truth, volume, below, above


def compute_volume_figures(rows: Sequence[CasePrediction]) -> dict[str, Any]:
    """Count how often the interval contains the annotated volume, each patient left out once, also by source."""
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
    """Measure how well the confidence separates patients with blood from those without, each left out once.

    Patients with blood and patients without count half each, whatever their number, as in the confidence itself.
    """
    sizes, blood, weights = collect_evidence(rows)
    confidence = _leave_one_out_confidence(rows, sizes, blood, weights)
    table = np.column_stack([blood, confidence, sizes, weights])
    return {
        "with_blood": len({row.patient for row in rows if row.blood}),
        "without": len({row.patient for row in rows if not row.blood}),
        "brier": _bootstrap_statistic(rows, table, _brier),
        "ece": _bootstrap_statistic(rows, table, _ece),
        "auc": _bootstrap_statistic(rows, table, lambda each: roc_auc(each[:, 0] > 0, each[:, 2], each[:, 3])),
        "with_blood_answered_no": int((blood & (confidence < DECISION_THRESHOLD)).sum()),
        "without_answered_yes": int((~blood & (confidence >= DECISION_THRESHOLD)).sum()),
    }


def compare_evidence(rows: Sequence[CasePrediction]) -> list[dict[str, Any]]:
    """Compare properties of the strongest lesion as evidence, by the Brier score, each patient left out once."""
    _, blood, weights = collect_evidence(rows)
    figures = []
    for name, field in (
        ("volume", "lesion_ml"),
        ("volume x mean probability", "soft_ml"),
        ("mean probability", "mean_probability"),
        ("top probability", "top_probability"),
    ):
        values = np.array([getattr(row, field) for row in rows], dtype=np.float64)
        if field in ("mean_probability", "top_probability"):
            clipped = np.clip(values, _PROBABILITY_FLOOR, 0.999)
            sizes = clipped / (1 - clipped)
        else:
            sizes = np.maximum(values, FLOOR_ML)
        confidence = _leave_one_out_confidence(rows, sizes, blood, weights)
        table = np.column_stack([blood, confidence, sizes, weights])
        missed = int((blood & (confidence < DECISION_THRESHOLD)).sum())
        false = int((~blood & (confidence >= DECISION_THRESHOLD)).sum())
        figures.append({"evidence": name, "brier": round(_brier(table), 4), "missed": missed, "false": false})
    return figures


def _leave_one_out_confidence(
    rows: Sequence[CasePrediction], sizes: Floats, blood: NDArray[np.bool_], weights: Floats
) -> Floats:
    patients = np.array([row.patient for row in rows])
    confidence = np.empty(len(rows))
    for patient in dict.fromkeys(patients.tolist()):
        others = patients != patient
        if blood[others].all() or not blood[others].any():
            confidence[~others] = nan
            continue
        intercept, slope = fit_logistic(sizes[others], blood[others], weights[others])
        confidence[~others] = 1 / (1 + np.exp(-(intercept + slope * np.log(sizes[~others]))))
    return confidence


def _balanced_weights(table: Floats) -> Floats:
    """Weight rows so that those with blood and those without add up to a half each."""
    blood, weights = table[:, 0] > 0, table[:, 3].copy()
    for side in (blood, ~blood):
        total = weights[side].sum()
        weights[side] *= 0.5 / total if total else nan
    return weights if blood.any() and not blood.all() else np.full(len(weights), nan)


def _brier(table: Floats) -> float:
    return float((_balanced_weights(table) * (table[:, 1] - table[:, 0]) ** 2).sum())


def _ece(table: Floats) -> float:
    weights = _balanced_weights(table)
    bins = np.minimum((table[:, 1] * BINS).astype(int), BINS - 1)
    return float(np.abs(np.bincount(bins, weights * (table[:, 1] - table[:, 0]), minlength=BINS)).sum())


def _bootstrap_statistic(
    rows: Sequence[CasePrediction], table: Floats, statistic: Callable[[Floats], float]
) -> dict[str, Any]:
    """Compute a statistic and its 95 % bootstrap interval; patients are drawn with all their rows."""
    patients = np.array([row.patient for row in rows])
    rows_of = [np.flatnonzero(patients == patient) for patient in dict.fromkeys(patients.tolist())]

    def of_drawn(drawn: NDArray[np.int64]) -> float:
        return statistic(table[np.concatenate([rows_of[index] for index in drawn])])

    low, high = bootstrap_interval(np.arange(len(rows_of)), of_drawn, n=1000)
    return {
        name: None if np.isnan(value) else round(float(value), 4)
        for name, value in (("value", statistic(table)), ("low", low), ("high", high))
    }


def compute_figures(fitted: CalibrationFit) -> dict[str, Any]:
    """Compute all figures of a calibration on its own patients, for the card."""
    calibration = fitted.calibration
    figures: dict[str, Any] = {"volume": compute_volume_figures(fitted.patient_predictions)}
    if calibration.blood is not None:
        figures |= {
            "blood": compute_blood_figures(fitted.patient_predictions),
            "one_slice": compute_blood_figures(fitted.slice_predictions),
            "evidence": compare_evidence(fitted.patient_predictions),
        }
    return figures


def compute_unseen_figures(
    of_patients: Sequence[CasePrediction], of_slices: Sequence[CasePrediction], calibration: Calibration
) -> dict[str, Any]:
    """Compute the figures of a calibration on unseen patients with blood, for the card.

    Parameters
    ----------
    of_patients, of_slices : sequence of CasePrediction
        One for each patient, and one for each slice.
    calibration : Calibration
        The calibration.
    """
    figures: dict[str, Any] = {}
    if calibration.volume is not None:
        used = select_measurable(of_patients)
        low, high = compute_intervals(used, calibration.volume)
        truth = np.array([row.truth_ml for row in used])
        covered = (low <= truth) & (truth <= high)
        figures["coverage"] = share_with_interval(int(covered.sum()), len(used))
        figures["unanswered"] = len(of_patients) - len(used)
        figures["patients"] = [
            {
                "source": row.source,
                "truth_ml": round(row.truth_ml, 2),
                "volume_ml": round(row.volume_ml, 2),
                "interval_ml": [round(float(lowest), 2), round(float(highest), 2)],
            }
            for row, lowest, highest in zip(used, low, high, strict=True)
        ]
    if calibration.blood is not None:
        figures["yes"] = share_with_interval(*_count_yes(of_patients, 2, calibration.blood))
        figures["yes_one_slice"] = share_with_interval(*_count_yes(of_slices, 1, calibration.blood))
    return figures


def _count_yes(rows: Sequence[CasePrediction], slices: int, blood: HemorrhageCalibration) -> tuple[int, int]:
    with_blood = [row for row in rows if row.blood]
    yes = sum(compute_probability(row.lesion_ml, slices, blood) >= DECISION_THRESHOLD for row in with_blood)
    return yes, len(with_blood)


def compute_intervals(rows: Sequence[CasePrediction], volume: VolumeCalibration) -> Intervals:
    """Compute the volume intervals of predictions: lows and highs, each of shape (rows,), ml."""
    _, predicted, below, above = _volume_columns(rows)
    reach, slack = volume.quantile, volume.slack_ml
    return np.maximum(0, predicted - reach * (below + slack)), predicted + reach * (above + slack)
