"""The slices of a run as torch data sets: drawn and augmented for training, as in segmentation for validation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from strokeseg.errors import TrainError
from strokeseg.segmentation.preprocess import apply_window, resize
from strokeseg.training import augmentation
from strokeseg.training.augmentation import StoredSlice
from strokeseg.training.config import Config

_PIXEL_MM = 225 / augmentation.STORED_SIZE
"""The square around a head is about 225 mm wide; most sets do not state their spacing."""
_THIN_MM, _SMALL_MM2 = 8.0, 200.0

Batch = dict[str, Tensor]
Pools = dict[str, list[StoredSlice]]


class SliceDraw:
    """The draw of slices: first a source by its share, then a slice of it, whatever the size of the source.

    With ``train.balance`` a class is drawn first: positive (outlined blood), small (outlined blood that is thin or
    small, if it has a share of its own), negative (known to hold none) or boxed, by its share; then a source that holds
    the class, by the shares of ``data.sources``; then a slice of that class and source. A slice without a class (blood
    without any outline) is then never drawn.

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
            by_class.setdefault(_slice_class(sample, "small" in self.classes), []).append(sample)
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


def _slice_class(sample: StoredSlice, separate_small: bool) -> str:
    if sample.boxed:
        return "boxed"
    if (sample.mask == 1).any():
        return "small" if separate_small and is_small(sample.mask == 1) else "positive"
    return "negative" if (sample.mask == 0).any() else "unlabelled"


def is_small(blood: NDArray[np.bool_]) -> bool:
    """Return whether the blood on a stored slice is thin or small, for a head of the usual size.

    Parameters
    ----------
    blood : ndarray of bool, shape (STORED_SIZE, STORED_SIZE)
        The mask, not empty.
    """
    thickness_mm = 2 * float(ndimage.distance_transform_edt(blood).max()) * _PIXEL_MM
    return thickness_mm < _THIN_MM or float(blood.sum()) * _PIXEL_MM**2 < _SMALL_MM2


class TrainingSlices(Dataset[Batch]):
    """Training slices, drawn by source (with ``train.balance`` also by class), then augmented.

    With ``network.neighbours`` an image is the slices below, this and above. If a slice has no neighbours, it takes
    their place itself; so does one with synthetic blood or bone, which its neighbours would not continue.

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
        original = hu
        table = self.config.synthesis
        if not sample.boxed:
            if self.donors and rng.random() < table.paste:
                hu, mask = augmentation.paste_lesion(hu, mask, self.donors[rng.integers(len(self.donors))], rng)
            if rng.random() < table.crescent:
                hu, mask = augmentation.add_crescent(hu, mask, rng, table.isodense)
            if rng.random() < table.bone:
                hu, mask = augmentation.grow_bone(hu, mask, rng, table.vault)
        size, channels = self.config.network.size, self.config.network.channels
        if channels > 1 and hu is original and self._use_neighbours(sample, rng):
            # The order of the slices differs between sets, so the neighbours change places at random.
            hu = sample.hu_with_neighbours[:: rng.choice((1, -1))]
            hu, mask = augmentation.transform_geometry(hu, mask, size, sample.boxed, rng)
            grey = augmentation.vary_intensities(hu, rng)
        else:
            hu, mask = augmentation.transform_geometry(hu, mask, size, sample.boxed, rng)
            grey = augmentation.vary_intensity(hu, rng)[None].repeat(channels, 0)
        image = torch.from_numpy(grey) * 2 - 1
        return {"image": image, "mask": torch.from_numpy(mask), "boxed": torch.tensor(sample.boxed)}

    def _use_neighbours(self, sample: StoredSlice, rng: np.random.Generator) -> bool:
        has_neighbour = sample.below is not None or sample.above is not None
        return has_neighbour and rng.random() >= self.config.train.drop_neighbours


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
    """The held-out slices, as segmentation sees them, with the neighbours that they have."""

    def __init__(self, samples: list[StoredSlice], size: int, channels: int = 1) -> None:
        self.samples, self.size, self.channels = samples, size, channels

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Batch:
        sample = self.samples[index]
        planes = sample.hu[None] if self.channels == 1 else sample.hu_with_neighbours
        grey = np.stack([resize(apply_window(plane), (self.size, self.size)) for plane in planes])
        return {
            "image": torch.from_numpy(grey * 2 - 1),
            "mask": torch.from_numpy(sample.mask),
            "index": torch.tensor(index),
        }
