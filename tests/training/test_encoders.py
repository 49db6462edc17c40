"""Encoder weights of a file, and networks that cannot be built."""

import pytest
import torch

from strokeseg.errors import TrainError
from strokeseg.training import (
    config,
    networks,
)


@pytest.mark.slow
def test_the_encoder_weights_of_a_file_fit_and_are_not_random(encoder_file):
    table = config.NetworkConfig(name="x", encoder_weights=f"file:{encoder_file}", size=64)
    pretrained, bare = networks.build(table), networks.build(table.model_copy(update={"encoder_weights": None}))
    weight = "encoder.model.conv_stem.weight"
    assert pretrained.state_dict()[weight].std() > 1.5 * bare.state_dict()[weight].std()
    with torch.no_grad():
        assert pretrained.eval()(torch.zeros(1, 1, 64, 64)).shape == (1, 1, 64, 64)


@pytest.mark.parametrize("changes", [{"architecture": "castle"}, {"encoder": "cloud"}, {"encoder_weights": "hub"}])
def test_a_network_that_cannot_be_built_is_refused(changes):
    with pytest.raises(TrainError, match="network"):
        networks.build(config.NetworkConfig(name="x", size=64).model_copy(update=changes))
