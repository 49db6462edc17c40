"""OpenVINO as an engine, the fastest on processors with instructions for 8-bit integers or 16-bit floats."""

from __future__ import annotations

import importlib
import sys
from queue import SimpleQueue
from threading import Lock
from typing import Any

import numpy as np

from strokeseg.errors import CorruptModel, is_out_of_memory
from strokeseg.segmentation.engines import selection
from strokeseg.segmentation.engines.protocol import Floats32, split_threads
from strokeseg.segmentation.models import Card

_FIRST_CALL_LOCK = Lock()


class OpenVino:
    """OpenVINO on the processor.

    By default OpenVINO rounds 32-bit floats to 16 bits on processors that support it. Here only `openvino-bf16` does.

    Parameters
    ----------
    card : Card
        Card of the network.
    data : bytes
        Contents of the .onnx file.
    threads : int
        Number of threads; 0 uses all available cores.
    name : {"openvino", "openvino-bf16"}, default: "openvino"
        Name of the engine.

    Raises
    ------
    EngineMissing
        `engine-missing`, if OpenVINO is not installed.
    CorruptModel
        `model-checksum`, if OpenVINO cannot load the network.
    """

    def __init__(self, card: Card, data: bytes, threads: int, name: str = "openvino") -> None:
        try:
            openvino = _import_openvino()
        except ImportError as error:
            raise selection.missing_engine_error(name) from error
        self.card, self.name = card, name
        rounded = name == "openvino-bf16"
        self.precision = "bf16" if rounded and card.precision == "fp32" else card.precision
        self.concurrent_slices, threads_per_slice = split_threads(threads)
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if rounded else "f32",
            "NUM_STREAMS": self.concurrent_slices,
            "INFERENCE_NUM_THREADS": self.concurrent_slices * threads_per_slice,
            # A thread pinned to a core waits while another program uses that core.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            core = openvino.Core()
            compiled = core.compile_model(core.read_model(data), "CPU", settings)
        except Exception as error:  # OpenVINO's own exceptions share no base class but Exception
            if is_out_of_memory(error):
                raise MemoryError from error
            raise CorruptModel(f"model {card.name!r}: OpenVINO cannot load it: {type(error).__name__}") from error
        # Each request holds the activations of one slice; a thread takes an idle request and returns it afterwards.
        self._idle_requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self.concurrent_slices):
            self._idle_requests.put(compiled.create_infer_request())
        # The first call to OpenVINO builds its table of NumPy types. Two threads that do so at the same time deadlock:
        # one holds Python's lock, the other the table's. The first call is therefore made here, by one thread alone.
        with _FIRST_CALL_LOCK:
            self.logits(np.zeros((1, 1, card.size, card.size), dtype=np.float32))

    def logits(self, image: Floats32) -> Floats32:
        """Compute the logits of one slice; see :meth:`strokeseg.segmentation.engines.protocol.Engine.logits`."""
        request = self._idle_requests.get()
        try:
            return np.array(request.infer({0: image}, share_inputs=True)[0][0, 0], dtype=np.float32)
        finally:
            self._idle_requests.put(request)


def _import_openvino() -> Any:
    """Import OpenVINO with its telemetry disabled, which would otherwise send a message at every import."""
    modules: dict[str, Any] = sys.modules
    modules.setdefault("openvino_telemetry", None)
    return importlib.import_module("openvino")
