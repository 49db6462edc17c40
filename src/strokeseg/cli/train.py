"""`strokeseg train`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strokeseg.cli import terminal
from strokeseg.errors import TrainError, UsageError

if TYPE_CHECKING:
    from strokeseg.train.config import Config

EXAMPLES = """\b
Examples:
  strokeseg train configs/default.toml                    trains into runs/default
  strokeseg train configs/default.toml --resume           goes on after a stop
  strokeseg train configs/default.toml --export           ships the best network of that run
  strokeseg train configs/default.toml --export --models elsewhere/
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
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FOLDER",
            show_default="data.root of the configuration",
            help="Folder of the data sets.",
        ),
    ] = None,
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
            show_default="StrokeSeg's own",
            help="With --export: folder to write NAME.onnx, NAME.json and NAME.md to.",
        ),
    ] = None,
) -> None:
    """Train a network, or export a trained one for `strokeseg segment`.

    The split by patient, the budget and the network are the configuration's. Uses a GPU where there is one.
    """
    from strokeseg.train import config as configuration

    if export and resume is not None:
        raise UsageError(
            "--export trains nothing, so --resume and --fresh say nothing", "Leave one out; train first, then export."
        )
    if models is not None and not export:
        raise UsageError("--models is of use with --export only", "Add --export, or leave --models out.")
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
    if export:
        _export(loaded, folder, root, models)
    else:
        _train(loaded, folder, root, resume)


def _train(config: Config, folder: Path, root: Path, resume: bool | None) -> None:
    begun = (folder / "last.ckpt").exists() or (folder / "best.ckpt").exists()
    if begun and resume is None:
        raise UsageError(
            f"{folder}: holds a run already",
            "Add --resume to go on with it, --fresh to replace it, --export to ship it, or name another folder "
            "with --out.",
        )
    if resume and not begun:
        terminal.note(f"note: {folder} holds no run to go on with; a new one begins.")
    with _training_packages():
        from strokeseg.train import loop
    # Lightning draws its bar on stdout; answers alone go there.
    with contextlib.redirect_stdout(sys.stderr):
        best = loop.run(config, root, folder, resume=bool(resume), progress=sys.stderr.isatty())
    terminal.data(str(best))


def _export(config: Config, folder: Path, root: Path, models: Path | None) -> None:
    with _training_packages():
        from strokeseg.train.export import export
    with contextlib.redirect_stdout(sys.stderr):
        card = export(config, folder, root, models)
    terminal.data(f"{card.name} {card.version}, sha256 {card.sha256}, threshold {card.threshold:g}")


@contextlib.contextmanager
def _training_packages() -> Iterator[None]:
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
