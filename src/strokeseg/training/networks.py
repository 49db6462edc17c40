"""Networks of segmentation-models-pytorch by name: one grey channel per slice in, one logit per pixel out."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from strokeseg.errors import TrainError
from strokeseg.training import encoder_weights
from strokeseg.training.config import Config, NetworkConfig

# What smp raises for a name, option or size that it does not take.
_REFUSALS = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)


def build(table: NetworkConfig) -> nn.Module:
    """Build a network; see :func:`build_with_origin`."""
    return build_with_origin(table)[0]


def build_with_origin(table: NetworkConfig) -> tuple[nn.Module, str]:
    """Build a network, (slices, channels, size, size) in -1..1 to logits, (slices, 1, size, size).

    The channels are the slice, or the slices below, this and above (``network.neighbours``).

    Parameters
    ----------
    table : NetworkConfig
        The settings of the network.

    Returns
    -------
    network : torch.nn.Module
        The network.
    origin : str
        Where the weights of its encoder come from, in words.

    Raises
    ------
    TrainError
        `train`, if the architecture, the encoder or an option is unknown or they do not fit together, or as
        :func:`strokeseg.training.encoder_weights.find_weights` raises.
    """
    if table.neighbours:
        single, origin = build_with_origin(table.model_copy(update={"neighbours": 0}))
        return adapt_channels(single, table), origin
    network = _create(table)
    encoder: Any = network.encoder
    state, origin = encoder_weights.find_weights(table, encoder.state_dict(), getattr(encoder, "_depth", 5))
    if state:
        encoder.load_state_dict({**encoder.state_dict(), **state})
    _check_output(network, table)
    return network, origin


def adapt_channels(network: nn.Module, table: NetworkConfig) -> nn.Module:
    """Adapt a network to the number of slices that it gets.

    A network of single slices gets weight 0 for the neighbours: its output stays the same. If a network with
    neighbours becomes one of single slices, the weights of the three are summed: its output is what it was with the
    slice itself in place of its neighbours.

    Parameters
    ----------
    network : torch.nn.Module
        A network of the same settings, except for ``neighbours``.
    table : NetworkConfig
        The settings.

    Returns
    -------
    torch.nn.Module
        Another network.

    Raises
    ------
    TrainError
        `train`, if the input layers are not convolutions.
    """
    adapted = _create(table)
    state, expected = dict(network.state_dict()), adapted.state_dict()
    for key, value in state.items():
        if value.shape == expected[key].shape:
            continue
        if value.ndim != 4 or {value.shape[1], expected[key].shape[1]} != {1, 3}:
            raise TrainError(f"network.neighbours: {table.architecture} with {table.encoder} cannot use neighbours")
        if value.shape[1] == 3:
            state[key] = value.sum(1, keepdim=True)
        else:
            state[key] = torch.zeros_like(expected[key])
            state[key][:, table.neighbours] = value[:, 0]
    adapted.load_state_dict(state)
    _check_output(adapted, table)
    return adapted


def load_averaged_network(config: Config, checkpoint: Path) -> nn.Module:
    """Load the averaged network of a checkpoint, in evaluation mode."""
    network = build(config.network.model_copy(update={"encoder_weights": None}))
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    network.load_state_dict({key[8:]: value for key, value in state.items() if key.startswith("average.")})
    return network.eval()


def _create(table: NetworkConfig) -> nn.Module:
    import segmentation_models_pytorch as smp

    kind = smp.MODEL_ARCHITECTURES_MAPPING.get(table.architecture.lower())
    if kind is None:
        known = ", ".join(smp.MODEL_ARCHITECTURES_MAPPING)
        raise TrainError(f"network.architecture: {table.architecture!r} is not one of {known}")
    taken = inspect.signature(kind).parameters
    options = dict(table.options)
    if table.architecture.lower() in ("unet", "unetplusplus", "manet"):
        options.setdefault("decoder_channels", table.decoder_channels)
    if table.decoder_attention is not None:
        options["decoder_attention_type"] = table.decoder_attention
    # Several architectures ignore what they do not know.
    for name in options:
        if name not in taken or name in ("encoder_name", "encoder_weights", "in_channels", "classes", "activation"):
            place = "network.decoder_attention" if name == "decoder_attention_type" else f"network.options.{name}"
            raise TrainError(f"{place}: {table.architecture} does not take it", f"It takes {', '.join(taken)}.")
    try:
        network: nn.Module = smp.create_model(
            table.architecture, table.encoder, encoder_weights=None, in_channels=table.channels, classes=1, **options
        )
    except _REFUSALS as error:
        raise TrainError(f"network: {table.architecture} with {table.encoder} cannot be built: {error}") from None
    return network


def _check_output(network: nn.Module, table: NetworkConfig) -> None:
    """Run the network on an empty slice; if its output has another size, add a step that resizes it."""
    training = network.training
    try:
        with torch.no_grad():
            answer = network.eval()(torch.zeros(1, table.channels, table.size, table.size))
    except _REFUSALS as error:
        raise TrainError(
            f"network: {table.architecture} with {table.encoder} does not take {table.size} pixels: {error}"
        ) from None
    if not isinstance(answer, Tensor) or answer.ndim != 4 or answer.shape[1] != 1:
        raise TrainError("network.options: the network must answer one map", "Leave its other outputs out.")
    if answer.shape[-1] != table.size:
        network.register_forward_hook(_resize_to_input)
    network.train(training)


def _resize_to_input(_: nn.Module, inputs: tuple[Tensor], answer: Tensor) -> Tensor:
    return functional.interpolate(answer, inputs[0].shape[-2:], mode="bilinear", align_corners=False)
