"""The command line. One module a command group, and no logic: each command calls the package and shows the answer.

`strokeseg --help` must be quick, so a command imports what it needs when it is called.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Annotated

import typer

from strokeseg.cli import (
    batch,
    bench,
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

Each command tells more: strokeseg segment --help.

\b
Exit codes: 0 done (blood or none), 2 wrong usage, 3 refused (the code and the remedy are
on stderr), 1 a fault of StrokeSeg, 130 stopped by Ctrl-C.
"""

# Plain help: drawing it with rich would triple the start-up time.
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
    short_help="Find and measure the bleeding in a head CT.", epilog=segment.SEGMENT_EXAMPLES, no_args_is_help=True
)(segment.segment)
app.command(short_help="Say what an input holds.", epilog=segment.INSPECT_EXAMPLES, no_args_is_help=True)(
    segment.inspect
)
app.command(short_help="Segment many studies, and go on after a stop.", epilog=batch.EXAMPLES, no_args_is_help=True)(
    batch.batch
)
app.command(
    short_help="Say what changed between two scans of one head.", epilog=compare.EXAMPLES, no_args_is_help=True
)(compare.compare)
app.command(short_help="Train a network, or export a trained one.", epilog=train.EXAMPLES)(train.train)
app.command(short_help="Score a network against drawn masks.", epilog=evaluate.EXAMPLES, no_args_is_help=True)(
    evaluate.evaluate
)
app.command(short_help="Serve the web application.", epilog=serve.EXAMPLES)(serve.serve)
app.command(
    short_help="Write people's corrections as pairs to train on.", epilog=corrections.EXAMPLES, no_args_is_help=True
)(corrections.corrections)
app.command(short_help="Receive from scanners, deliver to the archive.", epilog=node.EXAMPLES, no_args_is_help=True)(
    node.node
)
app.add_typer(models.app, name="models", short_help="List, show or check the installed networks, or add your own.")
app.add_typer(bench.app, name="bench", short_help="Make the documentation's figures again.")
app.add_typer(tokens.app, name="tokens", short_help="Make, list or end what opens the web application.")
app.command(short_help="Check this installation.", epilog=doctor.EXAMPLES)(doctor.doctor)


def _print_version(asked: bool) -> None:
    if asked:
        terminal.print_data(f"strokeseg {__version__}")
        raise typer.Exit


@app.callback()
def strokeseg(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", envvar=terminal.DEBUG_VARIABLE, help="Show the traceback of every error, to report a fault."
        ),
    ] = False,
) -> None:
    """Find, outline and measure bleeding in a CT of the head.

    For research. StrokeSeg is no medical device: no decision about a patient may rest on it.
    """
    terminal.set_debug(debug)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and give its exit code; without arguments that of the process."""
    code = terminal.run_app(app, arguments)
    if arguments is None:
        gc.freeze()  # the process ends: looking once more through all that was imported takes 0.3 s
    return code
