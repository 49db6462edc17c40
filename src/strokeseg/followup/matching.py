"""What became of each lesion, and the change in all, once two heads lie on each other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from strokeseg.followup import sampling
from strokeseg.followup.document import Change, ChangeKind, LesionChange
from strokeseg.followup.registration import Alignment
from strokeseg.imaging import components
from strokeseg.result import Findings
from strokeseg.scan import Floats, Scan

Mask = NDArray[np.bool_]
Interval = tuple[float, float]

GROWTH_ML = 6.0
GROWTH_FRACTION = 0.33
UNDETERMINED_KINDS: tuple[ChangeKind, ...] = ("cut", "not-covered")
"""What became of these lesions cannot be told."""

# Two lesions are one and the same, or parts of it, if they share a tenth of the smaller one ...
_MIN_OVERLAP = 0.1
# ... and two that share nothing and have no other partner, if so little parts them: what the alignment may be off by.
_MAX_DISTANCE_MM = 5.0
_CUT_FRACTION = 0.1
_SAMPLE_STEP_MM = 1.5
_MAX_POINTS = 20_000


@dataclass(frozen=True)
class SegmentedScan:
    """One of the two scans with its bleeding."""

    scan: Scan
    mask: Mask
    findings: Findings


def has_grown(before_ml: float, after_ml: float) -> bool:
    """Return whether a bleed grew by the published definition: by more than 6 ml or more than 33 %.

    References
    ----------
    Brouwers HB et al. Predicting hematoma expansion after primary intracerebral hemorrhage. JAMA Neurol
    2014;71:158-164: more than 6 ml or 33 %, 156 of 817 patients.
    """
    more_ml = round(after_ml - before_ml, 6)  # 3.99 - 3 is not more than 0.99
    return more_ml > GROWTH_ML or more_ml > round(GROWTH_FRACTION * before_ml, 6)


def measure_change(earlier: SegmentedScan, later: SegmentedScan, alignment: Alignment) -> Change:
    """Match the lesions of two scans and give the change of each and in all.

    Volumes are those on the planes as acquired. A lesion that one scan shows only in part ("cut") or not at all
    ("not-covered") is left out of the volumes in all.
    """
    lesions = match_lesions(earlier, later, alignment)
    seen = [lesion for lesion in lesions if lesion.kind not in UNDETERMINED_KINDS]
    whole = not any(lesion.cut for lesion in lesions)
    before, after = _sum_known([lesion.earlier_ml for lesion in seen]), _sum_known([lesion.later_ml for lesion in seen])
    if earlier.findings.volume_ml is None or later.findings.volume_ml is None or (lesions and not seen):
        before = after = None
    ends = (earlier.findings.volume_interval_ml, later.findings.volume_interval_ml) if whole else (None, None)
    levels = (earlier.findings.interval_level, later.findings.interval_level)
    growth = None
    if before is not None and after is not None and (before > 0 or after == 0):
        # What is left out may have grown: no growth of the rest is no answer.
        growth = has_grown(before, after) or (False if whole else None)
    interval, level, sure = None, None, None
    if ends[0] is not None and ends[1] is not None:
        interval = (round(ends[1][0] - ends[0][1], 3), round(ends[1][1] - ends[0][0], 3))
        sure = None if growth is None else _is_growth_certain(ends[0], ends[1])
        if levels[0] is not None and levels[1] is not None:
            level = round(max(0.0, levels[0] + levels[1] - 1), 3)
    return Change(
        earlier_ml=before,
        later_ml=after,
        change_ml=None if before is None or after is None else round(after - before, 3),
        change_interval_ml=interval,
        interval_level=level,
        change_percent=_percent_change(before, after),
        growth=growth,
        growth_sure=sure,
        lesions=lesions,
    )


def _is_growth_certain(before: Interval, after: Interval) -> bool:
    """Return whether all volumes within the two intervals grew, or none of them did."""
    return has_grown(before[1], after[0]) or not has_grown(before[0], after[1])


def match_lesions(earlier: SegmentedScan, later: SegmentedScan, alignment: Alignment) -> list[LesionChange]:
    """Say what became of each lesion: which are the same, new, gone, merged, split.

    Lesions that share a tenth of the smaller one belong together. Those left over belong together where they are each
    other's nearest and at most 5 mm apart.

    Returns
    -------
    list of LesionChange
        The largest first, by the larger of the two volumes.
    """
    before, after = _sample_lesions(earlier), _sample_lesions(later)
    there = [alignment.to_later(piece) for piece in before]
    back = [alignment.to_earlier(piece) for piece in after]
    shared = np.maximum(_overlap_fractions(there, later, len(after)), _overlap_fractions(back, earlier, len(before)).T)
    linked = shared >= _MIN_OVERLAP
    _link_nearest(linked, there, after)
    covered = (
        [_covered_fraction(piece, later.scan) for piece in there],
        [_covered_fraction(piece, earlier.scan) for piece in back],
    )
    count = len(before) + len(after)
    rows, columns = np.nonzero(linked)
    graph = coo_array((np.ones(len(rows)), (rows, columns + len(before))), shape=(count, count))
    groups, group = connected_components(graph, directed=False)
    found = []
    for number in range(groups):
        members = np.flatnonzero(group == number)
        old, new = members[members < len(before)], members[members >= len(before)] - len(before)
        shows = [covered[0][i] for i in old] + [covered[1][j] for j in new]
        apart = None
        if len(old) and len(new):
            middles = [
                np.concatenate([parts[i] for i in chosen]).mean(axis=0)
                for parts, chosen in ((there, old), (after, new))
            ]
            apart = round(float(np.linalg.norm(middles[0] - middles[1])), 1)
        found.append(_describe_change(earlier, later, old + 1, new + 1, shows, apart))
    return sorted(found, key=lambda each: -max(each.earlier_ml or 0.0, each.later_ml or 0.0))


def _describe_change(
    earlier: SegmentedScan,
    later: SegmentedScan,
    old: NDArray[np.intp],
    new: NDArray[np.intp],
    shows: list[float],
    apart: float | None,
) -> LesionChange:
    before, after = _sum_volume_ml(earlier, old), _sum_volume_ml(later, new)
    kind = _classify(len(old), len(new), min(shows), before, after)
    known = before is not None and after is not None and kind not in UNDETERMINED_KINDS
    return LesionChange(
        kind=kind,
        earlier=old.tolist(),
        later=new.tolist(),
        earlier_ml=before,
        later_ml=after,
        change_ml=round(after - before, 3) if known and before is not None and after is not None else None,
        change_percent=_percent_change(before, after) if known else None,
        apart_mm=apart,
        cut=min(shows) < 1 - _CUT_FRACTION,
    )


def _classify(old: int, new: int, shown: float, before: float | None, after: float | None) -> ChangeKind:
    if not old or not new:
        if shown < 0.5:
            return "not-covered"
        return "new" if new else "gone"
    if shown < 1 - _CUT_FRACTION:
        return "cut"
    if old > 1 or new > 1:
        return "regrouped" if old > 1 and new > 1 else "merged" if old > 1 else "split"
    if before is None or after is None:
        return "same"
    return "grown" if has_grown(before, after) else "shrunk" if _has_shrunk(before, after) else "same"


def _has_shrunk(before_ml: float, after_ml: float) -> bool:
    """Mirror :func:`grew`; no published definition is known to us."""
    return before_ml - after_ml > GROWTH_ML or before_ml - after_ml > GROWTH_FRACTION * before_ml


def _sample_lesions(side: SegmentedScan) -> list[Floats]:
    """Return each lesion as places, (n, 3) LPS mm, at most 1.5 mm apart along the slices, each of the same volume.

    Slices of unequal weight give unequally many places. Of a large lesion 20,000 are picked, the same in every run.
    """
    labels, count = components.label(side.mask, side.scan)
    planes = side.scan.planes
    weights = planes.weights_mm
    parts = np.maximum(1, np.round(weights / _SAMPLE_STEP_MM)).astype(int)
    pieces = []
    for number in range(1, count + 1):
        pixels = np.argwhere(labels == number).astype(np.float64)
        repeat = parts[pixels[:, 0].astype(int)]
        pixels = np.repeat(pixels, repeat, axis=0)
        part = np.arange(len(pixels)) - np.repeat(np.cumsum(repeat) - repeat, repeat)
        pixels[:, 0] += (part + 0.5) / np.repeat(repeat, repeat) - 0.5
        picked = np.random.default_rng(0).permutation(len(pixels))[:_MAX_POINTS]
        pieces.append(planes.to_lps_mm(pixels[picked]))
    return pieces


def _overlap_fractions(pieces: list[Floats], other: SegmentedScan, count: int) -> Floats:
    """Return (pieces, count), the share of each piece, in the other scan's space, that lies in each of its lesions."""
    labels, _ = components.label(other.mask, other.scan)
    shares = np.zeros((len(pieces), count))
    for row, piece in zip(shares, pieces, strict=True):
        hit = sampling.look_up_nearest(labels, sampling.lps_to_indices(other.scan.planes, piece))
        row += np.bincount(hit, minlength=count + 1)[1:] / len(piece)
    return shares


