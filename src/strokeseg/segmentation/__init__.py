"""From a scan to a probability map and a mask, on the scan's own grid."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from strokeseg.imaging import float16
from strokeseg.result import Remark
from strokeseg.scan import Scan
from strokeseg.segmentation.engines.loading import load_engine, unload_engines
from strokeseg.segmentation.engines.protocol import Engine

if TYPE_CHECKING:
    from strokeseg.segmentation.decision_options import DecisionOptions
    from strokeseg.segmentation.lesion_review import ReviewedLesion

__all__ = ["Prediction", "Progress", "load_engine", "predict", "unload_engines"]

Progress = Callable[[int, int], None]
"""Called with the number of completed slices and the number of all slices."""


@dataclass(frozen=True)
class Prediction:
    """The network's result for one scan.

    Attributes
    ----------
    probability : ndarray of float16, shape (slices, rows, columns)
        Probability of blood for each pixel.
    mask : ndarray of bool, shape (slices, rows, columns)
        Pixels at or above the card's threshold, without the components that
        :func:`strokeseg.segmentation.postprocess.extract_lesion_mask` drops. Empty if a hemorrhage is less likely
        than not (:func:`strokeseg.segmentation.confidence.decide`).
    dropped_specks : int
        Number of dropped components.
    reviewed : tuple of ReviewedLesion, default: ()
        The second look at each lesion, the largest first; empty if the model has none.
    confidence : float, optional
        Calibrated probability of a hemorrhage; None if the network is not calibrated.
    remarks : tuple of Remark, default: ()
        Remarks on the result.
    """

    probability: NDArray[np.float16]
    mask: NDArray[np.bool_]
    dropped_specks: int
    confidence: float | None = None
    remarks: tuple[Remark, ...] = ()
    reviewed: tuple[ReviewedLesion, ...] = ()


def predict(
    scan: Scan,
    engine: Engine,
    *,
    flip: bool = False,
    options: DecisionOptions | None = None,
    progress: Progress | None = None,
) -> Prediction:
    """Segment every slice, several at a time; their number does not change the result.

    In a calibrated scan, pixels denser than blood (:data:`strokeseg.segmentation.postprocess.MAX_BLOOD_HU`) get
    probability 0.

    Parameters
    ----------
    scan : Scan
        The scan.
    engine : Engine
        The loaded network.
    flip : bool, default: False
        Also run the network on each slice mirrored, and average both results.
    options : DecisionOptions, optional
        The caller's choice between missed hemorrhages and false alarms; that of the card by default.
    progress : callable, optional
        Called with (completed slices, all slices).

    Returns
    -------
    Prediction
        Probability map, mask and confidence.

    Raises
    ------
    UsageError
        `usage`, if the card does not have the operating point.
    """
    # Imported here: loading a network takes less time than importing SciPy, which reading imports meanwhile.
    from strokeseg.segmentation.confidence import decide
    from strokeseg.segmentation.decision_options import DecisionOptions
    from strokeseg.segmentation.postprocess import extract_lesion_mask
    from strokeseg.segmentation.preprocess import find_head_square
    from strokeseg.segmentation.slice_prediction import predict_slice

    options = options or DecisionOptions()
    lowest_confidence = options.find_decision(engine.card)
    hu = scan.planes.turn_upright(scan.hu)
    square = find_head_square(hu, scan.pixel_spacing_mm)
    probability = np.zeros(hu.shape, dtype=np.float16)

    def run(index: int) -> None:
        region, values = predict_slice(hu[index], square, engine, flip, scan.calibrated)
        probability[index][region] = float16.from_float32(values)

    pool = ThreadPoolExecutor(engine.concurrent_slices, thread_name_prefix="strokeseg-segmentation")
    try:
        for completed, _ in enumerate(pool.map(run, range(len(hu))), start=1):
            if progress:
                progress(completed, len(hu))
    finally:
        # After an interrupt, only slices that have started are completed.
        pool.shutdown(cancel_futures=True)
    probability = scan.planes.turn_upright(probability)
    lesions = extract_lesion_mask(
        probability, scan, square, engine.card, threshold=options.threshold, smallest_ml=options.smallest_ml
    )
    decision = decide(lesions, scan, square, engine.card, lowest_confidence)
    remarks = decision.remarks + options.remark_unused(scan)
    return Prediction(probability, decision.mask, lesions.dropped, decision.confidence, remarks, decision.reviewed)
