"""`strokeseg calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strokeseg.cli import terminal
from strokeseg.cli.train import require_training_packages

EXAMPLES = """\b
Examples:
  strokeseg train mine.toml --export              trains and installs the model "mine"
  strokeseg calibrate mine --data data            adds the calibration to its card
"""


def calibrate(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", show_default=False, help="An installed model, as `strokeseg models list` shows it."
        ),
    ],
    data: Annotated[
        Path,
        typer.Option("--data", metavar="FOLDER", help="Folder of the data sets that the model was validated on."),
    ],
) -> None:
    """Calibrate a model on its validation patients: probability of hemorrhage and volume interval.

    The calibration is written into the model's card. docs/calibration.md describes the method.
    """
    with require_training_packages():
        from strokeseg.training.calibration import calibrate_network

        card = calibrate_network(name, data, log=terminal.print_note)
    terminal.print_data(f"{card.name}: calibrated")
