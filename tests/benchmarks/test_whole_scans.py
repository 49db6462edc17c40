import copy
import hashlib
from pathlib import Path

import pytest
import torch

from benchmarks import whole_scans
from strokeseg.training import config, networks

ROOT = Path(__file__).parents[2]
FIGURES = whole_scans.WholeScanFigures.model_validate_json((ROOT / "benchmarks/whole_scans.json").read_bytes())


def test_the_page_shows_the_stored_figures():
    """`python -m benchmarks whole-scans --page-only` writes it again."""
    assert (ROOT / "docs/whole-scans.md").read_text() == whole_scans.render_page(FIGURES)


def test_the_stored_figures_are_of_the_checkpoint_that_is_there():
    checkpoint = (ROOT / "checkpoints" / FIGURES.packed).read_bytes()
    assert hashlib.sha256(checkpoint).hexdigest() == FIGURES.packed_sha256


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
    whole_scans.fold_batch_norms(folded, images)
    with torch.no_grad():
        expected = network(images)
        assert torch.allclose(folded(images), expected, atol=1e-4 * float(expected.abs().max()))
    norms = [layer for layer in folded.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert all((layer.weight == 1).all() and (layer.running_mean == 0).all() for layer in norms)


def test_the_mean_of_a_network_and_one_with_a_shifted_answer_is_between_them(network):
    images = torch.rand(1, 3, 64, 64)
    shifted = copy.deepcopy(network)
    shifted.segmentation_head[0].bias.data += 2
    mean = whole_scans.average_weights(copy.deepcopy(network), shifted, images)
    with torch.no_grad():
        expected = network(images)
        assert torch.allclose(mean(images), expected + 1, atol=1e-4 * float(expected.abs().max()))
