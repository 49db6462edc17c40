"""Decide when a series is complete.

The decision does not depend on a timer alone. The first of these conditions that holds decides:

1. the sender stated the number of instances of the series, and that many have arrived;
2. the sender requested storage commitment for the series, and no association that sent part of it is open;
3. every association that sent part of it has ended, and nothing arrived for `settle_s`;
4. nothing arrived for `quiet_s`, even if an association is still open.

If the sender stated a number and fewer instances have arrived, 2 and 3 also wait for `quiet_s`. An instance that
arrives later reopens the series; once it is complete again, its result gets a new version.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass


@dataclass(frozen=True)
class SeriesProgress:
    """State of a series that is arriving.

    Attributes
    ----------
    instances : int
        Number of instances that have arrived.
    expected : int or None
        Number of instances that the sender stated; None if it stated none.
    committed : bool
        Whether the sender requested storage commitment after the last instance.
    last_at : float
        Time of the last instance in seconds.
    """

    instances: int
    expected: int | None
    committed: bool
    last_at: float


def find_completion_reason(
    progress: SeriesProgress, is_arriving: bool, now: float, quiet_s: float, settle_s: float
) -> str | None:
    """Find the reason why a series is complete.

    Parameters
    ----------
    progress : SeriesProgress
        State of the series.
    is_arriving : bool
        Whether an association that sent part of the series is open.
    now : float
        Time in seconds, on the clock of ``progress.last_at``.
    quiet_s : float
        Seconds without an instance after which the series is complete in any case.
    settle_s : float
        Seconds without an instance after the last association has ended.

    Returns
    -------
    str or None
        "count", "count exceeded", "commitment", "association ended" or "quiet", followed by "n of m instances" if some
        are missing; None if the series is not complete.
    """
    silence_s = now - progress.last_at
    is_short = progress.expected is not None and progress.instances < progress.expected
    if progress.expected is not None and not is_short:
        if progress.instances == progress.expected:
            return "count"
        return "count exceeded" if silence_s >= settle_s else None
    shortage = f", {progress.instances} of {progress.expected} instances" if is_short else ""
    if silence_s >= quiet_s:
        return f"quiet{shortage}"
    if is_short or is_arriving:
        return None
    if progress.committed:
        return "commitment"
    return "association ended" if silence_s >= settle_s else None


class OpenAssociations:
    """The series that arrive over open associations; safe for use by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series_by_association: dict[int, set[str]] = defaultdict(set)

    def add(self, association: int, series_uid: str) -> None:
        """Note that an association sent an instance of a series."""
        with self._lock:
            self._series_by_association[association].add(series_uid)

    def remove(self, association: int) -> None:
        """Remove an association that has ended."""
        with self._lock:
            self._series_by_association.pop(association, None)

    def list_series(self) -> set[str]:
        """Return the series of all open associations."""
        with self._lock:
            return set().union(*self._series_by_association.values())
