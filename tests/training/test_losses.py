"""The loss on outlines, boxes and whole slices."""

import numpy as np
import pytest
import torch

from strokeseg.training import (
    config,
    losses,
)
from strokeseg.training.sample import UNKNOWN


def test_unknown_pixels_do_not_count_in_the_loss():
    logits = torch.zeros(1, 8, 8)
    mask = torch.zeros(1, 8, 8, dtype=torch.long)
    mask[0, :, :4] = UNKNOWN
    changed = logits.clone()
    changed[0, :, :4] = 9
    assert losses.outline_loss(changed, mask) == pytest.approx(losses.outline_loss(logits, mask).item())


def test_the_overlap_is_tverskys():
    """Of 100 pixels 10 are blood; 6 of them and 2 others are answered. By hand: both 6, missed 4, false 2."""
    mask = torch.zeros(1, 10, 10, dtype=torch.long)
    mask[0, 0] = 1
    logits = torch.full((1, 10, 10), -30.0)
    logits[0, 0, :6] = logits[0, 1, :2] = 30
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, mask.float())
    for missed, overlap in ((0.5, 13 / 19), (0.75, 13 / (12 + 6 + 1 + 1))):
        assert losses.outline_loss(logits, mask, missed) - entropy == pytest.approx(1 - overlap, abs=1e-5)


def test_a_slice_is_told_apart_by_its_highest_answers():
    """On 64 x 64 pixels the highest are two; scikit-learn's cross-entropy of their means is the truth."""
    from sklearn.metrics import log_loss

    logits, mask = torch.full((4, 64, 64), -9.0), torch.zeros(4, 64, 64, dtype=torch.long)
    mask[0, 3, 3] = 1
    mask[3, :, :5] = UNKNOWN  # may hold blood: does not count
    logits[0, 9, 9], logits[0, 30, 30] = 3.0, 1.0
    logits[1, 5, 5], logits[1, 6, 5] = -1.0, -2.0
    logits[3, 40, 40] = 50
    expected = log_loss([1, 0, 0], 1 / (1 + np.exp([-2.0, 1.5, 9.0])))
    assert losses.detection_loss(logits, mask).item() == pytest.approx(expected, rel=1e-4)
    plain = losses.total_loss(logits, mask, torch.zeros(4, dtype=torch.bool))
    weighed = losses.total_loss(logits, mask, torch.zeros(4, dtype=torch.bool), config.LossConfig(slices=0.5))
    assert (weighed - plain).item() == pytest.approx(expected / 2, rel=1e-3)


def test_the_loss_is_small_for_the_right_answer_and_large_for_the_wrong_one():
    mask = torch.zeros(2, 16, 16, dtype=torch.long)
    mask[:, 4:9, 5:12] = 1
    right = (mask * 2 - 1) * 12.0
    nowhere = torch.zeros(2, dtype=torch.bool)
    assert losses.total_loss(right, mask, nowhere) < 0.02
    assert losses.total_loss(-right, mask, nowhere) > 5


def test_a_box_wants_an_answer_that_reaches_its_sides_and_stays_inside():
    box = torch.zeros(1, 32, 32, dtype=torch.long)
    box[0, 8:24, 8:24] = 1
    cross = torch.full((1, 32, 32), -12.0)
    cross[0, 14:18, 8:24] = cross[0, 8:24, 14:18] = 12
    spot = torch.full((1, 32, 32), -12.0)
    spot[0, 15:17, 15:17] = 12
    outside = cross.clone()
    outside[0, 0:6] = 12
    values = [losses.box_loss(logits, box).item() for logits in (cross, spot, outside)]
    assert values[0] < values[1] and values[0] < values[2]
