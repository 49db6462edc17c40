import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from surface_distance import metrics as theirs

from strokeseg.evaluation.surface_distances import SurfaceDistances, hd95_mm, surface_dice

SPACING_MM = (5.0, 0.45, 0.5)
MASKS = arrays.arrays(bool, (3, 5, 6))
EMPTY = np.zeros((4, 8, 9), dtype=bool)


def deepmind(truth, answer, spacing_mm, tolerance_mm=2.0):
    """HD95 and surface Dice as their authors' package gives them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        distances = theirs.compute_surface_distances(truth, answer, spacing_mm)
    return (
        theirs.compute_robust_hausdorff(distances, 95),
        theirs.compute_surface_dice_at_tolerance(distances, tolerance_mm),
    )


def balls(seed):
    """A lumpy truth, and an answer that is moved, eroded and has a speck elsewhere."""
    random = np.random.default_rng(seed)
    places = np.stack(np.mgrid[:12, :60, :64], axis=-1) * SPACING_MM
    truth, answer = (np.zeros(places.shape[:3], dtype=bool) for _ in range(2))
    for _ in range(4):
        centre, radius = random.uniform((15, 6, 8), (45, 20, 24)), random.uniform(3, 8)
        truth |= np.linalg.norm(places - centre, axis=-1) < radius
        answer |= np.linalg.norm(places - centre - random.normal(0, 1, 3), axis=-1) < radius * 0.9
    answer[0, 1, 1] = True
    return truth, answer


@pytest.mark.parametrize("seed", range(6))
def test_balls_score_as_in_deepminds_package(seed):
    truth, answer = balls(seed)
    surfaces = SurfaceDistances.from_masks(truth, answer, SPACING_MM)
    distance, overlap = deepmind(truth, answer, SPACING_MM)
    assert distance > 0 and overlap < 1
    assert hd95_mm(surfaces) == pytest.approx(distance, abs=1e-6)
    assert surface_dice(surfaces) == pytest.approx(overlap, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(MASKS, MASKS)
def test_any_two_masks_score_as_in_deepminds_package(truth, answer):
    if not (truth.any() and answer.any()):
        return
    # Hypothesis tries what no lesion looks like: every one of the 256 corners, masks that touch the border.
    surfaces = SurfaceDistances.from_masks(truth, answer, (1.3, 0.7, 1.0))
    distance, overlap = deepmind(truth, answer, (1.3, 0.7, 1.0), 0.75)
    assert surface_dice(surfaces, 0.75) == pytest.approx(overlap, abs=1e-5)
    # Where the area's 95 % falls just between two distances, rounding decides for one of them.
    nearby = np.concatenate([surfaces.truth_mm, surfaces.predicted_mm])
    assert np.isclose(nearby, hd95_mm(surfaces)).any()
    cumulated = [np.cumsum(a[np.argsort(d)]) / a.sum() for d, a in sides(surfaces)]
    if all(np.abs(each - 0.95).min() > 1e-5 for each in cumulated):
        assert hd95_mm(surfaces) == pytest.approx(distance, abs=1e-6)


def sides(surfaces):
    return (surfaces.truth_mm, surfaces.truth_mm2), (surfaces.predicted_mm, surfaces.predicted_mm2)


def test_two_plates_are_as_far_apart_as_they_were_laid():
    truth, answer = np.zeros((20, 40, 40), dtype=bool), np.zeros((20, 40, 40), dtype=bool)
    truth[2:5], answer[6:9] = True, True
    surfaces = SurfaceDistances.from_masks(truth, answer, (2.0, 1.0, 1.0))
    # Their lower faces lie 8 mm apart and so do their upper ones; the nearest face of the other is 2 or 8 mm away.
    assert hd95_mm(surfaces) == pytest.approx(8.0)


def test_a_surfaces_area_is_that_of_the_block():
    block = np.zeros((30, 40, 50), dtype=bool)
    block[5:25, 5:35, 5:45] = True
    area = 2 * (20 * 2 * 30 + 20 * 2 * 40 + 30 * 40)
    assert SurfaceDistances.from_masks(block, block, (2.0, 1.0, 1.0)).truth_mm2.sum() == pytest.approx(area, rel=0.03)


def test_the_same_mask_is_nowhere_apart():
    truth, _ = balls(0)
    surfaces = SurfaceDistances.from_masks(truth, truth, SPACING_MM)
    assert (hd95_mm(surfaces), surface_dice(surfaces)) == (0.0, 1.0)


def test_two_empty_masks_have_no_distance():
    surfaces = SurfaceDistances.from_masks(EMPTY, EMPTY, SPACING_MM)
    assert math.isnan(hd95_mm(surfaces)) and math.isnan(surface_dice(surfaces))


@pytest.mark.parametrize("turned", [False, True])
def test_one_empty_mask_costs_the_longest_distance_there_is(turned):
    blood = EMPTY.copy()
    blood[1, 2:5, 2:5] = True
    masks = (EMPTY, blood) if turned else (blood, EMPTY)
    surfaces = SurfaceDistances.from_masks(*masks, SPACING_MM)
    assert hd95_mm(surfaces) == pytest.approx(math.dist((0, 0, 0), (4 * 5.0, 8 * 0.45, 9 * 0.5)))
    assert surface_dice(surfaces) == 0.0


@settings(max_examples=40, deadline=None)
@given(MASKS, MASKS, st.floats(0.1, 5))
def test_truth_and_answer_may_be_exchanged(truth, answer, tolerance_mm):
    one, other = (
        SurfaceDistances.from_masks(truth, answer, SPACING_MM),
        SurfaceDistances.from_masks(answer, truth, SPACING_MM),
    )
    assert hd95_mm(one) == pytest.approx(hd95_mm(other), nan_ok=True)
    assert surface_dice(one, tolerance_mm) == pytest.approx(surface_dice(other, tolerance_mm), nan_ok=True)
    if truth.any() or answer.any():
        assert 0 <= surface_dice(one, tolerance_mm) <= 1 and 0 <= hd95_mm(one) <= one.diagonal_mm


def test_masks_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="three-dimensional"):
        SurfaceDistances.from_masks(EMPTY, EMPTY[:2], SPACING_MM)
    with pytest.raises(ValueError, match="three-dimensional"):
        SurfaceDistances.from_masks(EMPTY[0], EMPTY[0], SPACING_MM)
