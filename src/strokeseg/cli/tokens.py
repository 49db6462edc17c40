"""`strokeseg tokens`: what opens the web application to programs and people."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strokeseg.cli import options, terminal
from strokeseg.errors import NotFound

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from strokeseg.serve.auth.tokens import Token

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Make, list or end the tokens that open the web application.",
)

Database = Annotated[
    str,
    typer.Option(
        "--database",
        metavar="URL",
        envvar="STROKESEG_DATABASE",
        show_envvar=True,
        help="The server's database, as `strokeseg serve --database` has it.",
    ),
]
EXAMPLES = """\b
Examples:
  strokeseg tokens create anna --group stroke-unit          may upload and see her own and her group's studies
  strokeseg tokens create prometheus --scope read --never-expires
"""


@app.command(short_help="Make a token; it is shown once.", epilog=EXAMPLES, no_args_is_help=True)
def create(
    owner: Annotated[str, typer.Argument(metavar="OWNER", help="Who it is for; what is uploaded with it is theirs.")],
    group: Annotated[
        str | None, typer.Option("--group", metavar="NAME", show_default=False, help="Whose studies it also shows.")
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            show_default="write",
            help="read: see studies; write: also upload, correct, delete; admin: everybody's.",
        ),
    ] = None,
    days: Annotated[float, typer.Option("--days", metavar="N", help="Days until it expires.")] = 90,
    never: Annotated[bool, typer.Option("--never-expires", help="It opens until it is revoked.")] = False,
    database: Database = "sqlite",
    as_json: options.AsJson = False,
) -> None:
    """Make a token, and print it. It is stored nowhere: what is lost is made again."""
    from strokeseg.serve.auth import tokens

    text, token = tokens.create(_engine(database, made=True), owner, group, scope or ["write"], None if never else days)
    if as_json:
        terminal.data(json.dumps({"token": text, **_shown(token)}, indent=2))
        return
    terminal.data(text)
    until = "until it is revoked" if token.expires is None else f"until {_time(token.expires)}"
    terminal.note(f"It opens {until}, and is not shown again. To end it: strokeseg tokens revoke {token.id}")


@app.command("list", short_help="List the tokens, without what opens.")
def list_(database: Database = "sqlite", as_json: options.AsJson = False) -> None:
    """List all tokens: whose they are, what they open, and until when."""
    from rich.table import Table

    from strokeseg.serve.auth import tokens

    rows = [_shown(token) for token in tokens.every(_engine(database))]
    if as_json:
        terminal.data(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    table = Table()
    for heading in ("Id", "Owner", "Group", "Scopes", "Created", "Expires", "State"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        cells = {**row, "scopes": ", ".join(row["scopes"]), "expires": row["expires"] or "never"}
        table.add_row(*(terminal.printable(str(cells[key] or "")) for key in _COLUMNS))
    terminal.show(table)


@app.command(short_help="End a token.", no_args_is_help=True)
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="As `strokeseg tokens list` shows it.")],
    database: Database = "sqlite",
) -> None:
    """End a token at once, and every session in a browser that was opened with it."""
    from strokeseg.serve.auth import tokens

    token = tokens.revoke(_engine(database), token_id)
    terminal.data(f"{token.id}: revoked {_time(token.revoked)}")


_COLUMNS = ("id", "owner", "group", "scopes", "created", "expires", "state")


def _engine(database: str, made: bool = False) -> Engine:
    from sqlalchemy.exc import SQLAlchemyError

    from strokeseg.errors import NotWritable
    from strokeseg.serve import settings, tables
    from strokeseg.serve.auth.tables import create

    url = settings.database_url(database)
    if not made and url.startswith("sqlite"):
        _must_exist(url)
    try:
        engine = tables.connect(url)
        create(engine)
    except SQLAlchemyError as error:
        # Its own words hold the URL, and that a password.
        raise NotWritable(
            f"the database cannot be opened ({type(error).__name__})", "Give it with --database."
        ) from None
    return engine


def _must_exist(url: str) -> None:
    from pathlib import Path

    from sqlalchemy import make_url

    path = make_url(url).database
    if path is not None and not Path(path).exists():
        raise NotFound("there is no such database", "Give the one of `strokeseg serve` with --database.")


def _shown(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "owner": token.owner,
        "group": token.group,
        "scopes": sorted(token.scopes),
        "created": _time(token.created),
        "expires": _time(token.expires),
        "state": token.state,
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
