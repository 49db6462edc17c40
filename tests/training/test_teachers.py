"""Self-training and distillation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from phantoms.training_sets import make_config, make_stored_slice
from strokeseg.training import (
    augmentation,
    losses,
    slices,
    teachers,
)
from strokeseg.training.sample import UNKNOWN


def test_clear_answers_of_a_teacher_are_taken_and_doubtful_ones_left_open():
    probability = np.array([[0.0, 0.1, 0.11, 0.59, 0.6, 1.0]], np.float32)
    assert teachers.make_pseudo_mask(probability, 0.1, 0.6).tolist() == [[0, 0, 2, 2, 1, 1]]


class Bright(torch.nn.Module):
    """A teacher that is sure of what is bright: above 60 HU in the window 0..80."""

    def forward(self, image):
        return (image - 0.5) * 200


def outline(monkeypatch, sample, boxes=False):
    loaded = make_config(self_training={"teacher": "t", "boxes": boxes})
    monkeypatch.setattr(teachers, "load_teacher", lambda *_: teachers.Teacher([(Bright(), 96)]))
    return teachers.outline_samples([sample], loaded, Path(), frozenset())[0]


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_a_teacher_outlines_what_nobody_has(monkeypatch):
    truth = make_stored_slice(source="a")
    unknown = replace(truth, mask=np.full_like(truth.mask, UNKNOWN), labelled=False)
    made = outline(monkeypatch, unknown)
    inside = augmentation.mark_inner_skull(truth.hu) | (truth.mask == 1)
    assert dice((made.mask == 1) & inside, truth.mask == 1) > 0.8
    assert not made.labelled and not slices.TrainingSlices([made], make_config()).donors
    assert outline(monkeypatch, truth) is truth


def test_a_bleed_that_the_teacher_does_not_see_stays_unknown(monkeypatch):
    dark = replace(make_stored_slice(), code=np.zeros((384, 384), np.uint8), labelled=False)
    assert outline(monkeypatch, dark) is dark


def test_a_teacher_fills_a_box_and_nothing_outside_of_it(monkeypatch):
    truth = make_stored_slice(source="a")
    rows, columns = np.nonzero(truth.mask == 1)
    box = np.zeros_like(truth.mask)
    box[rows.min() - 9 : rows.max() + 10, columns.min() - 9 : columns.max() + 10] = 1
    boxed = replace(truth, mask=box, boxed=True)
    assert outline(monkeypatch, boxed) is boxed
    made = outline(monkeypatch, boxed, boxes=True)
    assert not made.boxed and not made.mask[box == 0].any()
    assert dice(made.mask == 1, truth.mask == 1) > 0.8


def test_a_student_is_held_to_the_mean_of_its_teachers():
    """Cross-entropy is least where the student's probability is the teachers' mean: 0.5 of 0.9 and 0.1."""

    class Sure(torch.nn.Module):
        def __init__(self, probability):
            super().__init__()
            self.logit = float(np.log(probability / (1 - probability)))

        def forward(self, image):
            return torch.full_like(image, self.logit)

    mean = teachers.Teacher([(Sure(0.9), 32), (Sure(0.1), 48)])(torch.zeros(2, 1, 64, 64))
    assert mean.shape == (2, 64, 64) and torch.allclose(mean, torch.tensor(0.5), atol=1e-6)
    logits = torch.zeros(2, 64, 64, requires_grad=True)
    losses.distillation_loss(logits, mean, 2.0).backward()
    assert logits.grad.abs().max() < 1e-9
    assert losses.distillation_loss(logits, mean, 1.0).item() == pytest.approx(np.log(2), abs=1e-6)
