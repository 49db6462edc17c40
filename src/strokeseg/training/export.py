"""Export a run's best checkpoint as a model: NAME.onnx, and its card as data and as prose.

Every figure on the card is computed here, with the exported file and ONNX Runtime, as on a user's machine.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import onnx
import torch

from strokeseg.errors import CorruptModel, TrainError, UsageError
from strokeseg.segmentation import models
from strokeseg.segmentation.engines.onnxruntime import OnnxRuntime
from strokeseg.segmentation.models import SHIPPED_FOLDER, Card
from strokeseg.segmentation.preprocess import apply_window, resize
from strokeseg.training import data, decoder_rewrite, own_datasets, run_folder, split
from strokeseg.training.augmentation import Floats32, StoredSlice
from strokeseg.training.calibration import fit
from strokeseg.training.card_scores import score_test_set, score_validation
from strokeseg.training.card_text import render_card
from strokeseg.training.config import Config
from strokeseg.training.networks import load_averaged_network
from strokeseg.training.quantize import quantize
from strokeseg.version import __version__

_log = logging.getLogger(__name__)

SMALLEST_MM3 = 100.0
"""Volume below which a component is dropped: 5 mm across on one 5 mm slice."""
SMALLEST_SHARE = 4e-4
"""The same bound where the spacing is unknown: 100 mm³ of a head's square of 225 mm, 5 mm per slice."""

LICENCE = (
    "Non-commercial research use: several training sets (RSNA 2019, PHE-SICH-CT-IDS) allow no other, and of one "
    "(Head CT hemorrhage, Kaggle) the licence could not be verified. "
    "The code around it is MIT."
)
OWN_LICENCE = "What the training sets allow: {}. The code around it is MIT."
LIMITS = [
    "Research use only: not a medical device, not validated for diagnosis.",
    "Non-contrast axial head CT. The training data had no contrast medium, metal, motion or bone kernels.",
    "Isodense or thin subdural hematomas and subarachnoid hemorrhage are often missed.",
    "If the spacing is known, components under 0.1 ml are left out, whether they are hemorrhage or not.",
    "Falx, tentorium, choroid plexus, calcifications and the skull base can be mistaken for hemorrhage.",
    "It segments each slice alone and does not use the neighbouring slices.",
    fit.UNCALIBRATED_LIMIT,
]


def export(config: Config, out: Path, root: Path, folder: Path | None = None, *, int8: str | None = None) -> Card:
    """Export the best checkpoint of a run, score it, and write the network and its card.

    Parameters
    ----------
    config : Config
        The run's configuration.
    out : Path
        The run's folder, with `best.ckpt` and `split.json`.
    root : Path
        Folder of the data sets. The test set is scored if it is there.
    folder : Path, optional
        Folder to write to. Default: the package's own.
    int8 : str, optional
        Quantise the network to 8-bit integers and write it under this name.

    Returns
    -------
    Card
        The written card.

    Raises
    ------
    TrainError
        `train`, if there is no run, the run had another configuration, or ONNX Runtime's result differs from torch's.
    UsageError
        `usage`, if the name for int8 is invalid or is taken by a network of another precision.
    """
    folder = folder or SHIPPED_FOLDER
    if int8 is not None:
        _check_name(int8, folder)
    card, weights = build_model(config, out, root, int8=int8)
    card = _keep_calibration(card, folder)
    if card.calibration is None:
        _log.warning("%s: not calibrated; run `strokeseg calibrate %s --data FOLDER`", card.name, card.name)
    models.save_model(card, weights, folder, render_card(card))
    return card


def _keep_calibration(card: Card, folder: Path) -> Card:
    """Take over the calibration of an earlier card of the same network, threshold and size limits."""
    try:
        earlier = models.read_card(folder / f"{card.name}.json")
    except CorruptModel:
        return card
    same = ("sha256", "threshold", "smallest_mm3", "smallest_share")
    if earlier.calibration is None or any(getattr(card, name) != getattr(earlier, name) for name in same):
        return card
    return fit.add_calibration(card, earlier.calibration)


def build_model(config: Config, out: Path, root: Path, *, int8: str | None = None) -> tuple[Card, bytes]:
    """Export the best checkpoint of a run and score it, without writing anything.

    Parameters
    ----------
    config : Config
        The run's configuration.
    out : Path
        The run's folder, with `best.ckpt` and `split.json`.
    root : Path
        Folder of the data sets. The test set is scored if it is there.
    int8 : str, optional
        Quantise the network to 8-bit integers and give it this name.

    Returns
    -------
    card : Card
        The card, without a calibration.
    weights : bytes
        The network as ONNX.

    Raises
    ------
    TrainError
        As :func:`export`.
    """
    if config.network.neighbours:
        raise TrainError(
            f"{config.network.name} uses neighbouring slices, which `strokeseg segment` cannot supply yet",
            "Export a network with network.neighbours = 0.",
        )
    checkpoint, record_file = out / run_folder.BEST, out / run_folder.RECORD
    if not checkpoint.is_file() or not record_file.is_file():
        raise TrainError(f"{out}: no best.ckpt and split.json of a run", "Train first, or name the run's folder.")
    record = json.loads(record_file.read_text(encoding="utf-8"))
    recorded = run_folder.fill_defaults(record["config"])
    current = config.model_dump(mode="json")
    if difference := run_folder.describe_difference(
        recorded, {**recorded, "data": current["data"], "network": current["network"]}, ("data.root",)
    ):
        raise TrainError(
            f"{out}: this run was trained with {difference}", "Export with the configuration of the training."
        )
    loaded = split.load_split(config, root)
    if sorted(loaded.validation_patients) != record["validation_patients"]:
        raise TrainError(
            f"{out}: the data and the configuration give other validation patients than the run had",
            "Export with the data and the configuration of the training.",
        )
    weights = convert_to_onnx(config, checkpoint)
    if int8:
        weights = quantize(weights, _typical_images(loaded.training, config.network.size))
        draft = _make_card(config, weights, 0.5, {}, {}).model_copy(update={"name": int8, "precision": "int8"})
    else:
        weights = decoder_rewrite.rewrite_decoder(weights)
        draft = _make_card(config, weights, 0.5, {}, {})
    engine = OnnxRuntime(draft, weights, 0)
    threshold, validation_metrics = score_validation(loaded.held_out, engine)
    training = {
        "sources": _source_records(config, record["slices"]),
        "validation_patients": record["validation_patients"],
        **({"split": record["split"]} if "split" in record else {}),
        "run": {name: record[name] for name in run_folder.RUN_FACTS if name in record},
        "config": _without_absolute_paths(recorded),
    }
    metrics = {"validation": validation_metrics, **score_test_set(root, engine, threshold, loaded)}
    card = draft.model_copy(update={"threshold": threshold, "training": training, "metrics": metrics})
    return card, weights


