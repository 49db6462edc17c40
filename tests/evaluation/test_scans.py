"""Folders of whole scans with their masks, and masks on the pixels of scans in another order or orientation."""

import nibabel
import numpy as np
import pytest
from PIL import Image

from phantoms import head_series
from strokeseg.errors import NotHead, TrainError
from strokeseg.evaluation import evaluate_scans, find_scans, find_scans_without_blood
from strokeseg.evaluation.scan_reference import list_pictures_in_order, read_picture_masks, read_volume_mask
from strokeseg.reading import read_one
from tests.cli.conftest import head, save_nifti

BLOOD = head() == 65


def write_pictures(folder, hu, first=1):
    """Pictures 1.png, 2.png, ... 12.png: not in the order of the alphabet."""
    folder.mkdir(parents=True)
    for number, plane in enumerate(hu, start=first):
        grey = np.clip(plane / 80 * 255, 0, 255).astype(np.uint8)
        Image.fromarray(grey).save(folder / f"{number}.png")
    return folder


def write_masks(folder, blood, first=1):
    """Masks of the slices with blood alone."""
    folder.mkdir(parents=True)
    for number, plane in enumerate(blood, start=first):
        if plane.any():
            Image.fromarray(plane.astype(np.uint8) * 255).save(folder / f"{number}.png")
    return folder


