"""What is no head is refused by evidence over the whole scan; a head in a larger scan is cut out of it."""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from data_sets import find_case, find_data_set
from phantoms import head_series
from strokeseg.errors import InconsistentGeometry, InputError, NotHead
from strokeseg.reading import gate, read_one
from strokeseg.reading.head_check import measure_head_evidence
from strokeseg.scan import Planes, Scan

SAMPLE = Path(__file__).parents[2] / "samples/ge_head.zip"


def make_scan(hu, spacing_mm, first_mm=0.0):
    """Make a scan of (slice, row, column) with a spacing in the same order."""
    positions = np.zeros((len(hu), 3))
    positions[:, 2] = first_mm + np.arange(len(hu)) * spacing_mm[0]
    planes = Planes(positions, np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), spacing_mm[1:], spacing_mm[0])
    return Scan(np.asarray(hu, np.int16), planes)


def make_body_slices(count, side, pixel_mm):
    """Make slices of a body: an ellipse of 400 x 250 mm with lungs, ribs and a spine."""
    across = (np.arange(side) - side / 2 + 0.5) * pixel_mm
    y, x = np.meshgrid(across, across, indexing="ij")
    out = np.hypot(x / 200, y / 125)
    hu = np.select([out < 0.9, out < 1], [50.0, -100.0], -1000.0)
    for sign in (-1, 1):
        hu[np.hypot((x - 85 * sign) / 65, y / 85) < 1] = -850
    hu[(out > 0.8) & (out < 0.86) & (np.cos(14 * np.arctan2(y, x)) > 0)] = 500
    hu[np.hypot(x, y - 75) < 18] = 400
    noisy = hu + np.random.default_rng(0).normal(0, 10, hu.shape)
    return np.repeat(np.rint(noisy).astype(np.int16)[None], count, 0)


@pytest.fixture(scope="module")
def sample():
    return read_one(SAMPLE)


def make_coarse_head(sample):
    """Return every second pixel of the sample on a field of 430 mm of a body scan, with air around, and their size."""
    hu = np.full((len(sample.hu), 440, 440), -1000, np.int16)
    hu[:, 92:348, 92:348] = sample.hu[:, ::2, ::2]
    return hu, 2 * 0.488


def test_a_head_above_a_body_is_read_as_the_head_alone(sample):
    hu, pixel_mm = make_coarse_head(sample)
    alone = gate.check_scan(make_scan(hu, (5.0, pixel_mm, pixel_mm)))
    body = make_body_slices(60, 440, pixel_mm)
    both = gate.check_scan(make_scan(np.concatenate([body, hu]), (5.0, pixel_mm, pixel_mm)))
    assert np.array_equal(both.hu, alone.hu)
    assert np.array_equal(both.planes.gaps_mm, alone.planes.gaps_mm)
    [remark] = [each for each in both.remarks if each.code == "cut-to-head"]
    assert "60 slices below" in remark.message and "of 88" in remark.message
    assert "cut-to-head" not in {each.code for each in alone.remarks}


def test_a_series_of_a_head_and_a_body_keeps_the_uids_of_its_head(tmp_path):
    geometry = head_series.Geometry(z_mm=tuple(np.arange(-400.0, 96.0, 8.0)), shape=(300, 300), spacing_mm=(1.5, 1.5))
    body = make_body_slices(1, 300, 1.5)[0].astype(np.int16)
    data = [
        head_series.ct_dataset(
            body if z < -90 else geometry.plane_hu(z), geometry.position(z), geometry, instance=number
        )
        for number, z in enumerate(geometry.z_mm)
    ]
    scan = read_one(head_series.write_series(tmp_path, data))
    kept = [each for each, z in zip(data, geometry.z_mm, strict=True) if z >= -90]
    assert scan.sop_instance_uids == tuple(each.SOPInstanceUID for each in kept)
    assert [frame.sop_uid for frame in scan.source.frames] == list(scan.sop_instance_uids)
    assert "cut-to-head" in {remark.code for remark in scan.remarks}


