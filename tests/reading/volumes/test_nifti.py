"""NIfTI in any axis order, compared with the analytic head and nibabel."""

import tracemalloc

import nibabel
import numpy as np
import pytest
from PIL import Image

from data_sets import find_data_set
from phantoms import head_series
from phantoms.head_series import LESION_CENTRE_MM, LESION_ML
from strokeseg.errors import InconsistentGeometry, NoHounsfield, NotHead, TooLarge, UnreadableFile
from strokeseg.reading import read_one
from strokeseg.reading.input_file import InputFile
from strokeseg.reading.volumes import nifti

STEP_MM = (1.5, 1.6, 3.0)
SHAPE = (110, 128, 38)
FIRST_RAS = np.array([-81.0, -102.0, -50.0])


def make_head(shear_mm=0.0):
    """Return (values, affine), RAS: left to right, back to front, feet to head; each slice is shifted by shear_mm."""
    affine = np.eye(4)
    affine[:3, :3] = np.diag(STEP_MM)
    affine[1, 2] = shear_mm
    affine[:3, 3] = FIRST_RAS - [0, shear_mm * 19, 0]
    indices = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), axis=-1)
    ras = indices @ affine[:3, :3].T + affine[:3, 3]
    return head_series.head_hu(ras * [-1, -1, 1]), affine


def save_nifti(path, values, affine):
    nibabel.Nifti1Image(values, affine).to_filename(path)
    return path


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "RPI", "SAR", "PIL", "ASL"])
def test_every_axis_order_gives_the_lesion_at_its_position(tmp_path, axes):
    values, affine = make_head()
    image = nibabel.Nifti1Image(values, affine)
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(axes))
    image.as_reoriented(turn).to_filename(tmp_path / "head.nii.gz")
    scan = read_one(tmp_path / "head.nii.gz")
    volume, centroid = head_series.measure_lesion(scan)
    assert scan.kind == "nifti" and scan.shape == (38, 128, 110)
    assert volume == pytest.approx(LESION_ML, rel=0.02)
    assert np.abs(centroid - LESION_CENTRE_MM).max() < 0.75
    assert scan.planes.row_cosine == pytest.approx([1, 0, 0])  # the patient's left on the right, face up
    assert scan.planes.column_cosine == pytest.approx([0, 1, 0]) and scan.planes.normal[2] > 0
    assert not {remark.code for remark in scan.remarks} & {"no-orientation", "gantry-tilt"}


def test_a_sheared_affine_is_a_tilted_series(tmp_path):
    scan = read_one(save_nifti(tmp_path / "head.nii", *make_head(shear_mm=0.9)))
    volume, centroid = head_series.measure_lesion(scan)
    assert scan.planes.tilt_deg == pytest.approx(np.degrees(np.arctan2(0.9, 3.0)))
    assert volume == pytest.approx(LESION_ML, rel=0.02) and np.abs(centroid - LESION_CENTRE_MM).max() < 0.75


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_every_number_type_gives_the_same(tmp_path, dtype):
    values, affine = make_head()
    scan = read_one(save_nifti(tmp_path / "head.nii", values.astype(dtype), affine))
    assert np.array_equal(scan.hu, values[::-1, ::-1].transpose(2, 1, 0))


def test_scaled_values_are_read_as_nibabel_reads_them(tmp_path):
    values, affine = make_head()
    image = nibabel.Nifti1Image((values + 1024).astype(np.uint16), affine)
    image.header.set_slope_inter(1, -1024)
    image.to_filename(tmp_path / "head.nii")
    raw = bytearray((tmp_path / "head.nii").read_bytes())
    raw[112:120] = np.array([1, -1024], "<f4").tobytes()  # nibabel rescales on writing; set the slope by hand
    raw[352:] = (values + 1024).astype("<u2").tobytes(order="F")
    (tmp_path / "head.nii").write_bytes(raw)
    assert np.array_equal(nibabel.load(tmp_path / "head.nii").get_fdata(), values)
    assert np.array_equal(read_one(tmp_path / "head.nii").hu, values[::-1, ::-1].transpose(2, 1, 0))


