"""Validation scores: Dice by patient and source at the best common threshold, recall, detection, whole patients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.evaluation.detection import detection_score, roc_auc
from strokeseg.training.augmentation import Bytes, Floats32, StoredSlice
from strokeseg.training.sample import UNKNOWN

PATIENT_SCORES = ("patient_auc", "patient_sensitivity", "patient_specificity")
MIN_PIXELS = 60
"""Pixels of a stored slice, about 20 mm2: a patient with fewer on every slice counts as predicted without blood."""

THRESHOLDS = np.arange(0.1, 0.91, 0.05)
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class SliceScores:
    """The scores of one slice.

    Attributes
    ----------
    counts : ndarray of int, shape (thresholds, 3)
        Numbers of known pixels: true positive, predicted positive, annotated.
    score : float
        Detection score (:func:`strokeseg.evaluation.detection.detection_score`).
    """

    counts: Counts
    score: float


def score_slice(probability: Floats32, mask: Bytes) -> SliceScores:
    """Score a probability map by a mask of 0, 1 (blood) and 2 (unknown), both (rows, columns)."""
    known = mask != UNKNOWN
    truth, values = (mask == 1)[known], probability[known]
    predictions = [values > threshold for threshold in THRESHOLDS]
    rows = [((predicted & truth).sum(), predicted.sum(), truth.sum()) for predicted in predictions]
    counts = np.array(rows, dtype=np.int64)
    return SliceScores(counts, detection_score(probability, known))


def score_held_out(samples: list[StoredSlice], slice_scores: dict[int, SliceScores]) -> dict[str, Any]:
    """Score the held-out patients: mean over sources of the mean over patients, at the best common threshold.

    A patient's Dice and recall pool the patient's slices. Slices without blood count in ``quiet``, the share of them in
    which no pixel is marked at that threshold, and in ``detection_auc``; both are None without such slices. The scores
    by patient (``PATIENT_SCORES``) and ``whole`` use all slices of a patient, with and without blood: ``whole`` is, by
    source, the mean Dice of the patients with blood who also have slices without, false positives on these included.
    A patient is predicted to have blood if a slice has at least ``MIN_PIXELS`` predicted pixels, and the AUC is that of
    the highest detection score of a slice; these three are None unless there are patients with and without blood.
    """
    patients: dict[tuple[str, str], Counts] = {}
    quiet = []
    for index, scores in slice_scores.items():
        sample = samples[index]
        if scores.counts[0, 2] == 0:
            quiet.append(scores.counts[:, 1] == 0)
            continue
        key = (sample.source, sample.patient)
        patients[key] = patients.get(key, 0) + scores.counts
    by_source: dict[str, list[NDArray[np.float64]]] = {}
    for (source, _), count in patients.items():
        by_source.setdefault(source, []).append(2 * count[:, 0] / np.maximum(count[:, 1] + count[:, 2], 1))
    if not by_source:
        undefined: dict[str, Any] = dict.fromkeys(("recall", "quiet", "detection_auc", *PATIENT_SCORES))
        return {"dice": 0.0, "threshold": 0.5, "sources": {}, "patients": {}, "whole": {}, **undefined}
    means = {source: np.mean(values, axis=0) for source, values in by_source.items()}
    overall = np.mean(list(means.values()), axis=0)
    best = int(overall.argmax())
    return {
        "dice": float(overall[best]),
        "threshold": round(float(THRESHOLDS[best]), 2),
        "sources": {source: float(value[best]) for source, value in means.items()},
        "patients": {
            f"{source} {patient}": float(2 * count[best, 0] / (count[best, 1] + count[best, 2]))
            for (source, patient), count in sorted(patients.items())
        },
        "recall": _mean_recall(patients, best),
        "quiet": float(np.mean([row[best] for row in quiet])) if quiet else None,
        "detection_auc": _detection_auc(slice_scores) if quiet else None,
        **_score_patients(samples, slice_scores, best),
    }


def _score_patients(samples: list[StoredSlice], slice_scores: dict[int, SliceScores], best: int) -> dict[str, Any]:
    """Score patients by all their slices."""
    by_patient: dict[tuple[str, str], list[SliceScores]] = {}
    for index, scores in slice_scores.items():
        by_patient.setdefault((samples[index].source, samples[index].patient), []).append(scores)
    dice: dict[str, list[float]] = {}
    blood, predicted, highest = [], [], []
    for (source, _), slices in by_patient.items():
        both, marked, annotated = np.sum([scores.counts[best] for scores in slices], axis=0)
        blood.append(bool(annotated))
        predicted.append(max(int(scores.counts[best, 1]) for scores in slices) >= MIN_PIXELS)
        highest.append(max(scores.score for scores in slices))
        if annotated and not all(scores.counts[0, 2] for scores in slices):
            dice.setdefault(source, []).append(float(2 * both / (marked + annotated)))
    whole = {source: float(np.mean(values)) for source, values in dice.items()}
    if all(blood) or not any(blood):
        return {"whole": whole, **dict.fromkeys(PATIENT_SCORES)}
    truth, positive = np.array(blood), np.array(predicted)
    values = roc_auc(blood, highest), float(positive[truth].mean()), float((~positive[~truth]).mean())
    return {"whole": whole, **dict(zip(PATIENT_SCORES, values, strict=True))}


def _mean_recall(patients: dict[tuple[str, str], Counts], best: int) -> float:
    """Compute the recall: mean over sources of the mean over patients."""
    by_source: dict[str, list[float]] = {}
    for (source, _), count in patients.items():
        by_source.setdefault(source, []).append(count[best, 0] / count[best, 2])
    return float(np.mean([np.mean(values) for values in by_source.values()]))


def _detection_auc(slice_scores: dict[int, SliceScores]) -> float:
    blood = [scores.counts[0, 2] > 0 for scores in slice_scores.values()]
    return roc_auc(blood, [scores.score for scores in slice_scores.values()])
