"""One slice's way through the network."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from strokeseg.infer.engine import Engine
from strokeseg.infer.postprocess import DENSEST_BLOOD_HU
from strokeseg.infer.preprocess import Square, network_input, onto_grid

Plane = np.ndarray[tuple[int, int], np.dtype[np.int16]]


def of_slice(
    plane: Plane, square: Square, engine: Engine, flip: bool, calibrated: bool
) -> tuple[tuple[slice, slice], NDArray[np.float32]]:
    """Answer one slice with the rows and columns that the square covers, and the probabilities there."""
    image = network_input(plane, square, engine.card.size)
    logits: NDArray[np.floating[Any]] = engine.logits(image)
    if flip:
        logits = (logits + engine.logits(np.ascontiguousarray(image[..., ::-1]))[:, ::-1]) / 2
    where, sure = onto_grid(expit(logits), square, plane.shape)
    if calibrated:
        sure[plane[where] > DENSEST_BLOOD_HU] = 0
    return where, sure
