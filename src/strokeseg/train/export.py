"""From a run's best checkpoint to a shipped network: NAME.onnx, and its card as data and as prose.

Every figure on the card is computed here, with the exported file and ONNX Runtime, as a user's machine runs it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from scipy.special import expit

from strokeseg import evaluate, infer
from strokeseg.errors import TrainError
from strokeseg.evaluate.metrics import bootstrap_interval
from strokeseg.infer.engine import OnnxRuntime
from strokeseg.infer.models import SHIPPED, Card
from strokeseg.infer.preprocess import resize, window
from strokeseg.read import read_one
from strokeseg.train import data, loop, split
from strokeseg.train.augment import Stored
from strokeseg.train.config import Config
from strokeseg.version import __version__

TEST_SET = "ctich_jpg"
"""Patients whom no training and no choice has seen: reported on the card, never chosen by."""

SMALLEST_MM3 = 100.0
"""A speck's bound: a spot of 5 mm across on one 5 mm slice."""
SMALLEST_SHARE = 4e-4
"""The same bound where the spacing is unknown: 100 mm³ of a head's square of 225 mm at 5 mm a slice."""

LICENCE = (
    "Non-commercial research use: several training sets (RSNA 2019, PHE-SICH-CT-IDS) allow no other, and of one "
    "(Head CT hemorrhage, Kaggle) the licence could not be verified. "
    "The code around it is MIT."
)
LIMITS = [
    "Research use only; no medical device, not validated for diagnosis.",
    "Non-contrast axial head CT. Contrast medium, metal, motion and bone kernels were not in the training.",
    "Isodense and thin subdural bleeds and subarachnoid blood are often missed.",
    "Where the spacing is known, what is under 0.1 ml is left out, blood or not.",
    "Falx, tentorium, choroid plexus, calcifications and the skull's base can be taken for blood.",
    "Works slice by slice: what only a neighbouring slice could tell is not used.",
    "Its probabilities are not calibrated, and it gives no interval of the volume.",
]


def export(config: Config, out: Path, root: Path, models: Path | None = None) -> Card:
    """Export the best checkpoint of a run, score it, and write network and card.

    Parameters
    ----------
    config : of the run
    out : the run's folder, with `best.ckpt` and `split.json`
    root : folder of the data sets; the test set is scored where it is there
    models : folder to write to; the package's own where not given

    Raises
    ------
    TrainError
        `train`, if the run is not there or ONNX Runtime answers otherwise than torch
    """
    checkpoint, record = out / "best.ckpt", out / "split.json"
    if not checkpoint.is_file() or not record.is_file():
        raise TrainError(f"{out}: no best.ckpt and split.json of a run", "Train first, or name the run's folder.")
    sides = json.loads(record.read_text(encoding="utf-8"))
    weights = to_onnx(config, checkpoint)
    draft = _card(config, weights, 0.5, {"split": sides["slices"]}, {})
    engine = OnnxRuntime(draft, weights, 0)
    everyone = loop.stored_samples(config, root)
    _, held_out = split.split(everyone, frozenset(sides["validation_patients"]))
    threshold, validation = _validate(held_out, engine)
    card = _card(
        config,
        weights,
        threshold,
        {
            "sources": _sources(config, sides["slices"]),
            "validation_patients": sides["validation_patients"],
            "config": config.model_dump(mode="json"),
        },
        {"validation": validation, **_test(root, engine, threshold)},
    )
    write(card, weights, models or SHIPPED)
    return card


def to_onnx(config: Config, checkpoint: Path) -> bytes:
    """Give the averaged network as ONNX, (1, 1, size, size) to (1, 1, size, size); held to torch's own answer."""
    network = loop.load_average(config, checkpoint)
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
    engine = OnnxRuntime(_card(config, weights, 0.5, {}, {}), weights, 0)
    apart = float(np.abs(engine.logits(image.numpy()) - expected[0, 0]).max())
    if apart > 1e-2:
        raise TrainError(
            f"ONNX Runtime's logits differ from torch's by up to {apart:.3g}", "Export with other versions."
        )
    return weights