def test_a_fourth_axis_of_one_is_no_hindrance_and_of_two_is_refused(tmp_path):
    values, affine = make_head()
    assert read_one(save_nifti(tmp_path / "one.nii", values[..., None], affine)).shape == (38, 128, 110)
    with pytest.raises(UnreadableFile, match="not a single volume"):
        read_one(save_nifti(tmp_path / "two.nii", np.stack([values, values], axis=-1), affine))


def test_values_that_are_no_numbers_become_air_with_a_remark(tmp_path):
    values, affine = make_head()
    values = values.astype(np.float32)
    values[:3] = np.nan
    values[0, 0, 0] = np.inf
    scan = read_one(save_nifti(tmp_path / "head.nii", values, affine))
    assert (scan.hu[:, :, -3:] == -1024).all()
    [remark] = [remark for remark in scan.remarks if remark.code == "no-numbers"]
    assert remark.severity == "repaired" and str(3 * 128 * 38) in remark.message


def test_mostly_nan_masks_and_label_maps_are_no_hounsfield_units(tmp_path):
    values, affine = make_head()
    for name, wrong in {
        "nan": np.full(SHAPE, np.nan, np.float32),
        "mask": (values == 65).astype(np.uint8),
        "labels": (values == 65).astype(np.uint8) * 4,
        "share": np.clip(values / 100, 0, 1).astype(np.float32),
    }.items():
        with pytest.raises(NoHounsfield):
            read_one(save_nifti(tmp_path / f"{name}.nii", wrong, affine))
    with pytest.raises(NotHead):
        read_one(save_nifti(tmp_path / "mask255.nii", (values == 65).astype(np.uint8) * 255, affine))


@pytest.mark.parametrize("wrong", ["flat", "skewed", "rows-not-square"])
def test_an_affine_that_spans_no_volume_is_refused(tmp_path, wrong):
    values, affine = make_head()
    if wrong == "flat":
        affine[:3, 2] = 2 * affine[:3, 1]
    if wrong == "skewed":
        affine[:3, 1] = affine[:3, 0] + 1e-3
    if wrong == "rows-not-square":
        affine[0, 1] = 0.4
    image = nibabel.Nifti1Image(values, None)
    image.header.set_sform(affine, 1)
    image.to_filename(tmp_path / "head.nii")
    with pytest.raises(InconsistentGeometry):
        read_one(tmp_path / "head.nii")


@pytest.mark.parametrize("turn_deg", [0, 7, 25])
def test_an_oblique_volume_gives_the_lesion_at_its_position(tmp_path, turn_deg):
    """Rotated about two axes: the voxel axes are at right angles, and none is an axis of the patient."""
    yaw, pitch = np.radians([turn_deg, turn_deg / 2])
    about_z = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag(STEP_MM)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    indices = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), axis=-1)
    values = head_series.head_hu((indices @ affine[:3, :3].T + affine[:3, 3]) * [-1, -1, 1])
    volume, centroid = head_series.measure_lesion(read_one(save_nifti(tmp_path / "head.nii", values, affine)))
    assert volume == pytest.approx(LESION_ML, rel=0.02) and np.abs(centroid - LESION_CENTRE_MM).max() < 0.75


def write_with_two_affines(tmp_path, sform, qform):
    values, _ = make_head()
    image = nibabel.Nifti1Image(values, None)
    image.set_sform(sform, 1)
    image.set_qform(qform, 1)
    image.to_filename(tmp_path / "head.nii")
    return nibabel.load(tmp_path / "head.nii"), read_one(tmp_path / "head.nii")