def _link_nearest(linked: Mask, there: list[Floats], after: list[Floats]) -> None:
    """Link, in place, those without a partner that are each other's nearest and hardly apart."""
    old, new = np.flatnonzero(~linked.any(axis=1)), np.flatnonzero(~linked.any(axis=0))
    if not len(old) or not len(new):
        return
    trees = [KDTree(after[j]) for j in new]
    apart = np.array([[tree.query(there[i])[0].min() for tree in trees] for i in old])
    for i, j in enumerate(apart.argmin(axis=1)):
        if apart[i, j] <= _MAX_DISTANCE_MM and apart[:, j].argmin() == i:
            linked[old[i], new[j]] = True


def _covered_fraction(piece: Floats, scan: Scan) -> float:
    return float(sampling.find_covered(scan.planes, scan.shape, sampling.lps_to_indices(scan.planes, piece)).mean())


def _sum_volume_ml(side: SegmentedScan, ids: NDArray[np.intp]) -> float | None:
    return _sum_known([side.findings.lesions[number - 1].volume_ml for number in ids])


def _sum_known(volumes: list[float | None]) -> float | None:
    known = [volume for volume in volumes if volume is not None]
    return round(sum(known), 3) if len(known) == len(volumes) else None


def _percent_change(before: float | None, after: float | None) -> float | None:
    if before is None or after is None or before <= 0:
        return None
    return round(100 * (after - before) / before, 1)


