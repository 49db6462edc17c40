"""From a scan to the probability map, on the scan's own grid."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strokeseg.imaging import float16
from strokeseg.result import Remark
from strokeseg.scan import Scan
from strokeseg.segmentation.engines.onnxruntime import Engine, load_engine, unload_engines

__all__ = ["Prediction", "load_engine", "predict", "unload_engines"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Prediction:
    """The network's answer.

    Parameters
    ----------
    probability : ndarray of float16, shape (slices, rows, columns)
        Probability.
    mask : ndarray of bool
        The same shape; at the card's threshold, without what :func:`keep_lesions` drops; empty where blood is less
        likely than not (:func:`strokeseg.segmentation.confidence.decide`).
    dropped_specks : int
        How many components it dropped.
    confidence : float, optional
        Calibrated probability that there is blood; None where the network was not calibrated.
    remarks : tuple of Remark, default: ()
        What a reader must know of the answer.
    """

    probability: NDArray[np.float16]
    mask: NDArray[np.bool_]
    dropped_specks: int
    confidence: float | None = None
    remarks: tuple[Remark, ...] = ()


def predict(scan: Scan, engine: Engine, *, flip: bool = False, progress: Progress | None = None) -> Prediction:
    """Segment every slice, as many at once as the engine has threads for; their number changes no bit of the answer.

    Where the scan is calibrated, what is denser than blood can be (:data:`DENSEST_BLOOD_HU`) is answered with 0.

    Parameters
    ----------
    flip : bool, default: False
        Answer each slice also mirrored and take the mean.
    progress : Progress, optional
        Is called with (slices done, slices in all).
    """
    # A network is loaded in less time than SciPy, which reading imports meanwhile.
    from strokeseg.segmentation.confidence import decide
    from strokeseg.segmentation.postprocess import extract_lesion_mask
    from strokeseg.segmentation.preprocess import find_head_square
    from strokeseg.segmentation.slice_prediction import predict_slice

    hu = scan.planes.turn_upright(scan.hu)
    square = find_head_square(hu)
    probability = np.zeros(hu.shape, dtype=np.float16)

    def one(index: int) -> None:
        where, sure = predict_slice(hu[index], square, engine, flip, scan.calibrated)
        probability[index][where] = float16.from_float32(sure)

    pool = ThreadPoolExecutor(engine.concurrent_slices, thread_name_prefix="strokeseg-infer")
    try:
        for done, _ in enumerate(pool.map(one, range(len(hu))), start=1):
            if progress:
                progress(done, len(hu))
    finally:
        # Whoever stops in the middle waits for the slices that have begun, and for no others.
        pool.shutdown(cancel_futures=True)
    probability = scan.planes.turn_upright(probability)
    mask, dropped = extract_lesion_mask(probability, scan, square, engine.card)
    decision = decide(mask, scan, square, engine.card)
    return Prediction(probability, decision.mask, dropped, decision.confidence, decision.remarks)
