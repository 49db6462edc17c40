"""Convolve before upsampling instead of after it in a decoder: fewer operations, the same output.

A U-Net's decoder doubles a feature map by repeating every pixel, concatenates it with a map of the encoder, and
convolves both with 3 x 3 kernels. Many of the nine pixels under such a kernel are repetitions: each of the four pixels
that one pixel becomes is a convolution of the small map with a 2 x 2 kernel, whose weights are sums of the 3 x 3 ones.
So the small map is convolved into four, which are interleaved (DepthToSpace); the encoder's map is convolved separately
and added. This is exact up to the rounding of sums, and takes 16 of 36 operations. On convolution before interleaving
and after nearest-neighbour upsampling see Aitken et al., "Checkerboard artifact free sub-pixel convolution",
arXiv:1707.02937.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, helper, numpy_helper, shape_inference

from strokeseg.errors import TrainError

_MAX_LOGIT_DIFFERENCE = 1e-3
"""Largest difference of a logit before and after the rewriting."""

# (position, small pixel, tap): which taps of a kernel of 3 fall on which of two neighbouring small pixels, at the two
# large positions between their centres.
_TAPS = np.array([[[1, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 1]]], dtype=np.float64)

_TAPS_INVERSE = np.linalg.pinv(_TAPS.reshape(4, 3)).reshape(3, 2, 2)

Arrays = Mapping[str, NDArray[Any]]


class _DoubledConvolution(NamedTuple):
    """A convolution of a doubled map: the small map, its channels, and the map it is concatenated with, if any."""

    small: str
    channels: int
    beside: str | None


def rewrite_decoder(weights: bytes) -> bytes:
    """Rewrite every 3 x 3 convolution of a feature map that was doubled by repetition.

    Parameters
    ----------
    weights : bytes
        ONNX with one input of fixed shape; fp32.

    Returns
    -------
    bytes
        ONNX with folded constants; without such a convolution nothing else changes.

    Raises
    ------
    TrainError
        `train`, if the output of ONNX Runtime changes.
    """
    model = shape_inference.infer_shapes(onnx.load_from_string(_fold_constants(weights)))
    graph = model.graph
    arrays = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    nodes: list[NodeProto] = []
    for number, node in enumerate(graph.node):
        doubled = _match_doubled(node, graph, arrays)
        if doubled is None:
            nodes.append(node)
            continue
        new_nodes, constants = _rewrite_convolution(node, doubled, arrays, f"{node.name or number}/small")
        nodes += new_nodes
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    del graph.value_info[:]
    _keep_used_nodes(graph, nodes)
    standard = [each for each in model.opset_import if each.domain == ""]
    del model.opset_import[:]
    model.opset_import.extend(standard)
    onnx.checker.check_model(model)
    result: bytes = model.SerializeToString()
    _check_equal_output(weights, result)
    return result


def restore_kernel(four: NDArray[Any], beside: NDArray[Any] | None = None) -> NDArray[np.float32]:
    """Restore the kernel of a convolution that :func:`rewrite_decoder` split.

    Parameters
    ----------
    four : ndarray, shape (4 x out, in, 2, 2)
        Kernel of the small map.
    beside : ndarray, shape (out, in, 3, 3), optional
        Kernel of the map it is concatenated with.

    Returns
    -------
    ndarray of float32, shape (out, in, 3, 3)
        Kernel of the single convolution.
    """
    parts = four.reshape(2, 2, len(four) // 4, *four.shape[1:]).astype(np.float64)
    large = np.einsum("kap,lbq,abocpq->ockl", _TAPS_INVERSE, _TAPS_INVERSE, parts)
    return (large if beside is None else np.concatenate([large, beside], axis=1)).astype(np.float32)


def _fold_constants(weights: bytes) -> bytes:
    """Fold constants and batch norms by ONNX Runtime's basic optimization, which keeps to standard ONNX."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder, "folded.onnx"))
        options.log_severity_level = 3
        onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
        return Path(options.optimized_model_filepath).read_bytes()


def _match_doubled(node: NodeProto, graph: GraphProto, arrays: Arrays) -> _DoubledConvolution | None:
    """Return the inputs of a convolution of a doubled map; None for any other node."""
    if node.op_type != "Conv" or not _is_plain_convolution(node, arrays):
        return None
    producers = {name: each for each in graph.node for name in each.output}
    producer: NodeProto | None = producers.get(node.input[0])
    beside = None
    if producer is not None and producer.op_type == "Concat" and len(producer.input) == 2:
        beside, producer = producer.input[1], producers.get(producer.input[0])
    if producer is None or producer.op_type != "Resize" or not _is_pixel_repetition(producer, graph):
        return None
    channels = _tensor_shape(graph, producer.input[0])[1]
    return _DoubledConvolution(producer.input[0], channels, beside)


