import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats
from sklearn import metrics as sklearn_metrics

from strokeseg.evaluation.metrics import (
    Counts,
    average_precision,
    average_precision_of_histogram,
    bootstrap_interval,
    dice,
    iou,
    mean_defined,
    precision,
    probability_histogram,
    recall,
)

MASKS = arrays.arrays(bool, (6, 7))
EMPTY = np.zeros((4, 4), dtype=bool)
FULL = np.ones((4, 4), dtype=bool)


def make_probability_map(seed=0, pixels=200_000, share=0.02):
    """Logits as a trained network gives them: most pixels near 0, blood near 1, both saturated."""
    random = np.random.default_rng(seed)
    truth = random.random(pixels) < share
    logits = np.where(truth, random.normal(3, 4, pixels), random.normal(-9, 3, pixels))
    return truth, (1 / (1 + np.exp(-logits))).astype(np.float32)


def test_every_metric_equals_the_value_worked_out_by_hand():
    truth = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], dtype=bool)
    answer = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0], dtype=bool)
    counts = Counts.from_masks(truth, answer)
    assert counts == Counts(3, 2, 1)
    assert dice(counts) == pytest.approx(6 / 9)
    assert iou(counts) == pytest.approx(3 / 6)
    assert precision(counts) == pytest.approx(3 / 5)
    assert recall(counts) == pytest.approx(3 / 4)


def test_average_precision_equals_the_value_worked_out_by_hand():
    # Thresholds .9, .8, .6 find 1, 1, 2 of 2 with 1, 2, 3 drawn: 1/2 x 1/1 + 1/2 x 2/3.
    assert average_precision([1, 0, 1, 0], [0.9, 0.8, 0.6, 0.1]) == pytest.approx(0.5 + 1 / 3)


def test_nothing_to_find_and_nothing_drawn_is_perfect():
    counts = Counts.from_masks(EMPTY, EMPTY)
    assert dice(counts) == iou(counts) == 1.0
    assert math.isnan(precision(counts))
    assert math.isnan(recall(counts))


@pytest.mark.parametrize(("truth", "answer"), [(EMPTY, FULL), (FULL, EMPTY)])
def test_one_mask_empty_scores_zero(truth, answer):
    assert dice(Counts.from_masks(truth, answer)) == iou(Counts.from_masks(truth, answer)) == 0.0


def test_precision_and_recall_are_undefined_only_where_their_own_mask_is_empty():
    assert math.isnan(recall(Counts.from_masks(EMPTY, FULL)))
    assert precision(Counts.from_masks(EMPTY, FULL)) == 0.0
    assert math.isnan(precision(Counts.from_masks(FULL, EMPTY)))
    assert recall(Counts.from_masks(FULL, EMPTY)) == 0.0


def test_average_precision_is_undefined_without_blood():
    assert math.isnan(average_precision(EMPTY, np.full((4, 4), 0.5)))
    assert math.isnan(average_precision_of_histogram(probability_histogram(EMPTY, np.full((4, 4), 0.5))))


@given(MASKS, MASKS)
def test_counts_agree_with_scikit_learn(truth, answer):
    counts = Counts.from_masks(truth, answer)
    flat, drawn = truth.ravel(), answer.ravel()
    assert dice(counts) == pytest.approx(sklearn_metrics.f1_score(flat, drawn, zero_division=1.0))
    assert iou(counts) == pytest.approx(sklearn_metrics.jaccard_score(flat, drawn, zero_division=1.0))
    if drawn.any():
        assert precision(counts) == pytest.approx(sklearn_metrics.precision_score(flat, drawn, zero_division=0.0))
    if flat.any():
        assert recall(counts) == pytest.approx(sklearn_metrics.recall_score(flat, drawn, zero_division=0.0))


@given(MASKS, MASKS)
def test_dice_and_iou_keep_their_order_and_their_symmetry(truth, answer):
    counts, turned = Counts.from_masks(truth, answer), Counts.from_masks(answer, truth)
    assert 0 <= iou(counts) <= dice(counts) <= 1
    assert dice(counts) == dice(turned)
    assert iou(counts) == pytest.approx(dice(counts) / (2 - dice(counts)))
    assert dice(Counts.from_masks(truth, truth)) == 1.0


@given(MASKS, MASKS, MASKS)
def test_unknown_pixels_count_neither_way(truth, answer, known):
    assert Counts.from_masks(truth, answer, known) == Counts.from_masks(truth[known], answer[known])
    assert Counts.from_masks(truth, answer, known) == Counts.from_masks(truth ^ ~known, answer, known)


@given(MASKS, MASKS)
def test_counts_of_parts_add_up_to_the_counts_of_the_whole(truth, answer):
    assert Counts.from_masks(truth[:2], answer[:2]) + Counts.from_masks(truth[2:], answer[2:]) == Counts.from_masks(
        truth, answer
    )


