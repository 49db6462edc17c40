"""The atlas has the parts of the brain at their anatomical position, also on heads of another pose and size."""

from dataclasses import replace
from functools import cache
from importlib import resources

import numpy as np
import pytest
from scipy.interpolate import interpn

from phantoms import analytic_head
from phantoms.template_head import TemplateHead, make_planes
from strokeseg.measurements.head import atlas, midplane
from strokeseg.measurements.head.coarse_head import sample_head
from strokeseg.measurements.head.inner_table import InnerTable
from strokeseg.scan import Planes

SHAPE, PIXEL_MM = (164, 136), 1.5
# Centres in MNI space from anatomy and imaging papers, rounded: |x|, y, z and the part of the brain.
PLACES = {
    "putamen": ((26, 2, 2), "deep"),
    "pallidum": ((19, -4, 0), "deep"),
    "thalamus": ((12, -18, 7), "deep"),
    "caudate head": ((12, 14, 8), "deep"),
    "internal capsule": ((20, -12, 8), "deep"),
    "hand knob": ((38, -22, 56), "lobar"),
    "frontal pole": ((24, 60, 6), "lobar"),
    "insula": ((42, 4, 2), "lobar"),
    "temporal pole": ((40, 14, -32), "lobar"),
    "hippocampus": ((28, -20, -16), "lobar"),
    "visual cortex": ((10, -84, 4), "lobar"),
    "fusiform gyrus": ((38, -50, -16), "lobar"),
    "dentate nucleus": ((16, -58, -34), "cerebellum"),
    "cerebellar lobule VI": ((24, -62, -24), "cerebellum"),
    "vermis": ((0, -64, -24), "cerebellum"),
    "midbrain": ((4, -26, -12), "brainstem"),
    "pons": ((0, -26, -32), "brainstem"),
    "medulla": ((0, -40, -54), "brainstem"),
    "frontal horn": ((8, 16, 12), "ventricle"),
    "body of the lateral ventricle": ((10, -8, 22), "ventricle"),
    "atrium": ((26, -44, 8), "ventricle"),
    "fourth ventricle": ((0, -46, -32), "ventricle"),
}
LANDMARKS = np.array([place for place, _ in PLACES.values()], dtype=float)
STEP = np.arange(-70, 92, 5.0)
POSES = {
    "straight": (TemplateHead(), make_planes(STEP, SHAPE, PIXEL_MM)),
    "turned": (TemplateHead((0.92, 0.95, 1.0), 8, -6, 14), make_planes(STEP, SHAPE, PIXEL_MM)),
    "chin up, narrow steps": (
        TemplateHead((1.05, 0.93, 0.9), -12, 5, -15),
        make_planes(np.arange(-75, 92, 2.5), SHAPE, PIXEL_MM),
    ),
    "gantry tilt": (TemplateHead((0.95, 0.9, 0.95), 0, 0, 5), make_planes(STEP, SHAPE, PIXEL_MM, tilt_deg=18)),
    "feet first": (TemplateHead((0.95, 0.9, 1.0), 5, 0, 5), make_planes(-STEP[::-1], SHAPE, PIXEL_MM, row=(-1, 0, 0))),
    "cut off at the bottom": (TemplateHead((0.95,) * 3, 5, 3, 10), make_planes(STEP[10:], SHAPE, PIXEL_MM)),
    "cut off at the top": (TemplateHead((0.95,) * 3, 5, 3, -10), make_planes(STEP[:-8], SHAPE, PIXEL_MM)),
    "uneven": (
        TemplateHead((0.97, 1.0, 0.93), 0, -8, 8),
        make_planes(np.concatenate([np.arange(-70, -10, 3.0), np.arange(-10, 92, 7.0)]), SHAPE, PIXEL_MM),
    ),
}


@cache
def fit_pose(pose):
    head, grid = POSES[pose]
    coarse = sample_head(head.make_scan(grid, SHAPE), np.zeros((len(grid.positions_mm), *SHAPE), dtype=bool))
    plane = midplane.find_midplane(coarse)
    return head, coarse, plane, atlas.fit_atlas(coarse, plane, InnerTable.from_head(coarse))


def classify(distances):
    """Return the part of the brain, in the words of PLACES."""
    if distances["ventricle"] < 0:
        return "ventricle"
    if distances["infratentorial"] < 0:
        return "brainstem" if distances["brainstem"] < 0 else "cerebellum"
    return "deep" if distances["deep"] < 0 else "lobar"


@pytest.mark.parametrize("name", PLACES)
def test_atlas_has_the_parts_at_their_anatomical_position(name):
    point, expected = PLACES[name]
    maps = atlas.load_maps()
    axes = [o + atlas.STEP_MM * np.arange(n) for o, n in zip(atlas.ORIGIN_MM, maps["inside"].shape, strict=True)]
    distances = {name: float(interpn(axes, values, point)[0]) for name, values in maps.items()}
    assert classify(distances) == expected
    assert distances["inside"] < 0


