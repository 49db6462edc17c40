import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

from strokeseg.evaluation.lesions import count_lesions, lesion_f1
from strokeseg.evaluation.metrics import Counts

MASKS = arrays.arrays(bool, (3, 7, 8))


def make_mask(*boxes, shape=(1, 20, 20)):
    mask = np.zeros(shape, dtype=bool)
    for box in boxes:
        mask[tuple(slice(*ends) for ends in box)] = True
    return mask


def test_lesions_are_counted_as_by_hand():
    truth = make_mask(((0, 1), (0, 4), (0, 4)), ((0, 1), (10, 12), (10, 12)))
    answer = make_mask(((0, 1), (1, 5), (1, 5)), ((0, 1), (0, 2), (15, 17)), ((0, 1), (17, 19), (0, 2)))
    counts = count_lesions(truth, answer)
    assert counts == Counts(true_positive=1, false_positive=2, false_negative=1)
    assert lesion_f1(counts) == pytest.approx(2 / (2 + 2 + 1))


def test_a_tenth_of_overlap_finds_and_less_does_not():
    truth = make_mask(((0, 1), (0, 1), (0, 10)))
    for columns, found in (((9, 10), 1), ((9, 11), 0)):
        # 1 of 10 pixels is 1/10, and 1 of 11 is less.
        assert count_lesions(truth, make_mask(((0, 1), (0, 1), columns))).true_positive == found


def test_one_large_answer_does_not_find_every_lesion():
    truth = make_mask(*(((0, 1), (row, row + 4), (0, 20)) for row in (0, 6, 12)))
    counts = count_lesions(truth, np.ones((1, 20, 20), dtype=bool))
    assert counts == Counts(1, 0, 2)


def test_the_pairing_with_the_most_pairs_counts():
    # The first lesion could take either component, the second only the left one: greedily taken, one would be lost.
    truth = make_mask(((0, 1), (0, 2), (0, 10)), ((0, 1), (4, 6), (0, 4)))
    answer = make_mask(((0, 1), (0, 6), (0, 4)), ((0, 1), (0, 2), (6, 10)))
    assert count_lesions(truth, answer) == Counts(2, 0, 0)


def test_a_lesion_runs_over_corners_and_slices():
    corner = make_mask(((0, 1), (0, 1), (0, 1)), ((1, 2), (1, 2), (1, 2)), shape=(2, 4, 4))
    assert count_lesions(corner, corner) == Counts(1, 0, 0)
    assert count_lesions(corner[0] | corner[1], np.zeros((4, 4), dtype=bool)) == Counts(0, 0, 1)


def test_without_lesion_and_answer_nothing_is_defined():
    empty, lesion = make_mask(), make_mask(((0, 1), (2, 4), (2, 4)))
    assert math.isnan(lesion_f1(count_lesions(empty, empty)))
    assert lesion_f1(count_lesions(empty, lesion)) == lesion_f1(count_lesions(lesion, empty)) == 0.0


@given(MASKS, MASKS)
def test_truth_and_answer_may_be_exchanged(truth, answer):
    one, other = count_lesions(truth, answer), count_lesions(answer, truth)
    assert (one.true_positive, one.false_positive) == (other.true_positive, other.false_negative)
    assert one.false_negative == other.false_positive
    if truth.any():
        assert lesion_f1(count_lesions(truth, truth)) == 1.0


def test_masks_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="prediction is"):
        count_lesions(make_mask(), make_mask()[0])
