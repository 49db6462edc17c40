"""`strokeseg models`: which networks there are, what is known of them, and whether they are whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strokeseg.cli import options, terminal
from strokeseg.errors import CorruptModel, ModelError, UnknownModel

if TYPE_CHECKING:
    from strokeseg.infer.models import Card

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List the installed networks, show what is known of one, or check that their files are whole.",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The network's name, as `strokeseg models list` shows it.")]


@app.command("list")
def list_(as_json: options.AsJson = False) -> None:
    """List the installed networks."""
    from rich.table import Table

    from strokeseg.infer import models

    cards = [models.card(name) for name in models.names()]
    if as_json:
        terminal.data(json.dumps([card.model_dump(mode="json") for card in cards], indent=2, ensure_ascii=False))
        return
    if not cards:
        terminal.note(f"no network is installed in {models.folder()}")
        return
    table = Table()
    for heading in ("Name", "Version", "Architecture", "Input", "Weights", "Threshold"):
        table.add_column(heading, overflow="fold")
    for card in cards:
        table.add_row(card.name, card.version, card.architecture, *_figures(card))
    terminal.show(table)


@app.command(short_help="Show a network's card.", no_args_is_help=True)
def show(name: Name, as_json: options.AsJson = False) -> None:
    """Show a network's card: what it was trained on, how good it is, what it must not be used for."""
    from strokeseg.infer import models

    card = models.card(name)
    prose = models.folder() / f"{name}.md"
    if as_json:
        terminal.data(card.model_dump_json(indent=2))
    elif prose.is_file():
        terminal.data(terminal.printable(prose.read_text(encoding="utf-8", errors="replace"), keep="\n"))
    else:
        terminal.data("\n".join(_lines(card.model_dump(mode="json"))))


@app.command(short_help="Check that the networks' files are whole.")
def verify(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", show_default="all of them", help="The network to check.")
    ] = None,
) -> None:
    """Check that every network's file is byte for byte the one that its card was written for (SHA-256)."""
    from strokeseg.infer import models

    names = [name] if name is not None else models.names()
    if not names:
        raise UnknownModel(f"no network is installed in {models.folder()}", "Install StrokeSeg again.")
    failures: list[ModelError] = []
    for each in names:
        try:
            card, _ = models.weights(each)
            terminal.data(f"{each}: whole, sha256 {card.sha256}")
        except CorruptModel as error:
            failures.append(error)
            terminal.data(f"{each}: CORRUPT: {terminal.printable(error.message)}")
    if failures:
        raise failures[0]


def _figures(card: Card) -> tuple[str, str, str]:
    return f"{card.size} x {card.size}", card.precision, f"{card.threshold:g}"


def _lines(value: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, each in value.items():
        if isinstance(each, dict):
            lines += [f"{indent}{key}:", *_lines(each, indent + "  ")]
        else:
            shown = "; ".join(map(str, each)) if isinstance(each, list) else str(each)
            lines.append(terminal.printable(f"{indent}{key}: {shown}"))
    return lines