@pytest.mark.slow
def test_atlas_file_is_what_its_command_makes():
    from tools.derive_atlas import derive_atlas

    stored = resources.files("strokeseg.measurements.head").joinpath("atlas.npz")
    derived = derive_atlas()
    with stored.open("rb") as stream, np.load(stream) as arrays:
        assert set(arrays.files) == set(derived)
        for name, values in derived.items():
            np.testing.assert_array_equal(arrays[name], values)
    with resources.as_file(stored) as path:
        assert path.stat().st_size < 200_000


def test_notice_of_the_template_lies_beside_the_atlas():
    notice = resources.files("strokeseg.measurements.head").joinpath("atlas.md").read_text()
    assert "Louis Collins, McConnell Brain Imaging Centre" in notice
    assert "Permission to use, copy, modify, and distribute" in notice


@pytest.mark.parametrize("pose", POSES)
def test_landmarks_are_located_on_heads_of_any_pose_and_size(pose):
    head, _, _, fit = fit_pose(pose)
    for x in (-1, 1):
        true = LANDMARKS * (x, 1, 1)
        points = fit.to_template_mm(head.to_lps_mm(true))
        errors_mm = np.linalg.norm((points - LANDMARKS) * head.scales, axis=1)
        assert errors_mm.max() < 4
        assert np.median(errors_mm) < 2.5


def test_fit_gives_the_size_of_the_head():
    head, _, _, fit = fit_pose("turned")
    np.testing.assert_allclose(fit.scales, head.scales, rtol=0.06)
    assert fit.residual_mm < 1


def test_hole_in_the_skull_does_not_move_the_atlas():
    head, grid = POSES["turned"]
    scan = head.make_scan(grid, SHAPE)
    flap = head.mark_ball(grid, SHAPE, (62, 10, 40), 38)
    scan = replace(scan, hu=np.where(flap & (scan.hu > 200), 40, scan.hu).astype(np.int16))
    coarse = sample_head(scan, np.zeros(scan.shape, dtype=bool))
    fit = atlas.fit_atlas(coarse, midplane.find_midplane(coarse), InnerTable.from_head(coarse))
    points = fit.to_template_mm(head.to_lps_mm(LANDMARKS))
    assert np.linalg.norm(points - LANDMARKS, axis=1).max() < 6


def test_few_slices_give_no_fit():
    head, grid = POSES["straight"]
    for slices in (slice(15, 16), slice(12, 17)):
        few = Planes(grid.positions_mm[slices], grid.row_cosine, grid.column_cosine, grid.pixel_spacing_mm, 5.0)
        scan = head.make_scan(few, SHAPE)
        coarse = sample_head(scan, np.zeros(scan.shape, dtype=bool))
        assert atlas.fit_atlas(coarse, midplane.find_midplane(coarse), InnerTable.from_head(coarse)) is None


def test_unknown_spacing_and_an_unreliable_plane_give_no_fit():
    _, coarse, plane, fit = fit_pose("straight")
    assert fit is not None
    table = InnerTable.from_head(coarse)
    assert atlas.fit_atlas(replace(coarse, scan=replace(coarse.scan, spacing_known=False)), plane, table) is None
    assert atlas.fit_atlas(coarse, replace(plane, reliable=False), table) is None


@pytest.mark.parametrize("half_mm", [(30, 140, 90), (58, 75, 62)], ids=["long", "as large as a head"])
def test_box_gives_no_fit(half_mm):
    _, coarse, plane, _ = fit_pose("straight")
    rng = np.random.default_rng(0)
    box = rng.uniform(-1, 1, (2000, 3))
    face = rng.integers(0, 3, 2000)
    box[np.arange(2000), face] = np.sign(box[np.arange(2000), face])
    box = box * half_mm + plane.point_mm
    assert atlas.fit_atlas(coarse, plane, InnerTable(box, np.zeros_like(box))) is None


def test_distance_from_the_inner_table_is_that_of_an_ellipsoid():
    """A point 10 mm inside of an ellipsoid's surface, along its normal, is 10 mm from it, also on a rotated head."""
    head = analytic_head.AnalyticHead(yaw_deg=12, roll_deg=-8, pitch_deg=10)
    grid = analytic_head.make_axial_planes(5.0, pixel_mm=1.5, shape=(150, 130))
    coarse = sample_head(
        analytic_head.make_scan(head, grid, (150, 130)), np.zeros((len(grid.positions_mm), 150, 130), dtype=bool)
    )
    directions = np.random.default_rng(0).normal(size=(300, 3))
    directions = directions[np.abs(directions[:, 2]) < 0.5 * np.linalg.norm(directions, axis=1)]
    surface = directions / np.linalg.norm(directions / analytic_head.INNER_MM, axis=1)[:, None]
    normals = surface / analytic_head.INNER_MM**2
    normals /= np.linalg.norm(normals, axis=1)[:, None]
    distances = InnerTable.from_head(coarse).distance_mm(head.to_lps_mm(surface - 10 * normals))
    assert np.abs(distances - 10).max() < 1.5
