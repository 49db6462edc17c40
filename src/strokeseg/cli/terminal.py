"""Output and exit codes of the command line: results on stdout, everything else on stderr."""

from __future__ import annotations

import errno
import logging
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import typer

from strokeseg.errors import NotEnoughMemory, StrokesegError, describe_fault, is_out_of_memory

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

DEBUG_VARIABLE = "STROKESEG_DEBUG"
"""Environment variable with the effect of --debug."""

DONE, FAULT, USAGE, REFUSED = 0, 1, 2, 3
# The codes that a shell reports for a signal: 128 + SIGINT, SIGPIPE, SIGTERM.
INTERRUPTED, PIPE_CLOSED, TERMINATED = 130, 141, 143

# The base of typer's errors for a wrong command line; it has no public name.
_WrongUsage: Any = typer.BadParameter.__base__

# Width of a table in a file or a pipe, which need not fold to a terminal's 80 columns.
_FILE_WIDTH = 140

_state = {"debug": False}


def set_debug(on: bool) -> None:
    """Turn tracebacks of errors and warnings of other packages on or off."""
    _state["debug"] = on
    if not on:
        # Warnings of pydicom quote identifiers of the file. A filter set by the user still comes first.
        warnings.simplefilter("ignore", append=True)
        logging.lastResort = None


def is_debug() -> bool:
    """Return whether --debug is on."""
    return _state["debug"]


def run_app(app: typer.Typer, arguments: Sequence[str] | None, program: str = "strokeseg") -> int:
    """Run an app, print any error on stderr and return the exit code.

    Parameters
    ----------
    app : typer.Typer
        The app.
    arguments : sequence of str, optional
        Those of the process where None.
    program : str, default: "strokeseg"
        Name of the program in help texts and messages.

    Returns
    -------
    int
        The exit code.
    """
    _state["debug"] = False
    if arguments is None:
        # Exit by an exception, so that half-written files are removed.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    for stream in (sys.stdout, sys.stderr):
        _escape_unencodable(stream)
    own, notes = logging.getLogger("strokeseg"), _NoteHandler(logging.WARNING)
    own.addHandler(notes)
    try:
        with warnings.catch_warnings():
            return _run_app(app, arguments, program)
    finally:
        own.removeHandler(notes)


class _NoteHandler(logging.Handler):
    """Log handler that prints StrokeSeg's own warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        print_note(f"warning: {record.getMessage()}")


def _run_app(app: typer.Typer, arguments: Sequence[str] | None, program: str) -> int:
    try:
        code = app(None if arguments is None else list(arguments), prog_name=program, standalone_mode=False)
    except StrokesegError as error:
        _print_traceback(error)
        return _print_error(error.code, error.message, error.remedy, error.exit_code)
    except _WrongUsage as error:
        return _print_usage_error(error)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        return _print_lack_of_memory(error) if is_out_of_memory(error) else _print_fault(error)
    except SystemExit as error:
        # typer raises this when the reader of stdout has gone, as with `| head`; it has made stdout safe to flush.
        if isinstance(error.__context__, OSError) and error.__context__.errno == errno.EPIPE:
            return PIPE_CLOSED
        raise
    if code == INTERRUPTED:
        typer.echo("stopped; no half-written files are left", err=True)
    return code if isinstance(code, int) else DONE


def _escape_unencodable(stream: TextIO) -> None:
    """Print characters that the terminal's encoding lacks as escapes instead of failing."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


def _print_error(code: str, sentence: str, remedy: str, exit_code: int) -> int:
    typer.echo(typer.style(f"error[{code}]: ", fg="red", bold=True) + escape_unprintable(sentence), err=True)
    typer.echo(typer.style("remedy: ", bold=True) + escape_unprintable(remedy), err=True)
    return exit_code


def _print_usage_error(error: Any) -> int:
    context = error.ctx
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.format_message(), err=True)
        return USAGE
    # Prefix of pydantic, which typer validates values with.
    sentence = error.format_message().replace("Value error, ", "").rstrip(".")
    usage = f"{context.get_usage()}\n" if context else ""
    typer.echo(escape_unprintable(usage, keep="\n"), err=True, nl=False)
    command = context.command_path if context else "strokeseg"
    return _print_error("usage", sentence, f"See {command} --help.", USAGE)


def _print_fault(error: Exception) -> int:
    """Print an internal error without the exception's message, which may hold patient data."""
    _print_traceback(error)
    remedy = "Run the command again with strokeseg --debug ... and report the output. Remove patient data first."
    return _print_error("internal", describe_fault(error), remedy, FAULT)


def _print_lack_of_memory(error: Exception) -> int:
    _print_traceback(error)
    refusal = NotEnoughMemory("there is too little memory for this")
    return _print_error(refusal.code, refusal.message, refusal.remedy, refusal.exit_code)


def _print_traceback(error: Exception) -> None:
    if _state["debug"]:
        import traceback

        typer.echo("".join(traceback.format_exception(error)), err=True, nl=False)


def escape_unprintable(text: str, keep: str = "") -> str:
    """Escape control characters, which a file name may contain."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def print_note(text: str) -> None:
    """Print a line for the user on stderr."""
    typer.echo(escape_unprintable(text), err=True)


def print_data(text: str | bytes) -> None:
    """Print data on stdout as UTF-8 with one line end; names that are not valid UTF-8 are escaped."""
    whole = text.encode(errors="backslashreplace") if isinstance(text, str) else text
    typer.echo(whole.rstrip(b"\n"))


def show(*renderables: RenderableType) -> None:
    """Print texts and tables for a person on stdout, in color only on a terminal."""
    console = _make_console(sys.stdout)
    for renderable in renderables:
        console.print(renderable)


def _make_console(stream: TextIO) -> Console:
    from rich.console import Console

    class PipeConsole(Console):
        def on_broken_pipe(self) -> None:
            raise  # rich would exit with code 1

    width = None if stream.isatty() else _FILE_WIDTH
    # No markup and no emoji: brackets and colons in a name are brackets and colons.
    return PipeConsole(
        file=stream, width=width, markup=False, emoji=False, highlight=False, force_terminal=stream.isatty()
    )


@contextmanager
def show_progress(activity: str, unit: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show a progress bar on stderr while the block runs.

    Parameters
    ----------
    activity : str
        Label of the bar, such as "segmenting".
    unit : str
        Unit of the count, such as "slices".

    Yields
    ------
    callable or None
        Takes the number done and the total; None where stderr is not a terminal.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"))
    with Progress(*columns, TimeElapsedColumn(), console=_make_console(sys.stderr), transient=True) as bar:
        task = bar.add_task("reading", total=None, count="")

        def update(done: int, total: int) -> None:
            bar.update(task, description=activity, completed=done, total=total, count=f"{done} of {total} {unit}")

        yield update
