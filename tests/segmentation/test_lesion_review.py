"""The second look: features of drawn lesions, their judgement, and what it changes."""

from dataclasses import replace

import numpy as np
import pytest

from phantoms import networks
from strokeseg import pipeline
from strokeseg.errors import UsageError
from strokeseg.imaging import brain_mask, components
from strokeseg.scan import Scan
from strokeseg.segmentation import models
from strokeseg.segmentation.confidence import compute_reviewed_probability, decide
from strokeseg.segmentation.decision_options import DecisionOptions
from strokeseg.segmentation.lesion_features import FEATURES, measure_candidates
from strokeseg.segmentation.lesion_review import REASONS, ReviewedLesion, review_lesion
from strokeseg.segmentation.models import FeatureWeight, LesionReview, LogisticCurve
from strokeseg.segmentation.postprocess import LesionMask, extract_lesion_mask
from strokeseg.segmentation.preprocess import HeadSquare, find_head_square

SPACING_MM = (5.0, 1.0, 1.0)
SHAPE = (10, 200, 200)
CENTRE = (100, 100)


def make_head():
    """A round skull of 70 to 80 mm around tissue of 30 HU, on every slice, in air."""
    rows, columns = np.mgrid[: SHAPE[1], : SHAPE[2]]
    radius = np.hypot(rows - CENTRE[0], columns - CENTRE[1])
    plane = np.full(SHAPE[1:], -1000)
    plane[radius < 80] = 1000
    plane[radius < 70] = 30
    return np.repeat(plane[None], SHAPE[0], axis=0)


def add_ball(hu, probability, slices, row, column, radius, top=0.9, density=65):
    """Draw a lesion that is a disk on each of some slices."""
    rows, columns = np.mgrid[: SHAPE[1], : SHAPE[2]]
    disk = np.hypot(rows - row, columns - column) <= radius
    for index in slices:
        hu[index][disk], probability[index][disk] = density, top


def measure(hu, probability):
    """Return the features of every lesion, the largest first."""
    scan = Scan.from_array(hu, SPACING_MM)
    mask = probability >= 0.5
    labels, count = components.label(mask, scan)
    region = brain_mask.find_brain(scan, mask)
    found = measure_candidates(labels, np.arange(1, count + 1), probability.astype(np.float16), scan, region)
    return [candidate.features for candidate in found]


@pytest.fixture
def drawn():
    return make_head(), np.zeros(SHAPE, np.float32)


def test_features_are_those_of_the_drawing(drawn):
    """A disk of radius 10 mm on three slices: 3 x 5 mm x 100 pi mm2 = 4.7 ml, 20 mm thick, 35 HU above the brain."""
    hu, probability = drawn
    add_ball(hu, probability, (4, 5, 6), 100, 140, 10)
    (features,) = measure(hu, probability)
    assert list(features) == list(FEATURES)
    assert 10 ** features["log_volume"] == pytest.approx(3 * 5 * np.pi * 100 / 1000, rel=0.02)
    assert (features["slices"], features["mean_probability"]) == (3, pytest.approx(0.9, abs=1e-3))
    assert features["thickness_mm"] == pytest.approx(20, abs=2.5)
    assert features["contrast_hu"] == features["top_contrast_hu"] == 35
    assert (features["bone_share"], features["fluid_share"]) == (0, 0)
    assert features["depth_mm"] == pytest.approx(70 - 40, abs=3)  # 40 mm from the middle of a circle of 70 mm
    assert features["lateral"] == pytest.approx(40 / 70, abs=0.03)
    assert features["front"] == pytest.approx(0.5, abs=0.03)
    assert features["height"] == pytest.approx(5 / 9, abs=0.15)
    assert features["twin"] == 0


def test_bone_touches_what_lies_under_the_skull(drawn):
    hu, probability = drawn
    add_ball(hu, probability, (4, 5), 100, 165, 4)
    (features,) = measure(hu, probability)
    assert features["bone_share"] > 0.2 and features["depth_mm"] < 8 and features["lateral"] > 0.9


def test_a_twin_on_the_other_side_is_found(drawn):
    hu, probability = drawn
    add_ball(hu, probability, (4, 5), 100, 140, 8, top=0.9)
    add_ball(hu, probability, (4, 5), 103, 62, 6, top=0.7)
    first, second = measure(hu, probability)
    assert first["twin"] > 0.5 and second["twin"] > 0.7


