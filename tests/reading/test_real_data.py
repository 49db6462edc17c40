"""Real scans: every data set of ../shared/data is read, and every slice that shows a head passes the gate."""

import time
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image

from data_sets import find_data_set
from phantoms import head_series
from slowdown import measure_slowdown
from strokeseg.errors import InputError
from strokeseg.reading import read_one


def collect_codes(scan):
    return {remark.code for remark in scan.remarks}


def read_with_pydicom(path):
    """Return (z, HU) of every slice, read with pydicom alone, sorted by z."""
    slices = []
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as stream:
                data = pydicom.dcmread(stream)
            hu = pydicom.pixels.apply_rescale(data.pixel_array, data)
            slices.append((float(data.ImagePositionPatient[2]), data.get("PixelPaddingValue"), data.pixel_array, hu))
    return sorted(slices, key=lambda item: item[0])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_rsna_volume_is_read_whole_in_hounsfield_units_and_in_order():
    path = find_data_set("rsna_volume/series.zip")
    scan = read_one(path)
    truth = read_with_pydicom(path)
    assert scan.shape == (36, 512, 512) and scan.series_uid == "ID_e17326e0bd"
    assert np.array_equal(scan.hu, np.stack([hu for *_, hu in truth]))
    assert scan.planes.positions_mm[:, 2] == pytest.approx([z for z, *_ in truth])
    assert scan.planes.tilt_deg == pytest.approx(8.0, abs=0.05)
    assert collect_codes(scan) == {"gantry-tilt"}
    brain = scan.hu[15, 200:300, 200:300]
    assert 20 < np.median(brain) < 45


def test_ge_head_keeps_its_28_tilted_unevenly_spaced_slices():
    path = find_data_set("ge_head_dicom/series.zip")
    scan = read_one(path)
    truth = read_with_pydicom(path)
    assert scan.shape == (28, 512, 512) and len(truth) == 28
    assert scan.planes.tilt_deg == pytest.approx(18.5, abs=0.1)
    assert collect_codes(scan) == {"gantry-tilt", "uneven-spacing"}
    for plane, (_, padding, stored, hu) in zip(scan.hu, truth, strict=True):
        assert np.array_equal(plane, np.where(stored == padding, -1024, hu))
    # 13 steps of 4, one of 1.08 and 13 of 7 mm along the normal; the axis is all of them and the two ends
    assert scan.weights_mm.sum() == pytest.approx(13 * 4.002 + 1.081 + 13 * 6.999 + 2.001 + 3.4995, abs=0.05)


@pytest.mark.parametrize(
    ("name", "slices", "window"),
    [
        ("ctich_jpg/images", 36, (40, 120)),
        pytest.param("ctich_train/images", 110, (40, 120), marks=pytest.mark.slow),
        ("phe_sich_stacks/0024/images", 40, (40, 80)),
        ("phe_sich_stacks/0053/images", 32, (40, 80)),
        ("phe_sich_stacks/0058/images", 32, (40, 80)),
    ],
)
def test_a_folder_of_pictures_is_one_uncalibrated_stack(name, slices, window):
    scan = read_one(find_data_set(name))
    assert scan.shape[0] == slices and scan.kind == "pictures" and scan.window == window
    assert not scan.calibrated and scan.pixel_spacing_mm is None and scan.weights_mm is None
    assert {"window-estimated", "uncalibrated"} <= collect_codes(scan)
    assert collect_codes(scan) & {"assumed-order", "slice-order"}
    assert read_one(find_data_set(name), spacing_mm=(5, 0.45, 0.45)).weights_mm == pytest.approx([5.0] * slices)


def test_the_folder_of_images_and_masks_is_not_one_stack():
    with pytest.raises(InputError) as caught:
        read_one(find_data_set("ctich_jpg"))
    assert caught.value.code == "several-series"


