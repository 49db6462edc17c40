"""Earlier runs as teachers: they outline what nobody has (self-training), and answer what the student is held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from strokeseg.infer.preprocess import resize, window
from strokeseg.train import record
from strokeseg.train.augment import Bytes, Floats32, Stored
from strokeseg.train.config import Config, SelfTrainingTable
from strokeseg.train.data import UNKNOWN
from strokeseg.train.networks import load_average


class Teachers:
    """Networks of earlier runs that are asked and never trained; no part of the student's checkpoint."""

    def __init__(self, networks: Sequence[tuple[nn.Module, int]]) -> None:
        self.networks = [(network.eval().requires_grad_(False), size) for network, size in networks]

    def to(self, device: torch.device) -> None:
        """Move them to where the images are."""
        self.networks = [(network.to(device), size) for network, size in self.networks]

    @torch.no_grad()
    def __call__(self, images: Tensor, temperature: float = 1.0) -> Tensor:
        """Give the mean of their probabilities, each asked at the size that it was trained at.

        Parameters
        ----------
        images : (slices, 1, rows, columns), -1..1
        temperature : divides the logits

        Returns
        -------
        float32, (slices, rows, columns)
        """
        answers = []
        for network, size in self.networks:
            logits = network(_sized(images, (size, size))).float()
            answers.append(_sized(torch.sigmoid(logits / temperature), images.shape[-2:]))
        return torch.stack(answers).mean(0)[:, 0]


def _sized(images: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return functional.interpolate(images, tuple(size), mode="bilinear", antialias=True)


def load(runs: Path, names: Sequence[str], validation: frozenset[str], field: str) -> Teachers:
    """Load the averaged networks of earlier runs; raises as :func:`strokeseg.train.record.earlier`."""
    found = [record.earlier(runs / name, validation, field) for name in names]
    return Teachers([(load_average(run.config, run.checkpoint), run.config.network.size) for run in found])


def outlined(samples: Sequence[Stored], config: Config, runs: Path, validation: frozenset[str]) -> list[Stored]:
    """Let the teacher of ``self_training`` outline the slices that nobody has outlined.

    Parameters
    ----------
    samples : those to train on
    runs : folder of the runs' folders

    Returns
    -------
    all samples; of those without outline, and with ``boxes`` of the boxed ones, the mask is the teacher's: 1 from
    ``high`` on, 0 up to ``low``, 2 (unknown) between. These slices are known to hold blood: where the teacher finds
    none, the slice stays as it was.
    """
    table = config.self_training
    if table is None:
        return list(samples)
    teacher = load(runs, [table.teacher], validation, "self_training.teacher")
    return [_outlined(sample, table, teacher) for sample in samples]


def _outlined(sample: Stored, table: SelfTrainingTable, teacher: Teachers) -> Stored:
    if sample.labelled and not (sample.boxed and table.boxes):
        return sample
    size = teacher.networks[0][1]
    image = torch.from_numpy(resize(window(sample.hu), (size, size)) * 2 - 1)[None, None]
    mask = pseudo_mask(resize(teacher(image)[0].numpy(), sample.mask.shape), table.low, table.high)
    if sample.boxed:
        mask = np.where(sample.mask == 1, mask, np.uint8(0))
    if not (mask == 1).any():
        return sample
    # Not labelled, so that it is no donor of a bleed: a wrong outline would be pasted everywhere.
    return replace(sample, mask=mask, boxed=False, labelled=False)


def pseudo_mask(probability: Floats32, low: float, high: float) -> Bytes:
    """Take a teacher's clear answers and leave the doubtful ones unknown."""
    return np.where(probability >= high, 1, np.where(probability <= low, 0, UNKNOWN)).astype(np.uint8)
