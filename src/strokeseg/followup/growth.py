"""The published definition of hematoma growth."""

from __future__ import annotations

GROWTH_ML = 6.0
GROWTH_FRACTION = 0.33


def has_grown(before_ml: float, after_ml: float) -> bool:
    """Return whether a hemorrhage grew by the published definition: by more than 6 ml or more than 33 %.

    Parameters
    ----------
    before_ml, after_ml : float
        Volumes on the earlier and the later scan, ml.

    Returns
    -------
    bool
        True if it grew.

    References
    ----------
    Brouwers HB et al. Predicting hematoma expansion after primary intracerebral hemorrhage. JAMA Neurol
    2014;71:158-164: more than 6 ml or 33 %, 156 of 817 patients.
    """
    growth_ml = round(after_ml - before_ml, 6)  # 3.99 - 3 is not more than 0.99
    return growth_ml > GROWTH_ML or growth_ml > round(GROWTH_FRACTION * before_ml, 6)


def has_shrunk(before_ml: float, after_ml: float) -> bool:
    """Return whether a hemorrhage shrank: the mirror image of :func:`has_grown`, without a published definition.

    Parameters
    ----------
    before_ml, after_ml : float
        Volumes on the earlier and the later scan, ml.

    Returns
    -------
    bool
        True if it shrank.
    """
    return before_ml - after_ml > GROWTH_ML or before_ml - after_ml > GROWTH_FRACTION * before_ml
