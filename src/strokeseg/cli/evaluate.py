"""`strokeseg evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strokeseg.cli import options, terminal
from strokeseg.errors import NotWritable

EXAMPLES = r"""\b
Examples:
  strokeseg evaluate data/ctich_jpg --window 40,120
  strokeseg evaluate mine --images ct --masks blood --patient 'p(\d+)_' --json figures.json
  strokeseg evaluate mine --json - | jq .per_patient.dice
"""


def evaluate(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            show_default=False,
            help="Holds images/ and masks/ with files of the same names (pictures or NIfTI), or NIfTI volumes "
            "NAME.nii.gz with NAME_mask.nii.gz beside them.",
        ),
    ],
    model: options.ModelName = "default",
    engine: options.Engine = options.EngineName.auto,
    threads: options.Threads = 0,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            min=0,
            max=1,
            metavar="P",
            show_default="the network's own",
            help="A pixel counts as blood from this probability on.",
        ),
    ] = None,
    images: Annotated[str, typer.Option("--images", metavar="NAME", help="Folder of the images in FOLDER.")] = "images",
    masks: Annotated[str, typer.Option("--masks", metavar="NAME", help="Folder of the masks in FOLDER.")] = "masks",
    patient: Annotated[
        str | None,
        typer.Option(
            "--patient",
            metavar="COLUMN|REGEX",
            show_default="column patient, else the file's name up to its last _",
            help="Whose an image is: a column of FOLDER/index.csv, or a regular expression whose first group in the "
            "file's name is the patient.",
        ),
    ] = None,
    ignore: Annotated[
        int | None,
        typer.Option(
            "--ignore",
            metavar="VALUE",
            show_default=False,
            help="Value in the masks that means: not known. Such pixels count neither way.",
        ),
    ] = None,
    window: options.WindowOption = None,
    flip: options.Flip = False,
    json_to: Annotated[
        str | None,
        typer.Option(
            "--json",
            metavar="FILE",
            show_default=False,
            help="Also write every figure as JSON into this file; - prints it on stdout in place of the table.",
        ),
    ] = None,
) -> None:
    """Score a network against masks that people drew: Dice, IoU, average precision, precision, recall.

    Each is given as the mean over slices, the mean over patients, and of all pixels together, with 95 % bootstrap
    intervals over patients. What is scored is the probability map, cut at the threshold; unlike `strokeseg segment`,
    no small specks are removed.
    """
    from strokeseg import evaluate as scoring
    from strokeseg import pipeline
    from strokeseg.infer import models

    to_file = None if json_to in (None, "-") else Path(str(json_to))
    if to_file is not None:
        _check(to_file)
    cut = models.card(model).threshold if threshold is None else threshold
    predict = pipeline.predictor(model, engine=engine.value, threads=threads, window=window, flip=flip)
    pairs = scoring.find_pairs(folder, images, masks, patient, ignore)
    with terminal.progress("scoring", "images") as progress:
        evaluation = scoring.evaluate(pairs, predict, cut, progress=progress)
    if to_file is not None:
        _write(to_file, evaluation.model_dump_json(indent=2) + "\n")
    if json_to == "-":
        terminal.data(evaluation.model_dump_json(indent=2))
    else:
        terminal.show(scoring.table(evaluation))


def _check(path: Path) -> None:
    """Find out before minutes of work whether the file can be written.

    Raises
    ------
    NotWritable
        `not-writable`
    """
    if path.is_dir():
        raise NotWritable(f"{path}: is a folder, a file is needed", "Name a file after --json, or - for stdout.")
    _write(path, None)


def _write(path: Path, text: str | None) -> None:
    """Write a file beside its place and rename it when it is whole; without text only try."""
    beside = path.with_name(f".{path.name}.partial")
    try:
        beside.write_text(text or "", encoding="utf-8")
        if text is not None:
            beside.replace(path)
    except OSError as error:
        raise NotWritable(f"{path}: cannot be written ({error.strerror})", "Name another file after --json.") from error
    finally:
        if beside.exists():
            beside.unlink()
