"""Volumes, diameters, ABC/2 and surfaces, compared with analytic solids and other libraries."""

import itertools
import time

import numpy as np
import pytest
import SimpleITK
from scipy import ndimage
from skimage.measure import regionprops

from phantoms import shapes
from slowdown import measure_slowdown
from strokeseg.imaging.components import iterate_components, label
from strokeseg.measurements.lesion.abc2 import abc2_differs, abc2_ml
from strokeseg.measurements.lesion.shape import MIN_PIXELS, density_hu, max_diameter_mm, sphericity, surface_mm2
from strokeseg.measurements.lesion.signs import detect_signs
from strokeseg.measurements.lesion.volume import centroid_lps_mm, volume_ml
from strokeseg.scan import Planes

SHAPE = (190, 190)
PIXEL = (0.5, 0.45)


def a_stack(tilt=0.0, head=(0.0, 0.0), uneven=False, step=1.25, seed=0):
    """Build planes around the origin for solids up to 70 mm: tilted, rotated (degrees), or unevenly spaced."""
    rng = np.random.default_rng(seed)
    gaps = rng.uniform(0.7, 1.3, round(80 / step)) * step if uneven else np.full(round(80 / step), step)
    places = np.cumsum(gaps) - gaps.sum() / 2 + rng.uniform(-0.5, 0.5) * step
    about_y, about_x = np.radians(head)
    row = np.array([np.cos(about_y), 0, -np.sin(about_y)])
    column = np.array([np.sin(about_x) * np.sin(about_y), np.cos(about_x), np.sin(about_x) * np.cos(about_y)])
    corner = -(SHAPE[0] / 2 * PIXEL[0] * column + SHAPE[1] / 2 * PIXEL[1] * row)
    return shapes.make_planes(places, PIXEL, tilt_deg=tilt, row=row, column=column, origin=corner)


def a_scan(planes, shape=SHAPE, **more):
    return shapes.make_scan(planes, shape, **more)


def a_ball(planes, radius, at=(0, 0, 0)):
    return shapes.mark_ellipsoid(planes, SHAPE, at, (radius,) * 3)


STACKS = {
    "straight": {},
    "tilt 15": {"tilt": 15.0},
    "tilt 30, uneven": {"tilt": 30.0, "uneven": True},
    "turned 30": {"head": (30.0, 0.0)},
    "turned, tilted, uneven": {"tilt": -20.0, "head": (20.0, -30.0), "uneven": True},
}
every_stack = pytest.mark.parametrize("given", list(STACKS.values()), ids=list(STACKS))


def lens_mm3(big, small, apart):
    """Return the volume of the intersection of two balls."""
    return (
        np.pi
        * (big + small - apart) ** 2
        * (apart**2 + 2 * apart * (big + small) - 3 * (big - small) ** 2)
        / (12 * apart)
    )


def section_mm(half, normal):
    """Return the longest diameter of an ellipsoid's section through its centre."""
    across = np.linalg.svd(normal[None])[2][1:]
    return 2 / np.sqrt(np.linalg.eigvalsh(across @ np.diag(1 / np.asarray(half) ** 2) @ across.T).min())


def ellipsoid_mm2(half):
    """Return the surface of an ellipsoid as the sum of patches."""
    a, b, c = half
    polar, turn = (np.arange(1500)[:, None] + 0.5) * np.pi / 1500, (np.arange(1500) + 0.5) * 2 * np.pi / 1500
    patch = np.sin(polar) * np.sqrt(
        (b * c * np.sin(polar) * np.cos(turn)) ** 2
        + (a * c * np.sin(polar) * np.sin(turn)) ** 2
        + (a * b * np.cos(polar)) ** 2
    )
    return patch.sum() * 2 * np.pi**2 / 1500**2


@every_stack
@pytest.mark.parametrize("half", [(20, 20, 20), (30, 18, 15), (12, 25, 20)])
def test_an_ellipsoid_keeps_volume_diameter_centre_and_surface(half, given):
    planes = a_stack(**given)
    scan, centre = a_scan(planes), np.array([1.3, -0.7, 0.4])
    mask = shapes.mark_ellipsoid(planes, SHAPE, centre, half)
    assert volume_ml(mask, scan) == pytest.approx(4 / 3 * np.pi * np.prod(half) / 1000, rel=0.01)
    assert max_diameter_mm(mask, scan) == pytest.approx(section_mm(half, planes.normal), abs=np.hypot(*PIXEL))
    assert centroid_lps_mm(mask, scan) == pytest.approx(centre, abs=0.2)
    assert surface_mm2(mask, scan) == pytest.approx(ellipsoid_mm2(half), rel=0.02)


