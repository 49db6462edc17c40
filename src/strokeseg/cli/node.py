"""`strokeseg node`: between scanner and archive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strokeseg.cli import options, terminal
from strokeseg.errors import UsageError

if TYPE_CHECKING:
    from strokeseg.pacs.settings import NodeSettings

EXAMPLES = """\b
Examples:
  strokeseg node node.toml --check                 try each peer, and say what it answers
  strokeseg node node.toml --explain SERIES        say which rule a series would hit, and why
  strokeseg node node.toml                         run until Ctrl-C
  strokeseg node node.toml --undelivered           what waits, and what was given up
  strokeseg node node.toml --resend 3f9a21         try it again now

docs/pacs.md begins with a file to copy.
"""


def node(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The node's settings, a TOML file; docs/pacs.md has one to copy.")
    ],
    check: Annotated[bool, typer.Option("--check", help="Try each peer, print a table, and leave.")] = False,
    explain: Annotated[
        Path | None,
        typer.Option(
            "--explain", metavar="SERIES", help="Say which rule the series of a folder or zip hit, and leave."
        ),
    ] = None,
    undelivered: Annotated[
        bool, typer.Option("--undelivered", help="List what waits to be delivered or was given up, and leave.")
    ] = False,
    resend: Annotated[
        str | None, typer.Option("--resend", metavar="ID", help="Have an undelivered one tried again, and leave.")
    ] = None,
    database: Annotated[
        str,
        typer.Option("--database", metavar="URL", help="sqlite:///FILE or postgresql://USER@HOST/NAME, as of serve."),
    ] = "sqlite",
    storage: Annotated[
        str, typer.Option("--storage", metavar="PLACE", help="A folder or s3://BUCKET/PREFIX, as of serve.")
    ] = "strokeseg-data",
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Studies at once; 0 leaves the work to `strokeseg serve`.")
    ] = 1,
    as_json: options.JsonOption = False,
) -> None:
    """Receive CT series by DICOM, segment them, and send the results to the archive.

    Series, results and deliveries outlive a kill. Logs go to stderr, one JSON object a line, without patient data.
    """
    from strokeseg.pacs import settings_file

    if sum((check, explain is not None, undelivered, resend is not None)) > 1:
        raise UsageError("--check, --explain, --undelivered and --resend: one at a time", "Leave the others away.")
    found = settings_file.load_settings(file)
    if check:
        _check_peers(found, as_json)
    elif explain is not None:
        _explain_rules(found, explain, as_json)
    elif undelivered or resend is not None:
        _list_undelivered(database, resend, as_json)
    else:
        _run_node(found, database, storage, workers)


def _check_peers(found: NodeSettings, as_json: bool) -> None:
    from dataclasses import asdict

    from strokeseg.pacs.connection_check import check_connections

    rows = list(check_connections(found))
    if not rows and not as_json:
        terminal.print_note("The file names no peer, server or receiver: there is nobody to try.")
        return
    if as_json:
        terminal.print_data(json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False))
    else:
        _print_table(
            ["name", "tried", "", "answer"], [[r.name, r.tried, "yes" if r.good else "NO", r.said] for r in rows]
        )
    if not all(row.good for row in rows):
        raise typer.Exit(terminal.REFUSED)


def _explain_rules(found: NodeSettings, path: Path, as_json: bool) -> None:
    from strokeseg.pacs.rules import choose_rule
    from strokeseg.pacs.series_processing import read_attributes_by_series

    told = []
    for series_uid, seen in read_attributes_by_series(path):
        decision = choose_rule(found.rule, seen)
        told.append(
            {"series_uid": series_uid, "rule": decision.rule and decision.rule.name, "reasons": decision.reasons}
        )
    if as_json:
        terminal.print_data(json.dumps(told, indent=2, ensure_ascii=False))
        return
    for one in told:
        terminal.print_data(f"series {one['series_uid']}")
        for reason in one["reasons"] or ():
            terminal.print_data(f"  {reason}")


def _list_undelivered(database: str, resend: str | None, as_json: bool) -> None:
    from datetime import datetime

    from strokeseg.pacs import database as tables
    from strokeseg.pacs import outbox
    from strokeseg.web.settings import parse_existing_database_url

    engine = tables.open_database(parse_existing_database_url(database))
    try:
        if resend is not None:
            outbox.retry_now(engine, resend)
            terminal.print_note("It is due now: a running node tries it at once, another when it starts.")
            return
        rows = outbox.list_undelivered(engine)
    finally:
        engine.dispose()
    keys = ("id", "state", "kind", "target", "series_uid", "version", "tries", "error")
    if as_json:
        terminal.print_data(json.dumps([{key: row[key] for key in keys} for row in rows], indent=2, ensure_ascii=False))
        return
    if not rows:
        terminal.print_data("Nothing waits, and nothing was given up.")
        return

    def line(row: Any) -> list[str]:
        since = datetime.fromtimestamp(row["first_at"]).strftime("%Y-%m-%d %H:%M")
        return [row["id"][:8], row["state"], row["kind"], row["target"], since, str(row["tries"]), row["error"]]

    _print_table(["id", "state", "what", "to", "since", "tries", "last answer"], [line(row) for row in rows])


def _run_node(found: NodeSettings, database: str, storage: str, workers: int) -> None:
    import signal

    from strokeseg.pacs import runtime

    node = runtime.start_node(found, database, storage, workers)
    signal.signal(signal.SIGTERM, lambda *_: node.request_stop())
    terminal.print_note(f"Listening as {found.node.ae_title} on port {node.port}. Ctrl-C ends it; nothing is lost.")
    try:
        node.wait()
    except KeyboardInterrupt:
        pass
    finally:
        node.stop()


def _print_table(head: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(line[column]) for line in [head, *rows]) for column in range(len(head))]
    for line in [head, *rows]:
        terminal.print_data("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
