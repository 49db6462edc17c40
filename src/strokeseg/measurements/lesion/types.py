"""Type of hemorrhage of a lesion, by the shape, location and surroundings of its sections.

A multinomial logistic regression classifies each section. Its parameters are in `types.json`, which
``python -m benchmarks.lesion_types`` writes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from strokeseg.measurements.head.coarse_head import CoarseHead
from strokeseg.measurements.head.midplane import Midplane
from strokeseg.measurements.lesion.type_features import FEATURES, measure_sections
from strokeseg.result import HemorrhageType
from strokeseg.scan import Floats, Scan

Mask = NDArray[np.bool_]

TYPES: Final[tuple[HemorrhageType, ...]] = get_args(HemorrhageType)

EXPERIMENTAL = True
"""Types are reported only on request: on unseen patients their macro-F1 is 0.66, below 0.7 (docs/types.md)."""


def predict_probabilities(
    scan: Scan, lesion_mask: Mask, head: CoarseHead | None, plane: Midplane | None = None
) -> dict[HemorrhageType, float] | None:
    """Predict the type of a lesion, assuming that all types are equally frequent.

    The sections on up to three slices, evenly distributed over the lesion, are classified separately. The result is
    their mean, weighted by area and slice weight. A hemorrhage that extends into the ventricles is therefore partly
    both types.

    Parameters
    ----------
    scan : Scan
        A scan or a single slice, calibrated or not.
    lesion_mask : ndarray of bool, shape (slices, rows, columns)
        One lesion.
    head : CoarseHead or None
        Head of the same scan, sampled with the mask of all lesions, so that other lesions do not count as brain.
    plane : Midplane, optional
        The mid-sagittal plane; if missing or not reliable, the long axis of the intracranial area on each slice is
        used.

    Returns
    -------
    dict of HemorrhageType to float or None
        Probabilities that sum to 1. None if no head is detected, if every section is smaller than 0.1 % of the
        intracranial area on its slice, or if the mask fills the head.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    sections = measure_sections(scan, lesion_mask, head, plane)
    if not sections:
        return None
    weights = np.array([section.weight for section in sections])
    mean = weights @ load_classifier().predict(np.array([section.features for section in sections])) / weights.sum()
    return {name: float(value) for name, value in zip(TYPES, mean / mean.sum(), strict=True)}


@dataclass(frozen=True)
class TypeClassifier:
    """Multinomial logistic regression on standardized features.

    Attributes
    ----------
    mean, scale : ndarray of float, shape (features,)
        Mean and standard deviation of each feature.
    limit : float
        Standardized features are clipped to this absolute value.
    weights : ndarray of float, shape (types, features)
        Weights.
    bias : ndarray of float, shape (types,)
        Biases.
    """

    mean: Floats
    scale: Floats
    limit: float
    weights: Floats
    bias: Floats

    def predict(self, features: Floats) -> Floats:
        """Compute the probability of each type.

        Parameters
        ----------
        features : ndarray of float, shape (n, features)
            Features of sections.

        Returns
        -------
        ndarray of float, shape (n, types)
            Probabilities.
        """
        scores = np.clip((features - self.mean) / self.scale, -self.limit, self.limit) @ self.weights.T + self.bias
        exponentials = np.exp(scores - scores.max(1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(1, keepdims=True))


@cache
def load_classifier() -> TypeClassifier:
    """Load the shipped classifier.

    Returns
    -------
    TypeClassifier
        The classifier.

    Raises
    ------
    ValueError
        If `types.json` was written for other types or features.
    """
    parameters = json.loads(resources.files(__package__).joinpath("types.json").read_text(encoding="utf-8"))
    if tuple(parameters["types"]) != TYPES or tuple(parameters["features"]) != FEATURES:
        raise ValueError(
            "types.json has other types or features; write it again with python -m benchmarks.lesion_types"
        )
    mean, scale, weights, bias = (np.array(parameters[name]) for name in ("mean", "scale", "weights", "bias"))
    return TypeClassifier(mean, scale, float(parameters["most"]), weights, bias)
