"""One scan's row: boxes and cylinders whose pixels, volumes and ABC/2 are known."""

import numpy as np
import pytest

from strokeseg.evaluation.scan_row import Reference, score_scan, thickness_mm
from strokeseg.pipeline import Result
from strokeseg.result import Findings, Lesion, ModelInfo, Timing
from strokeseg.scan import Scan

MODEL = ModelInfo(name="default", version="1", sha256="0" * 64, engine="onnxruntime", precision="fp32", threshold=0.5)
SHAPE = (6, 40, 40)


def box(*edges):
    mask = np.zeros(SHAPE, dtype=bool)
    mask[tuple(slice(*edge) for edge in edges)] = True
    return mask


def make_result(boxes, spacing_mm=None, confidence=0.9):
    """A result whose lesions are boxes, the largest first, with probabilities of 0.9, 0.8, ..."""
    mask, probability = np.zeros(SHAPE, dtype=bool), np.zeros(SHAPE, dtype=np.float16)
    lesions = []
    for number, each in enumerate(boxes, start=1):
        mask |= each
        probability[each] = 1 - number / 10
        at = np.flatnonzero(each.any((1, 2)))
        lesions.append(
            Lesion(
                id=number,
                pixels=int(each.sum()),
                slices=(int(at[0]), int(at[-1])),
                probability=1 - number / 10,
                volume_ml=None,
            )
        )
    scan = Scan.from_array(np.zeros(SHAPE), spacing_mm)
    findings = Findings(hemorrhage=bool(lesions), confidence=confidence, volume_ml=None, lesions=lesions)
    return Result(scan, probability, mask, findings, MODEL, Timing())


def score(result, truth, known=None, blood=None, assumed_mm=None):
    known = np.ones(SHAPE, dtype=bool) if known is None else known
    return score_scan("scan", "patient", result, Reference(truth & known, known), blood, assumed_mm)


LARGE = box((1, 4), (5, 15), (5, 15))
SHIFTED = box((1, 4), (5, 15), (10, 20))
SMALL = box((5, 6), (30, 34), (30, 34))


def test_counts_dice_and_matches():
    """Half of the lesion of 300 pixels is found: intersection over union of 1/3; the small one is false."""
    row = score(make_result([SHIFTED, SMALL]), LARGE).row
    assert (row.truth_pixels, row.predicted_pixels) == (300, 316)
    assert row.dice == pytest.approx(2 * 150 / (300 + 316))
    assert row.blood and row.hemorrhage and row.confidence == 0.9
    (lesion,) = row.lesions
    assert (lesion.pixels, lesion.matches, lesion.overlapped) == (300, [1], True)
    assert [(each.id, each.pixels, each.probability) for each in row.answered_lesions] == [(1, 300, 0.9), (2, 16, 0.8)]
    assert row.slice_blood == [False, True, True, True, False, False]
    assert row.slice_marked == [False, True, True, True, False, True]
    assert row.slice_score[0] == 0.0 and row.slice_score[1] == pytest.approx(0.9, abs=1e-3)


def test_too_small_an_overlap_is_no_match():
    touching = box((1, 4), (5, 15), (14, 24))
    (lesion,) = score(make_result([touching]), LARGE).row.lesions
    assert (lesion.matches, lesion.overlapped) == ([], True)


def test_volumes_with_a_known_an_assumed_and_no_spacing():
    """Relative errors are the same in all three; ml only with a spacing, which is marked if it is assumed."""
    known = score(make_result([SHIFTED, SMALL], (5.0, 0.5, 0.5)), LARGE, assumed_mm=(5.0, 0.45, 0.45)).row
    assumed = score(make_result([SHIFTED, SMALL]), LARGE, assumed_mm=(5.0, 0.5, 0.5)).row
    unknown = score(make_result([SHIFTED, SMALL]), LARGE).row
    for row in (known, assumed, unknown):
        assert row.volume_difference_relative == pytest.approx(16 / 300)
    assert [row.spacing_assumed for row in (known, assumed, unknown)] == [False, True, False]
    for row in (known, assumed):
        assert row.truth_ml == pytest.approx(300 * 1.25 / 1000) and row.predicted_ml == pytest.approx(316 * 1.25 / 1000)
        assert row.lesions[0].volume_ml == pytest.approx(row.truth_ml)
        assert row.lesions[0].thickness_mm == pytest.approx(5.0)
    assert (unknown.truth_ml, unknown.predicted_ml, unknown.abc2_ml) == (None, None, None)
    assert (unknown.lesions[0].volume_ml, unknown.lesions[0].thickness_mm) == (None, None)


