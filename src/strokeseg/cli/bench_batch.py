"""`strokeseg bench batch` and `strokeseg bench cost`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strokeseg import atomic_write
from strokeseg.cli import terminal
from strokeseg.errors import UnreadableFile

_NAME = "Name a file after {}."


def batch(
    scans: Annotated[int, typer.Option("--scans", min=20, metavar="N", help="How many.")] = 1000,
    slices: Annotated[int, typer.Option("--slices", min=1, max=5, metavar="N", help="Of each scan.")] = 3,
    rounds: Annotated[int, typer.Option("--rounds", min=1, metavar="N", help="How often kinds are compared.")] = 3,
    ray: Annotated[bool, typer.Option("--ray/--no-ray", help="Also through Ray.")] = True,
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="The network.")] = "default",
    samples: Annotated[Path, typer.Option("--samples", metavar="FOLDER", help="The sample scans.")] = Path("samples"),
    results: Annotated[Path, typer.Option("--results", metavar="FILE", help="The figures, as data.")] = Path(
        "benchmarks/batch.json"
    ),
    page: Annotated[Path, typer.Option("--page", metavar="FILE", help="The page that shows them.")] = Path(
        "docs/batch.md"
    ),
    page_only: Annotated[bool, typer.Option("--page-only", help="Only draw the stored figures.")] = False,
) -> None:
    """Answer many small scans by processes and by Ray: rate and memory; of whole scans, what a second worker gives."""
    from benchmarks import batch_throughput

    atomic_write.check_writable(page, _NAME.format("--page"))
    if not page_only:
        atomic_write.check_writable(results, _NAME.format("--results"))
        found = batch_throughput.run(
            samples, scans, slices=slices, rounds=rounds, model=model, ray=ray, log=terminal.print_note
        )
        content = found.model_dump_json(indent=1) + "\n"
        atomic_write.write_file(results, content.encode(), _NAME.format("--results"))
    found = batch_throughput.BatchFigures.model_validate_json(_stored(results))
    shown = batch_throughput.insert_figures(_stored(page).decode(), found)
    atomic_write.write_file(page, shown.encode(), _NAME.format("--page"))
    terminal.print_data(str(page))


def _stored(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableFile(f"{path}: {error.strerror or error}", "Run the command in a clone.") from None


def cost(
    euros_per_core_hour: Annotated[
        float, typer.Option("--euros-per-core-hour", min=0, metavar="EUROS", help="What a core costs.")
    ] = 0.04,
    peak: Annotated[
        float, typer.Option("--peak", min=1, metavar="TIMES", help="Arrivals of the busiest hour over the mean one.")
    ] = 3.0,
    wait: Annotated[
        float, typer.Option("--wait", min=1, metavar="SECONDS", help="95 of 100 scans wait no longer for a worker.")
    ] = 60.0,
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="The network.")] = "default",
    samples: Annotated[Path, typer.Option("--samples", metavar="FOLDER", help="The sample scans.")] = Path("samples"),
    results: Annotated[Path, typer.Option("--results", metavar="FILE", help="The figures, as data.")] = Path(
        "benchmarks/cost.json"
    ),
    page: Annotated[Path, typer.Option("--page", metavar="FILE", help="The page that is drawn.")] = Path(
        "docs/cost.md"
    ),
    page_only: Annotated[bool, typer.Option("--page-only", help="Only draw the page from stored figures.")] = False,
) -> None:
    """Say what many scans take and cost: scans a day and core, euros, workers for scans as they come."""
    from benchmarks import cost as bench
    from benchmarks import cost_page

    atomic_write.check_writable(page, _NAME.format("--page"))
    if not page_only:
        atomic_write.check_writable(results, _NAME.format("--results"))
        assumed = bench.Assumptions(euros_per_core_hour=euros_per_core_hour, peak=peak, wait_s=wait)
        made = bench.run(samples, assumed, model=model, say=terminal.print_note)
        atomic_write.write_file(results, (made.model_dump_json(indent=1) + "\n").encode(), _NAME.format("--results"))
    found = bench.Figures.model_validate_json(_stored(results))
    atomic_write.write_file(page, cost_page.page(found).encode(), _NAME.format("--page"))
    terminal.print_data(str(page))
