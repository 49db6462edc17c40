"""Matching the lesions of two registered scans: which are the same, new, gone, merged or split."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from strokeseg.followup import sampling
from strokeseg.followup.document import ChangeKind, LesionChange
from strokeseg.followup.growth import has_grown, has_shrunk
from strokeseg.followup.registration import Alignment
from strokeseg.pipeline import Result
from strokeseg.scan import Floats, Scan

UNDETERMINED_KINDS: tuple[ChangeKind, ...] = ("cut", "not-covered")
"""Lesions of these kinds have no known change."""

# Two lesions match if they share a tenth of the smaller one ...
_MIN_OVERLAP = 0.1
# ... or, without any other match, if they are no further apart than the error of the registration may be.
_MAX_DISTANCE_MM = 5.0
_CUT_FRACTION = 0.1
_SAMPLE_STEP_MM = 1.5
_MAX_POINTS = 20_000


def match_lesions(earlier: Result, later: Result, alignment: Alignment) -> list[LesionChange]:
    """Match the lesions of two scans and classify each change.

    Lesions that share a tenth of the smaller one match. Of the remaining ones, those match that are each other's
    nearest and at most 5 mm apart.

    Parameters
    ----------
    earlier, later : Result
        The results of the two scans.
    alignment : Alignment
        Registration of the earlier scan to the later one.

    Returns
    -------
    list of LesionChange
        The largest first, by the larger of the two volumes.
    """
    before, after = _sample_lesions(earlier), _sample_lesions(later)
    before_in_later = [alignment.to_later(points) for points in before]
    after_in_earlier = [alignment.to_earlier(points) for points in after]
    shared = np.maximum(
        _overlap_fractions(before_in_later, later, len(after)),
        _overlap_fractions(after_in_earlier, earlier, len(before)).T,
    )
    linked = shared >= _MIN_OVERLAP
    _link_nearest(linked, before_in_later, after)
    before_covered = [_covered_fraction(points, later.scan) for points in before_in_later]
    after_covered = [_covered_fraction(points, earlier.scan) for points in after_in_earlier]
    count = len(before) + len(after)
    rows, columns = np.nonzero(linked)
    graph = coo_array((np.ones(len(rows)), (rows, columns + len(before))), shape=(count, count))
    group_count, group_numbers = connected_components(graph, directed=False)
    changes = []
    for number in range(group_count):
        members = np.flatnonzero(group_numbers == number)
        old, new = members[members < len(before)], members[members >= len(before)] - len(before)
        covered = [before_covered[i] for i in old] + [after_covered[j] for j in new]
        apart_mm = None
        if len(old) and len(new):
            centroids = [
                np.concatenate([points[i] for i in chosen]).mean(axis=0)
                for points, chosen in ((before_in_later, old), (after, new))
            ]
            apart_mm = round(float(np.linalg.norm(centroids[0] - centroids[1])), 1)
        changes.append(_describe_change(earlier, later, old + 1, new + 1, covered, apart_mm))
    return sorted(changes, key=lambda change: -max(change.earlier_ml or 0.0, change.later_ml or 0.0))


def sum_known(volumes: list[float | None]) -> float | None:
    """Return the sum of some volumes, ml; None if one of them is None."""
    known = [volume for volume in volumes if volume is not None]
    return round(sum(known), 3) if len(known) == len(volumes) else None


def percent_change(before: float | None, after: float | None) -> float | None:
    """Return a change in percent of the first value; None if a value is None or the first is 0."""
    if before is None or after is None or before <= 0:
        return None
    return round(100 * (after - before) / before, 1)


def _describe_change(
    earlier: Result,
    later: Result,
    old: NDArray[np.intp],
    new: NDArray[np.intp],
    covered: list[float],
    apart_mm: float | None,
) -> LesionChange:
    before, after = _sum_volume_ml(earlier, old), _sum_volume_ml(later, new)
    kind = _classify(len(old), len(new), min(covered), before, after)
    is_known = before is not None and after is not None and kind not in UNDETERMINED_KINDS
    return LesionChange(
        kind=kind,
        earlier=old.tolist(),
        later=new.tolist(),
        earlier_ml=before,
        later_ml=after,
        change_ml=round(after - before, 3) if is_known and before is not None and after is not None else None,
        change_percent=percent_change(before, after) if is_known else None,
        apart_mm=apart_mm,
        cut=min(covered) < 1 - _CUT_FRACTION,
    )


def _classify(old: int, new: int, covered: float, before: float | None, after: float | None) -> ChangeKind:
    if not old or not new:
        if covered < 0.5:
            return "not-covered"
        return "new" if new else "gone"
    if covered < 1 - _CUT_FRACTION:
        return "cut"
    if old > 1 or new > 1:
        return "regrouped" if old > 1 and new > 1 else "merged" if old > 1 else "split"
    if before is None or after is None:
        return "same"
    return "grown" if has_grown(before, after) else "shrunk" if has_shrunk(before, after) else "same"


def _sample_lesions(result: Result) -> list[Floats]:
    """Return points in each lesion, (n, 3) LPS mm, at most 1.5 mm apart along the slices, each of the same volume.

    Slices of unequal weight get unequal numbers of points. Of a large lesion 20,000 are chosen, the same in every run.
    """
    planes = result.scan.planes
    weights = planes.weights_mm
    layers = np.maximum(1, np.round(weights / _SAMPLE_STEP_MM)).astype(int)
    lesions = []
    for number in range(1, int(result.labels.max(initial=0)) + 1):
        pixels = np.argwhere(result.labels == number).astype(np.float64)
        repeat = layers[pixels[:, 0].astype(int)]
        pixels = np.repeat(pixels, repeat, axis=0)
        layer = np.arange(len(pixels)) - np.repeat(np.cumsum(repeat) - repeat, repeat)
        pixels[:, 0] += (layer + 0.5) / np.repeat(repeat, repeat) - 0.5
        chosen = np.random.default_rng(0).permutation(len(pixels))[:_MAX_POINTS]
        lesions.append(planes.to_lps_mm(pixels[chosen]))
    return lesions


def _overlap_fractions(lesions: list[Floats], other: Result, count: int) -> Floats:
    """Return (lesions, count), the fraction of each lesion, in the other scan's space, within each of its lesions."""
    fractions = np.zeros((len(lesions), count))
    for row, points in zip(fractions, lesions, strict=True):
        hits = sampling.look_up_nearest(other.labels, sampling.lps_to_indices(other.scan.planes, points))
        row += np.bincount(hits, minlength=count + 1)[1:] / len(points)
    return fractions


def _link_nearest(linked: NDArray[np.bool_], before_in_later: list[Floats], after: list[Floats]) -> None:
    """Link, in place, lesions without a match that are each other's nearest and close together."""
    old, new = np.flatnonzero(~linked.any(axis=1)), np.flatnonzero(~linked.any(axis=0))
    if not len(old) or not len(new):
        return
    trees = [KDTree(after[j]) for j in new]
    distances_mm = np.array([[tree.query(before_in_later[i])[0].min() for tree in trees] for i in old])
    for i, j in enumerate(distances_mm.argmin(axis=1)):
        if distances_mm[i, j] <= _MAX_DISTANCE_MM and distances_mm[:, j].argmin() == i:
            linked[old[i], new[j]] = True


def _covered_fraction(points: Floats, scan: Scan) -> float:
    return float(sampling.find_covered(scan.planes, scan.shape, sampling.lps_to_indices(scan.planes, points)).mean())


def _sum_volume_ml(result: Result, ids: NDArray[np.intp]) -> float | None:
    return sum_known([result.findings.lesions[number - 1].volume_ml for number in ids])
