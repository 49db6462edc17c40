"""The second look and the operating points are fitted to whole scans, each without its own patient."""

from pathlib import Path

import numpy as np
import pytest

from strokeseg.errors import TrainError
from strokeseg.segmentation import models
from strokeseg.segmentation.lesion_features import FEATURES
from strokeseg.training.calibration import whole_scans
from strokeseg.training.calibration.fold_predictions import WholeScan

SHIPPED = Path(__file__).parents[2] / "src/strokeseg/models"
SLICES = FEATURES.index("slices")


def make_scan(patient, blood, slices, is_blood, lesion_mm=(), touches=None):
    """Make a scan whose candidates differ in one feature only."""
    count = len(slices)
    features = np.zeros((count, len(FEATURES)))
    features[:, SLICES] = slices
    pixels = np.full(count, 10)
    truth = np.array(is_blood, dtype=bool)
    touches = np.ones((len(lesion_mm), count), bool) if touches is None else np.array(touches, bool)
    annotated = 10 * int(truth.sum()) if blood else 0
    return WholeScan(patient, blood, features, truth, pixels, pixels * truth, annotated, np.array(lesion_mm), touches)


@pytest.fixture
def scans():
    """Lesions lie on four slices or more, false alarms on one or two."""
    bleeding = [make_scan(f"b{n}", True, [4 + n % 3, 1], [True, False], [8.0], [[True, False]]) for n in range(8)]
    quiet = [make_scan(f"q{n}", False, [1 + n % 2], [False]) for n in range(8)]
    return [*bleeding, *quiet]


def test_the_second_look_learns_what_tells_lesions_from_false_alarms(scans):
    review = whole_scans.fit_review(scans)
    assert review.features["slices"].weight > 0.5
    assert all(abs(weight.weight) < 1e-6 for name, weight in review.features.items() if name != "slices")
    assert (review.lesions, review.false_alarms) == (8, 16)
    lesion, alarm = (one.probability for one in whole_scans.review_scan(scans[0], review))
    assert lesion > 0.65 > 0.35 > alarm


def test_a_second_look_needs_lesions_and_false_alarms(scans):
    with pytest.raises(TrainError, match="0 lesions and 8 false alarms"):
        whole_scans.fit_review(scans[8:])


def test_a_patient_is_judged_by_the_others(scans):
    """One patient's lesion looks like a false alarm: fitted with it, the second look would know."""
    strange = make_scan("strange", True, [1], [True], [3.0])
    judged = whole_scans.cross_validate_reviews([*scans, strange])
    (alone,) = whole_scans.review_scan(strange, whole_scans.fit_review(scans))
    assert judged[-1][0].log_odds == pytest.approx(alone.log_odds)


def test_the_curve_gives_both_sides_the_same_weight():
    log_odds = np.array([2.0, 2.0, 2.0, -2.0])
    curve = whole_scans.fit_curve(log_odds, np.array([True, True, True, False]))
    at = [1 / (1 + np.exp(-(curve.intercept + curve.slope * value))) for value in (2.0, -2.0)]
    assert at == pytest.approx([4 / 5, 1 / 3], abs=0.01)  # Platt's targets


def test_operating_points_by_hand():
    """The yes from 0.4 on finds 9 of 10 and leaves 9 of 10; from 0.2 on it finds all, from 0.7 on it leaves all."""
    confidence = np.array([0.25, *[0.9] * 9, 0.65, *[0.1] * 9])
    blood = np.repeat([True, False], 10)
    points = whole_scans.choose_operating_points(confidence, blood)
    assert (points["balanced"].sensitivity, points["balanced"].specificity) in {(0.9, 1.0), (1.0, 0.9)}
    assert points["sensitive"].sensitivity == 1.0 and points["sensitive"].decision <= 0.25
    assert points["specific"].specificity >= 0.95 and points["specific"].decision > 0.65
    assert points["sensitive"].decision <= points["balanced"].decision <= points["specific"].decision
    assert (points["balanced"].with_blood, points["balanced"].without) == (10, 10)


def test_the_card_gets_figures_that_leave_each_patient_out(scans):
    card = models.read_card(SHIPPED / "default.json")
    calibrated = whole_scans.calibrate_whole_scans(card, scans)
    figures = calibrated.calibration.figures["whole_scans"]
    assert figures["patients"] == {"with_blood": 8, "without": 8} and figures["auc"] == 1.0
    assert figures["candidates"] == {"lesions": 8, "false_alarms": 16}
    assert figures["lesions_kept"]["hits"] == 8 and figures["lesions_found"]["5 to 10 mm"]["of"] == 8
    assert figures["whole_dice"]["after"] >= figures["whole_dice"]["before"]
    assert calibrated.calibration.blood.reviewed.with_blood == 8
    assert set(calibrated.operating_points) == {"sensitive", "balanced", "specific"}
    assert models.Card.model_validate_json(calibrated.model_dump_json()) == calibrated


def test_a_card_without_calibration_is_refused(scans):
    card = models.read_card(SHIPPED / "default.json").model_copy(update={"calibration": None})
    with pytest.raises(TrainError, match="has no confidence yet"):
        whole_scans.calibrate_whole_scans(card, scans)
