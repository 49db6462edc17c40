"""Handmade networks with cards; their answers are known without training."""

import hashlib
import json

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def make_network(size, nodes, constants):
    """Return ONNX bytes: nodes (operator, inputs, output, attributes) from `image` to `logits`, (1, 1, size, size)."""
    onnx_nodes = [helper.make_node(kind, inputs, [output], **rest) for kind, inputs, output, rest in nodes]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, size, size]) for name in ("image", "logits")]
    values = [numpy_helper.from_array(np.float32(value), name) for name, value in constants.items()]
    graph = helper.make_graph(onnx_nodes, "handmade", ends[:1], ends[1:], values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def make_bright_network(size, cut_hu=50.0):
    """Make a network with the logit 2 x (HU - cut)."""
    nodes = [("Sub", ["image", "cut"], "above", {}), ("Mul", ["above", "k"], "logits", {})]
    return make_network(size, nodes, {"cut": (cut_hu - 40) / 40, "k": 80})


def make_constant_network(size, logit):
    """Make a network with a constant logit."""
    nodes = [("Mul", ["image", "zero"], "nothing", {}), ("Add", ["nothing", "logit"], "logits", {})]
    return make_network(size, nodes, {"zero": 0, "logit": logit})


def save_network(folder, name, data, size, **changes):
    """Write NAME.onnx and its card."""
    card = {
        "name": name,
        "version": "7",
        "sha256": hashlib.sha256(data).hexdigest(),
        "precision": "fp32",
        "architecture": "by hand [grey]",
        "size": size,
        "threshold": 0.5,
        "smallest_mm3": 100.0,
        "smallest_share": 4e-4,
        "licence": "MIT",
        "limits": ["sees only its own phantom"],
        "training": {},
        "metrics": {"dice": {"value": 1.0}},
    }
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.onnx").write_bytes(data)
    (folder / f"{name}.json").write_text(json.dumps(card | changes))
