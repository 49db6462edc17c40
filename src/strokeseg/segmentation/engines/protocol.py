"""The protocol that every inference engine follows."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from strokeseg.segmentation.engines.cpu_features import count_usable_cores
from strokeseg.segmentation.models import Card

Floats32 = NDArray[np.float32]

_MAX_CONCURRENT_SLICES = 8
"""Each slice needs about 25 MB for its activations. With more cores than this, several cores share a slice."""


class Engine(Protocol):
    """A loaded network, ready to run.

    Attributes
    ----------
    name : str
        Name of the engine, one of :data:`strokeseg.segmentation.engines.selection.ENGINES`.
    card : Card
        Card of the network.
    precision : str
        Precision of the arithmetic: fp32, int8 or bf16.
    concurrent_slices : int
        Number of slices that may be computed at the same time, each from its own thread.
    """

    name: str
    card: Card
    precision: str
    concurrent_slices: int

    def logits(self, image: Floats32) -> Floats32:
        """Compute the logits of one slice.

        Parameters
        ----------
        image : ndarray of float32, shape (1, 1, size, size)
            The network's input, -1 to 1.

        Returns
        -------
        ndarray of float32, shape (size, size)
            Logits.
        """
        ...


def split_threads(threads: int) -> tuple[int, int]:
    """Divide threads among slices that are computed at the same time.

    Each slice gets one core and one thread while there are enough slices. Threads then never wait for each other
    between layers, and the sums are equal to the bit for any number of threads.

    Parameters
    ----------
    threads : int
        Number of threads; 0 uses all available cores.

    Returns
    -------
    tuple of (int, int)
        Number of concurrent slices, and number of threads for each.
    """
    threads = threads or count_usable_cores()
    concurrent_slices = min(threads, _MAX_CONCURRENT_SLICES)
    return concurrent_slices, threads // concurrent_slices
