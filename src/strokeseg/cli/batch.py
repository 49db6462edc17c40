"""`strokeseg batch`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strokeseg.cli import options, terminal
from strokeseg.errors import UsageError

if TYPE_CHECKING:
    from strokeseg.batch import Progress, Summary

EXAMPLES = """\b
Examples:
  strokeseg batch studies/ -o results             every zip, volume and DICOM study below
  strokeseg batch --manifest list.csv -o results --workers 4
  strokeseg batch s3://bucket/studies/ -o results
  strokeseg batch studies/ -o results --ray auto  on a Ray cluster
  strokeseg batch studies/ -o results             again: does what is missing or has changed
\b
Exit codes: 0 all studies have a result; 3 some have none, failures.csv says why.
"""

_LINE_INTERVAL_S = 30.0
_SOME_FAILED = 3


def batch(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT...",
            show_default=False,
            help="Files, folders and URLs (s3://BUCKET/KEY). In a folder each archive, each volume, each DICOM study "
            "and each folder of pictures is a study, at any depth.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="FOLDER", show_default=False, help="Folder for the results; made if missing."
        ),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            "--manifest",
            metavar="FILE",
            show_default=False,
            help="A list of studies, CSV or Parquet: path, and where wanted id, window, spacing, model, series.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            metavar="N",
            show_default="what cores and memory allow",
            help="Workers of one thread each.",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            show_default=False,
            help="Work on a Ray cluster: its address, or auto for the one that this machine belongs to, else its own. "
            "-o must be a folder that every machine sees.",
        ),
    ] = None,
    formats: Annotated[
        str,
        typer.Option("--formats", metavar="LIST", help="Files of each study, as for `strokeseg segment`."),
    ] = "json,nifti",
    model: options.ModelOption = "default",
    engine: options.EngineOption = options.EngineName.auto,
    spacing: options.SpacingOption = None,
    window: options.WindowOption = None,
    limit_memory: Annotated[
        int | None,
        typer.Option(
            "--limit-memory",
            metavar="MB",
            show_default="what is free",
            help="What all workers of this machine may use together; beyond it the largest is ended and its study "
            "tried again alone.",
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", show_default="none", help="A study may take so long."),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also try again what failed for good in an earlier call.")
    ] = False,
    as_json: options.JsonOption = False,
) -> None:
    """Segment many studies into one folder, on all cores or on a Ray cluster.

    One bad study stops nothing: it is listed in failures.csv. results.csv and results.parquet hold a row a study. A
    stop loses nothing: the same command completes what is missing. See docs/batch.md.
    """
    from strokeseg.batch import run

    if not sources and manifest is None:
        raise UsageError("no input", "Name files, folders or URLs, or a list with --manifest.")
    if out is None:
        raise UsageError("no folder for the results", "Name one with -o.")
    with _show_progress() as progress:
        summary = run(
            sources or [],
            out,
            list_file=manifest,
            workers=workers,
            ray=ray,
            formats=options.parse_names(formats),
            model=model,
            engine=engine.value,
            window=window,
            spacing_mm=spacing,
            limit_memory_mb=limit_memory,
            timeout_s=timeout,
            retry_failed=retry_failed,
            progress=progress,
        )
    if as_json:
        import dataclasses
        import json

        terminal.print_data(json.dumps(dataclasses.asdict(summary)))
    else:
        terminal.print_data(_format_summary(summary, out))
    if summary.failed:
        terminal.print_note(
            f"{summary.failed:,} of {summary.studies:,} studies have no result: see {out / 'failures.csv'}"
        )
        raise typer.Exit(_SOME_FAILED)


def _format_summary(summary: Summary, out: Path) -> str:
    rate = f", {summary.done / summary.seconds:.2f} a second" if summary.done and summary.seconds else ""
    return (
        f"{summary.done:,} of {summary.studies:,} studies answered in {_format_duration(summary.seconds)}{rate}; "
        f"{summary.before:,} were answered before, {summary.failed:,} failed.\n"
        f"Blood in {summary.with_blood:,} of them. Table: {out / 'results.csv'}"
    )


@contextmanager
def _show_progress() -> Iterator[Callable[[Progress], None]]:
    """Show rate and time left while the block runs: a bar on a terminal, else a line now and then."""
    if not sys.stderr.isatty():
        yield _print_progress_lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"))
    console = Console(file=sys.stderr, markup=False, emoji=False, highlight=False)
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("looking for studies", total=None, said="")

        def move(now: Progress) -> None:
            bar.update(
                task, description="segmenting", completed=now.completed, total=now.total, said=_format_progress(now)
            )

        yield move


def _print_progress_lines() -> Callable[[Progress], None]:
    last = time.monotonic()

    def say(now: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_INTERVAL_S or now.completed == now.total:
            last = time.monotonic()
            terminal.print_note(_format_progress(now))

    return say


def _format_progress(now: Progress) -> str:
    failures = f", {now.failed:,} failed" if now.failed else ""
    left = f", {_format_duration(now.remaining_s)} left" if now.remaining_s is not None else ""
    return f"{now.completed:,} of {now.total:,} studies{failures}, {now.studies_per_second:.2f} a second{left}"


def _format_duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
