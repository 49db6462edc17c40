"""Speed of the networks alone: a reference network, StrokeSeg's on every engine, and the limit of the processor."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed_figures import Durations, NetworkSpeed
from strokeseg import segmentation
from strokeseg.reading import read_one
from strokeseg.segmentation import models
from strokeseg.segmentation.engines import selection
from strokeseg.segmentation.engines.cpu_features import count_usable_cores
from strokeseg.segmentation.engines.protocol import Engine
from strokeseg.segmentation.preprocess import find_head_square, make_network_input

REFERENCE_SIZE = 512
_MATRIX_SIZE = 1024
_SLICES_PER_ROUND = 6
"""Number of slices per engine and round."""

Floats32 = NDArray[np.float32]
Call = Callable[[], Any]
Log = Callable[[str], None]
_ENERGY = Path("/sys/class/powercap/intel-rapl:0/energy_uj")


def list_pairs() -> list[tuple[str, str]]:
    """List the networks with the engines to measure them on, among the installed engines."""
    pairs = [("default", "onnxruntime"), ("default", "openvino"), ("default", "openvino-bf16"), ("default", "cuda")]
    pairs += [("fast", "onnxruntime"), ("fast", "openvino")]
    return [(model, engine) for model, engine in pairs if engine in selection.list_installed()]


def make_reference_network() -> torch.nn.Module:
    """Make the reference network: a U-Net with ResNet-50 and random weights, which take as long as trained ones."""
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    return smp.Unet("resnet50", encoder_weights=None, in_channels=1, classes=1).eval()


def time_reference_slice(network: torch.nn.Module, threads: int = 0) -> Durations:
    """Time one slice of 512 x 512 pixels in PyTorch eager; 0 threads means all cores."""
    torch.set_num_threads(threads or count_usable_cores())
    image = torch.zeros(1, 1, REFERENCE_SIZE, REFERENCE_SIZE)
    with torch.inference_mode():
        return time_call(lambda: network(image))


def time_call(call: Call) -> Durations:
    """Return the durations of one call."""
    clock, processor = time.perf_counter(), time.process_time()
    call()
    elapsed = time.perf_counter() - clock
    return Durations(clock=elapsed, clock_median=elapsed, processor=time.process_time() - processor)


def summarize_runs(runs: Sequence[Durations], parts: int = 1) -> Durations:
    """Summarize repeated runs: the durations of one of the ``parts`` that each run had."""
    clocks = [each.clock for each in runs]
    return Durations(
        clock=round(min(clocks) / parts, 5),
        clock_median=round(float(np.median(clocks)) / parts, 5),
        processor=round(min(each.processor for each in runs) / parts, 5),
    )


def measure_networks(scan: Path, rounds: int, log: Log) -> dict[str, Any]:
    """Measure the reference network, the engines and matrix products in turn.

    Parameters
    ----------
    scan : Path
        Series to take slices from.
    rounds : int
        Number of repetitions.
    log : callable
        Takes a line on the progress.

    Returns
    -------
    dict of str to object
        The fields of :class:`benchmarks.speed_figures.SpeedFigures` on networks.
    """
    network = make_reference_network()
    engines = {pair: segmentation.load_engine(*pair) for pair in list_pairs()}
    hu = read_one(scan).hu
    square, middle = find_head_square(hu), len(hu) // 2
    images = [
        make_network_input(plane, square, models.load_card("default").size)
        for plane in hu[middle : middle + _SLICES_PER_ROUND]
    ]
    products = make_matrix_products()
    calls: dict[Any, Call] = {pair: _make_slices_call(engine, images) for pair, engine in engines.items()}
    calls |= {("product", name): call for name, call in products.items()}
    times: dict[Any, list[Durations]] = {name: [] for name in (*calls, "yardstick", "yardstick-1")}
    time_reference_slice(network)
    for call in calls.values():
        call()  # the first call allocates what later ones reuse
    before = _read_energy_j()
    for number in range(rounds):
        log(f"networks: round {number + 1} of {rounds}")
        times["yardstick"].append(time_reference_slice(network))
        times["yardstick-1"].append(time_reference_slice(network, 1))
        for name, call in calls.items():
            times[name].append(time_call(call))
    peaks = {name: 2 * _MATRIX_SIZE**3 / summarize_runs(times["product", name]).processor / 1e9 for name in products}
    reference = summarize_runs(times["yardstick"]).model_copy(
        update={"processor": summarize_runs(times["yardstick-1"]).processor}
    )
    rows = [
        _summarize_network(pair, engines[pair], summarize_runs(times[pair], len(images)), peaks) for pair in engines
    ]
    gflop = _count_reference_gflop(network)
    return {
        "matrix": {name: round(peak, 1) for name, peak in peaks.items()},
        "yardstick": NetworkSpeed(
            model="U-Net ResNet-50, 512 x 512",
            engine="PyTorch eager",
            precision="fp32",
            gflop=round(gflop, 2),
            slice_s=reference,
            limit=round(gflop / reference.processor / peaks["fp32"], 3),
        ),
        "networks": rows,
        "parts": profile_operations("default", images[0]),
        "joule_a_slice": _measure_energy_j(calls, before),
    }


def _summarize_network(
    pair: tuple[str, str], engine: Engine, durations: Durations, peaks: dict[str, float]
) -> NetworkSpeed:
    gflop, peak = count_gflop(models.load_weights(pair[0])[1]), peaks.get(engine.precision)
    return NetworkSpeed(
        model=pair[0],
        engine=pair[1],
        precision=engine.precision,
        gflop=round(gflop, 2),
        slice_s=durations,
        limit=None if peak is None or pair[1] == "cuda" else round(gflop / durations.processor / peak, 3),
    )


def _make_slices_call(engine: Engine, images: Sequence[Floats32]) -> Call:
    def call() -> None:
        with ThreadPoolExecutor(engine.concurrent_slices) as pool:
            list(pool.map(engine.logits, images))

    return call


def make_matrix_products() -> dict[str, Call]:
    """Return a large matrix product per precision, on one thread: a practical limit of the processor."""
    numbers = np.random.default_rng(0)
    small, large = numbers.integers(0, 255, (2, _MATRIX_SIZE, _MATRIX_SIZE), dtype=np.uint8)
    float_first, float_second = numbers.normal(size=(2, _MATRIX_SIZE, _MATRIX_SIZE)).astype(np.float32)
    signed = (large.astype(np.int16) - 128).astype(np.int8)
    integer = _make_product("MatMulInteger", signed, TensorProto.UINT8, TensorProto.INT32)
    floats = _make_product("MatMul", float_second, TensorProto.FLOAT, TensorProto.FLOAT)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    products: dict[str, Call] = {}
    for name, graph, first in (("fp32", floats, float_first), ("int8", integer, small)):
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        products[name] = partial(session.run, None, {"first": first})
    if "openvino" in selection.list_installed():
        from strokeseg.segmentation.engines.openvino import _import_openvino

        core = _import_openvino().Core()
        settings = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
        request = core.compile_model(core.read_model(floats), "CPU", settings).create_infer_request()
        products["bf16"] = partial(request.infer, {0: float_first})
    return products


def _make_product(operator: str, second: NDArray[Any], input_type: int, output_type: int) -> bytes:
    ends = [
        helper.make_tensor_value_info(name, dtype, [_MATRIX_SIZE, _MATRIX_SIZE])
        for name, dtype in (("first", input_type), ("out", output_type))
    ]
    node = helper.make_node(operator, ["first", "second"], ["out"])
    graph = helper.make_graph([node], "product", ends[:1], ends[1:], [numpy_helper.from_array(second, "second")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def count_gflop(weights: bytes) -> float:
    """Count the 10^9 operations of an ONNX graph's convolutions; one run yields the shape of each."""
    graph = onnx.load_from_string(weights)
    shapes = {each.name: list(each.dims) for each in graph.graph.initializer}
    origins = {each.output[0]: each.input[0] for each in graph.graph.node if each.op_type == "DequantizeLinear"}
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv"]
    del graph.graph.output[1:]
    graph.graph.output.extend(helper.make_empty_tensor_value_info(node.output[0]) for node in convolutions)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0]
    outputs = session.run([node.output[0] for node in convolutions], {image.name: np.zeros(image.shape, np.float32)})
    total = 0
    for node, output in zip(convolutions, outputs, strict=True):
        kernel = shapes[origins.get(node.input[1], node.input[1])]
        total += 2 * output.size * int(np.prod(kernel[1:]))
    return total / 1e9


