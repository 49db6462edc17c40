"""Data sets of one's own: folders made by hand in each layout, read back slice by slice."""

import json
import logging
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from data_sets import find_data_set
from strokeseg.errors import TrainError
from strokeseg.training import config, data, own_datasets
from strokeseg.training.sample import UNKNOWN, Sample

SIZE, SLICES, AIR, HEAD = 96, 6, 0, (1, 2, 3, 4, 5)
BLEED = (slice(20, 30), slice(52, 66))  # rows (towards the face), columns (the patient's left)


def make_head():
    """A skull with brain of 35 HU in (slice, row, column), face up; the lowest slice holds air alone."""
    rows, columns = np.indices((SIZE, SIZE))
    far = np.hypot((rows - 47.5) / 44, (columns - 47.5) / 36)
    plane = np.where(far < 0.88, 35, np.where(far < 1, 900, -1000))
    hu = np.repeat(plane[None], SLICES, 0).astype(np.int16)
    hu[AIR] = -1000
    mask = np.zeros(hu.shape, np.uint8)
    hu[3, *BLEED], mask[3, *BLEED] = 70, 1
    return hu, mask


def save(path, array, way="LPS"):
    """Write an array (slice, row, column) whose axes run to the head, the back and the left, stored in a given way."""
    to_lps = np.diag([2.0, 2.0, 5.0, 1.0])
    image = nibabel.Nifti1Image(np.transpose(array, (2, 1, 0)), np.diag([-1.0, -1.0, 1.0, 1.0]) @ to_lps)
    wanted = nibabel.orientations.axcodes2ornt(way)
    here = nibabel.io_orientation(image.affine)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image.as_reoriented(nibabel.orientations.ornt_transform(here, wanted)), path)


def load(root, kind, **more):
    own = own_datasets.make_sources({"mine": own_datasets.OwnDataset(kind=kind, folder="set", licence="CC0", **more)})
    return data.load(root, "mine", own=own)


def physionet(folder, patient="053", diagnosed=(4,), way="RAS"):
    hu, mask = make_head()
    save(folder / f"ct_scans/{patient}.nii", hu, way)
    save(folder / f"masks/{patient}.nii", mask * 255, way)
    table = folder / "hemorrhage_diagnosis_raw_ct.csv"
    kinds = "Intraventricular,Intraparenchymal,Subarachnoid,Epidural,Subdural"
    lines = (
        table.read_text() if table.exists() else f"PatientNumber,SliceNumber,{kinds},No_Hemorrhage,Fracture_Yes_No\n"
    )
    for number in range(1, SLICES + 1):
        blood = int(number in diagnosed)
        lines += f"{int(patient)},{number},0,{blood},0,0,0,{1 - blood},0\n"
    table.write_text(lines)


def is_the_head(samples, blood=3):
    """Every slice but the one of air, in order, with the one bleed on its pixels and nowhere else."""
    hu, mask = make_head()
    assert len(samples) == len(HEAD)
    for sample, index in zip(samples, HEAD, strict=True):
        assert np.array_equal(sample.hu, hu[index])
        if sample.labelled:
            assert np.array_equal(sample.mask, mask[index])
            assert sample.positive == (index == blood)


def test_a_test_patient_is_known_whatever_digits_name_its_files(tmp_path):
    physionet(tmp_path / "set", "53")
    physionet(tmp_path / "set", "49")
    physionet(tmp_path / "set", "0050")
    assert {sample.patient for sample in load(tmp_path, "physionet-ctich")} == {"ctich:053"}


@pytest.mark.parametrize("way", ["RAS", "LPS", "LAS", "RPI"])
def test_ct_ich_as_published_is_read_whichever_way_it_is_stored(tmp_path, way):
    physionet(tmp_path / "set", diagnosed=(4,) if way[2] == "S" else (3,), way=way)
    samples = load(tmp_path, "physionet-ctich")
    is_the_head(samples)
    assert {sample.patient for sample in samples} == {"ctich:053"}
    assert all(sample.labelled for sample in samples)


@pytest.mark.parametrize(("way", "slice_above"), [("RAS", 5), ("RPI", 2)])
def test_a_slice_with_a_diagnosis_and_no_outline_is_unlabelled_not_negative(tmp_path, way, slice_above):
    """Slices are counted from 1 in the file's own order: upwards in RAS, downwards in RPI."""
    physionet(tmp_path / "set", diagnosed=(slice_above,), way=way)
    unlabelled = [sample for sample in load(tmp_path, "physionet-ctich") if not sample.labelled]
    assert [sample.name for sample in unlabelled] == [f"053_{slice_above:03d}"]
    assert (unlabelled[0].mask == UNKNOWN).all() and unlabelled[0].positive


def test_the_test_patients_of_ct_ich_are_left_out_and_counted(tmp_path, caplog):
    physionet(tmp_path / "set", "053")
    physionet(tmp_path / "set", "079")
    with caplog.at_level(logging.WARNING):
        assert {sample.patient for sample in load(tmp_path, "physionet-ctich")} == {"ctich:053"}
    assert "5 slices of 1 test patients" in caplog.text