def _is_plain_convolution(node: NodeProto, arrays: Arrays) -> bool:
    """Return whether a convolution has a 3 x 3 kernel, a bias, a padding of 1, and no groups, strides or dilation."""
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    return (
        len(node.input) == 3
        and node.input[1] in arrays
        and arrays[node.input[1]].shape[2:] == (3, 3)
        and list(attributes.get("pads", [])) == [1, 1, 1, 1]
        and attributes.get("group", 1) == 1
        and set(attributes.get("strides", [1])) == set(attributes.get("dilations", [1])) == {1}
    )


def _is_pixel_repetition(node: NodeProto, graph: GraphProto) -> bool:
    """Return whether a node doubles both sides of a map by repeating every pixel."""
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    before, after = _tensor_shape(graph, node.input[0]), _tensor_shape(graph, node.output[0])
    return (
        attributes.get("mode") == b"nearest"
        and attributes.get("coordinate_transformation_mode") == b"asymmetric"
        and attributes.get("nearest_mode") == b"floor"
        and after == [*before[:2], 2 * before[2], 2 * before[3]]
    )


def _rewrite_convolution(
    node: NodeProto, doubled: _DoubledConvolution, arrays: Arrays, name: str
) -> tuple[list[NodeProto], dict[str, NDArray[Any]]]:
    """Return the nodes that replace a convolution, and their constants."""
    weights, bias = arrays[node.input[1]], arrays[node.input[2]]
    count = len(weights)
    # (a, b, out, in, p, q): the position in the 2 x 2 block, then as in any convolution.
    parts = np.einsum("apk,bql,ockl->abocpq", _TAPS, _TAPS, weights[:, : doubled.channels].astype(np.float64))
    constants: dict[str, NDArray[Any]] = {
        f"{name}/weights": parts.reshape(4 * count, doubled.channels, 2, 2).astype(np.float32),
        f"{name}/first": np.array([1, 1]),
        f"{name}/end": np.array([-1, -1]),
        f"{name}/axes": np.array([2, 3]),
    }
    inputs = [doubled.small, f"{name}/weights"]
    if doubled.beside is None:
        constants[f"{name}/bias"] = np.tile(bias, 4)
        inputs.append(f"{name}/bias")
    large = node.output[0] if doubled.beside is None else f"{name}/large"
    nodes = [
        helper.make_node("Conv", inputs, [f"{name}/four"], f"{name}/Conv", kernel_shape=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node(
            "DepthToSpace", [f"{name}/four"], [f"{name}/wide"], f"{name}/DepthToSpace", blocksize=2, mode="DCR"
        ),
        # The outermost pixels lie outside of the map.
        helper.make_node(
            "Slice",
            [f"{name}/wide", *(f"{name}/{part}" for part in ("first", "end", "axes"))],
            [large],
            f"{name}/Slice",
        ),
    ]
    if doubled.beside is not None:
        constants[f"{name}/beside"] = np.ascontiguousarray(weights[:, doubled.channels :])
        own = [doubled.beside, f"{name}/beside", node.input[2]]
        nodes += [
            helper.make_node("Conv", own, [f"{name}/own"], f"{name}/own/Conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            helper.make_node("Add", [f"{name}/own", large], [node.output[0]], f"{name}/Add"),
        ]
    return nodes, constants


def _tensor_shape(graph: GraphProto, name: str) -> list[int]:
    for each in (*graph.value_info, *graph.input, *graph.output):
        if each.name == name:
            return [side.dim_value for side in each.type.tensor_type.shape.dim]
    return [0, 0, 0, 0]


def _keep_used_nodes(graph: GraphProto, nodes: list[NodeProto]) -> None:
    """Set the nodes of a graph, without nodes and constants that are not used."""
    used_names, used_nodes = {each.name for each in graph.output}, []
    for node in reversed(nodes):
        if used_names & set(node.output):
            used_names |= set(node.input)
            used_nodes.append(node)
    constants = [each for each in graph.initializer if each.name in used_names]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(used_nodes))
    graph.initializer.extend(constants)


def _check_equal_output(before: bytes, after: bytes) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    sessions = [
        onnxruntime.InferenceSession(each, options, providers=["CPUExecutionProvider"]) for each in (before, after)
    ]
    image = sessions[0].get_inputs()[0]
    pixels = np.random.default_rng(0).uniform(-1, 1, image.shape).astype(np.float32)
    first, second = (session.run(None, {image.name: pixels})[0] for session in sessions)
    if (difference := float(np.abs(first - second).max())) > _MAX_LOGIT_DIFFERENCE:
        raise TrainError(
            f"the network's logits change by up to {difference:.3g} when its decoder is rewritten",
            "Use another version of ONNX Runtime.",
        )
