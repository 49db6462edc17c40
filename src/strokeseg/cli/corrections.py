"""`strokeseg corrections`: from the web application to training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strokeseg.cli import terminal

EXAMPLES = """\b
Examples:
  strokeseg corrections -o corrected
  strokeseg train mine.toml          with, in mine.toml:
      [data.own.corrected]
      kind = "pairs"
      folder = "corrected"
      licence = "ours"
"""


def corrections(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FOLDER", help="Folder for the pairs; made if missing.")],
    database: Annotated[
        str, typer.Option("--database", metavar="URL", envvar="STROKESEG_DATABASE", help="As of `strokeseg serve`.")
    ] = "sqlite",
    storage: Annotated[
        str, typer.Option("--storage", metavar="PLACE", envvar="STROKESEG_STORAGE", help="As of `strokeseg serve`.")
    ] = "strokeseg-data",
) -> None:
    """Write what people corrected and accepted in the web application as pairs to train on.

    Of each study the latest accepted version: the CT and the outline as NIfTI, under the id of the study.
    """
    from strokeseg.web import corrections, settings
    from strokeseg.web import database as tables
    from strokeseg.web.storage import Storage

    engine = tables.connect(settings.parse_existing_database_url(database))
    try:
        written = corrections.export_corrections(engine, Storage(storage), out)
    finally:
        engine.dispose()
    for study in written.missing:
        terminal.print_note(f"study {study} has no CT and mask as NIfTI, and was left out")
    terminal.print_data(f"{written.studies} corrected studies are in {out}")
