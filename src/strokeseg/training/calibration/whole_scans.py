"""Fit the second look and the confidence to whole scans, each segmented by a network that never saw the patient.

The networks of the folds have the recipe of the one that is calibrated, and each left some patients out of its
training. Every figure is cross-validated once more: the weights of the second look, which are fitted to all these
patients for the card, are fitted without the patient whose confidence is scored.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import minimize
from torch import nn

from strokeseg import segmentation
from strokeseg.errors import TrainError
from strokeseg.evaluation.detection import roc_auc
from strokeseg.imaging import brain_mask, components
from strokeseg.scan import Scan
from strokeseg.segmentation.confidence import compute_reviewed_probability
from strokeseg.segmentation.lesion_features import FEATURES, measure_candidates
from strokeseg.segmentation.lesion_review import NO_LESION_LOG_ODDS, ReviewedLesion, review_lesion
from strokeseg.segmentation.models import (
    Card,
    FeatureWeight,
    LesionReview,
    LogisticCurve,
    OperatingPoint,
)
from strokeseg.training import data, networks, run_folder
from strokeseg.training.calibration.cases import make_nominal_scan
from strokeseg.training.calibration.figures import share_with_interval

Floats = NDArray[np.float64]
Log = Callable[[str], None]

SOURCE = "ctich"
MIN_OVERLAP = 0.2
"""A candidate is a true lesion if at least this share of its pixels is annotated."""
DROP_BELOW = 0.3
FITTED_FEATURES = ("log_volume", "slices", "top_probability")
"""With 23 true lesions, more features fit the patients and not the lesions: docs/calibration.md."""

RIDGE = 3.0
"""Strength of the penalty on the weights, whose features have unit variance; chosen before any patient was scored."""

THICKNESS_MM = {"under 5 mm": (0, 5), "5 to 10 mm": (5, 10), "over 10 mm": (10, 1e3)}
_SPECIFIC = 0.95
_DECISIONS = np.round(np.arange(0.05, 0.951, 0.01), 2)


@dataclass(frozen=True)
class WholeScan:
    """One patient's scan with the candidates of a network that never saw the patient.

    Attributes
    ----------
    patient : str
        The patient.
    blood : bool
        Whether any slice is annotated.
    features : ndarray of float64, shape (candidates, features)
        In the order of :data:`strokeseg.segmentation.lesion_features.FEATURES`.
    is_blood : ndarray of bool, shape (candidates,)
        Whether each candidate is a true lesion.
    pixels, hits : ndarray of int, shape (candidates,)
        Pixels of each candidate, and how many of them are annotated.
    annotated : int
        Annotated pixels of the scan.
    lesion_mm : ndarray of float64, shape (lesions,)
        Thickness of each annotated lesion: diameter of the largest circle in it on any slice.
    touches : ndarray of bool, shape (lesions, candidates)
        Whether a candidate shares a pixel with an annotated lesion.
    """

    patient: str
    blood: bool
    features: Floats
    is_blood: NDArray[np.bool_]
    pixels: NDArray[np.int64]
    hits: NDArray[np.int64]
    annotated: int
    lesion_mm: Floats
    touches: NDArray[np.bool_]


class _FoldEngine:
    """A network of a fold as an engine."""

    name, precision, concurrent_slices = "torch", "fp32", 1

    def __init__(self, network: nn.Module, card: Card) -> None:
        self._network, self.card = network.eval(), card

    def logits(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = self._network(torch.from_numpy(image))[0, 0].numpy()
        return logits


def collect_scans(card: Card, folds: Sequence[Path], data_root: Path, log: Log = print) -> list[WholeScan]:
    """Segment every patient of CT-ICH with a fold that never saw the patient.

    Parameters
    ----------
    card : Card
        The network that is calibrated: its threshold and size limits apply.
    folds : sequence of Path
        Folders of the runs, with `best.ckpt` and `split.json`.
    data_root : Path
        Folder of the data sets.
    log : callable
        Called with a line for every patient.

    Returns
    -------
    list of WholeScan
        One for each patient.

    Raises
    ------
    TrainError
        `train`, if a fold is no run, or every fold was trained on a patient.
    """
    bare = card.model_copy(update={"calibration": None, "review": None, "operating_points": {}})
    engines = [_load_fold(fold, bare) for fold in folds]
    scans = []
    for patient, samples in itertools.groupby(data.stream(data_root, SOURCE), lambda sample: sample.patient):
        engine = next((engine for engine, trained in engines if patient not in trained), None)
        if engine is None:
            raise TrainError(f"every fold was trained on {patient}", "Name folds that leave each patient out once.")
        slices = list(samples)
        scan = make_nominal_scan(np.stack([sample.hu for sample in slices]))
        scans.append(_segment(patient, scan, np.stack([sample.mask == 1 for sample in slices]), engine))
        log(f"{patient}: {len(scans[-1].pixels)} candidates, {int(scans[-1].is_blood.sum())} with blood")
    return scans


def _load_fold(folder: Path, card: Card) -> tuple[_FoldEngine, frozenset[str]]:
    earlier = run_folder.find_earlier_run(folder, frozenset(), "--fold")
    network = networks.load_averaged_network(earlier.config, earlier.checkpoint)
    sized = card.model_copy(update={"size": earlier.config.network.size})
    return _FoldEngine(network, sized), earlier.training_patients


def _segment(patient: str, scan: Scan, truth: NDArray[np.bool_], engine: _FoldEngine) -> WholeScan:
    """Segment a scan without a second look, and measure what it would look at."""
    prediction = segmentation.predict(scan, engine)
    labels, count = components.label(prediction.mask, scan)
    region = brain_mask.find_brain(scan, prediction.mask)
    numbers = np.arange(1, count + 1)
    candidates = measure_candidates(labels, numbers, prediction.probability, scan, region)
    pixels = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    hits = np.bincount(labels[truth], minlength=count + 1)[1:]
    table = np.array([[one.features[name] for name in FEATURES] for one in candidates]).reshape(count, len(FEATURES))
    lesions, lesion_count = components.label(truth, scan)
    touches = np.zeros((lesion_count + 1, count + 1), dtype=bool)
    touches[lesions.ravel(), labels.ravel()] = True
    return WholeScan(
        patient,
        bool(truth.any()),
        table,
        hits >= MIN_OVERLAP * np.maximum(pixels, 1),
        pixels,
        hits,
        int(truth.sum()),
        _measure_thickness_mm(lesions, lesion_count, scan.planes.pixel_spacing_mm),
        touches[1:, 1:],
    )


def _measure_thickness_mm(labels: components.Labels, count: int, spacing_mm: tuple[float, float]) -> Floats:
    thickness = np.zeros(count)
    for plane in labels:
        for number in np.unique(plane[plane > 0]):
            inside = ndimage.distance_transform_edt(np.pad(plane == number, 1), sampling=spacing_mm)
            thickness[number - 1] = max(thickness[number - 1], 2 * float(inside.max()))
    return thickness


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
