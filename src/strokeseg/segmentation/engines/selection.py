"""The available engines, the installed ones, and the engine that `auto` selects."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache

from strokeseg.errors import EngineMissing
from strokeseg.segmentation.engines.cpu_features import Hardware

PROVIDERS = {
    "onnxruntime": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
"""Execution provider of ONNX Runtime, by engine name."""

ENGINES = ("auto", "onnxruntime", "openvino", "openvino-bf16", "cuda", "tensorrt", "coreml", "directml")
"""Names that `--engine` accepts."""

INSTALL_INSTRUCTIONS = {
    "onnxruntime": 'pip install "onnxruntime>=1.20"',
    "openvino": 'pip install "strokeseg[openvino]"',
    "openvino-bf16": 'pip install "strokeseg[openvino]"',
    "cuda": "pip uninstall onnxruntime; pip install onnxruntime-gpu (needs an NVIDIA GPU, its driver, CUDA and cuDNN)",
    "tensorrt": "pip uninstall onnxruntime; pip install onnxruntime-gpu tensorrt (needs an NVIDIA GPU and its driver)",
    "coreml": 'pip install "onnxruntime>=1.20" (macOS only)',
    "directml": "pip uninstall onnxruntime; pip install onnxruntime-directml (Windows only)",
}
"""How to install each engine."""


@dataclass(frozen=True)
class EngineSelection:
    """The engine that `auto` selects for a network.

    Attributes
    ----------
    engine : str
        Name of the engine.
    reason : str
        Reason for the selection, one sentence.
    """

    engine: str
    reason: str


@lru_cache(maxsize=1)
def list_installed() -> tuple[str, ...]:
    """List the engines whose packages are installed, in the order of :data:`ENGINES`."""
    installed = {"openvino", "openvino-bf16"} if importlib.util.find_spec("openvino") else set()
    try:
        import onnxruntime

        available = onnxruntime.get_available_providers()
    except ImportError:
        available = []
    installed.update(name for name, provider in PROVIDERS.items() if provider in available)
    return tuple(name for name in ENGINES if name in installed)


def select_engine(precision: str, hardware: Hardware, installed: tuple[str, ...]) -> EngineSelection:
    """Select the engine for a network; the same network, machine and packages always give the same engine.

    The selection changes results by rounding only: `openvino-bf16`, `tensorrt`, `coreml` and `directml` are used only
    when named.

    Parameters
    ----------
    precision : str
        Precision on the network's card.
    hardware : Hardware
        Result of :func:`strokeseg.segmentation.engines.cpu_features.detect_hardware`.
    installed : tuple of str
        Result of :func:`list_installed`.

    Returns
    -------
    EngineSelection
        The engine, and the reason.

    Raises
    ------
    EngineMissing
        `engine-missing`, if neither ONNX Runtime nor OpenVINO is installed.
    """
    if "onnxruntime" not in installed and "openvino" not in installed:
        raise missing_engine_error("onnxruntime")
    if precision != "int8" and hardware.nvidia_gpu and "cuda" in installed:
        return EngineSelection("cuda", "an NVIDIA GPU is present and ONNX Runtime supports it")
    if "onnxruntime" not in installed:
        return EngineSelection("openvino", "ONNX Runtime is not installed")
    if precision == "int8" and "openvino" in installed and hardware.int8_instructions:
        return EngineSelection(
            "openvino",
            f"the processor has 8-bit instructions ({hardware.int8_instructions}); OpenVINO is fastest for them",
        )
    if precision == "int8" and hardware.int8_instructions:
        return EngineSelection(
            "onnxruntime",
            f"OpenVINO, which is faster with 8-bit integers, is not installed: {INSTALL_INSTRUCTIONS['openvino']}",
        )
    if precision == "int8":
        return EngineSelection("onnxruntime", "the processor has no 8-bit integer instructions")
    return EngineSelection("onnxruntime", "for 32-bit floats on a processor no engine is faster, and it loads fastest")


def missing_engine_error(engine: str) -> EngineMissing:
    """Create the error for an engine that is not installed, with installation instructions."""
    return EngineMissing(
        f"the engine {engine} is not installed", f"Use --engine auto, or: {INSTALL_INSTRUCTIONS[engine]}"
    )
