import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from strokeseg.evaluation.detection import TOP_SHARE, detection_score, roc_auc


def test_a_slices_score_is_the_mean_of_its_highest_probabilities():
    values = np.random.default_rng(0).permutation(40_000).reshape(200, 200) / 40_000
    top = int(TOP_SHARE * 40_000)
    assert top == 20
    assert detection_score(values) == pytest.approx(np.mean(np.sort(values.ravel())[-top:]), abs=1e-6)
    assert detection_score(values[:3, :3]) == pytest.approx(values[:3, :3].max())


def test_unknown_pixels_do_not_raise_the_score():
    values = np.full((10, 10), 0.25, dtype=np.float16)
    values[0, 0] = 1
    assert detection_score(values) == 1.0
    assert detection_score(values, values < 1) == 0.25
    assert math.isnan(detection_score(values, np.zeros((10, 10), dtype=bool)))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=30))
def test_the_area_under_the_curve_agrees_with_scikit_learn(slices):
    blood, score, weight = (np.array(each) for each in zip(*slices, strict=True))
    mine = roc_auc(blood, score / 6, weight)
    if weight[blood].sum() and weight[~blood].sum():
        used = weight > 0
        theirs = sklearn_metrics.roc_auc_score(blood[used], score[used], sample_weight=weight[used])
        assert mine == pytest.approx(theirs, abs=1e-9)
    else:
        assert math.isnan(mine)


def test_the_area_is_the_share_of_pairs_in_order():
    assert roc_auc([True, True, False, False], [0.9, 0.3, 0.3, 0.1]) == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert roc_auc([True, False], [0.1, 0.9]) == 0.0


@pytest.mark.parametrize("blood", [[True, True], [False, False], []])
def test_one_kind_of_slice_alone_has_no_curve(blood):
    assert math.isnan(roc_auc(blood, [0.5] * len(blood)))
