"""Accuracy of every network of the zoo, trained with one budget on one split: `python -m benchmarks accuracy`.

`benchmarks/accuracy.json` holds the figures; :mod:`benchmarks.accuracy_page` renders docs/results.md from them.
"""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks.scan_results import StoredScores
from strokeseg import atomic_write
from strokeseg.errors import TrainError, UsageError
from strokeseg.segmentation.models import Card

Log = Callable[[str], None]


class TrainedNetwork(BaseModel):
    """A trained network and its figures."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    group: str = Field(description="zoo, ablation, seeds")
    name: str
    date: str
    card: Card


class Results(BaseModel):
    """All figures of `benchmarks/accuracy.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)

    schema_: Literal["strokeseg.accuracy/1"] = Field(default="strokeseg.accuracy/1", alias="schema")
    rows: list[TrainedNetwork] = []
    whole_scans: list[StoredScores] = []

    def select_group(self, group: str) -> list[TrainedNetwork]:
        """Return the rows of a group, the best validation Dice first."""
        return sorted((row for row in self.rows if row.group == group), key=lambda row: -get_validation_dice(row.card))

    def exclude(self, group: str, name: str) -> list[TrainedNetwork]:
        """Return all rows except one."""
        return [row for row in self.rows if (row.group, row.name) != (group, name)]


def get_validation_dice(card: Card) -> float:
    """Return a network's validation Dice: the mean over sources of the mean over patients."""
    return float(card.metrics["validation"]["dice"])


def read_results(path: Path) -> Results:
    """Read stored results; empty if the file does not exist.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    Results
        The results.

    Raises
    ------
    TrainError
        `train`, if the file cannot be read.
    """
    try:
        return Results.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Results()
    except (OSError, ValidationError) as error:
        raise TrainError(f"{path}: no results of `python -m benchmarks accuracy`", "Name another file.") from error


def find_configurations(folders: Iterable[Path], only: Sequence[str] = ()) -> list[Path]:
    """List the configurations that name a network; files with common settings name none.

    Parameters
    ----------
    folders : iterable of Path
        Folders to search.
    only : sequence of str, default: ()
        Names to select; all where empty.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    TrainError
        `train`, for a missing folder or an unknown name.
    """
    paths: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise TrainError(f"{folder}: no such folder of configurations", "Run it in a clone of the repository.")
        paths += [path for path in sorted(folder.glob("*.toml")) if _names_network(path)]
    if unknown := sorted(set(only).difference(path.stem for path in paths)):
        raise TrainError(f"no configuration named {', '.join(unknown)}; there are {', '.join(p.stem for p in paths)}")
    return [path for path in paths if not only or path.stem in only]


def _names_network(path: Path) -> bool:
    try:
        return "name" in tomllib.loads(path.read_text(encoding="utf-8")).get("network", {})
    except tomllib.TOMLDecodeError as error:
        raise TrainError(f"{path}: not TOML: {error}") from None


@dataclass(frozen=True)
class _Run:
    """What to train and score, and where."""

    runs: Path
    results: Path
    data: Path | None
    train: bool
    again: bool
    fresh: bool
    progress: bool
    log: Log


def run(
    configs: Sequence[Path],
    runs: Path,
    results: Path,
    *,
    data: Path | None = None,
    seeds: int = 1,
    train: bool = True,
    again: bool = False,
    fresh: bool = False,
    progress: bool = False,
    log: Log = print,
) -> Results:
    """Train the networks that are not trained yet, score them, and store each row at once.

    A stopped run is resumed. A row with an unchanged configuration is kept; a row with a changed one is trained again,
    unless its folder holds a run of another configuration.

    Parameters
    ----------
    configs : sequence of Path
        Files, as from :func:`find_configurations`; the folder's name is the row's group.
    runs : Path
        Folder for the runs.
    results : Path
        File of the figures, read and written.
    data : Path, optional
        Folder of the data sets; by default that of the configuration.
    seeds : int, default: 1
        Number of seeds to train the zoo's best network with.
    train : bool, default: True
        False scores finished runs only.
    again : bool, default: False
        Score stored rows again.
    fresh : bool, default: False
        Replace a run of another configuration in a row's folder.
    progress : bool, default: False
        Show a progress bar.
    log : callable
        Takes a line on the progress.

    Returns
    -------
    Results
        All figures.

    Raises
    ------
    TrainError
        `train`, for an invalid configuration or data set, or a folder with a run of another configuration.
    UsageError
        `usage`, if several seeds are requested and the zoo's best network is not among the configurations.
    """
    settings = _Run(runs, results, data, train, again, fresh, progress, log)
    stored = read_results(results)
    paths = {path.stem: path for path in configs}
    if seeds > 1:
        _check_seeds(stored, paths)
    for path in configs:
        stored = _train_and_score(stored, path, path.parent.name, 0, settings)
    best = next(iter(stored.select_group("zoo")), None)
    for seed in range(1, seeds):
        if best is not None and best.name in paths:
            stored = _train_and_score(stored, paths[best.name], "seeds", seed, settings)
    return stored


def _check_seeds(stored: Results, paths: Mapping[str, Path]) -> None:
    """Refuse seeds of a network that is not among the selected ones, for nothing would be trained."""
    best = next(iter(stored.select_group("zoo")), None)
    if best is not None and best.name not in paths:
        raise UsageError(
            f"--seeds trains the zoo's best network, {best.name}, which --only leaves out", f"Add --only {best.name}."
        )
    if best is None and not any(path.parent.name == "zoo" for path in paths.values()):
        raise UsageError(
            "--seeds trains the zoo's best network, and --only names none of the zoo", "Name one with --only."
        )


def _train_and_score(stored: Results, path: Path, group: str, seed: int, settings: _Run) -> Results:
    from strokeseg.training import config as configuration
    from strokeseg.training import export, loop, run_folder

    log = settings.log
    config = configuration.load(path)
    if seed:
        config = config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})
    name = f"{path.stem}-seed-{seed}" if seed else path.stem
    row = next((row for row in stored.rows if (row.group, row.name) == (group, name)), None)
    values = config.model_dump(mode="json")
    if (
        row
        and not settings.again
        and run_folder.describe_difference(row.card.training["config"], values, ("data.root",)) is None
    ):
        log(f"{group}/{name}: stored")
        return stored
    # The folder that `strokeseg train` uses, because teachers are looked for beside it.
    folder = settings.runs / (f"{config.network.name}-seed-{seed}" if seed else config.network.name)
    root = settings.data or path.parent / config.data.root
    if (state := run_folder.read_state(folder, config)) != "finished":
        if not settings.train:
            log(f"{group}/{name}: not trained")
            return stored
        if state == "another" and not settings.fresh:
            raise TrainError(
                f"{folder}: holds a run of another configuration than {path}",
                "Add --fresh to replace it, or name another folder with --runs.",
            )
        log(f"{group}/{name}: training")
        loop.run(config, root, folder, resume=state == "begun", progress=settings.progress)
    card, _ = export.build_model(config, folder, root)
    log(f"{group}/{name}: validation {get_validation_dice(card):.3f}")
    row = TrainedNetwork(group=group, name=name, date=datetime.date.today().isoformat(), card=card)
    # Read again: another process may have stored rows meanwhile.
    latest = read_results(settings.results)
    rows = sorted([*latest.exclude(group, name), row], key=lambda row: (row.group, row.name))
    return _write_results(settings.results, latest.model_copy(update={"rows": rows}))


def store_whole_scans(results: Path, scores: StoredScores) -> Results:
    """Store figures of whole scans; those of the same network, set and role are replaced.

    Parameters
    ----------
    results : Path
        File of the figures, read and written.
    scores : StoredScores
        The figures.

    Returns
    -------
    Results
        All figures.

    Raises
    ------
    TrainError
        `train`, if the file cannot be read.
    """
    stored = read_results(results)
    kept = [each for each in stored.whole_scans if each.key != scores.key]
    ordered = sorted([*kept, scores], key=lambda each: tuple(part or "" for part in each.key))
    return _write_results(results, stored.model_copy(update={"whole_scans": ordered}))


def _write_results(path: Path, results: Results) -> Results:
    content = (results.model_dump_json(indent=1) + "\n").encode()
    atomic_write.write_file(path, content, "Name another file with --results.")
    return results
