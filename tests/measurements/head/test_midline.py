"""The midline shift of analytic heads with a known displacement of the septum."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from phantoms.analytic_head import AnalyticHead, Ellipsoid, make_axial_planes, make_scan
from slowdown import measure_slowdown
from strokeseg.measurements.head import coarse_head, midline, midplane, septum
from strokeseg.scan import Scan


def measure(scan: Scan, blood: np.ndarray | None = None) -> midline.MidlineShift | midline.ShiftNotMeasured:
    head = coarse_head.sample_head(scan, np.zeros(scan.shape, dtype=bool) if blood is None else blood)
    assert head is not None
    return midline.measure_shift(head, midplane.find_midplane(head))


def assert_shift(result: midline.MidlineShift | midline.ShiftNotMeasured, shift_mm: float) -> None:
    """Assert agreement within 1 mm; the side is stated from 2 mm on, and never wrong."""
    assert isinstance(result, midline.MidlineShift), result
    assert result.shift_mm == pytest.approx(abs(shift_mm), abs=1.0)
    side = "left" if shift_mm > 0 else "right"
    assert result.side in ((side,) if abs(shift_mm) >= 2 else (side, None))


def make_ellipsoid_head(
    shift_mm: float, gap_mm: float, *, half: tuple[float, float, float] = (9, 25, 12), noise_hu: float = 0.0
) -> Scan:
    """Build a simple head: bone around brain, and two adjacent ellipsoids of fluid, shifted together."""
    z, y, x = np.ogrid[-75:80:5.0, -99:100:0.8, -80:81:0.8]
    hu = np.full(np.broadcast_shapes(z.shape, y.shape, x.shape), -1000.0)
    for size, value in (((73, 92, 82), 900), ((66, 85, 75), 34)):
        hu[(x / size[0]) ** 2 + (y / size[1]) ** 2 + (z / size[2]) ** 2 <= 1] = value
    for side in (-1, 1):
        middle = shift_mm + side * (gap_mm / 2 + half[0])
        hu[((x - middle) / half[0]) ** 2 + ((y + 8) / half[1]) ** 2 + ((z - 6) / half[2]) ** 2 <= 1] = 7
    hu += np.random.default_rng(1).normal(0, noise_hu, hu.shape)
    return Scan.from_array(hu, spacing_mm=(5.0, 0.8, 0.8))


@pytest.mark.parametrize("shift_mm", [-15.0, -9.0, -5.0, -2.0, 0.0, 2.0, 3.5, 7.0, 12.0, 15.0])
def test_the_septum_is_detected_at_its_displacement(shift_mm):
    truth = AnalyticHead(shift_mm=shift_mm, falx=True)
    result = measure(make_scan(truth))
    assert_shift(result, shift_mm)
    septum = np.asarray(result.midline.septum_lps_mm)
    assert np.abs(septum - truth.septum_lps_mm)[[0, 1]] == pytest.approx([0, 0], abs=8)
    assert abs(septum[0] - truth.septum_lps_mm[0]) < 1


@pytest.mark.parametrize(
    ("pose", "grid"),
    [
        ({"yaw_deg": 30.0}, {}),
        ({"yaw_deg": -25.0, "roll_deg": 10.0}, {}),
        ({"roll_deg": 20.0}, {}),
        ({"roll_deg": -25.0}, {"step_mm": 3.0}),
        ({"pitch_deg": 20.0}, {}),
        ({"pitch_deg": -15.0, "yaw_deg": 10.0}, {"tilt_deg": 20.0}),
        ({"yaw_deg": 8.0}, {"tilt_deg": 25.0}),
        ({}, {"step_mm": 1.0, "reach_mm": (-10.0, 95.0)}),
        ({"yaw_deg": 5.0}, {"step_mm": [2.5] * 22 + [7.0] * 14}),
        ({"yaw_deg": 10.0}, {"row": (-1, 0, 0)}),
        ({"yaw_deg": 10.0}, {"column": (0, -1, 0)}),
        ({"yaw_deg": 10.0}, {"row": (0, 1, 0), "column": (-1, 0, 0), "shape": (200, 230)}),
    ],
)
def test_however_the_head_lies_and_is_sampled(pose, grid):
    shift_mm = -6.0 if pose.get("yaw_deg", 0) > 0 else 9.0
    truth = AnalyticHead(shift_mm=shift_mm, falx=True, **pose)
    assert_shift(measure(make_scan(truth, make_axial_planes(**grid), grid.get("shape", (230, 200)))), shift_mm)


@pytest.mark.parametrize("septum_mm", [2.0, 3.0])
def test_a_thin_septum_in_noise_at_full_resolution(septum_mm):
    truth = AnalyticHead(shift_mm=4, septum_mm=septum_mm, yaw_deg=-6)
    planes = make_axial_planes(pixel_mm=0.5, shape=(440, 380), reach_mm=(-15.0, 90.0))
    assert_shift(measure(make_scan(truth, planes, (440, 380), noise_hu=4)), 4)


@pytest.mark.parametrize("shift_mm", [-8.0, 8.0])
@pytest.mark.parametrize("more", [{"narrow": (1.0, 0.92)}, {"opening": "left"}, {"opening": "right"}])
def test_an_asymmetric_or_open_skull_does_not_change_it(more, shift_mm):
    """The ideal midline is the chord between the two ends of the falx, even if the skull is asymmetric."""
    assert_shift(measure(make_scan(AnalyticHead(shift_mm=shift_mm, falx=True, **more))), shift_mm)


@pytest.mark.parametrize(
    ("shift_mm", "narrow", "pose"),
    [
        (13.3, (0.916, 1.0), (-6.0, 0.4, -14.3)),
        (8.7, (1.0, 0.901), (3.4, -8.3, 1.7)),
        (7.7, (1.0, 0.918), (11.5, 12.4, 9.7)),
        (-12.2, (1.0, 0.926), (-29.7, -5.3, 14.7)),
    ],
)
def test_a_narrow_half_in_a_turned_head_does_not_change_it(shift_mm, narrow, pose):
    yaw, roll, pitch = pose
    truth = AnalyticHead(shift_mm=shift_mm, falx=True, narrow=narrow, yaw_deg=yaw, roll_deg=roll, pitch_deg=pitch)
    assert_shift(measure(make_scan(truth)), shift_mm)


def test_a_lesion_beside_the_ventricles_does_not_change_it():
    lesion = Ellipsoid((-42, -8, 10), (15, 24, 18))
    truth = AnalyticHead(shift_mm=10, falx=True, lesions=(lesion,))
    scan = make_scan(truth)
    assert_shift(measure(scan, mark_between(scan, 55, 90)), 10)


def mark_between(scan: Scan, low: float, high: float) -> np.ndarray:
    return (scan.hu > low) & (scan.hu < high)


@pytest.mark.parametrize("gap_mm", [3.0, 6.0, 10.0])
@pytest.mark.parametrize("shift_mm", [-11.0, 0.0, 5.0])
def test_the_septum_of_two_ellipsoids_is_the_centre_of_their_gap(shift_mm, gap_mm):
    assert_shift(measure(make_ellipsoid_head(shift_mm, gap_mm)), shift_mm)


@pytest.mark.parametrize("half", [(5, 18, 9), (12, 35, 15)])
def test_ventricles_may_be_narrow_or_wide(half):
    assert_shift(measure(make_ellipsoid_head(6, 4, half=half, noise_hu=4)), 6)


def test_one_ventricle_full_of_blood_still_shows_the_septum():
    truth = AnalyticHead(shift_mm=-5, falx=True)
    scan = make_scan(truth, noise_hu=0)
    left = np.zeros(scan.shape, dtype=bool)
    left[:, :, 99 - 5 + 2 :] = True
    filled = left & (scan.hu < 9) & (scan.hu > -20)
    hu = scan.hu.copy()
    hu[filled] = 65
    hu = hu + np.random.default_rng(2).normal(0, 4, hu.shape).astype(np.int16)
    assert_shift(measure(replace(scan, hu=hu), filled), -5)


def test_a_single_slice_with_the_frontal_horns_is_measured():
    truth = AnalyticHead(shift_mm=7, falx=True)
    assert_shift(measure(make_scan(truth, make_axial_planes(reach_mm=(8.0, 9.0)))), 7)


@pytest.mark.parametrize(
    ("scan", "code"),
    [
        (make_scan(AnalyticHead(ventricles=False)), "no-septum"),
        (make_scan(AnalyticHead(ventricles=False, falx=True)), "no-septum"),
        (make_scan(AnalyticHead(), make_axial_planes(reach_mm=(45.0, 90.0))), "no-septum"),
        (replace(make_scan(AnalyticHead(shift_mm=5)), spacing_known=False, calibrated=False), "no-spacing"),
    ],
    ids=["uniform brain", "only a falx", "slices above the ventricles", "no spacing"],
)
def test_a_shift_that_cannot_be_measured_is_not_guessed(scan, code):
    result = measure(scan)
    assert isinstance(result, midline.ShiftNotMeasured)
    assert result.code == code
    assert result.message.endswith(".")


def test_a_head_full_of_blood_is_not_guessed():
    scan = make_scan(AnalyticHead(ventricles=False), noise_hu=4)
    inside = make_scan(AnalyticHead(ventricles=False), noise_hu=0).hu == 35
    hu = np.where(inside, scan.hu + 30, scan.hu).astype(np.int16)
    assert isinstance(measure(replace(scan, hu=hu), inside), midline.ShiftNotMeasured)


def test_a_wide_fissure_between_the_hemispheres_is_no_pair_of_ventricles():
    scan = make_scan(AnalyticHead(ventricles=False), noise_hu=0)
    left_mm = np.abs(np.arange(200) - 99.5)
    fissure = (scan.hu == 35) & (left_mm < 6) & (left_mm > 1) & (np.arange(230) < 140)[:, None]
    hu = np.where(fissure, 8, scan.hu)
    hu = hu + np.random.default_rng(3).normal(0, 3, hu.shape)
    assert isinstance(measure(replace(scan, hu=hu.astype(np.int16))), midline.ShiftNotMeasured)


@pytest.mark.filterwarnings("error")
def test_gaps_that_all_lie_on_one_line_across_are_no_septum():
    gaps = np.array([[30.0, aside, 2.0, 5.0, 5.0, 1.0, 1.0] for aside in (-0.5, 0.0, 0.5)])
    assert septum._fit_line(gaps, 160.0) is None


def test_one_ventricle_alone_is_not_guessed():
    scan = make_scan(AnalyticHead())
    hu = scan.hu.copy()
    left = np.zeros(scan.shape, dtype=bool)
    left[:, :, 100:] = True
    hu[left & (hu < 25) & (hu > -100)] = 35
    assert isinstance(measure(replace(scan, hu=hu)), midline.ShiftNotMeasured)


def test_the_midline_lies_on_the_slice_and_its_ends_on_the_inner_table():
    truth = AnalyticHead(shift_mm=8, yaw_deg=12, falx=True)
    scan = make_scan(truth)
    midline_points = measure(scan).midline
    front, back, septum = (
        np.asarray(point)
        for point in (midline_points.front_lps_mm, midline_points.back_lps_mm, midline_points.septum_lps_mm)
    )
    normal = scan.planes.normal
    for point in (front, back, septum):
        assert point @ normal == pytest.approx(scan.planes.along_normal_mm[midline_points.slice], abs=0.01)
    assert front[1] < septum[1] < back[1]
    inside = np.sqrt((((np.stack([front, back]) - truth.middle_mm) @ truth.turn / [66, 84, 78]) ** 2).sum(1))
    assert inside == pytest.approx([1, 1], abs=0.03)


def test_forty_slices_take_less_than_100_ms():
    scan_2x = make_scan(AnalyticHead(shift_mm=6), make_axial_planes(4.0, reach_mm=(-70.0, 90.0)))
    hu = scan_2x.hu.repeat(2, 1).repeat(2, 2)
    scan = replace(scan_2x, hu=hu, planes=replace(scan_2x.planes, pixel_spacing_mm=(0.5, 0.5)))
    head = coarse_head.sample_head(scan, np.zeros(scan.shape, dtype=bool))
    plane = midplane.find_midplane(head)
    durations = []
    for _ in range(7):
        start = time.process_time()
        result = midline.measure_shift(head, plane)
        durations.append(time.process_time() - start)
    assert isinstance(result, midline.MidlineShift)
    assert min(durations) < 0.1 * measure_slowdown()
