"""`strokeseg tokens`: access tokens of the web application."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strokeseg.cli import options, terminal
from strokeseg.errors import NotFound

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from strokeseg.web.auth.tokens import Token

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Create, list or revoke access tokens of the web application.",
)

DatabaseOption = Annotated[
    str,
    typer.Option(
        "--database",
        metavar="URL",
        envvar="STROKESEG_DATABASE",
        show_envvar=True,
        help="The server's database, as in `strokeseg serve --database`.",
    ),
]
EXAMPLES = """\b
Examples:
  strokeseg tokens create anna --group stroke-unit          may upload; sees her own and her group's studies
  strokeseg tokens create prometheus --scope read --never-expires
"""


@app.command(short_help="Create a token; it is shown once.", epilog=EXAMPLES, no_args_is_help=True)
def create(
    owner: Annotated[str, typer.Argument(metavar="OWNER", help="Owner of the token and of what is uploaded with it.")],
    group: Annotated[
        str | None,
        typer.Option("--group", metavar="NAME", show_default=False, help="Group whose studies the token also shows."),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            show_default="write",
            help="read: see studies; write: also upload, correct, delete; admin: studies of all owners.",
        ),
    ] = None,
    days: Annotated[float, typer.Option("--days", metavar="N", help="Days until it expires.")] = 90,
    never: Annotated[bool, typer.Option("--never-expires", help="The token is valid until it is revoked.")] = False,
    database: DatabaseOption = "sqlite",
    as_json: options.JsonOption = False,
) -> None:
    """Create a token and print it. The token itself is not stored: replace a lost token by a new one."""
    from strokeseg.web.auth import tokens

    text, token = tokens.create_token(
        _connect_database(database, create_missing=True), owner, group, scope or ["write"], None if never else days
    )
    if as_json:
        terminal.print_data(json.dumps({"token": text, **_describe_token(token)}, indent=2))
        return
    terminal.print_data(text)
    until = "until it is revoked" if token.expires is None else f"until {_format_time(token.expires)}"
    terminal.print_note(f"Valid {until}; not shown again. To revoke it: strokeseg tokens revoke {token.id}")


@app.command("list", short_help="List the tokens, without their secrets.")
def list_(database: DatabaseOption = "sqlite", as_json: options.JsonOption = False) -> None:
    """List all tokens with owner, scopes and expiry."""
    from rich.table import Table

    from strokeseg.web.auth import tokens

    rows = [_describe_token(token) for token in tokens.list_tokens(_connect_database(database))]
    if as_json:
        terminal.print_data(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    table = Table()
    for heading in ("Id", "Owner", "Group", "Scopes", "Created", "Expires", "State"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        cells = {**row, "scopes": ", ".join(row["scopes"]), "expires": row["expires"] or "never"}
        table.add_row(*(terminal.escape_unprintable(str(cells[key] or "")) for key in _COLUMNS))
    terminal.show(table)


@app.command(short_help="Revoke a token.", no_args_is_help=True)
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the token; `strokeseg tokens list` shows it.")],
    database: DatabaseOption = "sqlite",
) -> None:
    """Revoke a token at once, with every browser session that was opened with it."""
    from strokeseg.web.auth import tokens

    token = tokens.revoke_token(_connect_database(database), token_id)
    terminal.print_data(f"{token.id}: revoked {_format_time(token.revoked)}")


_COLUMNS = ("id", "owner", "group", "scopes", "created", "expires", "state")


def _connect_database(database: str, create_missing: bool = False) -> Engine:
    from sqlalchemy.exc import SQLAlchemyError

    from strokeseg.errors import NotWritable
    from strokeseg.web import settings
    from strokeseg.web.auth.credentials import create_tables
    from strokeseg.web.database import connect

    url = settings.parse_database_url(database)
    if not create_missing and url.startswith("sqlite"):
        _check_exists(url)
    try:
        engine = connect(url)
        create_tables(engine)
    except SQLAlchemyError as error:
        # The error's message holds the URL with its password.
        raise NotWritable(f"the database cannot be opened ({type(error).__name__})", "Check --database.") from None
    return engine


def _check_exists(url: str) -> None:
    from pathlib import Path

    from sqlalchemy import make_url

    path = make_url(url).database
    if path is not None and not Path(path).exists():
        raise NotFound("no such database", "Name the database of `strokeseg serve` with --database.")


def _describe_token(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "owner": token.owner,
        "group": token.group,
        "scopes": sorted(token.scopes),
        "created": _format_time(token.created),
        "expires": _format_time(token.expires),
        "state": token.state,
    }


def _format_time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
