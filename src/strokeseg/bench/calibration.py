"""The calibration of a network: made on its validation patients, held to unseen ones, written into its card."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from strokeseg import evaluate, files, infer
from strokeseg.evaluate.pairs import PICTURES, Pair
from strokeseg.infer import models
from strokeseg.infer.engine import Engine
from strokeseg.infer.models import Card
from strokeseg.read import read_one
from strokeseg.train import calibrate, coverage
from strokeseg.train.calibrate import Answered, Case
from strokeseg.train.data import UNKNOWN, Sample

Say = Callable[[str], None]

TEST_WINDOW = (40.0, 120.0)
STACK_WINDOW = (40.0, 80.0)
_REMEDY = "Make the folder of models writable."


def run(name: str, root: Path, *, say: Say = print) -> Card:
    """Calibrate an installed network, and write its card again, as data and as prose.

    Parameters
    ----------
    root : folder of the data sets
    say : is told what goes on

    Raises
    ------
    UnknownModel, CorruptModel
        `unknown-model`, `model-checksum`
    TrainError
        `train`, if the card names no validation patients, or the data lack one of them
    """
    card = draw_up(name, root, say=say)
    from strokeseg.train.export import prose

    folder = models.folder(name)
    files.write(folder / f"{name}.md", prose(card).encode(), _REMEDY)
    files.write(folder / f"{name}.json", (card.model_dump_json(indent=1) + "\n").encode(), _REMEDY)
    return card


def draw_up(name: str, root: Path, *, say: Say = print) -> Card:
    """Calibrate an installed network; nothing is written. Parameters and errors are those of :func:`run`."""
    engine = infer.load(name)
    say(f"{name}: its validation patients, as they are and degraded; this takes some minutes")
    found = calibrate.calibrate(engine, calibrate.load(engine.card, root))
    told = coverage.figures(found)
    if tests := list(unseen_samples(root)):
        say(f"{name}: {len({sample.patient for sample in tests})} patients whom nothing was chosen by")
        rows, alone = answers(tests, engine)
        told["unseen"] = coverage.unseen(rows, alone, found.calibration)
    return calibrate.with_calibration(engine.card, found.calibration.model_copy(update={"figures": told}))


def answers(samples: list[Sample], engine: Engine) -> tuple[list[Answered], list[Answered]]:
    """Answer samples patient by patient, and the outlined ones slice by slice."""
    plain = calibrate.undecided(engine)
    outlined = [sample for sample in samples if (sample.mask == 1).any()]

    def each(cases: list[Case]) -> list[Answered]:
        return [row for case in cases if (row := calibrate.answered(case, plain)) is not None]

    return each(calibrate.cases(samples)), each(calibrate.single(outlined))


def unseen_samples(root: Path) -> Iterator[Sample]:
    """Read the test patients, of whom no slice was trained on and nothing was chosen by, as far as they are there.

    Of the stacks only some slices are outlined. The others are unknown, and no volume is counted on them.
    """
    if (root / "ctich_jpg").is_dir():
        for pair in evaluate.find_pairs(root / "ctich_jpg"):
            truth, _ = pair.truth()
            hu = read_one(pair.image, window=TEST_WINDOW).hu[0]
            yield Sample("ctich_jpg", pair.name, f"ctich:{pair.patient}", hu, truth[0].astype(np.uint8))
    for folder in sorted((root / "phe_sich_stacks").glob("*/images")):
        drawn = {path.stem: path for path in (folder.parent / "clots").iterdir()}
        # As one stack, for the lowest and the highest slice alone would not pass for a head.
        hu = read_one(folder, window=STACK_WINDOW).hu
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
        for plane, path in zip(hu, paths, strict=True):
            mask = np.full(plane.shape, UNKNOWN, np.uint8)
            if path.stem in drawn:
                mask = Pair(path.stem, path, drawn[path.stem], folder.parent.name).truth()[0][0].astype(np.uint8)
            yield Sample("phe_sich_stacks", path.stem, f"phe:{folder.parent.name}", plane, mask)
