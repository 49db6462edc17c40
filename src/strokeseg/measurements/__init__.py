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
    scan: Scan,
    mask: Any,
    probability: NDArray[np.floating[Any]] | None = None,
    *,
    dropped_specks: int = 0,
    experimental: bool = False,
) -> Findings:
    """Measure the bleeding that a mask outlines; the mask may come from anywhere.

    Volume is the sum of pixels x pixel area x slice weight. Where the spacing is not known, everything in mm or ml is
    None; where the values are no Hounsfield units, densities are None. Each measure is explained in docs/measures.md;
    ``remarks`` of what is given say why one is None. The network's confidence and the interval of the volume are not
    known here.

    Parameters
    ----------
    scan : Scan
        The scan.
    mask : object
        Bool, or numbers that are 0 and 1, (slices, rows, columns) like ``scan.hu``.
    probability : ndarray of floating[Any], optional
        The same shape, 0 to 1; without it the lesions' probability is None.
    dropped_specks : int, default: 0
        Is passed on.
    experimental : bool, default: False
        Also give the CT signs of growth and the types of bleeding, which are not proven.

    Raises
    ------
    ValueError
        If the shapes differ, the mask holds anything but 0 and 1, the probability of a marked pixel is not 0 to 1, or
        the scan's planes are none: a spacing that is not above 0, cosines not at right angles, slices not in order.
    """
    from strokeseg.measurements import findings

    return findings.compute_findings(scan, mask, probability, dropped_specks, experimental)
