"""`strokeseg evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strokeseg import atomic_write
from strokeseg.cli import options, terminal
from strokeseg.errors import UsageError

_FILE_REMEDY = "Name another file after --json, or - for stdout."

EXAMPLES = r"""\b
Examples:
  strokeseg evaluate data/ctich_jpg --window 40,120
  strokeseg evaluate mine --images ct --masks blood --patient 'p(\d+)_' --json figures.json
  strokeseg evaluate mine --normals healthy --as-segmented
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
    model: options.ModelOption = "default",
    engine: options.EngineOption = options.EngineName.auto,
    threads: options.ThreadsOption = 0,
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
    normals: Annotated[
        Path | None,
        typer.Option(
            "--normals",
            metavar="FOLDER",
            show_default=False,
            help="Pictures or NIfTI volumes without blood, which need no masks: they count for the ROC-AUC of "
            "detection and for the share of quiet slices.",
        ),
    ] = None,
    as_segmented: Annotated[
        bool,
        typer.Option(
            "--as-segmented",
            help="Score the mask as `strokeseg segment` gives it, without small specks, in place of the probability "
            "map cut at the threshold.",
        ),
    ] = False,
    window: options.WindowOption = None,
    spacing: options.SpacingOption = None,
    flip: options.FlipOption = False,
    leaks: Annotated[
        Path | None,
        typer.Option(
            "--check-leakage",
            metavar="SPLIT.csv",
            show_default=False,
            help="First make sure that no image is, or nearly is, on the training side of this split.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FOLDER",
            show_default=False,
            help="With --check-leakage: folder of the data sets, to compare pixels where hashes leave a doubt.",
        ),
    ] = None,
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
    """Score a network against masks that people drew, with 95 % bootstrap intervals over patients.

    Dice, IoU, average precision, precision and recall are given as the mean over slices, the mean over patients, and of
    all pixels together; then follow lesions, surfaces, volumes, detection and calibration. docs/metrics.md defines
    each. What is scored is the probability map, cut at the threshold, or with --as-segmented the finished mask.
    """
    if as_segmented and threshold is not None:
        raise UsageError("--as-segmented cuts at the network's own threshold", "Leave --threshold out.")
    from strokeseg import evaluation as scoring
    from strokeseg import pipeline
    from strokeseg.segmentation import models

    to_file = None if json_to in (None, "-") else Path(str(json_to))
    if to_file is not None:
        atomic_write.check_writable(to_file, _FILE_REMEDY, parents=False)
    cut = models.load_card(model).threshold if threshold is None else threshold
    predict = pipeline.make_predictor(
        model, engine=engine.value, threads=threads, window=window, spacing_mm=spacing, flip=flip
    )
    pairs = scoring.find_pairs(folder, images, masks, patient, ignore, picture_spacing_mm=spacing)
    healthy = scoring.find_normals(normals, patient, pairs, folder) if normals is not None else []
    if leaks is not None:
        from strokeseg.evaluation import leakage, split_file

        leakage.check_leakage([*pairs, *healthy], split_file.read(leaks), data, window)
    with terminal.show_progress("scoring", "images") as progress:
        evaluation = scoring.evaluate(
            pairs, predict, cut, normals=healthy, as_segmented=as_segmented, progress=progress
        )
    if to_file is not None:
        atomic_write.write_file(
            to_file, (evaluation.model_dump_json(indent=2) + "\n").encode(), _FILE_REMEDY, parents=False
        )
    if json_to == "-":
        terminal.print_data(evaluation.model_dump_json(indent=2))
    else:
        terminal.show(scoring.render_table(evaluation))
