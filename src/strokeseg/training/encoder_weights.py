"""The weights an encoder starts with: none, ImageNet's by download, or those of a file.

Weights for colour pictures are summed over the colours, which gives the same output for a grey picture.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from strokeseg.errors import TrainError
from strokeseg.training.config import NetworkConfig

State = dict[str, Tensor]
FIELD = "network.encoder_weights"

_WRITE_FILE = (
    "Write the file with `python -m tools.encoder_weights ENCODER FILE` in a clone of StrokeSeg, and use 'file:FILE'; "
    "or use 'imagenet' or 'none'."
)


def find_weights(settings: NetworkConfig, encoder_state: Mapping[str, Tensor], depth: int) -> tuple[State, str]:
    """Find the weights that an encoder starts with.

    Parameters
    ----------
    settings : NetworkConfig
        Names the encoder and the source of its weights.
    encoder_state : mapping of str to Tensor
        The state of the encoder as it was created.
    depth : int
        Number of its stages.

    Returns
    -------
    state : dict of str to Tensor
        The tensors to load. They may be fewer than the encoder's if a file declares itself partial.
    origin : str
        Where the weights come from, in words.

    Raises
    ------
    TrainError
        `train`, if the source is unknown, a file cannot be read or does not fit, or the download fails.
    """
    source = settings.encoder_weights
    if source in (None, "none"):
        return {}, "random"
    if source == "imagenet":
        return _download(settings.encoder, encoder_state, depth)
    if (path := settings.weights_file) is not None:
        return _read_file(path, encoder_state)
    # Values of versions up to 0.1.0; records and cards still hold them.
    if source in ("package", "nearest"):
        raise TrainError(f"{FIELD}: {source!r} is no longer supported", _WRITE_FILE)
    raise TrainError(f"{FIELD}: {source!r} is not 'none', 'imagenet' or 'file:PATH'")


def select_fitting(state: Mapping[str, Tensor], encoder_state: Mapping[str, Tensor]) -> State:
    """Select the tensors that an encoder has in the same shape, and sum colours if it takes grey.

    Parameters
    ----------
    state : mapping of str to Tensor
        Tensors by the encoder's names.
    encoder_state : mapping of str to Tensor
        The encoder's own state.

    Returns
    -------
    dict of str to Tensor
        The tensors that fit.
    """
    fitting = {}
    for key, value in state.items():
        if key not in encoder_state:
            continue
        if value.ndim == 4 and value.shape[1] == 3 and encoder_state[key].shape[1] == 1:
            value = value.sum(1, keepdim=True)
        if value.shape == encoder_state[key].shape:
            fitting[key] = value
    return fitting


def _require_whole(state: Mapping[str, Tensor], encoder_state: Mapping[str, Tensor], source: str) -> State:
    fitting = select_fitting(state, encoder_state)
    missing = [key for key in encoder_state if key not in fitting and not key.endswith("num_batches_tracked")]
    if missing:
        raise TrainError(
            f"{FIELD}: {source} lacks {missing[0]} in this shape, and {len(missing) - 1} more tensors of the encoder"
        )
    return fitting


def _download(encoder: str, encoder_state: Mapping[str, Tensor], depth: int) -> tuple[State, str]:
    import segmentation_models_pytorch as smp

    try:
        loaded = smp.encoders.get_encoder(encoder, in_channels=1, depth=depth, weights="imagenet")
    except KeyError as error:
        raise TrainError(f"{FIELD}: no ImageNet weights of {encoder} are offered for download: {error}") from None
    except Exception as error:  # each version of the download library raises its own
        raise TrainError(
            f"{FIELD}: the ImageNet weights of {encoder} could not be downloaded ({type(error).__name__})",
            "Without internet use 'file:PATH', or leave the entry out to start with random weights.",
        ) from error
    origin = f"ImageNet, downloaded by segmentation-models-pytorch {smp.__version__}"
    return _require_whole(loaded.state_dict(), encoder_state, "the download"), origin


def _read_file(path: Path, encoder_state: Mapping[str, Tensor]) -> tuple[State, str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TrainError(f"{FIELD}: {path} cannot be read: {error.strerror}") from None
    try:
        loaded = _load_safetensors(content) if path.suffix == ".safetensors" else _load_pickle(content)
    except Exception as error:  # torch raises a dozen kinds for damaged files
        raise TrainError(f"{FIELD}: {path.name} is not a state_dict: {type(error).__name__}") from error
    partial, origin = loaded.get("partial") is True, loaded.get("origin")
    for key in ("state_dict", "model"):
        loaded = loaded[key] if isinstance(loaded.get(key), dict) else loaded
    state = {key: value for key, value in loaded.items() if isinstance(value, Tensor)}
    if path.resolve().with_name("split.json").is_file() or any(key.startswith("average.") for key in state):
        # As a file, nobody would check whether that run was trained on validation patients of this one.
        raise TrainError(f"{FIELD}: {path.name} is a run's checkpoint", "Name the run as network.start.")
    # The file of a whole network names its encoder, a wrapped one its module; timm's encoders are wrapped here.
    renamings = [
        {added + key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        for prefix in ("", "encoder.", "module.", "model.")
        for added in ("", "model.")
    ]
    best = max(renamings, key=lambda renamed: len(select_fitting(renamed, encoder_state)))
    words = f"the file {path.name}, sha256 {hashlib.sha256(content).hexdigest()}"
    if isinstance(origin, str):
        words = f"{origin}, from {words}"
    if partial:
        fitting = select_fitting(best, encoder_state)
        return fitting, f"{words}: {len(fitting)} of {len(encoder_state)} tensors; the others random"
    return _require_whole(best, encoder_state, path.name), words


def _load_pickle(content: bytes) -> dict[str, Any]:
    loaded: dict[str, Any] = dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    return loaded


def _load_safetensors(content: bytes) -> dict[str, Any]:
    from safetensors.torch import load

    return dict(load(content))
