"""`strokeseg segment` and `strokeseg inspect`."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer

from strokeseg.cli import options, terminal
from strokeseg.errors import InputError, UnreadableFile, UsageError

SEGMENT_EXAMPLES = """\b
Examples:
  strokeseg segment study.zip -o results       a DICOM study; results/report.html shows what was found
  strokeseg segment head.nii.gz --formats json,nifti
  strokeseg segment slices/ --spacing 5,0.45,0.45 --window 40,80      pictures of known scale
  strokeseg segment study.zip -o results --json | jq .findings.volume_ml
  strokeseg segment study.zip -o results --formats stl,turn --skull      to print, and a turning picture
"""
INSPECT_EXAMPLES = """\b
Examples:
  strokeseg inspect study.zip
  strokeseg inspect study.zip --json | jq '.series[].input.series_uid'
  strokeseg inspect study.zip --json | jq .refusal.code         null where it can be segmented
  strokeseg inspect study.zip --json | jq .chosen               the series that segment would take
"""


def segment(
    source: options.InputArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FOLDER",
            show_default="NAME_strokeseg here, after the input's name",
            help="Folder for the results; made if missing.",
        ),
    ] = None,
    model: options.ModelOption = "default",
    engine: options.EngineOption = options.EngineName.auto,
    threads: options.ThreadsOption = 0,
    formats: Annotated[
        str,
        typer.Option(
            "--formats",
            metavar="LIST",
            help="Which files to write: json (result.json, always written), nifti (CT and mask), mesh (3D scene), "
            "report (report.html), keys (pictures of the key slices); nrrd (a segmentation for 3D Slicer); stl, ply, "
            "obj (solids in mm); montage (all slices), planes (three through each lesion), views (3D from four sides), "
            "turn (3D, turning), pdf (report.pdf); of DICOM also seg, seg-labelmap, seg-probability, sr, capture, "
            "pdf-dicom. See docs/outputs.md.",
        ),
    ] = "json,nifti,mesh,report,keys",
    native: options.NativeOption = False,
    skull: options.SkullOption = False,
    spacing: options.SpacingOption = None,
    window: options.WindowOption = None,
    series: options.SeriesOption = None,
    flip: options.FlipOption = False,
    experimental: Annotated[
        bool,
        typer.Option(
            "--experimental", help="Also give types of bleeding and CT signs of growth, which are not proven."
        ),
    ] = False,
    deidentify: Annotated[
        bool,
        typer.Option(
            "--deidentify",
            help="Replace the UIDs in the results by new ones, under a key that is made and forgotten.",
        ),
    ] = False,
    key: Annotated[
        Path | None,
        typer.Option(
            "--deidentify-key",
            metavar="FILE",
            show_default=False,
            help="Like --deidentify, with this file's bytes (16 or more) as the key: the same UID gets the same new "
            "one in every run.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print result.json on stdout, and nothing else there.")
    ] = False,
) -> None:
    """Find the bleeding in a head CT, measure it, and write the results into a folder.

    Reads one series, which is refused with a reason where it is no head CT. The answer is printed; the results are
    files that other programs open, and report.html for a browser. Existing results in the folder are replaced.
    """
    from strokeseg import outputs, pipeline, segmentation
    from strokeseg.cli import summary

    folder, chosen = _choose_folder(source, out), options.parse_names(formats)
    outputs.check(folder, chosen)
    with terminal.show_progress("segmenting", "slices") as progress:
        result = pipeline.segment(
            source,
            model=model,
            engine=engine.value,
            threads=threads,
            window=window,
            spacing_mm=spacing,
            series=series,
            flip=flip,
            experimental=experimental,
            deidentify=_read_key(deidentify, key),
            formats=chosen,
            progress=progress,
        )
    segmentation.unload_engines()  # this process answers one scan
    document = result.save(folder, chosen, native=native, skull=skull)
    if as_json:
        terminal.print_data((folder / "result.json").read_bytes())
    else:
        terminal.show(*summary.describe_result(document, folder))


def inspect(
    source: options.InputArgument,
    spacing: options.SpacingOption = None,
    window: options.WindowOption = None,
    series: options.SeriesOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Say what an input holds and whether it can be segmented, without doing it.

    Every head CT series is listed with its geometry and what is to be known of it, and the one that `strokeseg
    segment` would take is named. An input that cannot be used, or of whose series none stands out, is
    refused as `strokeseg segment` would: with a code, a reason and a remedy, and exit code 3; with --json the refusal
    is also the answer on stdout.
    """
    from strokeseg.cli import summary
    from strokeseg.reading import read, read_one

    try:
        scans = read(source, series=series, window=window, spacing_mm=spacing)
    except InputError as error:
        if as_json:
            terminal.print_data(summary.format_refusal_json(error))
        raise
    chosen, refusal = scans[0], None
    if len(scans) > 1:
        try:
            chosen = read_one(source, series=series, window=window, spacing_mm=spacing)
        except InputError as error:
            refusal = error
    uid = None if refusal else chosen.series_uid
    if as_json:
        terminal.print_data(summary.format_inspection_json(scans, uid, refusal))
    else:
        terminal.show(*summary.describe_inspection(source, scans, uid))
    if refusal:
        raise refusal


def _read_key(deidentify: bool, file: Path | None) -> bytes | None:
    """Return the key to replace UIDs with, or None where they stay."""
    if file is not None:
        try:
            return file.read_bytes()
        except OSError as error:
            raise UnreadableFile(f"{file}: {error.strerror or error}", "Name a file with a key.") from None
    return secrets.token_bytes(32) if deidentify else None


def _choose_folder(source: Path, out: Path | None) -> Path:
    """Choose the folder for results, never inside the input: the next run would read its own pictures as slices.

    Raises
    ------
    UsageError
        `usage`, if it would lie in the input.
    """
    whole = source.resolve()
    stem = whole.name.removesuffix(".gz").removesuffix(".nii") if whole.name.endswith(".nii.gz") else whole.stem
    stem = whole.name if whole.is_dir() else stem
    folder = out or Path(f"{stem or 'scan'}_strokeseg")
    if whole.is_dir() and (folder.resolve() == whole or whole in folder.resolve().parents):
        raise UsageError(
            f"the results would lie in the input folder: {folder}", "Name a folder outside of the input with -o."
        )
    return folder
