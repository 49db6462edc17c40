"""Components, compared with a check of every pair of prisms in mm, and without tilt with scipy and cc3d."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from scipy.sparse.csgraph import connected_components

from phantoms import shapes
from strokeseg.imaging.components import find_bounding_boxes, find_labelled_pixels, iterate_components, label
from strokeseg.scan import Planes, Scan


def same(one, other):
    """Whether two labellings divide the pixels equally, whatever their numbers."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


def by_prisms(mask, planes):
    """Compare the footprints in mm of all pixels of the same and of neighbouring slices; number the components."""
    places = np.argwhere(mask)
    points = shapes.compute_points_mm(planes, mask.shape[1:])[mask]
    row_mm, column_mm = planes.pixel_spacing_mm
    down, right = points @ planes.column_cosine, points @ planes.row_cosine
    touching = np.abs(down[:, None] - down) <= row_mm * 1.001
    touching &= np.abs(right[:, None] - right) <= column_mm * 1.001
    touching &= np.abs(places[:, None, 0] - places[:, 0]) <= 1
    count, numbers = connected_components(touching, directed=False)
    labels = np.zeros(mask.shape, int)
    labels[mask] = numbers + 1
    return labels, count


def a_scan(planes, shape):
    return shapes.make_scan(planes, shape)


@pytest.mark.parametrize("tilt_deg", [0.0, 15.0])
@pytest.mark.parametrize(("side", "kind"), [(15, np.uint8), (16, np.uint16), (255, np.uint16), (257, np.int32)])
def test_numbers_that_no_longer_fit_a_small_type_get_a_larger_one(side, kind, tilt_deg):
    """Isolated pixels on the first slice: 225, 256, 65,025 and 66,049."""
    mask = np.zeros((2, 2 * side, 2 * side), dtype=bool)
    mask[0, ::2, ::2] = True
    labels, count = label(mask, a_scan(shapes.make_planes([0, 4], (0.5, 0.5), tilt_deg=tilt_deg), mask.shape[1:]))
    theirs, their_count = ndimage.label(mask, np.ones((3, 3, 3)))
    assert (count, labels.dtype) == (their_count, kind) == (side**2, kind)
    assert np.array_equal(labels, theirs)


@pytest.mark.parametrize("seed", range(10))
def test_without_tilt_they_are_the_26_neighbours(seed):
    cc3d = pytest.importorskip("cc3d")
    rng = np.random.default_rng(seed)
    planes = shapes.make_planes(np.cumsum(rng.uniform(1, 1.6, 12)), (0.5, 0.4))
    mask = rng.random((12, 40, 30)) < rng.choice([0.03, 0.06, 0.1])
    labels, count = label(mask, a_scan(planes, (40, 30)))
    theirs, their_count = ndimage.label(mask, np.ones((3, 3, 3)))
    assert labels.dtype == np.min_scalar_type(count) and labels.max() == count
    assert count == their_count == cc3d.connected_components(mask, connectivity=26).max()
    assert same(labels, theirs) and same(labels, cc3d.connected_components(mask, connectivity=26))


@pytest.mark.parametrize("seed", range(25))
def test_whatever_the_planes_they_are_the_prisms_that_touch(seed):
    """Every slice has its own offset from the last, some by whole pixels; oblique planes; some slices empty."""
    rng = np.random.default_rng(seed)
    turn, shape = np.radians(rng.uniform(-30, 30)), (18, 16)
    row, column = np.array([np.cos(turn), 0, -np.sin(turn)]), np.array([0, 1.0, 0])
    straight = shapes.make_planes(np.cumsum(rng.uniform(2, 3, 7)), (0.7, 0.5), row=row, column=column)
    if seed % 2:
        beside = rng.uniform(-3, 3, (7, 2))
    else:
        beside = rng.integers(-4, 5, (7, 2)) * (0.7, 0.5)
    moved = straight.positions_mm + beside[:, :1] * column + beside[:, 1:] * row
    planes = replace(straight, positions_mm=moved)
    mask = rng.random((7, *shape)) < 0.06
    mask[rng.integers(0, 7)] &= seed % 3 > 0
    theirs, count = by_prisms(mask, planes)
    labels, ours = label(mask, a_scan(planes, shape))
    assert ours == count
    assert same(labels, theirs)
    sizes = np.bincount(labels.ravel(), np.repeat(planes.weights_mm, shape[0] * shape[1]))[1:]
    assert (np.diff(sizes) <= 1e-9).all()


@pytest.mark.parametrize("tilt", [0.0, 18.5, 30.0, -25.0])
@pytest.mark.parametrize("step", [1.25, 5.0])
def test_a_thin_rod_along_the_normal_stays_one_whatever_the_tilt(tilt, step):
    """Rods of 1 mm; a tilt of 30 degrees moves them by 6 pixels from slice to slice of 5 mm."""
    planes = shapes.make_planes(
        np.arange(0, 40, step), (0.5, 0.5), tilt_deg=tilt, origin=(0, -20 if tilt > 0 else 0, 0)
    )
    points = shapes.compute_points_mm(planes, (120, 100))
    mask = np.zeros(points.shape[:3], bool)
    for x in (12.0, 15.0):
        mask |= np.hypot(points[..., 0] - x, points[..., 1] - 15) <= 0.75
    assert mask.any((1, 2)).all()
    labels, count = label(mask, a_scan(planes, (120, 100)))
    assert count == 2
    assert (labels[:, :, :27].max((1, 2)) == labels[0, :, :27].max()).all()
    if abs(tilt) > 15 and step == 5:
        assert ndimage.label(mask, np.ones((3, 3, 3)))[1] > 2


