"""Load a network into an engine, and keep it loaded."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from strokeseg.errors import EngineMissing, UsageError
from strokeseg.segmentation import models
from strokeseg.segmentation.engines import selection
from strokeseg.segmentation.engines.cpu_features import detect_hardware
from strokeseg.segmentation.engines.onnxruntime import OnnxRuntime
from strokeseg.segmentation.engines.protocol import Engine
from strokeseg.segmentation.engines.selection import ENGINES, PROVIDERS


def load_engine(model: str = "default", engine: str = "auto", threads: int = 0) -> Engine:
    """Load a network into an engine; a second call with the same arguments returns the loaded one.

    Parameters
    ----------
    model : str, default: "default"
        Name of an installed model.
    engine : str, default: "auto"
        One of :data:`strokeseg.segmentation.engines.selection.ENGINES`; "auto" uses
        :func:`strokeseg.segmentation.engines.selection.select_engine`.
    threads : int, default: 0
        Number of threads; 0 uses all available cores.

    Returns
    -------
    Engine
        The loaded network.

    Raises
    ------
    EngineMissing
        `engine-missing`, if the engine is unknown or not installed.
    UsageError
        `usage`, for fewer than 0 threads.
    UnknownModel
        `unknown-model`.
    CorruptModel
        `model-checksum`.
    """
    if engine not in ENGINES:
        raise EngineMissing(f"no engine named {engine!r}; there are {', '.join(ENGINES)}")
    if threads < 0:
        raise UsageError(f"{threads} threads", "Use 0 for all cores, or a positive number.")
    folder = models.find_folder(model)
    if engine == "auto":
        precision = models.load_card(model).precision
        engine = selection.select_engine(precision, detect_hardware(), selection.list_installed()).engine
    return _load_cached(model, engine, threads, folder)


def unload_engines() -> None:
    """Release the networks that :func:`load_engine` keeps, about 150 MB each, when no scan follows."""
    _load_cached.cache_clear()


@lru_cache(maxsize=4)
def _load_cached(model: str, engine: str, threads: int, _folder: Path) -> Engine:
    card, data = models.load_weights(model)
    if engine in PROVIDERS:
        return OnnxRuntime(card, data, threads, engine)
    from strokeseg.segmentation.engines.openvino import OpenVino

    return OpenVino(card, data, threads, engine)