def test_where_the_affines_part_the_sform_is_used_and_the_distance_said(tmp_path):
    _, affine = make_head()
    moved = affine.copy()
    moved[:3, 3] += [0, 0, 12]
    image, scan = write_with_two_affines(tmp_path, affine, moved)
    assert image.affine == pytest.approx(affine)  # nibabel's choice too
    assert np.abs(head_series.measure_lesion(scan)[1] - LESION_CENTRE_MM).max() < 0.75
    [remark] = [remark for remark in scan.remarks if remark.code == "affines-disagree"]
    assert "12.0 mm" in remark.message and "mirror" not in remark.message and remark.severity == "warning"


def make_tilted_affine(tilt_deg):
    """Make an affine whose slices step up and back: the sform that dcm2niix writes of a tilted gantry."""
    _, affine = make_head()
    sheared = affine.copy()
    sheared[:3, 2] += [0, np.tan(np.radians(tilt_deg)) * affine[2, 2], 0]
    return sheared


@pytest.mark.parametrize("tilt_deg", [-25, 8, 20])
@pytest.mark.parametrize("writer", ["nibabel", "rows and columns"])
def test_the_shear_that_a_qform_cannot_hold_is_no_disagreement(tmp_path, tilt_deg, writer):
    sform = make_tilted_affine(tilt_deg)
    qform = sform
    if writer == "rows and columns":
        qform = sform.copy()
        qform[:2, 2] = 0
    image, scan = write_with_two_affines(tmp_path, sform, qform)
    assert np.abs(image.get_qform() - sform).max() > 0.1
    assert "affines-disagree" not in {remark.code for remark in scan.remarks}
    assert scan.planes.tilt_deg == pytest.approx(abs(tilt_deg), abs=0.1)


def test_a_shear_does_not_excuse_another_place_or_side(tmp_path):
    for change in (np.diag([-1.0, 1, 1, 1]), np.array([[1.0, 0, 0, 0], [0, 1, 0, 9], [0, 0, 1, 0], [0, 0, 0, 1]])):
        sform = make_tilted_affine(20)
        _, scan = write_with_two_affines(tmp_path, sform, change @ sform)
        assert "affines-disagree" in {remark.code for remark in scan.remarks}


def test_affines_that_swap_the_sides_are_said_to(tmp_path):
    _, affine = make_head()
    mirrored = affine.copy()
    mirrored[0] *= -1
    _, scan = write_with_two_affines(tmp_path, affine, mirrored)
    assert "mirror image" in next(r.message for r in scan.remarks if r.code == "affines-disagree")


def test_affines_that_agree_but_for_rounding_are_not_remarked(tmp_path):
    _, affine = make_head()
    nearly = affine.copy()
    nearly[:3, 3] += 0.01
    assert "affines-disagree" not in {
        remark.code for remark in write_with_two_affines(tmp_path, affine, nearly)[1].remarks
    }


def test_an_sform_of_zeros_gives_way_to_the_qform(tmp_path):
    path = save_nifti(tmp_path / "head.nii", *make_head())
    raw = bytearray(path.read_bytes())
    raw[252:256] = np.array([1, 1], "<i2").tobytes()
    raw[280:328] = bytes(48)
    path.write_bytes(raw)
    scan = read_one(path)
    assert np.abs(head_series.measure_lesion(scan)[1] - LESION_CENTRE_MM).max() < 0.75
    assert "affines-disagree" in {remark.code for remark in scan.remarks}


@pytest.mark.parametrize("offset", [1024, 1000])
def test_a_lost_intercept_is_put_back(tmp_path, offset):
    values, affine = make_head()
    noisy = values + np.random.default_rng(0).normal(0, 5, values.shape)
    scan = read_one(save_nifti(tmp_path / "head.nii", np.rint(noisy + offset).astype(np.int16), affine))
    assert np.array_equal(scan.hu, np.rint(noisy)[::-1, ::-1].transpose(2, 1, 0))
    [remark] = [remark for remark in scan.remarks if remark.code == "hounsfield-offset"]
    assert remark.severity == "repaired" and f"were {offset} above" in remark.message and "air" in remark.message


