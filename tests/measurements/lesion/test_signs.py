"""Synthetic lesions with and without each sign, blurred and noisy like a CT; no data set of read signs is available."""

import functools

import numpy as np
import pytest
from scipy import ndimage

from phantoms import shapes
from strokeseg.measurements.lesion.signs import detect_signs
from strokeseg.scan import Scan

BRAIN, BLOOD = 32.0, 64.0
HALF = np.array([22.0, 18.0, 20.0])
FINE = 5  # draws a slice from so many thinner ones: partial volume


def a_head(step=5.0, tilt=0.0, pixel=0.5, shape=(110, 110)):
    """Build a block of brain around the origin, 60 mm high."""
    places = np.arange(-30, 30.1, step)
    return shapes.make_planes(places, (pixel, pixel), tilt_deg=tilt, origin=(-27, -27, 0)), shape


@functools.cache
def a_lesion(paint=None, step=5.0, tilt=0.0, **given):
    """Build the HU without noise and the mask of an ellipsoid of 33 ml; ``paint`` changes its interior in place."""
    grid, shape = a_head(step, tilt)
    thin = np.repeat(grid.positions_mm, FINE, 0)
    places = np.tile((np.arange(FINE) + 0.5) / FINE - 0.5, len(grid.positions_mm)) * step
    thin = thin + places[:, None] * np.array([0, np.tan(np.radians(tilt)), 1.0])
    fine = shapes.make_planes(np.arange(len(thin)), grid.pixel_spacing_mm)
    fine = type(grid)(thin, fine.row_cosine, fine.column_cosine, fine.pixel_spacing_mm, step / FINE)
    points = shapes.compute_points_mm(fine, shape)
    inside = ((points / HALF) ** 2).sum(-1) <= 1
    hu = np.full(inside.shape, BRAIN)
    hu[inside] = BLOOD
    if paint is not None:
        paint(points, hu, inside)
    slices = hu.reshape(-1, FINE, *shape).mean(1)
    mask = shapes.mark_ellipsoid(grid, shape, (0, 0, 0), HALF)
    return ndimage.gaussian_filter(slices, (0, 1, 1)), mask, grid


def read(lesion, seed=0, sd=5.0):
    """Detect the signs, with noise that is half white and half correlated, as after a reconstruction kernel."""
    hu, mask, grid = lesion
    rng = np.random.default_rng(seed)
    grain = ndimage.gaussian_filter(rng.standard_normal(hu.shape), (0, 1, 1))
    noise = sd * np.sqrt(0.5) * (rng.standard_normal(hu.shape) + grain / grain.std())
    return detect_signs(mask, Scan(np.rint(hu + noise).astype(np.int16), grid))


def hole(hu, half, at=(0.0, 0.0, 0.0)):
    def paint(points, values, inside):
        values[((np.abs(points - at) / half) ** 2).sum(-1) <= 1] = hu

    return paint


def front(hu, from_mm=4.0):
    def paint(points, values, inside):
        values[inside & (points[..., 0] > from_mm)] = hu

    return paint


def ramp(points, values, inside):
    """Lower the density evenly by 50 HU from one side to the other: no margin."""
    values[inside] = (BLOOD + 10 - 50 * (points[..., 0] + HALF[0]) / (2 * HALF[0]))[inside]


def bay(points, values, inside):
    """Paint a dark bay, open to the brain."""
    values[inside & (np.abs(points[..., 1]) < 4) & (points[..., 0] > -4)] = BLOOD - 32


BLACK_HOLE = hole(BLOOD - 34, (5, 4, 8))
FAINT_HOLE = hole(BLOOD - 22, (5, 4, 8))
TINY_HOLE = hole(BLOOD - 34, (1.2, 1.2, 8))
SWIRL = hole(34.0, (9, 4, 12))
BRIGHT_HOLE = hole(48.0, (9, 4, 12))
SHORT_SWIRL = hole(34.0, (9, 4, 2))
BLEND = front(BLOOD - 24)
FAINT_BLEND = front(BLOOD - 12)


@pytest.mark.parametrize("tilt", [0.0, 18.5])
@pytest.mark.parametrize("step", [5.0, 2.5])
@pytest.mark.parametrize(
    ("paint", "expected"),
    [
        pytest.param(None, (False, False, False), id="even"),
        pytest.param(BLACK_HOLE, (None, True, False), id="black hole"),
        pytest.param(FAINT_HOLE, (None, False, False), id="22 HU are no black hole"),
        pytest.param(TINY_HOLE, (False, False, False), id="5 mm2 are no black hole"),
        pytest.param(SWIRL, (True, None, False), id="swirl"),
        pytest.param(BRIGHT_HOLE, (False, False, False), id="denser than brain is no swirl"),
        pytest.param(SHORT_SWIRL, (False, None, False), id="one slice is no swirl"),
        pytest.param(BLEND, (None, False, True), id="blend"),
        pytest.param(FAINT_BLEND, (False, False, False), id="12 HU are no blend"),
        pytest.param(ramp, (None, False, False), id="without a margin no blend"),
        pytest.param(bay, (None, False, None), id="what is open to the brain is no black hole"),
    ],
)
def test_each_sign_is_detected_only_where_it_was_drawn(paint, expected, step, tilt):
    detected = read(a_lesion(paint, step, tilt))
    for name, want in zip(("swirl", "black_hole", "blend"), expected, strict=True):
        if want is not None:
            assert getattr(detected, name) is want, name


