"""Augmentation: synthetic lesions and bone, geometry and intensity."""

import numpy as np
import pytest

from phantoms.training_sets import make_stored_slice
from strokeseg.training import (
    augmentation,
)


def test_a_slice_comes_out_of_the_store_as_hounsfield_units():
    sample = make_stored_slice()
    assert sample.code.shape == (augmentation.STORED_SIZE,) * 2
    assert sample.hu[192, 192] == pytest.approx(70, abs=0.7)
    assert sample.hu[120, 192] == pytest.approx(35, abs=0.7)
    assert sample.mask[192, 192] == 1 and sample.mask[120, 192] == 0


def test_a_crescent_lies_under_the_skull():
    sample = make_stored_slice(blood=False)
    hu, mask = augmentation.add_crescent(sample.hu, sample.mask, np.random.default_rng(3))
    rows, columns = np.nonzero(mask == 1)
    far = np.hypot(rows - 191.5, columns - 191.5)
    inner_edge = 62 * 384 / (140 * 1.08)
    assert len(rows) > 40
    assert far.max() < inner_edge + 3 and far.min() > inner_edge - 40
    assert 30 < hu[mask == 1].mean() < 80


def test_an_isodense_crescent_is_thin_and_as_grey_as_the_cortex():
    sample = make_stored_slice(blood=False)
    for seed in range(6):
        hu, mask = augmentation.add_crescent(sample.hu, sample.mask, np.random.default_rng(seed), 1.0)
        rows, columns = np.nonzero(mask == 1)
        far = np.hypot(rows - 191.5, columns - 191.5)
        assert np.ptp(far) < 2.5 * 9  # its depth varies in waves around at most 9 pixels
        assert 25 < np.median(hu[mask == 1]) < 60


def test_a_box_stays_upright_when_it_is_moved():
    sample = make_stored_slice(boxed=True)
    mask = np.zeros_like(sample.mask)
    mask[100:200, 150:250] = 1
    for seed in range(20):
        moved = augmentation.transform_geometry(sample.hu, mask, 128, True, np.random.default_rng(seed))[1]
        rows, columns = np.nonzero(moved)
        assert moved.sum() > 0.97 * (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_intensity_stays_in_0_to_1_and_differs_by_seed():
    hu = make_stored_slice().hu
    seen = [augmentation.vary_intensity(hu, np.random.default_rng(seed)) for seed in range(6)]
    assert all(image.min() >= 0 and image.max() <= 1 and np.isfinite(image).all() for image in seen)
    assert not np.array_equal(seen[0], seen[1])
    assert np.array_equal(seen[0], augmentation.vary_intensity(hu, np.random.default_rng(0)))


def test_a_vault_makes_the_brain_brighter_and_holds_no_blood():
    sample = make_stored_slice()
    inside = augmentation.mark_inner_skull(sample.hu)
    raised = []
    for seed in range(16):
        plain, _ = augmentation.grow_bone(sample.hu, sample.mask, np.random.default_rng(seed))
        hu, mask = augmentation.grow_bone(sample.hu, sample.mask, np.random.default_rng(seed), vault=1.0)
        if np.array_equal(plain, hu):  # ridges, of which none is a vault
            continue
        assert not mask[inside].any() and hu.max() <= 121
        raised.append(np.median(hu[inside]) - np.median(sample.hu[inside]))
    assert len(raised) > 3 and min(raised) > 3
