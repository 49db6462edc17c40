"""Convolutions of doubled pictures, rewritten: held against PyTorch, and left alone where they are of another kind."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch.nn import functional

from benchmarks.network_speed import count_gflop
from strokeseg.segmentation import models
from strokeseg.training import decoder_rewrite

DOUBLED = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def make_network(*, beside=3, kernel=3, scale=2.0, resize=DOUBLED, pads=None, swapped=False, size=(5, 9)):
    """Two convolutions of the image, one halved and doubled again, joined for the convolution in question."""
    rng = np.random.default_rng(3)
    pads = [kernel // 2] * 4 if pads is None else pads
    constants = {
        "small_w": rng.normal(size=(4, 1, 2, 2)),
        "beside_w": rng.normal(size=(max(beside, 1), 1, 1, 1)),
        "w": rng.normal(size=(6, 4 + beside, kernel, kernel)),
        "b": rng.normal(size=6),
        "scales": np.array([1, 1, scale, scale]),
    }
    nodes = [
        helper.make_node("Conv", ["image", "small_w"], ["small"], strides=[2, 2]),
        helper.make_node("Resize", ["small", "", "scales"], ["large"], **resize),
    ]
    seen = "large"
    if beside:
        parts = ["beside", "large"] if swapped else ["large", "beside"]
        nodes += [
            helper.make_node("Conv", ["image", "beside_w"], ["beside"]),
            helper.make_node("Concat", parts, ["both"], axis=1),
        ]
        seen = "both"
    nodes += [
        helper.make_node("Conv", [seen, "w", "b"], ["convolved"], pads=pads),
        helper.make_node("Relu", ["convolved"], ["logits"]),
    ]
    rows, columns = 2 * size[0], 2 * size[1]
    graph = helper.make_graph(
        nodes,
        "decoder",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 1, rows, columns])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return made.SerializeToString(), {name: torch.tensor(value.astype(np.float32)) for name, value in constants.items()}


def answer(weights, image):
    session = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


def kinds(weights):
    return [node.op_type for node in onnx.load_from_string(weights).graph.node]


@pytest.mark.parametrize("beside", [0, 3])
@pytest.mark.parametrize("size", [(5, 9), (1, 1), (8, 2)])
def test_the_answer_is_pytorchs_to_the_edges(beside, size):
    weights, tensors = make_network(beside=beside, size=size)
    image = np.random.default_rng(1).normal(size=(1, 1, 2 * size[0], 2 * size[1])).astype(np.float32)
    seen = torch.tensor(image)
    large = functional.interpolate(
        functional.conv2d(seen, tensors["small_w"], stride=2), scale_factor=2, mode="nearest"
    )
    if beside:
        large = torch.cat([large, functional.conv2d(seen, tensors["beside_w"])], 1)
    expected = functional.relu(functional.conv2d(large, tensors["w"], tensors["b"], padding=1)).numpy()
    after = decoder_rewrite.rewrite_decoder(weights)
    assert "Resize" not in kinds(after) and kinds(after).count("DepthToSpace") == 1
    assert answer(after, image) == pytest.approx(expected, abs=1e-4)
    if min(size) > 1:
        assert count_gflop(after) < count_gflop(weights)


@pytest.mark.parametrize(
    "other",
    [
        {"kernel": 1},
        {"kernel": 5},
        {"scale": 3.0, "beside": 0},
        {"resize": {**DOUBLED, "mode": "linear", "coordinate_transformation_mode": "half_pixel"}},
        {"swapped": True},
        {"pads": [0, 0, 0, 0]},
    ],
    ids=["1 x 1", "5 x 5", "tripled", "bilinear", "the encoder's part first", "no border"],
)
def test_what_is_of_another_kind_stays(other):
    weights, _ = make_network(**other)
    image = np.random.default_rng(1).normal(size=(1, 1, 10, 18)).astype(np.float32)
    after = decoder_rewrite.rewrite_decoder(weights)
    assert "DepthToSpace" not in kinds(after)
    assert answer(after, image) == pytest.approx(answer(weights, image), abs=1e-4)


def test_the_shipped_network_convolves_no_doubled_picture():
    card, weights = models.load_weights("default")
    assert card.precision == "fp32"
    assert "Resize" not in kinds(weights) and kinds(weights).count("DepthToSpace") == 5


def test_the_convolution_that_was_made_two_can_be_had_again():
    weights, tensors = make_network()
    model = onnx.load_from_string(decoder_rewrite.rewrite_decoder(weights))
    known = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    (four,) = (value for value in known.values() if value.shape[2:] == (2, 2) and len(value) == 24)
    (beside,) = (value for value in known.values() if value.shape == (6, 3, 3, 3))
    assert decoder_rewrite.restore_kernel(four, beside) == pytest.approx(tensors["w"].numpy(), abs=1e-5)
