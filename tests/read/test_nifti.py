"""NIfTI in any axis order, against the analytic head and nibabel."""

import nibabel
import numpy as np
import pytest
from PIL import Image

import synth
from shared import shared
from strokeseg.errors import InconsistentGeometry, NoHounsfield, NotHead, UnreadableFile
from strokeseg.read import read_one
from synth import BLEED_CENTRE_MM, BLEED_ML

STEP_MM = (1.5, 1.6, 3.0)
SHAPE = (110, 128, 38)
FIRST_RAS = np.array([-81.0, -102.0, -50.0])


def head(shear_mm=0.0):
    """Give (values, affine), RAS: left to right, back to front, feet to head; each slice moved on by shear_mm."""
    affine = np.eye(4)
    affine[:3, :3] = np.diag(STEP_MM)
    affine[1, 2] = shear_mm
    affine[:3, 3] = FIRST_RAS - [0, shear_mm * 19, 0]
    indices = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), axis=-1)
    ras = indices @ affine[:3, :3].T + affine[:3, 3]
    return synth.head_hu(ras * [-1, -1, 1]), affine


def save(path, values, affine):
    nibabel.Nifti1Image(values, affine).to_filename(path)
    return path


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "RPI", "SAR", "PIL", "ASL"])
def test_every_axis_order_gives_the_bleed_at_its_place(tmp_path, axes):
    values, affine = head()
    image = nibabel.Nifti1Image(values, affine)
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(axes))
    image.as_reoriented(turn).to_filename(tmp_path / "head.nii.gz")
    scan = read_one(tmp_path / "head.nii.gz")
    volume, centroid = synth.bleed_of(scan)
    assert scan.kind == "nifti" and scan.shape == (38, 128, 110)
    assert volume == pytest.approx(BLEED_ML, rel=0.02)
    assert np.abs(centroid - BLEED_CENTRE_MM).max() < 0.75
    assert scan.planes.row_cosine == pytest.approx([1, 0, 0])  # the patient's left on the right, face up
    assert scan.planes.column_cosine == pytest.approx([0, 1, 0]) and scan.planes.normal[2] > 0
    assert not {remark.code for remark in scan.remarks} & {"no-orientation", "gantry-tilt"}


def test_a_sheared_affine_is_a_tilted_series(tmp_path):
    scan = read_one(save(tmp_path / "head.nii", *head(shear_mm=0.9)))
    volume, centroid = synth.bleed_of(scan)
    assert scan.planes.tilt_deg == pytest.approx(np.degrees(np.arctan2(0.9, 3.0)))
    assert volume == pytest.approx(BLEED_ML, rel=0.02) and np.abs(centroid - BLEED_CENTRE_MM).max() < 0.75


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_every_number_type_gives_the_same(tmp_path, dtype):
    values, affine = head()
    scan = read_one(save(tmp_path / "head.nii", values.astype(dtype), affine))
    assert np.array_equal(scan.hu, values[::-1, ::-1].transpose(2, 1, 0))


def test_scaled_values_are_read_as_nibabel_reads_them(tmp_path):
    values, affine = head()
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
    values, affine = head()
    assert read_one(save(tmp_path / "one.nii", values[..., None], affine)).shape == (38, 128, 110)
    with pytest.raises(UnreadableFile, match="no single volume"):
        read_one(save(tmp_path / "two.nii", np.stack([values, values], axis=-1), affine))


def test_values_that_are_no_numbers_become_air_with_a_remark(tmp_path):
    values, affine = head()
    values = values.astype(np.float32)
    values[:3] = np.nan
    values[0, 0, 0] = np.inf
    scan = read_one(save(tmp_path / "head.nii", values, affine))
    assert (scan.hu[:, :, -3:] == -1024).all()
    [remark] = [remark for remark in scan.remarks if remark.code == "no-numbers"]
    assert remark.severity == "repaired" and str(3 * 128 * 38) in remark.message


def test_mostly_nan_masks_and_label_maps_are_no_hounsfield_units(tmp_path):
    values, affine = head()
    for name, wrong in {
        "nan": np.full(SHAPE, np.nan, np.float32),
        "mask": (values == 65).astype(np.uint8),
        "labels": (values == 65).astype(np.uint8) * 4,
        "share": np.clip(values / 100, 0, 1).astype(np.float32),
    }.items():
        with pytest.raises(NoHounsfield):
            read_one(save(tmp_path / f"{name}.nii", wrong, affine))
    with pytest.raises(NotHead):
        read_one(save(tmp_path / "mask255.nii", (values == 65).astype(np.uint8) * 255, affine))


@pytest.mark.parametrize("wrong", ["flat", "skewed", "rows-not-square"])
def test_an_affine_that_spans_no_volume_is_refused(tmp_path, wrong):
    values, affine = head()
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


def test_no_stated_orientation_is_remarked(tmp_path):
    values, _ = head()
    image = nibabel.Nifti1Image(values, None)
    image.header.set_zooms(STEP_MM)
    image.to_filename(tmp_path / "head.nii")
    assert "no-orientation" in {remark.code for remark in read_one(tmp_path / "head.nii").remarks}


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.5, 0.999])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_cut_file_is_unreadable(tmp_path, share, ending):
    whole = save(tmp_path / f"head{ending}", *head()).read_bytes()
    (tmp_path / f"cut{ending}").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UnreadableFile):
        read_one(tmp_path / f"cut{ending}")


def test_two_volumes_are_refused_and_one_beside_a_text_is_read(tmp_path):
    save(tmp_path / "a.nii.gz", *head())
    (tmp_path / "README.md").write_text("a head")
    assert read_one(tmp_path).shape == (38, 128, 110)
    save(tmp_path / "b.nii.gz", *head())
    with pytest.raises(UnreadableFile, match="2 NIfTI files"):
        read_one(tmp_path)


def test_the_cranium_is_what_nibabel_reads():
    path = shared("cranium/cranium_hu.nii.gz")
    image = nibabel.as_closest_canonical(nibabel.load(path))
    scan = read_one(path)
    assert np.array_equal(scan.hu, np.rint(image.get_fdata())[::-1, ::-1].transpose(2, 1, 0))
    corner = image.affine @ [image.shape[0] - 1, image.shape[1] - 1, 0, 1]
    assert scan.planes.to_lps_mm([0, 0, 0])[0] == pytest.approx(corner[:3] * [-1, -1, 1])
    assert scan.pixel_spacing_mm == pytest.approx((0.957, 0.957), abs=1e-3)


def test_bhsd_slices_as_sixteen_bit_nifti_are_heads(tmp_path):
    for path in sorted(shared("bhsd_mini/images_hu0_255").glob("*.png"))[::6]:
        values = np.asarray(Image.open(path)).astype(np.int16)
        affine = np.diag([-0.45, -0.45, 5.0, 1.0])
        scan = read_one(save(tmp_path / f"{path.stem}.nii.gz", values.T[..., None], affine))
        assert np.array_equal(scan.hu[0], values) and scan.calibrated
        assert scan.weights_mm == pytest.approx([5.0])
