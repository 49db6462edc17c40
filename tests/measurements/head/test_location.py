"""Side and part of the brain on heads in any pose: correct if stated, "unsure" without evidence."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from phantoms import analytic_head
from phantoms.shapes import compute_points_mm
from phantoms.template_head import TemplateHead, make_planes
from strokeseg.imaging.components import label
from strokeseg.measurements.head import midplane
from strokeseg.measurements.head.coarse_head import sample_head
from strokeseg.measurements.head.location import locate_lesions
from strokeseg.result import Remark
from strokeseg.scan import Planes, Scan

SHAPE, PIXEL_MM = (124, 104), 2.0
STEP = np.arange(-72, 92, 6.0)
POSES = {
    "straight": (TemplateHead(), make_planes(STEP, SHAPE, PIXEL_MM)),
    "turned": (TemplateHead((0.92, 0.95, 1.0), 10, -6, 14), make_planes(STEP, SHAPE, PIXEL_MM)),
    "feet first, tilted": (
        TemplateHead((1.05, 0.93, 0.9), -12, 5, -12),
        make_planes(-STEP[::-1], SHAPE, PIXEL_MM, row=(-1, 0, 0), tilt_deg=15),
    ),
}
# Centre of a ball in the template's frame, mm, x to the left; its radius, mm; its location in radiological terms.
LESIONS = {
    "putamen": ((27, 0, 2), 12, ("left", "supratentorial", "deep")),
    "thalamus": ((-12, -19, 6), 9, ("right", "supratentorial", "deep")),
    "large, basal ganglia": ((-28, -2, 5), 20, ("right", "supratentorial", "deep")),
    "frontal lobe": ((38, 35, 25), 13, ("left", "supratentorial", "lobar")),
    "parietal lobe": ((30, -45, 50), 12, ("left", "supratentorial", "lobar")),
    "occipital lobe": ((-25, -80, 8), 12, ("right", "supratentorial", "lobar")),
    "temporal lobe": ((-50, -20, -15), 10, ("right", "supratentorial", "lobar")),
    "cerebellar hemisphere": ((25, -65, -40), 12, ("left", "infratentorial", "cerebellum")),
    "vermis": ((0, -65, -30), 9, ("midline", "infratentorial", "cerebellum")),
    "pons": ((0, -26, -33), 8, ("midline", "infratentorial", "brainstem")),
}


@cache
def make_bare_scan(pose):
    head, grid = POSES[pose]
    return head.make_scan(grid, SHAPE)


def add_blood(scan, mask):
    return replace(scan, hu=np.where(mask, 65, scan.hu).astype(np.int16))


def locate(scan, mask):
    labels, count = label(mask, scan)
    head = sample_head(scan, mask)
    return locate_lesions(labels, count, head, midplane.find_midplane(head))


def location_words(lesion):
    return lesion.side, lesion.tentorium, lesion.place


@pytest.mark.parametrize("pose", ["turned", "feet first, tilted"])
@pytest.mark.parametrize("name", LESIONS)
def test_lesion_is_located_where_it_was_drawn(name, pose):
    centre, radius_mm, expected = LESIONS[name]
    head, grid = POSES[pose]
    mask = head.mark_ball(grid, SHAPE, centre, radius_mm) & (np.abs(make_bare_scan(pose).hu - 30) < 60)
    locations = locate(add_blood(make_bare_scan(pose), mask), mask)
    assert location_words(locations.lesions[0]) == expected
    assert locations.side == expected[0]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    "yaw_deg, roll_deg, pitch_deg, row, column",
    [
        (0, 0, 0, (-1, 0, 0), (0, 1, 0)),
        (20, 0, 0, (1, 0, 0), (0, -1, 0)),
        (-15, 12, 10, (-1, 0, 0), (0, -1, 0)),
        (5, -15, -20, (1, 0, 0), (0, 1, 0)),
        (-20, -8, 5, (-1, 0, 0), (0, 1, 0)),
    ],
)
def test_side_is_the_patients_in_any_pose_and_order(side, yaw_deg, roll_deg, pitch_deg, row, column):
    x = 30.0 if side == "left" else -30.0
    lesion = analytic_head.Ellipsoid((x, -10, 10), (12, 16, 14))
    head = analytic_head.AnalyticHead(lesions=(lesion,), yaw_deg=yaw_deg, roll_deg=roll_deg, pitch_deg=pitch_deg)
    shape = (116, 100)
    grid = analytic_head.make_axial_planes(7.0, pixel_mm=2.0, tilt_deg=10, row=row, column=column, shape=shape)
    inside = (compute_points_mm(grid, shape) - head.middle_mm) @ head.turn
    locations = locate(analytic_head.make_scan(head, grid, shape), lesion.depth_mm(inside) > 0)
    assert locations.side == locations.lesions[0].side == side


def test_lesions_on_both_sides_are_on_both_sides_together():
    head, grid = POSES["turned"]
    mask = head.mark_ball(grid, SHAPE, (30, 20, 20), 9) | head.mark_ball(grid, SHAPE, (-30, 20, 20), 9)
    locations = locate(add_blood(make_bare_scan("turned"), mask), mask)
    assert {lesion.side for lesion in locations.lesions} == {"left", "right"}
    assert locations.side == "both"


def test_one_lesion_across_the_midline_is_on_both_sides():
    head, grid = POSES["turned"]
    mask = head.mark_ball(grid, SHAPE, (3, 50, 20), (26, 12, 12))
    assert locate(add_blood(make_bare_scan("turned"), mask), mask).lesions[0].side == "both"


def crescent(points, side, thick_mm, most_mm):
    """Mark a layer inside of the analytic skull, thickest at the side, extending most_mm to the front and the back."""
    inner = analytic_head.Ellipsoid((0, 0, 0), tuple(analytic_head.INNER_MM)).depth_mm(points)
    extent = np.sqrt((points[..., 1] / most_mm) ** 2 + ((points[..., 2] - 10) / 50) ** 2)
    return (inner > 0) & (inner < thick_mm * (1 - extent**2)) & (points[..., 0] * (1 if side == "left" else -1) > 20)


@pytest.mark.parametrize("slices", ["all", "one"])
@pytest.mark.parametrize("thick_mm, most_mm", [(8, 70), (20, 45)], ids=["crescent", "lens"])
def test_layer_at_the_skull_is_extra_axial(thick_mm, most_mm, slices):
    head = analytic_head.AnalyticHead(yaw_deg=10, roll_deg=5)
    shape = (150, 130)
    grid = analytic_head.make_axial_planes(5.0, pixel_mm=1.5, shape=shape)
    if slices == "one":
        grid = Planes(grid.positions_mm[14:15], grid.row_cosine, grid.column_cosine, grid.pixel_spacing_mm, 5.0)
    mask = crescent((compute_points_mm(grid, shape) - head.middle_mm) @ head.turn, "right", thick_mm, most_mm)
    locations = locate(add_blood(analytic_head.make_scan(head, grid, shape), mask), mask)
    assert (locations.lesions[0].side, locations.lesions[0].place) == ("right", "extra-axial")


def test_ball_that_touches_the_skull_is_not_extra_axial():
    head = analytic_head.AnalyticHead(yaw_deg=10, roll_deg=5)
    shape = (150, 130)
    grid = analytic_head.make_axial_planes(5.0, pixel_mm=1.5, shape=shape)
    ball = analytic_head.Ellipsoid((analytic_head.INNER_MM[0] - 15, 0, 8), (15, 15, 15))
    mask = ball.depth_mm((compute_points_mm(grid, shape) - head.middle_mm) @ head.turn) > 0
    locations = locate(add_blood(analytic_head.make_scan(head, grid, shape), mask), mask)
    assert locations.lesions[0].side == "left"
    assert locations.lesions[0].place != "extra-axial"


def test_sheet_along_the_falx_is_extra_axial_and_on_the_midline():
    head, grid = POSES["turned"]
    mask = head.mark_ball(grid, SHAPE, (2.5, -30, 50), (3.5, 40, 14))
    locations = locate(add_blood(make_bare_scan("turned"), mask), mask)
    assert (locations.lesions[0].side, locations.lesions[0].place) == ("midline", "extra-axial")


def test_lesion_on_one_slice_has_a_side_and_no_place():
    head, grid = POSES["straight"]
    one = Planes(grid.positions_mm[15:16], grid.row_cosine, grid.column_cosine, grid.pixel_spacing_mm, 5.0)
    mask = head.mark_ball(one, SHAPE, head.to_template_mm(one.positions_mm[0]) * 0 + (30, 10, 5), 14)
    assert mask.any()
    locations = locate(add_blood(head.make_scan(one, SHAPE), mask), mask)
    assert location_words(locations.lesions[0]) == ("left", "unsure", "unsure")
    assert locations.ventricular_blood is None


def test_pictures_without_a_spacing_have_a_side_and_no_place():
    head, grid = POSES["straight"]
    mask = head.mark_ball(grid, SHAPE, (30, 0, 5), 14)
    picture = Scan.from_array(add_blood(make_bare_scan("straight"), mask).hu, calibrated=False, kind="pictures")
    locations = locate(picture, mask)
    assert location_words(locations.lesions[0]) == ("left", "unsure", "unsure")
    assert locations.ventricular_blood is None


def test_side_that_the_input_does_not_state_is_unsure():
    """The midline does not depend on left and right."""
    head, grid = POSES["straight"]
    remark = Remark(code="assumed-sides", severity="warning", message="")
    for centre, expected in (((30, 0, 5), "unsure"), ((0, -26, -33), "midline")):
        mask = head.mark_ball(grid, SHAPE, centre, 8)
        scan = add_blood(make_bare_scan("straight"), mask).with_remarks(remark)
        assert locate(scan, mask).lesions[0].side == expected


def test_unreliable_plane_gives_a_side_only_far_from_it():
    head, grid = POSES["straight"]
    for x, expected in ((45, "left"), (-45, "right"), (14, "unsure")):
        mask = head.mark_ball(grid, SHAPE, (x, 0, 20), 9)
        coarse = sample_head(add_blood(make_bare_scan("straight"), mask), mask)
        labels, count = label(mask, coarse.scan)
        plane = replace(midplane.find_midplane(coarse), reliable=False)
        assert locate_lesions(labels, count, coarse, plane).lesions[0].side == expected


def test_without_a_plane_or_a_lesion_the_location_is_unsure():
    head, grid = POSES["straight"]
    mask = head.mark_ball(grid, SHAPE, (30, 0, 5), 14)
    coarse = sample_head(add_blood(make_bare_scan("straight"), mask), mask)
    locations = locate_lesions(*label(mask, coarse.scan), coarse, None)
    assert location_words(locations.lesions[0]) == ("unsure", "unsure", "unsure")
    none = locate_lesions(*label(mask & False, coarse.scan), coarse, midplane.find_midplane(coarse))
    assert none.lesions == () and none.side is None
    assert none.ventricular_blood.total_ml == 0 and not none.ventricular_blood.present


def test_single_pixels_are_located_without_an_error():
    head, grid = POSES["straight"]
    ball = head.mark_ball(grid, SHAPE, (30, 0, 5), 14)
    mask = np.zeros_like(ball)
    mask[tuple(np.argwhere(ball)[len(np.argwhere(ball)) // 2])] = True
    assert locate(add_blood(make_bare_scan("straight"), mask), mask).lesions[0].side == "left"
