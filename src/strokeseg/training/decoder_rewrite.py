"""A decoder's convolutions before the picture is enlarged, not after: fewer operations, the same answer.

A U-Net's decoder doubles a picture by repeating every pixel, joins it with a picture of the encoder, and convolves both
with 3 x 3 weights. Of the nine pixels under such a kernel many are repetitions of each other: each of the four pixels
that one becomes is a convolution of the small picture with 2 x 2 weights, sums of the 3 x 3 ones. So the small picture
is convolved into four and these are interleaved (DepthToSpace); the encoder's part is convolved by itself and added.
That is exact but for the rounding of sums, and takes 16 of 36 operations. On convolving before interleaving and after
enlarging by the nearest neighbour see Aitken et al., "Checkerboard artifact free sub-pixel convolution",
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
"""Of logits."""

# (place, small pixel, tap): which taps of a 3-kernel fall on which of two neighbouring small pixels, at the two large
# places that lie between their middles.
_TAPS = np.array([[[1, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 1]]], dtype=np.float64)

_TAPS_INVERSE = np.linalg.pinv(_TAPS.reshape(4, 3)).reshape(3, 2, 2)

Arrays = Mapping[str, NDArray[Any]]


class _DoubledConvolution(NamedTuple):
    """A convolution of a doubled picture: the small picture, its channels, and what it is joined with, if anything."""

    small: str
    channels: int
    beside: str | None


def rewrite_decoder(weights: bytes) -> bytes:
    """Rewrite every 3 x 3 convolution of a picture that was doubled by repetition.

    Parameters
    ----------
    weights : bytes
        ONNX, one input of fixed form; fp32.

    Returns
    -------
    bytes
        ONNX, its constants folded; only folded where there is no such convolution.

    Raises
    ------
    TrainError
        `train`, if ONNX Runtime answers otherwise than before.
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
        made, constants = _rewrite_convolution(node, doubled, arrays, f"{node.name or number}/small")
        nodes += made
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    del graph.value_info[:]
    _keep_used_nodes(graph, nodes)
    plain = [each for each in model.opset_import if each.domain == ""]
    del model.opset_import[:]
    model.opset_import.extend(plain)
    onnx.checker.check_model(model)
    result: bytes = model.SerializeToString()
    _check_equal_output(weights, result)
    return result