def _count_reference_gflop(network: torch.nn.Module) -> float:
    counter: Any = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        network(torch.zeros(1, 1, REFERENCE_SIZE, REFERENCE_SIZE))
    return counter.get_total_flops() / 1e9


def profile_operations(model: str, image: Floats32) -> dict[str, float]:
    """Return each operation's share of a network's time, from ONNX Runtime's profile of ten slices."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder, "profile"))
        session = onnxruntime.InferenceSession(
            models.load_weights(model)[1], options, providers=["CPUExecutionProvider"]
        )
        for _ in range(10):
            session.run(None, {session.get_inputs()[0].name: image})
        events = json.loads(Path(session.end_profiling()).read_text())
    sums: dict[str, float] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            kind = event["args"]["op_name"]
            shapes = [next(iter(shape.values())) for shape in event["args"].get("input_type_shape", [])]
            if kind == "Conv":
                is_depthwise = len(shapes) > 1 and len(shapes[1]) == 4 and shapes[1][1] == 1
                kind = "convolution, each channel alone" if is_depthwise else "convolution"
            sums[kind] = sums.get(kind, 0) + event["dur"]
    total = sum(sums.values())
    largest = sorted(sums.items(), key=lambda each: -each[1])
    return {kind: round(value / total, 3) for kind, value in largest if value >= 0.01 * total}


def _read_energy_j() -> float | None:
    try:
        return int(_ENERGY.read_text()) / 1e6
    except (OSError, ValueError):
        return None


def _measure_energy_j(calls: dict[Any, Call], before: float | None) -> float | None:
    """Measure the energy of a slice with the default network; None if the processor's counter is not readable."""
    if before is None:
        return None
    start = _read_energy_j()
    for _ in range(10):
        calls["default", "onnxruntime"]()
    end = _read_energy_j()
    return None if start is None or end is None or end < start else round((end - start) / (10 * _SLICES_PER_ROUND), 2)
