"""`strokeseg bench`: figures that anyone can make again."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from strokeseg import atomic_write
from strokeseg.cli import bench_batch, options, terminal
from strokeseg.cli.train import require_training_packages
from strokeseg.errors import UsageError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Make the figures of the documentation again, on your machine.",
)

_NAME = "Name a file after {}."

EXAMPLES = """\b
Examples:
  strokeseg bench accuracy                               trains what is not trained, for many hours
  strokeseg bench accuracy --only unet-resnet34          one network
  strokeseg bench accuracy --no-train                    scores the runs that are finished
  strokeseg bench accuracy --page-only                   draws the page from stored figures
"""


@app.command(epilog=EXAMPLES)
def accuracy(
    configs: Annotated[
        Path, typer.Option("--configs", metavar="FOLDER", help="Holds zoo/ and ablation/, folders of configurations.")
    ] = Path("configs"),
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", show_default="all", help="A configuration's name; may be repeated."),
    ] = None,
    runs: Annotated[Path, typer.Option("--runs", metavar="FOLDER", help="For the runs; many GB.")] = Path("runs"),
    data: options.DataOption = None,
    results: Annotated[Path, typer.Option("--results", metavar="FILE", help="The figures, as data.")] = Path(
        "benchmarks/accuracy.json"
    ),
    page: Annotated[Path, typer.Option("--page", metavar="FILE", help="The page that is drawn from them.")] = Path(
        "docs/results.md"
    ),
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, metavar="N", help="Train the zoo's best network with so many seeds.")
    ] = 1,
    train: Annotated[bool, typer.Option("--train/--no-train", help="Train what is not trained yet.")] = True,
    again: Annotated[bool, typer.Option("--again", help="Score also what is stored already.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Replace a run of another configuration that lies in a network's folder.")
    ] = False,
    page_only: Annotated[bool, typer.Option("--page-only", help="Only draw the page from the stored figures.")] = False,
) -> None:
    """Train every network of the zoo with one budget, score it on patients it has not seen, and draw the page.

    Each finished network is stored at once. A stop loses nothing: the same command goes on.
    """
    from benchmarks import accuracy as bench
    from benchmarks import accuracy_page as drawing

    if page_only and (again or only or fresh):
        raise UsageError("--page-only scores nothing, so --again, --fresh and --only say nothing", "Leave them out.")
    atomic_write.check_writable(page, _NAME.format("--page"))
    if page_only:
        found = bench.read_results(results)
    else:
        atomic_write.check_writable(results, _NAME.format("--results"))
        chosen = bench.find_configurations([configs / "zoo", configs / "ablation"], only or [])
        with require_training_packages(), contextlib.redirect_stdout(sys.stderr):
            found = bench.run(
                chosen,
                runs,
                results,
                data=data,
                seeds=seeds,
                train=train,
                again=again,
                fresh=fresh,
                progress=sys.stderr.isatty(),
                log=terminal.print_note,
            )
    atomic_write.write_file(
        page, drawing.render_page(found, drawing.read_shipped_cards()).encode(), _NAME.format("--page")
    )
    terminal.print_data(str(page))


@app.command()
def calibration(
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME", show_default="StrokeSeg's own", help="A network; may be repeated."),
    ] = None,
    data: Annotated[Path, typer.Option("--data", metavar="FOLDER", help="Folder of the data sets.")] = Path(
        "../shared/data"
    ),
    page: Annotated[Path, typer.Option("--page", metavar="FILE", help="The page that is drawn.")] = Path(
        "docs/calibration.md"
    ),
    page_only: Annotated[bool, typer.Option("--page-only", help="Only draw the page from the cards.")] = False,
) -> None:
    """Calibrate networks on their validation patients: how sure they are, and how far their volumes may be off.

    The calibration is written into each network's card. The page shows those of StrokeSeg's own networks.
    """
    with require_training_packages():
        from benchmarks import calibration as bench
        from benchmarks import calibration_page
        from benchmarks.accuracy_page import read_shipped_cards

        if page_only and model:
            raise UsageError("--page-only calibrates nothing, so --model says nothing", "Leave it out.")
        atomic_write.check_writable(page, _NAME.format("--page"))
        names = [] if page_only else model or [card.name for card in read_shipped_cards()]
        for name in names:
            bench.calibrate_network(name, data, log=terminal.print_note)
        atomic_write.write_file(
            page, calibration_page.render_page(read_shipped_cards()).encode(), _NAME.format("--page")
        )
    terminal.print_data(str(page))


app.command()(bench_batch.batch)
app.command()(bench_batch.cost)


@app.command()
def speed(
    sample: Annotated[
        Path, typer.Option("--sample", metavar="FILE", help="The DICOM series that the scans are made of.")
    ] = Path("samples/ge_head.zip"),
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FOLDER", show_default=False, help="Of the data sets: do the engines agree?"),
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, metavar="N", help="Measure everything so often.")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the scans of more than 80 slices.")] = False,
    results: Annotated[Path, typer.Option("--results", metavar="FILE", help="The figures, as data.")] = Path(
        "benchmarks/speed.json"
    ),
    page: Annotated[Path, typer.Option("--page", metavar="FILE", help="The page that is drawn from them.")] = Path(
        "docs/speed.md"
    ),
    page_only: Annotated[bool, typer.Option("--page-only", help="Only draw the page from the stored figures.")] = False,
) -> None:
    """Measure speed and memory on this machine, beside the predecessor's network and the processor's limit."""
    from benchmarks import speed as bench
    from benchmarks import speed_page

    atomic_write.check_writable(page, _NAME.format("--page"))
    if page_only:
        found = bench.read_figures(results)
    else:
        atomic_write.check_writable(results, _NAME.format("--results"))
        with require_training_packages():
            found = bench.run(results, sample, data=data, rounds=rounds, quick=quick, log=terminal.print_note)
    atomic_write.write_file(page, speed_page.render_page(found).encode(), _NAME.format("--page"))
    terminal.print_data(str(page))
