"""From a run's best checkpoint to a shipped network: NAME.onnx, and its card as data and as prose.

Every figure on the card is computed here, with the exported file and ONNX Runtime, as a user's machine runs it.
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
from scipy.special import expit

from strokeseg import evaluation, segmentation
from strokeseg.errors import CorruptModel, TrainError, UsageError
from strokeseg.evaluation import leakage
from strokeseg.evaluation.metrics import bootstrap_interval
from strokeseg.reading import read_one
from strokeseg.segmentation import models
from strokeseg.segmentation.engines.onnxruntime import OnnxRuntime
from strokeseg.segmentation.models import SHIPPED_FOLDER, Calibration, Card
from strokeseg.segmentation.preprocess import apply_window, resize
from strokeseg.training import data, decoder_rewrite, loop, own_datasets, run_folder, split
from strokeseg.training import validation as scores
from strokeseg.training.augmentation import Floats32, StoredSlice
from strokeseg.training.calibration import fit
from strokeseg.training.config import Config
from strokeseg.training.quantize import quantize
from strokeseg.version import __version__

_log = logging.getLogger(__name__)
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
OWN_LICENCE = "What the training sets allow: {}. The code around it is MIT."
SPLIT_NOTES = {
    "patient": "The split is by patient; the CT-ICH patients of any test set are refused by the loader.",
    split.LEAKING: "The split is by slice: patients stand on both sides, and every figure of validation is too good.",
}
LIMITS = [
    "Research use only; no medical device, not validated for diagnosis.",
    "Non-contrast axial head CT. Contrast medium, metal, motion and bone kernels were not in the training.",
    "Isodense and thin subdural bleeds and subarachnoid blood are often missed.",
    "Where the spacing is known, what is under 0.1 ml is left out, blood or not.",
    "Falx, tentorium, choroid plexus, calcifications and the skull's base can be taken for blood.",
    "Works slice by slice: what only a neighbouring slice could tell is not used.",
    fit.UNCALIBRATED_LIMIT,
]


def export(config: Config, out: Path, root: Path, folder: Path | None = None, *, int8: str | None = None) -> Card:
    """Export the best checkpoint of a run, score it, and write network and card.

    Parameters
    ----------
    config : Config
        Of the run.
    out : Path
        The run's folder, with `best.ckpt` and `split.json`.
    root : Path
        Folder of the data sets; the test set is scored where it is there.
    folder : Path, optional
        Where to write to; the package's own where not given.
    int8 : str, optional
        A name; the network is quantised to 8-bit integers and written under it.

    Raises
    ------
    TrainError
        `train`, if the run is not there or was another, or ONNX Runtime answers otherwise than torch.
    UsageError
        `usage`, if the name for int8 is none, or is taken by a network of another precision.
    """
    if int8 is not None:
        _check_name(int8, folder or SHIPPED_FOLDER)
    place = folder or SHIPPED_FOLDER
    card, weights = build_model(config, out, root, int8=int8)
    card = _keep_calibration(card, place)
    if card.calibration is None:
        _log.warning("%s: not calibrated yet; `strokeseg bench calibration --model %s` does it", card.name, card.name)
    models.save_model(card, weights, place, render_card(card))
    return card


def _keep_calibration(card: Card, folder: Path) -> Card:
    """Keep the calibration of an earlier card, if it is of the same network and what it outlines is the same."""
    try:
        known = models.read_card(folder / f"{card.name}.json")
    except CorruptModel:
        return card
    same = ("sha256", "threshold", "smallest_mm3", "smallest_share")
    if known.calibration is None or any(getattr(card, each) != getattr(known, each) for each in same):
        return card
    return fit.add_calibration(card, known.calibration)


def build_model(config: Config, out: Path, root: Path, *, int8: str | None = None) -> tuple[Card, bytes]:
    """Export the best checkpoint of a run and score it; nothing is written. Parameters are those of :func:`export`."""
    checkpoint, place = out / run_folder.BEST, out / run_folder.RECORD
    if not checkpoint.is_file() or not place.is_file():
        raise TrainError(f"{out}: no best.ckpt and split.json of a run", "Train first, or name the run's folder.")
    sides = json.loads(place.read_text(encoding="utf-8"))
    ran = run_folder.fill_defaults(sides["config"])
    now = config.model_dump(mode="json")
    if told := run_folder.describe_difference(
        ran, {**ran, "data": now["data"], "network": now["network"]}, ("data.root",)
    ):
        raise TrainError(f"{out}: this run was trained with {told}", "Export with what it was trained with.")
    loaded = split.load_split(config, root)
    if sorted(loaded.validation_patients) != sides["validation_patients"]:
        raise TrainError(
            f"{out}: the data and the configuration give other validation patients than the run had",
            "Export with what it was trained with.",
        )
    weights = convert_to_onnx(config, checkpoint)
    if int8:
        weights = quantize(weights, _typical_images(loaded.training, config.network.size))
        draft = _make_card(config, weights, 0.5, {}, {}).model_copy(update={"name": int8, "precision": "int8"})
    else:
        weights = decoder_rewrite.rewrite_decoder(weights)
        draft = _make_card(config, weights, 0.5, {}, {})
    engine = OnnxRuntime(draft, weights, 0)
    threshold, validation = _score_validation(loaded.held_out, engine)
    training = {
        "sources": _source_records(config, sides["slices"]),
        "validation_patients": sides["validation_patients"],
        **({"split": sides["split"]} if "split" in sides else {}),
        "run": {name: sides[name] for name in run_folder.RUN_FACTS if name in sides},
        "config": _without_absolute_paths(ran),
    }
    metrics = {"validation": validation, **_score_test_set(root, engine, threshold, loaded)}
    card = draft.model_copy(update={"threshold": threshold, "training": training, "metrics": metrics})
    return card, weights


def _check_name(name: str, folder: Path) -> None:
    """Make sure that a quantised network may be written under a name: a plain one, of no network but a quantised."""
    if not re.fullmatch(Card.model_json_schema()["properties"]["name"]["pattern"], name):
        raise UsageError(
            f"--int8: {name!r} is no name of a network", "Use up to 64 letters, digits, dots, dashes and underscores."
        )
    taken = folder / f"{name}.json"
    if taken.is_file() and json.loads(taken.read_text(encoding="utf-8")).get("precision") != "int8":
        raise UsageError(f"--int8: {folder} holds another network {name!r}", "Choose another name.")


def _without_absolute_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """Leave of every absolute path in a recorded configuration its last part: the card goes to others."""
    data_, network = dict(config["data"]), dict(config["network"])
    data_["root"], data_["split"] = _last_part(data_["root"]), _last_part(data_.get("split"))
    data_["own"] = {
        name: {**table, "folder": _last_part(table["folder"])} for name, table in data_.get("own", {}).items()
    }
    weights = network.get("encoder_weights")
    if weights and weights.startswith("file:"):
        network["encoder_weights"] = f"file:{_last_part(weights.removeprefix('file:'))}"
    return {**config, "data": data_, "network": network}


def _last_part(path: str | None) -> str | None:
    for kind in (PurePosixPath, PureWindowsPath):
        if path is not None and kind(path).is_absolute():
            return kind(path).name
    return path


def _combined_licence(config: Config) -> str:
    """Say what the sources that were drawn from allow."""
    used = [name for name, share in config.data.sources.items() if share > 0]
    if any(name in data.SOURCES for name in used):
        return LICENCE
    return OWN_LICENCE.format("; ".join(f"{name}: {config.data.own[name].licence}" for name in used))


def _typical_images(samples: list[StoredSlice], size: int) -> Iterator[Floats32]:
    """Give 64 slices to train on as the network will see them, from every source."""
    for index in np.linspace(0, len(samples) - 1, 64).astype(int):
        yield (resize(apply_window(samples[index].hu), (size, size)) * 2 - 1)[None, None]


def convert_to_onnx(config: Config, checkpoint: Path) -> bytes:
    """Return the averaged network as ONNX, (1, 1, size, size) to (1, 1, size, size); held to torch's own answer."""
    network = loop.load_averaged_network(config, checkpoint)
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
    apart = float(np.abs(engine.logits(image.numpy()) - expected[0, 0]).max())
    if apart > 1e-2:
        raise TrainError(
            f"ONNX Runtime's logits differ from torch's by up to {apart:.3g}", "Export with other versions."
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
    known = {**data.SOURCES, **own_datasets.make_sources(config.data.own)}
    return [
        {
            "name": name,
            "about": known[name].about,
            "licence": known[name].licence,
            "share": round(share / total, 3),
            **slices[name],
        }
        for name, share in config.data.sources.items()
    ]


def _score_validation(held_out: list[StoredSlice], engine: OnnxRuntime) -> tuple[float, dict[str, Any]]:
    """Score the validation patients with the exported network, and choose the threshold by them."""
    seen = {}
    for index, sample in enumerate(held_out):
        image = resize(apply_window(sample.hu), (engine.card.size, engine.card.size)) * 2 - 1
        probability = resize(expit(engine.logits(image[None, None])), sample.mask.shape)
        seen[index] = scores.score_slice(probability, sample.mask)
    found = scores.score_held_out(held_out, seen)
    sources: dict[str, Any] = {}
    for source in found["sources"]:
        values = [dice for key, dice in found["patients"].items() if key.split(" ")[0] == source]
        low, high = bootstrap_interval(values)
        sources[source] = {
            "patients": len(values),
            "dice": round(float(np.mean(values)), 3),
            "low": None if np.isnan(low) else round(low, 3),
            "high": None if np.isnan(high) else round(high, 3),
        }
    return found["threshold"], {
        "dice": round(found["dice"], 3),
        "sources": sources,
        "slices_without_blood_and_without_answer": None if found["quiet"] is None else round(found["quiet"], 3),
    }


def _score_test_set(root: Path, engine: OnnxRuntime, threshold: float, sides: split.Split) -> dict[str, Any]:
    """Score the test set as `strokeseg evaluate` does, beside the validation's normals.

    Nothing where the set is missing, or an image of it is nearly one that was trained on.
    """
    if not (root / TEST_SET).is_dir():
        return {}
    pairs = evaluation.find_pairs(root / TEST_SET)
    if known := _count_trained_on(pairs, sides.training):
        _log.warning("%s: %d images are also among those trained on; the card says nothing of it", TEST_SET, known)
        return {}
    scored = evaluation.evaluate(
        pairs,
        lambda path: segmentation.predict(read_one(path), engine),
        threshold,
        normals=[
            evaluation.Normal(path.stem, path, patient)
            for path, patient in data.list_normal_pictures(root)
            if patient in sides.validation_patients
        ],
    )
    found = scored.model_dump(include={"per_patient", "pooled", "further"})
    return {
        "test": {
            "set": TEST_SET,
            "patients": scored.n_patients,
            "slices": scored.n_slices,
            "normal_slices": scored.n_normal_slices,
            **{level: {name: _round_score(score) for name, score in found[level].items()} for level in found},
        }
    }


def _count_trained_on(pairs: list[evaluation.Pair], training: list[StoredSlice]) -> int:
    """Count the images that nearly are one to train on."""
    pictures = [leakage.make_thumbnail(plane) for pair in pairs for plane in read_one(pair.image).hu]
    theirs = [leakage.make_thumbnail(np.rint(sample.hu).astype(np.int16)) for sample in training]
    found = leakage.find_near_duplicates(
        pictures, leakage.unpack_dhashes(map(leakage.dhash, theirs)), theirs.__getitem__
    )
    return len({mine for mine, _ in found})


def _round_score(score: dict[str, Any]) -> dict[str, Any]:
    return {key: None if value is None else round(value, 3) for key, value in score.items()}


def render_card(card: Card) -> str:
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
        *_metrics_lines(card.metrics),
        "",
        *_calibration_lines(card.calibration),
        "## Trained on",
        "",
        "| set | what | slices to train | to validate | share of the samples | licence |",
        "|---|---|---|---|---|---|",
        *(_source_row(row) for row in card.training.get("sources", [])),
        "",
        SPLIT_NOTES[card.training.get("split", {}).get("by", "patient")],
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


def _source_row(row: dict[str, Any]) -> str:
    cells = (row["name"], row["about"], row["train"], row["validation"], f"{row['share']:.0%}", row["licence"])
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _metrics_lines(metrics: dict[str, Any]) -> list[str]:
    lines = ["| patients | number | Dice, mean over patients (95 % interval) |", "|---|---|---|"]
    test = metrics.get("test")
    if test:
        dice = _format_score(test["per_patient"]["dice"])
        lines.append(f"| {test['set']}: test, never chosen by | {test['patients']} | {dice} |")
    for name, row in metrics.get("validation", {}).get("sources", {}).items():
        lines.append(
            f"| {name}: validation, checkpoint and threshold chosen by it | {row['patients']} | {_format_score(row)} |"
        )
    quiet = metrics.get("validation", {}).get("slices_without_blood_and_without_answer")
    if quiet is not None:
        lines += ["", f"On {quiet:.0%} of the validation slices without blood not one pixel is answered."]
    if test:
        rest = ", ".join(
            f"{name.replace('_', ' ')} {_format_score(score)}"
            for name, score in test["per_patient"].items()
            if name != "dice"
        )
        lines += ["", f"On the test patients also: {rest}.", "", "Repeat it: `strokeseg evaluate FOLDER`."]
    return lines


def _calibration_lines(calibration: Calibration | None) -> list[str]:
    if calibration is None:
        return []
    lines = ["## How sure", ""]
    if blood := calibration.blood:
        score = calibration.figures["blood"]
        lines.append(
            f"- Whether there is blood: calibrated on {blood.scan.with_blood} validation patients with blood and "
            f"{blood.scan.without} without, each left out once: Brier score {score['brier']['value']:.3f}, "
            f"{score['with_blood_answered_no']} with blood answered no, {score['without_answered_yes']} without "
            "answered yes."
        )
    if volume := calibration.volume:
        lines.append(f"- The volume's interval promises {volume.level:.0%}, by {volume.patients} validation patients.")
        if coverage := calibration.figures["volume"].get("coverage"):
            lines.append(f"  Each left out once, it held the drawn volume of {_format_share(coverage)}.")
        if unseen := calibration.figures.get("unseen", {}).get("coverage"):
            silent = calibration.figures["unseen"]["unanswered"]
            lines.append(
                f"  Of patients whom nothing was chosen by it held {_format_share(unseen)}; {silent} with blood were answered "
                "with nothing, and have none."
            )
    return [*lines, "", "Drawn slices stand for whole scans; docs/calibration.md says what that means.", ""]


def _format_share(share: dict[str, Any]) -> str:
    if not share["of"]:
        return "none: there were none"
    return f"{share['hits']} of {share['of']} (95 % interval {share['low']:.0%} to {share['high']:.0%})"


def _format_score(score: dict[str, Any]) -> str:
    value = score["dice"] if "dice" in score else score["value"]
    if value is None:
        return "undefined"
    if score["low"] is None:
        return f"{value:.3f}"
    return f"{value:.3f} ({score['low']:.3f}–{score['high']:.3f})"
