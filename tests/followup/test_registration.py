"""Where a head lies after it was turned and shifted is known from how it was drawn."""

import numpy as np
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from phantoms import two_heads
from phantoms.shapes import compute_points_mm
from phantoms.two_heads import Head, brain_places, stack
from strokeseg.followup import sampling
from strokeseg.followup.registration import align_skulls
from strokeseg.followup.skull import extract_skull
from strokeseg.reading import read_one
from strokeseg.scan import Planes, Scan

POSES = {
    "as it was": (Head(), stack()),
    "turned by 30 degrees, coarser": (
        Head(turn=(17, -12, 21), shift=(12, -18, 9)),
        stack(np.arange(-70, 96, 5.0), 0.95),
    ),
    "nodding by 25 degrees": (Head(turn=(25, 0, 0), shift=(0, 20, -10)), stack()),
    "a tilted gantry": (Head(turn=(5, 3, -6), shift=(3, 2, 8)), stack(np.arange(-66, 110, 5.0), tilt_deg=18)),
    "uneven slices": (
        Head(turn=(-8, 9, 4)),
        stack([*np.arange(-66, -20, 2.5), *np.arange(-20, 96, 6.0)]),
    ),
    "a flap taken out": (Head(turn=(5, 3, -6), flap=True), stack()),
    "half of the head": (Head(turn=(6, 0, 10)), stack(np.arange(-66, 25, 4.0))),
}


def skull_of(head, where):
    result = head.simulate_scan(where)
    return extract_skull(result.scan, result.mask)


@pytest.fixture(scope="module")
def at_rest():
    return skull_of(Head(), stack())


@pytest.mark.parametrize("pose", POSES)
def test_a_head_is_found_where_it_lies(at_rest, pose):
    head, where = POSES[pose]
    alignment = align_skulls(at_rest, skull_of(head, where))
    off_mm = np.linalg.norm(alignment.to_later(brain_places()) - head.to_patient(brain_places()), axis=1)
    assert off_mm.max() < 1.5
    assert alignment.overlap > 0.9
    np.testing.assert_allclose(alignment.to_earlier(alignment.to_later(brain_places())), brain_places(), atol=1e-9)


def test_both_ways_are_one(at_rest):
    other = skull_of(*POSES["a tilted gantry"])
    there, back = align_skulls(at_rest, other), align_skulls(other, at_rest)
    assert np.linalg.norm(there.to_later(brain_places()) - back.to_earlier(brain_places()), axis=1).max() < 1.5


def test_the_same_two_scans_are_laid_the_same_way_each_time(at_rest):
    other = skull_of(*POSES["nodding by 25 degrees"])
    once, again = align_skulls(at_rest, other), align_skulls(at_rest, other)
    np.testing.assert_allclose(once.to_later(brain_places()), again.to_later(brain_places()), atol=0.01)


def test_two_scans_of_other_ends_of_a_head_are_not_aligned():
    assert (
        align_skulls(skull_of(Head(), stack(np.arange(-66, -30, 4.0))), skull_of(Head(), stack(np.arange(50, 96, 4.0))))
        is None
    )


def test_no_bone_is_no_skull():
    empty = Scan.from_array(np.full((10, 64, 64), 30), (5, 2, 2))
    assert extract_skull(empty, np.zeros(empty.shape, bool)) is None


@pytest.mark.parametrize("name", ["rsna_volume/series.zip", "ge_head_dicom/series.zip", "cranium/cranium_hu.nii.gz"])
@pytest.mark.slow
def test_a_real_head_is_found_again_after_simpleitk_turned_it(shared_data, name):
    """A sanity check: nothing was chosen by these three heads."""
    scan = read_one(shared_data / name)
    regular, turned, transform = turned_by_simpleitk(scan, (14.0, -9.0, 18.0), (11.0, -7.0, 5.0))
    heads = [extract_skull(each, np.zeros(each.shape, dtype=bool)) for each in (regular, turned)]
    alignment = align_skulls(*heads)
    places = heads[0].surface_mm
    truth = np.array([transform.TransformPoint(place.tolist()) for place in places])
    assert np.linalg.norm(alignment.to_later(places) - truth, axis=1).max() < 1.5
    assert alignment.overlap > 0.9


