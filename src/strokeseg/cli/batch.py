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
from strokeseg.scan_options import OperatingPointName, SliceOrder

if TYPE_CHECKING:
    from strokeseg.batch import Progress, Summary

EXAMPLES = """\b
Examples:
  strokeseg batch studies/ -o results             every zip, volume and DICOM study below
  strokeseg batch --manifest list.csv -o results --workers 4
  strokeseg batch s3://bucket/studies/ -o results
  strokeseg batch studies/ -o results --ray auto  on a Ray cluster
  strokeseg batch studies/ -o results             again: segments what is missing or has changed
\b
Exit codes: 0 every study has a result; 3 some have none, failures.csv states the reasons.
"""

_LINE_INTERVAL_S = 30.0
_SOME_FAILED = 3


_SourcesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT...",
        show_default=False,
        help="Files, folders and URLs (s3://BUCKET/KEY). In a folder every archive, volume, DICOM study and "
        "folder of pictures is one study, at any depth.",
    ),
]
_OutOption = Annotated[
    Path | None,
    typer.Option(
        "-o", "--out", metavar="FOLDER", show_default=False, help="Folder for the results; created if missing."
    ),
]
_ManifestOption = Annotated[
    Path | None,
    typer.Option(
        "--manifest",
        metavar="FILE",
        show_default=False,
        help="A list of studies, CSV or Parquet: column path; optional id, window, spacing, order, model, series.",
    ),
]
_WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        metavar="N",
        show_default="what cores and memory allow",
        help="Number of workers, one thread each.",
    ),
]
_RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        show_default=False,
        help="Run on a Ray cluster: its address, or auto for the cluster of this machine, else a local one. "
        "Every machine must see the folder of -o.",
    ),
]
_FormatsOption = Annotated[
    str,
    typer.Option("--formats", metavar="LIST", help="Files of each study, as in `strokeseg segment`."),
]
_LimitMemoryOption = Annotated[
    int | None,
    typer.Option(
        "--limit-memory",
        metavar="MB",
        show_default="what is free",
        help="Memory of all workers of this machine together; beyond it the largest worker is ended and its study "
        "is tried again alone.",
    ),
]
_TimeoutOption = Annotated[
    float | None,
    typer.Option("--timeout", metavar="SECONDS", show_default="none", help="Time limit for one study."),
]
_RetryFailedOption = Annotated[
    bool, typer.Option("--retry-failed", help="Also retry studies that failed permanently in an earlier run.")
]


def batch(
    sources: _SourcesArgument = None,
    out: _OutOption = None,
    manifest: _ManifestOption = None,
    workers: _WorkersOption = None,
    ray: _RayOption = None,
    formats: _FormatsOption = "json,nifti",
    model: options.ModelOption = "default",
    engine: options.EngineOption = options.EngineName.auto,
    spacing: options.SpacingOption = None,
    window: options.WindowOption = None,
    order: options.OrderOption = SliceOrder.auto,
    operating_point: options.OperatingPointOption = OperatingPointName.balanced,
    threshold: options.ThresholdOption = None,
    smallest_ml: options.SmallestOption = None,
    limit_memory: _LimitMemoryOption = None,
    timeout: _TimeoutOption = None,
    retry_failed: _RetryFailedOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Segment many studies into one folder, on all cores or on a Ray cluster.

    A study that fails does not stop the others: failures.csv lists it. results.csv and results.parquet hold one row per
    study. After a stop the same command completes what is missing. See docs/batch.md.
    """
    from strokeseg.batch import run

    if not sources and manifest is None:
        raise UsageError("no input", "Name files, folders or URLs, or a list with --manifest.")
    if out is None:
        raise UsageError("no output folder", "Name one with -o.")
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
            order=order,
            operating_point=operating_point,
            threshold=threshold,
            smallest_ml=smallest_ml,
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
            f"{summary.failed:,} of {summary.studies:,} studies have no result; see {out / 'failures.csv'}"
        )
        raise typer.Exit(_SOME_FAILED)


def _format_summary(summary: Summary, out: Path) -> str:
    rate = f", {summary.done / summary.seconds:.2f} per second" if summary.done and summary.seconds else ""
    return (
        f"{summary.done:,} of {summary.studies:,} studies segmented in {_format_duration(summary.seconds)}{rate}; "
        f"{summary.before:,} were done before, {summary.failed:,} failed.\n"
        f"Hemorrhage in {summary.with_blood:,} of them. Table: {out / 'results.csv'}"
    )


@contextmanager
def _show_progress() -> Iterator[Callable[[Progress], None]]:
    """Show rate and remaining time while the block runs: a bar on a terminal, else a line every 30 s."""
    if not sys.stderr.isatty():
        yield _print_progress_lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
    console = Console(file=sys.stderr, markup=False, emoji=False, highlight=False)
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("listing studies", total=None, state="")

        def update(now: Progress) -> None:
            state = _format_progress(now)
            bar.update(task, description="segmenting", completed=now.completed, total=now.total, state=state)

        yield update


def _print_progress_lines() -> Callable[[Progress], None]:
    last = time.monotonic()

    def print_line(now: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_INTERVAL_S or now.completed == now.total:
            last = time.monotonic()
            terminal.print_note(_format_progress(now))

    return print_line


def _format_progress(now: Progress) -> str:
    failures = f", {now.failed:,} failed" if now.failed else ""
    left = f", {_format_duration(now.remaining_s)} left" if now.remaining_s is not None else ""
    return f"{now.completed:,} of {now.total:,} studies{failures}, {now.studies_per_second:.2f} per second{left}"


def _format_duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
