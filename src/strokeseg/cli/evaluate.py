"""`strokeseg evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strokeseg import atomic_write
from strokeseg.cli import options, terminal
from strokeseg.errors import UsageError

_FILE_REMEDY = "Name another file with --json, or - for stdout."

EXAMPLES = """\b
Examples:
  strokeseg evaluate samples/ctich_jpg --window 40,120
  strokeseg evaluate mine --images ct --masks blood --patient 'p(\\d+)_' --json figures.json
  strokeseg evaluate mine --normals healthy --as-segmented
  strokeseg evaluate mine --json - | jq .per_patient.dice
"""


_FolderArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER",
        show_default=False,
        help="Holds images/ and masks/ with files of the same names (pictures or NIfTI), or NIfTI volumes "
        "NAME.nii.gz with masks NAME_mask.nii.gz.",
    ),
]
_ThresholdOption = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        min=0,
        max=1,
        metavar="P",
        show_default="the model's own",
        help="Probability from which a pixel counts as hemorrhage.",
    ),
]
_ImagesOption = Annotated[str, typer.Option("--images", metavar="NAME", help="Folder of the images in FOLDER.")]
_MasksOption = Annotated[str, typer.Option("--masks", metavar="NAME", help="Folder of the masks in FOLDER.")]
_PatientOption = Annotated[
    str | None,
    typer.Option(
        "--patient",
        metavar="COLUMN|REGEX",
        show_default="column patient, else the file's name up to its last _",
        help="The patient of an image: a column of FOLDER/index.csv, or a regular expression whose first group in "
        "the file name is the patient.",
    ),
]
_IgnoreOption = Annotated[
    int | None,
    typer.Option(
        "--ignore",
        metavar="VALUE",
        show_default=False,
        help="Mask value for unknown pixels; they are not scored.",
    ),
]
_NormalsOption = Annotated[
    Path | None,
    typer.Option(
        "--normals",
        metavar="FOLDER",
        show_default=False,
        help="Pictures or NIfTI volumes without hemorrhage, which need no masks: they count for the ROC-AUC of "
        "detection and for the share of quiet slices.",
    ),
]
_AsSegmentedOption = Annotated[
    bool,
    typer.Option(
        "--as-segmented",
        help="Score the mask of `strokeseg segment`, without small components, instead of the probability map cut at "
        "the threshold.",
    ),
]
_LeaksOption = Annotated[
    Path | None,
    typer.Option(
        "--check-leakage",
        metavar="SPLIT.csv",
        show_default=False,
        help="First check that no image is equal or nearly equal to one on the training side of this split.",
    ),
]
_DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FOLDER",
        show_default=False,
        help="With --check-leakage: folder of the data sets, to compare pixels where hashes are not conclusive.",
    ),
]
_JsonToOption = Annotated[
    str | None,
    typer.Option(
        "--json",
        metavar="FILE",
        show_default=False,
        help="Also write every figure as JSON to this file; - prints the JSON on stdout instead of the table.",
    ),
]


def evaluate(
    folder: _FolderArgument,
    model: options.ModelOption = "default",
    engine: options.EngineOption = options.EngineName.auto,
    threads: options.ThreadsOption = 0,
    threshold: _ThresholdOption = None,
    images: _ImagesOption = "images",
    masks: _MasksOption = "masks",
    patient: _PatientOption = None,
    ignore: _IgnoreOption = None,
    normals: _NormalsOption = None,
    as_segmented: _AsSegmentedOption = False,
    window: options.WindowOption = None,
    spacing: options.SpacingOption = None,
    flip: options.FlipOption = False,
    leaks: _LeaksOption = None,
    data: _DataOption = None,
    json_to: _JsonToOption = None,
) -> None:
    """Score a model against reference masks, with 95 % bootstrap intervals over patients.

    Dice, IoU, average precision, precision and recall are given as the mean over slices, as the mean over patients and
    over all pixels; then lesions, surfaces, volumes, detection and calibration. docs/metrics.md defines each metric.
    By default the probability map, cut at the threshold, is scored; with --as-segmented the final mask.
    """
    if as_segmented and threshold is not None:
        raise UsageError("--as-segmented uses the model's own threshold", "Leave --threshold out.")
    from strokeseg import evaluation, pipeline
    from strokeseg.segmentation import models

    to_file = None if json_to in (None, "-") else Path(str(json_to))
    if to_file is not None:
        atomic_write.check_writable(to_file, _FILE_REMEDY, parents=False)
    cut = models.load_card(model).threshold if threshold is None else threshold
    predict = pipeline.make_predictor(
        model, engine=engine.value, threads=threads, window=window, spacing_mm=spacing, flip=flip
    )
    pairs = evaluation.find_pairs(folder, images, masks, patient, ignore, picture_spacing_mm=spacing)
    healthy = evaluation.find_normals(normals, patient, pairs, folder) if normals is not None else []
    if leaks is not None:
        from strokeseg.evaluation import leakage, split_file
        from strokeseg.training.split import make_source_reader

        read_source = make_source_reader(data) if data is not None else None
        leakage.check_leakage([*pairs, *healthy], split_file.read(leaks), read_source, window)
    with terminal.show_progress("scoring", "images") as progress:
        scores = evaluation.evaluate(pairs, predict, cut, normals=healthy, as_segmented=as_segmented, progress=progress)
    if to_file is not None:
        atomic_write.write_file(
            to_file, (scores.model_dump_json(indent=2) + "\n").encode(), _FILE_REMEDY, parents=False
        )
    if json_to == "-":
        terminal.print_data(scores.model_dump_json(indent=2))
    else:
        terminal.show(evaluation.render_table(scores))
