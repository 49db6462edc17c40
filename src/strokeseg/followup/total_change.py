"""The change of the whole hemorrhage between two scans."""

from __future__ import annotations

from strokeseg.followup.document import Change
from strokeseg.followup.growth import has_grown
from strokeseg.followup.matching import UNDETERMINED_KINDS, match_lesions, percent_change, sum_known
from strokeseg.followup.registration import Alignment
from strokeseg.pipeline import Result


def measure_change(earlier: Result, later: Result, alignment: Alignment) -> Change:
    """Match the lesions of two scans and measure the change of each lesion and of the whole hemorrhage.

    Volumes are those on the planes as acquired. A lesion that one scan covers only in part ("cut") or not at all
    ("not-covered") is left out of the total volumes.

    Parameters
    ----------
    earlier, later : Result
        The results of the two scans.
    alignment : Alignment
        Registration of the earlier scan to the later one.

    Returns
    -------
    Change
        The change.
    """
    lesions = match_lesions(earlier, later, alignment)
    counted = [lesion for lesion in lesions if lesion.kind not in UNDETERMINED_KINDS]
    is_complete = not any(lesion.cut for lesion in lesions)
    before, after = sum_known([each.earlier_ml for each in counted]), sum_known([each.later_ml for each in counted])
    if earlier.findings.volume_ml is None or later.findings.volume_ml is None or (lesions and not counted):
        before = after = None
    earlier_interval = earlier.findings.volume_interval_ml if is_complete else None
    later_interval = later.findings.volume_interval_ml if is_complete else None
    levels = (earlier.findings.interval_level, later.findings.interval_level)
    growth = None
    if before is not None and after is not None and (before > 0 or after == 0):
        # Lesions that are left out may have grown: without growth of the rest, growth is unknown.
        growth = has_grown(before, after) or (False if is_complete else None)
    interval, level, is_certain = None, None, None
    if earlier_interval is not None and later_interval is not None:
        interval = (
            round(later_interval[0] - earlier_interval[1], 3),
            round(later_interval[1] - earlier_interval[0], 3),
        )
        is_certain = None if growth is None else _is_growth_certain(earlier_interval, later_interval)
        if levels[0] is not None and levels[1] is not None:
            level = round(max(0.0, levels[0] + levels[1] - 1), 3)
    return Change(
        earlier_ml=before,
        later_ml=after,
        change_ml=None if before is None or after is None else round(after - before, 3),
        change_interval_ml=interval,
        interval_level=level,
        change_percent=percent_change(before, after),
        growth=growth,
        growth_sure=is_certain,
        lesions=lesions,
    )


def _is_growth_certain(before: tuple[float, float], after: tuple[float, float]) -> bool:
    """Return whether all volumes within the two intervals grew, or none of them did."""
    return has_grown(before[1], after[0]) or not has_grown(before[0], after[1])