@every_stack
def test_a_crescent_keeps_volume_and_diameter(given):
    """A ball of 30 mm without its intersection with a ball of 28 mm, 9 mm beside it."""
    planes = a_stack(**given)
    scan = a_scan(planes)
    mask = a_ball(planes, 30) & ~a_ball(planes, 28, (0, 9, 0))
    volume = 4 / 3 * np.pi * 30**3 - lens_mm3(30, 28, 9)
    assert volume_ml(mask, scan) == pytest.approx(volume / 1000, rel=0.01)
    assert max_diameter_mm(mask, scan) == pytest.approx(60, abs=np.hypot(*PIXEL))


@every_stack
def test_a_ring_keeps_volume_and_surface(given):
    """A torus: 2 pi² R r² and 4 pi² R r."""
    planes = a_stack(**given)
    points = shapes.compute_points_mm(planes, SHAPE)
    mask = (np.hypot(points[..., 0], points[..., 1]) - 22) ** 2 + points[..., 2] ** 2 <= 9**2
    scan = a_scan(planes)
    assert volume_ml(mask, scan) == pytest.approx(2 * np.pi**2 * 22 * 9**2 / 1000, rel=0.01)
    assert surface_mm2(mask, scan) == pytest.approx(4 * np.pi**2 * 22 * 9, rel=0.03)


@every_stack
def test_several_lesions_are_measured_each_for_itself(given):
    planes = a_stack(**given)
    scan = a_scan(planes)
    balls = [(15, (-14, -8, 3)), (11, (16, 12, -5)), (7, (18, -20, 10))]
    mask = np.logical_or.reduce([a_ball(planes, radius, at) for radius, at in balls])
    labels, count = label(mask, scan)
    assert count == 3
    for (part, cut, _), (radius, at) in zip(iterate_components(labels, scan), balls, strict=True):
        assert volume_ml(part, cut) == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.015)
        assert centroid_lps_mm(part, cut) == pytest.approx(at, abs=0.2)
        assert max_diameter_mm(part, cut) == pytest.approx(2 * radius, abs=np.hypot(*PIXEL))
        assert surface_mm2(part, cut) == pytest.approx(4 * np.pi * radius**2, rel=0.02)


@pytest.mark.parametrize(("step", "most"), [(1.0, 0.02), (2.5, 0.03), (5.0, 0.08)])
@pytest.mark.parametrize("radius", [10, 12.5, 15, 20])
def test_the_surface_of_balls(radius, step, most):
    """Within 3 % up to 2.5 mm. On slices of 5 mm a ball of 10 mm lies on four: up to 8 % too small."""
    for seed, tilt in enumerate((0.0, 18.5, 30.0, 0.0)[: 2 if step == 1 else 4]):
        planes = a_stack(tilt=tilt, step=step, seed=seed)
        mask = a_ball(planes, radius)
        assert surface_mm2(mask, a_scan(planes)) == pytest.approx(4 * np.pi * radius**2, rel=most)


def test_a_balls_sphericity_is_one_and_a_rods_is_not():
    """A cylinder 60 mm long, 8 mm wide: 3016 mm3 and 1609 mm2, so 0.63."""
    planes = a_stack(step=1.0)
    scan = a_scan(planes)
    ball = a_ball(planes, 15)
    assert sphericity(volume_ml(ball, scan), surface_mm2(ball, scan)) == pytest.approx(1, abs=0.01)
    points = shapes.compute_points_mm(planes, SHAPE)
    rod = (np.hypot(points[..., 0], points[..., 1]) <= 4) & (np.abs(points[..., 2]) <= 30)
    expected = np.cbrt(36 * np.pi * 3016**2) / 1609
    assert sphericity(volume_ml(rod, scan), surface_mm2(rod, scan)) == pytest.approx(expected, rel=0.03)
    assert sphericity(10.0, 1.0) == 1.0
    assert sphericity(None, 1.0) is None and sphericity(1.0, None) is None and sphericity(0.0, 0.0) is None


def test_a_single_slice_is_a_plate_as_thick_as_its_weight():
    """A disc of 12 mm: 2 pi r² + 2 pi r x 5 mm."""
    planes = shapes.make_planes([0.0], PIXEL, origin=(-40, -40, 0))
    mask = a_ball(planes, 12)
    assert surface_mm2(mask, a_scan(planes)) == pytest.approx(2 * np.pi * 144 + 2 * np.pi * 12 * 5, rel=0.01)
    assert volume_ml(mask, a_scan(planes)) == pytest.approx(np.pi * 144 * 5 / 1000, rel=0.01)


