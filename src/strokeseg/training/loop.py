"""The training loop: Lightning, one configuration, one folder of results."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from strokeseg import atomic_write
from strokeseg.errors import DiskFull, TrainError
from strokeseg.segmentation.engines.cpu_features import detect_hardware
from strokeseg.training import networks, packed_run, run_folder, split, teachers, warm_start
from strokeseg.training.callbacks import Clock, ProgressBar, ValidationPreviews
from strokeseg.training.config import Config, TrainConfig
from strokeseg.training.module import SegmentationModule
from strokeseg.training.slices import ResumableSampler, TrainingSlices, ValidationSlices

CHANGEABLE_ENTRIES = ("data.root", "train.workers", "train.validate_every", "train.patience")
"""Entries that may differ when a run is resumed; no sample and no step depends on them."""
BATCH_NORM_SLICES = 16
"""Training slices from which a warm start measures its batch norms; the usual number of a step."""


def run(config: Config, root: Path, out: Path, *, resume: bool = False, progress: bool = True) -> Path:
    """Train a network.

    Parameters
    ----------
    config : Config
        The configuration of the run.
    root : Path
        Folder of the data sets.
    out : Path
        Folder for checkpoints, `metrics.csv`, `split.json`, `tensorboard/`; created if missing. Earlier runs that the
        configuration names are looked for beside it.
    resume : bool, default: False
        Continue from `last.ckpt` in this folder. Otherwise a run in it is replaced.
    progress : bool, default: True
        Show a progress bar.

    Returns
    -------
    Path
        The best checkpoint.

    Raises
    ------
    TrainError
        `train`, if a data set, split, network or earlier run cannot be used, a run cannot be resumed, the loss is
        not finite, or the memory does not suffice.
    DiskFull
        `disk-full`; the checkpoints of the last validation stay whole.
    """
    if config.train.precision == "16-mixed" and not torch.cuda.is_available():
        raise TrainError("train.precision: 16-mixed needs a GPU, and none was detected", "Use bf16-mixed.")
    lightning.seed_everything(config.train.seed, verbose=False)
    samples = split.load_split(config, root)
    training = teachers.outline_samples(samples.training, config, out.parent, samples.validation_patients)
    record = run_folder.make_record(config, samples, training)
    resume = resume and _has_run(out)
    if resume:
        _check_same_run(out, record)
    slices = TrainingSlices(training, config)
    torch.manual_seed(config.train.seed)
    module, record["encoder_weights"] = _build_module(config, samples, out.parent, slices)
    record["parameters"] = sum(parameter.numel() for parameter in module.network.parameters())
    with _translate_errors(out, config.train):
        steps_done = _prepare_folder(out, resume)
        loaders = (
            DataLoader(
                slices,
                config.train.batch,
                sampler=ResumableSampler(steps_done * config.train.batch, config.train.samples),
                num_workers=config.train.workers,
                drop_last=True,
            ),
            DataLoader(
                ValidationSlices(samples.held_out, config.network.size, config.network.channels), config.train.batch
            ),
        )
        trainer = _make_trainer(config.train, out, record, steps_done, progress)
        with _restore_keyboard_interrupt():
            trainer.fit(module, *loaders, ckpt_path=str(out / run_folder.LAST) if steps_done else None)
    if not (out / run_folder.BEST).is_file():
        raise TrainError(f"{out}: the training ended without a {run_folder.BEST}", "Start again with --fresh.")
    return out / run_folder.BEST


def suggest_precision(settings: TrainConfig) -> str | None:
    """Suggest a faster arithmetic precision for this machine.

    Parameters
    ----------
    settings : TrainConfig
        The settings of the run.

    Returns
    -------
    str, optional
        A sentence; None if no other precision is faster.
    """
    if settings.precision != "bf16-mixed" or torch.cuda.is_available() or detect_hardware().bf16_instructions:
        return None
    return 'this processor has no bfloat16 instructions: train.precision = "32-true" is many times faster'


@contextlib.contextmanager
def _restore_keyboard_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt for Ctrl-C: Lightning exits with 1 instead, and ignores any further Ctrl-C."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


def _build_module(
    config: Config, samples: split.Split, runs: Path, slices: TrainingSlices
) -> tuple[SegmentationModule, str]:
    """Build the module to train, and describe where its weights come from."""
    if config.network.start and config.network.start.startswith(warm_start.MODEL_PREFIX):
        images = torch.stack([slices[index]["image"] for index in range(min(BATCH_NORM_SLICES, len(slices)))])
        network, origin = warm_start.start_from_model(config.network, samples.held_out, images)
    elif config.network.start_file is not None:
        network, origin = packed_run.start_from_file(config.network, samples.held_out)
    elif config.network.start:
        earlier = run_folder.find_earlier_run(runs / config.network.start, samples.validation_patients, "network.start")
        as_trained = config.network.model_copy(update={"neighbours": earlier.config.network.neighbours})
        averaged = networks.load_averaged_network(config.model_copy(update={"network": as_trained}), earlier.checkpoint)
        network, origin = networks.adapt_channels(averaged, config.network), f"the run {config.network.start}"
    else:
        network, origin = networks.build_with_origin(config.network)
    teacher = None
    if config.distillation is not None:
        teacher = teachers.load_teacher(
            runs, config.distillation.teachers, samples.validation_patients, "distillation.teachers"
        )
    return SegmentationModule(config, samples.held_out, network, teacher), origin


def _prepare_folder(out: Path, resume: bool) -> int:
    """Create the run's folder, or empty it unless the run in it is resumed; return the number of steps done."""
    out.mkdir(parents=True, exist_ok=True)
    if resume:
        steps: int = torch.load(out / run_folder.LAST, map_location="cpu", weights_only=True)["global_step"]
        return steps
    for name in (run_folder.LAST, run_folder.BEST, "metrics.csv"):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / "tensorboard", ignore_errors=True)
    return 0


