import nibabel
import numpy as np
import pytest
from PIL import Image

from strokeseg.errors import TrainError
from strokeseg.evaluation import find_normals, find_pairs

SIZE = (12, 10)


def make_mask(*blood, value=255):
    mask = np.zeros(SIZE, dtype=np.uint8)
    for row, column in blood:
        mask[row, column] = value
    return mask


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


@pytest.fixture
def folder(tmp_path):
    for name in ("077_20", "077_21", "080_3"):
        save(tmp_path / f"images/{name}.jpg", np.full(SIZE, 90, dtype=np.uint8))
        save(tmp_path / f"masks/{name}.png", make_mask((3, 4)))
    return tmp_path


def test_images_and_masks_meet_by_name_whatever_their_extensions(folder):
    pairs = find_pairs(folder)
    assert [pair.name for pair in pairs] == ["077_20", "077_21", "080_3"]
    assert all(pair.image.suffix == ".jpg" and pair.mask.suffix == ".png" for pair in pairs)


def test_a_name_up_to_its_last_underscore_is_the_patient(folder):
    assert [pair.patient for pair in find_pairs(folder)] == ["077", "077", "080"]


def test_a_name_without_underscore_is_a_patient_of_its_own(tmp_path):
    save(tmp_path / "images/a7.png", make_mask())
    save(tmp_path / "masks/a7.png", make_mask())
    assert find_pairs(tmp_path)[0].patient == "a7"


@pytest.mark.parametrize("key", ["id", "file"])
def test_the_patient_column_of_the_index_counts_more_than_the_name(folder, key):
    ending = ".jpg" if key == "file" else ""
    rows = [f"{name}{ending},{who}" for name, who in (("077_20", "A"), ("077_21", "B"), ("080_3", "A"))]
    (folder / "index.csv").write_text("\n".join([f"{key},patient", *rows]))
    assert [pair.patient for pair in find_pairs(folder)] == ["A", "B", "A"]


def test_any_column_of_the_index_can_be_named(folder):
    (folder / "index.csv").write_text("id,patient,group\n077_20,A,g1\n077_21,B,g2\n080_3,C,g2\n")
    assert [pair.patient for pair in find_pairs(folder, patient="group")] == ["g1", "g2", "g2"]


def test_an_expression_gives_the_patient(folder):
    assert [pair.patient for pair in find_pairs(folder, patient=r"^(\d\d)")] == ["07", "07", "08"]
    assert [pair.patient for pair in find_pairs(folder, patient=r"\d+$")] == ["20", "21", "3"]


def test_folders_can_have_other_names(folder):
    (folder / "images").rename(folder / "images_227")
    (folder / "masks").rename(folder / "masks_227")
    assert len(find_pairs(folder, images="images_227", masks="masks_227")) == 3


@pytest.mark.parametrize("value", [1, 255])
def test_truth_is_where_the_mask_is_not_zero(tmp_path, value):
    save(tmp_path / "images/a.png", make_mask())
    save(tmp_path / "masks/a.png", make_mask((3, 4), (5, 6), value=value))
    truth, known = find_pairs(tmp_path)[0].read_truth()
    assert truth.shape == known.shape == (1, *SIZE)
    assert known.all()
    assert np.argwhere(truth).tolist() == [[0, 3, 4], [0, 5, 6]]


def test_an_ignored_value_is_neither_blood_nor_none(folder):
    mask = make_mask((3, 4))
    mask[7, 7] = 128
    save(folder / "masks/077_20.png", mask)
    truth, known = find_pairs(folder, ignore=128)[0].read_truth()
    assert np.argwhere(truth).tolist() == [[0, 3, 4]]
    assert np.argwhere(~known).tolist() == [[0, 7, 7]]


def check_refused(folder, *said, **options):
    with pytest.raises(TrainError) as caught:
        find_pairs(folder, **options)
    sentence = f"{caught.value} {caught.value.remedy}"
    assert caught.value.code == "train"
    for words in said:
        assert words in sentence
    return sentence


def test_a_missing_mask_is_named(folder):
    (folder / "masks/077_21.png").unlink()
    check_refused(folder, "images/077_21.jpg has no mask")


def test_a_mask_of_another_size_is_named_with_both_sizes(folder):
    save(folder / "masks/080_3.png", np.zeros((10, 12), dtype=np.uint8))
    check_refused(folder, "masks/080_3.png", "10 x 12", "12 x 10")


def test_a_mask_with_128_is_refused_and_the_remedy_says_how_to_ignore_it(folder):
    save(folder / "masks/080_3.png", make_mask((1, 1), value=128))
    check_refused(folder, "masks/080_3.png", "not binary", "128", "ignore 128")


def test_a_mask_saved_as_jpeg_is_refused(folder):
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[3:7, 2:5] = 255
    (folder / "masks/080_3.png").unlink()
    save(folder / "masks/080_3.jpg", mask)
    check_refused(folder, "not binary", "PNG")


