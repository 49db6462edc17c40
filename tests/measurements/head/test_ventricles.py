"""Blood in the ventricles is distinguished from blood beside them, on heads made of the template in several poses.

The true ventricles are defined here: the template's fluid inside of ellipsoids around the ventricles.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from phantoms.shapes import compute_points_mm
from phantoms.template_head import ORIGIN_MM, TemplateHead, make_planes, make_volume
from strokeseg.imaging.components import label
from strokeseg.measurements.head import atlas, midplane
from strokeseg.measurements.head.coarse_head import sample_head
from strokeseg.measurements.head.inner_table import InnerTable
from strokeseg.measurements.head.location import locate_lesions
from strokeseg.measurements.head.ventricles import Ventricles, find_ventricles, mark_intraventricular
from strokeseg.measurements.lesion_points import LesionPoints
from strokeseg.scan import Scan

SHAPE, PIXEL_MM = (164, 136), 1.5
STEP = np.arange(-72, 92, 5.0)
POSES = {
    "turned": (TemplateHead((0.92, 0.95, 1.0), 10, -6, 14), make_planes(STEP, SHAPE, PIXEL_MM)),
    "feet first, tilted": (
        TemplateHead((1.05, 0.93, 0.9), -12, 5, -12),
        make_planes(-STEP[::-1], SHAPE, PIXEL_MM, row=(-1, 0, 0), tilt_deg=15),
    ),
}
# Ellipsoids in the template's frame that contain a part of the ventricles and no other fluid.
PARTS = {
    "frontal horns and bodies": ((0, -4, 15), (22, 36, 17)),
    "left body": ((12, -12, 18), (10, 24, 12)),
    "atria": ((27, -45, 8), (9, 12, 9)),
    "third": ((0, -12, -1), (4, 14, 8)),
    "fourth": ((0, -42, -33), (12, 12, 12)),
}
# Balls of tissue at the walls of the ventricles; those of 15 mm bulge into them.
BESIDE = {
    "medial thalamus": ((9, -17, 8), 9),
    "thalamus": ((14, -18, 8), 15),
    "caudate": ((-13, 14, 8), 9),
    "caudate, bulging": ((-15, 12, 10), 15),
    "white matter at the atrium": ((36, -44, 8), 13),
    "vermis": ((0, -60, -30), 10),
    "pons": ((0, -26, -32), 9),
}


@cache
def make_bare_scan(pose):
    head, grid = POSES[pose]
    return head.make_scan(grid, SHAPE)


@cache
def mark_fluid(pose):
    """Mark the template's CSF on the scan's pixels, without noise."""
    head, grid = POSES[pose]
    at = np.moveaxis(head.to_template_mm(compute_points_mm(grid, SHAPE)) - ORIGIN_MM + (24, 24, 0), -1, 0)
    hu = ndimage.map_coordinates(make_volume(), at, order=1, mode="constant", cval=-1000)
    return (hu > 0) & (hu < 18)


def mark_part(pose, name):
    head, grid = POSES[pose]
    return mark_fluid(pose) & head.mark_ball(grid, SHAPE, *PARTS[name])


def compute_ml(pose, mask):
    grid = POSES[pose][1]
    return float((mask.sum((1, 2)) * np.abs(np.gradient(grid.along_normal_mm))).sum() * PIXEL_MM**2 / 1000)


def locate(pose, mask):
    scan = replace(make_bare_scan(pose), hu=np.where(mask, 65, make_bare_scan(pose).hu).astype(np.int16))
    head = sample_head(scan, mask)
    return locate_lesions(*label(mask, scan), head, midplane.find_midplane(head))


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("name", PARTS)
def test_blood_that_fills_a_ventricle_is_in_it(name, pose):
    mask = mark_part(pose, name)
    locations = locate(pose, mask)
    assert locations.ventricular_blood.present
    assert locations.ventricular_blood.total_ml == pytest.approx(compute_ml(pose, mask), rel=0.15)
    large = max(range(len(locations.lesions)), key=lambda index: locations.ventricular_blood.lesions_ml[index])
    assert locations.lesions[large].place == "ventricle"


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("name", BESIDE)
def test_lesion_beside_a_ventricle_is_not_in_it(name, pose):
    head, grid = POSES[pose]
    mask = head.mark_ball(grid, SHAPE, *BESIDE[name]) & ~ndimage.binary_dilation(mark_fluid(pose), np.ones((1, 3, 3)))
    locations = locate(pose, mask)
    assert locations.ventricular_blood.total_ml < 0.1 * compute_ml(pose, mask)
    assert locations.lesions[0].place not in ("ventricle", "extra-axial")


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("name", ["thalamus", "caudate, bulging", "white matter at the atrium"])
def test_lesion_that_bulges_into_a_ventricle_is_not_in_it(name, pose):
    """The ball displaces the wall: it takes 0.5 to 2 ml of the ventricle's space, and all of it is tissue."""
    head, grid = POSES[pose]
    mask = head.mark_ball(grid, SHAPE, *BESIDE[name])
    assert (mask & mark_fluid(pose)).any()
    assert locate(pose, mask).ventricular_blood.total_ml < 0.1


