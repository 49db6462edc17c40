import math

import numpy as np
import pytest

from strokeseg.evaluation.calibration_error import BINS, calibration_error, calibration_sums


def make_map(pixels=50_000, tilt=1.0, seed=0):
    """Probabilities, and blood as often as probability ** tilt says."""
    random = np.random.default_rng(seed)
    probability = random.uniform(0.01, 1, pixels).astype(np.float32)
    return random.random(pixels) < probability**tilt, probability


@pytest.mark.parametrize("tilt", [1.0, 2.0])
def test_the_error_agrees_with_torchmetrics(tilt):
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    truth, probability = make_map(tilt=tilt)
    theirs = binary_calibration_error(torch.from_numpy(probability), torch.from_numpy(truth).int(), n_bins=BINS)
    assert calibration_error(calibration_sums(truth, probability)) == pytest.approx(float(theirs), abs=1e-4)


def test_a_network_that_is_as_often_right_as_it_says_has_next_to_no_error():
    assert calibration_error(calibration_sums(*make_map())) < 0.01
    # Blood as often as p squared: off by the mean of p - p squared, 1/6.
    assert calibration_error(calibration_sums(*make_map(tilt=2.0))) == pytest.approx(1 / 6, abs=0.01)


def test_the_error_equals_the_value_worked_out_by_hand():
    # One bin at 0.9 with half right, one at 0.1 with none right; both hold two pixels.
    sums = calibration_sums([True, False, False, False], [0.9, 0.9, 0.1, 0.1])
    assert calibration_error(sums) == pytest.approx((0.4 + 0.1) / 2, abs=1e-6)


def test_background_does_not_flatter():
    truth, probability = make_map(1000, tilt=3.0)
    padded = np.concatenate([probability, np.zeros(100_000, dtype=np.float32)])
    blood = np.concatenate([truth, np.zeros(100_000, dtype=bool)])
    assert (calibration_sums(blood, padded) == calibration_sums(truth, probability)).all()


def test_sums_add_up_and_leave_unknown_pixels_out():
    truth, probability = make_map(1000)
    known = np.arange(1000) % 3 > 0
    parts = calibration_sums(truth[:400], probability[:400]) + calibration_sums(truth[400:], probability[400:])
    assert parts == pytest.approx(calibration_sums(truth, probability))
    assert calibration_sums(truth, probability, known) == pytest.approx(
        calibration_sums(truth[known], probability[known])
    )


def test_a_certain_answer_falls_in_the_last_bin():
    assert calibration_error(calibration_sums([True], [1.0])) == 0.0
    assert calibration_error(calibration_sums([False], [1.0])) == 1.0


def test_an_answer_of_nothing_has_no_error():
    assert math.isnan(calibration_error(calibration_sums([True, False], [0.0, 0.009])))
