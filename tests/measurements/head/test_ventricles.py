"""Blood in the ventricles is told from blood beside them, on heads made of the template in other poses and sizes.

The true ventricles are drawn here: the template's fluid inside of boxes and ellipsoids around the ventricles.
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
from strokeseg.measurements.lesion.points import LesionPoints
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
# Ellipsoids, in the template's frame, that hold a part of the ventricles and no other fluid.
PARTS = {
    "frontal horns and bodies": ((0, -4, 15), (22, 36, 17)),
    "left body": ((12, -12, 18), (10, 24, 12)),
    "atria": ((27, -45, 8), (9, 12, 9)),
    "third": ((0, -12, -1), (4, 14, 8)),
    "fourth": ((0, -42, -33), (12, 12, 12)),
}
# Balls of tissue at the ventricles' walls; those of 15 mm bulge into them.
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
def bare(pose):
    head, grid = POSES[pose]
    return head.make_scan(grid, SHAPE)


@cache
def fluid(pose):
    """What is CSF in the template, on the scan's pixels, without its noise."""
    head, grid = POSES[pose]
    at = np.moveaxis(head.to_template_mm(compute_points_mm(grid, SHAPE)) - ORIGIN_MM + (24, 24, 0), -1, 0)
    hu = ndimage.map_coordinates(make_volume(), at, order=1, mode="constant", cval=-1000)
    return (hu > 0) & (hu < 18)


def inside(pose, name):
    head, grid = POSES[pose]
    return fluid(pose) & head.mark_ball(grid, SHAPE, *PARTS[name])


def ml(pose, mask):
    grid = POSES[pose][1]
    return float((mask.sum((1, 2)) * np.abs(np.gradient(grid.along_normal_mm))).sum() * PIXEL_MM**2 / 1000)


def found(pose, mask):
    scan = replace(bare(pose), hu=np.where(mask, 65, bare(pose).hu).astype(np.int16))
    head = sample_head(scan, mask)
    return locate_lesions(*label(mask, scan), head, midplane.find_midplane(head))


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("name", PARTS)
def test_blood_that_fills_a_ventricle_is_in_it(name, pose):
    mask = inside(pose, name)
    result = found(pose, mask)
    assert result.blood.present
    assert result.blood.total_ml == pytest.approx(ml(pose, mask), rel=0.15)
    large = max(range(len(result.lesions)), key=lambda index: result.blood.lesions_ml[index])
    assert result.lesions[large].place == "ventricle"


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("name", BESIDE)
def test_bleed_beside_a_ventricle_is_not_in_it(name, pose):
    head, grid = POSES[pose]
    mask = head.mark_ball(grid, SHAPE, *BESIDE[name]) & ~ndimage.binary_dilation(fluid(pose), np.ones((1, 3, 3)))
    result = found(pose, mask)
    assert result.blood.total_ml < 0.1 * ml(pose, mask)
    assert result.lesions[0].place not in ("ventricle", "extra-axial")


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("name", ["thalamus", "caudate, bulging", "white matter at the atrium"])
def test_bleed_that_bulges_into_a_ventricle_is_not_in_it(name, pose):
    """The ball pushes the wall before it: it takes 0.5 to 2 ml of the ventricle's place, and all of it is tissue."""
    head, grid = POSES[pose]
    mask = head.mark_ball(grid, SHAPE, *BESIDE[name])
    assert (mask & fluid(pose)).any()
    assert found(pose, mask).blood.total_ml < 0.1


def test_bleed_that_breaks_into_the_ventricle_is_split():
    """A ball in the thalamus, and blood in the whole body and frontal horn that it has reached."""
    pose = "turned"
    head, grid = POSES[pose]
    ball = head.mark_ball(grid, SHAPE, (16, -14, 11), 13)
    horn = fluid(pose) & head.mark_ball(grid, SHAPE, (12, 2, 15), (11, 34, 15))
    mask = ball | horn
    assert label(mask, bare(pose))[1] == 1
    result = found(pose, mask)
    assert result.blood.lesions_ml[0] == pytest.approx(ml(pose, horn), rel=0.5)
    assert 0.1 < result.blood.lesions_ml[0] / ml(pose, mask) < 0.6
    assert result.lesions[0].place == "deep"
    assert result.lesions[0].side == "left"


def test_ventricles_may_be_wider_on_one_side_than_on_the_other():
    """A bleed presses those on its own side together. Two mirrored places 4 mm outside of the template's walls."""
    seen = sample_head(bare("turned"), np.zeros(bare("turned").shape, dtype=bool))
    fit = atlas.fit_atlas(seen, midplane.find_midplane(seen), InnerTable.from_head(seen))
    along = fit.origin_mm - 12 * fit.forward + 18 * fit.up
    rays = along + np.arange(5.0, 40, 0.5)[:, None] * fit.midplane.normal
    beside = rays[np.abs(fit.distance_mm("ventricle", rays) - 4).argmin()]
    other = beside - 2 * fit.midplane.distance_mm(beside) * fit.midplane.normal
    for wider_mm, expected in (((0, 5), (True, False)), ((5, 0), (False, True)), ((5, 5), (True, True))):
        found = Ventricles(np.zeros(seen.hu.shape, dtype=bool), 0.0, np.array(wider_mm, dtype=float))
        for place_mm, inside_ in zip((beside, other), expected, strict=True):
            lesion = LesionPoints(place_mm[None], np.array([1.0]), 5.0)
            assert mark_intraventricular(lesion, fit, found).tolist() == [inside_]


def test_share_of_the_ventricles_grows_with_the_blood_in_them():
    pose = "turned"
    few = found(pose, inside(pose, "left body")).blood.share
    many = found(pose, inside(pose, "frontal horns and bodies")).blood.share
    assert 0.05 < few < many < 0.9
    assert found(pose, np.zeros(bare(pose).shape, dtype=bool)).blood.share == 0


def test_lobar_bleed_and_a_layer_leave_the_ventricles_free():
    pose = "feet first, tilted"
    head, grid = POSES[pose]
    for centre, radius_mm in (((38, 35, 25), 13), ((0, -60, 60), 12)):
        blood = found(pose, head.mark_ball(grid, SHAPE, centre, radius_mm)).blood
        assert blood.total_ml == 0 and not blood.present


@pytest.mark.parametrize("pose", POSES)
def test_fluid_of_the_ventricles_is_seen_and_the_sulci_are_left_out(pose):
    """The parts drawn here hold most of the ventricles; thin slices' edges are blurred with tissue."""
    seen = sample_head(bare(pose), np.zeros(bare(pose).shape, dtype=bool))
    plane = midplane.find_midplane(seen)
    fluid_ml = find_ventricles(seen, atlas.fit_atlas(seen, plane, InnerTable.from_head(seen))).fluid_ml
    drawn = np.logical_or.reduce([inside(pose, name) for name in PARTS])
    assert 0.7 * ml(pose, drawn) < fluid_ml < 1.6 * ml(pose, drawn)


def test_without_a_fit_nothing_is_said():
    pose = "turned"
    mask = inside(pose, "left body")
    middle = int(mask.sum((1, 2)).argmax())
    scan = Scan.from_array(np.where(mask, 65, bare(pose).hu)[middle : middle + 1], (5.0, PIXEL_MM, PIXEL_MM))
    head = sample_head(scan, mask[middle : middle + 1])
    assert (
        locate_lesions(*label(mask[middle : middle + 1], scan), head, midplane.find_midplane(head)).ventricular_blood
        is None
    )
