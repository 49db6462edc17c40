"""Measurements from a scan and a mask: pure functions on the planes as acquired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from strokeseg.result import Findings
    from strokeseg.scan import Scan

__all__ = ["measure"]


def measure(
    scan: Scan,
    mask: Any,
    probability: NDArray[np.floating[Any]] | None = None,
    *,
    dropped_specks: int = 0,
    experimental: bool = False,
) -> Findings:
    """Measure the hemorrhage that a mask outlines; the mask may come from any source.

    Volume is the sum of pixels x pixel area x slice weight. If the spacing is unknown, every measure in mm or ml is
    None; without Hounsfield units, densities are None. The ``remarks`` of the result give the reasons.
    docs/measures.md explains each measure. The network's confidence and the volume interval are not set here.

    Parameters
    ----------
    scan : Scan
        The scan.
    mask : array_like, shape (slices, rows, columns)
        The mask, bool or the numbers 0 and 1.
    probability : ndarray of float, shape (slices, rows, columns), optional
        Probability map, 0 to 1; without it the lesions' probability is None.
    dropped_specks : int, default: 0
        Number of components that the segmentation dropped; copied to the findings.
    experimental : bool, default: False
        Also detect the CT signs of growth and the types of hemorrhage, which are not validated.

    Returns
    -------
    Findings
        The measurements.

    Raises
    ------
    ValueError
        If the shapes differ, the mask contains other values than 0 and 1, the probability of a marked pixel is not 0
        to 1, or the planes are invalid: a spacing that is not positive, cosines that are not orthogonal, or slices
        that are not in order.
    """
    from strokeseg.measurements import findings

    return findings.compute_findings(scan, mask, probability, dropped_specks, experimental)