def test_what_lies_on_both_sides_of_missing_slices_has_two_surfaces():
    planes = shapes.make_planes([0, 5, 10, 22, 27, 32], PIXEL, origin=(-40, -40, 0))
    points = shapes.compute_points_mm(planes, SHAPE)
    rod = np.hypot(points[..., 0], points[..., 1]) <= 10
    low, high = rod.copy(), rod.copy()
    low[3:], high[:3] = False, False
    scan = a_scan(planes)
    assert planes.gaps_with_missing_slices[2]
    assert surface_mm2(rod, scan) == pytest.approx(surface_mm2(low, scan) + surface_mm2(high, scan))


def test_the_outlines_length_and_the_area_agree_with_simpleitk():
    """On one slice of 1 mm, the surface without the two faces is the outline."""
    for seed in range(4):
        plane = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((120, 120)), 7) > 0.02
        parts, _ = ndimage.label(plane)
        plane = parts == np.bincount(parts.ravel())[1:].argmax() + 1
        image = SimpleITK.GetImageFromArray(plane.astype(np.uint8))
        image.SetSpacing((0.45, 0.45))
        statistics = SimpleITK.LabelShapeStatisticsImageFilter()
        statistics.ComputePerimeterOn()
        statistics.ComputeFeretDiameterOn()
        statistics.Execute(image)
        planes = Planes(np.zeros((1, 3)), np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), (0.45, 0.45), 1.0)
        scan = a_scan(planes, plane.shape)
        assert volume_ml(plane[None], scan) == pytest.approx(statistics.GetPhysicalSize(1) / 1000)
        outline = surface_mm2(plane[None], scan) - 2 * statistics.GetPhysicalSize(1)
        assert outline == pytest.approx(statistics.GetPerimeter(1), rel=0.02)
        assert max_diameter_mm(plane[None], scan) == pytest.approx(statistics.GetFeretDiameter(1), abs=0.65)
        feret = regionprops(plane.astype(int))[0].feret_diameter_max * 0.45
        assert max_diameter_mm(plane[None], scan) == pytest.approx(feret, abs=0.65)


@every_stack
def test_abc2_of_a_ball_is_what_a_hand_gets(given):
    """A = B = 40 mm on the middle slice; a slice z mm from it has 1 - (z / 20)² of its area."""
    planes = a_stack(step=5.0, **given)
    mask = a_ball(planes, 20)
    z = planes.along_normal_mm
    area = np.clip(1 - (z / 20) ** 2, 0, None)
    area = area / area.max()
    assert (np.abs(area - 0.75) > 0.01).all() and (np.abs(area - 0.25) > 0.01).all()
    c_mm = planes.weights_mm[area > 0.75].sum() + planes.weights_mm[(area > 0.25) & (area < 0.75)].sum() / 2
    across = 2 * np.sqrt(400 - np.abs(z).min() ** 2)
    assert abc2_ml(mask, a_scan(planes)) == pytest.approx(across**2 * c_mm / 2000, rel=0.03)


def test_b_of_a_crescent_is_its_thickness():
    """A disc of 30 mm without one of 34 mm, 16 mm beside it: tips at y = 30 and -30, so A is 60, and 12 mm thick.

    Its hull is 30 mm wide.
    """
    planes = shapes.make_planes([0.0], (0.25, 0.25), origin=(-40, -40, 0))
    points = shapes.compute_points_mm(planes, (320, 320))
    mask = (np.hypot(points[..., 0], points[..., 1]) <= 30) & (np.hypot(points[..., 0] - 16, points[..., 1]) > 34)
    assert abc2_ml(mask, a_scan(planes, (320, 320))) == pytest.approx(60 * 12 * 5 / 2000, rel=0.03)


def test_b_of_a_ring_counts_its_hole_as_inside():
    planes = shapes.make_planes([0.0], (0.25, 0.25), origin=(-40, -40, 0))
    radius = np.hypot(*np.moveaxis(shapes.compute_points_mm(planes, (320, 320))[..., :2], -1, 0))
    mask = (radius <= 20) & (radius >= 15)
    assert abc2_ml(mask, a_scan(planes, (320, 320))) == pytest.approx(40 * 40 * 5 / 2000, rel=0.02)


