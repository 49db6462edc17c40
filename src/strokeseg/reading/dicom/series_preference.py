"""The series that is preferred among several, by headers alone."""

from __future__ import annotations

from strokeseg.reading.dicom.series import Series

_MANY_TIMES = 3
_MIN_COVERAGE = 0.7


def select_preferred(candidates: list[Series]) -> list[Series]:
    """Select the series to which no other is preferred: one series if one stands out.

    A series is preferred to another if it covers at least 70 % of the other's length and has fewer drawbacks
    (:attr:`Series.drawbacks`), none of which the other lacks; or has the same drawbacks and at least three times the
    slices. A series is also preferred to any other if it has at least three times its slices and covers at least three
    times its length.

    Parameters
    ----------
    candidates : list of Series
        The series to choose from.
    """
    return [
        series
        for series in candidates
        if not any(_is_preferred(other, series) for other in candidates if other is not series)
    ]


def _is_preferred(series: Series, other: Series) -> bool:
    has_many_more = len(series.slices) >= _MANY_TIMES * len(other.slices)
    if has_many_more and series.extent_mm >= _MANY_TIMES * other.extent_mm:
        return True
    if series.extent_mm < _MIN_COVERAGE * other.extent_mm:
        return False
    if series.drawbacks == other.drawbacks:
        return has_many_more
    return all(ours <= theirs for ours, theirs in zip(series.drawbacks, other.drawbacks, strict=True))
