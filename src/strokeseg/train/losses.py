"""The loss: cross-entropy and batch Dice where pixels are outlined, projections where only boxes are known."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from strokeseg.train.data import UNKNOWN


def outlined(logits: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy plus one minus the Dice of the whole batch, over the pixels that are not unknown.

    Parameters
    ----------
    logits, mask : (slices, rows, columns); the mask holds 0, 1 and 2 (unknown)
    """
    known = (mask != UNKNOWN).float()
    truth = (mask == 1).float()
    entropy = (
        functional.binary_cross_entropy_with_logits(logits, truth, weight=known)
        * known.numel()
        / known.sum().clamp(min=1)
    )
    answer = torch.sigmoid(logits) * known
    overlap = 2 * (answer * truth).sum() + 1
    return entropy + 1 - overlap / (answer.sum() + truth.sum() + 1)


def projected(logits: Tensor, boxes: Tensor) -> Tensor:
    """Hold the answer to boxes: nothing outside, and inside it reaches every row and column of the box.

    The projection term is BoxInst's (Tian et al., CVPR 2021): Dice between the maxima along rows and columns of the
    answer and of the boxes. The fill term keeps the mean inside the boxes between 10 % and 60 %: a CT-ICH bleed fills
    a quarter of its box (median).
    """
    box = (boxes == 1).float()
    answer = torch.sigmoid(logits)
    outside = functional.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits), weight=1 - box)
    loss = outside
    for axis in (1, 2):
        seen, wanted = (answer * box).amax(axis), box.amax(axis)
        loss = loss + 0.5 * (1 - 2 * (seen * wanted).sum() / ((seen**2).sum() + wanted.sum() + 1e-6))
    fill = (answer * box).sum((1, 2)) / box.sum((1, 2)).clamp(min=1)
    return loss + functional.relu(0.1 - fill).mean() + functional.relu(fill - 0.6).mean()


def loss(logits: Tensor, mask: Tensor, boxed: Tensor) -> Tensor:
    """Weigh both parts by the number of their slices."""
    logits = logits.float()
    parts = []
    if (~boxed).any():
        parts.append(outlined(logits[~boxed], mask[~boxed]) * (~boxed).float().mean())
    if boxed.any():
        parts.append(0.5 * projected(logits[boxed], mask[boxed]) * boxed.float().mean())
    return torch.stack(parts).sum()
