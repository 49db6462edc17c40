"""One slice's way through the network."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from strokeseg.segmentation.engines.onnxruntime import Engine
from strokeseg.segmentation.postprocess import MAX_BLOOD_HU
from strokeseg.segmentation.preprocess import HeadSquare, make_network_input, resample_to_slice

Plane = np.ndarray[tuple[int, int], np.dtype[np.int16]]


def predict_slice(
    plane: Plane, square: HeadSquare, engine: Engine, flip: bool, calibrated: bool
) -> tuple[tuple[slice, slice], NDArray[np.float32]]:
    """Answer one slice with the rows and columns that the square covers, and the probabilities there."""
    image = make_network_input(plane, square, engine.card.size)
    logits: NDArray[np.floating[Any]] = engine.logits(image)
    if flip:
        logits = (logits + engine.logits(np.ascontiguousarray(image[..., ::-1]))[:, ::-1]) / 2
    where, sure = resample_to_slice(expit(logits), square, plane.shape)
    if calibrated:
        sure[plane[where] > MAX_BLOOD_HU] = 0
    return where, sure
