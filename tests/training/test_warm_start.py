"""A network started from an .onnx answers as ONNX Runtime does with it, and is refused where it cannot."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import expit

from phantoms import training_sets
from strokeseg.cli import main
from strokeseg.errors import CorruptModel, TrainError, UnknownModel
from strokeseg.segmentation import models
from strokeseg.segmentation.engines.onnxruntime import OnnxRuntime
from strokeseg.segmentation.preprocess import resize
from strokeseg.training import augmentation, config, export, loop, networks, warm_start

DEFAULT = config.NetworkConfig(name="x", size=320, start="model:default")


def heads(number, size, seed=0):
    """Phantom heads with a bright bleed each, as the network sees them: (number, 1, size, size), -1..1."""
    rng = np.random.default_rng(seed)
    # The phantom's window is (40, 120), the network's (40, 80).
    grey = [training_sets.make_slice(rng, blood=True)[0].astype(np.float32) / 255 * 1.5 - 0.25 for _ in range(number)]
    return torch.stack([torch.from_numpy(resize(np.clip(g, 0, 1), (size, size)) * 2 - 1) for g in grey])[:, None]


def probabilities(network, images):
    with torch.no_grad():
        return torch.sigmoid(network(images))[:, 0].numpy()


def of_onnx(card, content, images):
    engine = OnnxRuntime(card, content, 0)
    return np.stack([expit(engine.logits(image[None].numpy())) for image in images])


def sample(source, patient):
    plane = np.zeros((augmentation.STORED_SIZE,) * 2, np.uint8)
    return augmentation.StoredSlice(source, patient, plane, plane, False)


def test_the_shipped_network_started_from_answers_as_its_onnx():
    card, content = models.load_weights("default")
    images = heads(3, card.size, seed=1)
    network, words = warm_start.start_from_model(DEFAULT, [], heads(4, card.size))
    expected = of_onnx(card, content, images)
    assert expected.max() > 0.9 and expected.mean() < 0.2  # the bleeds are seen, so the comparison says something
    assert np.abs(probabilities(network.eval(), images) - expected).max() < 1e-3
    assert card.sha256 in words


def test_in_training_it_begins_near_the_same_answers():
    """There a batch's own means and variances count: those that were measured must be like them."""
    network, _ = warm_start.start_from_model(DEFAULT, [], heads(4, 320))
    images = heads(4, 320, seed=2)
    still = probabilities(network.eval(), images) > 0.5
    begun = probabilities(network.train(), images) > 0.5
    assert still.sum() > 1000 and 2 * (still & begun).sum() / (still.sum() + begun.sum()) > 0.9


def export_to(folder, table, name="mine", **changes):
    """Install a network of random weights whose batch norms have seen something."""
    torch.manual_seed(3)
    network = networks.build(table)
    for norm in (module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias, 0, 0.3)
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 2)
    state = {f"average.{key}": value for key, value in network.state_dict().items()}
    folder.mkdir(exist_ok=True)
    torch.save({"state_dict": state}, folder / "x.ckpt")
    text = {"root": ".", "sources": {"ctich_train": 1}, "validation": ["ctich_train"]}
    run = config.Config(data=config.DataConfig(**text), network=table, train=config.TrainConfig(samples=16))
    content = export.convert_to_onnx(run, folder / "x.ckpt")
    card = models.read_card(models.SHIPPED_FOLDER / "default.json").model_copy(
        update={"name": name, "size": table.size, "sha256": hashlib.sha256(content).hexdigest(), **changes}
    )
    models.save_model(card, content, folder)
    return card, content


@pytest.mark.parametrize(
    ("architecture", "encoder"),
    [
        ("unet", "resnet18"),
        ("unet", "densenet121"),
        pytest.param("unet", "vgg11_bn", marks=pytest.mark.slow),
        ("deeplabv3plus", "resnet18"),
        ("unetplusplus", "mobilenet_v2"),
    ],
)
def test_batch_norms_folded_and_not_are_read_back(architecture, encoder, tmp_path, monkeypatch):
    """A DenseNet's stand before their convolutions and keep nodes of their own."""
    monkeypatch.setenv(models.FOLDER_VARIABLE, str(tmp_path))
    table = config.NetworkConfig(
        name="x",
        architecture=architecture,
        encoder=encoder,
        decoder_channels=(32, 24, 16, 12, 8),
        size=64,
        start="model:mine",
    )
    card, content = export_to(tmp_path, table)
    network, _ = warm_start.start_from_model(table, [], heads(4, 64))
    images = heads(2, 64, seed=4)
    assert np.abs(probabilities(network.eval(), images) - of_onnx(card, content, images)).max() < 1e-3


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"start": "model:fast"}, TrainError, "the weights of fast are int8"),
        ({"start": "model:never"}, UnknownModel, "no model named 'never'"),
        ({"encoder": "resnet18"}, TrainError, "another network than .network. describes"),
        ({"decoder_channels": (64, 48, 32, 16, 8)}, TrainError, "another network"),
        ({"architecture": "linknet"}, TrainError, r"another network|cannot be read back"),
    ],
)
def test_what_cannot_be_started_from_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        warm_start.start_from_model(DEFAULT.model_copy(update={"size": 64, **changes}), [], heads(1, 64))


