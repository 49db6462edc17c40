"""Earlier runs as teachers: they outline what nobody has (self-training), and answer what the student is held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from strokeseg.segmentation.preprocess import apply_window, resize
from strokeseg.training import run_folder
from strokeseg.training.augmentation import Bytes, Floats32, StoredSlice
from strokeseg.training.config import Config, SelfTrainingConfig
from strokeseg.training.data import UNKNOWN
from strokeseg.training.networks import load_averaged_network


class Teacher:
    """Networks of earlier runs that are asked and never trained; no part of the student's checkpoint."""

    def __init__(self, networks: Sequence[tuple[nn.Module, int]]) -> None:
        self.networks = [(network.eval().requires_grad_(False), size) for network, size in networks]

    def to(self, device: torch.device) -> None:
        """Move them to where the images are."""
        self.networks = [(network.to(device), size) for network, size in self.networks]

    @torch.no_grad()
    def __call__(self, images: Tensor, temperature: float = 1.0) -> Tensor:
        """Return the mean of their probabilities, each asked at the size that it was trained at.

        Parameters
        ----------
        images : Tensor, shape (slices, 1, rows, columns)
            -1..1.
        temperature : float, default: 1.0
            Divides the logits.

        Returns
        -------
        Tensor
            Float32, (slices, rows, columns).
        """
        answers = []
        for network, size in self.networks:
            logits = network(_resize_images(images, (size, size))).float()
            answers.append(_resize_images(torch.sigmoid(logits / temperature), images.shape[-2:]))
        return torch.stack(answers).mean(0)[:, 0]


def _resize_images(images: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return functional.interpolate(images, tuple(size), mode="bilinear", antialias=True)


def load_teacher(runs: Path, names: Sequence[str], validation: frozenset[str], field: str) -> Teacher:
    """Load the averaged networks of earlier runs; raises as :func:`strokeseg.training.run_folder.find_earlier_run`."""
    found = [run_folder.find_earlier_run(runs / name, validation, field) for name in names]
    return Teacher([(load_averaged_network(run.config, run.checkpoint), run.config.network.size) for run in found])


def outline_samples(
    samples: Sequence[StoredSlice], config: Config, runs: Path, validation: frozenset[str]
) -> list[StoredSlice]:
    """Let the teacher of ``self_training`` outline the slices that nobody has outlined.

    Parameters
    ----------
    samples : sequence of StoredSlice
        Those to train on.
    runs : Path
        Folder of the runs' folders.

    Returns
    -------
    list of StoredSlice
        All samples; of those without outline, and with ``boxes`` of the boxed ones, the mask is the teacher's: 1 from
        ``high`` on, 0 up to ``low``, 2 (unknown) between. These slices are known to hold blood: where the teacher
        finds none, the slice stays as it was.
    """
    table = config.self_training
    if table is None:
        return list(samples)
    teacher = load_teacher(runs, [table.teacher], validation, "self_training.teacher")
    return [_outline_sample(sample, table, teacher) for sample in samples]


def _outline_sample(sample: StoredSlice, table: SelfTrainingConfig, teacher: Teacher) -> StoredSlice:
    if sample.labelled and not (sample.boxed and table.boxes):
        return sample
    size = teacher.networks[0][1]
    image = torch.from_numpy(resize(apply_window(sample.hu), (size, size)) * 2 - 1)[None, None]
    mask = make_pseudo_mask(resize(teacher(image)[0].numpy(), sample.mask.shape), table.low, table.high)
    if sample.boxed:
        mask = np.where(sample.mask == 1, mask, np.uint8(0))
    if not (mask == 1).any():
        return sample
    # Not labelled, so that it is no donor of a bleed: a wrong outline would be pasted everywhere.
    return replace(sample, mask=mask, boxed=False, labelled=False)


def make_pseudo_mask(probability: Floats32, low: float, high: float) -> Bytes:
    """Take a teacher's clear answers and leave the doubtful ones unknown."""
    return np.where(probability >= high, 1, np.where(probability <= low, 0, UNKNOWN)).astype(np.uint8)
