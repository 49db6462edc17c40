"""`strokeseg node`: the DICOM node between scanners and archive."""

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
  strokeseg node node.toml --check                 try each peer and print its answer
  strokeseg node node.toml --explain SERIES        show which rule a series would match, and why
  strokeseg node node.toml                         run until Ctrl-C
  strokeseg node node.toml --undelivered           list deliveries that wait or were given up
  strokeseg node node.toml --resend 3f9a21         retry a delivery now
  strokeseg node node.toml --retry all             segment the series again that failed

docs/pacs.md begins with an example file.
"""


def node(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Settings of the node, a TOML file; docs/pacs.md has an example.")
    ],
    check: Annotated[bool, typer.Option("--check", help="Try each peer, print a table and exit.")] = False,
    explain: Annotated[
        Path | None,
        typer.Option(
            "--explain", metavar="SERIES", help="Show which rule the series of a folder or zip match, and exit."
        ),
    ] = None,
    undelivered: Annotated[
        bool, typer.Option("--undelivered", help="List deliveries that wait or were given up, and exit.")
    ] = False,
    resend: Annotated[
        str | None, typer.Option("--resend", metavar="ID", help="Mark an undelivered one for another try, and exit.")
    ] = None,
    retry: Annotated[
        str | None,
        typer.Option("--retry", metavar="SERIES", help="Queue a failed series again by its UID, or all, and exit."),
    ] = None,
    audit: Annotated[
        Path, typer.Option("--audit", metavar="FILE", help="The audit log, in which --retry is recorded, as in serve.")
    ] = Path("strokeseg-audit.jsonl"),
    database: Annotated[
        str,
        typer.Option("--database", metavar="URL", help="sqlite:///FILE or postgresql://USER@HOST/NAME, as in serve."),
    ] = "sqlite",
    storage: Annotated[
        str, typer.Option("--storage", metavar="STORAGE", help="A folder or s3://BUCKET/PREFIX, as in serve.")
    ] = "strokeseg-data",
    workers: Annotated[
        int,
        typer.Option("--workers", min=0, help="Studies at once; 0 leaves them to the workers of `strokeseg serve`."),
    ] = 1,
    as_json: options.JsonOption = False,
) -> None:
    """Receive CT series by DICOM, segment them, and send the results to the archive.

    Series, results and deliveries survive a kill. Logs go to stderr, one JSON object per line, without patient data.
    """
    from strokeseg.pacs import settings_file

    if sum((check, explain is not None, undelivered, resend is not None, retry is not None)) > 1:
        message = "--check, --explain, --undelivered, --resend and --retry exclude each other"
        raise UsageError(message, "Leave the others out.")
    settings = settings_file.load_settings(file)
    if check:
        _check_peers(settings, as_json)
    elif explain is not None:
        _explain_rules(settings, explain, as_json)
    elif undelivered or resend is not None:
        _list_undelivered(database, resend, as_json)
    elif retry is not None:
        _retry_series(database, retry, audit, as_json)
    else:
        _run_node(settings, database, storage, workers)


def _check_peers(settings: NodeSettings, as_json: bool) -> None:
    from dataclasses import asdict

    from strokeseg.pacs.connection_check import check_connections

    rows = list(check_connections(settings))
    if not rows and not as_json:
        terminal.print_note("The file names no peer, server or receiver to try.")
        return
    if as_json:
        terminal.print_data(json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False))
    else:
        _print_table(
            ["name", "tried", "", "answer"], [[r.name, r.tried, "yes" if r.good else "NO", r.said] for r in rows]
        )
    if not all(row.good for row in rows):
        raise typer.Exit(terminal.REFUSED)


def _explain_rules(settings: NodeSettings, path: Path, as_json: bool) -> None:
    from strokeseg.pacs.rules import choose_rule
    from strokeseg.pacs.series_processing import read_attributes_by_series

    explanations = []
    for series_uid, attributes in read_attributes_by_series(path):
        decision = choose_rule(settings.rule, attributes)
        explanations.append(
            {"series_uid": series_uid, "rule": decision.rule and decision.rule.name, "reasons": decision.reasons}
        )
    if as_json:
        terminal.print_data(json.dumps(explanations, indent=2, ensure_ascii=False))
        return
    for explanation in explanations:
        terminal.print_data(f"series {explanation['series_uid']}")
        for reason in explanation["reasons"] or ():
            terminal.print_data(f"  {reason}")


def _list_undelivered(database: str, resend: str | None, as_json: bool) -> None:
    from datetime import datetime

    from strokeseg.pacs import outbox
    from strokeseg.pacs.database import open_database
    from strokeseg.web.settings import parse_existing_database_url

    engine = open_database(parse_existing_database_url(database))
    try:
        if resend is not None:
            outbox.retry_now(engine, resend)
            terminal.print_note(
                "The delivery is due now: a running node tries it at once, otherwise at its next start."
            )
            return
        rows = outbox.list_undelivered(engine)
    finally:
        engine.dispose()
    keys = ("id", "state", "kind", "target", "series_uid", "version", "tries", "error")
    if as_json:
        terminal.print_data(json.dumps([{key: row[key] for key in keys} for row in rows], indent=2, ensure_ascii=False))
        return
    if not rows:
        terminal.print_data("No delivery waits, and none was given up.")
        return

    def line(row: Any) -> list[str]:
        since = datetime.fromtimestamp(row["first_at"]).strftime("%Y-%m-%d %H:%M")
        return [row["id"][:8], row["state"], row["kind"], row["target"], since, str(row["tries"]), row["error"]]

    _print_table(["id", "state", "kind", "target", "since", "tries", "last answer"], [line(row) for row in rows])


def _retry_series(database: str, series: str, audit: Path, as_json: bool) -> None:
    from dataclasses import asdict

    from strokeseg.pacs import database as tables
    from strokeseg.pacs.retry import retry_series
    from strokeseg.web.auth.audit import AuditLog
    from strokeseg.web.settings import parse_existing_database_url

    engine = tables.open_database(parse_existing_database_url(database))
    try:
        retried = retry_series(engine, None if series == "all" else series, AuditLog(audit))
    finally:
        engine.dispose()
    if as_json:
        terminal.print_data(json.dumps([asdict(row) for row in retried], indent=2, ensure_ascii=False))
        return
    if not retried:
        terminal.print_data("No series failed.")
        return
    _print_table(["series", "study", "had failed"], [[row.series_uid, row.study, row.reason] for row in retried])
    terminal.print_note("A running node or server segments them within half a minute, otherwise at its next start.")


def _run_node(settings: NodeSettings, database: str, storage: str, workers: int) -> None:
    import signal

    from strokeseg.pacs import runtime

    node = runtime.start_node(settings, database, storage, workers)
    signal.signal(signal.SIGTERM, lambda *_: node.request_stop())
    terminal.print_note(
        f"Listening as {settings.node.ae_title} on port {node.port}. Ctrl-C stops the node; received data are kept."
    )
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
