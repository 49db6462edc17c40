"""The engines that run a network, behind one Protocol."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import CorruptModel, EngineMissing, UsageError
from strokeseg.segmentation import models
from strokeseg.segmentation.engines import selection
from strokeseg.segmentation.engines.cpu_features import count_usable_cores, detect_hardware
from strokeseg.segmentation.engines.selection import ENGINES, PROVIDERS
from strokeseg.segmentation.models import Card

__all__ = ["ENGINES", "Engine", "OnnxRuntime", "count_usable_cores", "load_engine", "split_threads", "unload_engines"]

Floats32 = NDArray[np.float32]

_MAX_CONCURRENT_SLICES = 8
"""Slices. Each holds its own activations, near 25 MB; more cores than that share a slice instead."""

# Full 32-bit floats, and the same convolution algorithm in every run.
_PROVIDER_OPTIONS = {"cuda": {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}}


class Engine(Protocol):
    """A network that is loaded and ready.

    Parameters
    ----------
    name : str
        The engine's, as :data:`ENGINES` has it.
    card : Card
        The network's.
    precision : str
        Of the arithmetic: fp32, int8, bf16.
    at_once : object
        How many slices may be asked for at once, each from a thread of its own.
    """

    name: str
    card: Card
    precision: str
    concurrent_slices: int

    def logits(self, image: Floats32) -> Floats32:
        """Answer (1, 1, size, size) in -1..1 with (size, size) logits."""
        ...


def split_threads(threads: int) -> tuple[int, int]:
    """Share threads out: how many slices at once, and how many threads each; 0 threads are all usable cores.

    A slice a core, each on one thread: that needs no waiting between the layers, and gives the same sums, bit by bit,
    whatever the number of threads.
    """
    threads = threads or count_usable_cores()
    at_once = min(threads, _MAX_CONCURRENT_SLICES)
    return at_once, threads // at_once


class OnnxRuntime:
    """ONNX Runtime, on the processor or on what else its build offers.

    Parameters
    ----------
    data : bytes
        The bytes of the .onnx file.
    threads : int
        0 is all usable cores.
    name : str, default: "onnxruntime"
        Of :data:`strokeseg.segmentation.engines.selection.PROVIDERS`.

    Raises
    ------
    EngineMissing, CorruptModel
        `engine-missing`, `model-checksum`.
    """

    def __init__(self, card: Card, data: bytes, threads: int, name: str = "onnxruntime") -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise selection.missing_engine_error(name) from error
        if PROVIDERS[name] not in onnxruntime.get_available_providers():
            raise selection.missing_engine_error(name)
        self.card, self.name, self.precision = card, name, card.precision
        self.concurrent_slices, each = split_threads(threads)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = each
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if name == "directml":
            options.enable_mem_pattern = False  # which DirectML does not know
        providers = [(PROVIDERS[name], _PROVIDER_OPTIONS.get(name, {}))]
        try:
            self.session = onnxruntime.InferenceSession(data, options, providers=providers)
        except Exception as error:  # ONNX Runtime's own exceptions share no base class but this
            raise CorruptModel(f"model {card.name!r}: ONNX Runtime cannot load it: {type(error).__name__}") from error
        if self.session.get_providers()[0] != PROVIDERS[name]:
            raise EngineMissing(
                f"the engine {name} is installed but finds no device, driver or library that it can use",
                f"Use --engine auto, or: {selection.INSTALL_INSTRUCTIONS[name]}",
            )
        self.input_name = self.session.get_inputs()[0].name
        # A card answers one slice after the other; the next one is prepared meanwhile.
        self._lock: AbstractContextManager[Any] = nullcontext() if name == "onnxruntime" else Lock()

    def logits(self, image: Floats32) -> Floats32:
        """Answer (1, 1, size, size) in -1..1 with (size, size) logits."""
        with self._lock:
            return np.asarray(self.session.run(None, {self.input_name: image})[0], dtype=np.float32)[0, 0]


def load_engine(model: str = "default", engine: str = "auto", threads: int = 0) -> Engine:
    """Load a network; the same call again gives the loaded one.

    Parameters
    ----------
    model : str, default: "default"
        Name of an installed model.
    engine : str, default: "auto"
        One of :data:`ENGINES`; "auto" is what :func:`strokeseg.segmentation.engines.selection.select_engine` takes.
    threads : int, default: 0
        0 is all usable cores.

    Raises
    ------
    EngineMissing, UsageError
        `engine-missing`; `usage` for fewer than 0 threads.
    UnknownModel, CorruptModel
        `unknown-model`, `model-checksum`.
    """
    if engine not in ENGINES:
        raise EngineMissing(f"no engine named {engine!r}; there are {', '.join(ENGINES)}")
    if threads < 0:
        raise UsageError(f"{threads} threads", "Give 0 for all cores, or a number above it.")
    folder = models.find_folder(model)
    if engine == "auto":
        engine = selection.select_engine(
            models.load_card(model).precision, detect_hardware(), selection.list_installed()
        ).engine
    return _load_cached(model, engine, threads, folder)


def unload_engines() -> None:
    """Forget the networks that :func:`load` keeps: near 150 MB, of use to whoever has no further scan to answer."""
    _load_cached.cache_clear()


@lru_cache(maxsize=4)
def _load_cached(model: str, engine: str, threads: int, _folder: Path) -> Engine:
    card, data = models.load_weights(model)
    if engine in PROVIDERS:
        return OnnxRuntime(card, data, threads, engine)
    from strokeseg.segmentation.engines.openvino import OpenVino

    return OpenVino(card, data, threads, engine)
