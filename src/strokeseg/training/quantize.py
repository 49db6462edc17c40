"""Quantize a network's weights and activations to 8-bit integers: a quarter of the size, half of the time."""

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
"""Percentile of the activations that the integers span: a few extreme ones would make all steps coarse."""


class _CalibrationImages(CalibrationDataReader):
    def __init__(self, images: Iterable[NDArray[np.float32]]) -> None:
        self.remaining: Iterator[NDArray[np.float32]] = iter(images)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        image = next(self.remaining, None)
        return None if image is None else {"image": image}


def quantize(weights: bytes, images: Iterable[NDArray[np.float32]]) -> bytes:
    """Quantize statically: 8-bit weights per channel, and 8-bit activations in the ranges that the images have.

    Parameters
    ----------
    weights : bytes
        ONNX with the input `image`.
    images : iterable of ndarray of float32, shape (1, 1, size, size)
        Some dozens of input images, -1..1, of training patients only.

    Returns
    -------
    bytes
        ONNX in the QDQ format, which every engine reads.
    """
    logger = logging.getLogger()
    level, logger.level = logger.level, logging.ERROR
    try:
        with tempfile.TemporaryDirectory() as folder:
            original, prepared, quantized = (Path(folder, name) for name in ("whole.onnx", "ready.onnx", "small.onnx"))
            original.write_bytes(weights)
            # Symbolic shapes are for variable sizes, which these networks do not have.
            quant_pre_process(original, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                quantized,
                _CalibrationImages(images),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.Percentile,
                extra_options={"CalibPercentile": PERCENTILE},
            )
            return quantized.read_bytes()
    finally:
        logger.setLevel(level)
