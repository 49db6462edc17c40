"""ONNX Runtime and its execution providers as an engine."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import Any

import numpy as np

from strokeseg.errors import CorruptModel, EngineMissing, is_out_of_memory
from strokeseg.segmentation.engines import selection
from strokeseg.segmentation.engines.protocol import Floats32, split_threads
from strokeseg.segmentation.engines.selection import PROVIDERS
from strokeseg.segmentation.models import Card

# TensorFloat-32 is off, and every run uses the same convolution algorithm.
_PROVIDER_OPTIONS = {"cuda": {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}}


class OnnxRuntime:
    """ONNX Runtime, on the processor or on another device that the installed build supports.

    Parameters
    ----------
    card : Card
        Card of the network.
    data : bytes
        Contents of the .onnx file.
    threads : int
        Number of threads; 0 uses all available cores.
    name : str, default: "onnxruntime"
        Name of the engine, a key of :data:`strokeseg.segmentation.engines.selection.PROVIDERS`.

    Raises
    ------
    EngineMissing
        `engine-missing`, if ONNX Runtime, the provider or its device is missing.
    CorruptModel
        `model-checksum`, if ONNX Runtime cannot load the network.
    """

    def __init__(self, card: Card, data: bytes, threads: int, name: str = "onnxruntime") -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise selection.missing_engine_error(name) from error
        if PROVIDERS[name] not in onnxruntime.get_available_providers():
            raise selection.missing_engine_error(name)
        self.card, self.name, self.precision = card, name, card.precision
        self.concurrent_slices, threads_per_slice = split_threads(threads)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads_per_slice
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if name == "directml":
            options.enable_mem_pattern = False  # DirectML does not support it
        providers = [(PROVIDERS[name], _PROVIDER_OPTIONS.get(name, {}))]
        try:
            self.session = onnxruntime.InferenceSession(data, options, providers=providers)
        except Exception as error:  # ONNX Runtime's own exceptions share no base class but Exception
            if is_out_of_memory(error):
                raise MemoryError from error
            raise CorruptModel(f"model {card.name!r}: ONNX Runtime cannot load it: {type(error).__name__}") from error
        if self.session.get_providers()[0] != PROVIDERS[name]:
            raise EngineMissing(
                f"the engine {name} is installed, but no usable device, driver or library was detected",
                f"Use --engine auto, or: {selection.INSTALL_INSTRUCTIONS[name]}",
            )
        self.input_name = self.session.get_inputs()[0].name
        # A GPU computes one slice at a time; meanwhile other threads prepare the next slice.
        self._lock: AbstractContextManager[Any] = nullcontext() if name == "onnxruntime" else Lock()

    def logits(self, image: Floats32) -> Floats32:
        """Compute the logits of one slice; see :meth:`strokeseg.segmentation.engines.protocol.Engine.logits`."""
        with self._lock:
            return np.asarray(self.session.run(None, {self.input_name: image})[0], dtype=np.float32)[0, 0]
