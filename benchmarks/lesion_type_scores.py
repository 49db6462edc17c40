"""Scores of the classifier of lesion types, on patients that its fit has not seen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.annotated_slices import CODES, SOURCES
from benchmarks.lesion_type_fit import SEED, Classifier, FeatureTable, Labels, balance_weights
from strokeseg.scan import Floats

REPEATS, FOLDS = 5, 8
_SHARED_SOURCES = ("bhsd_mini", "mbhseg25_mini")


def cross_validate(table: FeatureTable, fit: Callable[[FeatureTable], Classifier], repeats: int = REPEATS) -> Floats:
    """Predict every section by a fit that has not seen its patient.

    Parameters
    ----------
    table : FeatureTable
        All sections.
    fit : callable
        Fits a classifier to a table.
    repeats : int
        Number of repetitions, each with new folds.

    Returns
    -------
    ndarray of float, shape (repeats, sections, types)
        Probabilities.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    probabilities = np.zeros((repeats, len(table.truth), len(CODES)))
    for repeat in range(repeats):
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=SEED + repeat)
        for training, held_out in folds.split(table.features, table.truth, table.patients):
            is_training = np.isin(np.arange(len(table.truth)), training)
            probabilities[repeat, held_out] = fit(table.select(is_training))(table.features[held_out])
    return probabilities


def separate_shared_sources(
    table: FeatureTable, fit: Callable[[FeatureTable], Classifier]
) -> Callable[[FeatureTable], Classifier]:
    """Return a fit that predicts BHSD without MBH-Seg, and the reverse, because they may share patients."""
    source_of = {tuple(row): source for row, source in zip(table.features.tolist(), table.sources, strict=True)}

    def fit_separately(training: FeatureTable) -> Classifier:
        fits = {
            name: fit(training.select(training.sources != other) if other else training)
            for name, other in {**dict.fromkeys(SOURCES, ""), **dict([_SHARED_SOURCES, _SHARED_SOURCES[::-1]])}.items()
        }

        def predict(features: Floats) -> Floats:
            return np.concatenate([fits[source_of[tuple(row)]](np.array([row])) for row in features.tolist()])

        return predict

    return fit_separately


def score_without_source(
    table: FeatureTable, source: str, fit: Callable[[FeatureTable], Classifier]
) -> tuple[float, float]:
    """Return macro-F1 (over the types of the source) and accuracy on a source, fitted to the other sources."""
    held_out = table.select(table.sources == source)
    predicted = fit(table.select(table.sources != source))(held_out.features).argmax(1)
    present = np.unique(held_out.truth)
    accuracy = float(held_out.weights @ (predicted == held_out.truth) / held_out.weights.sum())
    confusion = compute_confusion(held_out.truth, predicted, held_out.weights)
    return float(compute_f1(confusion)[present].mean()), accuracy


def compute_confusion(truth: Labels, predicted: Labels, weights: Floats) -> Floats:
    """Return the confusion matrix (true type, predicted type) of weights."""
    matrix = np.zeros((len(CODES), len(CODES)))
    np.add.at(matrix, (truth, predicted), weights)
    return matrix


def compute_f1(matrix: Floats) -> Floats:
    """Return the F1 of each type, 2 x correct / (true + predicted); 0 where none is correct."""
    both = matrix.sum(0) + matrix.sum(1)
    return np.asarray(2 * np.diag(matrix) / np.where(both > 0, both, 1))


def bootstrap_intervals(table: FeatureTable, predicted: Labels, rounds: int = 1000) -> Floats:
    """Return 95 % bootstrap intervals (types + 1, 2) of each F1 and of their mean, over patients."""
    patients, indices = np.unique(table.patients, return_inverse=True)
    by_patient = np.zeros((len(patients), len(CODES), len(CODES)))
    for row in predicted:
        np.add.at(by_patient, (indices, table.truth, row), table.weights / len(predicted))
    rng = np.random.default_rng(SEED)
    scores = np.array(
        [compute_f1(by_patient[rng.integers(len(patients), size=len(patients))].sum(0)) for _ in range(rounds)]
    )
    return np.percentile(np.column_stack([scores, scores.mean(1)]), (2.5, 97.5), axis=0).T


def compute_calibration(table: FeatureTable, probabilities: Floats) -> tuple[float, list[tuple[float, float, float]]]:
    """Compare the predicted type's probability with its accuracy, every type with the same weight.

    Parameters
    ----------
    table : FeatureTable
        All sections.
    probabilities : ndarray of float, shape (repeats, sections, types)
        From :func:`cross_validate`.

    Returns
    -------
    tuple of (float, list of tuple of (float, float, float))
        Expected calibration error, and mean probability, accuracy and share of all sections for bins of 0.2.
    """
    weights = balance_weights(table)
    confidence, is_correct = probabilities.max(2).ravel(), (probabilities.argmax(2) == table.truth).ravel()
    w = np.tile(weights, len(probabilities)) / weights.sum() / len(probabilities)
    bins = np.minimum((confidence * 5).astype(int), 4)
    rows = []
    for index in np.unique(bins):
        in_bin = bins == index
        rows.append(
            (
                float(np.average(confidence[in_bin], weights=w[in_bin])),
                float(np.average(is_correct[in_bin], weights=w[in_bin])),
                float(w[in_bin].sum()),
            )
        )
    return sum(share * abs(mean - accuracy) for mean, accuracy, share in rows), rows


def compute_macro_f1(table: FeatureTable, predicted: Labels, weights: Floats | None = None) -> float:
    """Return the mean F1 over types and repeats."""
    w = table.weights if weights is None else weights
    return float(np.mean([compute_f1(compute_confusion(table.truth, row, w)) for row in predicted]))


def compute_merged_macro_f1(table: FeatureTable, predicted: Labels) -> float:
    """Return the macro-F1 of four types, with epidural counted as subdural."""
    subdural, epidural = CODES.index("SDH"), CODES.index("EDH")
    rows = [
        compute_f1(
            compute_confusion(
                np.where(table.truth == epidural, subdural, table.truth),
                np.where(row == epidural, subdural, row),
                table.weights,
            )
        )
        for row in predicted
    ]
    return float(np.delete(np.mean(rows, axis=0), epidural).mean())
