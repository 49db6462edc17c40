"""No patient data leave the reader: a marker in every text tag and the file meta is searched for in all output."""

import gzip
import json
import logging
import os
import subprocess
import sys
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from pydicom.datadict import DicomDictionary, keyword_for_tag

from phantoms import head_series
from strokeseg import pipeline
from strokeseg.errors import InputError, UsageError
from strokeseg.reading import deidentification, read, read_one

MARKER = "ZZPLANTEDZZ"
DATE, TIME = "19410317", "112233.445566"
WORDS = (MARKER.encode(), DATE.encode(), b"1941-03-17", TIME.encode())
TEXT = {"LO", "SH", "PN", "LT", "ST", "UT", "UC", "AE"}
NEEDED = {"Modality", "ImageType", "PhotometricInterpretation"}


def make_marked_slices(geometry=None):
    """Make the head's slices with the marker in every text tag of the standard, and marked dates and times."""
    slices = head_series.make_datasets(geometry or head_series.Geometry(z_mm=tuple(np.arange(-48.0, 60.0, 6.0))))
    for data in slices:
        for tag, (kind, many, _, retired, _) in DicomDictionary.items():
            keyword = keyword_for_tag(tag)
            if not keyword or retired or keyword in NEEDED or tag < 0x00080000 or "1" not in many:
                continue
            value = MARKER if kind in TEXT else DATE if kind == "DA" else TIME if kind == "TM" else None
            if value is not None:
                setattr(data, keyword, value)
        data.add_new(0x00090010, "LO", MARKER)  # a private block
        data.add_new(0x00091001, "LO", MARKER)
        data.file_meta.SourceApplicationEntityTitle = MARKER
        data.file_meta.ImplementationVersionName = MARKER
        assert len([1 for element in data if str(element.value) == MARKER]) > 300
    return slices


def iterate_content(folder):
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            yield path.name, data
            if path.suffix == ".gz":
                yield path.name, gzip.decompress(data)


def assert_no_marker(where, data):
    for word in WORDS:
        assert word not in data, (where, word)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    return head_series.write_series(tmp_path_factory.mktemp("in"), make_marked_slices())


def run_command(*arguments, **environment):
    command = [sys.executable, "-m", "strokeseg", *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, env=os.environ | environment, check=False)
    return run.returncode, run.stdout + run.stderr


@pytest.mark.slow
def test_no_file_and_no_line_of_a_run_holds_it(series, tmp_path):
    code, output = run_command("segment", series, "-o", tmp_path / "out")
    assert code == 0
    assert_no_marker("terminal", output)
    names = set()
    for name, data in iterate_content(tmp_path / "out"):
        names.add(name)
        assert_no_marker(name, data)
    assert {"result.json", "report.html", "mask.nii.gz", "ct.nii.gz"} <= names


def test_the_scan_that_leaves_read_holds_none_of_it(series, caplog, capfd, recwarn):
    caplog.set_level(logging.DEBUG)
    scan = read_one(series)
    shown = repr(replace(scan, hu=scan.hu[:, :1, :1])) + repr(scan.remarks) + caplog.text
    assert_no_marker("scan", shown.encode())
    assert capfd.readouterr() == ("", "") and not recwarn.list


def make_invalid_slices(kind):
    slices = make_marked_slices()
    if kind == "sizes":
        for data in slices[::2]:
            data.Rows, data.PixelData = 90, data.PixelData[: 90 * data.Columns * 2]
    if kind == "rescale":
        for data in slices:
            del data.RescaleIntercept
    if kind == "position":
        for data in slices:
            del data.ImagePositionPatient
    if kind == "modality":
        for data in slices:
            data.Modality = "MR"
    if kind == "two phases":
        slices[1].ImagePositionPatient = slices[2].ImagePositionPatient
    if kind == "body part":
        for data in slices:
            data.PixelData = bytes(len(data.PixelData))
    if kind == "two series":
        for data in slices[::2]:
            data.SeriesInstanceUID = "1.2.4"
    return slices


