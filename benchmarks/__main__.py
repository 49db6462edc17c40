"""Command line of the benchmarks: `python -m benchmarks NAME`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from strokeseg import atomic_write
from strokeseg.cli import options, terminal
from strokeseg.cli.train import require_training_packages
from strokeseg.errors import UnreadableFile, UsageError

app = typer.Typer(
    name="benchmarks",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Measure the figures of the documentation again and write the pages. Run it in a clone of the repository.",
)

_PAGE_REMEDY = "Name another file with --page."
_RESULTS_REMEDY = "Name another file with --results."
_EXAMPLES = """\b
Examples:
  python -m benchmarks accuracy                          trains all missing networks; takes many hours
  python -m benchmarks accuracy --only unet-resnet34     one network
  python -m benchmarks accuracy --no-train               scores the finished runs
  python -m benchmarks accuracy --page-only              writes the page from the stored figures
  python -m benchmarks accuracy --whole-scans test.json  adds figures of `strokeseg evaluate --json test.json`
"""

_ResultsOption = Annotated[Path, typer.Option("--results", metavar="FILE", help="File of the figures.")]
_PageOption = Annotated[Path, typer.Option("--page", metavar="FILE", help="Page to write.")]
_PageOnlyOption = Annotated[
    bool, typer.Option("--page-only", help="Measure nothing; write the page from the stored figures.")
]
_DataOption = Annotated[Path, typer.Option("--data", metavar="FOLDER", help="Folder of the data sets.")]
_ConfigOption = Annotated[Path, typer.Option("--config", metavar="FILE", help="Configuration of the run.")]
_PackedOption = Annotated[Path, typer.Option("--packed", metavar="FILE", help="Packed run, .safetensors.")]
_RoundsOption = Annotated[int, typer.Option("--rounds", min=1, metavar="N", help="Number of repetitions.")]
_ConfigsOption = Annotated[
    Path, typer.Option("--configs", metavar="FOLDER", help="Folder with the configurations in zoo/ and ablation/.")
]
_OnlyOption = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="NAME", show_default="all", help="Name of a configuration; may be repeated."),
]
_WholeScansOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--whole-scans",
        metavar="FILE",
        show_default=False,
        help="Train nothing; store the figures of `strokeseg evaluate --set NAME --json FILE`. Several files are the "
        "folds of one cross-validation.",
    ),
]
_RunsOption = Annotated[Path, typer.Option("--runs", metavar="FOLDER", help="Folder of the runs; many GB.")]
_SeedsOption = Annotated[
    int, typer.Option("--seeds", min=1, metavar="N", help="Train the zoo's best network with this number of seeds.")
]
_TrainOption = Annotated[bool, typer.Option("--train/--no-train", help="Train networks that are not trained yet.")]
_AgainOption = Annotated[bool, typer.Option("--again", help="Score stored networks again.")]
_FreshOption = Annotated[bool, typer.Option("--fresh", help="Replace runs of another configuration.")]
_SampleOption = Annotated[
    Path, typer.Option("--sample", metavar="FILE", help="DICOM series that the scans are made from.")
]
_AgreementDataOption = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="FOLDER", show_default=False, help="Folder of the data sets, to compare the engines' Dice."
    ),
]
_QuickOption = Annotated[bool, typer.Option("--quick", help="Leave out scans of more than 80 slices.")]
_SamplesOption = Annotated[Path, typer.Option("--samples", metavar="FOLDER", help="Folder of the sample scans.")]
_ScansOption = Annotated[int, typer.Option("--scans", min=20, metavar="N", help="Number of scans.")]
_SlicesOption = Annotated[int, typer.Option("--slices", min=1, max=5, metavar="N", help="Slices per scan.")]
_RayOption = Annotated[bool, typer.Option("--ray/--no-ray", help="Also measure Ray.")]
_CountOption = Annotated[
    int, typer.Option("--count", min=1, metavar="N", help="Number of inputs without a head of each kind.")
]
_FitOption = Annotated[bool, typer.Option("--fit", help="First fit the model that tells a head (head_model.json).")]
_FurtherOption = Annotated[
    Path | None,
    typer.Option(
        "--non-heads", metavar="FOLDER", show_default=False, help="Further files without a head to fit: KIND/FILE."
    ),
]
_JobsOption = Annotated[int, typer.Option("--jobs", min=1, metavar="N", help="Number of processes of the fit.")]
_TestOption = Annotated[bool, typer.Option("--test", help="Also score the test patients.")]


@app.command(epilog=_EXAMPLES)
def accuracy(
    configs: _ConfigsOption = Path("configs"),
    only: _OnlyOption = None,
    runs: _RunsOption = Path("runs"),
    data: options.DataOption = None,
    results: _ResultsOption = Path("benchmarks/accuracy.json"),
    page: _PageOption = Path("docs/results.md"),
    seeds: _SeedsOption = 1,
    train: _TrainOption = True,
    again: _AgainOption = False,
    fresh: _FreshOption = False,
    page_only: _PageOnlyOption = False,
    whole_scans: _WholeScansOption = None,
) -> None:
    """Train every network of the zoo with the same budget, score it on unseen patients, and write the page.

    Each finished network is stored at once. After a stop the same command continues.
    """
    from benchmarks import accuracy as benchmark
    from benchmarks import accuracy_page, scan_results

    if (page_only or whole_scans) and (again or only or fresh):
        name = "--page-only" if page_only else "--whole-scans"
        raise UsageError(f"{name} excludes --again, --fresh and --only", "Leave them out.")

    def measure() -> None:
        if whole_scans:
            benchmark.store_whole_scans(results, scan_results.read_scores(whole_scans))
            return
        paths = benchmark.find_configurations([configs / "zoo", configs / "ablation"], only or [])
        with require_training_packages(), contextlib.redirect_stdout(sys.stderr):
            benchmark.run(
                paths,
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

    def render() -> str:
        return accuracy_page.render_page(benchmark.read_results(results), accuracy_page.read_shipped_cards())

    _write(page, render, results, None if page_only else measure)


@app.command()
def speed(
    sample: _SampleOption = Path("samples/ge_head.zip"),
    data: _AgreementDataOption = None,
    rounds: _RoundsOption = 5,
    quick: _QuickOption = False,
    results: _ResultsOption = Path("benchmarks/speed.json"),
    page: _PageOption = Path("docs/speed.md"),
    page_only: _PageOnlyOption = False,
) -> None:
    """Measure speed and memory on this machine, beside a reference network and the limit of the processor."""
    from benchmarks import speed_figures, speed_page

    def measure() -> None:
        with require_training_packages():
            from benchmarks import speed as benchmark

            benchmark.run(results, sample, data=data, rounds=rounds, quick=quick, log=terminal.print_note)

    _write(
        page,
        lambda: speed_page.render_page(speed_figures.read_figures(results)),
        results,
        None if page_only else measure,
    )


@app.command()
def batch(
    scans: _ScansOption = 1000,
    slices: _SlicesOption = 3,
    rounds: _RoundsOption = 3,
    ray: _RayOption = True,
    model: options.ModelOption = "default",
    samples: _SamplesOption = Path("samples"),
    results: _ResultsOption = Path("benchmarks/batch.json"),
    page: _PageOption = Path("docs/batch.md"),
    page_only: _PageOnlyOption = False,
) -> None:
    """Measure rate and memory of `strokeseg batch` with many small scans, by processes and by Ray."""
    from benchmarks import batch_throughput as benchmark

    def measure() -> None:
        figures = benchmark.run(
            samples, scans, slices=slices, rounds=rounds, model=model, ray=ray, log=terminal.print_note
        )
        atomic_write.write_file(results, (figures.model_dump_json(indent=1) + "\n").encode(), _RESULTS_REMEDY)

    def render() -> str:
        figures = benchmark.BatchFigures.model_validate_json(_read(results))
        return benchmark.insert_figures(_read(page).decode(), figures)

    _write(page, render, results, None if page_only else measure)


@app.command()
def calibration(
    data: _DataOption = Path("data"),
    page: _PageOption = Path("docs/calibration.md"),
    page_only: _PageOnlyOption = False,
) -> None:
    """Calibrate the shipped networks, report their figures on unseen patients, and write the page."""
    with require_training_packages():
        from benchmarks import calibration as benchmark
        from benchmarks import calibration_page
        from benchmarks.accuracy_page import read_shipped_cards

        def measure() -> None:
            for card in read_shipped_cards():
                benchmark.calibrate_shipped_network(card.name, data, log=terminal.print_note)

        _write(page, lambda: calibration_page.render_page(read_shipped_cards()), None, None if page_only else measure)


@app.command("lesion-types")
def lesion_types(
    data: _DataOption = Path("data"),
    page: _PageOption = Path("docs/types.md"),
    test: _TestOption = False,
) -> None:
    """Fit and evaluate the classifier of lesion types; write its parameters (types.json) and the page."""
    from benchmarks import lesion_types as benchmark

    atomic_write.check_writable(page, _PAGE_REMEDY)
    benchmark.run(data, page, test=test, log=terminal.print_note)
    terminal.print_data(str(page))


@app.command("whole-scans")
def whole_scans(
    data: _DataOption = Path("data"),
    configuration: _ConfigOption = Path("configs/whole-scans.toml"),
    packed: _PackedOption = Path("checkpoints/whole-scans.safetensors"),
    results: _ResultsOption = Path("benchmarks/whole_scans.json"),
    page: _PageOption = Path("docs/whole-scans.md"),
    page_only: _PageOnlyOption = False,
) -> None:
    """Score the networks that were trained on whole scans on their validation patients, and write the page."""
    with require_training_packages():
        from benchmarks import whole_scans as benchmark

        def measure() -> None:
            figures = benchmark.measure(configuration, packed, data, terminal.print_note)
            atomic_write.write_file(results, (figures.model_dump_json(indent=1) + "\n").encode(), _RESULTS_REMEDY)

        def render() -> str:
            return benchmark.render_page(benchmark.WholeScanFigures.model_validate_json(_read(results)))

        _write(page, render, results, None if page_only else measure)


@app.command()
def gate(
    data: _DataOption = Path("data"),
    count: _CountOption = 26,
    fit: _FitOption = False,
    further: _FurtherOption = None,
    jobs: _JobsOption = 2,
    test: _TestOption = False,
    results: _ResultsOption = Path("benchmarks/gate.json"),
    page: _PageOption = Path("docs/gate.md"),
    page_only: _PageOnlyOption = False,
) -> None:
    """Count the heads that the gate refuses and the other inputs that it accepts, and write the page."""
    from benchmarks import gate as benchmark

    def measure() -> None:
        if fit:
            with require_training_packages():
                from benchmarks import gate_fit

                model = gate_fit.fit(gate_fit.collect(data, further, jobs, terminal.print_note))
                atomic_write.write_file(gate_fit.MODEL, gate_fit.format_model(model).encode(), "Run it in a clone.")
        benchmark.measure(data, count, test, terminal.print_note, store)

    def store(figures: benchmark.GateFigures) -> None:
        atomic_write.write_file(results, (figures.model_dump_json(indent=1) + "\n").encode(), _RESULTS_REMEDY)

    def render() -> str:
        figures = benchmark.GateFigures.model_validate_json(_read(results))
        return benchmark.insert_rates(_read(page).decode(), figures)

    _write(page, render, results, None if page_only else measure)


def _write(page: Path, render: Callable[[], str], results: Path | None, measure: Callable[[], None] | None) -> None:
    """Measure unless ``measure`` is None, then render the page; check first that the files can be written."""
    atomic_write.check_writable(page, _PAGE_REMEDY)
    if measure is not None:
        if results is not None:
            atomic_write.check_writable(results, _RESULTS_REMEDY)
        measure()
    atomic_write.write_file(page, render().encode(), _PAGE_REMEDY)
    terminal.print_data(str(page))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableFile(f"{path}: {error.strerror or error}", "Run the command in a clone.") from None


def main(arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code, as :func:`strokeseg.cli.main` does."""
    return terminal.run_app(app, arguments, program="python -m benchmarks")


if __name__ == "__main__":
    sys.exit(main())
