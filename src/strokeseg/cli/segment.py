"""`strokeseg segment` and `strokeseg inspect`."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer

from strokeseg.cli import options, terminal
from strokeseg.errors import InputError, UnreadableFile, UsageError
from strokeseg.scan_options import OperatingPointName, SliceOrder

SEGMENT_EXAMPLES = """\b
Examples:
  strokeseg segment study.zip -o results       a DICOM study; open results/report.html in a browser
  strokeseg segment head.nii.gz --formats json,nifti
  strokeseg segment slices/ --spacing 5,0.45,0.45 --window 40,80      pictures of known scale
  strokeseg segment study.zip -o results --json | jq .findings.volume_ml
  strokeseg segment study.zip -o results --formats stl,turn --skull      solids and a turning image
"""
INSPECT_EXAMPLES = """\b
Examples:
  strokeseg inspect study.zip
  strokeseg inspect study.zip --json | jq '.series[].input.series_uid'
  strokeseg inspect study.zip --json | jq .refusal.code         null if it can be segmented
  strokeseg inspect study.zip --json | jq .chosen               the series that segment would take
"""


_OutOption = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--out",
        metavar="FOLDER",
        show_default="NAME_strokeseg in the current folder, after the input's name",
        help="Folder for the results; created if missing.",
    ),
]
_FormatsOption = Annotated[
    str,
    typer.Option(
        "--formats",
        metavar="LIST",
        help="Files to write: json (result.json, always written), nifti (CT and mask), mesh (3D scene), "
        "report (report.html), keys (images of the key slices), nrrd (a segmentation for 3D Slicer), stl, ply, "
        "obj (solids in mm), montage (all slices), planes (three through each lesion), views (3D from four sides), "
        "turn (3D, turning), pdf (report.pdf); from DICOM also seg, seg-labelmap, seg-probability, sr, capture, "
        "pdf-dicom. See docs/outputs.md.",
    ),
]
_ExperimentalOption = Annotated[
    bool,
    typer.Option(
        "--experimental", help="Also report hemorrhage types and CT signs of expansion, which are not validated."
    ),
]
_DeidentifyOption = Annotated[
    bool,
    typer.Option(
        "--deidentify",
        help="Replace the UIDs in the results by new ones, made with a random key that is not kept.",
    ),
]
_KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--deidentify-key",
        metavar="FILE",
        show_default=False,
        help="As --deidentify, with the content of this file (16 bytes or more) as the key: a UID gets the same "
        "new UID in every run.",
    ),
]
_AsJsonOption = Annotated[bool, typer.Option("--json", help="Print result.json, and nothing else, on stdout.")]


def segment(
    source: options.InputArgument,
    out: _OutOption = None,
    model: options.ModelOption = "default",
    engine: options.EngineOption = options.EngineName.auto,
    threads: options.ThreadsOption = 0,
    formats: _FormatsOption = "json,nifti,mesh,report,keys",
    native: options.NativeOption = False,
    skull: options.SkullOption = False,
    spacing: options.SpacingOption = None,
    window: options.WindowOption = None,
    order: options.OrderOption = SliceOrder.auto,
    series: options.SeriesOption = None,
    flip: options.FlipOption = False,
    operating_point: options.OperatingPointOption = OperatingPointName.balanced,
    threshold: options.ThresholdOption = None,
    smallest_ml: options.SmallestOption = None,
    experimental: _ExperimentalOption = False,
    deidentify: _DeidentifyOption = False,
    key: _KeyOption = None,
    as_json: _AsJsonOption = False,
) -> None:
    """Find and measure hemorrhage in a head CT, and write the results into a folder.

    One series is read; a series that is not a head CT is refused with a reason. The findings are printed. The folder
    holds files for other programs, and report.html for a browser. Existing results in the folder are replaced.
    """
    from strokeseg import outputs, pipeline, segmentation
    from strokeseg.cli import summary

    folder, names = _choose_folder(source, out), options.parse_names(formats)
    outputs.check(folder, names)
    with terminal.show_progress("segmenting", "slices") as progress:
        result = pipeline.segment(
            source,
            model=model,
            engine=engine.value,
            threads=threads,
            window=window,
            spacing_mm=spacing,
            order=order,
            series=series,
            flip=flip,
            operating_point=operating_point,
            threshold=threshold,
            smallest_ml=smallest_ml,
            experimental=experimental,
            deidentify=_read_key(deidentify, key),
            formats=names,
            progress=progress,
        )
    segmentation.unload_engines()  # this process segments one scan only
    document = result.save(folder, names, native=native, skull=skull)
    if as_json:
        terminal.print_data((folder / "result.json").read_bytes())
    else:
        terminal.show(*summary.describe_result(document, folder))


def inspect(
    source: options.InputArgument,
    spacing: options.SpacingOption = None,
    window: options.WindowOption = None,
    order: options.OrderOption = SliceOrder.auto,
    series: options.SeriesOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Describe an input and whether it can be segmented, without segmenting it.

    Every head CT series is listed with its geometry and its remarks, and the series that `strokeseg segment` would take
    is named. An input that cannot be used, or whose series are equally suitable, is refused as by `strokeseg segment`:
    with a code, a reason, a remedy and exit code 3. With --json the refusal is also printed on stdout.
    """
    from strokeseg.cli import summary
    from strokeseg.reading import read, read_one

    try:
        scans = read(source, series=series, window=window, spacing_mm=spacing, order=order)
    except InputError as error:
        if as_json:
            terminal.print_data(summary.format_refusal_json(error))
        raise
    chosen, refusal = scans[0], None
    if len(scans) > 1:
        try:
            chosen = read_one(source, series=series, window=window, spacing_mm=spacing, order=order)
        except InputError as error:
            refusal = error
    name = None if refusal else chosen.series_name
    if as_json:
        terminal.print_data(summary.format_inspection_json(scans, name, refusal))
    else:
        terminal.show(*summary.describe_inspection(source, scans, name))
    if refusal:
        raise refusal


def _read_key(deidentify: bool, file: Path | None) -> bytes | None:
    """Return the key for new UIDs, or None to keep the UIDs."""
    if file is not None:
        try:
            return file.read_bytes()
        except OSError as error:
            raise UnreadableFile(f"{file}: {error.strerror or error}", "Name a readable file.") from None
    return secrets.token_bytes(32) if deidentify else None


def _choose_folder(source: Path, out: Path | None) -> Path:
    """Choose the output folder, never inside the input, where the next run would read its own images as slices.

    By default it lies in the working folder; beside the input if that is the working folder.

    Raises
    ------
    UsageError
        `usage`, if it would lie in the input.
    """
    path = source.resolve()
    stem = path.name if path.is_dir() else path.name.removesuffix(".nii.gz")
    if stem == path.name and not path.is_dir():
        stem = path.stem
    name = f"{stem or 'scan'}_strokeseg"
    folder = out or Path(name)
    if out is None and path.is_dir() and folder.resolve().is_relative_to(path):  # `segment .`
        folder = path.parent / name
    if path.is_dir() and folder.resolve().is_relative_to(path):
        raise UsageError(f"the output folder lies in the input: {folder}", "Name a folder outside the input with -o.")
    return folder