def resample_to_slices(
    earlier: Scan, mask: Mask, alignment: Alignment, later: Scan, slices: list[int]
) -> tuple[Scan, Mask]:
    """Cut the earlier head on slices of the later scan, for the eye alone: nothing is measured on it.

    Returns
    -------
    tuple of (Scan, ndarray of bool)
        A scan on these slices' planes, -1000 HU where the earlier one shows nothing; and the mask, of which a pixel
        is marked where more than half of what lies around it is.
    """
    planes = later.planes
    _, rows, columns = later.shape
    flat = np.column_stack([axis.ravel() for axis in np.indices((rows, columns))])
    cuts, masks = [], []
    for index in slices:
        places = planes.to_lps_mm(np.column_stack([np.full(len(flat), index), flat]))
        where = sampling.lps_to_indices(earlier.planes, alignment.to_earlier(places))
        cuts.append(sampling.interpolate_linear(earlier.hu, where, -1000.0).reshape(rows, columns))
        masks.append(sampling.interpolate_linear(mask.astype(np.float32), where, 0.0).reshape(rows, columns) > 0.5)
    return select_slices(later, slices, np.rint(cuts).astype(np.int16), earlier), np.array(masks)


def select_slices(scan: Scan, slices: list[int], hu: NDArray[np.int16], seen: Scan) -> Scan:
    """Give some slices of a scan as a scan of its own, with other pixels, read as those of ``seen``."""
    planes = replace(scan.planes, positions_mm=scan.planes.positions_mm[slices])
    return Scan(hu, planes, calibrated=seen.calibrated, kind="array", window=seen.window, remarks=seen.remarks)