def test_counts_agree_with_torchmetrics():
    torch = pytest.importorskip("torch")
    from torchmetrics.functional.classification import binary_average_precision, binary_f1_score, binary_jaccard_index

    truth, probability = make_probability_map(pixels=20_000)
    counts = Counts.from_masks(truth, probability >= 0.4)
    given_answer, wanted = torch.from_numpy(probability), torch.from_numpy(truth).int()
    # torchmetrics cuts above the threshold, we at it: no pixel lies on it here.
    assert dice(counts) == pytest.approx(float(binary_f1_score(given_answer, wanted, threshold=0.4)), abs=1e-6)
    assert iou(counts) == pytest.approx(float(binary_jaccard_index(given_answer, wanted, threshold=0.4)), abs=1e-6)
    assert average_precision(truth, probability) == pytest.approx(
        float(binary_average_precision(given_answer, wanted)), abs=1e-5
    )


@given(MASKS, arrays.arrays(np.float32, (6, 7), elements=st.floats(0, 1, width=16)))
def test_exact_average_precision_agrees_with_scikit_learn(truth, probability):
    if truth.any():
        expected = sklearn_metrics.average_precision_score(truth.ravel(), probability.ravel())
        assert average_precision(truth, probability) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_average_precision_from_bins_agrees_with_scikit_learn_on_a_probability_map(kind):
    truth, probability = make_probability_map()
    probability = probability.astype(kind)
    expected = sklearn_metrics.average_precision_score(truth, probability.astype(np.float64))
    assert 0.5 < expected < 0.99
    assert average_precision_of_histogram(probability_histogram(truth, probability)) == pytest.approx(
        expected, abs=1e-3
    )


def test_histograms_of_parts_add_up_to_the_histogram_of_the_whole():
    truth, probability = make_probability_map(pixels=1000)
    parts = probability_histogram(truth[:300], probability[:300]) + probability_histogram(
        truth[300:], probability[300:]
    )
    assert (parts == probability_histogram(truth, probability)).all()
    assert parts.sum() == 1000


def test_average_precision_leaves_unknown_pixels_out():
    truth, probability = make_probability_map(pixels=2000)
    known = np.arange(2000) % 3 > 0
    assert average_precision(truth, probability, known) == average_precision(truth[known], probability[known])
    assert (
        probability_histogram(truth, probability, known) == probability_histogram(truth[known], probability[known])
    ).all()


@pytest.mark.parametrize("wrong", [[0.5, float("nan")], [0.5, 1.5], [-0.1, 0.5]])
def test_what_is_no_probability_is_refused(wrong):
    with pytest.raises(ValueError, match=r"0\.\.1"):
        average_precision([1, 0], wrong)


def test_masks_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="prediction is"):
        Counts.from_masks(EMPTY, EMPTY[:2])
    with pytest.raises(ValueError, match="probability is"):
        average_precision(EMPTY, np.zeros(3))


def test_mean_leaves_the_undefined_out():
    assert mean_defined([0.2, float("nan"), 0.4]) == pytest.approx(0.3)
    assert math.isnan(mean_defined([float("nan")]))
    assert math.isnan(mean_defined([]))


def test_bootstrap_interval_agrees_with_scipy():
    values = np.random.default_rng(3).beta(2, 2, 40)
    low, high = bootstrap_interval(values, n=5000)
    expected = stats.bootstrap((values,), np.mean, n_resamples=5000, method="percentile", rng=7).confidence_interval
    assert low == pytest.approx(expected.low, abs=0.01)
    assert high == pytest.approx(expected.high, abs=0.01)


def test_bootstrap_interval_covers_the_true_mean_about_as_often_as_it_says():
    random = np.random.default_rng(5)
    inside = 0
    for trial in range(300):
        low, high = bootstrap_interval(random.normal(0.5, 0.1, 30), np.mean, n=300, seed=trial)
        inside += low <= 0.5 <= high
    assert 0.88 <= inside / 300 <= 0.98


def test_pooled_interval_draws_patients_and_adds_their_counts():
    # One patient with ten times the pixels: the pooled Dice must swing with whether that patient is drawn.
    counts = np.array([[1000, 0, 0], [10, 90, 90], [10, 90, 90], [10, 90, 90]])
    low, high = bootstrap_interval(counts, lambda drawn: dice(Counts(*drawn.sum(axis=0))))
    assert low == pytest.approx(0.1)
    assert high > 0.9


def test_bootstrap_interval_is_the_same_on_every_run_and_wider_at_a_higher_level():
    values = np.random.default_rng(1).random(12)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    narrow, wide = bootstrap_interval(values, level=0.5), bootstrap_interval(values, level=0.99)
    assert wide[0] < narrow[0] < values.mean() < narrow[1] < wide[1]


def test_one_patient_gives_no_interval():
    assert all(math.isnan(end) for end in bootstrap_interval([0.7]))


def test_draws_in_which_nothing_is_defined_are_left_out_of_the_interval():
    low, high = bootstrap_interval([0.5, float("nan"), float("nan")])
    assert (low, high) == (0.5, 0.5)
    assert all(math.isnan(end) for end in bootstrap_interval([float("nan")] * 3))