def test_a_mask_of_several_classes_is_refused(folder):
    save(folder / "masks/080_3.png", make_mask((1, 1), value=3))
    check_refused(folder, "not binary", "holds 3")


def test_a_coloured_mask_is_refused(folder):
    mask = np.zeros((*SIZE, 3), dtype=np.uint8)
    mask[2, 2] = (255, 0, 0)
    save(folder / "masks/080_3.png", mask)
    check_refused(folder, "coloured")


def test_a_text_file_named_png_is_refused(folder):
    (folder / "masks/080_3.png").write_text("no picture")
    check_refused(folder, "masks/080_3.png", "not a readable picture")


def test_two_images_of_one_name_are_refused(folder):
    save(folder / "images/080_3.png", make_mask())
    check_refused(folder, "080_3.jpg", "080_3.png", "same name")


def test_an_empty_folder_is_refused(tmp_path):
    check_refused(tmp_path, "no image with a mask")
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    check_refused(tmp_path, "no image with a mask")


def test_a_path_that_is_not_there_is_refused(tmp_path):
    check_refused(tmp_path / "nowhere", "no such folder")


def test_images_without_a_folder_of_masks_are_refused(folder):
    check_refused(folder, "no such folder of masks", masks="labels")


def test_an_image_that_the_index_does_not_know_is_refused(folder):
    (folder / "index.csv").write_text("id,patient\n077_20,A\n")
    check_refused(folder, "077_21.jpg", "index.csv")


def test_a_patient_that_is_neither_column_nor_match_is_refused_with_the_columns(folder):
    (folder / "index.csv").write_text("id,group\n077_20,A\n")
    check_refused(folder, "'study'", "id, group", patient="study")
    check_refused(folder, "expression", patient="(")


