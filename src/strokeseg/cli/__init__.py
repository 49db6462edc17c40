"""The command line: one module per command group, without logic of its own.

Each command calls the package and prints the result. `strokeseg --help` must start fast, so a command imports what it
needs when it is called.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Annotated

import typer

from strokeseg.cli import (
    batch,
    calibrate,
    compare,
    corrections,
    doctor,
    evaluate,
    models,
    node,
    segment,
    serve,
    terminal,
    tokens,
    train,
)
from strokeseg.version import __version__

__all__ = ["app", "main"]

_EPILOG = """\b
Examples:
  strokeseg segment study.zip -o results
  strokeseg inspect study.zip
  strokeseg models list

Help on one command: strokeseg segment --help.

\b
Exit codes: 0 done (hemorrhage or none), 1 internal error, 2 wrong usage, 3 refused (stderr
shows the code and the remedy), 130 stopped by Ctrl-C.
"""

# Plain help: rich would triple the start-up time.
app = typer.Typer(
    name="strokeseg",
    epilog=_EPILOG,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command(
    short_help="Find and measure hemorrhage in a head CT.", epilog=segment.SEGMENT_EXAMPLES, no_args_is_help=True
)(segment.segment)
app.command(
    short_help="Describe an input without segmenting it.", epilog=segment.INSPECT_EXAMPLES, no_args_is_help=True
)(segment.inspect)
app.command(short_help="Segment many studies; resumes after a stop.", epilog=batch.EXAMPLES, no_args_is_help=True)(
    batch.batch
)
app.command(short_help="Compare two scans of the same patient.", epilog=compare.EXAMPLES, no_args_is_help=True)(
    compare.compare
)
app.command(short_help="Train a network, or export a trained network.", epilog=train.EXAMPLES)(train.train)
app.command(short_help="Score a model against reference masks.", epilog=evaluate.EXAMPLES, no_args_is_help=True)(
    evaluate.evaluate
)
app.command(short_help="Serve the web application.", epilog=serve.EXAMPLES)(serve.serve)
app.command(short_help="Export corrected masks as training pairs.", epilog=corrections.EXAMPLES, no_args_is_help=True)(
    corrections.corrections
)
app.command(short_help="Run the DICOM node between scanners and archive.", epilog=node.EXAMPLES, no_args_is_help=True)(
    node.node
)
app.add_typer(models.app, name="models", short_help="List, show, check, add or remove models.")
app.command(short_help="Calibrate a model of your own.", epilog=calibrate.EXAMPLES, no_args_is_help=True)(
    calibrate.calibrate
)
app.add_typer(tokens.app, name="tokens", short_help="Create, list or revoke access tokens.")
app.command(short_help="Check this installation.", epilog=doctor.EXAMPLES)(doctor.doctor)


def _print_version(requested: bool) -> None:
    if requested:
        terminal.print_data(f"strokeseg {__version__}")
        raise typer.Exit


@app.callback()
def strokeseg(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", envvar=terminal.DEBUG_VARIABLE, help="Show the traceback of every error, for a bug report."
        ),
    ] = False,
) -> None:
    """Find, outline and measure intracranial hemorrhage in head CT.

    For research only. StrokeSeg is not a medical device. Do not base decisions about patients on it.
    """
    terminal.set_debug(debug)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process where None.

    Returns
    -------
    int
        The exit code.
    """
    code = terminal.run_app(app, arguments)
    if arguments is None:
        gc.freeze()  # the process ends: a last garbage collection would take 0.3 s
    return code
