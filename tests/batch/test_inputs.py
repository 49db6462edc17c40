"""Find the studies in an input by the rule of docs/batch.md."""

import csv
import shutil

import pytest
from PIL import Image
from pydicom.uid import generate_uid

from phantoms import head_series
from phantoms.cylinder_heads import head, save_nifti
from strokeseg.batch import inputs, manifest
from strokeseg.batch.records import BatchStudy, explain_invalid_id
from strokeseg.errors import UnreadableFile


def find_by_id(source):
    return {study.id: study for study in inputs.find_studies(str(source)) if isinstance(study, BatchStudy)}


def series(folder, study, uid):
    slices = head_series.make_datasets(series=uid)[:2]
    for data in slices:
        data.StudyInstanceUID = study
    return head_series.write_series(folder, slices)


def test_archives_and_volumes_are_studies_at_any_depth(tmp_path):
    save_nifti(tmp_path / "in/a.nii.gz", head())
    save_nifti(tmp_path / "in/deep/er/b.nii", head())
    (tmp_path / "in/c.zip").write_bytes(b"PK")
    (tmp_path / "in/notes.txt").write_text("none")
    assert {study_id: study.path for study_id, study in find_by_id(tmp_path / "in").items()} == {
        "a": str(tmp_path / "in/a.nii.gz"),
        "deep_er_b": str(tmp_path / "in/deep/er/b.nii"),
        "c": str(tmp_path / "in/c.zip"),
    }


def test_the_series_of_one_dicom_study_are_one_study(tmp_path):
    one, other = generate_uid(), generate_uid()
    series(tmp_path / "in/p1/thin", one, generate_uid())
    series(tmp_path / "in/p1/thick", one, generate_uid())
    series(tmp_path / "in/p2", other, generate_uid())
    assert {study_id: study.path for study_id, study in find_by_id(tmp_path / "in").items()} == {
        "p1": str(tmp_path / "in/p1"),
        "p2": str(tmp_path / "in/p2"),
    }


def test_patients_in_one_folder_are_told_apart(tmp_path):
    uids = [generate_uid(), generate_uid()]
    for number, uid in enumerate(uids):
        series(tmp_path / f"made{number}", uid, generate_uid())
        for file in sorted((tmp_path / f"made{number}").iterdir()):
            (tmp_path / "in").mkdir(exist_ok=True)
            shutil.copy(file, tmp_path / "in" / f"{number}_{file.name}")
    studies = find_by_id(tmp_path / "in").values()
    assert {tuple(study.files) for study in studies} == {
        ("0_IM0001.dcm", "0_IM0002.dcm"),
        ("1_IM0001.dcm", "1_IM0002.dcm"),
    }
    assert {study.id.rpartition("_")[2] for study in studies} == set(uids)


def test_a_folder_of_pictures_is_one_stack(tmp_path):
    for name in ("in/p1/1.png", "in/p1/2.png", "in/p2/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / name)
    assert {study_id: study.files for study_id, study in find_by_id(tmp_path / "in").items()} == {"p1": (), "p2": ()}


def test_a_folder_without_a_study_is_said_to_be_empty(tmp_path):
    [record] = inputs.find_studies(str(tmp_path))
    assert record.failure.code == "empty"


def test_a_changed_file_changes_the_fingerprint(tmp_path):
    path = save_nifti(tmp_path / "in/a.nii", head())
    before = find_by_id(tmp_path / "in")["a"].fingerprint
    assert find_by_id(tmp_path / "in")["a"].fingerprint == before
    with path.open("ab") as stream:
        stream.write(b"\0")
    assert find_by_id(tmp_path / "in")["a"].fingerprint != before


@pytest.mark.parametrize(
    "text", ["", ".", "..", ".hidden", "a/b", "a\\b", "results.csv", "Failures.CSV", "x" * 121, "a."]
)
def test_an_id_that_could_leave_its_folder_is_refused(text):
    assert explain_invalid_id(text)


def test_wrong_rows_are_listed_and_the_others_are_read(tmp_path):
    rows = [
        ("path", "id", "window", "spacing", "model", "series"),
        ("a.nii.gz", "", "", "", "", ""),
        ("", "no-path", "", "", "", ""),
        ("b.nii.gz", "../b", "", "", "", ""),
        ("c.png", "c", "40", "", "", ""),
        ("d.png", "d", "", "5,0,0.5", "", ""),
        ("e.nii.gz", "e", "", "", "none-such", ""),
        ("f.png", "f", "40,80", "5,0.5,0.5", "blind", "1.2"),
    ]
    with (tmp_path / "list.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    read = list(manifest.read_manifest(tmp_path / "list.csv"))
    good = [study for study in read if isinstance(study, BatchStudy)]
    assert [study.id for study in good] == ["a", "f"]
    assert good[0].path == str(tmp_path / "a.nii.gz")
    assert (good[1].window, good[1].spacing_mm, good[1].model, good[1].series) == (
        (40, 80),
        (5, 0.5, 0.5),
        "blind",
        "1.2",
    )
    wrong = [study.failure for study in read if not isinstance(study, BatchStudy)]
    assert {failure.code for failure in wrong} == {"manifest-row"}
    for number, failure in zip((3, 4, 5, 6, 7), wrong, strict=True):
        assert f"row {number}:" in failure.message


def test_a_parquet_list_reads_as_the_same_csv(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = {"path": ["a.nii", "b.png"], "window": [None, [40.0, 80.0]], "id": ["one", None]}
    parquet.write_table(pytest.importorskip("pyarrow").table(rows), tmp_path / "list.parquet")
    (tmp_path / "list.csv").write_text('path,window,id\na.nii,,one\nb.png,"40,80",\n')
    assert list(manifest.read_manifest(tmp_path / "list.parquet")) == list(
        manifest.read_manifest(tmp_path / "list.csv")
    )


@pytest.mark.parametrize("content", [b"file,id\na,b\n", b"path,windw\na,b\n", b"\xff\xfe\x00path"])
def test_a_list_without_a_path_or_with_a_misspelt_column_is_refused(tmp_path, content):
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(UnreadableFile):
        list(manifest.read_manifest(tmp_path / "list.csv"))
