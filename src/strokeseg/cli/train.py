"""`strokeseg train`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strokeseg.cli import options, terminal
from strokeseg.errors import TrainError, UsageError

if TYPE_CHECKING:
    from strokeseg.training.config import Config

EXAMPLES = """\b
Examples:
  strokeseg train configs/default.toml                    trains into runs/default
  strokeseg train configs/default.toml --resume           goes on after a stop
  strokeseg train mine.toml --export                      adds the best network of that run to yours
  strokeseg train mine.toml --write-split mine.csv        writes which image trains and which validates
  strokeseg train mine.toml --export --int8 mine-fast
  strokeseg train configs/default.toml --export --models src/strokeseg/models
  strokeseg train mine.toml --export --models elsewhere/
  STROKESEG_MODELS=elsewhere strokeseg segment study.zip  uses it from there

Training needs more packages than the rest: pip install "strokeseg[train]".
"""


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The run's configuration, a TOML file.")] = Path(
        "configs/default.toml"
    ),
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FOLDER",
            show_default="runs/NAME, after the network's name",
            help="The run's folder: checkpoints, split, figures of every validation.",
        ),
    ] = None,
    data: options.DataOption = None,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--fresh",
            show_default=False,
            help="If the run's folder holds a run already: go on with it, or begin anew and replace it.",
        ),
    ] = None,
    export: Annotated[
        bool, typer.Option("--export", help="Train nothing: score the run's best network and write it with its card.")
    ] = False,
    models: Annotated[
        Path | None,
        typer.Option(
            "--models",
            metavar="FOLDER",
            show_default="your own networks",
            help="With --export: folder to write NAME.onnx, NAME.json and NAME.md to, such as src/strokeseg/models.",
        ),
    ] = None,
    int8: Annotated[
        str | None,
        typer.Option(
            "--int8",
            metavar="NAME",
            show_default=False,
            help="With --export: in 8-bit integers under this name; a quarter of the size, half of the time.",
        ),
    ] = None,
    write_split: Annotated[
        Path | None,
        typer.Option(
            "--write-split",
            metavar="FILE",
            show_default=False,
            help="Train nothing: draw which image trains and which validates, and write it for data.split.",
        ),
    ] = None,
) -> None:
    """Train a network, or export a trained one for `strokeseg segment`.

    The split by patient, the budget and the network are the configuration's. Uses a GPU where there is one.
    """
    from strokeseg.training import config as configuration

    if export and resume is not None:
        raise UsageError(
            "--export trains nothing, so --resume and --fresh say nothing", "Leave one out; train first, then export."
        )
    if (models is not None or int8 is not None) and not export:
        raise UsageError("--models and --int8 are of use with --export only", "Add --export, or leave them out.")
    if write_split is not None and (export or resume is not None):
        raise UsageError("--write-split trains and exports nothing", "Leave --export, --resume and --fresh out.")
    if not config.is_file():
        raise TrainError(
            f"{config}: no such configuration",
            "Name a TOML file; that of the shipped network is configs/default.toml in the repository.",
        )
    loaded = configuration.load(config)
    folder = out or Path("runs", loaded.network.name)
    root = data or config.parent / loaded.data.root
    if not root.is_dir():
        raise TrainError(f"{root}: no such folder of data sets", "Name it with --data.")
    if write_split is not None:
        _write_split(loaded, root, write_split)
    elif export:
        _export_network(loaded, folder, root, models, int8)
    else:
        _run_training(loaded, folder, root, resume)


def _run_training(config: Config, folder: Path, root: Path, resume: bool | None) -> None:
    begun = (folder / "last.ckpt").exists() or (folder / "best.ckpt").exists()
    if begun and resume is None:
        raise UsageError(
            f"{folder}: holds a run already",
            "Add --resume to go on with it, --fresh to replace it, --export to ship it, or name another folder "
            "with --out.",
        )
    if resume and not begun:
        terminal.print_note(f"note: {folder} holds no run to go on with; a new one begins.")
    with require_training_packages():
        from strokeseg.training import loop
    if hint := loop.suggest_precision(config.train):
        terminal.print_note(f"note: {hint}")
    # Lightning draws its bar on stdout; answers alone go there.
    with contextlib.redirect_stdout(sys.stderr):
        best = loop.run(config, root, folder, resume=bool(resume), progress=sys.stderr.isatty())
    terminal.print_data(str(best))


def _write_split(config: Config, root: Path, file: Path) -> None:
    from strokeseg.evaluation import split_file
    from strokeseg.training import split

    rows = split.draw_rows(config, root)
    split_file.write(rows, file)
    for side in split_file.SIDES:
        of_it = [row for row in rows if row.side == side]
        terminal.print_data(f"{side}: {len(of_it)} images of {len({row.patient for row in of_it})} patients")


def _export_network(config: Config, folder: Path, root: Path, models: Path | None, int8: str | None) -> None:
    from strokeseg.segmentation.models import SHIPPED_FOLDER, list_folders

    name = int8 or config.network.name
    if models is None and SHIPPED_FOLDER in list_folders() and (SHIPPED_FOLDER / f"{name}.json").is_file():
        raise UsageError(
            f"a network of StrokeSeg's own is named {name!r}, and would be used in place of yours",
            "Change network.name (with --int8 its name), or name a folder with --models.",
        )
    with require_training_packages():
        from strokeseg.training.export import export
    place = models or list_folders()[-1]
    with contextlib.redirect_stdout(sys.stderr):
        card = export(config, folder, root, place, int8=int8)
    terminal.print_note(f"written to {place}")
    terminal.print_data(f"{card.name} {card.version}, sha256 {card.sha256}, threshold {card.threshold:g}")


@contextlib.contextmanager
def require_training_packages() -> Iterator[None]:
    """Say what to install where a package of the training is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "strokeseg"):
            raise
        raise TrainError(
            f"the package {missing} is not installed, and training needs it", 'pip install "strokeseg[train]"'
        ) from error
