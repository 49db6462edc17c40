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
  strokeseg train configs/default.toml                    trains in runs/default
  strokeseg train configs/default.toml --resume           continues after a stop
  strokeseg train mine.toml --export                      adds the run's best network to your own networks
  strokeseg train mine.toml --write-split mine.csv        writes the split into training and validation
  strokeseg train mine.toml --export --int8 mine-fast
  strokeseg train configs/default.toml --export --models src/strokeseg/models
  strokeseg train mine.toml --export --models elsewhere/
  STROKESEG_MODELS=elsewhere strokeseg segment study.zip  uses it from there

Training needs further packages: pip install "strokeseg[train]".
"""


_ConfigArgument = Annotated[Path, typer.Argument(metavar="CONFIG", help="The run's configuration, a TOML file.")]
_OutOption = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--out",
        metavar="FOLDER",
        show_default="runs/NAME, after the network's name",
        help="Folder of the run: checkpoints, split, figures of every validation.",
    ),
]
_ResumeOption = Annotated[
    bool | None,
    typer.Option(
        "--resume/--fresh",
        show_default=False,
        help="If the folder holds a run already: continue it, or replace it by a new one.",
    ),
]
_ExportOption = Annotated[
    bool, typer.Option("--export", help="Do not train: score the run's best network and write it with its card.")
]
_ModelsOption = Annotated[
    Path | None,
    typer.Option(
        "--models",
        metavar="FOLDER",
        show_default="your own networks",
        help="With --export: folder for NAME.onnx, NAME.json and NAME.md, such as src/strokeseg/models.",
    ),
]
_Int8Option = Annotated[
    str | None,
    typer.Option(
        "--int8",
        metavar="NAME",
        show_default=False,
        help="With --export: as 8-bit integers under this name; a quarter of the size, half the time.",
    ),
]
_WriteSplitOption = Annotated[
    Path | None,
    typer.Option(
        "--write-split",
        metavar="FILE",
        show_default=False,
        help="Do not train: draw the split into training and validation, and write it for data.split.",
    ),
]


def train(
    config: _ConfigArgument = Path("configs/default.toml"),
    out: _OutOption = None,
    data: options.DataOption = None,
    resume: _ResumeOption = None,
    export: _ExportOption = False,
    models: _ModelsOption = None,
    int8: _Int8Option = None,
    write_split: _WriteSplitOption = None,
) -> None:
    """Train a network, or export a trained network for `strokeseg segment`.

    The configuration states the network, the training budget and the split by patient. A GPU is used if present.
    """
    from strokeseg.training import config as configuration

    if export and resume is not None:
        raise UsageError("--export does not train, so --resume and --fresh do not apply", "Train first, then export.")
    if (models is not None or int8 is not None) and not export:
        raise UsageError("--models and --int8 need --export", "Add --export, or leave them out.")
    if write_split is not None and (export or resume is not None):
        raise UsageError("--write-split neither trains nor exports", "Leave out --export, --resume and --fresh.")
    if not config.is_file():
        raise TrainError(
            f"{config}: no such configuration",
            "Name a TOML file; the shipped network's is configs/default.toml in the repository.",
        )
    loaded = configuration.load(config)
    folder = out or Path("runs", loaded.network.name)
    root = data or config.parent / loaded.data.root
    if not root.is_dir():
        raise TrainError(f"{root}: no such folder of data sets", "Name the folder with --data.")
    if write_split is not None:
        _write_split(loaded, root, write_split)
    elif export:
        _export_network(loaded, folder, root, models, int8)
    else:
        _run_training(loaded, folder, root, resume)


def _run_training(config: Config, folder: Path, root: Path, resume: bool | None) -> None:
    has_run = (folder / "last.ckpt").exists() or (folder / "best.ckpt").exists()
    if has_run and resume is None:
        raise UsageError(
            f"{folder}: already holds a run",
            "Add --resume to continue it, --fresh to replace it or --export to export it, or name another folder "
            "with --out.",
        )
    if resume and not has_run:
        terminal.print_note(f"note: {folder} holds no run to continue; a new run begins.")
    with require_training_packages():
        from strokeseg.training import loop, weight_average
    if hint := loop.suggest_precision(config.train):
        terminal.print_note(f"note: {hint}")
    # Lightning draws its bar on stdout, which is for results only.
    with contextlib.redirect_stdout(sys.stderr):
        if config.average:
            best = weight_average.write_average(config, root, folder)
        else:
            best = loop.run(config, root, folder, resume=bool(resume), progress=sys.stderr.isatty())
    terminal.print_data(str(best))


def _write_split(config: Config, root: Path, file: Path) -> None:
    from strokeseg.evaluation import split_file
    from strokeseg.training import split

    rows = split.draw_rows(config, root)
    split_file.write(rows, file)
    for side in split_file.SIDES:
        own_rows = [row for row in rows if row.side == side]
        patients = {row.patient for row in own_rows}
        terminal.print_data(f"{side}: {len(own_rows)} images of {len(patients)} patients")


def _export_network(config: Config, folder: Path, root: Path, models: Path | None, int8: str | None) -> None:
    from strokeseg.segmentation.models import SHIPPED_FOLDER, list_folders

    name = int8 or config.network.name
    if models is None and SHIPPED_FOLDER in list_folders() and (SHIPPED_FOLDER / f"{name}.json").is_file():
        raise UsageError(
            f"a shipped network has the name {name!r} and would be used instead of yours",
            "Change network.name (with --int8 its argument), or name a folder with --models.",
        )
    with require_training_packages():
        from strokeseg.training.export import export
    target = models or list_folders()[-1]
    with contextlib.redirect_stdout(sys.stderr):
        card = export(config, folder, root, target, int8=int8)
    terminal.print_note(f"written to {target}")
    terminal.print_data(f"{card.name} {card.version}, sha256 {card.sha256}, threshold {card.threshold:g}")


@contextlib.contextmanager
def require_training_packages() -> Iterator[None]:
    """Raise an error with the installation command if a package for training is missing in the block."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "strokeseg"):
            raise
        raise TrainError(
            f"the package {missing}, which training needs, is not installed", 'pip install "strokeseg[train]"'
        ) from error
