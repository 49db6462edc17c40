"""Whether the engines agree: the Dice that each reaches on the validation patients, for the networks as shipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from strokeseg import infer
from strokeseg.bench import drawn
from strokeseg.bench.drawn import Drawn
from strokeseg.infer import halves, models

Say = Callable[[str], None]
SOURCES = ("ctich_train", "phe_sich")


class Agreement(BaseModel):
    """One network on one engine, on the validation patients' drawn slices."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    engine: str
    patients: int
    slices: int
    dice: float = Field(description="mean over sources of the mean over patients, at the card's threshold")
    far: float = Field(description="share of pixels whose probability is more than 0.05 from ONNX Runtime's")


def measure(root: Path, pairs: Sequence[tuple[str, str]], say: Say) -> list[Agreement]:
    """Score networks and engines on the slices of CT-ICH's and PHE-SICH's validation patients.

    Parameters
    ----------
    root : folder of the data sets
    pairs : (model, engine), the engine as :func:`strokeseg.infer.load` knows it
    say : is told what goes on
    """
    known = {model: list(_validation(root, model)) for model in dict.fromkeys(model for model, _ in pairs)}
    found = []
    for model, engine in pairs:
        say(f"agreement: {model} on {engine}")
        loaded, usual = infer.load(model, engine), infer.load(model, "onnxruntime")
        scores: dict[tuple[str, str], list[float]] = {}
        far = []
        for each in known[model]:
            answer, other = infer.answer(each.scan, loaded), infer.answer(each.scan, usual)
            apart = np.abs(answer.probability.astype(np.float32) - other.probability)
            far.append(float((apart > 0.05).mean()))
            marked = halves.at_least(answer.probability, loaded.card.threshold)
            truth = (each.labels > 0)[None]
            total = int(marked.sum() + truth.sum())
            dice = 1.0 if total == 0 else 2 * int((marked & truth).sum()) / total
            scores.setdefault((each.source, each.patient), []).append(dice)
        by_source = [
            np.mean([np.mean(values) for (source, _), values in scores.items() if source == name])
            for name in dict.fromkeys(source for source, _ in scores)
        ]
        found.append(
            Agreement(
                model=model,
                engine=engine,
                patients=len(scores),
                slices=len(known[model]),
                dice=round(float(np.mean(by_source)), 4),
                far=round(float(np.mean(far)), 6),
            )
        )
    return found


def _validation(root: Path, model: str) -> Iterator[Drawn]:
    chosen = set(models.card(model).training["validation_patients"])
    return (each for each in drawn.drawn(root, SOURCES) if each.patient in chosen)
