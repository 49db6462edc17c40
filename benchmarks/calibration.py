"""The calibration of a network: made on its validation patients, held to unseen ones, written into its card."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from strokeseg import atomic_write, evaluation, segmentation
from strokeseg.evaluation.pairs import PICTURE_ENDINGS, Pair
from strokeseg.reading import read_one
from strokeseg.segmentation import models
from strokeseg.segmentation.engines.protocol import Engine
from strokeseg.segmentation.models import Card
from strokeseg.training.calibration import figures, fit
from strokeseg.training.calibration.fit import Case, CasePrediction
from strokeseg.training.data import UNKNOWN, Sample

Log = Callable[[str], None]

TEST_WINDOW = (40.0, 120.0)
STACK_WINDOW = (40.0, 80.0)
_REMEDY = "Make the folder of models writable."


def calibrate_network(name: str, root: Path, *, log: Log = print) -> Card:
    """Calibrate an installed network, and write its card again, as data and as prose.

    Parameters
    ----------
    root : Path
        Folder of the data sets.
    say : object
        Is told what goes on.

    Raises
    ------
    UnknownModel, CorruptModel
        `unknown-model`, `model-checksum`.
    TrainError
        `train`, if the card names no validation patients, or the data lack one of them.
    """
    card = draw_up_card(name, root, log=log)
    from strokeseg.training.export import render_card

    folder = models.find_folder(name)
    atomic_write.write_file(folder / f"{name}.md", render_card(card).encode(), _REMEDY)
    atomic_write.write_file(folder / f"{name}.json", (card.model_dump_json(indent=1) + "\n").encode(), _REMEDY)
    return card


def draw_up_card(name: str, root: Path, *, log: Log = print) -> Card:
    """Calibrate an installed network; nothing is written. Parameters and errors are those of :func:`run`."""
    engine = segmentation.load_engine(name)
    log(f"{name}: its validation patients, as they are and degraded; this takes some minutes")
    found = fit.fit_calibration(engine, fit.read_validation_samples(engine.card, root))
    told = figures.compute_figures(found)
    if tests := list(read_unseen_samples(root)):
        log(f"{name}: {len({sample.patient for sample in tests})} patients whom nothing was chosen by")
        rows, alone = answer_samples(tests, engine)
        told["unseen"] = figures.compute_unseen_figures(rows, alone, found.calibration)
    return fit.add_calibration(engine.card, found.calibration.model_copy(update={"figures": told}))


def answer_samples(samples: list[Sample], engine: Engine) -> tuple[list[CasePrediction], list[CasePrediction]]:
    """Answer samples patient by patient, and the outlined ones slice by slice."""
    plain = fit.load_uncalibrated_engine(engine)
    outlined = [sample for sample in samples if (sample.mask == 1).any()]

    def each(cases: list[Case]) -> list[CasePrediction]:
        return [row for case in cases if (row := fit.predict_case(case, plain)) is not None]

    return each(fit.group_by_patient(samples)), each(fit.split_into_slices(outlined))


def read_unseen_samples(root: Path) -> Iterator[Sample]:
    """Read the test patients, of whom no slice was trained on and nothing was chosen by, as far as they are there.

    Of the stacks only some slices are outlined. The others are unknown, and no volume is counted on them.
    """
    if (root / "ctich_jpg").is_dir():
        for pair in evaluation.find_pairs(root / "ctich_jpg"):
            truth, _ = pair.read_truth()
            hu = read_one(pair.image, window=TEST_WINDOW).hu[0]
            yield Sample("ctich_jpg", pair.name, f"ctich:{pair.patient}", hu, truth[0].astype(np.uint8))
    for folder in sorted((root / "phe_sich_stacks").glob("*/images")):
        drawn = {path.stem: path for path in (folder.parent / "clots").iterdir()}
        # As one stack, for the lowest and the highest slice alone would not pass for a head.
        hu = read_one(folder, window=STACK_WINDOW).hu
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_ENDINGS)
        for plane, path in zip(hu, paths, strict=True):
            mask = np.full(plane.shape, UNKNOWN, np.uint8)
            if path.stem in drawn:
                mask = Pair(path.stem, path, drawn[path.stem], folder.parent.name).read_truth()[0][0].astype(np.uint8)
            yield Sample("phe_sich_stacks", path.stem, f"phe:{folder.parent.name}", plane, mask)
