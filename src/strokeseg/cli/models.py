"""`strokeseg models`: list, show, check, add and remove models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strokeseg.cli import options, terminal
from strokeseg.errors import CorruptModel, ModelError, UnknownModel

if TYPE_CHECKING:
    from strokeseg.segmentation.models import Card

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List the installed models, show a model's card, verify the files, or add and remove your own.",
)

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the model; `strokeseg models list` shows the names.")
]


@app.command("list")
def list_(as_json: options.JsonOption = False) -> None:
    """List the installed models; a model whose card cannot be read is listed as broken."""
    from rich.table import Table

    from strokeseg.segmentation import models

    cards_by_name = {name: _load_card_or_message(name) for name in models.list_names()}
    if as_json:
        cards = [
            {"name": name, "broken": card} if isinstance(card, str) else card.model_dump(mode="json")
            for name, card in cards_by_name.items()
        ]
        terminal.print_data(json.dumps(cards, indent=2, ensure_ascii=False))
        return
    if not cards_by_name:
        terminal.print_note(f"no model is installed in {_format_folders()}")
        return
    table = Table()
    for heading in ("Name", "Version", "Architecture", "Input", "Weights", "Threshold"):
        table.add_column(heading, overflow="fold")
    for name, card in cards_by_name.items():
        if isinstance(card, str):
            table.add_row(terminal.escape_unprintable(name), "", terminal.escape_unprintable(f"BROKEN: {card}"))
        else:
            table.add_row(card.name, card.version, card.architecture, *_format_figures(card))
    terminal.show(table)


@app.command(short_help="Show a model's card.", no_args_is_help=True)
def show(name: NameArgument, as_json: options.JsonOption = False) -> None:
    """Show a model's card: training data, accuracy, limits of use."""
    from strokeseg.segmentation import models

    card = models.load_card(name)
    prose = models.find_folder(name) / f"{name}.md"
    if as_json:
        terminal.print_data(card.model_dump_json(indent=2))
    elif prose.is_file():
        terminal.print_data(terminal.escape_unprintable(prose.read_text(encoding="utf-8", errors="replace"), keep="\n"))
    else:
        terminal.print_data("\n".join(_format_lines(card.model_dump(mode="json"))))


@app.command(short_help="Check that the models' files are intact.")
def verify(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", show_default="all of them", help="The model to check.")
    ] = None,
) -> None:
    """Check that the SHA-256 of every network file is the one in the model's card."""
    from strokeseg.segmentation import models

    names = [name] if name is not None else models.list_names()
    if not names:
        raise UnknownModel(f"no model is installed in {_format_folders()}", "Install StrokeSeg again.")
    failures: list[ModelError] = []
    for each in names:
        try:
            card, _ = models.load_weights(each)
            terminal.print_data(f"{each}: intact, sha256 {card.sha256}")
        except CorruptModel as error:
            failures.append(error)
            terminal.print_data(f"{each}: CORRUPT: {terminal.escape_unprintable(error.message)}")
    if failures:
        raise failures[0]


@app.command(short_help="Add a model of your own.", no_args_is_help=True)
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", show_default=False, help="The network.")],
    card: Annotated[
        Path | None, typer.Option("--card", metavar="FILE.json", show_default="beside it", help="Its card.")
    ] = None,
) -> None:
    """Add a network with its card as a model of your own, for use with --model.

    The network takes one grey channel, (1, 1, size, size) in -1..1, and returns logits of the same shape; it is run
    once as a check. A network whose SHA-256 differs from its card is refused. `strokeseg train CONFIG --export` writes
    both files.
    """
    from strokeseg.segmentation import installation

    added = installation.install_model(file, card)
    terminal.print_data(f"{added.name}: added; use it with --model {added.name}")


@app.command("card", short_help="Print a card to fill in for a network of your own.", no_args_is_help=True)
def card_(
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", show_default=False, help="The network.")],
) -> None:
    """Print a card for a network: the entries that the file states are filled in, the others are left to you.

    Redirect the output: strokeseg models card mine.onnx > mine.json
    """
    from strokeseg.segmentation import installation

    terminal.print_data(installation.make_card_template(file).model_dump_json(indent=2))


@app.command(short_help="Remove a model that you added.", no_args_is_help=True)
def remove(name: NameArgument) -> None:
    """Remove a model that you added; the shipped models cannot be removed."""
    from strokeseg.segmentation import installation

    installation.remove_model(name)
    terminal.print_data(f"{name}: removed")


def _format_folders() -> str:
    from strokeseg.segmentation import models

    return " or ".join(str(folder) for folder in models.list_folders())


def _load_card_or_message(name: str) -> Card | str:
    from strokeseg.segmentation import models

    try:
        return models.load_card(name)
    except CorruptModel as error:
        return error.message


def _format_figures(card: Card) -> tuple[str, str, str]:
    return f"{card.size} x {card.size}", card.precision, f"{card.threshold:g}"


def _format_lines(value: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, each in value.items():
        if isinstance(each, dict):
            lines += [f"{indent}{key}:", *_format_lines(each, indent + "  ")]
        else:
            shown = "; ".join(map(str, each)) if isinstance(each, list) else str(each)
            lines.append(terminal.escape_unprintable(f"{indent}{key}: {shown}"))
    return lines
