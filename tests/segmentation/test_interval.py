from dataclasses import replace

import numpy as np
import pytest

from strokeseg.result import Remark
from strokeseg.scan import Scan
from strokeseg.segmentation.interval import (
    VolumeUncertainty,
    compute_nonconformity,
    conformal_quantile,
    volume_interval_ml,
    volume_uncertainty_ml,
)
from strokeseg.segmentation.models import VolumeCalibration

CALIBRATION = VolumeCalibration(
    level=0.9,
    patients=40,
    quantile=2.0,
    sure_at=0.7,
    possible_at=0.1,
    slack_ml=1.0,
    factors={"motion": 1.5, "thick-slices": 2.0, "metal": 1.0},
    not_measured=[],
)


def make_remark(code):
    return Remark(code=code, severity="warning", message="for a test")


def make_prediction(pixel_mm=10.0):
    """Two slices of 10 mm with pixels of 1 cm²: 6 ml sure, 2 ml of the mask unsure, 3 ml possible beside it.

    One pixel is 1 ml. A possible pixel that is not connected with the mask does not count.
    """
    probability = np.zeros((2, 20, 60), dtype=np.float16)
    probability[0, 5, 5:11] = 0.9
    probability[1, 5, 5:7] = 0.5
    probability[1, 5, 7:10] = 0.2
    probability[1, 15, 5] = 0.2
    scan = Scan.from_array(np.full((2, 20, 60), 30), (10.0, pixel_mm, pixel_mm))
    return probability, probability >= np.float16(0.4), scan


def test_the_quantile_of_ten_scores_is_the_tenth():
    """(10 + 1) x 0.9 = 9.9, so rank 10; at 0.8 8.8, so rank 9; at 0.5 5.5, so rank 6."""
    scores = [7, 1, 5, 3, 10, 2, 9, 4, 8, 6]
    assert conformal_quantile(scores, 0.9) == (10, 0.9)
    assert conformal_quantile(scores, 0.8) == (9, 0.8)
    assert conformal_quantile(scores, 0.5) == (6, 0.5)


def test_a_rank_that_is_whole_is_not_rounded_up():
    """19 scores: (19 + 1) x 0.9 is 18, in spite of binary rounding."""
    assert conformal_quantile(range(1, 20), 0.9) == (18, 0.9)


@pytest.mark.parametrize(("number", "promised"), [(1, 1 / 2), (5, 5 / 6), (8, 8 / 9), (9, 0.9)])
def test_too_few_patients_promise_less(number, promised):
    value, level = conformal_quantile(np.arange(number), 0.9)
    assert value == number - 1
    assert level == pytest.approx(promised)


@pytest.mark.parametrize("scores", [[], np.zeros(0)])
def test_no_scores_have_no_quantile(scores):
    with pytest.raises(ValueError, match="needs scores"):
        conformal_quantile(scores, 0.9)


@pytest.mark.parametrize(("number", "level"), [(34, 0.9), (5, 5 / 6)])
def test_the_promise_is_kept_on_exchangeable_patients(number, level):
    """1000 draws of skewed volumes, errors that grow with the uncertainty, and a calibration on ``number`` patients."""
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(1000):
        volume = rng.lognormal(2, 1, number + 1)
        below, above = 0.3 * volume * rng.uniform(0.2, 1, number + 1), 0.5 * volume * rng.uniform(0.2, 1, number + 1)
        truth = np.maximum(0, volume + rng.standard_t(3, number + 1) * np.sqrt(below * above))
        scale, promised = conformal_quantile(compute_nonconformity(truth, volume, below, above)[:-1], 0.9)
        assert promised == pytest.approx(level)
        covered += max(0, volume[-1] - scale * below[-1]) <= truth[-1] <= volume[-1] + scale * above[-1]
    # The standard deviation of the share is at most 0.012.
    assert level - 0.025 < covered / 1000 < level + 0.05


def test_an_error_is_divided_by_the_uncertainty_on_its_side():
    result = compute_nonconformity([14, 6, 10], [10, 10, 10], [2, 2, 2], [8, 8, 8])
    assert result.tolist() == [0.5, 2, 0]


def test_the_uncertainty_is_the_unsure_volume_inside_and_the_possible_volume_beside():
    probability, mask, scan = make_prediction()
    assert volume_uncertainty_ml(probability, mask, scan, 0.7, 0.1) == pytest.approx(VolumeUncertainty(2, 3))


def test_an_empty_mask_has_no_uncertainty():
    probability, mask, scan = make_prediction()
    assert volume_uncertainty_ml(probability, mask & False, scan, 0.7, 0.1) == VolumeUncertainty(0, 0)


def test_the_interval_by_hand():
    """8 ml; down 2 x (2 + 1), up 2 x (3 + 1)."""
    probability, mask, scan = make_prediction()
    assert volume_interval_ml(8.0, probability, mask, scan, CALIBRATION) == (2.0, 16.0, 0.9, [])


def test_an_uncertain_prediction_has_a_wider_interval():
    probability, mask, scan = make_prediction()
    certain_map = np.where(mask, np.float16(0.99), np.float16(0))
    doubtful, certain = (volume_interval_ml(8.0, each, mask, scan, CALIBRATION) for each in (probability, certain_map))
    assert certain.high_ml - certain.low_ml == pytest.approx(4)
    assert doubtful.high_ml - doubtful.low_ml > 3 * (certain.high_ml - certain.low_ml)


def test_remarks_widen_it_by_their_factors_each_once_and_never_below_0():
    probability, mask, scan = make_prediction()
    remarks = [make_remark(code) for code in ("motion", "motion", "thick-slices", "metal", "gantry-tilt")]
    result = volume_interval_ml(8.0, probability, mask, scan, CALIBRATION, remarks)
    assert result.widened_by == ["motion", "thick-slices"]
    assert result.low_ml == 0
    assert result.high_ml == pytest.approx(8 + 1.5 * 2 * 8)


def test_no_interval_without_what_it_needs():
    probability, mask, scan = make_prediction()
    unspaced = Scan.from_array(scan.hu)
    assert volume_interval_ml(8.0, probability, mask, scan, None) is None
    assert volume_interval_ml(None, probability, mask, unspaced, CALIBRATION) is None
    assert volume_interval_ml(8.0, probability, mask, unspaced, CALIBRATION) is None
    assert volume_interval_ml(0.0, probability, mask & False, scan, CALIBRATION) is None


def test_an_uncertainty_without_a_spacing_or_of_other_shapes_is_refused():
    probability, mask, scan = make_prediction()
    with pytest.raises(ValueError, match="spacing"):
        volume_uncertainty_ml(probability, mask, Scan.from_array(scan.hu), 0.7, 0.1)
    with pytest.raises(ValueError, match="shape"):
        volume_uncertainty_ml(probability, mask[:1], scan, 0.7, 0.1)


def test_the_uncertainty_is_the_same_on_a_tilted_gantry():
    """Slices shifted by 40 mm: pixels are connected by their position in mm, not by their index."""
    probability, _, scan = make_prediction()
    positions = scan.planes.positions_mm + np.outer([0, 1], [40.0, 0, 0])
    tilted = replace(scan, planes=replace(scan.planes, positions_mm=positions))
    moved = probability.copy()
    moved[1] = np.roll(probability[1], -4, axis=1)
    assert volume_uncertainty_ml(moved, moved >= np.float16(0.4), tilted, 0.7, 0.1) == pytest.approx(
        VolumeUncertainty(2, 3)
    )
