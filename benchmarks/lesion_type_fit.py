"""Fits of the classifier of lesion types to annotated slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.annotated_slices import CODES, AnnotatedSlice
from strokeseg.measurements.head import coarse_head
from strokeseg.measurements.lesion import types
from strokeseg.measurements.lesion.type_features import measure_sections
from strokeseg.scan import Floats

Labels = NDArray[np.intp]
Classifier = Callable[[Floats], Floats]
"""Maps features (n, features) to probabilities (n, types)."""

SEED, STRENGTH, MAX_INPUT = 0, 0.03, 4.0


@dataclass(frozen=True)
class FeatureTable:
    """Table of lesion sections: features and true types.

    Attributes
    ----------
    features : ndarray of float, shape (sections, features)
        The features.
    truth : ndarray of int, shape (sections,)
        Index of the type in :data:`benchmarks.annotated_slices.CODES`.
    patients, sources : ndarray of str, shape (sections,)
        Patient and data set of each section.
    skipped : int
        Number of types on slices without any measurable section.
    """

    features: Floats
    truth: Labels
    patients: NDArray[np.str_]
    sources: NDArray[np.str_]
    skipped: int

    @property
    def weights(self) -> Floats:
        """Weight of each section (sections,): 1 / the number of sections of the same patient and type."""
        keys = [f"{patient} {kind}" for patient, kind in zip(self.patients, self.truth, strict=True)]
        _, indices, counts = np.unique(keys, return_inverse=True, return_counts=True)
        return np.asarray(1 / counts[indices])

    def select(self, is_selected: NDArray[np.bool_]) -> FeatureTable:
        """Return the selected sections."""
        return FeatureTable(
            self.features[is_selected],
            self.truth[is_selected],
            self.patients[is_selected],
            self.sources[is_selected],
            self.skipped,
        )


def measure_features(slices: Iterator[AnnotatedSlice]) -> FeatureTable:
    """Measure the lesion sections of every type on every slice."""
    features, truth, patients, sources, skipped = [], [], [], [], 0
    for each in slices:
        head = coarse_head.sample_head(each.scan, (each.labels > 0)[None])
        for label in np.unique(each.labels[each.labels > 0]).tolist():
            sections = measure_sections(each.scan, (each.labels == label)[None], head)
            skipped += not sections
            for section in sections:
                features.append(section.features)
                truth.append(label - 1)
                patients.append(each.patient)
                sources.append(each.source)
    return FeatureTable(np.array(features), np.array(truth), np.array(patients), np.array(sources), skipped)


def fit_logistic(training: FeatureTable) -> Classifier:
    """Fit the shipped classifier, a logistic regression."""
    parameters = fit_parameters(training)
    parameters["limit"] = parameters.pop("most")  # the key in types.json
    return types.TypeClassifier(**parameters).predict


def fit_parameters(training: FeatureTable) -> dict[str, Any]:
    """Fit the parameters of the logistic regression."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = training.features.mean(0), training.features.std(0)
    inputs = np.clip((training.features - mean) / scale, -MAX_INPUT, MAX_INPUT)
    model = LogisticRegression(C=STRENGTH, max_iter=5000).fit(inputs, training.truth, balance_weights(training))
    weights, bias = np.zeros((len(CODES), inputs.shape[1])), np.full(len(CODES), -30.0)
    weights[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
    return {"mean": mean, "scale": scale, "most": MAX_INPUT, "weights": weights, "bias": bias}


def fit_forest(training: FeatureTable) -> Classifier:
    """Fit a random forest for comparison."""
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(300, max_depth=8, min_samples_leaf=3, random_state=SEED)
    return _predict_all_types(model.fit(training.features, training.truth, balance_weights(training)))


def fit_boosted_trees(training: FeatureTable) -> Classifier:
    """Fit boosted trees for comparison."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(max_iter=80, max_depth=3, learning_rate=0.08, min_samples_leaf=8)
    return _predict_all_types(model.fit(training.features, training.truth, balance_weights(training)))


def _predict_all_types(model: Any) -> Classifier:
    def predict(features: Floats) -> Floats:
        probabilities = np.zeros((len(features), len(CODES)))
        probabilities[:, model.classes_] = model.predict_proba(features)
        return probabilities

    return predict


def balance_weights(training: FeatureTable) -> Floats:
    """Return weights that give every patient the same weight within a type, and every type the same weight."""
    totals = np.bincount(training.truth, training.weights, minlength=len(CODES))
    present = int((totals > 0).sum())
    return np.asarray(training.weights / totals[training.truth] * len(training.truth) / present)
