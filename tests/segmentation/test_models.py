import json

import pytest

from strokeseg.errors import CorruptModel, UnknownModel
from strokeseg.segmentation import load_engine, models


def test_a_model_file_with_one_byte_changed_is_refused(models_folder):
    path = models_folder / "threshold.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptModel) as caught:
        load_engine("threshold")
    assert caught.value.code == "model-checksum"
    assert "threshold.onnx" in caught.value.message


def test_a_model_without_its_weights_is_refused(models_folder):
    (models_folder / "threshold.onnx").unlink()
    with pytest.raises(CorruptModel, match="missing"):
        models.load_weights("threshold")


def test_a_card_that_cannot_be_read_is_refused(models_folder):
    (models_folder / "threshold.json").write_text("{")
    with pytest.raises(CorruptModel, match="card"):
        models.load_card("threshold")


def test_a_card_with_an_entry_too_many_is_refused(models_folder):
    path = models_folder / "threshold.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"surprise": 1}))
    with pytest.raises(CorruptModel):
        models.load_card("threshold")


def test_bytes_that_are_no_network_are_refused_though_their_checksum_fits(models_folder):
    import hashlib

    data = b"no network"
    (models_folder / "threshold.onnx").write_bytes(data)
    path = models_folder / "threshold.json"
    card = json.loads(path.read_text()) | {"sha256": hashlib.sha256(data).hexdigest()}
    path.write_text(json.dumps(card))
    with pytest.raises(CorruptModel, match="cannot load"):
        load_engine("threshold")


def test_an_unknown_model_is_named_with_those_that_are_there(models_folder):
    with pytest.raises(UnknownModel, match="threshold") as caught:
        load_engine("deep-thought")
    assert caught.value.code == "unknown-model"


def test_a_loaded_network_is_kept(models_folder):
    assert load_engine("threshold") is load_engine("threshold", "auto", 0)


def test_the_shipped_models_are_whole():
    assert "default" in models.list_names()
    for name in models.list_names():
        card, data = models.load_weights(name)
        assert card.name == name
        assert len(data) < 60e6
        assert card.metrics["validation"]["sources"]
        assert card.metrics["test"]["per_patient"]["dice"]["low"] is not None
        assert card.licence and card.limits and card.training["sources"]
        assert card.sha256 in (models.find_folder(name) / f"{name}.md").read_text()