def test_a_changed_byte_is_refused(tmp_path, monkeypatch):
    for end in ("onnx", "json"):
        shutil.copy(models.SHIPPED_FOLDER / f"default.{end}", tmp_path)
    path = tmp_path / "default.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    monkeypatch.setenv(models.FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(CorruptModel, match="SHA-256"):
        warm_start.start_from_model(DEFAULT, [], heads(1, 320))


def test_who_trained_it_cannot_validate_here():
    """Of the card's own sources only its validation patients may; who comes from elsewhere was never seen."""
    card = models.load_card("default")
    unseen = next(patient for patient in card.training["validation_patients"] if patient.startswith("ctich"))
    elsewhere = sample("our_hospital", "our_hospital:7")
    warm_start.start_from_model(DEFAULT, [sample("ctich", unseen), elsewhere], heads(1, 64))
    with pytest.raises(
        TrainError, match="default may have been trained on ctich:053, a validation patient of this run"
    ):
        warm_start.start_from_model(DEFAULT, [elsewhere, sample("ctich", "ctich:053")], heads(1, 64))


@pytest.mark.parametrize("training", [{}, {"sources": ["ours"]}])
def test_a_card_that_does_not_say_on_whom_it_was_trained_is_warned_of(training, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv(models.FOLDER_VARIABLE, str(tmp_path))
    table = config.NetworkConfig(name="x", encoder="resnet18", size=64, start="model:mine")
    export_to(tmp_path, table, training=training)
    warm_start.start_from_model(table, [sample("ctich", "ctich:053")], heads(1, 64))
    assert "does not name its training patients" in caplog.text


@pytest.mark.slow
def test_a_run_begins_with_the_installed_network(config_file, data_root, tmp_path, monkeypatch):
    """At a rate of nothing the run's best checkpoint still answers as the .onnx."""
    monkeypatch.setenv(models.FOLDER_VARIABLE, str(tmp_path / "models"))
    path = config_file(samples=8, every=1)
    text = re.sub('encoder_weights = ".*"', 'start = "model:mine"', path.read_text())
    path.write_text(text.replace("[train]", "[train]\nrate = 1e-12"))
    loaded = config.load(path)
    card, content = export_to(tmp_path / "models", loaded.network, training={})
    loop.run(loaded, data_root, tmp_path / "run", progress=False)
    assert json.loads((tmp_path / "run/split.json").read_text())["encoder_weights"].endswith(card.sha256)
    network, images = networks.load_averaged_network(loaded, tmp_path / "run/best.ckpt"), heads(2, 96)
    # The first step's statistics moved the batch norms by a tenth of the way to those of a batch.
    assert np.abs(probabilities(network, images) - of_onnx(card, content, images)).mean() < 0.05


@pytest.mark.slow
def test_the_page_has_a_configuration_that_a_lab_can_copy(tmp_path):
    """Five patients' pictures beside it; only smaller and shorter than on the page."""
    page = (Path(__file__).parents[2] / "docs/training.md").read_text()
    text = page.split("```toml\n")[1].split("```")[0].replace("size = 320", "size = 64")
    (tmp_path / "ours.toml").write_text(text.replace("samples = 3200", "samples = 8, batch = 4, workers = 0"))
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / "ours" / kind).mkdir(parents=True)
    for number in range(5):
        grey, mask = training_sets.make_slice(rng, blood=True)
        Image.fromarray(grey).save(tmp_path / f"ours/images/p{number}.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / f"ours/masks/p{number}.png")
    assert main(["train", str(tmp_path / "ours.toml"), "-o", str(tmp_path / "run")]) == 0
    record = json.loads((tmp_path / "run/split.json").read_text())
    assert record["samples_done"] == 8 and record["encoder_weights"].startswith("the network default")
    export_it = ["--export", "--models", str(tmp_path / "models")]
    assert main(["train", str(tmp_path / "ours.toml"), "-o", str(tmp_path / "run"), *export_it]) == 0
    assert (tmp_path / "models/ours.onnx").is_file()
