"""The training loop: Lightning, one configuration, one folder of results."""

from __future__ import annotations

import contextlib
import copy
import errno
import json
import math
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from strokeseg.errors import DiskFull, TrainError
from strokeseg.segmentation.engines.cpu_features import detect_hardware
from strokeseg.segmentation.preprocess import resize
from strokeseg.training import (
    callbacks as watch,
)
from strokeseg.training import (
    losses,
    networks,
    run_folder,
    split,
    teachers,
    validation,
    warm_start,
)
from strokeseg.training.augmentation import StoredSlice
from strokeseg.training.config import Config, TrainConfig
from strokeseg.training.networks import load_averaged_network as load_averaged_network
from strokeseg.training.slices import Batch, ResumableSampler, TrainingSlices, ValidationSlices

CHANGEABLE_ENTRIES = ("data.root", "train.workers", "train.validate_every", "train.patience")
"""What a run may be gone on with in another way than it was begun; no sample and no step depends on it."""
BATCH_NORM_SLICES = 16
"""Slices to train on by which a warm start restates its batch norms; a step's usual number."""


class SegmentationModule(lightning.LightningModule):
    """The network, its moving average (which is what counts), its loss and its schedule.

    Parameters
    ----------
    config : Config
        The whole run.
    held_out : list of StoredSlice
        The samples to validate on.
    network : Module
        What to train.
    held_to : object
        The teachers of a distillation.
    """

    def __init__(
        self, config: Config, held_out: list[StoredSlice], network: nn.Module, teacher: teachers.Teacher | None = None
    ) -> None:
        super().__init__()
        self.config, self.held_out, self.teacher = config, held_out, teacher
        self.network = network.train().to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.slice_scores: dict[int, validation.SliceScores] = {}
        self.preview_probabilities = dict.fromkeys(watch.choose_previews(held_out), np.zeros((1, 1), np.float32))
        self.threshold = 0.5

    def on_fit_start(self) -> None:
        if self.teacher is not None:
            self.teacher.to(self.device)

    def on_train_batch_start(self, *_: Any) -> None:
        # Dropout then depends on the step alone, also in a run that is taken up again.
        torch.manual_seed(self.config.train.seed * 1_000_003 + self.global_step)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        image = batch["image"].to(memory_format=torch.channels_last)
        logits = self.network(image)[:, 0]
        value = losses.total_loss(logits, batch["mask"].long(), batch["boxed"], self.config.loss)
        if self.teacher is not None and (table := self.config.distillation) is not None:
            answers = self.teacher(image, table.temperature)
            value = value + table.weight * losses.distillation_loss(logits, answers, table.temperature)
        if not torch.isfinite(value):
            raise TrainError(f"step {self.global_step}: the loss is {value.item()}", "Lower train.rate.")
        self.log("loss", value.detach(), prog_bar=True)
        return value

    def on_train_batch_end(self, *_: Any) -> None:
        keep = min(self.config.train.ema, (1 + self.global_step) / (10 + self.global_step))
        with torch.no_grad():
            for mean, now in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(now, 1 - keep)
                else:
                    mean.copy_(now)
        if self.global_step >= self.trainer.max_steps:
            # Lightning then validates, also where the last step is no multiple of train.validate_every.
            self.trainer.should_stop = True

    def on_validation_epoch_start(self) -> None:
        self.average.eval()
        self.slice_scores = {}

    def validation_step(self, batch: Batch, _: int) -> None:
        answers = torch.sigmoid(self.average(batch["image"].to(memory_format=torch.channels_last)).float())[:, 0]
        for index, answer, truth in zip(batch["index"].tolist(), answers, batch["mask"], strict=True):
            probability = resize(answer.cpu().numpy(), tuple(truth.shape))
            self.slice_scores[index] = validation.score_slice(probability, truth.cpu().numpy())
            if index in self.preview_probabilities:
                self.preview_probabilities[index] = probability

    def on_validation_epoch_end(self) -> None:
        found = validation.score_held_out(self.held_out, self.slice_scores)
        self.threshold = found["threshold"]
        self.log("dice", found["dice"], prog_bar=True)
        for name in ("threshold", "recall", "detection_auc", "quiet"):
            if found[name] is not None:
                self.log(name, found[name])
        for name, value in found["sources"].items():
            self.log(f"dice/{name}", value)

    def configure_optimizers(self) -> Any:
        table = self.config.train
        network: Any = self.network
        encoder = list(network.encoder.parameters())
        inner = {id(parameter) for parameter in encoder}
        rest = [parameter for parameter in network.parameters() if id(parameter) not in inner]
        groups = [{"params": encoder, "lr": table.rate * table.encoder_rate}, {"params": rest, "lr": table.rate}]
        optimizer = torch.optim.AdamW(groups, weight_decay=table.weight_decay)
        steps = max(1, table.samples // table.batch)

        def share(step: int) -> float:
            done = step / steps
            rise = min(1.0, (done + 1 / steps) / max(table.warm_up, 1 / steps))
            fall = min(1.0, max(0.0, (1 - done) / (1 - table.decay_from)))
            return rise * (0.5 - 0.5 * math.cos(math.pi * fall))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def run(config: Config, root: Path, out: Path, *, resume: bool = False, progress: bool = True) -> Path:
    """Train, and give the best checkpoint's path.

    Parameters
    ----------
    config : Config
        The whole run.
    root : Path
        Folder of the data sets.
    out : Path
        Folder for checkpoints, `metrics.csv`, `split.json`, `tensorboard/`; made if missing. Earlier runs that the
        configuration names lie beside it.
    resume : bool, default: False
        Go on from `last.ckpt` in it; otherwise a run in it is replaced.

    Raises
    ------
    TrainError
        `train`, if a data set, split, network or earlier run cannot be used, a run cannot be gone on with, the loss
        is not finite, or the memory does not suffice.
    DiskFull
        `disk-full`; the checkpoints are then those of the last validation.
    """
    if config.train.precision == "16-mixed" and not torch.cuda.is_available():
        raise TrainError("train.precision: 16-mixed needs a GPU, and there is none", "Use bf16-mixed.")
    lightning.seed_everything(config.train.seed, verbose=False)
    sides = split.load_split(config, root)
    training = teachers.outline_samples(sides.training, config, out.parent, sides.validation_patients)
    notes: dict[str, Any] = {
        "config": config.model_dump(mode="json"),
        "slices": {
            name: {
                "train": sum(sample.source == name for sample in training),
                "validation": sum(sample.source == name for sample in sides.held_out),
            }
            for name in config.data.sources
        },
        "validation_patients": sorted(sides.validation_patients),
        "training_patients": sorted({sample.patient for sample in sides.training}),
        "split": sides.record,
    }
    resume = resume and _has_run(out)
    if resume:
        _check_same_run(out, notes)
    drawn = TrainingSlices(training, config)
    torch.manual_seed(config.train.seed)
    module, notes["encoder_weights"] = _build_module(config, sides, out.parent, drawn)
    notes["parameters"] = sum(parameter.numel() for parameter in module.network.parameters())
    with _translate_errors(out, config.train):
        done = _prepare_folder(out, resume)
        loaders = (
            DataLoader(
                drawn,
                config.train.batch,
                sampler=ResumableSampler(done * config.train.batch, config.train.samples),
                num_workers=config.train.workers,
                drop_last=True,
            ),
            DataLoader(ValidationSlices(sides.held_out, config.network.size), config.train.batch),
        )
        trainer = _make_trainer(config.train, out, notes, done, progress)
        with _restore_keyboard_interrupt():
            trainer.fit(module, *loaders, ckpt_path=str(out / run_folder.LAST) if done else None)
    if not (out / run_folder.BEST).is_file():
        raise TrainError(f"{out}: the training ended without a {run_folder.BEST}", "Begin anew with --fresh.")
    return out / run_folder.BEST


def suggest_precision(table: TrainConfig) -> str | None:
    """Say what would be quicker on this machine; None where nothing would."""
    if table.precision != "bf16-mixed" or torch.cuda.is_available() or detect_hardware().bf16_instructions:
        return None
    return 'the processor has no instructions for 16-bit floats: train.precision = "32-true" is many times quicker here'


@contextlib.contextmanager
def _restore_keyboard_interrupt() -> Iterator[None]:
    """Give Ctrl-C back as KeyboardInterrupt: Lightning exits with 1 instead, and takes no further Ctrl-C."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt from None


def _build_module(
    config: Config, sides: split.Split, runs: Path, drawn: TrainingSlices
) -> tuple[SegmentationModule, str]:
    """Build what is trained, and say where its weights come from."""
    if config.network.start and config.network.start.startswith(warm_start.MODEL_PREFIX):
        images = torch.stack([drawn[index]["image"] for index in range(min(BATCH_NORM_SLICES, len(drawn)))])
        network, origin = warm_start.start_from_model(config.network, sides.held_out, images)
    elif config.network.start:
        begun = run_folder.find_earlier_run(runs / config.network.start, sides.validation_patients, "network.start")
        network, origin = load_averaged_network(config, begun.checkpoint), f"the run {config.network.start}"
    else:
        network, origin = networks.build_with_origin(config.network)
    held_to = None
    if config.distillation is not None:
        held_to = teachers.load_teacher(
            runs, config.distillation.teachers, sides.validation_patients, "distillation.teachers"
        )
    return SegmentationModule(config, sides.held_out, network, held_to), origin


def _prepare_folder(out: Path, resume: bool) -> int:
    """Make the run's folder, emptied of an earlier run unless that is taken up; give the number of steps done."""
    out.mkdir(parents=True, exist_ok=True)
    if resume:
        steps: int = torch.load(out / run_folder.LAST, map_location="cpu", weights_only=True)["global_step"]
        return steps
    for name in (run_folder.LAST, run_folder.BEST, "metrics.csv"):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / "tensorboard", ignore_errors=True)
    return 0