def restore_kernel(four: NDArray[Any], beside: NDArray[Any] | None = None) -> NDArray[np.float32]:
    """Return the weights of the one convolution that :func:`rewritten` made two of.

    Parameters
    ----------
    four : ndarray, shape (4 x out, in, 2, 2)
        Of the small picture.
    beside : ndarray, shape (out, in, 3, 3), optional
        Of what it was joined with.
    """
    parts = four.reshape(2, 2, len(four) // 4, *four.shape[1:]).astype(np.float64)
    large = np.einsum("kap,lbq,abocpq->ockl", _TAPS_INVERSE, _TAPS_INVERSE, parts)
    return (large if beside is None else np.concatenate([large, beside], axis=1)).astype(np.float32)


def _fold_constants(weights: bytes) -> bytes:
    """Fold constants and batch norms, as ONNX Runtime's basic optimisation does: plain ONNX."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder, "folded.onnx"))
        options.log_severity_level = 3
        onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
        return Path(options.optimized_model_filepath).read_bytes()


def _match_doubled(node: NodeProto, graph: GraphProto, arrays: Arrays) -> _DoubledConvolution | None:
    """Say what a convolution sees, if it is one of the kind; None for any other node."""
    if node.op_type != "Conv" or not _is_plain_convolution(node, arrays):
        return None
    makers = {name: each for each in graph.node for name in each.output}
    maker: NodeProto | None = makers.get(node.input[0])
    beside = None
    if maker is not None and maker.op_type == "Concat" and len(maker.input) == 2:
        beside, maker = maker.input[1], makers.get(maker.input[0])
    if maker is None or maker.op_type != "Resize" or not _is_pixel_repetition(maker, graph):
        return None
    channels = _tensor_shape(graph, maker.input[0])[1]
    return _DoubledConvolution(maker.input[0], channels, beside)


def _is_plain_convolution(node: NodeProto, arrays: Arrays) -> bool:
    """Whether a convolution has a 3 x 3 kernel and a bias, one pixel around, and neither groups, steps nor gaps."""
    told = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    return (
        len(node.input) == 3
        and node.input[1] in arrays
        and arrays[node.input[1]].shape[2:] == (3, 3)
        and list(told.get("pads", [])) == [1, 1, 1, 1]
        and told.get("group", 1) == 1
        and set(told.get("strides", [1])) == set(told.get("dilations", [1])) == {1}
    )


def _is_pixel_repetition(node: NodeProto, graph: GraphProto) -> bool:
    """Whether a picture's sides are doubled, each pixel standing four times."""
    told = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    before, after = _tensor_shape(graph, node.input[0]), _tensor_shape(graph, node.output[0])
    return (
        told.get("mode") == b"nearest"
        and told.get("coordinate_transformation_mode") == b"asymmetric"
        and told.get("nearest_mode") == b"floor"
        and after == [*before[:2], 2 * before[2], 2 * before[3]]
    )


def _rewrite_convolution(
    node: NodeProto, seen: _DoubledConvolution, arrays: Arrays, name: str
) -> tuple[list[NodeProto], dict[str, NDArray[Any]]]:
    """Return the nodes that stand for a convolution, and their constants."""
    weights, bias = arrays[node.input[1]], arrays[node.input[2]]
    count = len(weights)
    # (a, b, out, in, p, q): the place in the two by two, then as in any convolution.
    parts = np.einsum("apk,bql,ockl->abocpq", _TAPS, _TAPS, weights[:, : seen.channels].astype(np.float64))
    constants: dict[str, NDArray[Any]] = {
        f"{name}/weights": parts.reshape(4 * count, seen.channels, 2, 2).astype(np.float32),
        f"{name}/first": np.array([1, 1]),
        f"{name}/end": np.array([-1, -1]),
        f"{name}/axes": np.array([2, 3]),
    }
    inputs = [seen.small, f"{name}/weights"]
    if seen.beside is None:
        constants[f"{name}/bias"] = np.tile(bias, 4)
        inputs.append(f"{name}/bias")
    large = node.output[0] if seen.beside is None else f"{name}/large"
    nodes = [
        helper.make_node("Conv", inputs, [f"{name}/four"], f"{name}/Conv", kernel_shape=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node(
            "DepthToSpace", [f"{name}/four"], [f"{name}/wide"], f"{name}/DepthToSpace", blocksize=2, mode="DCR"
        ),
        # The outermost pixels lie beyond the picture's edge.
        helper.make_node(
            "Slice",
            [f"{name}/wide", *(f"{name}/{part}" for part in ("first", "end", "axes"))],
            [large],
            f"{name}/Slice",
        ),
    ]
    if seen.beside is not None:
        constants[f"{name}/beside"] = np.ascontiguousarray(weights[:, seen.channels :])
        own = [seen.beside, f"{name}/beside", node.input[2]]
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
    """Put nodes into a graph, without those, and without constants, that nothing asks for."""
    asked, kept = {each.name for each in graph.output}, []
    for node in reversed(nodes):
        if asked & set(node.output):
            asked |= set(node.input)
            kept.append(node)
    constants = [each for each in graph.initializer if each.name in asked]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)


def _check_equal_output(before: bytes, after: bytes) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    sessions = [
        onnxruntime.InferenceSession(each, options, providers=["CPUExecutionProvider"]) for each in (before, after)
    ]
    image = sessions[0].get_inputs()[0]
    shown = np.random.default_rng(0).uniform(-1, 1, image.shape).astype(np.float32)
    first, second = (session.run(None, {image.name: shown})[0] for session in sessions)
    if (apart := float(np.abs(first - second).max())) > _MAX_LOGIT_DIFFERENCE:
        raise TrainError(
            f"the network's logits are up to {apart:.3g} off after its decoder was rewritten", "Export as it was."
        )
