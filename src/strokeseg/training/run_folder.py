"""A run's folder: what its split.json says, checkpoints and metrics.csv that no kill can lose, and earlier runs."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import platform
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from pydantic import ValidationError

from strokeseg import atomic_write
from strokeseg.errors import TrainError
from strokeseg.training.config import Config

BEST, LAST, RECORD = "best.ckpt", "last.ckpt", "split.json"
RUN_FACTS = ("encoder_weights", "parameters", "hours", "machine", "torch", "samples_done")
"""What split.json says of the run itself."""


def describe_machine() -> str:
    """Say in words what trains here: the GPU, or the processor and its cores; no name of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores"


def write_record(out: Path, record: Mapping[str, Any]) -> None:
    """Write split.json."""
    atomic_write.replace_file(out / RECORD, json.dumps(record, indent=1).encode())


def read_state(out: Path, config: Config) -> str:
    """Tell what a folder holds of a configuration: its "finished" run, one "begun", "another"'s, or "nothing"."""
    path = out / RECORD
    if not path.is_file():
        return "nothing"
    found = json.loads(path.read_text(encoding="utf-8"))
    if describe_difference(found["config"], config.model_dump(mode="json"), ()) is not None:
        return "another"
    return "finished" if found.get("finished") else "begun"


def fill_defaults(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a recorded configuration with every entry that came in since, at its default."""
    with contextlib.suppress(ValidationError):
        return Config.model_validate(config).model_dump(mode="json")
    return config


def describe_difference(before: Mapping[str, Any], now: Mapping[str, Any], except_for: Collection[str]) -> str | None:
    """Say where two recorded configurations first differ, as "train.batch = 8, not 16"; an older one may lack entries.

    Parameters
    ----------
    before, now : mapping of str to object
        As records hold them.
    except_for : collection of str
        Entries that do not count, as "data.root".
    """
    before = fill_defaults(before)
    for table in (*now, *(set(before) - set(now))):
        old, new = ((side.get(table) or {}) for side in (before, now))
        for key in (*new, *(set(old) - set(new))):
            if old.get(key) != new.get(key) and f"{table}.{key}" not in except_for:
                return f"{table}.{key} = {old.get(key)!r}, not {new.get(key)!r}"
    return None


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are whole or not there; Lightning's own pass through another disk where /tmp is one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        atomic_write.replace_file(Path(path), content.getvalue())


class RunCheckpoints(ModelCheckpoint):
    """best.ckpt and last.ckpt, with two habits of Lightning's undone.

    It writes last.ckpt only where best.ckpt is written, so that a run taken up again would lose every step after its
    best. And where the run's folder was moved it forgets the best Dice: the next validation, however poor, would
    replace the best checkpoint.
    """

    __qualname__ = "ModelCheckpoint"  # under this name its state lies in checkpoints

    def __init__(self, out: Path) -> None:
        super().__init__(out, "best", monitor="dice", mode="max", save_last=True, enable_version_counter=False)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        super().on_validation_end(trainer, pl_module)
        if self._last_global_step_saved != trainer.global_step:
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def here(path: str) -> str:
            return str(Path(str(self.dirpath), Path(path).name)) if path else path

        moved = {name: here(value) for name, value in state_dict.items() if name.endswith("_path")}
        best = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state_dict | moved | {"dirpath": self.dirpath, "best_k_models": best})


class MetricsFile(Logger):
    """metrics.csv: one row a logged step, appended at once; a run that is taken up again goes on in it.

    Parameters
    ----------
    path : Path
        Of the file.
    done : int
        Steps that the run goes on from; rows of later ones, which will come again, are dropped.
    """

    def __init__(self, path: Path, done: int) -> None:
        super().__init__()
        self.path = path
        rows: list[dict[str, str]] = []
        if done and path.exists():
            with path.open(newline="", encoding="utf-8") as stream:
                rows = [row for row in csv.DictReader(stream) if row.get("step") and int(row["step"]) < done]
        self.columns = list(rows[0]) if rows else ["step"]
        self._rewrite(rows)

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Nothing: the configuration is in split.json."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        row = {"step": str(step), **{name: str(value) for name, value in metrics.items()}}
        if new := sorted(set(row) - set(self.columns)):
            with self.path.open(newline="", encoding="utf-8") as stream:
                rows = list(csv.DictReader(stream))
            self.columns += new
            self._rewrite([*rows, row])
            return
        with self.path.open("a", newline="", encoding="utf-8") as stream:
            csv.DictWriter(stream, self.columns, restval="").writerow(row)

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
        atomic_write.replace_file(self.path, text.getvalue().encode())


@dataclass(frozen=True)
class EarlierRun:
    """An earlier run: its configuration and its best checkpoint."""

    config: Config
    checkpoint: Path


def find_earlier_run(run: Path, validation: frozenset[str], field: str) -> EarlierRun:
    """Find an earlier run, and make sure that it was not trained on a patient who validates here.

    Parameters
    ----------
    run : Path
        Its folder.
    validation : frozenset of str
        The patients who validate here.
    field : str
        The entry of the configuration that names it, for the error.

    Raises
    ------
    TrainError
        `train`, if the folder holds no run, its split was not by patient, or one of these patients was not held out
        or was trained on in it.
    """
    checkpoint, path = run / BEST, run / RECORD
    if not checkpoint.is_file() or not path.is_file():
        raise TrainError(f"{field}: {run} holds no {BEST} and {RECORD} of a run", "Train that run first.")
    record = json.loads(path.read_text(encoding="utf-8"))
    # Older records name neither how they were split, which was by patient, nor who was trained on.
    by = record.get("split", {}).get("by", "patient")
    if by != "patient":
        raise TrainError(
            f"{field}: {run.name} was split by {by}, so it was trained on those who validate in it",
            'Train that run with data.split_by = "patient".',
        )
    unknown = validation.difference(record["validation_patients"])
    if shared := sorted(unknown | validation.intersection(record.get("training_patients", ()))):
        raise TrainError(
            f"{field}: {run.name} may have been trained on {shared[0]}, who validates here",
            "Use the same data.split, or the same data.validation, data.validation_share and train.seed, in both runs.",
        )
    try:
        return EarlierRun(Config.model_validate(record["config"]), checkpoint)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise TrainError(f"{field}: {run.name} was trained with an entry {place} that is not known here") from None