def test_an_offset_that_fits_neither_is_refused(tmp_path):
    values, affine = make_head()
    with pytest.raises(NoHounsfield, match="not certain"):
        read_one(save_nifti(tmp_path / "head.nii", (values + 1012).astype(np.int16), affine))


def test_no_stated_orientation_is_remarked(tmp_path):
    values, _ = make_head()
    image = nibabel.Nifti1Image(values, None)
    image.header.set_zooms(STEP_MM)
    image.to_filename(tmp_path / "head.nii")
    assert "no-orientation" in {remark.code for remark in read_one(tmp_path / "head.nii").remarks}


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.5, 0.999])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_cut_file_is_unreadable(tmp_path, share, ending):
    whole = save_nifti(tmp_path / f"head{ending}", *make_head()).read_bytes()
    (tmp_path / f"cut{ending}").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UnreadableFile):
        read_one(tmp_path / f"cut{ending}")


def test_two_volumes_are_refused_and_one_beside_a_text_is_read(tmp_path):
    save_nifti(tmp_path / "a.nii.gz", *make_head())
    (tmp_path / "README.md").write_text("a head")
    assert read_one(tmp_path).shape == (38, 128, 110)
    save_nifti(tmp_path / "b.nii.gz", *make_head())
    with pytest.raises(UnreadableFile, match=r"holds 2 volumes: a\.nii\.gz, b\.nii\.gz"):
        read_one(tmp_path)


def test_the_cranium_is_what_nibabel_reads():
    path = find_data_set("cranium/cranium_hu.nii.gz")
    image = nibabel.as_closest_canonical(nibabel.load(path))
    scan = read_one(path)
    assert np.array_equal(scan.hu, np.rint(image.get_fdata())[::-1, ::-1].transpose(2, 1, 0))
    corner = image.affine @ [image.shape[0] - 1, image.shape[1] - 1, 0, 1]
    assert scan.planes.to_lps_mm([0, 0, 0])[0] == pytest.approx(corner[:3] * [-1, -1, 1])
    assert scan.pixel_spacing_mm == pytest.approx((0.957, 0.957), abs=1e-3)


def test_bhsd_slices_as_sixteen_bit_nifti_are_heads(tmp_path):
    for path in sorted(find_data_set("bhsd_mini/images_hu0_255").glob("*.png"))[::6]:
        values = np.asarray(Image.open(path)).astype(np.int16)
        affine = np.diag([-0.45, -0.45, 5.0, 1.0])
        scan = read_one(save_nifti(tmp_path / f"{path.stem}.nii.gz", values.T[..., None], affine))
        assert np.array_equal(scan.hu[0], values) and scan.calibrated
        assert scan.weights_mm == pytest.approx([5.0])


@pytest.mark.parametrize("shape", [(1000, 1000, 1000), (-100, -100, 10), (100, 0, 10)])
def test_dims_that_lie_are_refused_before_memory_is_taken(tmp_path, shape):
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header["dim"][:4] = (3, *shape)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    (tmp_path / "head.nii").write_bytes(header.binaryblock + bytes(104))
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableFile):
            read_one(tmp_path / "head.nii")
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_slope_costs_no_volume_of_floats(tmp_path):
    path = save_nifti(tmp_path / "head.nii", *make_head())
    raw = bytearray(path.read_bytes())
    raw[112:120] = np.array([2, -1000], "<f4").tobytes()
    path.write_bytes(raw)
    nifti.read_nifti(InputFile("head.nii", path=path))
    tracemalloc.start()
    try:
        scan = nifti.read_nifti(InputFile("head.nii", path=path))
        assert tracemalloc.get_traced_memory()[1] < 8 * scan.hu.size
    finally:
        tracemalloc.stop()
    assert np.array_equal(scan.hu[::-1], np.rint(nibabel.load(path).get_fdata())[::-1, ::-1].transpose(2, 1, 0)[::-1])


