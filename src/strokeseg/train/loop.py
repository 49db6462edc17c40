"""The training loop: Lightning, one configuration, one folder of results."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from strokeseg.errors import TrainError
from strokeseg.infer.preprocess import resize, window
from strokeseg.train import augment, data, losses, networks, split
from strokeseg.train.augment import Stored
from strokeseg.train.config import Config

Batch = dict[str, Tensor]


class TrainingSlices(Dataset[Batch]):
    """Slices drawn by source: a source's share does not depend on how many slices it has.

    Sample ``i`` is a function of the seed and ``i`` alone, so a run can be repeated and taken up again.
    """

    def __init__(self, samples: list[Stored], config: Config) -> None:
        self.config = config
        self.by_source: dict[str, list[Stored]] = {}
        for sample in samples:
            self.by_source.setdefault(sample.source, []).append(sample)
        self.names = sorted(name for name in self.by_source if config.data.sources.get(name, 0) > 0)
        shares = np.array([config.data.sources[name] for name in self.names])
        self.shares = shares / shares.sum()
        self.donors = [s for s in samples if not s.boxed and 60 < (s.mask == 1).sum() < 20_000]

    def __len__(self) -> int:
        return self.config.train.samples

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng((self.config.train.seed, index))
        pool = self.by_source[self.names[rng.choice(len(self.names), p=self.shares)]]
        sample = pool[rng.integers(len(pool))]
        hu, mask = sample.hu, sample.mask
        if not sample.boxed:
            if self.donors and rng.random() < self.config.synthesis.paste:
                hu, mask = augment.paste(hu, mask, self.donors[rng.integers(len(self.donors))], rng)
            if rng.random() < self.config.synthesis.crescent:
                hu, mask = augment.crescent(hu, mask, rng)
            if rng.random() < self.config.synthesis.bone:
                hu, mask = augment.bone(hu, mask, rng)
        hu, mask = augment.geometry(hu, mask, self.config.network.size, sample.boxed, rng)
        image = torch.from_numpy(augment.intensity(hu, rng))[None] * 2 - 1
        return {"image": image, "mask": torch.from_numpy(mask), "boxed": torch.tensor(sample.boxed)}


class Onward(Sampler[int]):
    """The samples in order, from the one at which an earlier run stopped.

    Its length is still that of the whole run: Lightning counts the batches of before as done.
    """

    def __init__(self, first: int, samples: int) -> None:
        self.first, self.samples = first, samples

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.samples))

    def __len__(self) -> int:
        return self.samples


class ValidationSlices(Dataset[Batch]):
    """The held-out slices as inference sees them."""

    def __init__(self, samples: list[Stored], size: int) -> None:
        self.samples, self.size = samples, size

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Batch:
        sample = self.samples[index]
        image = torch.from_numpy(resize(window(sample.hu), (self.size, self.size)) * 2 - 1)[None]
        return {"image": image, "mask": torch.from_numpy(sample.mask), "index": torch.tensor(index)}


THRESHOLDS = np.arange(0.1, 0.91, 0.05)


class Module(lightning.LightningModule):
    """The network, its moving average (which is what counts), its loss and its schedule."""

    def __init__(self, config: Config, held_out: list[Stored]) -> None:
        super().__init__()
        self.config, self.held_out = config, held_out
        self.network = networks.build(config.network).to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.seen: dict[int, np.ndarray[Any, Any]] = {}

    def training_step(self, batch: Batch, _: int) -> Tensor:
        image = batch["image"].to(memory_format=torch.channels_last)
        value = losses.loss(self.network(image)[:, 0], batch["mask"].long(), batch["boxed"])
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

    def on_validation_epoch_start(self) -> None:
        self.average.eval()
        self.seen = {}

    def validation_step(self, batch: Batch, _: int) -> None:
        answers = torch.sigmoid(self.average(batch["image"].to(memory_format=torch.channels_last)).float())[:, 0]
        for index, answer, truth in zip(batch["index"].tolist(), answers, batch["mask"], strict=True):
            probability = resize(answer.cpu().numpy(), tuple(truth.shape))
            self.seen[index] = counts(probability, truth.cpu().numpy())

    def on_validation_epoch_end(self) -> None:
        scores = validation_scores(self.held_out, self.seen)
        self.log("dice", scores["dice"], prog_bar=True)
        self.log("threshold", scores["threshold"])
        for name, value in scores["sources"].items():
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


def counts(probability: augment.Floats32, mask: augment.Bytes) -> np.ndarray[Any, Any]:
    """Count, at each threshold, (true positive, answered positive, truly positive) over the known pixels."""
    known = mask != data.UNKNOWN
    truth, answer = (mask == 1)[known], probability[known]
    rows = [((answer > t) & truth, answer > t) for t in THRESHOLDS]
    return np.array([(both.sum(), said.sum(), truth.sum()) for both, said in rows], dtype=np.int64)


def validation_scores(samples: list[Stored], seen: dict[int, np.ndarray[Any, Any]]) -> dict[str, Any]:
    """Score the held-out patients: the mean over sources of the mean over patients, at the best common threshold.

    A patient's Dice pools the patient's slices. Slices without blood count in ``quiet``: the share of them on which
    nothing is answered at that threshold.
    """
    patients: dict[tuple[str, str], np.ndarray[Any, Any]] = {}
    quiet = []
    for index, count in seen.items():
        sample = samples[index]
        if count[0, 2] == 0:
            quiet.append(count[:, 1] == 0)
            continue
        key = (sample.source, sample.patient)
        patients[key] = patients.get(key, 0) + count
    by_source: dict[str, list[np.ndarray[Any, Any]]] = {}
    for (source, _), count in patients.items():
        by_source.setdefault(source, []).append(2 * count[:, 0] / np.maximum(count[:, 1] + count[:, 2], 1))
    if not by_source:
        return {"dice": 0.0, "threshold": 0.5, "sources": {}, "patients": {}, "quiet": None}
    means = {source: np.mean(values, axis=0) for source, values in by_source.items()}
    overall = np.mean(list(means.values()), axis=0)
    best = int(overall.argmax())
    return {
        "dice": float(overall[best]),
        "threshold": round(float(THRESHOLDS[best]), 2),
        "sources": {source: float(value[best]) for source, value in means.items()},
        "patients": {
            f"{source} {patient}": float(2 * count[best, 0] / (count[best, 1] + count[best, 2]))
            for (source, patient), count in sorted(patients.items())
        },
        "quiet": float(np.mean([row[best] for row in quiet])) if quiet else None,
    }


def stored_samples(config: Config, root: Path) -> list[Stored]:
    """Read every source of the configuration."""
    return [
        augment.store(sample) for source in config.data.sources for sample in data.load(root, source, config.data.limit)
    ]


def run(config: Config, root: Path, out: Path, *, resume: bool = False, progress: bool = True) -> Path:
    """Train, and give the best checkpoint's path.

    Parameters
    ----------
    config : the whole run
    root : folder of the data sets
    out : folder for checkpoints, `metrics.csv`, `split.json`; made if missing
    resume : go on from `last.ckpt` in it

    Raises
    ------
    TrainError
        if a data set cannot be used, the loss is not finite, or the memory does not suffice
    """
    lightning.seed_everything(config.train.seed, verbose=False)
    samples = stored_samples(config, root)
    validation = split.validation_patients(
        samples, config.data.validation, config.data.validation_share, config.train.seed
    )
    training, held_out = split.split(samples, validation)
    if not training or not held_out:
        raise TrainError(f"{len(training)} slices to train on and {len(held_out)} to validate on: both must be there")
    out.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {
        "config": config.model_dump(mode="json"),
        "slices": {},
        "validation_patients": sorted(validation),
    }
    for name in config.data.sources:
        sides = [sum(s.source == name for s in side) for side in (training, held_out)]
        record["slices"][name] = {"train": sides[0], "validation": sides[1]}
    (out / "split.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    table = config.train
    trainer = lightning.Trainer(
        max_steps=max(1, table.samples // table.batch),
        precision=table.precision,
        accelerator="auto",
        devices=1,
        logger=CSVLogger(str(out), name="", version=""),
        callbacks=[
            ModelCheckpoint(out, "best", monitor="dice", mode="max", save_last=True, enable_version_counter=False),
            *([TQDMProgressBar(refresh_rate=10)] if progress else []),
        ],
        enable_progress_bar=progress,
        enable_model_summary=False,
        check_val_every_n_epoch=None,  # so that a run taken up again validates at the same steps
        val_check_interval=min(table.validate_every, max(1, table.samples // table.batch)),
        log_every_n_steps=10,
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
    )
    last = out / "last.ckpt"
    done = torch.load(last, map_location="cpu", weights_only=True)["global_step"] if resume and last.exists() else 0
    loaders = (
        DataLoader(
            TrainingSlices(training, config),
            table.batch,
            sampler=Onward(done * table.batch, table.samples),
            num_workers=table.workers,
            drop_last=True,
        ),
        DataLoader(ValidationSlices(held_out, config.network.size), table.batch),
    )
    try:
        trainer.fit(Module(config, held_out), *loaders, ckpt_path=str(last) if done else None)
    except (torch.OutOfMemoryError, MemoryError) as error:
        half = max(1, table.batch // 2)
        raise TrainError(f"a batch of {table.batch} does not fit into memory", f"Try train.batch = {half}.") from error
    return out / "best.ckpt"


def load_average(config: Config, checkpoint: Path) -> nn.Module:
    """Load a checkpoint's averaged network, ready to answer."""
    network = networks.build(config.network.model_copy(update={"encoder_weights": None}))
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    network.load_state_dict({key[8:]: value for key, value in state.items() if key.startswith("average.")})
    return network.eval()
