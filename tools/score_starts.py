"""Score starting weights on the validation patients of a configuration: the tables "Whole scans" of docs/training.md.

`python -m tools.score_starts configs/whole-scans.toml checkpoints/whole-scans.safetensors --data FOLDER` scores the
shipped network, the packed run with neighbouring slices and with each slice in place of its neighbours, and the mean of
both networks' weights. Nothing is trained, and no test patient is read. On two cores it takes about half an hour.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from strokeseg.evaluation.detection import roc_auc
from strokeseg.segmentation.preprocess import resize
from strokeseg.training import config, packed_run, split, validation, warm_start
from strokeseg.training.augmentation import StoredSlice
from strokeseg.training.slices import ValidationSlices

MODEL = "model:default"
QUIET_THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)
WHOLE = "ctich"


def main() -> None:
    """Score every network, and print both tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configuration", type=Path)
    parser.add_argument("packed", type=Path, help="a packed run (.safetensors)")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    arguments = parser.parse_args()
    settings = config.load(arguments.configuration)
    held_out = split.load_split(settings, arguments.data).held_out
    file = f"file:{arguments.packed.resolve()}"

    def make_images(neighbours: int) -> torch.Tensor:
        return torch.rand(2, 1 + 2 * neighbours, settings.network.size, settings.network.size) * 2 - 1

    def start(source: str, neighbours: int) -> nn.Module:
        table = settings.network.model_copy(update={"start": source, "neighbours": neighbours})
        if source == MODEL:
            return warm_start.start_from_model(table, held_out, make_images(neighbours))[0].eval()
        return packed_run.start_from_file(table, held_out)[0].eval()

    neighbours = settings.network.neighbours
    networks = {
        "shipped, slice by slice": (start(MODEL, 0), 1),
        "packed run": (start(file, neighbours), settings.network.channels),
        "packed run, the slice in place of its neighbours": (start(file, 0), 1),
        "mean of both networks' weights": (
            average_weights(start(MODEL, neighbours), start(file, neighbours), make_images(neighbours)),
            settings.network.channels,
        ),
    }
    scored = {
        name: score(network, held_out, settings.network.size, channels)
        for name, (network, channels) in networks.items()
    }
    print_scores(scored)
    print_quiet(scored)


def average_weights(one: nn.Module, other: nn.Module, images: torch.Tensor) -> nn.Module:
    """Average the weights of two networks after folding their batch norms; changes both, returns the first."""
    for network in (one, other):
        fold_batch_norms(network, images)
    beside = other.state_dict()
    one.load_state_dict(
        {
            key: (value + beside[key]) / 2 if value.is_floating_point() else value
            for key, value in one.state_dict().items()
        }
    )
    return one


def fold_batch_norms(network: nn.Module, images: torch.Tensor) -> None:
    """Fold every batch norm into the convolution that runs before it on some images; the output stays the same."""
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
            layer.weight, layer.bias = fuse_conv_bn_weights(
                layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            nn.init.ones_(norm.weight), nn.init.zeros_(norm.bias)
            norm.running_mean.zero_(), norm.running_var.fill_(1 - norm.eps)


def score(network: nn.Module, held_out: list[StoredSlice], size: int, channels: int) -> dict[str, Any]:
    """Score one network; adds the slice AUC of CT-ICH and its quiet slices at fixed thresholds."""
    slices = ValidationSlices(held_out, size, channels)
    by_slice = {}
    with torch.inference_mode():
        for index in range(len(slices)):
            logits = network(slices[index]["image"][None])[0, 0]
            mask = held_out[index].mask
            by_slice[index] = validation.score_slice(resize(torch.sigmoid(logits).numpy(), mask.shape), mask)
    scores = validation.score_held_out(held_out, by_slice)
    whole = [(bool(s.counts[0, 2]), s) for index, s in by_slice.items() if held_out[index].source == WHOLE]
    scores["whole_auc"] = roc_auc([blood for blood, _ in whole], [s.score for _, s in whole])
    rows = [int(np.abs(validation.THRESHOLDS - threshold).argmin()) for threshold in QUIET_THRESHOLDS]
    scores["whole_quiet"] = np.mean([s.counts[rows, 1] == 0 for blood, s in whole if not blood], axis=0)
    best = int(np.abs(validation.THRESHOLDS - scores["threshold"]).argmin())
    without = {held_out[i].patient for i in by_slice if held_out[i].source == WHOLE} - {
        held_out[i].patient for i, s in by_slice.items() if s.counts[0, 2]
    }
    scores["false_pixels"] = sum(int(s.counts[best, 1]) for i, s in by_slice.items() if held_out[i].patient in without)
    return scores


def print_scores(scored: dict[str, dict[str, Any]]) -> None:
    """Print threshold, Dice by source, Dice of whole patients, AUC and decisions by patient."""
    sources = list(next(iter(scored.values()))["sources"])
    whole = list(next(iter(scored.values()))["whole"])
    headings = ["network", "threshold", *(f"Dice {name}" for name in sources), *(f"whole {name}" for name in whole)]
    headings += [f"slice AUC {WHOLE}", "patient AUC", "sensitivity", "specificity", "false pixels"]
    print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    for name, scores in scored.items():
        values = [scores["sources"][source] for source in sources] + [scores["whole"][source] for source in whole]
        values += [scores["whole_auc"], *(scores[key] for key in validation.PATIENT_SCORES)]
        cells = [
            name,
            f"{scores['threshold']:.2f}",
            *(f"{value:.3f}" for value in values),
            f"{scores['false_pixels']:,}",
        ]
        print(f"| {' | '.join(cells)} |")


def print_quiet(scored: dict[str, dict[str, Any]]) -> None:
    """Print the share of CT-ICH slices without hemorrhage in which no pixel is marked, at fixed thresholds."""
    print(f"\n| quiet at | {' | '.join(map(str, QUIET_THRESHOLDS))} |\n|---|{'---|' * len(QUIET_THRESHOLDS)}")
    for name, scores in scored.items():
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in scores['whole_quiet'])} |")


if __name__ == "__main__":
    main()
