"""The planes of a scan, compared with geometry computed by hand."""

import numpy as np
import pytest

from strokeseg import Planes, Scan
from strokeseg.result import Remark


def make_planes(z, tilt_deg=0.0, thickness_mm=None):
    z = np.asarray(z, dtype=float)
    angle = np.radians(tilt_deg)
    positions = np.stack([np.full_like(z, -100.0), np.full_like(z, -80.0), z], axis=1)
    column = np.array([0, np.cos(angle), np.sin(angle)])
    return Planes(positions, np.array([1.0, 0, 0]), column, (0.5, 0.4), thickness_mm)


@pytest.mark.parametrize("name", ["normal", "along_normal_mm", "gaps_mm", "gaps_with_missing_slices", "weights_mm"])
def test_what_is_made_once_nobody_can_write_into(name):
    geometry = make_planes([0, 5, 10, 15])
    assert getattr(geometry, name) is getattr(geometry, name)
    with pytest.raises(ValueError, match="read-only"):
        getattr(geometry, name)[0] = 1


def test_even_slices_weigh_their_step():
    assert make_planes([0, 5, 10, 15]).weights_mm == pytest.approx([5, 5, 5, 5])


def test_uneven_slices_weigh_half_the_way_to_each_neighbour():
    assert make_planes([0, 2, 4, 10, 16, 22]).weights_mm == pytest.approx([2, 2, 4, 6, 6, 6])


def test_weights_are_along_the_normal_of_tilted_slices():
    assert make_planes([0, 5, 10], tilt_deg=60).weights_mm == pytest.approx([2.5, 2.5, 2.5])
    assert make_planes([0, 5, 10], tilt_deg=-18.5).tilt_deg == pytest.approx(18.5)


def test_a_missing_slice_widens_its_neighbours_by_a_quarter_step_only():
    gap = make_planes([0, 5, 10, 20, 25, 30])
    assert list(gap.gaps_with_missing_slices) == [False, False, True, False, False]
    assert gap.weights_mm == pytest.approx([5, 5, 6.25, 6.25, 5, 5])


def test_no_slice_weighs_more_than_one_and_a_half_steps_at_missing_slices():
    for z in ([0, 20, 25, 30, 35], [0, 5, 10, 15, 60], [0, 5, 10, 45, 50, 55, 100, 105, 110]):
        assert make_planes(z).gaps_with_missing_slices.any() and make_planes(z).weights_mm.max() <= 7.5


def test_two_ordinary_steps_miss_nothing():
    for z in ([0, 4, 8, 12, 13.1, 20.1, 27.1, 34.1], [0, 1, 2, 3, 8, 13, 18], [0, 5, 15], [0, 5], [0]):
        assert not make_planes(z).gaps_with_missing_slices.any()


def test_a_single_slice_weighs_its_thickness_if_that_is_known():
    assert make_planes([3], thickness_mm=4.5).weights_mm == pytest.approx([4.5])
    assert make_planes([3]).weights_mm == pytest.approx([0])
    assert Scan(np.zeros((1, 4, 4), np.int16), make_planes([3])).weights_mm is None
    assert make_planes([3]).tilt_deg == 0


def test_an_index_becomes_its_place_in_the_patient():
    points = make_planes([0, 5, 10], tilt_deg=30).to_lps_mm(
        [[0, 0, 0], [1, 10, 20], [1.5, 0, 0], [-1, 0, 0], [3, 0, 0]]
    )
    turned = np.array([20 * 0.4, 10 * 0.5 * np.cos(np.pi / 6), 10 * 0.5 * 0.5])
    first = np.array([-100, -80, 0])
    assert points == pytest.approx(
        first + np.array([[0, 0, 0], turned + np.array([0, 0, 5]), [0, 0, 7.5], [0, 0, -5], [0, 0, 15]])
    )


def test_an_index_of_a_single_slice_goes_along_its_normal():
    single = make_planes([7], tilt_deg=90, thickness_mm=2.0)  # the column runs up: the normal points forward
    assert single.to_lps_mm([1, 0, 0])[0] == pytest.approx([-100, -82, 7])


def test_an_array_becomes_an_axial_scan():
    scan = Scan.from_array(np.full((3, 4, 5), 35.4), spacing_mm=(5, 0.5, 0.4))
    assert scan.shape == (3, 4, 5) and scan.hu.dtype == np.int16 and (scan.hu == 35).all()
    assert scan.pixel_spacing_mm == (0.5, 0.4) and scan.weights_mm == pytest.approx([5, 5, 5])
    assert scan.planes.pixel_area_mm2 == pytest.approx(0.2) and scan.planes.normal == pytest.approx([0, 0, 1])
    assert scan.planes.to_lps_mm([2, 3, 4])[0] == pytest.approx([1.6, 1.5, 10])