def test_lesion_that_breaks_into_the_ventricle_is_split():
    """A ball in the thalamus, and blood in the whole body and frontal horn of the ventricle."""
    pose = "turned"
    head, grid = POSES[pose]
    ball = head.mark_ball(grid, SHAPE, (16, -14, 11), 13)
    horn = mark_fluid(pose) & head.mark_ball(grid, SHAPE, (12, 2, 15), (11, 34, 15))
    mask = ball | horn
    assert label(mask, make_bare_scan(pose))[1] == 1
    locations = locate(pose, mask)
    assert locations.ventricular_blood.lesions_ml[0] == pytest.approx(compute_ml(pose, horn), rel=0.5)
    assert 0.1 < locations.ventricular_blood.lesions_ml[0] / compute_ml(pose, mask) < 0.6
    assert locations.lesions[0].place == "deep"
    assert locations.lesions[0].side == "left"


def test_ventricles_may_be_wider_on_one_side_than_on_the_other():
    """A lesion compresses the ventricle on its side. Two mirrored points lie 4 mm outside of the template's walls."""
    coarse = sample_head(make_bare_scan("turned"), np.zeros(make_bare_scan("turned").shape, dtype=bool))
    fit = atlas.fit_atlas(coarse, midplane.find_midplane(coarse), InnerTable.from_head(coarse))
    along = fit.origin_mm - 12 * fit.forward + 18 * fit.up
    rays = along + np.arange(5.0, 40, 0.5)[:, None] * fit.midplane.normal
    point = rays[np.abs(fit.distance_mm("ventricle", rays) - 4).argmin()]
    mirrored = point - 2 * fit.midplane.distance_mm(point) * fit.midplane.normal
    for widening_mm, expected in (((0, 5), (True, False)), ((5, 0), (False, True)), ((5, 5), (True, True))):
        ventricles = Ventricles(np.zeros(coarse.hu.shape, dtype=bool), 0.0, np.array(widening_mm, dtype=float))
        for point_mm, is_inside in zip((point, mirrored), expected, strict=True):
            lesion = LesionPoints(point_mm[None], np.array([1.0]), 5.0)
            assert mark_intraventricular(lesion, fit, ventricles).tolist() == [is_inside]


def test_share_of_the_ventricles_grows_with_the_blood_in_them():
    pose = "turned"
    few = locate(pose, mark_part(pose, "left body")).ventricular_blood.share
    many = locate(pose, mark_part(pose, "frontal horns and bodies")).ventricular_blood.share
    assert 0.05 < few < many < 0.9
    assert locate(pose, np.zeros(make_bare_scan(pose).shape, dtype=bool)).ventricular_blood.share == 0


def test_lobar_lesion_and_a_layer_leave_the_ventricles_free():
    pose = "feet first, tilted"
    head, grid = POSES[pose]
    for centre, radius_mm in (((38, 35, 25), 13), ((0, -60, 60), 12)):
        blood = locate(pose, head.mark_ball(grid, SHAPE, centre, radius_mm)).ventricular_blood
        assert blood.total_ml == 0 and not blood.present


@pytest.mark.parametrize("pose", POSES)
def test_fluid_of_the_ventricles_is_detected_without_the_sulci(pose):
    """The parts defined here contain most of the ventricles; edges are blurred with tissue."""
    coarse = sample_head(make_bare_scan(pose), np.zeros(make_bare_scan(pose).shape, dtype=bool))
    plane = midplane.find_midplane(coarse)
    fluid_ml = find_ventricles(coarse, atlas.fit_atlas(coarse, plane, InnerTable.from_head(coarse))).fluid_ml
    true_fluid = np.logical_or.reduce([mark_part(pose, name) for name in PARTS])
    assert 0.7 * compute_ml(pose, true_fluid) < fluid_ml < 1.6 * compute_ml(pose, true_fluid)


def test_without_a_registered_atlas_there_is_no_ventricular_blood():
    pose = "turned"
    mask = mark_part(pose, "left body")
    largest = int(mask.sum((1, 2)).argmax())
    scan = Scan.from_array(
        np.where(mask, 65, make_bare_scan(pose).hu)[largest : largest + 1], (5.0, PIXEL_MM, PIXEL_MM)
    )
    head = sample_head(scan, mask[largest : largest + 1])
    assert (
        locate_lesions(*label(mask[largest : largest + 1], scan), head, midplane.find_midplane(head)).ventricular_blood
        is None
    )
