"""Agreement of the engines: Dice of the shipped networks on the validation patients, per engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from benchmarks import annotated_slices
from benchmarks.annotated_slices import AnnotatedSlice
from strokeseg import segmentation
from strokeseg.imaging import float16
from strokeseg.segmentation import models

Log = Callable[[str], None]
SOURCES = ("ctich_train", "phe_sich")


class Agreement(BaseModel):
    """Accuracy of one network on one engine on the validation patients' annotated slices."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    engine: str
    patients: int
    slices: int
    dice: float = Field(description="mean over sources of the mean over patients, at the card's threshold")
    far: float = Field(description="share of pixels whose probability differs by more than 0.05 from ONNX Runtime's")


def measure_agreement(root: Path, pairs: Sequence[tuple[str, str]], log: Log) -> list[Agreement]:
    """Score networks and engines on the slices of CT-ICH's and PHE-SICH's validation patients.

    Parameters
    ----------
    root : Path
        Folder of the data sets.
    pairs : sequence of tuple of (str, str)
        Model and engine, as :func:`strokeseg.segmentation.load_engine` takes them.
    log : callable
        Takes a line on the progress.

    Returns
    -------
    list of Agreement
        One entry per pair.
    """
    slices = {model: list(_read_validation_slices(root, model)) for model in dict.fromkeys(model for model, _ in pairs)}
    rows = []
    for model, engine in pairs:
        log(f"agreement: {model} on {engine}")
        loaded, usual = segmentation.load_engine(model, engine), segmentation.load_engine(model, "onnxruntime")
        scores: dict[tuple[str, str], list[float]] = {}
        far = []
        for each in slices[model]:
            answer, other = segmentation.predict(each.scan, loaded), segmentation.predict(each.scan, usual)
            difference = np.abs(answer.probability.astype(np.float32) - other.probability)
            far.append(float((difference > 0.05).mean()))
            marked = float16.at_least(answer.probability, loaded.card.threshold)
            truth = (each.labels > 0)[None]
            total = int(marked.sum() + truth.sum())
            dice = 1.0 if total == 0 else 2 * int((marked & truth).sum()) / total
            scores.setdefault((each.source, each.patient), []).append(dice)
        by_source = [
            np.mean([np.mean(values) for (source, _), values in scores.items() if source == name])
            for name in dict.fromkeys(source for source, _ in scores)
        ]
        rows.append(
            Agreement(
                model=model,
                engine=engine,
                patients=len(scores),
                slices=len(slices[model]),
                dice=round(float(np.mean(by_source)), 4),
                far=round(float(np.mean(far)), 6),
            )
        )
    return rows


def _read_validation_slices(root: Path, model: str) -> Iterator[AnnotatedSlice]:
    chosen = set(models.load_card(model).training["validation_patients"])
    return (each for each in annotated_slices.read_annotated_slices(root, SOURCES) if each.patient in chosen)
