"""A packed run: small, answers as the run does, with neighbours and without, and known for whom it was trained on."""

import hashlib
import json

import numpy as np
import pytest
import torch

from strokeseg.errors import TrainError
from strokeseg.training import augmentation, config, networks, packed_run, run_folder

NETWORK = {"name": "trial", "size": 64, "decoder_channels": (32, 24, 16, 12, 8), "neighbours": 1}
DATA = {"root": ".", "sources": {"ctich": 0.5, "head_ct": 0.5}, "validation": ["ctich"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder with an averaged network of random weights that sees neighbours."""
    folder = tmp_path_factory.mktemp("run")
    table = config.Config.model_validate({"data": DATA, "network": NETWORK, "train": {"samples": 16}})
    torch.manual_seed(2)
    network = networks.build(table.network)
    for parameter in network.parameters():
        if parameter.ndim == 4 and parameter.shape[1] == 3:
            torch.nn.init.normal_(parameter, 0, 0.2)
    for norm in (module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 2)
    state = {f"average.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state}, folder / run_folder.BEST)
    notes = {"config": table.model_dump(mode="json"), "validation_patients": ["ctich:067"]}
    (folder / run_folder.RECORD).write_text(json.dumps(notes))
    return folder, network.eval()


def make_settings(path, **changes):
    return config.NetworkConfig.model_validate(
        {**NETWORK, "start": f"file:{path.name}", **changes}, context={"folder": path.parent}
    )


def make_slice(source, patient):
    plane = np.zeros((augmentation.STORED_SIZE,) * 2, np.uint8)
    return augmentation.StoredSlice(source, patient, plane, plane, False)


def run_network(network, images):
    with torch.no_grad():
        return network.eval()(images)


def test_a_packed_run_is_half_as_large_and_answers_nearly_as_the_run(run, tmp_path):
    folder, network = run
    digest = packed_run.pack_run(folder, tmp_path / "trial.safetensors")
    content = (tmp_path / "trial.safetensors").read_bytes()
    assert digest == hashlib.sha256(content).hexdigest()
    assert len(content) < 0.55 * (folder / run_folder.BEST).stat().st_size
    started, words = packed_run.start_from_file(make_settings(tmp_path / "trial.safetensors"), [])
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = run_network(network, images)
    assert (run_network(started, images) - expected).abs().max() < 0.02 * expected.std()
    assert digest in words


def test_without_neighbours_it_answers_as_with_the_slice_repeated(run, tmp_path):
    folder, network = run
    packed_run.pack_run(folder, tmp_path / "trial.safetensors")
    alone, _ = packed_run.start_from_file(make_settings(tmp_path / "trial.safetensors", neighbours=0), [])
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    expected = run_network(network, images.repeat(1, 3, 1, 1))
    assert (run_network(alone, images) - expected).abs().max() < 0.02 * expected.std()


@pytest.mark.parametrize(
    ("source", "patient", "refused"),
    [
        ("ctich", "ctich:067", False),  # held out there
        ("ctich", "ctich:053", True),
        ("ctich_train", "ctich:053", True),  # slices of the same patients
        ("head_ct", "headct:1", True),
        ("mine", "mine:1", False),
    ],
)
def test_whoever_may_have_been_trained_on_does_not_validate(run, tmp_path, source, patient, refused):
    packed_run.pack_run(run[0], tmp_path / "trial.safetensors")
    named = make_settings(tmp_path / "trial.safetensors")
    if not refused:
        packed_run.start_from_file(named, [make_slice(source, patient)])
        return
    with pytest.raises(TrainError, match=f"may have been trained on {patient}"):
        packed_run.start_from_file(named, [make_slice(source, patient)])


def test_a_file_of_another_network_or_none_is_refused(run, tmp_path):
    path = tmp_path / "trial.safetensors"
    with pytest.raises(TrainError, match="no such file"):
        packed_run.start_from_file(make_settings(path), [])
    packed_run.pack_run(run[0], path)
    with pytest.raises(TrainError, match="another network"):
        packed_run.start_from_file(make_settings(path, decoder_channels=(64, 32, 16, 12, 8)), [])
    path.write_bytes(b"nothing")
    with pytest.raises(TrainError, match="is not a packed run"):
        packed_run.start_from_file(make_settings(path), [])


def test_a_configuration_names_the_file_relative_to_itself(run, tmp_path):
    packed_run.pack_run(run[0], tmp_path / "trial.safetensors")
    (tmp_path / "deeper").mkdir()
    base = 'data = { root = ".", sources = { mine = 1 }, validation = ["mine"] }\ntrain = { samples = 16 }\n'
    (tmp_path / "base.toml").write_text(base + '[network]\nname = "x"\nstart = "file:trial.safetensors"\n')
    (tmp_path / "deeper/mine.toml").write_text('extends = "../base.toml"\n')
    loaded = config.load(tmp_path / "deeper/mine.toml")
    assert loaded.network.start_file.resolve() == tmp_path / "trial.safetensors"
