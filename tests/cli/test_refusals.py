"""Every bad input: its code, one sentence, a remedy, exit code 3, nothing on stdout, and nothing left behind."""

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from tests.cli.conftest import head


def dicom(path, modality="CT"):
    """Write one valid slice, and give its path."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID = data.StudyInstanceUID = generate_uid()
    data.PatientName = "Secret^Name"
    data.Modality = modality
    pixels = head()[5]
    data.Rows, data.Columns = pixels.shape
    data.PixelSpacing, data.SliceThickness = [1.5, 1.5], 5
    data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 1
    data.RescaleSlope, data.RescaleIntercept = 1, 0
    data.PixelData = pixels.astype("<i2").tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


def empty_folder(folder):
    (folder / "nothing").mkdir()
    return folder / "nothing"


def text_named_dicom(folder):
    (folder / "notes.dcm").write_text("Dear colleague, the CT is on the way. Best wishes.\n" * 20)
    return folder / "notes.dcm"


def truncated_dicom(folder):
    whole = dicom(folder / "cut.dcm").read_bytes()
    (folder / "cut.dcm").write_bytes(whole[: len(whole) // 2])
    return folder / "cut.dcm"


def mr_image(folder):
    return dicom(folder / "mr.dcm", "MR")


def zip_of_zips(folder):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("slice.dcm", b"\0" * 100)
    with zipfile.ZipFile(folder / "outer.zip", "w") as archive:
        archive.writestr("inner.zip", inner.getvalue())
    return folder / "outer.zip"


def cat_picture(folder):
    """Draw an orange cat's face on green."""
    rows, columns = np.mgrid[:256, :256]
    cat = np.full((256, 256, 3), (60, 160, 70), np.uint8)
    ears = (np.abs(columns - 80) + np.abs(rows - 70) < 40) | (np.abs(columns - 176) + np.abs(rows - 70) < 40)
    cat[ears | (np.hypot(rows - 140, columns - 128) < 80)] = (230, 140, 40)
    for eye in (98, 158):
        cat[np.hypot(rows - 120, (columns - eye) * 2) < 20] = (20, 30, 20)
    Image.fromarray(cat).save(folder / "cat.png")
    return folder / "cat.png"


def missing_path(folder):
    return folder / "not there.zip"


BAD = {
    "empty": empty_folder,
    "unreadable": text_named_dicom,
    "unreadable ": truncated_dicom,
    "not-ct": mr_image,
    "unsafe-archive": zip_of_zips,
    "not-head": cat_picture,
    "unreadable  ": missing_path,
}


def holds(stderr, code):
    """Whether stderr is the code with one sentence, and a remedy, and nothing more."""
    error, remedy = stderr.splitlines()
    return (
        error.startswith(f"error[{code}]: ") and len(error) > 30 and remedy.startswith("remedy: ") and len(remedy) > 20
    )


@pytest.mark.parametrize("command", ["segment", "inspect"])
@pytest.mark.parametrize(("code", "make"), BAD.items(), ids=[make.__name__ for make in BAD.values()])
def test_bad_input_is_refused(run, tmp_path, command, code, make):
    source, out = make(tmp_path), tmp_path / "new" / "out"
    to = ("-o", out) if command == "segment" else ()
    exit_code, stdout, stderr = run(command, source, *to, "--json")
    assert exit_code == 3
    if command == "inspect":
        answer = json.loads(stdout)
        assert answer["series"] == [] and answer["refusal"]["code"] == code.strip()
    else:
        assert stdout == ""
    assert holds(stderr, code.strip())
    assert "Secret" not in stdout + stderr and "Traceback" not in stderr
    assert not out.exists() and not out.parent.exists()
    assert list((tmp_path / "work").iterdir()) == []


def test_a_valid_slice_of_the_same_making_is_not_refused(run, tmp_path):
    assert run("inspect", dicom(tmp_path / "whole.dcm"))[0] == 0


def test_output_that_is_a_file(run, bleeding, tmp_path):
    (tmp_path / "taken").write_text("mine")
    code, stdout, stderr = run("segment", bleeding, "-o", tmp_path / "taken", "--json")
    assert (code, stdout) == (3, "") and holds(stderr, "not-writable")
    assert (tmp_path / "taken").read_text() == "mine"


def test_output_folder_that_may_not_be_written(run, bleeding, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    if os.access(locked, os.W_OK):  # root, or Windows
        if not Path("/proc/self").exists():
            pytest.skip("every folder may be written here")
        locked = Path("/proc")
    code, stdout, stderr = run("segment", bleeding, "-o", locked / "out", "--json")
    assert (code, stdout) == (3, "") and holds(stderr, "not-writable")


def test_output_is_checked_before_the_input_is_read(run, tmp_path):
    (tmp_path / "taken").write_text("mine")
    code, _, stderr = run("segment", tmp_path / "not there", "-o", tmp_path / "taken")
    assert code == 3 and holds(stderr, "not-writable")


def change_a_byte(models):
    data = bytearray((models / "default.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (models / "default.onnx").write_bytes(data)


@pytest.mark.parametrize(
    "arguments", [("segment", "INPUT", "-o", "OUT"), ("models", "verify"), ("models", "verify", "default")]
)
def test_a_model_with_one_byte_changed(run, bleeding, tmp_path, models, arguments):
    change_a_byte(models)
    given = [{"INPUT": bleeding, "OUT": tmp_path / "out"}.get(each, each) for each in arguments]
    code, _, stderr = run(*given)
    assert code == 3 and holds(stderr, "model-checksum")
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_not_there(run, bleeding, tmp_path):
    code, stdout, stderr = run("segment", bleeding, "-o", tmp_path / "out", "--model", "elsewhere")
    assert (code, stdout) == (3, "") and holds(stderr, "unknown-model")
    assert not (tmp_path / "out").exists()


def test_an_engine_that_is_not_there(run, bleeding, tmp_path):
    code, stdout, stderr = run("segment", bleeding, "-o", tmp_path / "out", "--engine", "tensorrt")
    assert (code, stdout) == (3, "") and holds(stderr, "engine-missing")


def test_a_refusal_leaves_earlier_results_alone(run, bleeding, tmp_path):
    out = tmp_path / "out"
    assert run("segment", bleeding, "-o", out, "--formats", "json")[0] == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert run("segment", cat_picture(tmp_path), "-o", out)[0] == 3
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
