"""Every network of the zoo, trained with one budget on one split and scored by the same lines.

`benchmarks/accuracy.json` holds the figures, :mod:`benchmarks.accuracy_page` draws docs/results.md from it.
"""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from strokeseg import atomic_write
from strokeseg.errors import TrainError, UsageError
from strokeseg.segmentation.models import Card

Log = Callable[[str], None]


class TrainedNetwork(BaseModel):
    """One trained network and its figures."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    group: str = Field(description="zoo, ablation, seeds")
    name: str
    date: str
    card: Card


class Results(BaseModel):
    """`benchmarks/accuracy.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)

    schema_: Literal["strokeseg.accuracy/1"] = Field(default="strokeseg.accuracy/1", alias="schema")
    rows: list[TrainedNetwork] = []

    def select_group(self, group: str) -> list[TrainedNetwork]:
        """Return a group's rows, the best on validation first."""
        return sorted((row for row in self.rows if row.group == group), key=lambda row: -get_validation_dice(row.card))

    def exclude(self, group: str, name: str) -> list[TrainedNetwork]:
        """Return all rows but one."""
        return [row for row in self.rows if (row.group, row.name) != (group, name)]


def get_validation_dice(card: Card) -> float:
    """Return a network's validation figure: the mean over sources of the mean Dice over patients."""
    return float(card.metrics["validation"]["dice"])


def read_results(path: Path) -> Results:
    """Read stored results; none where there is no file yet.

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
        raise TrainError(f"{path}: no results of `strokeseg bench accuracy`", "Name another file.") from error


def find_configurations(folders: Iterable[Path], only: Sequence[str] = ()) -> list[Path]:
    """List the configurations of some folders; those that name a network, a common part names none.

    Raises
    ------
    TrainError
        `train`, for a folder that is not there or a name that no configuration has.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise TrainError(f"{folder}: no such folder of configurations", "Run it in a clone of the repository.")
        found += [path for path in sorted(folder.glob("*.toml")) if _names_network(path)]
    if unknown := sorted(set(only).difference(path.stem for path in found)):
        raise TrainError(f"no configuration named {', '.join(unknown)}; there are {', '.join(p.stem for p in found)}")
    return [path for path in found if not only or path.stem in only]


def _names_network(path: Path) -> bool:
    try:
        return "name" in tomllib.loads(path.read_text(encoding="utf-8")).get("network", {})
    except tomllib.TOMLDecodeError as error:
        raise TrainError(f"{path}: not TOML: {error}") from None


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
    """Train what is not trained yet, score it, and store each row as soon as it is there.

    A run that was stopped is taken up where it stopped; a row whose configuration has not changed is kept, and one
    whose configuration has is trained again, where no run of another configuration lies in its folder.

    Parameters
    ----------
    configs : sequence of Path
        As :func:`configurations` gives them; a row's group is its folder's name.
    runs : Path
        Folder for the runs.
    results : Path
        File to read and to write.
    data : Path, optional
        Folder of the data sets; that of the configuration where not given.
    seeds : int, default: 1
        The best of the zoo is trained with so many seeds.
    train : bool, default: True
        False scores only runs that are finished.
    again : bool, default: False
        Score rows that are stored already.
    fresh : bool, default: False
        Replace a run of another configuration that lies in a row's folder.
    say : object
        Is told what goes on.

    Raises
    ------
    TrainError
        `train`, of a configuration or a data set, or where a row's folder holds a run of another configuration.
    UsageError
        `usage`, if several seeds are asked for and the zoo's best network is not among the configurations.
    """
    found = read_results(results)
    where = {path.stem: path for path in configs}
    if seeds > 1:
        _check_seeds(found, where)
    for path in configs:
        found = _train_and_score(
            found, path, path.parent.name, 0, runs, results, data, train, again, fresh, progress, log
        )
    best = next(iter(found.select_group("zoo")), None)
    for seed in range(1, seeds):
        if best is not None and best.name in where:
            found = _train_and_score(
                found, where[best.name], "seeds", seed, runs, results, data, train, again, fresh, progress, log
            )
    return found


def _check_seeds(found: Results, where: Mapping[str, Path]) -> None:
    """Refuse seeds of a network that is not among those asked for: nothing would be trained, and nobody told."""
    best = next(iter(found.select_group("zoo")), None)
    if best is not None and best.name not in where:
        raise UsageError(
            f"--seeds trains the zoo's best network, {best.name}, which --only leaves out", f"Add --only {best.name}."
        )
    if best is None and not any(path.parent.name == "zoo" for path in where.values()):
        raise UsageError("--seeds trains the zoo's best network, and --only names none of the zoo", "Name one of it.")


def _train_and_score(
    found: Results,
    path: Path,
    group: str,
    seed: int,
    runs: Path,
    results: Path,
    data: Path | None,
    train: bool,
    again: bool,
    fresh: bool,
    progress: bool,
    say: Log,
) -> Results:
    from strokeseg.training import config as configuration
    from strokeseg.training import export, loop, run_folder

    config = configuration.load(path)
    if seed:
        config = config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})
    name = f"{path.stem}-seed-{seed}" if seed else path.stem
    stored = next((row for row in found.rows if (row.group, row.name) == (group, name)), None)
    now = config.model_dump(mode="json")
    if stored and not again and run_folder.describe_difference(stored.card.training["config"], now, ()) is None:
        say(f"{group}/{name}: stored")
        return found
    # The folder that `strokeseg train` would take: teachers are looked for beside it.
    out = runs / (f"{config.network.name}-seed-{seed}" if seed else config.network.name)
    root = data or path.parent / config.data.root
    if (state := run_folder.read_state(out, config)) != "finished":
        if not train:
            say(f"{group}/{name}: not trained")
            return found
        if state == "another" and not fresh:
            raise TrainError(
                f"{out}: holds a run of another configuration than {path}",
                "Add --fresh to replace it, or name another folder with --runs.",
            )
        say(f"{group}/{name}: training")
        loop.run(config, root, out, resume=state == "begun", progress=progress)
    card, _ = export.build_model(config, out, root)
    say(f"{group}/{name}: validation {get_validation_dice(card):.3f}")
    row = TrainedNetwork(group=group, name=name, date=datetime.date.today().isoformat(), card=card)
    # Another bench may have stored rows meanwhile.
    found = Results(
        rows=sorted([*read_results(results).exclude(group, name), row], key=lambda each: (each.group, each.name))
    )
    atomic_write.write_file(
        results, (found.model_dump_json(indent=1) + "\n").encode(), "Name another file with --results."
    )
    return found
