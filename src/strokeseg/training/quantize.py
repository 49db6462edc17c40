"""A network's weights and activations as 8-bit integers: a quarter of the size, half of the time."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

PERCENTILE = 99.99
"""Of the activations that the integers span: a few extreme ones would make the steps of all others coarse. What is
lost is on the two cards."""


class _CalibrationImages(CalibrationDataReader):
    def __init__(self, images: Iterable[NDArray[np.float32]]) -> None:
        self.remaining: Iterator[NDArray[np.float32]] = iter(images)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        image = next(self.remaining, None)
        return None if image is None else {"image": image}


def quantize(weights: bytes, images: Iterable[NDArray[np.float32]]) -> bytes:
    """Quantise statically: 8-bit weights a channel, 8-bit activations, whose ranges the images give.

    Parameters
    ----------
    weights : bytes
        ONNX with the input `image`.
    images : iterable of ndarray of float32, shape (1, 1, size, size)
        In -1..1, some dozens, as the network will see them; of training patients only.

    Returns
    -------
    bytes
        ONNX in the QDQ form, which every engine reads.
    """
    quiet = logging.getLogger()
    before, quiet.level = quiet.level, logging.ERROR
    try:
        with tempfile.TemporaryDirectory() as folder:
            whole, ready, small = (Path(folder, name) for name in ("whole.onnx", "ready.onnx", "small.onnx"))
            whole.write_bytes(weights)
            # Symbolic shapes are for free lengths, of which these networks have none.
            quant_pre_process(whole, ready, skip_symbolic_shape=True)
            quantize_static(
                ready,
                small,
                _CalibrationImages(images),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.Percentile,
                extra_options={"CalibPercentile": PERCENTILE},
            )
            return small.read_bytes()
    finally:
        quiet.setLevel(before)