def test_an_even_noisy_lesion_has_no_sign_in_95_of_100_draws():
    lesion = a_lesion()
    detected = [read(lesion, seed, sd=6.0) for seed in range(100)]
    assert sum(one.swirl or one.black_hole or one.blend for one in detected) <= 5


def test_thin_and_noisier_slices_raise_no_sign():
    detected = [read(a_lesion(None, 1.25), seed, sd=9.0) for seed in range(5)]
    assert not any(one.swirl or one.black_hole or one.blend for one in detected)


@pytest.mark.parametrize("wider_mm", [2, 3, 4])
def test_a_mask_drawn_too_wide_raises_no_sign(wider_mm):
    hu, mask, grid = a_lesion()
    wide = np.stack([ndimage.distance_transform_edt(~plane, sampling=0.5) <= wider_mm for plane in mask])
    wide &= mask.any((1, 2))[:, None, None]
    detected = [read((hu, wide, grid), seed) for seed in range(5)]
    assert not any(one.swirl or one.black_hole or one.blend for one in detected)


def test_a_part_that_ends_within_a_slice_is_no_blend():
    """The last slice contains 2/5 blood and 3/5 brain: 19 HU less than beside it, with a sharp margin."""

    def ends(points, values, inside):
        values[(points[..., 0] > 2) & (points[..., 2] > 9.5)] = BRAIN

    hu, mask, grid = a_lesion(ends)
    points = shapes.compute_points_mm(grid, hu.shape[1:])
    mask = mask & ~((points[..., 0] > 2) & (points[..., 2] > 10.5))
    assert hu[mask & (points[..., 0] > 5) & (points[..., 2] > 9)].mean() < BLOOD - 18
    for seed in range(4):
        detected = read((hu, mask, grid), seed)
        assert not detected.blend and not detected.black_hole


def test_a_dark_area_that_the_mask_leaves_out_is_included():
    hu, mask, grid = a_lesion(BLACK_HOLE)
    open_ = mask & (hu > BLOOD - 17)
    assert open_.sum() < mask.sum() - 100
    assert read((hu, open_, grid)).black_hole


def test_two_thin_slices_are_not_tall_enough_for_a_swirl():
    """Very dark, but only on two slices of 2.5 mm; with twice the height it is a swirl."""
    assert not read(a_lesion(hole(5.0, (9, 4, 1.9), (0, 0, 1.25)), 2.5)).swirl
    assert read(a_lesion(hole(5.0, (9, 4, 4.5), (0, 0, 1.25)), 2.5)).swirl


def test_a_ring_around_brain_has_no_black_hole():
    """At least half of the enclosed area is brain."""
    lesion = a_lesion(hole(BRAIN, (16, 13, 30)))
    assert not read(lesion).black_hole
    assert read(a_lesion(hole(BRAIN, (8, 6, 30)))).black_hole


def test_without_hounsfield_units_or_spacing_or_size_nothing_is_said():
    hu, mask, grid = a_lesion()
    whole = hu.astype(np.int16)
    assert detect_signs(mask, Scan(whole, grid)) is not None
    assert detect_signs(mask, Scan(whole, grid, calibrated=False)) is None
    assert detect_signs(mask, Scan(whole, grid, spacing_known=False)) is None
    assert detect_signs(np.zeros_like(mask), Scan(whole, grid)) is None
    small = shapes.mark_ellipsoid(grid, hu.shape[1:], (0, 0, 0), (8, 8, 10))
    assert small.any() and detect_signs(small, Scan(whole, grid)) is None
    flat = mask.copy()
    flat[np.arange(len(mask)) != len(mask) // 2] = False
    assert detect_signs(flat, Scan(whole, grid)) is None
    points = shapes.compute_points_mm(grid, hu.shape[1:])
    rod = np.hypot(points[..., 0], points[..., 1]) <= 5
    assert rod.sum() * 0.25 * 5 > 4000 and detect_signs(rod, Scan(whole, grid)) is None
    with pytest.raises(ValueError, match="scan"):
        detect_signs(mask[1:], Scan(whole, grid))