def _check_name(name: str, folder: Path) -> None:
    """Refuse a name that is invalid or that a network of another precision has."""
    if not re.fullmatch(Card.model_json_schema()["properties"]["name"]["pattern"], name):
        raise UsageError(
            f"--int8: {name!r} is not a valid name of a network",
            "Use up to 64 letters, digits, dots, dashes and underscores.",
        )
    taken = folder / f"{name}.json"
    if taken.is_file() and json.loads(taken.read_text(encoding="utf-8")).get("precision") != "int8":
        raise UsageError(f"--int8: {folder} holds another network {name!r}", "Choose another name.")


def _without_absolute_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """Reduce the paths of a recorded configuration that belong to one machine to their last part."""
    data_table, network = dict(config["data"]), dict(config["network"])
    data_table["root"], data_table["split"] = _last_part(data_table["root"]), _last_part(data_table.get("split"))
    data_table["own"] = {
        name: {**table, "folder": _last_part(table["folder"])} for name, table in data_table.get("own", {}).items()
    }
    weights = network.get("encoder_weights")
    if weights and weights.startswith("file:"):
        network["encoder_weights"] = f"file:{_last_part(weights.removeprefix('file:'))}"
    return {**config, "data": data_table, "network": network}


def _last_part(path: str | None) -> str | None:
    for kind in (PurePosixPath, PureWindowsPath):
        if path is not None and (kind(path).is_absolute() or kind(path).parts[:1] == ("..",)):
            return kind(path).name
    return path


def _combined_licence(config: Config) -> str:
    """Return the licence that the sources in use allow."""
    used = [name for name, share in config.data.sources.items() if share > 0]
    if any(name in data.SOURCES for name in used):
        return LICENCE
    return OWN_LICENCE.format("; ".join(f"{name}: {config.data.own[name].licence}" for name in used))


def _typical_images(samples: list[StoredSlice], size: int) -> Iterator[Floats32]:
    """Yield 64 training slices as input images of the network, evenly from all sources."""
    for index in np.linspace(0, len(samples) - 1, 64).astype(int):
        yield (resize(apply_window(samples[index].hu), (size, size)) * 2 - 1)[None, None]


def convert_to_onnx(config: Config, checkpoint: Path) -> bytes:
    """Convert the averaged network to ONNX, and check its logits against torch's.

    Parameters
    ----------
    config : Config
        The run's configuration.
    checkpoint : Path
        The run's checkpoint.

    Returns
    -------
    bytes
        ONNX, (1, 1, size, size) in -1..1 to logits of the same shape.

    Raises
    ------
    TrainError
        `train`, if ONNX Runtime's logits differ from torch's by more than 0.01.
    """
    network = load_averaged_network(config, checkpoint)
    size = config.network.size
    image = torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        path = Path(folder, "network.onnx")
        # The newer exporter needs onnxscript and gives the same graph for these networks.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (image,), path, dynamo=False, opset_version=17, input_names=["image"], output_names=["logits"]
        )
        expected = network(image).numpy()
        weights = path.read_bytes()
    onnx.checker.check_model(onnx.load_from_string(weights))
    engine = OnnxRuntime(_make_card(config, weights, 0.5, {}, {}), weights, 0)
    difference = float(np.abs(engine.logits(image.numpy()) - expected[0, 0]).max())
    if difference > 1e-2:
        raise TrainError(
            f"ONNX Runtime's logits differ from torch's by up to {difference:.3g}",
            "Export with other versions of torch and ONNX Runtime.",
        )
    return weights


def _make_card(
    config: Config, weights: bytes, threshold: float, training: dict[str, Any], metrics: dict[str, Any]
) -> Card:
    network = config.network
    return Card(
        name=network.name,
        version=__version__,
        sha256=hashlib.sha256(weights).hexdigest(),
        precision="fp32",
        architecture=f"{network.architecture}, {network.encoder}, decoder {list(network.decoder_channels)}",
        size=network.size,
        threshold=threshold,
        smallest_mm3=SMALLEST_MM3,
        smallest_share=SMALLEST_SHARE,
        licence=_combined_licence(config),
        limits=LIMITS,
        training=training,
        metrics=metrics,
    )


def _source_records(config: Config, slices: dict[str, dict[str, int]]) -> list[dict[str, Any]]:
    total = sum(config.data.sources.values())
    sources = {**data.SOURCES, **own_datasets.make_sources(config.data.own)}
    return [
        {
            "name": name,
            "about": sources[name].about,
            "licence": sources[name].licence,
            "share": round(share / total, 3),
            **slices[name],
        }
        for name, share in config.data.sources.items()
    ]