def _has_run(out: Path) -> bool:
    """Return whether a folder holds a run to resume; refuse one that holds its best checkpoint alone."""
    if (out / run_folder.LAST).exists():
        return True
    if (out / run_folder.BEST).exists():
        raise TrainError(
            f"{out}: holds a {run_folder.BEST}, but no {run_folder.LAST} to resume from",
            "Start again with --fresh, or export it with --export.",
        )
    return False


def _check_same_run(out: Path, record: dict[str, Any]) -> None:
    """Refuse to resume with other validation patients or settings: the scores would belong to neither run."""
    path = out / run_folder.RECORD
    if not path.is_file():
        return
    recorded = json.loads(path.read_text(encoding="utf-8"))
    if recorded["validation_patients"] != record["validation_patients"]:
        raise TrainError(f"{out}: this run was started with other validation patients", "Start again with --fresh.")
    if difference := run_folder.describe_difference(recorded["config"], record["config"], CHANGEABLE_ENTRIES):
        raise TrainError(
            f"{out}: this run was started with {difference}",
            "Resume with the same configuration, or start again with --fresh.",
        )


def _make_trainer(
    settings: TrainConfig, out: Path, record: dict[str, Any], steps_done: int, progress: bool
) -> lightning.Trainer:
    steps = max(1, settings.samples // settings.batch)
    callbacks: list[Callback] = [
        Clock(out, record, settings.batch),
        ValidationPreviews(),
        run_folder.RunCheckpoints(out),
    ]
    if settings.patience is not None:
        callbacks.append(EarlyStopping("dice", mode="max", patience=settings.patience))
    if progress:
        callbacks.append(ProgressBar(settings.batch))
    return lightning.Trainer(
        max_steps=steps,
        precision=settings.precision,
        accelerator="auto",
        devices=1,
        deterministic="warn" if torch.cuda.is_available() else None,
        plugins=[run_folder.AtomicCheckpointIO()],
        logger=[
            run_folder.MetricsFile(out / "metrics.csv", steps_done),
            TensorBoardLogger(out, "tensorboard", "", default_hp_metric=False, purge_step=steps_done or None),
        ],
        callbacks=callbacks,
        enable_progress_bar=progress,
        enable_model_summary=False,
        check_val_every_n_epoch=None,  # a resumed run then validates at the same steps
        val_check_interval=min(settings.validate_every, steps),
        log_every_n_steps=10,
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
    )


@contextlib.contextmanager
def _translate_errors(out: Path, settings: TrainConfig) -> Iterator[None]:
    """Raise TrainError for exhausted memory, DiskFull for a full disk."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # On a CPU torch raises a plain RuntimeError, of which torch.OutOfMemoryError is a subclass.
        message = str(error).lower()
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "allocate memory" not in message:
            raise
        half = settings.batch // 2
        remedy = f"Try train.batch = {half}." if half else "Try a smaller network.size."
        raise TrainError(f"a batch of {settings.batch} does not fit into memory", remedy) from error
    except OSError as error:
        if not atomic_write.is_disk_full(error):
            raise
        raise DiskFull(
            f"{out}: no space left for the run's files",
            "Free space, then continue with --resume; the files of the last validation are whole.",
        ) from error