@pytest.mark.parametrize("tilt", [18.5, 30.0])
def test_a_small_ball_stays_one_whatever_the_tilt(tilt):
    planes = shapes.make_planes(np.arange(0, 30, 2.5), (0.4, 0.4), tilt_deg=tilt, origin=(0, 0, 0))
    mask = shapes.mark_ellipsoid(planes, (120, 60), (12, 20, 14), (3, 3, 3))
    assert np.flatnonzero(mask.any((1, 2))).size >= 2
    assert label(mask, a_scan(planes, (120, 60)))[1] == 1


def test_what_index_by_index_touches_and_in_the_patient_not_stays_apart():
    planes = shapes.make_planes([0, 5], (0.5, 0.5), tilt_deg=30)
    mask = np.zeros((2, 40, 40), bool)
    mask[:, 20, 20] = True
    assert label(mask, a_scan(planes, (40, 40)))[1] == 2


@pytest.mark.parametrize(("gap", "count"), [(5.0, 1), (10.0, 1), (15.0, 1), (20.0, 2)])
def test_a_lesion_on_both_sides_of_missing_slices_is_one_up_to_15_mm(gap, count):
    planes = shapes.make_planes([0, 5, 10, 10 + gap, 15 + gap, 20 + gap], (0.5, 0.5))
    assert planes.gaps_with_missing_slices.any() == (gap > 5)
    mask = np.zeros((6, 20, 20), bool)
    mask[2:4, 5:10, 5:10] = True
    assert label(mask, a_scan(planes, (20, 20)))[1] == count


def test_a_wide_step_that_is_the_ordinary_one_parts_nothing():
    planes = shapes.make_planes(np.arange(5) * 20.0, (0.5, 0.5))
    mask = np.ones((5, 4, 4), bool)
    assert label(mask, a_scan(planes, (4, 4)))[1] == 1


def test_a_picture_without_spacing_is_labelled_by_index_and_by_pixels():
    scan = Scan.from_array(np.zeros((3, 20, 20)), calibrated=False)
    mask = np.zeros(scan.shape, bool)
    mask[0, :2, :2] = mask[2, 5:15, 5:15] = mask[1, 16, 16] = True
    labels, count = label(mask, scan)
    assert count == 3
    assert labels[2, 7, 7] == 1


def test_every_part_is_measured_where_it_lies():
    rng = np.random.default_rng(5)
    planes = shapes.make_planes(np.cumsum(rng.uniform(2, 3, 9)), (0.7, 0.5), tilt_deg=20)
    mask = ndimage.gaussian_filter(rng.standard_normal((9, 60, 50)), (0.6, 3, 3)) > 0.13
    scan = a_scan(planes, (60, 50))
    scan = replace(scan, hu=rng.integers(0, 80, scan.shape).astype(np.int16))
    labels, count = label(mask, scan)
    assert count > 3
    parts = list(iterate_components(labels, scan))
    assert len(parts) == count
    for number, (part, cut, (rows, columns)) in enumerate(parts, start=1):
        whole = labels == number
        assert part.shape == cut.shape and part.sum() == whole.sum()
        np.testing.assert_array_equal(np.argwhere(part) + np.array([0, rows.start, columns.start]), np.argwhere(whole))
        np.testing.assert_array_equal(cut.hu[part], scan.hu[whole])
        np.testing.assert_allclose(
            shapes.compute_points_mm(cut.planes, cut.shape[1:])[part],
            shapes.compute_points_mm(planes, (60, 50))[whole],
            atol=1e-9,
        )


def test_an_empty_mask_has_no_components():
    scan = a_scan(shapes.make_planes([0, 5], (1, 1)), (4, 4))
    labels, count = label(np.zeros(scan.shape, bool), scan)
    assert count == 0 and not labels.any() and list(iterate_components(labels, scan)) == []


@pytest.mark.parametrize("tilt", [0.0, 20.0])
def test_a_full_mask_is_one(tilt):
    scan = a_scan(shapes.make_planes([0, 5, 10], (1, 1), tilt_deg=tilt), (6, 6))
    labels, count = label(np.ones(scan.shape, bool), scan)
    assert count == 1 and (labels == 1).all()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((2, 4, 5), bool), "the scan"),
        (np.zeros((4, 4), bool), "the scan"),
        (np.zeros((2, 4, 4)), "bool"),
        (np.full((2, 4, 4), np.nan), "bool"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        label(mask, a_scan(shapes.make_planes([0, 5], (1, 1)), (4, 4)))


def test_a_slice_at_no_place_is_refused():
    planes = Planes(np.array([[0, 0, 0], [0, 0, np.nan]]), np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), (1, 1))
    with pytest.raises(ValueError, match="not finite"):
        label(np.ones((2, 4, 4), bool), a_scan(planes, (4, 4)))


def test_boxes_are_those_of_scipy_also_for_numbers_that_no_pixel_has():
    rng = np.random.default_rng(5)
    labels = np.zeros((6, 30, 40), dtype=np.uint8)
    labels[1:5, 7:20, 9:31] = rng.choice([0, 0, 0, 1, 2, 5], size=(4, 13, 22))
    assert find_bounding_boxes(labels) == ndimage.find_objects(labels)
    assert find_bounding_boxes(np.zeros((2, 3, 4), np.uint8)) == []
    assert np.array_equal(find_labelled_pixels(labels), np.flatnonzero(labels))
