"""Fit the second look, the confidence and the operating points to whole scans.

The networks of the folds have the recipe of the one that is calibrated, and each left some patients out of its
training (:mod:`strokeseg.training.calibration.fold_predictions`). Figures are cross-validated once more: the weights of
the second look, which are fitted to all these patients for the card, are fitted without the patient that is scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from strokeseg.errors import TrainError
from strokeseg.evaluation.detection import roc_auc
from strokeseg.segmentation.confidence import compute_reviewed_probability
from strokeseg.segmentation.lesion_features import FEATURES
from strokeseg.segmentation.lesion_review import NO_LESION_LOG_ODDS, ReviewedLesion, review_lesion
from strokeseg.segmentation.models import (
    Card,
    FeatureWeight,
    LesionReview,
    LogisticCurve,
    OperatingPoint,
)
from strokeseg.training.calibration.figures import share_with_interval
from strokeseg.training.calibration.fold_predictions import SOURCE, WholeScan

Floats = NDArray[np.float64]

DROP_BELOW = 0.3
FITTED_FEATURES = ("log_volume", "slices", "top_probability")
"""With 23 true lesions, more features fit the patients and not the lesions: docs/calibration.md."""

RIDGE = 3.0
"""Strength of the penalty on the weights, whose features have unit variance; 1 and 10 give about the same."""

THICKNESS_MM = {"under 5 mm": (0, 5), "5 to 10 mm": (5, 10), "over 10 mm": (10, 1e3)}
_SPECIFIC = 0.95
_DECISIONS = np.round(np.arange(0.05, 0.951, 0.01), 2)


def fit_review(
    scans: Sequence[WholeScan], drop_below: float = DROP_BELOW, names: Sequence[str] = FITTED_FEATURES
) -> LesionReview:
    """Fit the second look: a logistic regression with a ridge penalty. Lesions and false alarms have equal weight.

    Parameters
    ----------
    scans : sequence of WholeScan
        Their candidates.
    drop_below : float, default: 0.3
        Probability below which a candidate is dropped.
    names : sequence of str, optional
        Features that are fitted.

    Returns
    -------
    LesionReview
        The weights.

    Raises
    ------
    TrainError
        `train`, if there is no lesion or no false alarm.
    """
    table = np.concatenate([scan.features for scan in scans])[:, [FEATURES.index(name) for name in names]]
    truth = np.concatenate([scan.is_blood for scan in scans])
    lesions, false_alarms = int(truth.sum()), int((~truth).sum())
    if not lesions or not false_alarms:
        raise TrainError(f"{lesions} lesions and {false_alarms} false alarms: the second look needs both")
    centre, scale = table.mean(0), np.maximum(table.std(0), 1e-3)
    deviation = np.clip((table - centre) / scale, -3, 3)
    each = np.where(truth, 0.5 / lesions, 0.5 / false_alarms) * len(truth)

    def loss(values: Floats) -> tuple[float, Floats]:
        logit = values[0] + deviation @ values[1:]
        value = (each * (np.logaddexp(0, logit) - truth * logit)).sum() + RIDGE * (values[1:] ** 2).sum() / 2
        slope = each * (1 / (1 + np.exp(-logit)) - truth)
        return float(value), np.concatenate([[slope.sum()], slope @ deviation + RIDGE * values[1:]])

    fitted = minimize(loss, np.zeros(len(names) + 1), jac=True, method="L-BFGS-B").x
    weights = {
        name: FeatureWeight(weight=round(float(w), 4), centre=round(float(c), 4), scale=round(float(s), 4))
        for name, w, c, s in zip(names, fitted[1:], centre, scale, strict=True)
    }
    return LesionReview(
        intercept=round(float(fitted[0]), 4),
        features=weights,
        drop_below=drop_below,
        lesions=lesions,
        false_alarms=false_alarms,
    )


def review_scan(scan: WholeScan, review: LesionReview) -> list[ReviewedLesion]:
    """Judge every candidate of a scan."""
    return [review_lesion(dict(zip(FEATURES, row, strict=True)), review) for row in scan.features]


def cross_validate_reviews(
    scans: Sequence[WholeScan], names: Sequence[str] = FITTED_FEATURES
) -> list[list[ReviewedLesion]]:
    """Judge the candidates of each scan by a second look that was fitted to the other scans."""
    return [
        review_scan(scan, fit_review([other for other in scans if other.patient != scan.patient], names=names))
        for scan in scans
    ]


def strongest_log_odds(reviewed: Sequence[ReviewedLesion], drop_below: float) -> float:
    """Return the log odds of the most probable lesion that is kept."""
    kept = [one.log_odds for one in reviewed if one.probability >= drop_below]
    return max([*kept, NO_LESION_LOG_ODDS])


def fit_curve(log_odds: Floats, blood: NDArray[np.bool_]) -> LogisticCurve:
    """Fit the confidence of a scan to the log odds of its most probable lesion; targets are Platt's.

    Parameters
    ----------
    log_odds : ndarray of float64, shape (scans,)
        Of the most probable lesion of each scan.
    blood : ndarray of bool, shape (scans,)
        Whether it shows hemorrhage.

    Returns
    -------
    LogisticCurve
        Scans with and without hemorrhage have the same total weight.
    """
    with_blood, without = int(blood.sum()), int((~blood).sum())
    target = np.where(blood, (with_blood + 1) / (with_blood + 2), 1 / (without + 2))
    each = np.where(blood, 1 / with_blood, 1 / without)

    def loss(curve: Floats) -> float:
        logit = curve[0] + curve[1] * log_odds
        return float((each * (np.logaddexp(0, logit) - target * logit)).sum())

    intercept, slope = minimize(loss, np.array([0.0, 1.0]), bounds=[(-50, 50), (0, 50)], method="L-BFGS-B").x
    return LogisticCurve(
        intercept=round(float(intercept), 4), slope=round(float(slope), 4), with_blood=with_blood, without=without
    )


def choose_operating_points(confidence: Floats, blood: NDArray[np.bool_]) -> dict[str, OperatingPoint]:
    """Choose the confidences from which the answer is yes.

    "balanced" is the confidence with the highest sum of sensitivity and specificity, nearest to 0.5; "sensitive" is the
    highest one that finds every scan with hemorrhage in which any lesion was marked, "specific" the lowest one that
    leaves 95 % of the others without an answer. Each is at most, or at least, the one of "balanced".

    Parameters
    ----------
    confidence : ndarray of float64, shape (scans,)
        Confidence of each scan, by a second look that was fitted to the others.
    blood : ndarray of bool, shape (scans,)
        Whether it shows hemorrhage.

    Returns
    -------
    dict of str to OperatingPoint
        With their sensitivity and specificity on these scans.
    """
    found = np.array([(confidence[blood] >= decision).mean() for decision in _DECISIONS])
    quiet = np.array([(confidence[~blood] < decision).mean() for decision in _DECISIONS])
    best = np.flatnonzero(np.isclose(found + quiet, (found + quiet).max()))
    balanced = int(best[np.abs(_DECISIONS[best] - 0.5).argmin()])
    # A scan without a lesion has the lowest confidence; below it every answer would be yes.
    above = confidence.min() < _DECISIONS
    sensitive = max(np.flatnonzero(above & (found >= found[above].max(initial=0))), default=0)
    specific = min(np.flatnonzero(quiet >= _SPECIFIC), default=len(_DECISIONS) - 1)
    chosen = {"sensitive": min(sensitive, balanced), "balanced": balanced, "specific": max(specific, balanced)}
    return {
        name: OperatingPoint(
            decision=float(_DECISIONS[index]),
            sensitivity=round(float(found[index]), 3),
            specificity=round(float(quiet[index]), 3),
            with_blood=int(blood.sum()),
            without=int((~blood).sum()),
        )
        for name, index in chosen.items()
    }


def calibrate_whole_scans(card: Card, scans: Sequence[WholeScan]) -> Card:
    """Add the second look, the confidence of whole scans and the operating points to a card.

    Parameters
    ----------
    card : Card
        The network's card, with a calibration.
    scans : sequence of WholeScan
        From :func:`collect_scans`.

    Returns
    -------
    Card
        A new card.

    Raises
    ------
    TrainError
        `train`, if the card is not calibrated on its validation patients yet.
    """
    if card.calibration is None or card.calibration.blood is None:
        raise TrainError(f"{card.name} has no confidence yet", f"Run `strokeseg calibrate {card.name}` without --fold.")
    blood = np.array([scan.blood for scan in scans])
    cross_validated = cross_validate_reviews(scans)
    log_odds = np.array([strongest_log_odds(reviewed, DROP_BELOW) for reviewed in cross_validated])
    curve = fit_curve(log_odds, blood)
    confidence = np.array([compute_reviewed_probability([ReviewedLesion(value, (), ())], curve) for value in log_odds])
    all_features = cross_validate_reviews(scans, FEATURES)
    figures = {
        **card.calibration.figures,
        "whole_scans": {
            **_compute_figures(scans, cross_validated, confidence, blood),
            "auc_of_features": {
                "the largest lesion alone": _score_scans(scans, [_review_by_volume(scan) for scan in scans]),
                "the three features": _score_scans(scans, cross_validated),
                "all features": _score_scans(scans, all_features),
            },
        },
    }
    calibrated = card.calibration.blood.model_copy(update={"reviewed": curve})
    return card.model_copy(
        update={
            "review": fit_review(scans),
            "operating_points": choose_operating_points(confidence, blood),
            "calibration": card.calibration.model_copy(update={"blood": calibrated, "figures": figures}),
        }
    )


def _review_by_volume(scan: WholeScan) -> list[ReviewedLesion]:
    return [ReviewedLesion(float(row[FEATURES.index("log_volume")]), (), ()) for row in scan.features]


def _score_scans(scans: Sequence[WholeScan], reviewed: Sequence[Sequence[ReviewedLesion]]) -> float:
    """Compute the ROC-AUC of scans by their most probable lesion."""
    strongest = [max((one.log_odds for one in lesions), default=NO_LESION_LOG_ODDS) for lesions in reviewed]
    return round(roc_auc([scan.blood for scan in scans], strongest), 3)


def _compute_figures(
    scans: Sequence[WholeScan],
    reviewed: Sequence[Sequence[ReviewedLesion]],
    confidence: Floats,
    blood: NDArray[np.bool_],
) -> dict[str, Any]:
    """Count what the second look drops, and how well the confidence separates the scans."""
    kept = [np.array([one.probability >= DROP_BELOW for one in lesions], dtype=bool) for lesions in reviewed]
    truth, stays = np.concatenate([scan.is_blood for scan in scans]), np.concatenate(kept)
    dice = [
        2 * scan.hits[keep].sum() / max(1, scan.pixels[keep].sum() + scan.annotated)
        for scan, keep in zip(scans, kept, strict=True)
        if scan.blood
    ]
    before = [2 * scan.hits.sum() / max(1, scan.pixels.sum() + scan.annotated) for scan in scans if scan.blood]
    return {
        "source": SOURCE,
        "patients": {"with_blood": int(blood.sum()), "without": int((~blood).sum())},
        "auc": round(roc_auc(blood.tolist(), confidence.tolist()), 3),
        "candidates": {"lesions": int(truth.sum()), "false_alarms": int((~truth).sum())},
        "lesions_kept": share_with_interval(int((truth & stays).sum()), int(truth.sum())),
        "false_alarms_dropped": share_with_interval(int((~truth & ~stays).sum()), int((~truth).sum())),
        "lesions_found": _count_found(scans, kept),
        "whole_dice": {"before": round(float(np.mean(before)), 3), "after": round(float(np.mean(dice)), 3)},
    }


def _count_found(scans: Sequence[WholeScan], kept: Sequence[NDArray[np.bool_]]) -> dict[str, dict[str, Any]]:
    """Count the annotated lesions that a kept candidate touches, by their thickness."""
    thickness = np.concatenate([scan.lesion_mm for scan in scans])
    found = np.concatenate([scan.touches[:, keep].any(1) for scan, keep in zip(scans, kept, strict=True)])
    classes = {name: (thickness >= low) & (thickness < high) for name, (low, high) in THICKNESS_MM.items()}
    return {name: share_with_interval(int(found[of].sum()), int(of.sum())) for name, of in classes.items()}
