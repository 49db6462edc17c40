"""The numbers, from a scan and a mask: pure functions, on the planes as acquired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from strokeseg.result import Findings
    from strokeseg.scan import Scan

__all__ = ["measure"]


def measure(
    scan: Scan, mask: Any, probability: NDArray[np.floating[Any]] | None = None, *, dropped_specks: int = 0
) -> Findings:
    """Measure the bleeding that a mask outlines; the mask may come from anywhere.

    Volume is the sum of pixels x pixel area x slice weight. Where the spacing is not known, everything in mm or ml is
    None; where the values are no Hounsfield units, the mean HU is None.

    Parameters
    ----------
    scan : the scan
    mask : bool, or numbers that are 0 and 1, (slices, rows, columns) like ``scan.hu``
    probability : the same shape; without it the lesions' probability and the confidence are None
    dropped_specks : is passed on

    Raises
    ------
    ValueError
        if the shapes differ, or the mask holds anything but 0 and 1
    """
    from strokeseg.measure import findings

    return findings.measure(scan, mask, probability, dropped_specks)
