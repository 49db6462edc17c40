"""The mid-sagittal plane of analytic heads with a known plane."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from phantoms.analytic_head import AnalyticHead, Ellipsoid, make_axial_planes, make_scan
from phantoms.shapes import compute_points_mm
from slowdown import measure_slowdown
from strokeseg.measurements.head import coarse_head, midplane
from strokeseg.scan import Scan

FALX_ENDS_MM = np.array([[0.0, -84.0, 0.0], [0.0, 84.0, 0.0]])


def find_plane(scan: Scan) -> midplane.Midplane | None:
    coarse = coarse_head.sample_head(scan, np.zeros(scan.shape, dtype=bool))
    assert coarse is not None
    return midplane.find_midplane(coarse)


def assert_agrees(
    plane: midplane.Midplane | None, truth: AnalyticHead, *, degrees: float = 2.0, mm: float = 1.5
) -> None:
    """Assert agreement within 2 degrees and, at both ends of the falx, 1.5 mm."""
    assert plane is not None and plane.reliable
    assert np.linalg.norm(plane.normal) == pytest.approx(1)
    assert plane.normal[0] > 0
    assert np.degrees(np.arccos(min(1.0, plane.normal @ truth.normal))) < degrees
    assert np.abs(plane.distance_mm(truth.to_lps_mm(FALX_ENDS_MM))).max() < mm


@pytest.mark.parametrize(
    "pose",
    [
        {"yaw_deg": 30.0},
        {"yaw_deg": -30.0},
        {"roll_deg": 30.0},
        {"roll_deg": -18.0},
        {"pitch_deg": 30.0},
        {"yaw_deg": 20.0, "roll_deg": 20.0, "pitch_deg": 10.0},
        {"yaw_deg": -30.0, "roll_deg": 20.0, "pitch_deg": -20.0},
    ],
)
def test_a_turned_head_is_split_in_its_middle(pose):
    truth = AnalyticHead(**pose)
    assert_agrees(find_plane(make_scan(truth)), truth)


@pytest.mark.parametrize(
    "grid",
    [
        {"tilt_deg": 25.0},
        {"tilt_deg": -20.0},
        {"step_mm": 1.5, "reach_mm": (-20.0, 60.0)},
        {"step_mm": [2.5] * 20 + [7.0] * 14},
        {"row": (-1, 0, 0)},
        {"column": (0, -1, 0)},
        {"row": (0, 1, 0), "column": (-1, 0, 0), "shape": (200, 230)},
        {"row": (0.995, 0.0998, 0)},
    ],
)
def test_tilt_spacing_and_order_of_axes_do_not_matter(grid):
    truth = AnalyticHead(yaw_deg=12, roll_deg=-7, falx=True)
    if "row" in grid and "column" not in grid:
        grid["column"] = tuple(np.cross((0, 0, 1), np.abs(grid["row"])))
    planes = make_axial_planes(**grid)
    assert_agrees(find_plane(make_scan(truth, planes, grid.get("shape", (230, 200)))), truth)


@pytest.mark.parametrize("shift_mm", [-15.0, 15.0])
def test_displaced_tissue_inside_of_the_skull_does_not_move_the_plane(shift_mm):
    lesion = Ellipsoid((-np.sign(shift_mm) * 40, -5, 10), (16, 24, 18))
    truth = AnalyticHead(shift_mm=shift_mm, falx=True, lesions=(lesion,), yaw_deg=8)
    assert_agrees(find_plane(make_scan(truth)), truth)


@pytest.mark.parametrize("falx", [False, True])
@pytest.mark.parametrize("narrow", [(1.0, 0.92), (0.92, 1.0)])
def test_a_narrower_half_of_the_skull_does_not_move_the_plane_off_the_falx(narrow, falx):
    truth = AnalyticHead(narrow=narrow, falx=falx, yaw_deg=-10)
    assert_agrees(find_plane(make_scan(truth)), truth)


def test_the_falx_corrects_the_plane_of_an_asymmetric_skull():
    """Less than the error from the skull alone, where the mean of both halves is 0.04 x 66 mm = 2.6 mm off."""
    truth = AnalyticHead(narrow=(1.0, 0.92), falx=True)
    assert_agrees(find_plane(make_scan(truth)), truth, mm=0.7)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_missing_bone_flap_changes_only_the_asymmetry(side):
    truth = AnalyticHead(opening=side, shift_mm=6, yaw_deg=15, roll_deg=5)
    plane = find_plane(make_scan(truth))
    assert_agrees(plane, truth)
    whole = find_plane(make_scan(replace(truth, opening=None)))
    assert plane.asymmetry > whole.asymmetry + 0.1


def test_a_field_of_view_that_cuts_one_side_off_does_not_matter():
    truth = AnalyticHead(yaw_deg=6, falx=True)
    scan = make_scan(truth)
    cut = scan.hu.copy()
    cut[:, :, 165:] = -1000
    assert_agrees(find_plane(replace(scan, hu=cut)), truth)


def test_one_slice_is_split_upright_on_itself():
    truth = AnalyticHead(yaw_deg=15)
    plane = find_plane(make_scan(truth, make_axial_planes(reach_mm=(8.0, 9.0))))
    assert_agrees(plane, truth)
    assert plane.normal[2] == pytest.approx(0, abs=1e-3)


def test_half_a_head_is_not_reliable():
    scan = make_scan(AnalyticHead())
    cut = scan.hu.copy()
    cut[:, :, 92:] = -1000
    plane = find_plane(replace(scan, hu=cut))
    assert plane is None or not plane.reliable


def test_left_is_positive_wherever_the_head_lies():
    truth = AnalyticHead(yaw_deg=25, roll_deg=-10)
    plane = find_plane(make_scan(truth, make_axial_planes(row=(-1, 0, 0))))
    sides = plane.distance_mm(truth.to_lps_mm(np.array([[[40.0, 0, 0], [-40.0, 10, 5]]])))
    assert sides.shape == (1, 2)
    assert sides[0] == pytest.approx([40, -40], abs=2)


def test_samples_are_recovered_from_their_positions():
    """`to_sample_indices` inverts `sample_positions_mm`, and maps pixels to fractions of samples."""
    scan = make_scan(AnalyticHead(), make_axial_planes([3.0] * 10 + [6.0] * 8, tilt_deg=15))
    coarse = coarse_head.sample_head(scan, np.zeros(scan.shape, dtype=bool))
    grid = np.indices(coarse.hu.shape)
    assert coarse.to_sample_indices(coarse.sample_positions_mm()) == pytest.approx(grid, abs=1e-6)
    pixel = coarse.samples.pixel_step
    first = compute_points_mm(scan.planes, scan.shape[1:])[coarse.slices[3]][0, 0]
    assert coarse.to_sample_indices(first) == pytest.approx([3, *2 * (-(pixel - 1) / 2 / pixel,)], abs=1e-6)


def test_forty_slices_take_less_than_80_ms():
    scan = make_scan(AnalyticHead(yaw_deg=10), make_axial_planes(4.0, reach_mm=(-70.0, 90.0)))
    coarse = coarse_head.sample_head(scan, np.zeros(scan.shape, dtype=bool))
    durations = []
    for _ in range(7):
        start = time.process_time()
        midplane.find_midplane(coarse)
        durations.append(time.process_time() - start)
    assert min(durations) < 0.08 * measure_slowdown()
