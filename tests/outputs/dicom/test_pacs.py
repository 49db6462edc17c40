"""A real archive (Debian's Orthanc) takes the objects, files them with their input, and gives them back unchanged."""

import io
import json
from datetime import datetime

import numpy as np
import pydicom
import pytest
from highdicom.seg import segread
from PIL import Image

from orthanc import Archive
from phantoms.dicom_series import SERIES, STUDY, add_second_lesion, read_cached, write_objects

pytestmark = pytest.mark.slow
MODALITIES = {"seg": "SEG", "seg_labelmap": "SEG", "seg_probability": "SEG", "sr": "SR", "report_pdf": "DOC"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    orthanc = Archive(tmp_path_factory.mktemp("orthanc"))
    yield orthanc
    orthanc.stop()


@pytest.fixture(scope="module")
def stored(archive, tmp_path_factory):
    """A tilted series and everything that is made of it, in the archive."""
    folder = tmp_path_factory.mktemp("study")
    series, scan = read_cached("tilted")
    scan, labels = add_second_lesion(scan)
    files, remarks = write_objects(folder / "out", scan, labels, pdf=b"%PDF-1.7 of somebody else")
    assert not remarks and len(files) == 7  # two of them captures
    archive.send(*sorted(series.glob("*.dcm")))
    known = [path for name, path in files.items() if name != "seg_labelmap"]
    archive.send(*known)
    # Newer than Debian's DCMTK, which does not propose its class: it comes by HTTP.
    assert archive.post("/instances", files["seg_labelmap"].read_bytes())["Status"] == "Success"
    return scan, labels, files


def test_all_are_filed_in_the_one_study_of_the_input_each_in_a_series_of_its_own(archive, stored):
    scan, _, files = stored
    [study] = [one for one in archive.get("/studies?expand") if one["MainDicomTags"]["StudyID"] == STUDY["StudyID"]]
    assert study["MainDicomTags"]["StudyInstanceUID"] == STUDY["StudyInstanceUID"]
    assert study["PatientMainDicomTags"]["PatientID"] == STUDY["PatientID"]
    assert len(archive.get("/patients")) == 1
    series = {one["MainDicomTags"]["SeriesInstanceUID"]: one for one in map(archive.get, paths(study))}
    assert len(series) == 1 + 6
    assert len(series[SERIES]["Instances"]) == len(scan.hu)
    for name, path in files.items():
        data = pydicom.dcmread(path, stop_before_pixels=True)
        stored = series[data.SeriesInstanceUID]
        assert stored["MainDicomTags"]["Modality"] == MODALITIES.get(name, "OT")
        assert len(stored["Instances"]) == (2 if name.startswith("capture") else 1)


def paths(study):
    return [f"/series/{name}" for name in study["Series"]]


def test_it_gives_every_object_back_over_dicomweb_as_it_was(archive, stored):
    _, _, files = stored
    for name, path in files.items():
        data = pydicom.dcmread(path)
        assert pydicom.dcmread(io.BytesIO(archive.wado(data))) == data, name


def test_the_segmentation_that_comes_back_is_the_mask(archive, stored):
    scan, labels, files = stored
    read = segread(io.BytesIO(archive.wado(pydicom.dcmread(files["seg"]))))
    for uid, ours in zip(scan.sop_instance_uids, labels, strict=True):
        pixels = read.get_pixels_by_source_instance(
            [uid], combine_segments=True, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
        )
        assert np.array_equal(pixels[0], ours)


def test_a_query_over_dicomweb_finds_the_series_by_modality(archive, stored):
    assert archive.dicomweb
    answer = archive.get(f"/dicom-web/studies/{STUDY['StudyInstanceUID']}/series", "application/dicom+json")
    modalities = sorted(one["00080060"]["Value"][0] for one in answer)
    assert modalities == ["CT", "DOC", "OT", "SEG", "SEG", "SEG", "SR"]


def test_it_draws_the_capture_as_we_did(archive, stored):
    _, _, files = stored
    data = pydicom.dcmread(files["capture_1"])
    [answer] = archive.post(
        "/tools/find",
        json.dumps({"Level": "Instance", "Query": {"SOPInstanceUID": data.SOPInstanceUID}}).encode(),
        "application/json",
    )
    png, _ = archive.get(f"/instances/{answer}/preview", "image/png")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png)).convert("RGB")), data.pixel_array)


def test_a_second_run_is_no_second_object(archive, stored, tmp_path):
    scan, labels, files = stored
    before = archive.get("/statistics")["CountInstances"]
    again, _ = write_objects(tmp_path, scan, labels, pdf=b"%PDF-1.7 of somebody else", created=datetime(2030, 1, 1))
    for path in again.values():
        assert archive.post("/instances", path.read_bytes())["Status"] == "AlreadyStored"
    archive.send(files["seg"])
    assert archive.get("/statistics")["CountInstances"] == before
