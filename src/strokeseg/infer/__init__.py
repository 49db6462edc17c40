"""From a scan to the probability map, on the scan's own grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from strokeseg.infer.engine import Engine, load
from strokeseg.infer.postprocess import DENSEST_BLOOD_HU, keep_lesions
from strokeseg.infer.preprocess import head_square, network_input, onto_grid
from strokeseg.scan import Scan

__all__ = ["Answer", "answer", "load"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Answer:
    """The network's answer.

    Parameters
    ----------
    probability : float16, (slices, rows, columns)
    mask : bool, the same shape; at the card's threshold, without what :func:`keep_lesions` drops
    dropped_specks : how many components it dropped
    """

    probability: NDArray[np.float16]
    mask: NDArray[np.bool_]
    dropped_specks: int


def answer(scan: Scan, engine: Engine, *, flip: bool = False, progress: Progress | None = None) -> Answer:
    """Segment every slice.

    Where the scan is calibrated, what is denser than blood can be (:data:`DENSEST_BLOOD_HU`) is answered with 0.

    Parameters
    ----------
    flip : answer each slice also mirrored and take the mean
    progress : is called with (slices done, slices in all)
    """
    hu = scan.planes.upright(scan.hu)
    square = head_square(hu)
    probability = np.empty(hu.shape, dtype=np.float16)
    for index, plane in enumerate(hu):
        image = network_input(plane, square, engine.card.size)
        logits: NDArray[np.floating[Any]] = engine.logits(image)
        if flip:
            mirrored = engine.logits(np.ascontiguousarray(image[..., ::-1]))
            logits = (logits + mirrored[:, ::-1]) / 2
        sure = onto_grid(expit(logits), square, plane.shape)
        if scan.calibrated:
            sure[plane > DENSEST_BLOOD_HU] = 0
        probability[index] = sure
        if progress:
            progress(index + 1, len(hu))
    probability = scan.planes.upright(probability)
    mask, dropped = keep_lesions(probability, scan, square, engine.card)
    return Answer(probability, mask, dropped)