def test_three_shoulder_slices_below_a_head_are_left_out():
    path = find_case("14_whole_body_halves_the_head/head_and_3_shoulder_slices.nii.gz")
    scan = read_one(path)
    stored = np.asarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj)
    assert "cut-to-head" in {remark.code for remark in scan.remarks}
    assert np.array_equal(scan.hu, np.rint(stored[::-1, ::-1, 3:].T))


def test_a_scan_of_a_head_is_not_cut(sample):
    assert len(sample.hu) == 28 and "cut-to-head" not in {remark.code for remark in sample.remarks}


def test_pixels_of_1_mm_by_default_are_refused_with_the_spacing_as_the_suspect(sample):
    planes = replace(sample.planes, pixel_spacing_mm=(1.0, 1.0))
    with pytest.raises(InconsistentGeometry, match="pixel spacing") as caught:
        gate.check_scan(replace(sample, planes=planes, remarks=()))
    assert "1 x 1 mm" in caught.value.message and "spacing" in caught.value.remedy


def test_a_head_a_third_too_large_is_warned_of(sample):
    planes = replace(sample.planes, pixel_spacing_mm=(0.66, 0.66))
    scan = gate.check_scan(replace(sample, planes=planes, remarks=()))
    assert "doubtful-size" in {remark.code for remark in scan.remarks}
    assert "doubtful-size" not in {remark.code for remark in sample.remarks}


def test_the_evidence_of_a_head_has_its_known_size(sample):
    head = gate.check_scan(
        make_scan(np.stack([head_series.Geometry().plane_hu(z) for z in np.arange(-80.0, 81.0, 5.0)]), (5.0, 1.1, 1.05))
    )
    evidence = measure_head_evidence(head)
    assert evidence.skull_radius_mm == pytest.approx((66 + 84) / 2, abs=4)
    assert evidence.brain_area_mm2 == pytest.approx(np.pi * 66 * 84, rel=0.1)
    assert evidence.brain_hu == pytest.approx(35, abs=1) and evidence.closed_skull == 1
    assert evidence.run_mm is not None and 100 < evidence.run_mm < 170
    assert measure_head_evidence(sample).brain_hu == pytest.approx(30, abs=10)


def test_one_head_like_slice_of_twelve_is_not_enough(sample):
    noise = np.random.default_rng(0).normal(0, 10, (11, 512, 512))
    with pytest.raises(NotHead, match="1 of 12 sampled slices"):
        gate.check_scan(make_scan(np.concatenate([noise, sample.hu[14:15]]), (5.0, 0.488, 0.488)))


CASES = {
    "01_body_ct_taken_for_head": ("aorta.nii.gz", "lung.nii.gz", "one_slice.dcm", "series.zip"),
    "02_mr_taken_for_ct": ("fmri.nii.gz", "mr_abdomen.nii.gz", "proton_density.nii.gz"),
    "03_label_and_probability_maps": ("grey_matter_0_255.nii.gz", "talairach_labels.nii.gz"),
    "11_pictures_of_no_head": ("shoulders.png", "viewer_three_panels.png"),
}


@pytest.mark.parametrize("name", [f"{folder}/{name}" for folder, names in CASES.items() for name in names])
def test_bodies_magnetic_resonance_maps_and_screenshots_are_refused(name):
    with pytest.raises(InputError) as caught:
        read_one(find_case(name))
    assert caught.value.code in ("not-head", "no-hounsfield")


def test_a_series_half_of_which_is_vertex_passes():
    scan = read_one(find_data_set("rsna_volume/series.zip"))
    half = make_scan(scan.hu[18:], (5.0, 0.488, 0.488))
    assert len(gate.check_scan(half).hu) == 18


@pytest.mark.parametrize("scale", [0.5, 0.6, 0.8])
def test_the_head_of_an_infant_passes(sample, scale):
    planes = replace(sample.planes, pixel_spacing_mm=(0.488 * scale, 0.488 * scale))
    gate.check_scan(replace(sample, planes=planes, remarks=()))
