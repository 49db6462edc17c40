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
    folds: Annotated[
        list[Path] | None,
        typer.Option(
            "--fold",
            metavar="RUN",
            show_default=False,
            help="Also calibrate on the whole scans of CT-ICH: the folder of a run with the model's recipe that left "
            "some of these patients out; repeat it until every patient was left out once.",
        ),
    ] = None,
) -> None:
    """Calibrate a model on its validation patients: probability of hemorrhage and volume interval.

    The calibration is written into the model's card. docs/calibration.md describes the method.
    """
    with require_training_packages():
        from strokeseg.training.calibration import calibrate_network

        card = calibrate_network(name, data, folds=folds or (), log=terminal.print_note)
    terminal.print_data(f"{card.name}: calibrated")
