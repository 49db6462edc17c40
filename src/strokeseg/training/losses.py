"""The loss: cross-entropy and batch Dice for outlined slices, projections for slices with boxes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from strokeseg.evaluation.detection import TOP_SHARE
from strokeseg.training.config import LossConfig
from strokeseg.training.sample import UNKNOWN


def outline_loss(logits: Tensor, mask: Tensor, missed: float = 0.5) -> Tensor:
    """Binary cross-entropy plus one minus the overlap of the whole batch, over the known pixels.

    The overlap is Tversky's index (Salehi et al. 2017, arXiv:1706.05721), TP / (TP + missed x FN + (1 - missed) x FP),
    each a sum of probabilities.

    Parameters
    ----------
    logits, mask : Tensor, shape (slices, rows, columns)
        The mask holds 0, 1 (blood) and 2 (unknown).
    missed : float, default: 0.5
        Weight of missed blood; 0.5 gives Dice.

    Returns
    -------
    Tensor
        A scalar.
    """
    known = (mask != UNKNOWN).float()
    truth = (mask == 1).float()
    entropy = (
        functional.binary_cross_entropy_with_logits(logits, truth, weight=known)
        * known.numel()
        / known.sum().clamp(min=1)
    )
    probability = torch.sigmoid(logits) * known
    both = (probability * truth).sum()
    errors = 2 * missed * (truth.sum() - both) + 2 * (1 - missed) * (probability.sum() - both)
    return entropy + 1 - (2 * both + 1) / (2 * both + errors + 1)


def box_loss(logits: Tensor, boxes: Tensor) -> Tensor:
    """Compare the output with boxes: no blood outside, and blood in every row and column of a box.

    Unknown pixels outside of the boxes (2) do not count.

    The projection term is BoxInst's (Tian et al., CVPR 2021): Dice between the maxima along rows and columns of the
    output and of the boxes. The fill term keeps the mean inside the boxes between 10 % and 60 %: a lesion of CT-ICH
    fills a quarter of its box (median).
    """
    box = (boxes == 1).float()
    probability = torch.sigmoid(logits)
    bloodless = (boxes == 0).float()
    outside = functional.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits), weight=bloodless)
    loss = outside
    for axis in (1, 2):
        projected, target = (probability * box).amax(axis), box.amax(axis)
        loss = loss + 0.5 * (1 - 2 * (projected * target).sum() / ((projected**2).sum() + target.sum() + 1e-6))
    fill = (probability * box).sum((1, 2)) / box.sum((1, 2)).clamp(min=1)
    return loss + functional.relu(0.1 - fill).mean() + functional.relu(fill - 0.6).mean()


def distillation_loss(logits: Tensor, teachers: Tensor, temperature: float) -> Tensor:
    """Cross-entropy against the teachers' probabilities, on every pixel.

    Parameters
    ----------
    logits : Tensor, shape (slices, rows, columns)
        Logits of the trained network.
    teachers : Tensor, shape (slices, rows, columns)
        The mean of the teachers' probabilities at this temperature.
    temperature : float
        Divides the logits; the term is multiplied by its square, so that the size of its gradient stays the same
        (Hinton et al. 2015, arXiv:1503.02531).
    """
    return temperature**2 * functional.binary_cross_entropy_with_logits(logits.float() / temperature, teachers)


def detection_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of each slice's score, the mean of its highest logits, against whether it holds blood.

    The number of logits is that of detection (:data:`strokeseg.evaluation.detection.TOP_SHARE`). Slices without known
    blood but with unknown pixels are left out.

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


def total_loss(logits: Tensor, mask: Tensor, boxed: Tensor, settings: LossConfig | None = None) -> Tensor:
    """Weight outlines and boxes by the number of their slices, and add the detection loss."""
    logits, settings = logits.float(), settings or LossConfig()
    terms = []
    if (~boxed).any():
        terms.append(outline_loss(logits[~boxed], mask[~boxed], settings.missed) * (~boxed).float().mean())
    if boxed.any():
        terms.append(0.5 * box_loss(logits[boxed], mask[boxed]) * boxed.float().mean())
    if settings.slices:
        terms.append(settings.slices * detection_loss(logits, mask))
    return torch.stack(terms).sum()
