"""Average the weights of several networks of one architecture into one network.

A fine-tuned network forgets some of what its start knew; the mean of the weights of both is often better than either
(Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022). Batch norms are folded first, so that networks
whose layers are scaled differently can be averaged.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from strokeseg.errors import TrainError
from strokeseg.segmentation.preprocess import resize
from strokeseg.training import networks, run_folder, split, validation, warm_start
from strokeseg.training.augmentation import StoredSlice
from strokeseg.training.config import Config
from strokeseg.training.slices import ValidationSlices
from strokeseg.training.validation import SliceScores

FIELD = "average"


def write_average(config: Config, root: Path, out: Path) -> Path:
    """Average the networks that the configuration names, validate the mean, and write it as a run.

    Parameters
    ----------
    config : Config
        With ``average``; earlier runs are looked for beside ``out``.
    root : Path
        Folder of the data sets.
    out : Path
        Folder for `best.ckpt`, `metrics.csv` and `split.json`; created if missing.

    Returns
    -------
    Path
        The checkpoint.

    Raises
    ------
    TrainError
        `train`, if a network cannot be used or may have been trained on a validation patient.
    """
    torch.manual_seed(config.train.seed)
    samples = split.load_split(config, root)
    images = torch.rand(2, 1, config.network.size, config.network.size) * 2 - 1
    members = [_load(name, config, out.parent, samples, images) for name in config.average]
    network = average_weights(members, list(config.average.values()), images)
    out.mkdir(parents=True, exist_ok=True)
    scores = _validate(network, samples.held_out, config.network.size)
    checkpoint = out / run_folder.BEST
    torch.save({"state_dict": {f"average.{key}": value for key, value in network.state_dict().items()}}, checkpoint)
    run_folder.MetricsFile(out / "metrics.csv", 0).log_metrics(scores, 0)
    shares = ", ".join(f"{share:g} of {name}" for name, share in config.average.items())
    run_folder.write_record(
        out,
        {
            **run_folder.make_record(config, samples, samples.training),
            "encoder_weights": f"mean of weights: {shares}",
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "torch": torch.__version__,
        },
    )
    return checkpoint


def _load(name: str, config: Config, runs: Path, samples: split.Split, images: Tensor) -> nn.Module:
    """Load an installed network ("model:NAME") or a run beside this one."""
    if name.startswith(warm_start.MODEL_PREFIX):
        table = config.network.model_copy(update={"start": name})
        return warm_start.start_from_model(table, samples.held_out, images)[0].eval()
    earlier = run_folder.find_earlier_run(runs / name, samples.validation_patients, FIELD)
    if earlier.config.network.channels != 1:
        raise TrainError(f"{FIELD}: {name} uses neighbouring slices", "Average networks of single slices.")
    return networks.load_averaged_network(earlier.config, earlier.checkpoint)


def average_weights(members: Sequence[nn.Module], shares: Sequence[float], images: Tensor) -> nn.Module:
    """Average the weights of networks after folding their batch norms.

    Parameters
    ----------
    members : sequence of Module
        The networks, of one architecture; their batch norms are folded in place.
    shares : sequence of float
        Share of each; their sum is made 1.
    images : Tensor, shape (n, channels, size, size)
        Any input: it shows in which order the layers run.

    Returns
    -------
    Module
        The first network, with the averaged weights.

    Raises
    ------
    TrainError
        `train`, if the layers of the networks differ.
    """
    for network in members:
        fold_batch_norms(network, images)
    states = [network.state_dict() for network in members]
    shapes = [{key: value.shape for key, value in state.items()} for state in states]
    if any(shape != shapes[0] for shape in shapes):
        raise TrainError(f"{FIELD}: the networks have different layers", "Average networks of one architecture.")
    whole = sum(shares)
    members[0].load_state_dict(
        {
            key: sum(state[key] * (share / whole) for state, share in zip(states, shares, strict=True))
            if value.is_floating_point()
            else value
            for key, value in states[0].items()
        }
    )
    return members[0]


def fold_batch_norms(network: nn.Module, images: Tensor) -> None:
    """Fold the scale of every batch norm into the convolution that runs before it; the output stays the same.

    The batch norm keeps only a shift, so the layers stay what they were.

    Parameters
    ----------
    network : Module
        The network; changed in place.
    images : Tensor, shape (n, channels, size, size)
        Any input: it shows in which order the layers run.
    """
    layers: list[Any] = []
    hooks = [
        layer.register_forward_hook(lambda layer, *_: layers.append(layer))
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)
    ]
    with torch.no_grad():
        network.eval()(images)
    for hook in hooks:
        hook.remove()
    for layer, norm in itertools.pairwise(layers):
        if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None and norm.running_var is not None
            weight, bias = fuse_conv_bn_weights(
                layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            layer.weight.data.copy_(weight)
            if layer.bias is not None:
                layer.bias.data.zero_()
            norm.reset_running_stats()
            norm.running_var.fill_(1 - norm.eps)
            norm.weight.data.fill_(1)
            norm.bias.data.copy_(bias)


def score_slices(network: nn.Module, held_out: list[StoredSlice], size: int, channels: int) -> dict[int, SliceScores]:
    """Score a network on each of the held-out slices, by their index."""
    slices, by_slice = ValidationSlices(held_out, size, channels), {}
    with torch.inference_mode():
        for index, sample in enumerate(held_out):
            probability = torch.sigmoid(network(slices[index]["image"][None])[0, 0]).numpy()
            by_slice[index] = validation.score_slice(resize(probability, sample.mask.shape), sample.mask)
    return by_slice


def _validate(network: nn.Module, held_out: list[StoredSlice], size: int) -> Mapping[str, float]:
    scores = validation.score_held_out(held_out, score_slices(network, held_out, size, channels=1))
    names = ("dice", "threshold", "recall", "detection_auc", "quiet", *validation.PATIENT_SCORES)
    return {
        **{name: scores[name] for name in names if scores[name] is not None},
        **{f"dice/{name}": value for name, value in scores["sources"].items()},
        **{f"whole_dice/{name}": value for name, value in scores["whole"].items()},
    }