def test_a_file_beyond_the_bound_is_not_read(tmp_path):
    with (tmp_path / "head.nii").open("wb") as file:
        file.truncate(2**31 + 1)
    with pytest.raises(TooLarge, match="at most"):
        nifti.read_nifti(InputFile("head.nii", path=tmp_path / "head.nii"))


def test_complex_voxels_are_refused(tmp_path):
    values, affine = make_head()
    with pytest.raises(UnreadableFile, match="not a single volume"):
        read_one(save_nifti(tmp_path / "head.nii", values.astype(np.complex64), affine))


def test_no_words_of_nibabel_are_quoted(tmp_path):
    path = save_nifti(tmp_path / "head.nii", *make_head())
    raw = bytearray(path.read_bytes())
    raw[70:72] = (9999).to_bytes(2, "little")  # a data type that is none
    path.write_bytes(raw)
    with pytest.raises(UnreadableFile) as caught:
        read_one(path)
    assert caught.value.message == "head.nii: not a readable NIfTI file (HeaderDataError)"


def test_a_picture_beside_a_volume_is_left_out(tmp_path):
    alone = read_one(save_nifti(tmp_path / "head.nii.gz", *make_head()))
    Image.new("L", (90, 90), 128).save(tmp_path / "preview.png")
    (tmp_path / "README.md").write_text("a head")
    scan = read_one(tmp_path)
    assert np.array_equal(scan.hu, alone.hu)
    [remark] = [remark for remark in scan.remarks if remark.code == "left-out"]
    assert "1 x picture" in remark.message and "1 x other file" in remark.message


@pytest.mark.parametrize("value", [-2048 - 976, -10000, -32768, -(2**31)])
def test_one_value_that_pads_a_volume_becomes_air_with_a_remark(tmp_path, value):
    values, affine = make_head()
    values = values.astype(np.int32)
    values[:4] = value
    scan = read_one(save_nifti(tmp_path / "head.nii", values, affine))
    assert (scan.hu[:, :, -4:] == -1024).all() and scan.hu.min() >= -1024
    [remark] = [remark for remark in scan.remarks if remark.code == "no-numbers"]
    assert remark.severity == "repaired" and f"{4 * 128 * 38} values" in remark.message


def test_many_values_far_below_air_are_no_padding(tmp_path):
    values, affine = make_head()
    values[0] = np.linspace(-20_000, -10_000, 128 * 38).reshape(128, 38)
    with pytest.raises(NoHounsfield):
        read_one(save_nifti(tmp_path / "head.nii", values, affine))


@pytest.mark.parametrize("image_class", [nibabel.Nifti1Pair, nibabel.Nifti2Pair])
@pytest.mark.parametrize("given", ["head.hdr", "head.img", "."])
def test_a_pair_of_header_and_voxels_is_read_as_the_single_file(tmp_path, image_class, given):
    values, affine = make_head()
    for folder in ("single", "pair"):
        (tmp_path / folder).mkdir()
    single = read_one(save_nifti(tmp_path / "single/head.nii", values, affine))
    image_class(values, affine).to_filename(tmp_path / "pair/head.img")
    scan = read_one(tmp_path / "pair" / given)
    assert np.array_equal(scan.hu, single.hu)
    assert np.allclose(scan.planes.positions_mm, single.planes.positions_mm, atol=1e-4)  # 32 bits beside 64
    assert [remark.code for remark in scan.remarks] == [remark.code for remark in single.remarks]


def test_half_a_pair_or_one_of_analyze_is_refused(tmp_path):
    values, affine = make_head()
    nibabel.Nifti1Pair(values, affine).to_filename(tmp_path / "head.img")
    (tmp_path / "head.img").rename(tmp_path / "other.img")
    with pytest.raises(UnreadableFile, match=r"without its voxels, head\.img"):
        read_one(tmp_path / "head.hdr")
    nibabel.AnalyzeImage(values.astype(np.int16), affine).to_filename(tmp_path / "old.img")
    with pytest.raises(UnreadableFile, match="Analyze"):
        read_one(tmp_path / "old.hdr")
