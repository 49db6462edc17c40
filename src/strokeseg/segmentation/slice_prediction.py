"""Prediction for one slice: preprocessing, network, resampling."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from strokeseg.segmentation.engines.protocol import Engine
from strokeseg.segmentation.postprocess import MAX_BLOOD_HU
from strokeseg.segmentation.preprocess import HeadSquare, make_network_input, resample_to_slice

Plane = np.ndarray[tuple[int, int], np.dtype[np.int16]]


def predict_slice(
    plane: Plane, square: HeadSquare, engine: Engine, flip: bool, calibrated: bool
) -> tuple[tuple[slice, slice], NDArray[np.float32]]:
    """Run the network on one slice.

    Parameters
    ----------
    plane : ndarray of int16, shape (rows, columns)
        Hounsfield units.
    square : HeadSquare
        Square around the head.
    engine : Engine
        The loaded network.
    flip : bool
        Also run the network on the mirrored slice, and average both results.
    calibrated : bool
        Whether ``plane`` holds Hounsfield units; pixels denser than blood then get probability 0.

    Returns
    -------
    tuple of (tuple of (slice, slice), ndarray of float32)
        Rows and columns that the square covers, and the probabilities there.
    """
    image = make_network_input(plane, square, engine.card.size)
    logits: NDArray[np.floating[Any]] = engine.logits(image)
    if flip:
        logits = (logits + engine.logits(np.ascontiguousarray(image[..., ::-1]))[:, ::-1]) / 2
    region, probability = resample_to_slice(expit(logits), square, plane.shape)
    if calibrated:
        probability[plane[region] > MAX_BLOOD_HU] = 0
    return region, probability
