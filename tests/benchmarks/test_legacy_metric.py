import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from benchmarks.legacy_metric import seed_legacy, seed_legacy_sums
from strokeseg.evaluation.metrics import Counts, dice

MASKS = arrays.arrays(bool, (2, 5, 6))
MAPS = arrays.arrays(np.float32, (2, 5, 6), elements=st.floats(0, 1, width=32))


@given(MASKS, MAPS)
def test_the_score_is_the_predecessors_over_image_columns(truth, probability):
    # As it was written: (images, 1, rows, columns), summed over the axes 1 and 2, where the truth is not empty.
    blood, drawn = truth[:, None].astype(float), (probability[:, None] > 0.75).astype(float)
    both = (blood * drawn).sum(axis=(1, 2))
    sums = blood.sum(axis=(1, 2)) + drawn.sum(axis=(1, 2))
    used = blood.sum(axis=(1, 2)) > 0
    scored = seed_legacy(truth, probability)
    if used.any():
        assert scored.dice == pytest.approx(np.mean(2 * both[used] / sums[used]))
        assert scored.iou == pytest.approx(np.mean(both[used] / (sums - both)[used]))
    else:
        assert math.isnan(scored.dice) and math.isnan(scored.iou)


def test_what_is_drawn_beside_the_lesion_costs_nothing():
    """The example of docs/metrics.md."""
    truth = np.zeros((512, 512), dtype=bool)
    truth[200:260, 200:260] = True
    answer = truth.copy()
    answer[:, 300:400] = True
    assert seed_legacy(truth, answer.astype(float)).dice == 1.0
    assert dice(Counts.from_masks(truth, answer)) == pytest.approx(0.123, abs=5e-4)


def test_a_slice_without_blood_does_not_count():
    alarm = seed_legacy_sums(np.zeros((4, 4), dtype=bool), np.ones((4, 4)))
    assert alarm.tolist() == [0, 0, 0]


def test_the_mask_is_cut_above_three_quarters():
    assert seed_legacy(np.ones((2, 2), dtype=bool), np.full((2, 2), 0.75)).dice == 0.0
    assert seed_legacy(np.ones((2, 2), dtype=bool), np.full((2, 2), 0.76)).dice == 1.0


def test_masks_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="probability is"):
        seed_legacy(np.zeros((2, 2), dtype=bool), np.zeros((3, 3)))
