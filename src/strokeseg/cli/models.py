"""`strokeseg models`: which networks there are, what is known of them, whether they are whole; and one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strokeseg.cli import options, terminal
from strokeseg.errors import CorruptModel, ModelError, UnknownModel

if TYPE_CHECKING:
    from strokeseg.infer.models import Card

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List the installed networks, show what is known of one, check that their files are whole, or add your own.",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The network's name, as `strokeseg models list` shows it.")]


@app.command("list")
def list_(as_json: options.AsJson = False) -> None:
    """List the installed networks; one whose card cannot be read is listed as broken."""
    from rich.table import Table

    from strokeseg.infer import models

    found = {name: _card_or_fault(name) for name in models.names()}
    if as_json:
        cards = [
            {"name": name, "broken": card} if isinstance(card, str) else card.model_dump(mode="json")
            for name, card in found.items()
        ]
        terminal.data(json.dumps(cards, indent=2, ensure_ascii=False))
        return
    if not found:
        terminal.note(f"no network is installed in {_places()}")
        return
    table = Table()
    for heading in ("Name", "Version", "Architecture", "Input", "Weights", "Threshold"):
        table.add_column(heading, overflow="fold")
    for name, card in found.items():
        if isinstance(card, str):
            table.add_row(terminal.printable(name), "", terminal.printable(f"BROKEN: {card}"))
        else:
            table.add_row(card.name, card.version, card.architecture, *_figures(card))
    terminal.show(table)


@app.command(short_help="Show a network's card.", no_args_is_help=True)
def show(name: Name, as_json: options.AsJson = False) -> None:
    """Show a network's card: what it was trained on, how good it is, what it must not be used for."""
    from strokeseg.infer import models

    card = models.card(name)
    prose = models.folder(name) / f"{name}.md"
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
        raise UnknownModel(f"no network is installed in {_places()}", "Install StrokeSeg again.")
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


@app.command(short_help="Add a network of your own.", no_args_is_help=True)
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", show_default=False, help="The network.")],
    card: Annotated[
        Path | None, typer.Option("--card", metavar="FILE.json", show_default="beside it", help="Its card.")
    ] = None,
) -> None:
    """Add a network of your own, with its card, to those that --model may name.

    It takes one grey channel, (1, 1, size, size) in -1..1, and gives as many logits; it is tried once. A network whose
    bytes are not those of its card is refused. `strokeseg train CONFIG --export` writes both files.
    """
    from strokeseg.infer import install

    added = install.install(file, card)
    terminal.data(f"{added.name}: added; use it with --model {added.name}")


@app.command("card", short_help="Print a card to be filled in for a network of your own.", no_args_is_help=True)
def card_(
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", show_default=False, help="The network.")],
) -> None:
    """Print a card for a network: what its file tells is filled in, the rest is for you.

    Redirect it: strokeseg models card mine.onnx > mine.json
    """
    from strokeseg.infer import install

    terminal.data(install.blank_card(file).model_dump_json(indent=2))


@app.command(short_help="Remove a network that you added.", no_args_is_help=True)
def remove(name: Name) -> None:
    """Remove a network that you added; StrokeSeg's own stay."""
    from strokeseg.infer import install

    install.remove(name)
    terminal.data(f"{name}: removed")


def _places() -> str:
    from strokeseg.infer import models

    return " or ".join(str(folder) for folder in models.folders())


def _card_or_fault(name: str) -> Card | str:
    from strokeseg.infer import models

    try:
        return models.card(name)
    except CorruptModel as error:
        return error.message


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