def test_an_array_without_spacing_has_no_measure():
    scan = Scan.from_array(np.zeros((4, 6), np.uint8), calibrated=False, kind="pictures")
    assert scan.shape == (1, 4, 6) and scan.pixel_spacing_mm is None and scan.weights_mm is None


def test_values_beyond_int16_are_cut_off_and_do_not_wrap():
    scan = Scan.from_array(np.array([[[-1e9, 1e9, 40000]]]))
    assert scan.hu.tolist() == [[[-32768, 32767, 32767]]]


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(5),
        np.zeros((0, 4, 4)),
        np.zeros((1, 2, 3, 4)),
        [[np.nan]],
        [[np.inf]],
        [["a"]],
        [[True]],
        [[1 + 2j]],
        [[None]],
    ],
)
def test_an_array_that_is_no_scan_is_refused(values):
    with pytest.raises(ValueError, match="hu must"):
        Scan.from_array(values)


@pytest.mark.parametrize(
    "spacing",
    [(5, 0.5), (5, 0.5, 0), (5, -1, 1), (5, np.nan, 1), (5, 1, 2000), 5.0, "abc", ("a", "b", "c"), [], (1, None, 1)],
)
def test_a_spacing_that_is_none_is_refused(spacing):
    with pytest.raises(ValueError, match="spacing_mm must"):
        Scan.from_array(np.zeros((2, 4, 4)), spacing_mm=spacing)


def test_a_numpy_array_may_give_the_spacing():
    assert Scan.from_array(np.zeros((2, 4, 4)), np.array([5, 0.5, 0.4])).pixel_spacing_mm == (0.5, 0.4)


def test_a_scan_whose_parts_do_not_fit_is_refused():
    with pytest.raises(ValueError, match="2 slices but 3 planes"):
        Scan(np.zeros((2, 4, 4), np.int16), make_planes([0, 5, 10]))
    with pytest.raises(ValueError, match="int16"):
        Scan(np.zeros((3, 4, 4)), make_planes([0, 5, 10]))


def test_remarks_are_added_to_a_copy():
    scan = Scan.from_array(np.zeros((2, 4, 4)))
    remark = Remark(code="a", severity="info", message="b")
    assert scan.with_remarks(remark).remarks == (remark,) and scan.remarks == ()


def test_two_gaps_on_end_are_gaps_and_three_are_a_second_step():
    assert list(make_planes([0, 5, 10, 20, 30, 35, 40]).gaps_with_missing_slices) == [
        False,
        False,
        True,
        True,
        False,
        False,
    ]
    assert make_planes([0, 5, 10, 20, 30, 35, 40]).weights_mm.max() <= 7.5
    assert not make_planes([0, 5, 10, 20, 30, 40, 45, 50]).gaps_with_missing_slices.any()
    assert not make_planes([0, 10, 20, 25, 30, 35]).gaps_with_missing_slices.any()


@pytest.mark.parametrize(
    ("z", "thickness_mm", "weights_mm"),
    [
        ([0, 75], 5.0, [5, 5]),
        ([0, 65, 140], 5.0, [5, 5, 5]),
        ([0, 5, 80], 5.0, [5, 5, 5]),
        ([0, 75], None, [0, 0]),
        ([0, 7], 5.0, [7, 7]),
        ([0, 10], None, [10, 10]),
    ],
)
def test_two_or_three_slices_far_apart_weigh_their_thickness(z, thickness_mm, weights_mm):
    planes = make_planes(z, thickness_mm=thickness_mm)
    assert planes.weights_mm == pytest.approx(weights_mm)
    assert planes.has_key_slices == (max(np.diff(z)) > 10)


def test_a_contiguous_scan_whose_thickness_tag_is_too_thin_keeps_its_weights():
    planes = make_planes([0, 5, 10, 15], thickness_mm=0.6)
    assert planes.weights_mm == pytest.approx([5, 5, 5, 5]) and not planes.has_key_slices
    gap = make_planes([0, 5, 10, 40, 45, 50], thickness_mm=0.6)
    assert gap.weights_mm == pytest.approx([5, 5, 6.25, 6.25, 5, 5]) and not gap.has_key_slices
