"""The slices of a run as torch data sets: drawn and augmented for training, as in segmentation for validation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from strokeseg.errors import TrainError
from strokeseg.segmentation.preprocess import apply_window, resize
from strokeseg.training import augmentation
from strokeseg.training.augmentation import StoredSlice
from strokeseg.training.config import Config

Batch = dict[str, Tensor]
Pools = dict[str, list[StoredSlice]]


class SliceDraw:
    """The draw of slices: first a source by its share, then a slice of it, whatever the size of the source.

    With ``train.balance`` a class is drawn first: positive (outlined blood), negative (known to hold none) or boxed, by
    its share; then a source that holds the class, by the shares of ``data.sources``; then a slice of that class and
    source. A slice without a class (blood without any outline) is then never drawn.

    Raises
    ------
    TrainError
        `train`, if a class with a share has no slice.
    """

    def __init__(self, samples: Sequence[StoredSlice], config: Config) -> None:
        self.sources = config.data.sources
        balance = config.train.balance
        self.classes = None if balance is None else _normalise_shares(balance, "train.balance")
        if self.classes is None:
            self.tables = [self._table(samples)]
            return
        by_class: dict[str, list[StoredSlice]] = {}
        for sample in samples:
            by_class.setdefault(_slice_class(sample), []).append(sample)
        for name in self.classes:
            if not any(self.sources.get(sample.source, 0) > 0 for sample in by_class.get(name, [])):
                raise TrainError(f"train.balance.{name}: there is no such slice to train on", "Set it to 0.")
        self.tables = [self._table(by_class[name]) for name in self.classes]

    def _table(self, samples: Sequence[StoredSlice]) -> tuple[Pools, dict[str, float]]:
        pools: Pools = {}
        for sample in samples:
            pools.setdefault(sample.source, []).append(sample)
        names = sorted(name for name in pools if self.sources.get(name, 0) > 0)
        return pools, _normalise_shares({name: self.sources[name] for name in names}, "data.sources")

    def __call__(self, rng: np.random.Generator) -> StoredSlice:
        """Draw one slice."""
        table = 0 if self.classes is None else rng.choice(len(self.classes), p=list(self.classes.values()))
        pools, shares = self.tables[table]
        pool = pools[list(shares)[rng.choice(len(shares), p=list(shares.values()))]]
        return pool[rng.integers(len(pool))]


def _normalise_shares(shares: Mapping[Any, float], field: str) -> dict[str, float]:
    values = np.array(list(shares.values()), dtype=float)
    if not len(values) or not np.isfinite(values).all() or values.min() < 0 or values.sum() <= 0:
        raise TrainError(f"{field}: shares must not be negative, and one must be above 0")
    return {name: float(value) for name, value in zip(shares, values / values.sum(), strict=True) if value > 0}


def _slice_class(sample: StoredSlice) -> str:
    if sample.boxed:
        return "boxed"
    if (sample.mask == 1).any():
        return "positive"
    return "negative" if (sample.mask == 0).any() else "unlabelled"


class TrainingSlices(Dataset[Batch]):
    """Training slices, drawn by source (with ``train.balance`` also by class), then augmented.

    Sample ``i`` is a function of the seed, ``train.stream`` and ``i`` alone, so a run can be repeated and resumed.
    """

    def __init__(self, samples: list[StoredSlice], config: Config) -> None:
        self.config = config
        self.draw = SliceDraw(samples, config)
        self.seed = [config.train.seed] + ([config.train.stream] if config.train.stream else [])
        self.donors = [s for s in samples if s.labelled and not s.boxed and 60 < (s.mask == 1).sum() < 20_000]

    def __len__(self) -> int:
        return self.config.train.samples

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng((*self.seed, index))
        sample = self.draw(rng)
        hu, mask = sample.hu, sample.mask
        table = self.config.synthesis
        if not sample.boxed:
            if self.donors and rng.random() < table.paste:
                hu, mask = augmentation.paste_lesion(hu, mask, self.donors[rng.integers(len(self.donors))], rng)
            if rng.random() < table.crescent:
                hu, mask = augmentation.add_crescent(hu, mask, rng, table.isodense)
            if rng.random() < table.bone:
                hu, mask = augmentation.grow_bone(hu, mask, rng, table.vault)
        hu, mask = augmentation.transform_geometry(hu, mask, self.config.network.size, sample.boxed, rng)
        image = torch.from_numpy(augmentation.vary_intensity(hu, rng))[None] * 2 - 1
        return {"image": image, "mask": torch.from_numpy(mask), "boxed": torch.tensor(sample.boxed)}


class ResumableSampler(Sampler[int]):
    """Sampler that takes the samples in order, from the one at which a run was stopped.

    Its length is that of the whole run: Lightning counts the earlier batches as done.
    """

    def __init__(self, first: int, samples: int) -> None:
        self.first, self.samples = first, samples

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.samples))

    def __len__(self) -> int:
        return self.samples


class ValidationSlices(Dataset[Batch]):
    """The held-out slices, as segmentation sees them."""

    def __init__(self, samples: list[StoredSlice], size: int) -> None:
        self.samples, self.size = samples, size

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Batch:
        sample = self.samples[index]
        image = torch.from_numpy(resize(apply_window(sample.hu), (self.size, self.size)) * 2 - 1)[None]
        return {"image": image, "mask": torch.from_numpy(sample.mask), "index": torch.tensor(index)}