@pytest.mark.parametrize(("rows", "columns"), [(False, False), (False, True), (True, False), (True, True)])
def test_features_do_not_depend_on_how_slices_are_stored(drawn, rows, columns):
    hu, probability = drawn
    add_ball(hu, probability, (2, 3), 70, 140, 6)
    (expected,) = measure(hu, probability)
    scan = Scan.from_array(hu, SPACING_MM)
    planes = scan.planes
    if rows:
        planes = replace(planes, column_cosine=-planes.column_cosine)
    if columns:
        planes = replace(planes, row_cosine=-planes.row_cosine)
    if rows != columns:  # positions are sorted along the normal, which turned over
        planes = replace(planes, positions_mm=planes.positions_mm[::-1])
        hu, probability = hu[::-1], probability[::-1]
    turned = slice(None, None, -1 if rows else 1), slice(None, None, -1 if columns else 1)
    hu, probability = hu[:, turned[0], turned[1]], np.ascontiguousarray(probability[:, turned[0], turned[1]])
    scan = Scan(np.ascontiguousarray(hu).astype(np.int16), planes)
    labels, _ = components.label(probability >= 0.5, scan)
    region = brain_mask.find_brain(scan, probability >= 0.5)
    (found,) = measure_candidates(labels, np.array([1]), probability.astype(np.float16), scan, region)
    for name, value in found.features.items():
        assert value == pytest.approx(expected[name], abs=0.1 if name == "height" else 0.05 * max(1, abs(value))), name


REVIEW = LesionReview(
    intercept=-1.0,
    features={
        "slices": FeatureWeight(weight=2.0, centre=2.0, scale=1.0),
        "bone_share": FeatureWeight(weight=-1.0, centre=0.2, scale=0.1),
    },
    drop_below=0.3,
    lesions=5,
    false_alarms=5,
)


def test_the_log_odds_by_hand():
    """Three slices give 2 x 1, no bone -1 x -2: the log odds are -1 + 2 + 2."""
    judged = review_lesion({"slices": 3, "bone_share": 0.0}, REVIEW)
    assert judged.log_odds == pytest.approx(3)
    assert judged.probability == pytest.approx(1 / (1 + np.exp(-3)))
    assert judged.reasons_for == (REASONS["slices"][0], REASONS["bone_share"][0]) and judged.reasons_against == ()


def test_one_feature_alone_cannot_decide_everything():
    """A deviation counts up to three times the usual one."""
    assert review_lesion({"slices": 500, "bone_share": 0.2}, REVIEW).log_odds == pytest.approx(-1 + 2 * 3)


def test_what_speaks_against_blood_is_said():
    judged = review_lesion({"slices": 1, "bone_share": 0.5}, REVIEW)
    assert judged.reasons_against == (REASONS["bone_share"][1], REASONS["slices"][1]) and judged.reasons_for == ()


def test_every_feature_has_words_for_both_sides():
    assert set(REASONS) == set(FEATURES) and all(len(set(words)) == 2 for words in REASONS.values())


def make_card(folder, **changes):
    networks.save_network(folder, "sure", networks.make_bright_network(64), 64, **changes)
    return models.read_card(folder / "sure.json")


def test_an_improbable_lesion_is_dropped_and_counted(drawn, tmp_path):
    hu, probability = drawn
    add_ball(hu, probability, (3, 4, 5), 100, 140, 10)
    add_ball(hu, probability, (7,), 100, 60, 8)
    scan = Scan.from_array(hu, SPACING_MM)
    square = find_head_square(scan.hu, scan.pixel_spacing_mm)
    card = make_card(tmp_path)
    without = extract_lesion_mask(probability.astype(np.float16), scan, square, card)
    assert without.dropped == 0 and without.reviewed == () and without.mask[7].any()
    reviewed = extract_lesion_mask(
        probability.astype(np.float16), scan, square, card.model_copy(update={"review": REVIEW})
    )
    assert reviewed.dropped == 1 and not reviewed.mask[7].any() and reviewed.mask[4].any()
    assert [lesion.log_odds for lesion in reviewed.reviewed] == [pytest.approx(3)]