def turned_by_simpleitk(scan, turn_deg, shift_mm):
    """Take the scan's slices for evenly stepped and upright, and let SimpleITK turn the head and cut it anew."""
    step = float(np.median(scan.planes.gaps_mm))
    regular = Scan.from_array(scan.hu, (step, *scan.planes.pixel_spacing_mm))
    image = SimpleITK.GetImageFromArray(scan.hu.astype(np.float32))
    image.SetSpacing((scan.planes.pixel_spacing_mm[1], scan.planes.pixel_spacing_mm[0], step))
    middle = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])
    transform = SimpleITK.Euler3DTransform()
    transform.SetCenter(middle)
    transform.SetMatrix(Rotation.from_rotvec(np.radians(turn_deg)).as_matrix().ravel().tolist())
    transform.SetTranslation(shift_mm)
    slices, side = round(170 / 4.5), 300
    corner = (middle[0] - 150 * 0.85, middle[1] - 150 * 0.85, middle[2] - slices / 2 * 4.5)
    cut = SimpleITK.Resample(
        image, (side, side, slices), transform.GetInverse(), SimpleITK.sitkLinear, corner, (0.85, 0.85, 4.5),
        np.eye(3).ravel().tolist(), -1000.0,
    )  # fmt: skip
    positions = np.array([(corner[0], corner[1], corner[2] + 4.5 * k) for k in range(slices)])
    planes = Planes(positions, np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), (0.85, 0.85), 4.5)
    hu = np.rint(SimpleITK.GetArrayFromImage(cut)).astype(np.int16)
    return regular, Scan(hu, planes), transform


@pytest.mark.parametrize("tilt_deg", [0.0, 20.0])
def test_a_place_is_found_in_its_pixel(tilt_deg):
    where = stack([0, 2, 4, 6, 12, 18, 24, 40, 46, 52], 0.7, tilt_deg, shape=(20, 30))
    every = np.stack(np.indices((10, 20, 30)), axis=-1).reshape(-1, 3)
    alignment = sampling.lps_to_indices(where, compute_points_mm(where, (20, 30)).reshape(-1, 3))
    np.testing.assert_allclose(alignment, every, atol=1e-9)
    half_way = sampling.lps_to_indices(
        where, (compute_points_mm(where, (20, 30))[3] + compute_points_mm(where, (20, 30))[4])[5, 6][None] / 2
    )
    np.testing.assert_allclose(half_way, [[3.5, 5, 6]], atol=1e-9)


def test_what_lies_in_a_gap_of_missing_slices_or_outside_is_not_covered():
    where = stack([0, 5, 10, 15, 35, 40, 45, 50], 1.0, shape=(20, 20))
    middle = np.array([0.0, 0.0])
    heights = {0: True, -2.4: True, -2.6: False, 12: True, 18: True, 25: False, 32: True, 52.4: True, 52.6: False}
    places = np.array([[*middle, height] for height in heights])
    assert sampling.find_covered(where, (8, 20, 20), sampling.lps_to_indices(where, places)).tolist() == list(
        heights.values()
    )
    beside = np.array([[9.9, 0, 5], [10.1, 0, 5], [0, -10.1, 5]])
    assert sampling.find_covered(where, (8, 20, 20), sampling.lps_to_indices(where, beside)).tolist() == [
        True,
        False,
        False,
    ]


def test_the_phantom_is_a_head_of_two_unlike_halves():
    """What the alignment is proved on must not look alike after a turn."""
    places = np.random.default_rng(0).uniform(-90, 90, (4000, 3))
    for turn in ((0, 0, 180), (180, 0, 0)):
        turned = places @ Rotation.from_rotvec(np.radians(turn)).as_matrix().T
        one, other = (two_heads.head_hu(each, (1, 1, 1), False) for each in (places, turned))
        assert (one != other).mean() > 0.03