def _has_run(out: Path) -> bool:
    """Return whether a folder holds a run to go on with; one with nothing but its best checkpoint is refused."""
    if (out / run_folder.LAST).exists():
        return True
    if (out / run_folder.BEST).exists():
        raise TrainError(
            f"{out}: holds a {run_folder.BEST} and no {run_folder.LAST} to go on from",
            "Begin anew with --fresh, or --export.",
        )
    return False


def _check_same_run(out: Path, notes: dict[str, Any]) -> None:
    """Refuse to go on with other validation patients or settings: the figures would be of neither run."""
    path = out / run_folder.RECORD
    if not path.is_file():
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    if before["validation_patients"] != notes["validation_patients"]:
        raise TrainError(f"{out}: this run was begun with other validation patients", "Begin anew with --fresh.")
    if told := run_folder.describe_difference(before["config"], notes["config"], CHANGEABLE_ENTRIES):
        raise TrainError(
            f"{out}: this run was begun with {told}", "Go on with the same configuration, or begin anew with --fresh."
        )


def _make_trainer(table: TrainConfig, out: Path, notes: dict[str, Any], done: int, progress: bool) -> lightning.Trainer:
    steps = max(1, table.samples // table.batch)
    callbacks: list[Callback] = [
        watch.Clock(out, notes, table.batch),
        watch.ValidationPreviews(),
        run_folder.RunCheckpoints(out),
    ]
    if table.patience is not None:
        callbacks.append(EarlyStopping("dice", mode="max", patience=table.patience))
    if progress:
        callbacks.append(watch.ProgressBar(table.batch))
    return lightning.Trainer(
        max_steps=steps,
        precision=table.precision,
        accelerator="auto",
        devices=1,
        deterministic="warn" if torch.cuda.is_available() else None,
        plugins=[run_folder.AtomicCheckpointIO()],
        logger=[
            run_folder.MetricsFile(out / "metrics.csv", done),
            TensorBoardLogger(out, "tensorboard", "", default_hp_metric=False, purge_step=done or None),
        ],
        callbacks=callbacks,
        enable_progress_bar=progress,
        enable_model_summary=False,
        check_val_every_n_epoch=None,  # so that a run taken up again validates at the same steps
        val_check_interval=min(table.validate_every, steps),
        log_every_n_steps=10,
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
    )


@contextlib.contextmanager
def _translate_errors(out: Path, table: TrainConfig) -> Iterator[None]:
    """Turn a full memory and a full disk into our errors."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # On a processor torch raises a plain RuntimeError; torch.OutOfMemoryError is one, too.
        told = str(error).lower()
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "allocate memory" not in told:
            raise
        half = table.batch // 2
        remedy = f"Try train.batch = {half}." if half else "Try a smaller network.size."
        raise TrainError(f"a batch of {table.batch} does not fit into memory", remedy) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(
            f"{out}: no space is left for the run's files",
            "Free space, then go on with --resume; what the last validation left is whole.",
        ) from error
