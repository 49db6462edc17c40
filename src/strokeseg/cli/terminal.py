"""How the command line speaks: answers go to stdout, everything else to stderr, and errors become exit codes."""

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

from strokeseg.errors import StrokesegError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

DEBUG_VARIABLE = "STROKESEG_DEBUG"
"""Environment variable that does what --debug does."""

DONE, FAULT, USAGE, REFUSED = 0, 1, 2, 3
# As a shell reports a process that a signal ended: 128 + SIGINT, SIGPIPE, SIGTERM.
INTERRUPTED, PIPE_CLOSED, TERMINATED = 130, 141, 143

# What typer raises for a wrong command line; it has no public name.
_WrongUsage: Any = typer.BadParameter.__base__

# A table that is read by a program or from a file is not folded to a terminal's 80 columns.
_FILE_WIDTH = 140

_state = {"debug": False}


def set_debug(on: bool) -> None:
    """Choose whether errors show their traceback, and other packages their warnings."""
    _state["debug"] = on
    if not on:
        # Warnings of pydicom quote the file's identifiers; a filter of the user's own still goes first.
        warnings.simplefilter("ignore", append=True)
        logging.lastResort = None


def run_app(app: typer.Typer, arguments: Sequence[str] | None) -> int:
    """Run an app and turn whatever it raises into a message on stderr and an exit code."""
    _state["debug"] = False
    if arguments is None:
        # Leave by an exception, so that what is half-written goes away.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    for stream in (sys.stdout, sys.stderr):
        _escape_unencodable(stream)
    own, notes = logging.getLogger("strokeseg"), _NoteHandler(logging.WARNING)
    own.addHandler(notes)
    try:
        with warnings.catch_warnings():
            return _run_app(app, arguments)
    finally:
        own.removeHandler(notes)


class _NoteHandler(logging.Handler):
    """Says on the terminal what StrokeSeg itself warns of; other packages stay silent."""

    def emit(self, record: logging.LogRecord) -> None:
        print_note(f"warning: {record.getMessage()}")


def _run_app(app: typer.Typer, arguments: Sequence[str] | None) -> int:
    try:
        code = app(None if arguments is None else list(arguments), prog_name="strokeseg", standalone_mode=False)
    except StrokesegError as error:
        _print_traceback(error)
        return _print_error(error.code, error.message, error.remedy, error.exit_code)
    except _WrongUsage as error:
        return _print_usage_error(error)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        return _print_fault(error)
    except SystemExit as error:
        # typer's answer to a reader of stdout that went away, as head does; it has made stdout safe to flush.
        if isinstance(error.__context__, OSError) and error.__context__.errno == errno.EPIPE:
            return PIPE_CLOSED
        raise
    if code == INTERRUPTED:
        typer.echo("stopped; nothing is left half-written", err=True)
    return code if isinstance(code, int) else DONE


def _escape_unencodable(stream: TextIO) -> None:
    """Show what the terminal's encoding lacks as an escape, rather than stop in the middle of an answer."""
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
    # Pydantic, which typer checks values with, begins its sentences so.
    sentence = error.format_message().replace("Value error, ", "").rstrip(".")
    usage = f"{context.get_usage()}\n" if context else ""
    typer.echo(escape_unprintable(usage, keep="\n"), err=True, nl=False)
    command = context.command_path if context else "strokeseg"
    return _print_error("usage", sentence, f"See {command} --help.", USAGE)


def _print_fault(error: Exception) -> int:
    """Say that it is our fault, and where; an unexpected exception's own words may hold the patient's data."""
    _print_traceback(error)
    frame = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    where = f" in {frame.tb_frame.f_globals.get('__name__', '?')}, line {frame.tb_lineno}" if frame else ""
    sentence = f"this is a fault of StrokeSeg, not yours: {type(error).__name__}{where}"
    remedy = "Run it again as strokeseg --debug ... and report what it shows; take out what names a patient."
    return _print_error("internal", sentence, remedy, FAULT)


def _print_traceback(error: Exception) -> None:
    if _state["debug"]:
        import traceback

        typer.echo("".join(traceback.format_exception(error)), err=True, nl=False)


def escape_unprintable(text: str, keep: str = "") -> str:
    """Escape what would steer the terminal: a file's name may hold anything."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def print_note(text: str) -> None:
    """Print a line for the person at the terminal, on stderr."""
    typer.echo(escape_unprintable(text), err=True)


def print_data(text: str | bytes) -> None:
    """Print data on stdout, always as UTF-8, with a line's end; a name that is no UTF-8 is escaped, as JSON does."""
    whole = text.encode(errors="backslashreplace") if isinstance(text, str) else text
    typer.echo(whole.rstrip(b"\n"))


def show(*drawn: RenderableType) -> None:
    """Print an answer that is meant for a person on stdout: texts and tables, coloured only on a terminal."""
    console = _make_console(sys.stdout)
    for each in drawn:
        console.print(each)


def _make_console(stream: TextIO) -> Console:
    from rich.console import Console

    class Quiet(Console):
        def on_broken_pipe(self) -> None:
            raise  # rich would end the process with exit code 1

    width = None if stream.isatty() else _FILE_WIDTH
    # No markup and no emoji: brackets and colons in a name are brackets and colons.
    return Quiet(file=stream, width=width, markup=False, emoji=False, highlight=False, force_terminal=stream.isatty())


@contextmanager
def show_progress(what: str, unit: str) -> Iterator[Callable[[int, int], None] | None]:
    """Draw a bar on stderr while the block runs; give what moves it, or None where stderr is no terminal.

    Parameters
    ----------
    what : str
        Is done, as "segmenting".
    unit : str
        Of the count, as "slices".
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"))
    with Progress(*columns, TimeElapsedColumn(), console=_make_console(sys.stderr), transient=True) as bar:
        task = bar.add_task("reading", total=None, count="")

        def move(done: int, of: int) -> None:
            bar.update(task, description=what, completed=done, total=of, count=f"{done} of {of} {unit}")

        yield move
