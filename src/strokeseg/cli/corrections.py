"""`strokeseg corrections`: corrected masks of the web application, for training."""

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
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FOLDER", help="Folder for the pairs; created if missing.")
    ],
    database: Annotated[
        str, typer.Option("--database", metavar="URL", envvar="STROKESEG_DATABASE", help="As in `strokeseg serve`.")
    ] = "sqlite",
    storage: Annotated[
        str, typer.Option("--storage", metavar="STORAGE", envvar="STROKESEG_STORAGE", help="As in `strokeseg serve`.")
    ] = "strokeseg-data",
) -> None:
    """Export masks that users corrected and accepted in the web application as training pairs.

    For each study the latest accepted version is written: CT and mask as NIfTI, named after the study's id.
    """
    from strokeseg.web import corrections, settings
    from strokeseg.web.database import connect
    from strokeseg.web.storage import Storage

    engine = connect(settings.parse_existing_database_url(database))
    try:
        written = corrections.export_corrections(engine, Storage(storage), out)
    finally:
        engine.dispose()
    for study in written.missing:
        terminal.print_note(f"study {study}: no CT and mask as NIfTI; left out")
    terminal.print_data(f"{written.studies} corrected studies written to {out}")
