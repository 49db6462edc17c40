"""The folder of a run: split.json, checkpoints and metrics.csv that survive a kill, and earlier runs."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import platform
import time
from collections.abc import Collection, Mapping, Sequence
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
from strokeseg.training.augmentation import StoredSlice
from strokeseg.training.config import Config
from strokeseg.training.split import Split

BEST, LAST, RECORD = "best.ckpt", "last.ckpt", "split.json"
CHECKPOINT_INTERVAL_S = 300.0
"""Interval at which last.ckpt is written between validations."""
RUN_FACTS = ("encoder_weights", "parameters", "hours", "machine", "torch", "samples_done")
"""Entries of split.json about the run itself."""


def describe_machine() -> str:
    """Describe the hardware: the GPU, or the processor and its cores; without the name of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores"


def make_record(config: Config, samples: Split, training: Sequence[StoredSlice]) -> dict[str, Any]:
    """Describe a run: its configuration, slices and patients. ``training`` are the slices that it is trained on."""
    return {
        "config": config.model_dump(mode="json"),
        "slices": {
            name: {
                "train": sum(sample.source == name for sample in training),
                "validation": sum(sample.source == name for sample in samples.held_out),
            }
            for name in config.data.sources
        },
        "validation_patients": sorted(samples.validation_patients),
        "training_patients": sorted({sample.patient for sample in samples.training}),
        "split": samples.record,
    }


def write_record(out: Path, record: Mapping[str, Any]) -> None:
    """Write split.json."""
    atomic_write.replace_file(out / RECORD, json.dumps(record, indent=1).encode())


def read_state(out: Path, config: Config) -> str:
    """Read what a folder holds: a "finished" or "begun" run of a configuration, that of "another", or "nothing"."""
    path = out / RECORD
    if not path.is_file():
        return "nothing"
    record = json.loads(path.read_text(encoding="utf-8"))
    if describe_difference(record["config"], config.model_dump(mode="json"), ("data.root",)) is not None:
        return "another"
    return "finished" if record.get("finished") else "begun"


def fill_defaults(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add to a recorded configuration every later entry, at its default."""
    with contextlib.suppress(ValidationError):
        return Config.model_validate(config).model_dump(mode="json")
    return config


def describe_difference(before: Mapping[str, Any], now: Mapping[str, Any], except_for: Collection[str]) -> str | None:
    """Describe where two recorded configurations first differ.

    The weights that an encoder starts with may be a file instead of the packages that versions up to 0.1.0 read.

    Parameters
    ----------
    before, now : mapping of str to object
        Configurations as records hold them; the older one may lack entries.
    except_for : collection of str
        Entries that do not count, such as "data.root".

    Returns
    -------
    str, optional
        The difference, such as "train.batch = 8, not 16"; None without a difference.
    """
    before = fill_defaults(before)
    for table in (*now, *(set(before) - set(now))):
        old, new = ((side.get(table) or {}) for side in (before, now))
        for key in (*new, *(set(old) - set(new))):
            field, value, other = f"{table}.{key}", old.get(key), new.get(key)
            if value == other or field in except_for or _same_weights(field, value, other):
                continue
            return f"{field} = {value!r}, not {other!r}"
    return None


def _same_weights(field: str, before: Any, now: Any) -> bool:
    is_file = isinstance(now, str) and now.startswith("file:")
    return field == "network.encoder_weights" and before in ("package", "nearest") and is_file


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are whole or not there; Lightning writes them through /tmp, which may be another disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        atomic_write.replace_file(Path(path), content.getvalue())


class RunCheckpoints(ModelCheckpoint):
    """The checkpoints best.ckpt and last.ckpt, with three changes of Lightning's behaviour.

    Lightning writes last.ckpt only together with best.ckpt, so a resumed run would lose every step after its best. It
    writes none between validations, which can be hours apart. And if the run's folder was moved, it forgets the best
    Dice: the next validation, however poor, would replace the best checkpoint.
    """

    __qualname__ = "ModelCheckpoint"  # the name of its state in checkpoints

    def __init__(self, out: Path) -> None:
        super().__init__(out, "best", monitor="dice", mode="max", save_last=True, enable_version_counter=False)
        self._last_saved_s = time.monotonic()

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Write last.ckpt every five minutes, because validations can be far apart."""
        overdue = time.monotonic() - self._last_saved_s > CHECKPOINT_INTERVAL_S
        if overdue and self._last_global_step_saved != trainer.global_step:
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
            self._last_saved_s = time.monotonic()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        super().on_validation_end(trainer, pl_module)
        if self._last_global_step_saved != trainer.global_step:
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def move(path: str) -> str:
            return str(Path(str(self.dirpath), Path(path).name)) if path else path

        moved = {name: move(value) for name, value in state_dict.items() if name.endswith("_path")}
        best = {move(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state_dict | moved | {"dirpath": self.dirpath, "best_k_models": best})


class MetricsFile(Logger):
    """The file metrics.csv: one row for each logged step, appended at once; a resumed run continues it.

    Parameters
    ----------
    path : Path
        The file.
    steps_done : int
        Steps of the run before it is resumed; rows of later steps, which will be repeated, are dropped.
    """

    def __init__(self, path: Path, steps_done: int) -> None:
        super().__init__()
        self.path = path
        rows: list[dict[str, str]] = []
        if steps_done and path.exists():
            with path.open(newline="", encoding="utf-8") as stream:
                rows = [row for row in csv.DictReader(stream) if row.get("step") and int(row["step"]) < steps_done]
        self.columns = list(rows[0]) if rows else ["step"]
        self._rewrite(rows)

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Do nothing: the configuration is in split.json."""

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
    """An earlier run: its configuration, its best checkpoint, and the patients that it was trained on."""

    config: Config
    checkpoint: Path
    training_patients: frozenset[str]


def find_earlier_run(run: Path, validation: frozenset[str], field: str) -> EarlierRun:
    """Find an earlier run, and refuse it if it was trained on a validation patient of this run.

    Parameters
    ----------
    run : Path
        The folder of the earlier run.
    validation : frozenset of str
        The validation patients of this run.
    field : str
        The entry of the configuration that names the earlier run, for the error.

    Returns
    -------
    EarlierRun
        The earlier run.

    Raises
    ------
    TrainError
        `train`, if the folder holds no run, its split was not by patient, or one of these patients was not held out,
        or was trained on, in it.
    """
    checkpoint, path = run / BEST, run / RECORD
    if not checkpoint.is_file() or not path.is_file():
        raise TrainError(f"{field}: {run} holds no {BEST} and {RECORD} of a run", "Train that run first.")
    record = json.loads(path.read_text(encoding="utf-8"))
    # Older records lack the kind of split, which was by patient, and the training patients.
    by = record.get("split", {}).get("by", "patient")
    if by != "patient":
        raise TrainError(
            f"{field}: {run.name} was split by {by}, so it was trained on its own validation patients",
            'Train that run with data.split_by = "patient".',
        )
    unknown = validation.difference(record["validation_patients"])
    if shared := sorted(unknown | validation.intersection(record.get("training_patients", ()))):
        raise TrainError(
            f"{field}: {run.name} may have been trained on {shared[0]}, a validation patient of this run",
            "Use the same data.split, or the same data.validation, data.validation_share and train.seed, in both runs.",
        )
    try:
        earlier_config = Config.model_validate(record["config"])
    except ValidationError as error:
        entry = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise TrainError(f"{field}: {run.name} was trained with an unknown entry {entry}") from None
    return EarlierRun(earlier_config, checkpoint, frozenset(record.get("training_patients", ())))
