"""Whether each lesion was found, whatever its size."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from strokeseg.evaluation.metrics import Counts

MATCH_IOU = 0.1
"""A lesion is found by a component that it shares this intersection over union with: Baumgartner et al., nnDetection,
MICCAI 2021 (arXiv:2106.00817). A pixel of overlap, as in ISLES'22, would let one large answer find every lesion."""


def count_lesions(truth: ArrayLike, answer: ArrayLike) -> Counts:
    """Count lesions found, components that are none, and lesions missed.

    Lesions are connected components: of 26 neighbours in a volume, of 8 in a slice. Each is found by one component and
    each component finds one; of all such pairings that with the most pairs counts.

    Parameters
    ----------
    truth, answer : ArrayLike
        Bool, (slices, rows, columns) or (rows, columns).

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    blood, drawn = np.asarray(truth, dtype=bool), np.asarray(answer, dtype=bool)
    if blood.shape != drawn.shape:
        raise ValueError(f"truth is {blood.shape}, answer is {drawn.shape}")
    structure = np.ones((3,) * blood.ndim, dtype=bool)
    lesions, lesion_count = ndimage.label(blood, structure)
    components, component_count = ndimage.label(drawn, structure)
    if not (lesion_count and component_count):
        return Counts(0, component_count, lesion_count)
    both = blood & drawn
    pairs, shared = np.unique(np.stack([lesions[both], components[both]]), axis=1, return_counts=True)
    sizes = np.bincount(lesions[blood]), np.bincount(components[drawn])
    found = shared / (sizes[0][pairs[0]] + sizes[1][pairs[1]] - shared) >= MATCH_IOU
    places = pairs[0][found] - 1, pairs[1][found] - 1
    graph = coo_array((np.ones(len(places[0])), places), shape=(lesion_count, component_count)).tocsr()
    matched = int((maximum_bipartite_matching(graph) >= 0).sum())
    return Counts(matched, component_count - matched, lesion_count - matched)


def lesion_f1(counts: Counts) -> float:
    """Lesion F1 = 2 TP / (2 TP + FP + FN), counted in lesions.

    Truth and answer both empty: NaN, there is no lesion to find. One of them empty: 0.0.
    """
    total = 2 * counts.true_positive + counts.false_positive + counts.false_negative
    return 2 * counts.true_positive / total if total else float("nan")
