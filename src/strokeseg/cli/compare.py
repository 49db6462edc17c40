"""`strokeseg compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strokeseg.cli import options, terminal
from strokeseg.errors import UsageError

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
    "A DICOM folder, zip or file; a volume as NIfTI, NRRD or MetaImage; or a stack of pictures of known --spacing."
)


def compare(
    earlier: Annotated[
        Path, typer.Argument(metavar="EARLIER", show_default=False, help=f"The earlier scan. {_INPUT_HELP}")
    ],
    later: Annotated[
        Path, typer.Argument(metavar="LATER", show_default=False, help="The later scan of the same head, in any form.")
    ],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="FOLDER", help="Folder for the results; made if missing."),
    ] = Path("comparison"),
    model: options.ModelOption = "default",
    engine: options.EngineOption = options.EngineName.auto,
    threads: options.ThreadsOption = 0,
    formats: Annotated[
        str,
        typer.Option(
            "--formats",
            metavar="LIST",
            help="Which files to write: json (change.json, always written), report (change.html), keys (pictures of "
            "matched planes).",
        ),
    ] = "json,report,keys",
    spacing: options.SpacingOption = None,
    window: options.WindowOption = None,
    series_earlier: Annotated[
        str | None,
        typer.Option("--series-earlier", metavar="UID", show_default=False, help="Like --series of segment."),
    ] = None,
    series_later: Annotated[
        str | None, typer.Option("--series-later", metavar="UID", show_default=False, help="Like --series of segment.")
    ] = None,
    flip: options.FlipOption = False,
    same_patient: Annotated[
        bool,
        typer.Option(
            "--same-patient",
            help="Compare also where patient numbers or skulls differ; you know that it is one patient.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print change.json on stdout, and nothing else there.")
    ] = False,
) -> None:
    """Say what changed between two scans of one head: growth in ml, lesions new, gone, merged or split.

    Both scans are segmented, and the earlier head is laid on the later one by its skull. Two patients are refused.
    Which scan is the earlier one is told by the order alone. Existing results in the folder are replaced.
    """
    from strokeseg.followup import comparison as followup
    from strokeseg.followup import outputs as writing

    chosen = options.parse_names(formats)
    for source in (earlier, later):
        _check_outside_input(source, out)
    writing.check(out, chosen)
    with terminal.show_progress("segmenting", "slices") as progress:
        comparison = followup.compare(
            earlier,
            later,
            model=model,
            engine=engine.value,
            threads=threads,
            window=window,
            spacing_mm=spacing,
            series_earlier=series_earlier,
            series_later=series_later,
            flip=flip,
            same_patient=same_patient,
            progress=progress,
        )
    document = comparison.save(out, chosen)
    if as_json:
        terminal.print_data((out / writing.DOCUMENT_NAME).read_bytes())
    else:
        terminal.show(*_describe_comparison(document, out))


def _describe_comparison(document: ChangeDocument, folder: Path) -> list[RenderableType]:
    """Return the verdict, a line a lesion, the remarks, and where the files are."""
    from rich.table import Table
    from rich.text import Text

    from strokeseg.followup import outputs as writing

    parts: list[RenderableType] = [Text(writing.summarize(document.change), style="bold")]
    if document.change.change_interval_ml is not None:
        low, high = document.change.change_interval_ml
        parts.append(Text(f"Change {document.change.change_ml:+.1f} ml, interval {low:+.1f} to {high:+.1f} ml"))
    if document.change.lesions:
        table = Table()
        for title in writing.TABLE_COLUMNS:
            table.add_column(title, justify="left" if title == writing.TABLE_COLUMNS[0] else "right")
        for lesion in document.change.lesions:
            table.add_row(*writing.format_row(lesion))
        parts.append(table)
    for remark in document.remarks:
        word = "note" if remark.severity == "info" else remark.severity
        style = "cyan" if remark.severity == "info" else "bold yellow"
        parts.append(Text.assemble((f"{word}: ", style), terminal.escape_unprintable(remark.message)))
    report = document.files.get("report")
    where = terminal.escape_unprintable(str(folder / report if report else folder))
    parts.append(Text(f"{'Report' if report else 'Results'}: {where}"))
    parts.append(Text("For research only; no medical device.", style="dim"))
    return parts


def _check_outside_input(source: Path, out: Path) -> None:
    """Refuse a folder for results inside an input: the next run would read its own pictures as slices."""
    whole = source.resolve()
    if whole.is_dir() and (out.resolve() == whole or whole in out.resolve().parents):
        raise UsageError(
            f"the results would lie in the input folder: {out}", "Name a folder outside of the input with -o."
        )
