"""Which engines there are, which of them can be used here, and which one `auto` takes."""

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
"""ONNX Runtime's ways to run a network, by the name of our engine."""

ENGINES = ("auto", "onnxruntime", "openvino", "openvino-bf16", "cuda", "tensorrt", "coreml", "directml")

INSTALL_INSTRUCTIONS = {
    "onnxruntime": 'pip install "onnxruntime>=1.20"',
    "openvino": 'pip install "strokeseg[openvino]"',
    "openvino-bf16": 'pip install "strokeseg[openvino]"',
    "cuda": "pip uninstall onnxruntime; pip install onnxruntime-gpu (a card by NVIDIA, its driver, CUDA and cuDNN)",
    "tensorrt": "pip uninstall onnxruntime; pip install onnxruntime-gpu tensorrt (a card by NVIDIA and its driver)",
    "coreml": 'pip install "onnxruntime>=1.20" on macOS; nowhere else',
    "directml": "pip uninstall onnxruntime; pip install onnxruntime-directml on Windows; nowhere else",
}
"""What installs an engine."""


@dataclass(frozen=True)
class EngineSelection:
    """The engine that `auto` takes for a network, and why, in one sentence."""

    engine: str
    reason: str


@lru_cache(maxsize=1)
def list_installed() -> tuple[str, ...]:
    """List the engines whose packages are installed, in the order of :data:`ENGINES`."""
    found = {"openvino", "openvino-bf16"} if importlib.util.find_spec("openvino") else set()
    try:
        import onnxruntime

        offered = onnxruntime.get_available_providers()
    except ImportError:
        offered = []
    found.update(name for name, provider in PROVIDERS.items() if provider in offered)
    return tuple(name for name in ENGINES if name in found)


def select_engine(precision: str, hardware: Hardware, installed: tuple[str, ...]) -> EngineSelection:
    """Choose the engine for a network: the same for the same network, machine and packages.

    No choice changes what a network answers beyond rounding: `openvino-bf16`, `tensorrt`, `coreml` and `directml` are
    taken only by name.

    Parameters
    ----------
    precision : str
        Of the network's card.
    machine : object
        :func:`strokeseg.segmentation.engines.cpu_features.detect_hardware`.
    there : object
        :func:`installed`.

    Raises
    ------
    EngineMissing
        `engine-missing`, if neither ONNX Runtime nor OpenVINO is installed.
    """
    if "onnxruntime" not in installed and "openvino" not in installed:
        raise missing_engine_error("onnxruntime")
    if precision != "int8" and hardware.nvidia_gpu and "cuda" in installed:
        return EngineSelection("cuda", "a card by NVIDIA is there, and ONNX Runtime was built for it")
    if "onnxruntime" not in installed:
        return EngineSelection("openvino", "ONNX Runtime is not installed")
    if precision == "int8" and "openvino" in installed and hardware.int8_instructions:
        return EngineSelection(
            "openvino",
            f"the processor multiplies 8-bit integers ({hardware.int8_instructions}), which OpenVINO uses best",
        )
    if precision == "int8" and hardware.int8_instructions:
        return EngineSelection(
            "onnxruntime",
            f"OpenVINO, quicker with 8-bit integers, is not installed: {INSTALL_INSTRUCTIONS['openvino']}",
        )
    if precision == "int8":
        return EngineSelection("onnxruntime", "the processor has no instructions of its own for 8-bit integers")
    return EngineSelection(
        "onnxruntime", "with 32-bit floats it is as quick as any on a processor, and loads the fastest"
    )


def missing_engine_error(engine: str) -> EngineMissing:
    """Make the error of an engine that is not installed, with what installs it."""
    return EngineMissing(
        f"the engine {engine} is not installed", f"Use --engine auto, or: {INSTALL_INSTRUCTIONS[engine]}"
    )