def test_few_slices_are_not_reviewed(drawn, tmp_path):
    hu, probability = drawn
    add_ball(hu, probability, (1,), 100, 60, 8)
    scan = Scan.from_array(hu[:4], SPACING_MM)
    square = find_head_square(scan.hu, scan.pixel_spacing_mm)
    card = make_card(tmp_path).model_copy(update={"review": REVIEW})
    assert extract_lesion_mask(probability[:4].astype(np.float16), scan, square, card).mask.any()


CURVE = LogisticCurve(intercept=0.5, slope=0.5, with_blood=5, without=5)


def test_the_most_probable_lesion_gives_the_confidence():
    """0.5 + 0.5 x 3 = 2; without a lesion 0.5 - 0.5 x 6 = -2.5."""
    lesions = [ReviewedLesion(value, (), ()) for value in (-1.0, 3.0)]
    assert compute_reviewed_probability(lesions, CURVE) == pytest.approx(1 / (1 + np.exp(-2)))
    assert compute_reviewed_probability([], CURVE) == pytest.approx(1 / (1 + np.exp(2.5)))


@pytest.mark.parametrize(("decision", "answer"), [(0.5, True), (0.95, False)])
def test_the_operating_point_decides(tmp_path, decision, answer):
    curve = {"intercept": 0.0, "slope": 1.0, "with_blood": 9, "without": 9}
    blood = {"floor_ml": 0.1, "scan": curve, "one_slice": curve, "reviewed": CURVE.model_dump()}
    card = make_card(tmp_path, calibration={"volume": None, "blood": blood, "figures": {}})
    card = card.model_copy(update={"review": REVIEW})
    mask = np.zeros((6, 40, 40), bool)
    mask[2, 5:15, 5:15] = True
    lesions = LesionMask(mask, 0, (ReviewedLesion(3.0, ("for",), ()),))
    decided = decide(
        lesions, Scan.from_array(np.full(mask.shape, 30), SPACING_MM), HeadSquare(0, 0, 40), card, decision
    )
    assert decided.confidence == 0.881 and decided.mask.any() == answer
    assert len(decided.reviewed) == answer
    assert [remark.code for remark in decided.remarks if remark.code == "doubtful"] == ([] if answer else ["doubtful"])


def test_a_card_without_operating_points_has_one(tmp_path):
    card = make_card(tmp_path)
    assert DecisionOptions().find_decision(card) == 0.5
    with pytest.raises(UsageError, match="no operating point 'specific'"):
        DecisionOptions("specific").find_decision(card)


@pytest.mark.parametrize(
    "options",
    [
        {"operating_point": "cautious"},
        {"threshold": 0.0},
        {"threshold": 1.0},
        {"threshold": float("nan")},
        {"smallest_ml": -1.0},
    ],
)
def test_impossible_choices_are_refused(options):
    with pytest.raises(UsageError, match="--" + next(iter(options)).replace("_", "-")):
        DecisionOptions(**options)


def test_threshold_and_smallest_lesion_are_the_callers(models_folder):
    """The model marks pixels of 50 HU and more; the drawn lesions have 4.7 and 0.3 ml."""
    hu, probability = make_head(), np.zeros(SHAPE, np.float32)
    add_ball(hu, probability, (4, 5, 6), 100, 140, 10)
    add_ball(hu, probability, (4,), 100, 60, 5)
    scan = Scan.from_array(hu, SPACING_MM)
    assert len(pipeline.segment(scan, model="threshold").findings.lesions) == 2
    result = pipeline.segment(scan, model="threshold", smallest_ml=1.0)
    assert len(result.findings.lesions) == 1 and result.findings.lesions[0].volume_ml > 4
    assert pipeline.segment(scan, model="threshold", threshold=0.9).model.threshold == 0.9


def test_a_volume_says_nothing_about_pictures_of_unknown_scale(models_folder):
    hu, probability = make_head(), np.zeros(SHAPE, np.float32)
    add_ball(hu, probability, (4, 5, 6), 100, 140, 10)
    result = pipeline.segment(Scan.from_array(hu), model="threshold", smallest_ml=50.0)
    assert result.findings.lesions and any(remark.code == "unused-option" for remark in result.remarks)
