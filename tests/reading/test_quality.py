"""Warnings of contrast medium, a sharp kernel, metal and motion, only where they were added to a real scan."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from scipy import ndimage

from data_sets import find_data_set
from phantoms import head_series
from slowdown import measure_slowdown
from strokeseg.errors import InputError
from strokeseg.reading import gate, quality, read, read_one
from strokeseg.reading.pictures import annotations
from strokeseg.scan import Scan

SAMPLE = Path(__file__).parents[2] / "samples/ge_head.zip"
REAL = ["ge_head_dicom/series.zip", "rsna_volume/series.zip", "cranium/cranium_hu.nii.gz"]
CODES = {"contrast-medium", "sharp-kernel", "metal", "motion"}


@pytest.fixture(scope="module")
def real_scan():
    return read_one(SAMPLE)


def collect_remarks(scan):
    return {remark.code: remark for remark in quality.check_quality(scan)}


def change_slices(scan, make):
    """Apply ``make(float plane, index)`` to every slice."""
    planes = [make(plane.astype(np.float64), index) for index, plane in enumerate(scan.hu)]
    return replace(scan, hu=np.rint(np.clip(planes, -1024, 20_000)).astype(np.int16))


@pytest.mark.parametrize("name", REAL)
def test_a_real_scan_without_any_gets_none_of_these_warnings(name):
    assert not collect_remarks(read_one(find_data_set(name)))


def test_blood_is_no_contrast_medium(real_scan):
    """A large lesion of 70 HU, with clots of 90 HU."""
    rows, columns = np.mgrid[:512, :512]

    def add_blood(plane, index):
        inside = (np.hypot(rows - 250, columns - 200) < 50) & (abs(index - 15) < 6)
        return np.where(inside, 70 + 20 * ((rows // 12 + columns // 12) % 2), plane)

    assert "contrast-medium" not in collect_remarks(change_slices(real_scan, add_blood))


def test_calcified_choroid_and_falx_are_no_contrast_medium(real_scan):
    """Two dense spheres of 8 mm on two slices, and a plate in the midline on all."""
    rows, columns = np.mgrid[:512, :512]

    def calcify(plane, index):
        balls = (np.minimum(np.hypot(rows - 300, columns - 200), np.hypot(rows - 300, columns - 310)) < 8) & (
            index in (14, 15)
        )
        plate = (abs(columns - 256) < 3) & (abs(rows - 150) < 25) & (index > 11)
        return np.where(balls | plate, 300, plane)

    assert "contrast-medium" not in collect_remarks(change_slices(real_scan, calcify))


@pytest.mark.parametrize("hu", [180, 300])
def test_bright_vessels_are_contrast_medium(real_scan, hu):
    """Tubes of 4 mm across the slices, as arteries and veins after an injection."""
    rows, columns = np.mgrid[:512, :512]
    places = [(200, 256), (240, 190), (240, 320), (300, 256), (340, 220), (180, 220)]

    def enhance(plane, _):
        inside = np.min([np.hypot(rows - row, columns - column) for row, column in places], axis=0) < 4.1
        return np.where(inside & (plane > -50) & (plane < 110), hu, plane)

    remark = collect_remarks(change_slices(real_scan, enhance))["contrast-medium"]
    assert remark.severity == "warning" and len(remark.slices) >= 4 and "mm² a slice" in remark.message


def test_a_sharp_kernel_is_told_by_its_noise(real_scan):
    """A bone kernel amplifies high frequencies: edges overshoot, and noise is high and white."""
    rng = np.random.default_rng(0)

    def sharpen(plane, _):
        return plane + 3 * (plane - ndimage.gaussian_filter(plane, 1.0)) + rng.normal(0, 25, plane.shape)

    remark = collect_remarks(change_slices(real_scan, sharpen))["sharp-kernel"]
    measured = float(remark.message.split("brain is ")[1].split(" HU")[0])
    assert 20 < measured < 45  # 25 added, the scan's own 5 lifted


def test_noise_alone_of_a_soft_kernel_is_no_sharp_kernel(real_scan):
    """A thin or low-dose scan: the same noise, but correlated between neighbours."""
    rng = np.random.default_rng(0)

    def noisy(plane, _):
        noise = ndimage.gaussian_filter(rng.normal(0, 1, plane.shape), 1.2)
        return plane + 20 * noise / noise.std()

    assert "sharp-kernel" not in collect_remarks(change_slices(real_scan, noisy))


def test_metal_and_its_streaks_are_told_with_area_and_slices(real_scan):
    rows, columns = np.mgrid[:512, :512]
    angle, distance = np.arctan2(rows - 260, columns - 300), np.hypot(rows - 260, columns - 300)

    def clip(plane, index):
        if index not in (12, 13):
            return plane
        streaked = plane + 400 * np.cos(24 * angle) * np.exp(-distance / 60) * (plane > -300)
        return np.where(distance < 6, 9000, streaked)

    remark = collect_remarks(change_slices(real_scan, clip))["metal"]
    truth = np.count_nonzero(distance < 6) * 0.4882812**2
    assert set(remark.slices) >= {12, 13} and len(remark.slices) <= 3
    assert float(remark.message.split("up to ")[1].split(" mm")[0]) == pytest.approx(truth, rel=0.3)


def test_enamel_and_dense_bone_are_no_metal(real_scan):
    assert "metal" not in collect_remarks(
        change_slices(real_scan, lambda plane, _: np.where(plane > 1400, 2950, plane))
    )


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("moved_mm", [5.5, 9])
def test_a_head_that_moved_has_its_skin_twice(real_scan, axis, moved_mm):
    pixels = round(moved_mm / 0.4882812)
    remark = collect_remarks(
        change_slices(
            real_scan, lambda plane, i: (plane + np.roll(plane, pixels, axis)) / 2 if i in (13, 14) else plane
        )
    )["motion"]
    assert remark.slices == [13, 14]
    assert float(remark.message.split("over up to ")[1].split(" mm")[0]) == pytest.approx(moved_mm, abs=1.5)


def test_a_soft_blur_of_two_millimetres_is_no_motion(real_scan):
    assert "motion" not in collect_remarks(
        change_slices(real_scan, lambda plane, _: ndimage.gaussian_filter(plane, 1.7))
    )


def test_pictures_are_not_measured():
    assert quality.check_quality(Scan.from_array(np.zeros((3, 64, 64)), calibrated=False, kind="pictures")) == []


def test_these_warnings_reach_the_gates_answer(real_scan):
    scan = gate.check_scan(
        replace(change_slices(real_scan, lambda plane, _: np.where(plane > 1400, 3050, plane)), remarks=())
    )
    assert "metal" in {remark.code for remark in scan.remarks}


@pytest.mark.parametrize(("step", "warned"), [(5.0, False), (6.0, False), (7.5, True)])
def test_thick_slices_are_warned_of_with_their_step(tmp_path, step, warned):
    geometry = head_series.Geometry(z_mm=tuple(np.arange(-48.0, 63.0, step)))
    scan = read_one(head_series.write_series(tmp_path, head_series.make_datasets(geometry)))
    remarks = [remark for remark in scan.remarks if remark.code == "thick-slices"]
    assert bool(remarks) == warned and all("7.5 mm" in remark.message for remark in remarks)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "JPEG2000.dcm", "MR_small.dcm", "ExplVR_BigEnd.dcm", "waveform_ecg.dcm"]
)
def test_pydicoms_own_files_are_no_heads(name):
    path = pydicom.data.get_testdata_file(name, download=False)
    assert path is not None
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.code in ("not-head", "not-ct", "no-hounsfield", "unreadable")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_one_head_among_pydicoms_files_is_one():
    path = pydicom.data.get_testdata_file("693_J2KI.dcm", download=False)
    assert path is not None
    assert {remark.code for remark in read_one(path).remarks} == {"single-slice", "lossy-compression"}


def test_a_plane_of_specks_takes_no_time():
    """Twenty thousand characters, and as many components as dense as vessels."""
    plane, letters = np.zeros((2, 2048, 2048), np.int16)
    for row in range(5):
        for column in range(3):
            plane[40 + row :: 12, 40 + column :: 12] = 255
            letters[40 + row :: 7, 40 + column :: 5] = 255
    began = time.process_time()
    assert annotations.count_characters_on_line(letters, 255.0) > 100
    assert time.process_time() - began < 10 * measure_slowdown()
    scan = Scan.from_array(np.where(plane, 300, -1000).astype(np.int16)[None], (5.0, 1.0, 1.0))
    began = time.process_time()
    quality.measure_slice(scan, 0)
    assert time.process_time() - began < 10
