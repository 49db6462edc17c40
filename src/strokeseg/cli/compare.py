"""`strokeseg compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strokeseg.cli import options, terminal
from strokeseg.errors import UsageError
from strokeseg.scan_options import OperatingPointName, SliceOrder

if TYPE_CHECKING:
    from rich.console import RenderableType

    from strokeseg.followup.document import ChangeDocument

EXAMPLES = """\b
Examples:
  strokeseg compare monday.zip tuesday.zip -o results      results/change.html shows what changed
  strokeseg compare monday.zip tuesday.zip --json | jq .change.growth
  strokeseg compare study.zip study.zip --series-earlier 1.2.3.4 --series-later 1.2.3.5
"""

_INPUT_HELP = (
    "A DICOM folder, zip or file; a volume as NIfTI, NRRD or MetaImage; or a stack of pictures with --spacing."
)


_EarlierArgument = Annotated[
    Path, typer.Argument(metavar="EARLIER", show_default=False, help=f"The earlier scan. {_INPUT_HELP}")
]
_LaterArgument = Annotated[
    Path,
    typer.Argument(metavar="LATER", show_default=False, help="The later scan of the same patient, in any form."),
]
_OutOption = Annotated[
    Path,
    typer.Option("-o", "--out", metavar="FOLDER", help="Folder for the results; created if missing."),
]
_FormatsOption = Annotated[
    str,
    typer.Option(
        "--formats",
        metavar="LIST",
        help="Files to write: json (change.json, always written), report (change.html), keys (images of matched "
        "planes).",
    ),
]
_SeriesEarlierOption = Annotated[
    str | None,
    typer.Option("--series-earlier", metavar="UID", show_default=False, help="As --series of `strokeseg segment`."),
]
_SeriesLaterOption = Annotated[
    str | None,
    typer.Option("--series-later", metavar="UID", show_default=False, help="As --series of `strokeseg segment`."),
]
_SamePatientOption = Annotated[
    bool,
    typer.Option(
        "--same-patient",
        help="Compare even if patient IDs or skulls differ, because you know that the patient is the same.",
    ),
]
_AsJsonOption = Annotated[bool, typer.Option("--json", help="Print change.json, and nothing else, on stdout.")]


def compare(
    earlier: _EarlierArgument,
    later: _LaterArgument,
    out: _OutOption = Path("comparison"),
    model: options.ModelOption = "default",
    engine: options.EngineOption = options.EngineName.auto,
    threads: options.ThreadsOption = 0,
    formats: _FormatsOption = "json,report,keys",
    spacing: options.SpacingOption = None,
    window: options.WindowOption = None,
    order: options.OrderOption = SliceOrder.auto,
    series_earlier: _SeriesEarlierOption = None,
    series_later: _SeriesLaterOption = None,
    flip: options.FlipOption = False,
    operating_point: options.OperatingPointOption = OperatingPointName.balanced,
    threshold: options.ThresholdOption = None,
    smallest_ml: options.SmallestOption = None,
    same_patient: _SamePatientOption = False,
    as_json: _AsJsonOption = False,
) -> None:
    """Compare two scans of the same patient: growth in ml, and lesions that are new, gone, merged or split.

    Both scans are segmented, and the earlier scan is registered to the later one by the skull. Scans of two patients
    are refused. The order alone states which scan is the earlier one. Existing results in the folder are replaced.
    """
    from strokeseg import followup
    from strokeseg.followup import outputs

    names = options.parse_names(formats)
    for source in (earlier, later):
        _check_outside_input(source, out)
    outputs.check(out, names)
    with terminal.show_progress("segmenting", "slices") as progress:
        comparison = followup.compare(
            earlier,
            later,
            model=model,
            engine=engine.value,
            threads=threads,
            window=window,
            spacing_mm=spacing,
            order=order,
            series_earlier=series_earlier,
            series_later=series_later,
            flip=flip,
            operating_point=operating_point,
            threshold=threshold,
            smallest_ml=smallest_ml,
            same_patient=same_patient,
            progress=progress,
        )
    document = comparison.save(out, names)
    if as_json:
        terminal.print_data((out / outputs.DOCUMENT_NAME).read_bytes())
    else:
        terminal.show(*_describe_comparison(document, out))


def _describe_comparison(document: ChangeDocument, folder: Path) -> list[RenderableType]:
    """Return the verdict, a table of the lesions, the remarks and the path of the files."""
    from rich.table import Table
    from rich.text import Text

    from strokeseg.followup import page

    lines: list[RenderableType] = [Text(page.summarize(document.change), style="bold")]
    if document.change.change_interval_ml is not None:
        low, high = document.change.change_interval_ml
        lines.append(Text(f"Change {document.change.change_ml:+.1f} ml, interval {low:+.1f} to {high:+.1f} ml"))
    if document.change.lesions:
        table = Table()
        for title in page.TABLE_COLUMNS:
            table.add_column(title, justify="left" if title == page.TABLE_COLUMNS[0] else "right")
        for lesion in document.change.lesions:
            table.add_row(*page.format_row(lesion))
        lines.append(table)
    for remark in document.remarks:
        word = "note" if remark.severity == "info" else remark.severity
        style = "cyan" if remark.severity == "info" else "bold yellow"
        lines.append(Text.assemble((f"{word}: ", style), terminal.escape_unprintable(remark.message)))
    report = document.files.get("report")
    where = terminal.escape_unprintable(str(folder / report if report else folder))
    lines.append(Text(f"{'Report' if report else 'Results'}: {where}"))
    lines.append(Text("For research only; not a medical device.", style="dim"))
    return lines


def _check_outside_input(source: Path, out: Path) -> None:
    """Refuse an output folder inside the input: the next run would read its own images as slices."""
    folder = source.resolve()
    if folder.is_dir() and out.resolve().is_relative_to(folder):
        raise UsageError(f"the output folder lies in the input: {out}", "Name a folder outside the input with -o.")