def test_bhsd_as_published_joins_its_five_kinds(tmp_path):
    hu, mask = make_head()
    save(tmp_path / "set/images/ID_0a1b_ID_77.nii.gz", hu)
    kinds = mask * 5
    kinds[3, 20:25, 52:66] = 2
    save(tmp_path / "set/ground truths/ID_0a1b_ID_77.nii.gz", kinds)
    samples = load(tmp_path, "bhsd")
    is_the_head(samples)
    assert {sample.patient for sample in samples} == {"rsna:ID_0a1b"}


LABELS = {
    "version 1": {"0": "background", "1": "blood"},
    "version 2": {"background": 0, "blood": 1},
    "regions": {"background": 0, "blood": [1, 3]},
    "ignore": {"background": 0, "blood": 1, "ignore": 2},
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS.keys())
def test_nnunet_volumes_take_their_labels_from_dataset_json(tmp_path, labels):
    hu, mask = make_head()
    mask[4, 50:60, 50:60] = 2 if "ignore" in labels else 0
    save(tmp_path / "set/imagesTr/case1_0000.nii.gz", hu)
    save(tmp_path / "set/labelsTr/case1.nii.gz", mask)
    (tmp_path / "set/dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".nii.gz"}))
    samples = load(tmp_path, "nnunet")
    assert [int((sample.mask == 1).sum()) for sample in samples] == [0, 0, 140, 0, 0]
    assert int((samples[3].mask == UNKNOWN).sum()) == (100 if "ignore" in labels else 0)
    assert {sample.patient for sample in samples} == {"mine:case1"}


def nnunet(folder, labels):
    hu, mask = make_head()
    save(folder / "imagesTr/case1_0000.nii.gz", hu)
    save(folder / "labelsTr/case1.nii.gz", mask)
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))


def test_nnunet_with_several_labels_wants_to_know_which_are_blood(tmp_path):
    nnunet(tmp_path / "set", {"background": 0, "clot": 1, "edema": 2})
    with pytest.raises(TrainError, match="clot, edema"):
        load(tmp_path, "nnunet")
    is_the_head(load(tmp_path, "nnunet", labels=(1,)))
    with pytest.raises(TrainError, match="no label 7"):
        load(tmp_path, "nnunet", labels=(7,))


def pictures(images, masks, ends=(".png", ".png"), values=255):
    """One slice as grey levels through the window (40, 120), and its mask."""
    hu, mask = make_head()
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    grey = np.rint(np.clip((hu[3] + 20) / 120, 0, 1) * 255).astype(np.uint8)
    Image.fromarray(grey).save(images / f"p7_12{ends[0]}")
    Image.fromarray(mask[3] * np.uint8(values)).save(masks / f"p7_12{ends[1]}")
    return hu[3], mask[3]


def test_nnunet_pictures_belong_to_the_patient_of_their_name(tmp_path):
    pictures(tmp_path / "set/imagesTr", tmp_path / "set/labelsTr", ("_0000.png", ".png"), values=1)
    (tmp_path / "set/dataset.json").write_text('{"labels": {"background": 0, "blood": 1}}')
    (sample,) = load(tmp_path, "nnunet", window=(40, 120))
    assert sample.patient == "mine:p7" and (sample.mask == 1).sum() == 140


def test_pictures_in_pairs_become_hounsfield_units_through_their_window(tmp_path):
    hu, mask = pictures(tmp_path / "set/images", tmp_path / "set/masks")
    (sample,) = load(tmp_path, "pairs", window=(40, 120))
    assert np.abs(sample.hu - np.clip(hu, -20, 100)).max() <= 1
    assert np.array_equal(sample.mask, mask) and sample.patient == "mine:p7" and sample.name == "p7_12"


def test_a_patient_is_found_by_an_expression(tmp_path):
    pictures(tmp_path / "set/images", tmp_path / "set/masks")
    (sample,) = load(tmp_path, "pairs", window=(40, 120), patient=r"^p(\d)")
    assert sample.patient == "mine:7"


@pytest.mark.parametrize("window", [(40, 0), (40, -80), (float("nan"), 80), (40, float("inf"))])
def test_a_window_without_a_width_is_refused(window):
    with pytest.raises(ValidationError, match="a width above 0"):
        own_datasets.OwnDataset(kind="pairs", folder="set", window=window)


def test_a_mask_of_several_values_wants_labels(tmp_path):
    pictures(tmp_path / "set/images", tmp_path / "set/masks", values=3)
    with pytest.raises(TrainError, match="not binary"):
        load(tmp_path, "pairs", window=(40, 120))
    (sample,) = load(tmp_path, "pairs", window=(40, 120), labels=(3,))
    assert (sample.mask == 1).sum() == 140