def test_b_does_not_run_through_what_is_not_the_lesion():
    """A ring of 16 to 20 mm, open on one side: its longest unbroken line is a tangent's, 2 sqrt(20² - 16²) = 24 mm.

    The 32 mm across its middle are open to the outside.
    """
    planes = shapes.make_planes([0.0], (0.25, 0.25), origin=(-40, -40, 0))
    points = shapes.compute_points_mm(planes, (320, 320))
    radius, angle = np.hypot(points[..., 0], points[..., 1]), np.arctan2(points[..., 1], points[..., 0])
    mask = (radius <= 20) & (radius >= 16) & (np.abs(angle) > np.radians(20))
    assert abc2_ml(mask, a_scan(planes, (320, 320))) == pytest.approx(40 * 24 * 5 / 2000, rel=0.03)


@pytest.mark.parametrize("seed", range(8))
def test_b_is_the_longest_run_that_stepping_along_lines_finds(seed):
    """Random blobs; here A is the maximum over all pairs of corners, and B is sampled at 0.02 mm; ties for A count."""
    rng = np.random.default_rng(seed)
    plane = ndimage.gaussian_filter(rng.standard_normal((40, 40)), 3) > 0.02
    parts, _ = ndimage.label(plane)
    plane = ndimage.binary_fill_holes(parts == np.bincount(parts.ravel())[1:].argmax() + 1)
    spacing = np.array([0.8, 0.5])
    corners = (np.argwhere(plane)[:, None] + np.array(list(itertools.product((0, 1), (0, 1))))).reshape(-1, 2) * spacing
    corners = np.unique(corners, axis=0)
    apart = corners[:, None] - corners
    lengths = np.linalg.norm(apart, axis=2)
    diameters = []
    for along in np.unique(np.round(apart[lengths > lengths.max() - 1e-9] / lengths.max(), 9), axis=0):
        steps = np.arange(-40, 40, 0.02)[:, None] * np.array([-along[1], along[0]])
        runs = [0]
        for place in np.arange((corners @ along).min(), (corners @ along).max(), 0.05):
            line = np.floor((place * along + steps) / spacing).astype(int)
            inside = ((line >= 0) & (line < 40)).all(1)
            inside[inside] = plane[tuple(line[inside].T)]
            ends = np.flatnonzero(np.diff(np.concatenate([[0], inside, [0]])))
            runs.append(int(np.diff(ends)[::2].max(initial=0)))
        diameters.append(max(runs) * 0.02)
    planes = Planes(np.zeros((1, 3)), np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), (0.8, 0.5), 5.0)
    b_mm = abc2_ml(plane[None], a_scan(planes, (40, 40))) * 2000 / 5 / lengths.max()
    assert np.abs(np.array(diameters) - b_mm).min() < 0.4


def test_abc2_differs_from_30_percent_on_and_never_for_tiny_lesions():
    assert not abc2_differs(12.9, 10.0) and abc2_differs(13.1, 10.0)
    assert not abc2_differs(7.1, 10.0) and abc2_differs(6.9, 10.0)
    assert not abc2_differs(0.9, 0.4) and abc2_differs(0.9, 0.6)
    assert not abc2_differs(None, 10.0) and not abc2_differs(10.0, None) and not abc2_differs(0.0, 0.0)


def test_density_counts_every_slice_by_its_weight():
    """A slice of weight 2 with 40 HU and one of weight 4 with 70: mean 60, sd sqrt((2 x 400 + 4 x 100) / 6)."""
    planes = shapes.make_planes([0, 2, 8, 14], (1, 1))
    hu = np.zeros((4, 8, 8))
    hu[0], hu[1] = 40, 70
    mask = np.zeros(hu.shape, bool)
    mask[:2, 2:7, 2:4] = True
    assert planes.weights_mm[:2] == pytest.approx([2, 4])
    assert density_hu(mask, a_scan(planes, (8, 8), hu=hu)) == pytest.approx((60, np.sqrt(1200 / 6)))
    assert density_hu(mask, a_scan(planes, (8, 8), hu=hu, calibrated=False)) is None
    assert density_hu(np.zeros_like(mask), a_scan(planes, (8, 8), hu=hu)) is None
    mask[0, 2, 2] = False
    mean, deviation = density_hu(mask, a_scan(planes, (8, 8), hu=hu))
    assert mean == pytest.approx((18 * 40 + 40 * 70) / 58) and deviation is None