@pytest.mark.parametrize(
    "kind", ["sizes", "rescale", "position", "modality", "two phases", "body part", "two series", "cut", "wrong text"]
)
def test_no_refusal_holds_it_chained_or_not(tmp_path, kind):
    head_series.write_series(tmp_path, make_invalid_slices(kind))
    for path in tmp_path.glob("*.dcm"):
        data = path.read_bytes()
        if kind == "cut":
            path.write_bytes(data[: len(data) // 2])
        if kind == "wrong text":  # lengths that swallow the next values
            path.write_bytes(data.replace(b"\x10\x00\x10\x00PN\x0b\x00", b"\x10\x00\x10\x00PN\xff\x7f"))
    try:
        read_one(tmp_path)
    except InputError as error:
        seen = error
        while seen is not None:
            assert_no_marker(kind, f"{seen!r} {seen} {getattr(seen, 'remedy', '')} {vars(seen)}".encode())
            assert seen.__cause__ is None and (seen.__suppress_context__ or seen.__context__ is None)
            seen = seen.__cause__
    else:
        assert kind in ("wrong text",)


@pytest.mark.slow
def test_debug_shows_frames_and_no_values(tmp_path):
    head_series.write_series(tmp_path, make_invalid_slices("rescale"))
    code, output = run_command("--debug", "inspect", tmp_path)
    assert code == 3 and b"Traceback" in output
    assert_no_marker("debug", output)


def test_a_nifti_headers_texts_do_not_leave(tmp_path):
    hu = np.stack([head_series.Geometry().plane_hu(z) for z in np.arange(-48.0, 60.0, 6.0)])
    image = nibabel.Nifti1Image(hu.transpose(2, 1, 0), np.diag([-1.05, -1.1, 6, 1]))
    image.header["descrip"] = image.header["aux_file"] = image.header["intent_name"] = MARKER.encode()
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", MARKER.encode()))
    image.to_filename(tmp_path / "head.nii")
    scan = read_one(tmp_path / "head.nii")
    result = make_result(scan)
    result.save(tmp_path / "out")
    for name, data in iterate_content(tmp_path / "out"):
        assert_no_marker(name, data)


def make_result(scan):
    from strokeseg.measurements import measure
    from strokeseg.result import ModelInfo, Timing

    mask = (scan.hu > 50) & (scan.hu < 100)
    model = ModelInfo(name="by hand", version="1", sha256="0", engine="none", precision="none", threshold=0.5)
    probability = mask.astype(np.float16)
    return pipeline.Result(scan, probability, mask, measure(scan, mask, probability), model, Timing())


def test_a_files_own_name_is_said_for_that_is_how_the_user_finds_it(tmp_path):
    """A file name with a patient's name is shown on the terminal to the user, and is in no result."""
    path = tmp_path / f"{MARKER}.nii"
    path.write_bytes(b"no volume")
    with pytest.raises(InputError, match=MARKER):
        read(path)
    hu = np.stack([head_series.Geometry().plane_hu(z) for z in np.arange(-48.0, 60.0, 6.0)])
    nibabel.Nifti1Image(hu.transpose(2, 1, 0), np.diag([-1.05, -1.1, 6, 1])).to_filename(path)
    make_result(read_one(path)).save(tmp_path / "out")
    for name, data in iterate_content(tmp_path / "out"):
        assert_no_marker(name, data)


def test_new_uids_are_alike_under_one_key_and_different_under_another(series):
    scan = read_one(series)
    key, other = b"k" * 32, b"o" * 32
    one, again = deidentification.deidentify(scan, key), deidentification.deidentify(read_one(series), key)
    assert one.series_uid == again.series_uid and one.sop_instance_uids == again.sop_instance_uids
    assert one.series_uid != scan.series_uid != deidentification.deidentify(scan, other).series_uid != one.series_uid
    assert len(set(one.sop_instance_uids)) == len(scan.sop_instance_uids)
    for uid in (one.series_uid, *one.sop_instance_uids):
        assert uid.startswith("2.25.") and len(uid) <= 64 and int(uid[5:]) < 2**128
    assert deidentification.derive_uid("1.2.3", key) == one.series_uid  # the same rule for what refers to a series


def test_a_short_key_is_wrong_usage(series):
    with pytest.raises(UsageError, match="at least 16"):
        deidentification.deidentify(read_one(series), b"short")


@pytest.mark.slow
def test_deidentified_results_hold_no_uid_of_the_input(series, tmp_path):
    (tmp_path / "key").write_bytes(b"\x01" * 32)
    uids = [uid.encode() for uid in read_one(series).sop_instance_uids]
    new_uids = []
    for number in (1, 2):
        out = tmp_path / f"out{number}"
        code, _ = run_command("segment", series, "-o", out, "--deidentify-key", tmp_path / "key")
        assert code == 0
        new_uids.append(json.loads((out / "result.json").read_text())["input"]["series_uid"])
        for name, data in iterate_content(out):
            assert not any(uid in data for uid in uids), name
    assert new_uids[0] == new_uids[1] == deidentification.derive_uid("1.2.3", b"\x01" * 32)
    code, _ = run_command("segment", series, "-o", tmp_path / "out3", "--deidentify", "--formats", "json")
    once = json.loads((tmp_path / "out3/result.json").read_text())["input"]["series_uid"]
    assert once.startswith("2.25.") and once != new_uids[0]
