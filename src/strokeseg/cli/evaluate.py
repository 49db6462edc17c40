"""`strokeseg evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from strokeseg import atomic_write
from strokeseg.cli import options, terminal
from strokeseg.errors import UsageError
from strokeseg.scan_options import OperatingPointName, SliceOrder, Spacing, Window

if TYPE_CHECKING:
    from strokeseg.evaluation import Normal, Pair, ScanCase
    from strokeseg.evaluation.image_files import Spacing as SpacingMm

_FILE_REMEDY = "Name another file with --json, or - for stdout."

EXAMPLES = """\b
Examples:
  strokeseg evaluate samples/ctich_jpg --window 40,120
  strokeseg evaluate mine --images ct --masks blood --patient 'p(\\d+)_' --json figures.json
  strokeseg evaluate mine --normals healthy --as-segmented
  strokeseg evaluate mine --json - | jq .per_patient.dice
  strokeseg evaluate patients --whole-scans --normals healthy --assume-spacing 5,0.45,0.45
  strokeseg evaluate data/ctich --set ctich --role test
  strokeseg evaluate data/ctich --set ctich --role train --unseen splits/default.csv
"""


class _Settings(TypedDict):
    """Arguments of :func:`strokeseg.segment`."""

    model: str
    engine: str
    threads: int
    window: Window | None
    spacing_mm: Spacing | None
    order: SliceOrder
    flip: bool
    operating_point: OperatingPointName
    threshold: float | None
    smallest_ml: float | None


class SetName(StrEnum):
    """Built-in sets of whole scans; the names of :data:`strokeseg.training.scan_sets.SCAN_SETS`."""

    ctich = "ctich"
    phe_sich = "phe_sich"


_FolderArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER",
        show_default=False,
        help="Holds images/ and masks/ with files of the same names (pictures or NIfTI), or NIfTI volumes "
        "NAME.nii.gz with masks NAME_mask.nii.gz. With --whole-scans: a scan for each patient, a folder of pictures or "
        "DICOM files or a volume, and its mask masks/NAME/ or masks/NAME.nii.gz.",
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
        help="Probability from which a pixel counts as hemorrhage; with --whole-scans as for `strokeseg segment`.",
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
        "detection and for the share of quiet slices. With --whole-scans: scans, one for each patient.",
    ),
]
_WholeScansOption = Annotated[
    bool,
    typer.Option(
        "--whole-scans",
        help="Score whole scans, answered as `strokeseg segment` answers them: also sensitivity and specificity by "
        "patient, lesions by size, volumes beside ABC/2.",
    ),
]
_SetOption = Annotated[
    SetName | None,
    typer.Option(
        "--set",
        metavar="NAME",
        show_default=False,
        help=f"FOLDER is this public set of whole scans: {', '.join(SetName)}.",
    ),
]
_RoleOption = Annotated[
    str | None,
    typer.Option(
        "--role",
        metavar="ROLE",
        show_default=False,
        help="Whole scans: only the patients with this role in FOLDER/index.csv; of ctich train or test.",
    ),
]
_UnseenOption = Annotated[
    Path | None,
    typer.Option(
        "--unseen",
        metavar="SPLIT.csv",
        show_default=False,
        help="Whole scans: leave out the patients on the training side of this split.",
    ),
]
_AssumeSpacingOption = Annotated[
    Spacing | None,
    typer.Option(
        "--assume-spacing",
        parser=options.parse_spacing_option,
        metavar="SLICE,ROW,COLUMN",
        show_default="the set's",
        help="Whole scans: spacing in mm for the figures in mm and ml of scans that state none. Unlike --spacing it "
        "does not change the answers.",
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
    whole_scans: _WholeScansOption = False,
    data_set: _SetOption = None,
    role: _RoleOption = None,
    unseen: _UnseenOption = None,
    assume_spacing: _AssumeSpacingOption = None,
    order: options.OrderOption = SliceOrder.auto,
    flip: options.FlipOption = False,
    operating_point: options.OperatingPointOption = OperatingPointName.balanced,
    smallest_ml: options.SmallestOption = None,
    leaks: _LeaksOption = None,
    data: _DataOption = None,
    json_to: _JsonToOption = None,
) -> None:
    """Score a model against reference masks, with 95 % bootstrap intervals over patients.

    Dice, IoU, average precision, precision and recall are given as the mean over slices, as the mean over patients and
    over all pixels; then lesions, surfaces, volumes, detection and calibration. docs/metrics.md defines each metric.
    By default the probability map, cut at the threshold, is scored; with --as-segmented the final mask. With
    --whole-scans or --set each scan is answered as by `strokeseg segment`, and scored as a whole.
    """
    whole_scans = whole_scans or data_set is not None
    if as_segmented and threshold is not None:
        raise UsageError("--as-segmented uses the model's own threshold", "Leave --threshold out.")
    is_point_given = operating_point != OperatingPointName.balanced
    if (is_point_given or smallest_ml is not None) and not (as_segmented or whole_scans):
        name = "--operating-point" if is_point_given else "--smallest-ml"
        raise UsageError(f"{name} does not change a probability map", "Add --as-segmented or --whole-scans.")
    for name, value in (("--role", role), ("--unseen", unseen), ("--assume-spacing", assume_spacing)):
        if value is not None and not whole_scans:
            raise UsageError(f"{name} applies to whole scans", "Add --whole-scans or --set.")
    from strokeseg import evaluation, pipeline
    from strokeseg.segmentation import models

    to_file = None if json_to in (None, "-") else Path(str(json_to))
    if to_file is not None:
        atomic_write.check_writable(to_file, _FILE_REMEDY, parents=False)
    cut = models.load_card(model).threshold if threshold is None else threshold
    settings = _Settings(
        model=model,
        engine=engine.value,
        threads=threads,
        window=window,
        spacing_mm=spacing,
        order=order,
        flip=flip,
        operating_point=operating_point,
        threshold=threshold if whole_scans else None,
        smallest_ml=smallest_ml,
    )
    predict = pipeline.make_predictor(**settings)
    checked: Sequence[Pair | Normal | ScanCase]
    if whole_scans:
        cases, assumed = _find_cases(folder, data_set, role, images, masks, patient, ignore, normals, unseen)
        checked = cases
    else:
        pairs = evaluation.find_pairs(folder, images, masks, patient, ignore, picture_spacing_mm=spacing)
        healthy = evaluation.find_normals(normals, patient, pairs, folder) if normals is not None else []
        checked = [*pairs, *healthy]
    if leaks is not None:
        from strokeseg.evaluation import leakage, split_file
        from strokeseg.training.split import make_source_reader

        read_source = make_source_reader(data) if data is not None else None
        leakage.check_leakage(checked, split_file.read(leaks), read_source, window)
    if whole_scans:
        with terminal.show_progress("scoring", "scans") as progress:
            scores = evaluation.evaluate_scans(
                cases,
                lambda path: pipeline.segment(path, **settings),
                assumed_spacing_mm=assume_spacing or assumed,
                data_set=None if data_set is None else data_set.value,
                role=role,
                unseen=None if unseen is None else unseen.name,
                progress=progress,
            )
    else:
        with terminal.show_progress("scoring", "images") as progress:
            scores = evaluation.evaluate(
                pairs, predict, cut, normals=healthy, as_segmented=as_segmented, progress=progress
            )
    if to_file is not None:
        atomic_write.write_file(
            to_file, (scores.model_dump_json(indent=2) + "\n").encode(), _FILE_REMEDY, parents=False
        )
    if json_to == "-":
        terminal.print_data(scores.model_dump_json(indent=2))
    else:
        terminal.show(evaluation.render_table(scores))


def _find_cases(
    folder: Path,
    data_set: SetName | None,
    role: str | None,
    images: str,
    masks: str,
    patient: str | None,
    ignore: int | None,
    normals: Path | None,
    unseen: Path | None,
) -> tuple[list[ScanCase], SpacingMm | None]:
    """Find the whole scans to score, and the spacing that their set is assumed to have."""
    from strokeseg import evaluation
    from strokeseg.evaluation import split_file
    from strokeseg.training.scan_sets import SCAN_SETS, leave_out_trained

    assumed = None
    if data_set is None:
        cases = evaluation.find_scans(folder, images, masks, patient, ignore, role)
    else:
        scan_set, assumed = SCAN_SETS[data_set], SCAN_SETS[data_set].assumed_spacing_mm
        if (images, masks, patient, ignore) != ("images", "masks", None, None):
            raise UsageError("--set knows its images, masks and patients", "Leave these options out.")
        if role not in (scan_set.roles or (None,)):
            known = " or ".join(f"--role {name}" for name in scan_set.roles)
            raise UsageError(f"--set {data_set} needs {known or 'no --role'}", f"Give {known or 'none'}.")
        cases = scan_set.find(folder, role)
    if normals is not None:
        cases += evaluation.find_scans_without_blood(normals, patient)
    return (cases if unseen is None else leave_out_trained(cases, split_file.read(unseen))), assumed
