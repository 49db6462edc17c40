import hashlib
import json

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from strokeseg.infer import models

SIZE = 64


def a_threshold_network(size=SIZE, cut_hu=50.0):
    """A network by hand: its logit is 2 x (HU - cut), so the answer is known without any training."""
    cut = (cut_hu - 40) / 40
    constants = [numpy_helper.from_array(np.float32(value), name) for name, value in (("cut", cut), ("k", 80.0))]
    nodes = [helper.make_node("Sub", ["image", "cut"], ["above"]), helper.make_node("Mul", ["above", "k"], ["logits"])]
    shape = [1, 1, size, size]
    graph = helper.make_graph(
        nodes,
        "threshold",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def a_card(data, name="threshold", **changes):
    return {
        "name": name,
        "version": "1",
        "sha256": hashlib.sha256(data).hexdigest(),
        "precision": "fp32",
        "architecture": "threshold",
        "size": SIZE,
        "threshold": 0.5,
        "smallest_mm3": 100.0,
        "smallest_share": 4e-4,
        "licence": "MIT",
        "limits": [],
        "training": {},
        "metrics": {},
    } | changes


@pytest.fixture
def models_folder(tmp_path, monkeypatch):
    """A folder with one model that answers at 50 HU and more."""
    folder = tmp_path / "models"
    folder.mkdir()
    data = a_threshold_network()
    (folder / "threshold.onnx").write_bytes(data)
    (folder / "threshold.json").write_text(json.dumps(a_card(data)))
    monkeypatch.setenv(models.FOLDER_VARIABLE, str(folder))
    return folder