MEASURES = [volume_ml, centroid_lps_mm, abc2_ml, max_diameter_mm, surface_mm2, density_hu]


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("mask", [np.zeros((3, 8, 9), bool), np.zeros((8, 8), bool), np.full((3, 8, 8), np.nan)])
def test_a_mask_that_does_not_fit_is_refused(measure, mask):
    with pytest.raises(ValueError, match="the mask"):
        measure(mask, a_scan(shapes.make_planes([0, 5, 10], (1, 1)), (8, 8)))


@pytest.mark.parametrize("measure", MEASURES)
def test_an_empty_mask_is_zero_or_none(measure):
    scan = a_scan(shapes.make_planes([0, 5, 10], (1, 1)), (8, 8))
    assert measure(np.zeros(scan.shape, bool), scan) in (0.0, None)


@pytest.mark.parametrize("measure", [volume_ml, centroid_lps_mm, abc2_ml, max_diameter_mm, surface_mm2])
def test_without_spacing_nothing_is_measured(measure):
    scan = a_scan(shapes.make_planes([0, 5, 10], (1, 1)), (8, 8), spacing_known=False)
    assert measure(np.ones(scan.shape, bool), scan) is None


@pytest.mark.parametrize("measure", [volume_ml, centroid_lps_mm, abc2_ml, surface_mm2])
def test_one_slice_of_unknown_thickness_has_lengths_and_no_volume(measure):
    planes = Planes(np.zeros((1, 3)), np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), (3, 4))
    scan = a_scan(planes, (8, 8))
    mask = np.ones(scan.shape, bool)
    assert measure(mask, scan) is None
    assert max_diameter_mm(mask, scan) == pytest.approx(40)


@pytest.mark.parametrize("tilt", [0.0, 20.0])
def test_a_mask_that_fills_the_scan_is_a_block(tilt):
    """80 x 60 mm, 40 mm high. Its end slices are capped like a ball's, 7 % less than a block's surface."""
    planes = shapes.make_planes(np.arange(8) * 5.0, (1, 1), tilt_deg=tilt)
    scan = a_scan(planes, (80, 60))
    mask = np.ones(scan.shape, bool)
    assert volume_ml(mask, scan) == pytest.approx(80 * 60 * 40 / 1000)
    assert max_diameter_mm(mask, scan) == pytest.approx(100)
    if tilt == 0:
        assert surface_mm2(mask, scan) == pytest.approx(2 * 80 * 60 + 2 * 140 * 40, rel=0.08)


def test_a_few_pixels_have_no_surface():
    scan = a_scan(shapes.make_planes([0, 5, 10], (1, 1)), (8, 8))
    mask = np.zeros(scan.shape, bool)
    mask[:, 2:6, 2:7] = True
    assert mask[0].sum() == MIN_PIXELS and surface_mm2(mask, scan) is not None
    mask[:, 2, 2] = False
    assert surface_mm2(mask, scan) is None and volume_ml(mask, scan) > 0


def test_all_of_it_is_quick():
    """40 x 512 x 512, three lesions of 5 to 60 ml: a quarter of a second of processor time, signs included."""
    grid = shapes.make_planes(np.arange(40) * 4.0, (1.8, 1.8), tilt_deg=18.5, origin=(0, 0, 0))
    planes = shapes.make_planes(np.arange(40) * 4.0, (0.45, 0.45), tilt_deg=18.5, origin=(0, 0, 0))
    lean = np.tan(np.radians(18.5))
    mask = np.zeros((40, 128, 128), bool)
    for (x, y, z), half in [
        ((80, 90, 80), (30, 25, 20)),
        ((150, 130, 70), (20, 16, 14)),
        ((100, 170, 100), (12, 10, 10)),
    ]:
        mask |= shapes.mark_ellipsoid(grid, (128, 128), (x, y - 20 + lean * z, z), half)
    mask = mask.repeat(4, axis=1).repeat(4, axis=2)
    hu = np.random.default_rng(0).normal(60, 5, (4, 512, 512))
    scan = a_scan(planes, (512, 512), hu=np.tile(hu, (10, 1, 1)))
    spent = []
    for _ in range(3):
        start = time.process_time()
        labels, count = label(mask, scan)
        for part, cut, _ in iterate_components(labels, scan):
            for measure in (*MEASURES, detect_signs):
                assert measure(part, cut) is not None
        spent.append(time.process_time() - start)
    print(f"{count} lesions: {1000 * min(spent):.0f} ms")
    assert count == 3 and min(spent) < 0.25 * measure_slowdown()