SETS = {
    "bhsd_mini": "bhsd_mini/images_hu0_255/*.png",
    "mbhseg25_mini": "mbhseg25_mini/images_hu0_255/*.png",
    "cpaisd": "cpaisd_ischemic_mini/images_hu0_255/*.png",
    "rsna_hemseg": "rsna_hemseg/images/*.png",
    "ctich_jpg": "ctich_jpg/images/*.jpg",
    "ctich_train": "ctich_train/images/*.jpg",
    "ctich_boxes": "ctich_boxes/images/*.jpg",
    "head_ct_masked": "head_ct_hemorrhage/images_227/*.png",
    "head_ct_unmasked": "head_ct_hemorrhage/images_unmasked/*.png",
    "bhsd_slices": "bhsd_slices/images/*.png",
    "phe_sich_clots": "phe_sich_clots/images/*.jpg",
}


# Seen by eye: "Annotation", a ruler with "512", and "of 29" are written into these.
WITH_WRITING = {"head_ct_unmasked": {"178.png", "181.png", "190.png"}}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_every_slice_of_a_head_passes_alone(name):
    paths = sorted(find_data_set(SETS[name].split("/")[0]).parent.glob(SETS[name]))
    refused, written = [], set()
    for path in paths:
        try:
            if "burnt-in-text" in collect_codes(read_one(path)):
                written.add(path.name)
        except InputError as error:
            refused.append(f"{path.name}: {error}")
    assert paths and not refused
    assert written == WITH_WRITING.get(name, set())


@pytest.mark.parametrize("name", ["rsna_volume/series.zip", "ge_head_dicom/series.zip"])
def test_every_slice_through_the_brain_passes_alone(tmp_path, name):
    with zipfile.ZipFile(find_data_set(name)) as archive:
        archive.extractall(tmp_path)
    whole = read_one(tmp_path)
    order = {uid: index for index, uid in enumerate(whole.sop_instance_uids)}
    passed = np.zeros(len(order), dtype=bool)
    for path in tmp_path.glob("*.dcm"):
        try:
            passed[order[read_one(path).sop_instance_uids[0]]] = True
        except InputError as error:
            assert error.code == "not-head"
    assert passed[7:-5].all() and passed.mean() > 0.8  # the rest are the face and the air above


@pytest.mark.slow
def test_forty_slices_are_read_in_less_than_half_a_second(tmp_path):
    head_series.write_series(
        tmp_path,
        head_series.make_datasets(
            head_series.Geometry(z_mm=tuple(np.arange(-60, 60, 3.0)), shape=(512, 512), spacing_mm=(0.45, 0.45))
        ),
    )
    read_one(tmp_path)
    took = []
    for _ in range(5):
        start = time.process_time()
        assert read_one(tmp_path).shape[0] == 40
        took.append(time.process_time() - start)
    assert min(took) < 0.5 * measure_slowdown()


SAMPLE = Path(__file__).parents[2] / "samples/ge_head.zip"


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("offset", [1024, 1000])
def test_a_real_scan_that_lost_its_intercept_gets_it_back(tmp_path, offset, cut):
    """The air in the sinuses then has the values of brain inside bone, which alone would pass for a head."""
    hu = read_one(SAMPLE).hu.astype(np.int32)
    volume = (hu + offset).clip(0 if cut else None, 32767).astype(np.int16)
    nibabel.Nifti1Image(volume.transpose(2, 1, 0), np.diag([-0.488, -0.488, 5.3, 1.0])).to_filename(
        tmp_path / "high.nii"
    )
    scan = read_one(tmp_path / "high.nii")
    assert np.array_equal(scan.hu, hu.clip(-offset if cut else None))
    assert "hounsfield-offset" in collect_codes(scan)


def test_a_real_scan_1024_too_high_is_shifted_as_16_bit_pictures(tmp_path):
    scan = read_one(SAMPLE)
    for index in range(8, 20):
        values = (scan.hu[index].astype(np.int32) + 1024).clip(0, 65535).astype(np.uint16)
        Image.fromarray(values).save(tmp_path / f"{index}.png")
    pictures = read_one(tmp_path)
    assert np.array_equal(pictures.hu, scan.hu[8:20].clip(-1024))
    assert not pictures.calibrated
