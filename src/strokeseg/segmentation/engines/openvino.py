"""OpenVINO as an engine: on processors with instructions for 8-bit integers or 16-bit floats the quickest."""

from __future__ import annotations

import importlib
import sys
from queue import SimpleQueue
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import CorruptModel
from strokeseg.segmentation.engines import selection
from strokeseg.segmentation.engines.onnxruntime import split_threads
from strokeseg.segmentation.models import Card

Floats32 = NDArray[np.float32]
_FIRST_CALL_LOCK = Lock()


class OpenVino:
    """OpenVINO on the processor.

    Left to itself OpenVINO rounds 32-bit floats to 16 bits where the processor can; here only `openvino-bf16` does.

    Parameters
    ----------
    data : bytes
        The bytes of the .onnx file.
    threads : int
        0 is all usable cores.
    name : str, default: "openvino"
        "openvino" | "openvino-bf16".

    Raises
    ------
    EngineMissing, CorruptModel
        `engine-missing`, `model-checksum`.
    """

    def __init__(self, card: Card, data: bytes, threads: int, name: str = "openvino") -> None:
        try:
            openvino = _import_openvino()
        except ImportError as error:
            raise selection.missing_engine_error(name) from error
        self.card, self.name = card, name
        rounded = name == "openvino-bf16"
        self.precision = "bf16" if rounded and card.precision == "fp32" else card.precision
        self.concurrent_slices, each = split_threads(threads)
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if rounded else "f32",
            "NUM_STREAMS": self.concurrent_slices,
            "INFERENCE_NUM_THREADS": self.concurrent_slices * each,
            # A thread that is held to a core waits where another program has it.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            core = openvino.Core()
            compiled = core.compile_model(core.read_model(data), "CPU", settings)
        except Exception as error:  # OpenVINO's own exceptions share no base class but this
            raise CorruptModel(f"model {card.name!r}: OpenVINO cannot load it: {type(error).__name__}") from error
        # A request holds one slice's activations; whoever asks takes one and gives it back.
        self._idle_requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self.concurrent_slices):
            self._idle_requests.put(compiled.create_infer_request())
        # OpenVINO makes its table of NumPy's types when it is first asked, and two threads that ask at once wait for
        # each other for ever, one with Python's lock and one with the table's: so one asks alone, before all others.
        with _FIRST_CALL_LOCK:
            self.logits(np.zeros((1, 1, card.size, card.size), dtype=np.float32))

    def logits(self, image: Floats32) -> Floats32:
        """Answer (1, 1, size, size) in -1..1 with (size, size) logits."""
        request = self._idle_requests.get()
        try:
            return np.array(request.infer({0: image}, share_inputs=True)[0][0, 0], dtype=np.float32)
        finally:
            self._idle_requests.put(request)


def _import_openvino() -> Any:
    """Import OpenVINO without what tells its maker over the network, at every import, that it is used."""
    modules: dict[str, Any] = sys.modules
    modules.setdefault("openvino_telemetry", None)
    return importlib.import_module("openvino")
