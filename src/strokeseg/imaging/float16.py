"""Probabilities in 16 bits, without the slow ways that NumPy's software arithmetic has for them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SMALLEST_NORMAL = np.float32(2.0**-14)
_STEPS = np.float32(2.0**24)


def from_float32(values: NDArray[np.float32]) -> NDArray[np.float16]:
    """Round probabilities to float16: to the last bit what ``astype`` gives.

    It raises the processor's underflow flag for each number under 2^-14, and most pixels have one; that takes ten times
    as long as the rest. Such numbers are multiples of 2^-24, and a float16 is made of how many.

    Parameters
    ----------
    values : ndarray of float32
        0 or more.
    """
    steps = np.minimum(values, _SMALLEST_NORMAL)
    steps *= _STEPS
    bits = np.rint(steps, out=steps).astype(np.uint16)
    # Either part of the sum is 2^-14, whose bits are 1024, wherever the other one counts.
    bits += np.maximum(values, _SMALLEST_NORMAL).astype(np.float16).view(np.uint16)
    bits -= np.uint16(1024)
    return bits.view(np.float16)


def at_least(probability: NDArray[np.float16], threshold: float) -> NDArray[np.bool_]:
    """Compare by the bits, which are in the order of the numbers where none is negative: six times as quick."""
    return np.asarray(probability.view(np.uint16) >= np.float16(threshold).view(np.uint16))
