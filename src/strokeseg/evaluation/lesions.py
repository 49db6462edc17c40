"""Detection of single lesions, whatever their size."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from strokeseg.evaluation.metrics import Counts

MATCH_IOU = 0.1
"""Lowest intersection over union at which a component matches a lesion: Baumgartner et al., nnDetection, MICCAI 2021
(arXiv:2106.00817). With one pixel of overlap, as in ISLES'22, one large component would match every lesion."""


def count_lesions(truth: ArrayLike, prediction: ArrayLike) -> Counts:
    """Count detected lesions, false components and missed lesions.

    Lesions are connected components: 26-connected in a volume, 8-connected in a slice. Each lesion is matched with at
    most one component, and each component with at most one lesion; the matching with the most pairs counts.

    Parameters
    ----------
    truth, prediction : array_like of bool, shape (slices, rows, columns) or (rows, columns)
        Annotated and predicted blood.

    Returns
    -------
    Counts
        Counts of lesions.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    blood, predicted = np.asarray(truth, dtype=bool), np.asarray(prediction, dtype=bool)
    if blood.shape != predicted.shape:
        raise ValueError(f"truth is {blood.shape}, prediction is {predicted.shape}")
    structure = np.ones((3,) * blood.ndim, dtype=bool)
    lesions, lesion_count = ndimage.label(blood, structure)
    components, component_count = ndimage.label(predicted, structure)
    if not (lesion_count and component_count):
        return Counts(0, component_count, lesion_count)
    both = blood & predicted
    pairs, shared = np.unique(np.stack([lesions[both], components[both]]), axis=1, return_counts=True)
    sizes = np.bincount(lesions[blood]), np.bincount(components[predicted])
    matching = shared / (sizes[0][pairs[0]] + sizes[1][pairs[1]] - shared) >= MATCH_IOU
    edges = pairs[0][matching] - 1, pairs[1][matching] - 1
    graph = coo_array((np.ones(len(edges[0])), edges), shape=(lesion_count, component_count)).tocsr()
    matched = int((maximum_bipartite_matching(graph) >= 0).sum())
    return Counts(matched, component_count - matched, lesion_count - matched)


def lesion_f1(counts: Counts) -> float:
    """Lesion F1 = 2 TP / (2 TP + FP + FN), counted in lesions.

    Both masks empty: NaN, there is no lesion. One of them empty: 0.0.
    """
    total = 2 * counts.true_positive + counts.false_positive + counts.false_negative
    return 2 * counts.true_positive / total if total else float("nan")
