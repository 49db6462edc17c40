"""From a scan to the probability map, on the scan's own grid."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strokeseg.infer import halves
from strokeseg.infer.engine import Engine, load, unload
from strokeseg.result import Remark
from strokeseg.scan import Scan

__all__ = ["Answer", "answer", "load", "unload"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Answer:
    """The network's answer.

    Parameters
    ----------
    probability : float16, (slices, rows, columns)
    mask : bool, the same shape; at the card's threshold, without what :func:`keep_lesions` drops; empty where blood is
        less likely than not (:func:`strokeseg.infer.confidence.decide`)
    dropped_specks : how many components it dropped
    confidence : calibrated probability that there is blood; None where the network was not calibrated
    remarks : what a reader must know of the answer
    """

    probability: NDArray[np.float16]
    mask: NDArray[np.bool_]
    dropped_specks: int
    confidence: float | None = None
    remarks: tuple[Remark, ...] = ()


def answer(scan: Scan, engine: Engine, *, flip: bool = False, progress: Progress | None = None) -> Answer:
    """Segment every slice, as many at once as the engine has threads for; their number changes no bit of the answer.

    Where the scan is calibrated, what is denser than blood can be (:data:`DENSEST_BLOOD_HU`) is answered with 0.

    Parameters
    ----------
    flip : answer each slice also mirrored and take the mean
    progress : is called with (slices done, slices in all)
    """
    # A network is loaded in less time than SciPy, which reading imports meanwhile.
    from strokeseg.infer.confidence import decide
    from strokeseg.infer.one_slice import of_slice
    from strokeseg.infer.postprocess import keep_lesions
    from strokeseg.infer.preprocess import head_square

    hu = scan.planes.upright(scan.hu)
    square = head_square(hu)
    probability = np.zeros(hu.shape, dtype=np.float16)

    def one(index: int) -> None:
        where, sure = of_slice(hu[index], square, engine, flip, scan.calibrated)
        probability[index][where] = halves.of(sure)

    pool = ThreadPoolExecutor(engine.at_once, thread_name_prefix="strokeseg-infer")
    try:
        for done, _ in enumerate(pool.map(one, range(len(hu))), start=1):
            if progress:
                progress(done, len(hu))
    finally:
        # Whoever stops in the middle waits for the slices that have begun, and for no others.
        pool.shutdown(cancel_futures=True)
    probability = scan.planes.upright(probability)
    mask, dropped = keep_lesions(probability, scan, square, engine.card)
    decision = decide(mask, scan, square, engine.card)
    return Answer(probability, decision.mask, dropped, decision.confidence, decision.remarks)
