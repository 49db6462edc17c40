"""Networks trained on whole scans, scored on the validation patients of their configuration."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from benchmarks.page import render_template
from strokeseg.evaluation.detection import roc_auc
from strokeseg.training import config, packed_run, split, validation, warm_start
from strokeseg.training.augmentation import StoredSlice
from strokeseg.training.validation import SliceScores
from strokeseg.training.weight_average import average_weights, score_slices

MODEL = "model:single-slices"
SOURCE = "ctich"
"""The source with whole patients with and without hemorrhage, whose slices are also scored by themselves."""
QUIET_THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)


class _FiguresModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NetworkScores(_FiguresModel):
    """Scores of one network at its best common threshold, uncalibrated, before any rule of location or size."""

    name: str
    threshold: float
    dice: dict[str, float] = Field(description="by source: mean over patients, over their slices with hemorrhage")
    whole_dice: dict[str, float] = Field(description="by source: mean over patients with hemorrhage, over all slices")
    slice_auc: float = Field(description="slices of CT-ICH with and without hemorrhage")
    patient_auc: float
    sensitivity: float = Field(description="of patients")
    specificity: float = Field(description="of patients")
    false_pixels: int = Field(description="marked on CT-ICH patients without hemorrhage, of 384 x 384 per slice")
    quiet: list[float] = Field(
        description="share of CT-ICH slices without hemorrhage with no pixel marked, by threshold"
    )


class WholeScanFigures(_FiguresModel):
    """All figures of `benchmarks/whole_scans.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)

    schema_: Literal["strokeseg.whole-scans/1"] = Field(default="strokeseg.whole-scans/1", alias="schema")
    configuration: str
    packed: str = Field(description="file name of the packed run")
    packed_sha256: str
    patients: dict[str, tuple[int, int]] = Field(description="by source: with and without hemorrhage")
    networks: list[NetworkScores]


def measure(configuration: Path, packed: Path, data: Path, log: Callable[[str], None]) -> WholeScanFigures:
    """Score the shipped network, a packed run, and the mean of both networks' weights.

    Parameters
    ----------
    configuration : Path
        Configuration of the packed run; its split holds the patients out.
    packed : Path
        The packed run, .safetensors.
    data : Path
        Folder of the data sets.
    log : callable
        Is called with a line of text for each network.

    Returns
    -------
    WholeScanFigures
        The scores. No test patient is read.

    Raises
    ------
    TrainError
        `train`, if a data set, the split or the packed run cannot be used.
    """
    settings = config.load(configuration)
    held_out = split.load_split(settings, data).held_out
    size, neighbours = settings.network.size, settings.network.neighbours

    def start(source: str, neighbours: int) -> nn.Module:
        table = settings.network.model_copy(update={"start": source, "neighbours": neighbours})
        if source == MODEL:
            return warm_start.start_from_model(table, held_out, make_images(neighbours))[0].eval()
        return packed_run.start_from_file(table, held_out)[0].eval()

    def make_images(neighbours: int) -> Tensor:
        return torch.rand(2, 1 + 2 * neighbours, size, size) * 2 - 1

    torch.manual_seed(0)  # the images on which batch norms are restated
    file = f"file:{packed.resolve()}"
    candidates: list[tuple[str, Callable[[], nn.Module], int]] = [
        ("0.1.0, slice by slice", lambda: start(MODEL, 0), 0),
        ("packed run", lambda: start(file, neighbours), neighbours),
        ("packed run, the slice in place of its neighbours", lambda: start(file, 0), 0),
        (
            "mean of the weights of both",
            lambda: average_weights(
                [start(MODEL, neighbours), start(file, neighbours)], [0.5, 0.5], make_images(neighbours)
            ),
            neighbours,
        ),
    ]
    scores = []
    for name, build, count in candidates:
        scores.append(score_network(name, build(), held_out, size, 1 + 2 * count))
        log(f"{name}: Dice {scores[-1].dice}")
    return WholeScanFigures(
        configuration=configuration.name,
        packed=packed.name,
        packed_sha256=hashlib.sha256(packed.read_bytes()).hexdigest(),
        patients=count_patients(held_out),
        networks=scores,
    )


def score_network(
    name: str, network: nn.Module, held_out: list[StoredSlice], size: int, channels: int
) -> NetworkScores:
    """Score one network on the held-out slices."""
    by_slice = score_slices(network, held_out, size, channels)
    scores = validation.score_held_out(held_out, by_slice)
    whole = [(sample.patient, by_slice[index]) for index, sample in enumerate(held_out) if sample.source == SOURCE]
    bleeding = {patient for patient, each in whole if has_blood(each)}
    rows = [find_row(threshold) for threshold in QUIET_THRESHOLDS]
    best = find_row(scores["threshold"])
    return NetworkScores(
        name=name,
        threshold=scores["threshold"],
        dice=scores["sources"],
        whole_dice=scores["whole"],
        slice_auc=roc_auc([has_blood(each) for _, each in whole], [each.score for _, each in whole]),
        patient_auc=scores["patient_auc"],
        sensitivity=scores["patient_sensitivity"],
        specificity=scores["patient_specificity"],
        false_pixels=sum(int(each.counts[best, 1]) for patient, each in whole if patient not in bleeding),
        quiet=np.mean([each.counts[rows, 1] == 0 for _, each in whole if not has_blood(each)], axis=0).tolist(),
    )


def has_blood(scores: SliceScores) -> bool:
    """Return whether the mask of a scored slice has blood."""
    return bool(scores.counts[0, 2])


def find_row(threshold: float) -> int:
    """Return the index of a threshold among those that slices are scored at."""
    return int(np.abs(validation.THRESHOLDS - threshold).argmin())


def count_patients(held_out: list[StoredSlice]) -> dict[str, tuple[int, int]]:
    """Count the patients of each source, with and without hemorrhage."""
    blood: dict[tuple[str, str], bool] = {}
    for sample in held_out:
        key = (sample.source, sample.patient)
        blood[key] = blood.get(key, False) or bool((sample.mask == 1).any())
    sources = sorted({source for source, _ in blood})
    return {
        source: (
            sum(found for (of, _), found in blood.items() if of == source),
            sum(not found for (of, _), found in blood.items() if of == source),
        )
        for source in sources
    }


def render_page(figures: WholeScanFigures) -> str:
    """Render docs/whole-scans.md."""
    return render_template("whole-scans.md.j2", figures=figures, thresholds=QUIET_THRESHOLDS)