def test_a_volume_in_pairs_is_read_like_any_other(tmp_path):
    hu, mask = make_head()
    save(tmp_path / "set/images/a.nii.gz", hu, "RAS")
    save(tmp_path / "set/masks/a.nii.gz", mask, "RAS")
    is_the_head(load(tmp_path, "pairs"))


def test_a_mask_stored_in_other_directions_is_refused(tmp_path):
    hu, mask = make_head()
    save(tmp_path / "set/images/a.nii.gz", hu, "RAS")
    save(tmp_path / "set/masks/a.nii.gz", mask, "LPS")
    with pytest.raises(TrainError, match="another orientation"):
        load(tmp_path, "pairs")


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path):
    hu, mask = make_head()
    save(tmp_path / "set/images/a.nii.gz", hu)
    save(tmp_path / "set/masks/a.nii.gz", mask[:, :90])
    with pytest.raises(TrainError, match=r"6 x 90 x 96 pixels, its image a\.nii\.gz 6 x 96 x 96"):
        load(tmp_path, "pairs")


def test_a_broken_volume_is_refused_by_name(tmp_path):
    physionet(tmp_path / "set")
    (tmp_path / "set/ct_scans/053.nii").write_bytes(b"not a volume")
    with pytest.raises(TrainError, match=r"053\.nii"):
        load(tmp_path, "physionet-ctich")


def test_a_broken_picture_of_a_built_in_set_is_refused_by_name(data_root, tmp_path):
    import shutil

    shutil.copytree(data_root / "ctich_train", tmp_path / "ctich_train")
    (tmp_path / "ctich_train/images/000_1.png").write_bytes(b"no picture")
    with pytest.raises(TrainError, match=r"000_1\.png: no readable picture"):
        data.load(tmp_path, "ctich_train")


@pytest.mark.parametrize(
    ("kind", "named"),
    [("physionet-ctich", "ct_scans"), ("bhsd", "images"), ("nnunet", "dataset.json"), ("pairs", "no image")],
)
def test_a_folder_in_another_layout_is_refused(tmp_path, kind, named):
    (tmp_path / "set").mkdir()
    with pytest.raises(TrainError, match=named):
        load(tmp_path, kind)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(TrainError, match="no folder 'set'"):
        load(tmp_path, "pairs")


def test_a_built_in_name_cannot_be_taken():
    with pytest.raises(TrainError, match="built-in"):
        own_datasets.make_sources({"phe_sich": own_datasets.OwnDataset(kind="pairs", folder="x")})


def test_the_patient_of_ct_ich_cannot_be_changed_past_the_test_patients(tmp_path):
    physionet(tmp_path / "set", "079")
    with pytest.raises(TrainError, match="physionet-ctich"):
        load(tmp_path, "physionet-ctich", patient="x|7")


OWN = """
[data.own.ward]
kind = "{kind}"
folder = "ward"
patient = '{patient}'
"""


def test_an_own_set_is_declared_in_the_configuration(config_file):
    path = config_file()
    path.write_text(path.read_text() + OWN.format(kind="pairs", patient=r"^p(\d+)"))
    own = config.load(path).data.own["ward"]
    assert (own.kind, own.licence) == ("pairs", "not stated")


@pytest.mark.parametrize(("kind", "patient"), [("heap", "x"), ("pairs", "(")])
def test_a_wrong_declaration_is_named(config_file, kind, patient):
    path = config_file()
    path.write_text(path.read_text() + OWN.format(kind=kind, patient=patient))
    with pytest.raises(TrainError, match=r"data\.own\.ward"):
        config.load(path)


@given(st.integers(1, 12))
def test_a_limit_draws_evenly_and_never_more(limit):
    hu = np.zeros((4, 4), np.int16)
    many = [Sample("s", str(i), str(i), hu, hu.astype(np.uint8)) for i in range(9)]
    made = {"s": data.Source(".", lambda folder: iter(many), "", "")}
    names = [int(sample.name) for sample in data.load(Path(), "s", limit, made)]
    assert len(names) == min(limit, 9) and names == sorted(set(names))
    assert limit == 1 or (names[0], names[-1]) == (0, 8)


@pytest.mark.slow
def test_the_34_bleeds_without_mask_are_unlabelled():
    samples = data.load(find_data_set(), "head_ct_bleeds")
    assert len(samples) == 34
    assert all(not s.labelled and s.positive and (s.mask == UNKNOWN).all() for s in samples)


def test_the_example_of_the_page_is_a_valid_configuration(tmp_path):
    page = (Path(__file__).parents[2] / "docs/data.md").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(page.split("```toml\n")[1].split("```")[0])
    loaded = config.load(path)
    assert set(loaded.data.sources) == set(own_datasets.make_sources(loaded.data.own)) == {"ward", "physionet"}


def test_the_page_lists_every_source_with_its_folder():
    page = (Path(__file__).parents[2] / "docs/data.md").read_text()
    for name, source in data.SOURCES.items():
        assert f"| `{name}` | `{source.folder}` |" in page