def save_mask(path, blood, orientation="LPS"):
    """A mask on the pixels of the head of tests.cli.conftest, stored in some orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_nifti(path, blood.astype(np.uint8))
    image = nibabel.load(path)
    turned = image.as_reoriented(
        nibabel.orientations.ornt_transform(
            nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(orientation)
        )
    )
    nibabel.save(nibabel.Nifti1Image(np.asanyarray(turned.dataobj), turned.affine), path)
    return path


@pytest.fixture
def patients(tmp_path):
    """Three patients: pictures with masks, a volume with its mask beside, and pictures without blood."""
    folder = tmp_path / "patients"
    write_pictures(folder / "p2", head())
    write_masks(folder / "masks" / "p2", BLOOD)
    write_pictures(folder / "p10", head(lesion=False))
    save_nifti(folder / "volume.nii.gz", head())
    save_mask(folder / "volume_mask.nii.gz", BLOOD)
    (folder / "index.csv").write_text("patient,blood,role\np2,1,train\np10,0,train\nvolume,1,test\n")
    (folder / "README.md").write_text("Not a scan.")
    return folder


def test_scans_and_masks_are_found(patients):
    cases = find_scans(patients)
    assert [(case.name, case.blood) for case in cases] == [("p2", True), ("p10", False), ("volume", True)]
    for case, truth in zip(cases, (BLOOD, np.zeros_like(BLOOD), BLOOD), strict=True):
        reference = case.read_reference(read_one(case.image, window=(40, 80)))
        assert (reference.truth == truth).all() and reference.known.all()


def test_a_role_selects_patients_and_does_not_open_the_others(patients):
    (patients / "p2" / "1.png").write_bytes(b"damaged")
    assert [case.name for case in find_scans(patients, role="test")] == ["volume"]
    with pytest.raises(TrainError, match="no scan with the role validation"):
        find_scans(patients, role="validation")
    (patients / "index.csv").write_text("patient,blood\np2,1\np10,0\nvolume,1\n")
    with pytest.raises(TrainError, match="no role for p2"):
        find_scans(patients, role="test")


def test_a_scan_without_a_mask_is_not_taken_for_one_without_blood(patients):
    (patients / "index.csv").unlink()
    with pytest.raises(TrainError, match=r"p10: no mask, and index\.csv does not say"):
        find_scans(patients)


def test_images_in_a_folder_of_their_own_and_patients_by_their_names(tmp_path):
    for name in ("a_first", "a_second"):
        write_pictures(tmp_path / "images" / name, head())
        save_nifti(tmp_path / "images" / f"{name}_ct.nii.gz", head())
        write_masks(tmp_path / "masks" / name, BLOOD)
        save_mask(tmp_path / "masks" / f"{name}_ct.nii.gz", BLOOD)
    cases = find_scans(tmp_path, patient="^(a)_")
    assert {case.patient for case in cases} == {"a"} and len(cases) == 4
    assert {case.patient for case in find_scans(tmp_path)} == {"a_first", "a_second", "a_first_ct", "a_second_ct"}


def test_a_mask_inside_the_folder_of_a_volume(tmp_path):
    (tmp_path / "p1").mkdir()
    volume = save_nifti(tmp_path / "p1" / "ct.nii.gz", head())
    save_mask(tmp_path / "p1" / "mask.nii.gz", BLOOD)
    (case,) = find_scans(tmp_path)
    assert (case.name, case.image) == ("p1", volume)
    assert (case.read_reference(read_one(volume)).truth == BLOOD).all()


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "SAR", "PIL"])
def test_a_mask_in_any_orientation_lies_on_its_scan(tmp_path, orientation):
    scan = read_one(save_nifti(tmp_path / "ct.nii.gz", head()))
    mask = save_mask(tmp_path / "ct_mask.nii.gz", BLOOD, orientation)
    assert (read_volume_mask(scan, mask).truth == BLOOD).all()


def test_a_mask_of_a_dicom_series_lies_where_the_lesion_is_in_the_patient(tmp_path):
    """The series is 6 mm apart; the mask is drawn from the ellipsoid itself, in RAS."""
    head_series.write_series(tmp_path / "p1")
    scan = read_one(tmp_path / "p1")
    slices, rows, columns = scan.shape
    corners = scan.planes.to_lps_mm([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]])
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = (corners[1:] - corners[0]).T, corners[0]
    points = np.moveaxis(np.indices((columns, rows, slices)), 0, -1) @ lps[:3, :3].T + lps[:3, 3]
    blood = head_series.inside_ellipsoid(points, head_series.LESION_MM, head_series.LESION_CENTRE_MM)
    mask = nibabel.Nifti1Image(blood.astype(np.uint8), np.diag([-1.0, -1, 1, 1]) @ lps)
    nibabel.save(mask, tmp_path / "p1_mask.nii.gz")
    truth = read_volume_mask(scan, tmp_path / "p1_mask.nii.gz").truth
    assert truth.sum() == blood.sum() > 100
    assert scan.hu[truth].mean() == pytest.approx(65, abs=3)


def test_a_mask_on_other_pixels_is_refused(tmp_path):
    scan = read_one(save_nifti(tmp_path / "ct.nii.gz", head()))
    mask = save_mask(tmp_path / "mask.nii.gz", BLOOD)
    image = nibabel.load(mask)
    for affine, values in (
        (image.affine + np.diag([0.5, 0, 0, 0]), np.asanyarray(image.dataobj)),
        (image.affine, np.asanyarray(image.dataobj)[:, :, :-1]),
    ):
        nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "other.nii.gz")
        with pytest.raises(TrainError, match="not on the pixels of its scan"):
            read_volume_mask(scan, tmp_path / "other.nii.gz")


def test_masks_of_a_stack_that_the_reader_turned_are_turned_too(tmp_path):
    pictures, masks = write_pictures(tmp_path / "p1", head()), write_masks(tmp_path / "masks", BLOOD)
    scan = read_one(pictures, window=(40, 80))
    assert [path.stem for path in list_pictures_in_order(pictures, scan)] == [str(number) for number in range(1, 13)]
    # The phantom's first and last slice are alike; one is made to differ.
    lowest = scan.hu[0].copy()
    lowest[60:64, 60:64] = 80
    grey = np.clip(lowest / 80 * 255, 0, 255).astype(np.uint8)
    Image.fromarray(grey).save(pictures / "1.png")
    turned = read_one(pictures, window=(40, 80), order="highest-first")
    assert [path.stem for path in list_pictures_in_order(pictures, turned)][:2] == ["12", "11"]
    assert (read_picture_masks(turned, pictures, masks).truth == BLOOD[::-1]).all()


def test_a_mask_of_no_picture_or_of_another_size_is_named(tmp_path):
    pictures, masks = write_pictures(tmp_path / "p1", head()), write_masks(tmp_path / "masks", BLOOD)
    scan = read_one(pictures, window=(40, 80))
    Image.fromarray(np.zeros((64, 64), dtype=np.uint8)).save(masks / "6.png")
    with pytest.raises(TrainError, match=r"masks/6\.png: the mask has 64 x 64 pixels"):
        read_picture_masks(scan, pictures, masks)
    (masks / "6.png").rename(masks / "13.png")
    with pytest.raises(TrainError, match=r"masks/13\.png: p1 has no picture"):
        read_picture_masks(scan, pictures, masks)


def test_a_picture_that_was_not_read_as_a_slice_is_not_guessed(tmp_path):
    pictures = write_pictures(tmp_path / "p1", head())
    scan = read_one(pictures, window=(40, 80))
    (pictures / "12.png").unlink()
    with pytest.raises(TrainError, match="12 slices were read, and there are 11 pictures"):
        list_pictures_in_order(pictures, scan)


def test_normals_need_no_masks(patients, tmp_path):
    write_pictures(tmp_path / "healthy" / "n1", head(lesion=False))
    (case,) = find_scans_without_blood(tmp_path / "healthy")
    assert (case.name, case.blood) == ("n1", False)
    with pytest.raises(TrainError, match="no scan"):
        find_scans_without_blood(patients / "p2")


def refuse(path):
    raise NotHead(f"{path.name}: no slice shows a head")


def test_a_set_of_which_every_scan_is_refused(patients):
    with pytest.raises(TrainError, match=r"no scan to score; refused: p2 \(not-head\), p10 \(not-head\)"):
        evaluate_scans(find_scans(patients), refuse)
