"""The loss: cross-entropy and batch Dice where pixels are outlined, projections where only boxes are known."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from strokeseg.evaluation.detection import TOP_SHARE
from strokeseg.training.config import LossConfig
from strokeseg.training.data import UNKNOWN


def outline_loss(logits: Tensor, mask: Tensor, missed: float = 0.5) -> Tensor:
    """Binary cross-entropy plus one minus the overlap of the whole batch, over the pixels that are not unknown.

    The overlap is Tversky's index (Salehi et al. 2017, arXiv:1706.05721), both / (both + missed x blood that is missed
    + (1 - missed) x answers that are none), each a sum of probabilities.

    Parameters
    ----------
    logits, mask : Tensor, shape (slices, rows, columns)
        The mask holds 0, 1 and 2 (unknown).
    missed : float, default: 0.5
        0.5 gives Dice.
    """
    known = (mask != UNKNOWN).float()
    truth = (mask == 1).float()
    entropy = (
        functional.binary_cross_entropy_with_logits(logits, truth, weight=known)
        * known.numel()
        / known.sum().clamp(min=1)
    )
    answer = torch.sigmoid(logits) * known
    both = (answer * truth).sum()
    errors = 2 * missed * (truth.sum() - both) + 2 * (1 - missed) * (answer.sum() - both)
    return entropy + 1 - (2 * both + 1) / (2 * both + errors + 1)


def box_loss(logits: Tensor, boxes: Tensor) -> Tensor:
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


def distillation_loss(logits: Tensor, teachers: Tensor, temperature: float) -> Tensor:
    """Cross-entropy against the teachers' probabilities, on every pixel, outlined or not.

    Parameters
    ----------
    logits : Tensor, shape (slices, rows, columns)
        The student's.
    teachers : Tensor, shape (slices, rows, columns)
        The mean of the teachers' probabilities at this temperature.
    temperature : float
        Divides the logits; the term is multiplied by its square, so that its gradient keeps its size (Hinton et al.
        2015, arXiv:1503.02531).
    """
    return temperature**2 * functional.binary_cross_entropy_with_logits(logits.float() / temperature, teachers)


def detection_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of a slice's own answer, the mean of its highest logits, against whether it holds blood.

    The highest are as many as detection is scored by (:data:`strokeseg.evaluation.detection.TOP_SHARE`). A slice without
    known blood but with unknown pixels is left out.

    Parameters
    ----------
    logits, mask : Tensor, shape (slices, rows, columns)
        The mask holds 0, 1 (blood, or inside of a box) and 2 (unknown).
    """
    blood, unknown = (mask == 1).flatten(1).any(1), (mask == UNKNOWN).flatten(1).any(1)
    pixels = logits.flatten(1)
    highest = pixels.topk(max(1, round(TOP_SHARE * pixels.shape[1])), dim=1).values.mean(1)
    weight = (blood | ~unknown).float()
    entropy = functional.binary_cross_entropy_with_logits(highest, blood.float(), weight=weight, reduction="sum")
    return entropy / weight.sum().clamp(min=1)


def total_loss(logits: Tensor, mask: Tensor, boxed: Tensor, table: LossConfig | None = None) -> Tensor:
    """Weigh outlines and boxes by the number of their slices, and add what tells slices apart."""
    logits, table = logits.float(), table or LossConfig()
    parts = []
    if (~boxed).any():
        parts.append(outline_loss(logits[~boxed], mask[~boxed], table.missed) * (~boxed).float().mean())
    if boxed.any():
        parts.append(0.5 * box_loss(logits[boxed], mask[boxed]) * boxed.float().mean())
    if table.slices:
        parts.append(table.slices * detection_loss(logits, mask))
    return torch.stack(parts).sum()
