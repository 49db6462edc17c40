"""Scores of whole scans from rows written by hand; the truth is counted on paper or computed by another library."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from strokeseg.evaluation.bootstrap import Bootstrap
from strokeseg.evaluation.scan_scores import FROC_RATES, join_scores, score_rows
from strokeseg.evaluation.schema import AnnotatedLesion, AnsweredLesion, RefusedScan, ScanRow
from strokeseg.result import ModelInfo

MODEL = ModelInfo(name="default", version="1", sha256="0" * 64, engine="onnxruntime", precision="fp32", threshold=0.5)
SOURCE = {
    "data_set": "ctich",
    "role": "train",
    "unseen": [],
    "models": [MODEL],
    "spacing_assumed_mm": (5.0, 0.45, 0.45),
    "refused": [],
}


def make_row(name, truth=0, predicted=0, dice=1.0, confidence=0.1, lesions=(), answered=(), slices=(), **changes):
    values = {
        "name": name,
        "patient": name,
        "slices": len(slices) or 9,
        "blood": truth > 0,
        "hemorrhage": predicted > 0,
        "confidence": confidence,
        "detection_score": 0.5,
        "truth_pixels": truth,
        "predicted_pixels": predicted,
        "dice": dice,
        "spacing_assumed": True,
        "truth_ml": truth / 100,
        "predicted_ml": predicted / 100,
        "abc2_ml": truth / 200,
        "volume_difference_relative": (predicted - truth) / truth if truth else None,
        "abc2_difference_relative": -0.5 if truth else None,
        "lesions": list(lesions),
        "answered_lesions": list(answered),
        "slice_blood": [blood for blood, _, _ in slices],
        "slice_score": [score for _, score, _ in slices],
        "slice_marked": [marked for _, _, marked in slices],
    }
    return ScanRow.model_validate(values | changes)


def annotate(matches=(), thickness_mm=4.0, volume_ml=0.5, overlapped=None):
    return AnnotatedLesion(
        pixels=10,
        volume_ml=volume_ml,
        thickness_mm=thickness_mm,
        matches=list(matches),
        overlapped=bool(matches) if overlapped is None else overlapped,
    )


def answer(number, probability):
    return AnsweredLesion(id=number, pixels=10, probability=probability)


def score(*rows, draws=50, **changes):
    return score_rows(SOURCE | changes, rows, Bootstrap(0.95, draws, 0))


def five_patients():
    """Three with blood, of whom one is missed; two without, of whom one is a false alarm of 2 ml."""
    return [
        make_row("a", truth=400, predicted=500, dice=0.8, confidence=0.9),
        make_row("b", truth=200, predicted=100, dice=0.6, confidence=0.6),
        make_row("c", truth=100, dice=0.0, confidence=0.2),
        make_row("d", predicted=200, dice=0.0, confidence=0.7),
        make_row("e", dice=1.0, confidence=0.2),
    ]


def test_sensitivity_specificity_and_auc_by_patient():
    scores = score(*five_patients())
    assert (scores.n_scans, scores.n_patients_with_blood, scores.n_patients_without_blood) == (5, 3, 2)
    assert scores.sensitivity.value == pytest.approx(2 / 3) and scores.specificity.value == 0.5
    expected = roc_auc_score([1, 1, 1, 0, 0], [0.9, 0.6, 0.2, 0.7, 0.2])
    assert scores.patient_auc.value == pytest.approx(expected)


@pytest.mark.parametrize(("hits", "of"), [(5, 5), (0, 6), (2, 3), (30, 31)])
def test_the_interval_of_a_share_of_patients_is_wilsons(hits, of):
    expected = binomtest(hits, of).proportion_ci(0.95, method="wilson")
    found = Bootstrap(0.95, 10, 0).score_share([index < hits for index in range(of)])
    assert (found.value, found.low, found.high) == pytest.approx((hits / of, expected.low, expected.high))


def test_two_scans_of_a_patient_are_one_patient():
    """The second scan of a is answered yes, that of b bleeds: one patient found, and one false alarm of two."""
    rows = [
        make_row("a1", truth=10, dice=0.0, patient="a"),
        make_row("a2", truth=10, predicted=10, patient="a", confidence=0.8),
        make_row("b1", predicted=5, dice=0.0, patient="b"),
        make_row("b2", patient="b"),
        make_row("c", patient="c"),
    ]
    scores = score(*rows)
    assert (scores.n_scans, scores.n_patients_with_blood, scores.n_patients_without_blood) == (5, 1, 2)
    assert scores.sensitivity.value == 1.0 and scores.specificity.value == 0.5
    assert scores.quiet_scans.value == pytest.approx(2 / 3)


def test_without_a_confidence_patients_are_ranked_by_their_slices():
    rows = [
        make_row("a", truth=10, confidence=None, detection_score=0.4),
        make_row("b", confidence=0.9, detection_score=0.3),
    ]
    assert score(*rows).patient_auc.value == 1.0


def test_both_conventions_for_empty_cases():
    """0.8, 0.6, 0.0 with blood; without: 0 for a false alarm, and 1 if nothing is marked."""
    scores = score(*five_patients())
    assert scores.dice_empty_is_1.value == pytest.approx((0.8 + 0.6 + 0.0 + 0.0 + 1.0) / 5)
    assert scores.dice_with_blood.value == pytest.approx((0.8 + 0.6 + 0.0) / 3)


def test_a_bleeding_patient_without_outline_has_no_dice():
    scores = score(*five_patients(), make_row("f", predicted=50, dice=None, blood=True, confidence=0.9))
    assert scores.dice_empty_is_1.value == pytest.approx(2.4 / 5)
    assert scores.dice_with_blood.value == pytest.approx(1.4 / 3)
    assert scores.sensitivity.value == 0.75 and scores.quiet_scans.value == 0.5


def test_volume_errors_beside_those_of_abc2():
    """Relative differences of 0.25, -0.5 and -1; in ml of 1, -1 and -1."""
    scores = score(*five_patients())
    assert scores.volume.median_error_relative.value == 0.5
    assert scores.volume.error_relative.value == pytest.approx(1.75 / 3)
    assert scores.volume.bias_relative.value == pytest.approx(-1.25 / 3)
    assert scores.volume.error_ml.value == pytest.approx(1.0)
    assert scores.volume.bias_ml.value == pytest.approx(-1 / 3)
    assert (scores.abc2.error_relative.value, scores.abc2.bias_relative.value) == (0.5, -0.5)
    assert scores.abc2.bias_ml.value == pytest.approx(-(2 + 1 + 0.5) / 3)
    assert scores.false_ml.value == 1.0


def test_quiet_slices_and_the_auc_of_slices():
    slices = {
        "a": [(True, 0.9, True), (True, 0.3, False), (False, 0.2, False)],
        "b": [(False, 0.4, True), (False, 0.1, False)],
    }
    rows = [make_row("a", truth=5, predicted=5, slices=slices["a"]), make_row("b", slices=slices["b"])]
    scores = score(*rows)
    assert scores.quiet_slices.value == pytest.approx(2 / 3)
    assert scores.slice_auc.value == pytest.approx(roc_auc_score([1, 1, 0, 0, 0], [0.9, 0.3, 0.2, 0.4, 0.1]))


def froc_rows():
    """Four scans, five lesions. The answers in order of their probability, with what each is:

    0.9 lesion of a; 0.8 false, of d; 0.7 large lesion of b; 0.6 false, of b; 0.5 second lesion of a; 0.4 false, of c.
    """
    return [
        make_row(
            "a",
            truth=10,
            predicted=10,
            lesions=[annotate([1], 4.0), annotate([2], 4.9)],
            answered=[answer(1, 0.9), answer(2, 0.5)],
        ),
        make_row(
            "b",
            truth=10,
            predicted=10,
            lesions=[annotate([1], 12.0, 20.0), annotate([], 5.0, 1.0, overlapped=True)],
            answered=[answer(1, 0.7), answer(2, 0.6)],
        ),
        make_row("c", truth=10, predicted=10, lesions=[annotate([], 9.9, 9.9)], answered=[answer(1, 0.4)]),
        make_row("d", predicted=10, answered=[answer(1, 0.8)]),
    ]


def test_the_points_of_the_froc_curve():
    points = [(p.probability, p.false_per_scan, p.found) for p in score(*froc_rows()).froc]
    assert points == [
        (0.9, 0.0, 0.2),
        (0.8, 0.25, 0.2),
        (0.7, 0.25, 0.4),
        (0.6, 0.5, 0.4),
        (0.5, 0.5, 0.6),
        (0.4, 0.75, 0.6),
    ]


def test_lesions_by_size():
    scores = score(*froc_rows())
    by_size = {(each.by, each.low, each.high): each for each in scores.lesions}
    counted = {key: (each.lesions, each.found.value, each.overlapped.value) for key, each in by_size.items()}
    assert counted == {
        ("all", 0.0, None): (5, 0.6, 0.8),
        ("thickness_mm", 0.0, 5.0): (2, 1.0, 1.0),
        ("thickness_mm", 5.0, 10.0): (2, 0.0, 0.5),
        ("thickness_mm", 10.0, None): (1, 1.0, 1.0),
        ("volume_ml", 0.0, 1.0): (2, 1.0, 1.0),
        ("volume_ml", 1.0, 10.0): (2, 0.0, 0.5),
        ("volume_ml", 10.0, None): (1, 1.0, 1.0),
    }
    assert scores.false_lesions.value == 0.75
    # At most 1/8: only the first answer. 1/4: those down to 0.7. 1/2: down to 0.5, and from there nothing more.
    assert FROC_RATES[:4] == (0.125, 0.25, 0.5, 1.0)
    assert by_size["all", 0.0, None].froc == [0.2, 0.4, 0.6, 0.6, 0.6, 0.6, 0.6]
    assert by_size["thickness_mm", 0.0, 5.0].froc[:4] == [0.5, 0.5, 1.0, 1.0]
    assert by_size["thickness_mm", 10.0, None].froc[:4] == [0.0, 1.0, 1.0, 1.0]


def test_one_large_answer_finds_one_lesion_and_two_answers_find_a_lesion_once():
    rows = [
        make_row("a", truth=1, lesions=[annotate([1]), annotate([1])], answered=[answer(1, 0.9)]),
        make_row("b", truth=1, lesions=[annotate([1, 2])], answered=[answer(1, 0.9), answer(2, 0.8)]),
    ]
    scores = score(*rows)
    assert scores.lesions[0].found.value == pytest.approx(2 / 3) and scores.false_lesions.value == 0.5


def test_an_answer_that_must_give_way_to_another_leaves_both_lesions_found():
    """Answer 1 matches both lesions, answer 2 only the first: the first goes to 2, so that 1 is free for the second."""
    rows = [
        make_row("a", truth=1, lesions=[annotate([1, 2]), annotate([1])], answered=[answer(1, 0.9), answer(2, 0.5)])
    ]
    assert [point.found for point in score(*rows).froc] == [0.5, 1.0]


def test_a_scan_of_which_nothing_is_known_has_no_false_lesions_to_count():
    scores = score(*froc_rows(), make_row("e", blood=True, dice=None, hemorrhage=True).model_copy(update={"slices": 0}))
    assert scores.false_lesions.value == 0.75 and scores.froc[-1].false_per_scan == 0.75


def test_lesions_of_unknown_size_are_counted_together_alone():
    scores = score(make_row("a", truth=1, lesions=[annotate([], None, None)]), spacing_assumed_mm=None)
    assert [each.lesions for each in scores.lesions] == [1, 0, 0, 0, 0, 0, 0]
    assert scores.froc == [] and scores.lesions[0].froc == [0.0] * 7 and scores.lesions[1].froc == [None] * 7


def test_an_interval_of_no_width_is_left_out():
    scores = score(*[make_row(name) for name in "abcd"])
    assert (scores.quiet_scans.value, scores.quiet_scans.low) == (1.0, None)
    assert scores.specificity.low == pytest.approx(0.51, abs=0.01)


def test_intervals_draw_patients():
    """The bootstrap of a mean of patients has about its standard error, 1 / sqrt(100) of the deviation."""
    random = np.random.default_rng(3)
    dice = random.uniform(0.2, 0.8, 100)
    rows = [make_row(f"{index}", truth=1, dice=value) for index, value in enumerate(dice)]
    found = score(*rows, draws=1000).dice_with_blood
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(dice.std() / 10, rel=0.15)


def test_a_draw_of_the_median_takes_all_scans_of_a_patient():
    """Each of two patients has one value: the median of a draw is 1, 2 (the mean of both) or 3."""
    found = Bootstrap(0.95, 200, 0).score_median([("a", 1.0), ("a", 1.0), ("b", 3.0), ("b", 3.0)])
    assert (found.value, found.low, found.high) == (2.0, 1.0, 3.0)
    assert Bootstrap(0.95, 200, 0).score_median([]).value is None


def test_folds_that_are_joined_score_like_one_run():
    rows = [*five_patients(), *[row.model_copy(update={"name": f"f{row.name}"}) for row in froc_rows()]]
    refused = RefusedScan(name="z", patient="z", code="not-head")
    draws = Bootstrap(0.95, 50, 0)
    whole = score_rows(SOURCE | {"models": [MODEL, MODEL], "refused": [refused]}, rows, draws)
    parts = [score(*rows[:4], refused=[refused]), score(*rows[4:])]
    assert join_scores(parts, draws) == whole
    with pytest.raises(ValueError, match="a scan is in two runs"):
        join_scores([parts[0], parts[0]], draws)
    with pytest.raises(ValueError, match="different sets"):
        join_scores([parts[0], score(*rows[4:], role="test")], draws)