def test_abc2_of_a_cylinder_is_two_over_pi_of_its_volume():
    """A = B = d and C = h give d² h / 2, and the volume is pi d² h / 4; no spacing is needed for the ratio."""
    rows, columns = np.indices(SHAPE[1:]) - 19.5
    truth = np.zeros(SHAPE, dtype=bool)
    truth[1:5] = np.hypot(rows, columns) < 15
    for assumed_mm in (None, (5.0, 0.45, 0.45)):
        row = score(make_result([LARGE]), truth, assumed_mm=assumed_mm).row
        assert row.abc2_difference_relative == pytest.approx(2 / np.pi - 1, abs=0.05)


def test_the_assumed_spacing_does_not_change_the_answer():
    result = make_result([SHIFTED, SMALL])
    one, other = (score(result, LARGE, assumed_mm=mm).row for mm in (None, (5.0, 2.0, 2.0)))
    pixels = {"truth_pixels", "predicted_pixels", "dice", "hemorrhage", "confidence", "answered_lesions"}
    assert one.model_dump(include=pixels) == other.model_dump(include=pixels)


def test_slices_and_pixels_of_unknown_truth_count_for_nothing():
    known = np.ones(SHAPE, dtype=bool)
    known[5], known[:, :, 15:] = False, False
    scored = score(make_result([SHIFTED, SMALL]), LARGE, known)
    assert scored.row.slices == 5 and len(scored.slices) == 5
    assert scored.row.predicted_pixels == 150 and [each.id for each in scored.row.answered_lesions] == [1]
    assert scored.row.lesions[0].matches == [1]


def test_a_lesion_of_mostly_unknown_truth_is_not_false():
    """Of the 16 pixels of the small lesion 4, then 8, are known; of the large one, which matches, a tenth."""
    known = np.ones(SHAPE, dtype=bool)
    known[:, :, 6:15], known[5, 30:34, 31:] = False, False
    truth = LARGE & known
    answered = score(make_result([LARGE, SMALL]), truth, known).row.answered_lesions
    assert [(each.id, each.pixels) for each in answered] == [(1, 30)]
    known[5, 30:34, 31] = True
    answered = score(make_result([LARGE, SMALL]), truth, known).row.answered_lesions
    assert [(each.id, each.pixels) for each in answered] == [(1, 30), (2, 8)]


def test_a_bleeding_scan_of_which_nothing_is_outlined_is_scored_by_its_answer_alone():
    nothing = np.zeros(SHAPE, dtype=bool)
    scored = score(make_result([LARGE]), nothing, known=nothing, blood=True)
    assert scored.tally is None and scored.row.dice is None and scored.row.blood and scored.row.hemorrhage
    assert scored.row.answered_lesions == [] and scored.row.volume_difference_relative is None


def test_a_quiet_scan_without_blood_has_a_dice_of_one():
    nothing = np.zeros(SHAPE, dtype=bool)
    assert score(make_result([]), nothing).row.dice == 1.0
    assert score(make_result([SMALL]), nothing).row.dice == 0.0


@pytest.mark.parametrize("width", [1, 2, 3, 4, 7])
def test_the_thickness_of_a_strip_is_its_width(width):
    assert thickness_mm(box((2, 3), (5, 35), (8, 8 + width)), (0.5, 0.5)) == pytest.approx(width * 0.5)
    assert thickness_mm(box((2, 3), (8, 8 + width), (5, 35)), (0.4, 0.5)) == pytest.approx(width * 0.4)


def test_the_thickness_of_a_disc_is_its_diameter_and_of_a_crescent_its_width():
    rows, columns = np.indices(SHAPE[1:]) - 19.5
    disc = np.broadcast_to(np.hypot(rows, columns) < 12, SHAPE)
    crescent = disc & (np.hypot(rows, columns) > 7) & (rows < 0)
    assert thickness_mm(disc, (1.0, 1.0)) == pytest.approx(24, abs=1.5)
    assert thickness_mm(crescent, (1.0, 1.0)) == pytest.approx(5, abs=1)
    assert thickness_mm(np.zeros(SHAPE, dtype=bool), (1.0, 1.0)) == 0.0
