"""The mean of the weights of several networks."""

import copy
import json
from pathlib import Path

import pytest
import torch

from strokeseg.errors import TrainError
from strokeseg.training import config, loop, networks, weight_average

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def network():
    settings = config.load(ROOT / "configs/whole-scans.toml").network
    torch.manual_seed(1)
    built = networks.build(settings.model_copy(update={"start": None, "encoder_weights": None, "size": 64})).eval()
    for layer in built.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.weight, 0.5, 2)
            torch.nn.init.normal_(layer.bias)
            torch.nn.init.normal_(layer.running_mean)
            torch.nn.init.uniform_(layer.running_var, 0.5, 2)
    return built


def test_a_network_with_folded_batch_norms_answers_the_same(network):
    images = torch.rand(2, 3, 64, 64)
    folded = copy.deepcopy(network)
    weight_average.fold_batch_norms(folded, images)
    with torch.no_grad():
        expected = network(images)
        assert torch.allclose(folded(images), expected, atol=1e-4 * float(expected.abs().max()))
    assert folded.state_dict().keys() == network.state_dict().keys()
    norms = [layer for layer in folded.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert all((layer.weight == 1).all() and (layer.running_mean == 0).all() for layer in norms)


def test_the_mean_of_a_network_and_one_with_a_shifted_answer_is_between_them(network):
    images = torch.rand(1, 3, 64, 64)
    shifted = copy.deepcopy(network)
    shifted.segmentation_head[0].bias.data += 2
    mean = weight_average.average_weights([copy.deepcopy(network), shifted], [3, 1], images)
    with torch.no_grad():
        expected = network(images)
        assert torch.allclose(mean(images), expected + 0.5, atol=1e-4 * float(expected.abs().max()))


def test_networks_with_other_layers_are_refused(network):
    settings = config.load(ROOT / "configs/whole-scans.toml").network
    table = settings.model_copy(
        update={"start": None, "encoder_weights": None, "size": 64, "decoder_channels": (8,) * 5}
    )
    with pytest.raises(TrainError, match="different layers"):
        weight_average.average_weights(
            [copy.deepcopy(network), networks.build(table).eval()], [1, 1], torch.rand(1, 3, 64, 64)
        )


@pytest.mark.slow
def test_the_mean_of_a_run_with_itself_is_the_run(config_file, data_root, tmp_path):
    """Written as a run: with the scores and the record that an export needs."""
    path = config_file(samples=16, every=2)
    loop.run(config.load(path), data_root, tmp_path / "runs/trial", progress=False)
    mean = path.with_name("mean.toml")
    mean.write_text('extends = "trial.toml"\n[network]\nname = "mean"\n[average]\ntrial = 0.5\n')
    loaded = config.load(mean)
    checkpoint = weight_average.write_average(loaded, data_root, tmp_path / "runs/mean")
    images = torch.rand(2, 1, 96, 96)
    one = networks.load_averaged_network(config.load(path), tmp_path / "runs/trial/best.ckpt")
    with torch.no_grad():
        expected = one(images)
        answer = networks.load_averaged_network(loaded, checkpoint)(images)
    assert torch.allclose(answer, expected, atol=1e-4 * float(expected.abs().max()))
    record = json.loads((checkpoint.parent / "split.json").read_text())
    assert record["encoder_weights"] == "mean of weights: 0.5 of trial"
    assert (checkpoint.parent / "metrics.csv").read_text().startswith("step,detection_auc,dice")