def write(card: Card, weights: bytes, folder: Path) -> None:
    """Write NAME.onnx, NAME.json and NAME.md, each whole or not at all; the card comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        f"{card.name}.onnx": weights,
        f"{card.name}.md": prose(card).encode(),
        f"{card.name}.json": (card.model_dump_json(indent=1) + "\n").encode(),
    }
    for name, content in files.items():
        beside = folder / f"{name}.partial"
        beside.write_bytes(content)
        beside.replace(folder / name)


def _card(config: Config, weights: bytes, threshold: float, training: dict[str, Any], metrics: dict[str, Any]) -> Card:
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
        licence=LICENCE,
        limits=LIMITS,
        training=training,
        metrics=metrics,
    )


def _sources(config: Config, slices: dict[str, dict[str, int]]) -> list[dict[str, Any]]:
    total = sum(config.data.sources.values())
    return [
        {
            "name": name,
            "about": data.SOURCES[name].about,
            "licence": data.SOURCES[name].licence,
            "share": round(share / total, 3),
            **slices[name],
        }
        for name, share in config.data.sources.items()
    ]


def _validate(held_out: list[Stored], engine: OnnxRuntime) -> tuple[float, dict[str, Any]]:
    """Score the validation patients with the exported network, and choose the threshold by them."""
    seen = {}
    for index, sample in enumerate(held_out):
        image = resize(window(sample.hu), (engine.card.size, engine.card.size)) * 2 - 1
        probability = resize(expit(engine.logits(image[None, None])), sample.mask.shape)
        seen[index] = loop.counts(probability, sample.mask)
    scores = loop.validation_scores(held_out, seen)
    sources: dict[str, Any] = {}
    for source in scores["sources"]:
        values = [dice for key, dice in scores["patients"].items() if key.split(" ")[0] == source]
        low, high = bootstrap_interval(values)
        sources[source] = {
            "patients": len(values),
            "dice": round(float(np.mean(values)), 3),
            "low": None if np.isnan(low) else round(low, 3),
            "high": None if np.isnan(high) else round(high, 3),
        }
    return scores["threshold"], {
        "dice": round(scores["dice"], 3),
        "sources": sources,
        "slices_without_blood_and_without_answer": None if scores["quiet"] is None else round(scores["quiet"], 3),
    }


def _test(root: Path, engine: OnnxRuntime, threshold: float) -> dict[str, Any]:
    """Score the test set as `strokeseg evaluate` does; nothing where it is not there."""
    if not (root / TEST_SET).is_dir():
        return {}
    scored = evaluate.evaluate(
        evaluate.find_pairs(root / TEST_SET), lambda path: infer.answer(read_one(path), engine).probability, threshold
    )
    scores = {
        name: {key: None if value is None else round(value, 3) for key, value in score.items()}
        for name, score in scored.per_patient.model_dump().items()
    }
    return {"test": {"set": TEST_SET, "patients": scored.n_patients, "slices": scored.n_slices, "per_patient": scores}}


def prose(card: Card) -> str:
    """Write the card for people: what it is, how good, on whom trained, its limits."""
    lines = [
        f"# Network `{card.name}`, version {card.version}",
        "",
        f"{card.architecture}; input {card.size} x {card.size} pixels around the head, window 0..80 HU, "
        f"{card.precision}.",
        f"A pixel is blood where its probability is at least {card.threshold:g} (chosen on the validation patients).",
        "",
        "Written by `strokeseg train CONFIG --export`; do not edit.",
        "",
        "## How good",
        "",
        *_prose_of_metrics(card.metrics),
        "",
        "## Trained on",
        "",
        "| set | what | slices to train | to validate | share of the samples | licence |",
        "|---|---|---|---|---|---|",
        *(_table_row(row) for row in card.training.get("sources", [])),
        "",
        "The split is by patient; the CT-ICH patients of any test set are refused by the loader.",
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in card.limits),
        "",
        "## Licence",
        "",
        card.licence,
        "",
        f"SHA-256 of `{card.name}.onnx`: `{card.sha256}`",
        "",
    ]
    return "\n".join(lines)


def _table_row(row: dict[str, Any]) -> str:
    cells = (row["name"], row["about"], row["train"], row["validation"], f"{row['share']:.0%}", row["licence"])
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _prose_of_metrics(metrics: dict[str, Any]) -> list[str]:
    lines = ["| patients | number | Dice, mean over patients (95 % interval) |", "|---|---|---|"]
    test = metrics.get("test")
    if test:
        dice = _shown(test["per_patient"]["dice"])
        lines.append(f"| {test['set']}: test, never chosen by | {test['patients']} | {dice} |")
    for name, row in metrics.get("validation", {}).get("sources", {}).items():
        lines.append(
            f"| {name}: validation, checkpoint and threshold chosen by it | {row['patients']} | {_shown(row)} |"
        )
    quiet = metrics.get("validation", {}).get("slices_without_blood_and_without_answer")
    if quiet is not None:
        lines += ["", f"On {quiet:.0%} of the validation slices without blood not one pixel is answered."]
    if test:
        rest = ", ".join(
            f"{name.replace('_', ' ')} {_shown(score)}" for name, score in test["per_patient"].items() if name != "dice"
        )
        lines += ["", f"On the test patients also: {rest}.", "", "Repeat it: `strokeseg evaluate FOLDER`."]
    return lines


def _shown(score: dict[str, Any]) -> str:
    value = score["dice"] if "dice" in score else score["value"]
    if value is None:
        return "undefined"
    if score["low"] is None:
        return f"{value:.3f}"
    return f"{value:.3f} ({score['low']:.3f}–{score['high']:.3f})"
