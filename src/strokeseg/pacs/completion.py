"""When a series is complete.

Not by a timer alone. In this order, the first that holds decides:

1. the sender said how many instances the series has, and so many are here;
2. the sender asked for storage commitment of it, and no association that brought some of it is open;
3. every association that brought some of it has ended, and nothing came for `settle_s`;
4. nothing came for `quiet_s`, though an association is still open.

Where the sender said a number and fewer are here, 2 and 3 wait for `quiet_s` too. A slice that comes later opens the
series again; when it is complete again, its result has a new version.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass


@dataclass(frozen=True)
class SeriesProgress:
    """How far a series is.

    Parameters
    ----------
    instances, expected : int
        Here, and as the sender said, None where nothing was said.
    committed : bool
        The sender asked for storage commitment after the last instance.
    last_at : float
        When the last instance came, in seconds.
    """

    instances: int
    expected: int | None
    committed: bool
    last_at: float


def find_completion_reason(
    progress: SeriesProgress, carried: bool, now: float, quiet_s: float, settle_s: float
) -> str | None:
    """Say why a series is complete, or None if it is not yet.

    Parameters
    ----------
    carried : bool
        An association that brought some of it is open.
    now : float
        Seconds, on the clock of ``progress.last_at``.

    Returns
    -------
    str or None
        "count", "count exceeded", "commitment", "association ended", "quiet", each with "n of m" where some are
        missing.
    """
    silent = now - progress.last_at
    missing = progress.expected is not None and progress.instances < progress.expected
    if progress.expected is not None and not missing:
        exceeded = progress.instances > progress.expected
        return "count exceeded" if exceeded and silent >= settle_s else None if exceeded else "count"
    said = f", {progress.instances} of {progress.expected} instances" if missing else ""
    if silent >= quiet_s:
        return f"quiet{said}"
    if missing or carried:
        return None
    if progress.committed:
        return "commitment"
    return "association ended" if silent >= settle_s else None


class OpenAssociations:
    """Which open associations carry which series; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series_by_association: dict[int, set[str]] = defaultdict(set)

    def add(self, association: int, series_uid: str) -> None:
        """Note that an association brought an instance of a series."""
        with self._lock:
            self._series_by_association[association].add(series_uid)

    def remove(self, association: int) -> None:
        """Forget an association."""
        with self._lock:
            self._series_by_association.pop(association, None)

    def list_series(self) -> set[str]:
        """Return the series of all open associations."""
        with self._lock:
            return set().union(*self._series_by_association.values())
