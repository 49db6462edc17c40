"""What type of bleed a lesion is, told from the shape, the place and the surroundings of its pieces.

Each piece is answered by a multinomial logistic regression: `types.json`, made by ``python -m benchmarks.lesion_types``.
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
"""Types are given only where asked for: on unseen patients their macro-F1 is 0.66, not above 0.7 (docs/types.md)."""


def predict_probabilities(
    scan: Scan, lesion_mask: Mask, head: CoarseHead | None, plane: Midplane | None = None
) -> dict[HemorrhageType, float] | None:
    """Tell a lesion's type, as if every type were as frequent as the others.

    The pieces of up to three slices, evenly spread over the lesion, are told one by one; the answer is their mean,
    weighted by area and slice weight. A bleed that has broken into the ventricles is therefore partly both.

    Parameters
    ----------
    scan : Scan
        A whole scan or one slice, calibrated or not.
    lesion_mask : ndarray of bool, shape (slices, rows, columns)
        One lesion.
    head : CoarseHead or None
        The same scan's, looked at with the whole mask; what else bleeds is no brain.
    plane : Midplane, optional
        The mid-sagittal plane; without it, or where it is not sure, the long axis of each slice's inside stands for
        it.

    Returns
    -------
    dict of HemorrhageType to float or None
        Probabilities that sum to 1; None where no head is found, where every piece is smaller than 0.1 % of the
        inside of the skull on its slice, or where the mask fills the head.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    found = measure_sections(scan, lesion_mask, head, plane)
    if not found:
        return None
    weights = np.array([piece.weight for piece in found])
    mean = weights @ load_classifier().predict(np.array([piece.features for piece in found])) / weights.sum()
    return {name: float(value) for name, value in zip(TYPES, mean / mean.sum(), strict=True)}


@dataclass(frozen=True)
class TypeClassifier:
    """Logistic regression on features of mean 0 and deviation 1, which are cut off at ``most``."""

    mean: Floats
    scale: Floats
    limit: float
    weights: Floats
    bias: Floats

    def predict(self, features: Floats) -> Floats:
        """Return (n, types) probabilities for (n, features)."""
        scores = np.clip((features - self.mean) / self.scale, -self.limit, self.limit) @ self.weights.T + self.bias
        powers = np.exp(scores - scores.max(1, keepdims=True))
        return np.asarray(powers / powers.sum(1, keepdims=True))


@cache
def load_classifier() -> TypeClassifier:
    """Read what is shipped."""
    table = json.loads(resources.files(__package__).joinpath("types.json").read_text(encoding="utf-8"))
    if tuple(table["types"]) != TYPES or tuple(table["features"]) != FEATURES:
        raise ValueError("types.json is of other features: make it again with python -m benchmarks.lesion_types")
    mean, scale, weights, bias = (np.array(table[name]) for name in ("mean", "scale", "weights", "bias"))
    return TypeClassifier(mean, scale, float(table["most"]), weights, bias)
