"""The engines that run a network, behind one Protocol."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import CorruptModel, EngineMissing, UsageError
from strokeseg.infer import models
from strokeseg.infer.models import Card

Floats32 = NDArray[np.float32]
ENGINES = ("auto", "onnxruntime", "openvino")


class Engine(Protocol):
    """A network that is loaded and ready."""

    name: str
    card: Card

    def logits(self, image: Floats32) -> Floats32:
        """Answer (1, 1, size, size) in -1..1 with (size, size) logits."""
        ...


class OnnxRuntime:
    """ONNX Runtime on the CPU."""

    name = "onnxruntime"

    def __init__(self, card: Card, data: bytes, threads: int) -> None:
        import onnxruntime

        self.card = card
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own exceptions share no base class but this
            raise CorruptModel(f"model {card.name!r}: ONNX Runtime cannot load it: {type(error).__name__}") from error
        self.input = self.session.get_inputs()[0].name

    def logits(self, image: Floats32) -> Floats32:
        """Answer (1, 1, size, size) in -1..1 with (size, size) logits."""
        return np.asarray(self.session.run(None, {self.input: image})[0], dtype=np.float32)[0, 0]


def usable_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load(model: str = "default", engine: str = "auto", threads: int = 0) -> Engine:
    """Load a network; the same call again gives the loaded one.

    Parameters
    ----------
    model : name of an installed model
    engine : "auto" | "onnxruntime" | "openvino"
    threads : 0 is all usable cores

    Raises
    ------
    EngineMissing, UsageError
        `engine-missing`; `usage` for fewer than 0 threads
    UnknownModel, CorruptModel
        `unknown-model`, `model-checksum`
    """
    if engine not in ENGINES:
        raise EngineMissing(f"no engine named {engine!r}; there are {', '.join(ENGINES)}")
    if threads < 0:
        raise UsageError(f"{threads} threads", "Give 0 for all cores, or a number above it.")
    if engine == "openvino":
        raise EngineMissing("the engine openvino is not supported by this version")
    return _loaded(model, threads, models.folder())


@lru_cache(maxsize=4)
def _loaded(model: str, threads: int, _folder: Path) -> Engine:
    card, data = models.weights(model)
    return OnnxRuntime(card, data, threads)