def volume(path, values, codes=("L", "P", "S")):
    """Save an array given as (slices, rows, columns) in a Scan's directions, with the axes that the codes say."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lps = nibabel.Nifti1Image(values.transpose(2, 1, 0), np.diag([-0.5, -0.5, 5, 1]))
    now = nibabel.io_orientation(lps.affine)
    turn = nibabel.orientations.ornt_transform(now, nibabel.orientations.axcodes2ornt(codes))
    nibabel.save(lps.as_reoriented(turn), path)


@pytest.mark.parametrize("codes", [("R", "A", "S"), ("L", "P", "S"), ("S", "R", "P"), ("A", "I", "L")])
def test_a_volume_comes_in_the_order_of_a_scan_however_it_is_stored(tmp_path, codes):
    mask = np.zeros((3, 12, 10), dtype=np.uint8)
    mask[2, 3, 4] = 1
    volume(tmp_path / "images/head_1.nii.gz", np.zeros_like(mask), codes)
    volume(tmp_path / "masks/head_1.nii", mask)
    (pair,) = find_pairs(tmp_path)
    truth, _ = pair.read_truth()
    assert truth.shape == mask.shape
    assert np.argwhere(truth).tolist() == [[2, 3, 4]]
    assert pair.patient == "head_1"


def test_volumes_beside_their_masks_are_found(tmp_path):
    for name in ("a", "b"):
        volume(tmp_path / f"{name}.nii.gz", np.zeros((3, 12, 10), dtype=np.int16))
    volume(tmp_path / "a_mask.nii.gz", np.zeros((3, 12, 10), dtype=np.uint8))
    check_refused(tmp_path, "b.nii.gz has no mask")
    volume(tmp_path / "b_seg.nii.gz", np.zeros((3, 12, 10), dtype=np.uint8))
    assert [(pair.name, pair.mask.name) for pair in find_pairs(tmp_path)] == [
        ("a", "a_mask.nii.gz"),
        ("b", "b_seg.nii.gz"),
    ]


def test_a_volume_with_a_mask_of_other_slices_is_refused(tmp_path):
    volume(tmp_path / "a.nii.gz", np.zeros((3, 12, 10), dtype=np.int16))
    volume(tmp_path / "a_mask.nii.gz", np.zeros((4, 12, 10), dtype=np.uint8))
    check_refused(tmp_path, "4 x 12 x 10", "3 x 12 x 10")


@pytest.mark.parametrize(
    ("name", "options", "slices", "patients"),
    [
        ("ctich_jpg", {}, 36, 5),
        ("ctich_train", {}, 110, 18),
        ("bhsd_slices", {}, 378, 174),
        ("phe_sich_clots", {"ignore": 128}, 509, 97),
        ("rsna_hemseg", {}, 24, None),
        ("bhsd_mini", {"images": "images_hu0_255", "masks": "masks_binary", "patient": "volume"}, 36, 25),
        (
            "head_ct_hemorrhage",
            {"images": "images_227", "masks": "masks_227", "patient": "neardup_group"},
            66,
            53,
        ),
    ],
)
def test_every_set_is_found_whole(shared_data, name, options, slices, patients):
    pairs = find_pairs(shared_data / name, **options)
    assert len(pairs) == slices
    if patients:
        assert len({pair.patient for pair in pairs}) == patients


def test_a_volumes_spacing_is_that_of_its_slices_however_it_lies(tmp_path):
    # Slices stored first, rows and columns after; sheared, as a tilted gantry leaves it: 5 mm along, 4.33 to the next.
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 0.4], [2.5, 0.5, 0], [5 * np.sqrt(3) / 2, 0, 0]])
    for name in ("a", "a_mask"):
        nibabel.save(nibabel.Nifti1Image(np.zeros((3, 6, 7), dtype=np.uint8), affine), tmp_path / f"{name}.nii.gz")
    (pair,) = find_pairs(tmp_path)
    assert pair.is_volume and pair.read_spacing_mm() == pytest.approx((5 * np.sqrt(3) / 2, 0.5, 0.4))


def test_a_volume_in_metres_has_its_spacing_in_mm(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((6, 7, 3), dtype=np.uint8), np.diag([0.0004, 0.0005, 0.005, 1]))
    image.header.set_xyzt_units("meter")
    for name in ("a", "a_mask"):
        nibabel.save(image, tmp_path / f"{name}.nii.gz")
    assert find_pairs(tmp_path)[0].read_spacing_mm() == pytest.approx((5, 0.5, 0.4))


def test_a_picture_has_the_spacing_that_is_given_or_none(folder):
    assert {pair.read_spacing_mm() for pair in find_pairs(folder)} == {None}
    assert find_pairs(folder, picture_spacing_mm=(5, 0.4, 0.4))[0].read_spacing_mm() == (5, 0.4, 0.4)


def test_normals_need_no_masks_and_have_patients_as_pairs_do(tmp_path):
    for name in ("9_1", "9_2", "b"):
        save(tmp_path / f"{name}.png", np.full(SIZE, 90, dtype=np.uint8))
    normals = find_normals(tmp_path)
    assert [(each.name, each.patient) for each in normals] == [("9_1", "9"), ("9_2", "9"), ("b", "b")]
    assert [each.patient for each in find_normals(tmp_path, r"^(.)")] == ["9", "9", "b"]
    truth, known = normals[0].read_truth()
    assert truth.shape == known.shape == (1, *SIZE) and not truth.any() and known.all()


def test_a_folder_without_normals_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(TrainError, match="no image in it"):
            find_normals(folder)
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(TrainError, match="not a readable picture"):
        find_normals(tmp_path)


@pytest.fixture
def healthy(tmp_path):
    path = tmp_path / "healthy"
    path.mkdir()
    save(path / "9_1.png", np.full(SIZE, 90, dtype=np.uint8))
    return path


def test_a_normal_that_is_one_of_the_pairs_is_refused(folder, healthy):
    pairs = find_pairs(folder)
    with pytest.raises(TrainError, match=r"the same file as images/077_20\.jpg"):
        find_normals(folder / "images", pairs=pairs)
    assert find_normals(healthy, pairs=pairs)
    (healthy / "other_1.jpg").write_bytes(pairs[0].image.read_bytes())
    with pytest.raises(TrainError, match=r"other_1\.jpg: a normal, and the same file as"):
        find_normals(healthy, pairs=pairs)


def test_a_normal_that_is_named_like_a_mask_is_refused(healthy):
    save(healthy / "9_1_mask.png", np.zeros(SIZE, dtype=np.uint8))
    with pytest.raises(TrainError, match=r"9_1_mask\.png: a normal that is named like a mask"):
        find_normals(healthy)


def test_a_column_that_the_pairs_alone_have_says_nothing_of_the_normals(folder, healthy):
    (folder / "index.csv").write_text("id,group\n077_20,A\n")
    assert [each.patient for each in find_normals(healthy, "group", beside=folder)] == ["9"]
    (healthy / "index.csv").write_text("id,group\n9_1,B\n")
    assert [each.patient for each in find_normals(healthy, "group", beside=folder)] == ["B"]


def test_an_index_in_another_encoding_is_refused(folder):
    (folder / "index.csv").write_bytes("id,patient\n077_20,M\u00fcller\n".encode("latin-1"))
    check_refused(folder, "index.csv", "not a readable table")
    (folder / "index.csv").write_text("patient,id\nA\n")
    check_refused(folder, "index.csv has no patient")


def test_no_postscript_is_run_whatever_a_picture_is_named(tmp_path, monkeypatch):
    """Pillow hands EPS to Ghostscript: to a program of that name that is found first."""
    ran = tmp_path / "ran"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {ran}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n"
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "p_1.png").write_bytes(eps)
    with pytest.raises(TrainError, match="not a readable picture"):
        find_pairs(tmp_path)
    assert not ran.exists()
