"""Earlier runs as teachers: they outline unlabelled slices (self-training), and are distilled into the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from strokeseg.errors import TrainError
from strokeseg.segmentation.preprocess import apply_window, resize
from strokeseg.training import run_folder
from strokeseg.training.augmentation import Bytes, Floats32, StoredSlice
from strokeseg.training.config import Config, SelfTrainingConfig
from strokeseg.training.networks import load_averaged_network
from strokeseg.training.sample import UNKNOWN


class Teacher:
    """Networks of earlier runs that are evaluated and never trained; they are not part of checkpoints."""

    def __init__(self, networks: Sequence[tuple[nn.Module, int]]) -> None:
        self.networks = [(network.eval().requires_grad_(False), size) for network, size in networks]

    def to(self, device: torch.device) -> None:
        """Move the networks to a device."""
        self.networks = [(network.to(device), size) for network, size in self.networks]

    @torch.no_grad()
    def __call__(self, images: Tensor, temperature: float = 1.0) -> Tensor:
        """Compute the mean of the networks' probabilities, each at the size of its training.

        Parameters
        ----------
        images : Tensor, shape (slices, 1 or 3, rows, columns)
            Grey levels, -1..1. Of the slices below, this and above, the networks get this one.
        temperature : float, default: 1.0
            Divides the logits.

        Returns
        -------
        Tensor, shape (slices, rows, columns)
            Probabilities, float32.
        """
        probabilities = []
        middle = images.shape[1] // 2
        single = images[:, middle : middle + 1]
        for network, size in self.networks:
            logits = network(_resize_images(single, (size, size))).float()
            probabilities.append(_resize_images(torch.sigmoid(logits / temperature), images.shape[-2:]))
        return torch.stack(probabilities).mean(0)[:, 0]


def _resize_images(images: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return functional.interpolate(images, tuple(size), mode="bilinear", antialias=True)


def load_teacher(runs: Path, names: Sequence[str], validation: frozenset[str], field: str) -> Teacher:
    """Load the averaged networks of earlier runs; see :func:`strokeseg.training.run_folder.find_earlier_run`."""
    earlier = [run_folder.find_earlier_run(runs / name, validation, field) for name in names]
    for name, run in zip(names, earlier, strict=True):
        if run.config.network.neighbours:
            raise TrainError(f"{field}: {name} uses neighbouring slices, and a teacher gets single slices")
    return Teacher([(load_averaged_network(run.config, run.checkpoint), run.config.network.size) for run in earlier])


def outline_samples(
    samples: Sequence[StoredSlice], config: Config, runs: Path, validation: frozenset[str]
) -> list[StoredSlice]:
    """Outline slices without outline by the teacher of ``self_training``.

    Parameters
    ----------
    samples : sequence of StoredSlice
        Training slices.
    config : Config
        The configuration of the run.
    runs : Path
        Folder that holds the folders of the runs.
    validation : frozenset of str
        The validation patients.

    Returns
    -------
    list of StoredSlice
        All samples. Those without outline, and with ``boxes`` also the boxed ones, have the mask of the teacher: 1
        from ``high`` on, 0 up to ``low``, 2 (unknown) in between. These slices are known to hold blood: if the
        teacher marks none, the slice stays unchanged.
    """
    settings = config.self_training
    if settings is None:
        return list(samples)
    teacher = load_teacher(runs, [settings.teacher], validation, "self_training.teacher")
    return [_outline_sample(sample, settings, teacher) for sample in samples]


def _outline_sample(sample: StoredSlice, settings: SelfTrainingConfig, teacher: Teacher) -> StoredSlice:
    if sample.labelled and not (sample.boxed and settings.boxes):
        return sample
    size = teacher.networks[0][1]
    image = torch.from_numpy(resize(apply_window(sample.hu), (size, size)) * 2 - 1)[None, None]
    mask = make_pseudo_mask(resize(teacher(image)[0].numpy(), sample.mask.shape), settings.low, settings.high)
    if sample.boxed:
        mask = np.where(sample.mask == 1, mask, np.uint8(0))
    if not (mask == 1).any():
        return sample
    # Not labelled, so that it donates no lesion: a wrong outline would be pasted everywhere.
    return replace(sample, mask=mask, boxed=False, labelled=False)


def make_pseudo_mask(probability: Floats32, low: float, high: float) -> Bytes:
    """Make a mask of a teacher's probabilities: 1 from ``high`` on, 0 up to ``low``, unknown in between."""
    return np.where(probability >= high, 1, np.where(probability <= low, 0, UNKNOWN)).astype(np.uint8)
