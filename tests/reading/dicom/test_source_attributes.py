"""Attributes that a scan keeps of its DICOM objects, and that no repr or log shows them."""

import logging
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from phantoms import dicom_series, head_series
from phantoms.dicom_series import KINDS, SERIES, SMALL, STUDY, make_slices, read_cached
from strokeseg.reading import deidentification, read_one
from strokeseg.reading.dicom import source_attributes
from strokeseg.scan import Scan

IDENTIFYING = [value for value in STUDY.values() if len(value) > 3]


@pytest.mark.parametrize("kind", KINDS)
def test_every_slice_turned_back_is_the_frame_that_the_source_names(tmp_path, kind):
    folder, scan = read_cached(kind)
    stored = dicom_series.read_frames(folder)
    assert len(scan.source.frames) == len(scan.hu)
    for pixels, frame in zip(scan.hu, scan.source.frames, strict=True):
        hu, (position, orientation, spacing) = stored[frame.sop_uid, frame.number]
        assert np.array_equal(scan.source.to_stored(pixels), np.rint(hu))
        assert frame.position_mm == pytest.approx(position)
        assert (*scan.source.row_cosine, *scan.source.column_cosine) == pytest.approx(orientation, abs=1e-6)
        assert scan.source.pixel_spacing_mm == pytest.approx(spacing)
    assert tuple(frame.sop_uid for frame in scan.source.frames) == scan.sop_instance_uids


def test_patient_and_study_are_kept_as_they_are_written(tmp_path):
    _, scan = read_cached("plain")
    assert scan.series_uid == SERIES
    for keyword, value in STUDY.items():
        if keyword != "FrameOfReferenceUID":
            assert scan.source.attribute(keyword) == value
    assert scan.source.frame_of_reference_uid == STUDY["FrameOfReferenceUID"]
    assert not scan.source.fault and not scan.source.malformed


@pytest.mark.parametrize("charset", ["ISO_IR 100", "ISO_IR 192", "GB18030"])
def test_names_are_decoded_by_the_files_character_set(tmp_path, charset):
    slices = make_slices(SMALL.but(z_mm=(0.0, 6.0)))
    for data in slices:
        data.SpecificCharacterSet, data.PatientName = charset, "Müller^Zoë"
    assert read_one(head_series.write_series(tmp_path, slices)).source.attribute("PatientName") == "Müller^Zoë"


def test_nothing_shows_the_source(tmp_path, caplog, capfd, recwarn):
    caplog.set_level(logging.DEBUG)
    _, scan = read_cached("plain")
    source = scan.source
    shown = repr(replace(scan, hu=scan.hu[:, :1, :1])) + repr(source) + str(source) + repr(source.frames[0])
    shown += f"{scan.remarks}{caplog.text}{capfd.readouterr()}{[str(each.message) for each in recwarn.list]}"
    for value in IDENTIFYING:
        assert value not in shown
    assert "ller" not in shown and "山田" not in shown


def test_it_survives_a_pickle(tmp_path):
    _, scan = read_cached("enhanced, tilted and turned")
    again = pickle.loads(pickle.dumps(scan))
    assert again.source == scan.source and again.source.attributes == scan.source.attributes
    assert [frame.position_mm for frame in again.source.frames] == [f.position_mm for f in scan.source.frames]


def test_what_has_no_right_form_is_left_out_and_named(tmp_path):
    slices = make_slices(SMALL.but(z_mm=(0.0, 6.0)))
    for data in slices:
        data.add_new("PatientBirthDate", "DA", "17.3.1941")
        data.add_new("AccessionNumber", "SH", "A-815\x07 and what follows it")
        data.add_new("StudyID", "SH", "one\\two")
    source = read_one(head_series.write_series(tmp_path, slices)).source
    assert set(source.malformed) == {"PatientBirthDate", "AccessionNumber", "StudyID"}
    assert all(source.attribute(keyword) == "" for keyword in source.malformed)
    assert source.attribute("PatientID") == "P-4711"


def test_the_page_lists_what_is_repeated():
    page = " ".join((Path(__file__).parents[3] / "docs/dicom-outputs.md").read_text().split())
    assert f"Repeated from the input: {', '.join(source_attributes._PATTERNS)}, and nothing else." in page
    assert f"{len(KINDS)} kinds of series" in page


def test_a_series_of_two_studies_is_said(tmp_path):
    slices = make_slices(SMALL.but(z_mm=(0.0, 6.0)))
    slices[1].StudyInstanceUID = "1.2.3.999"
    source = read_one(head_series.write_series(tmp_path, slices)).source
    assert "StudyInstanceUID" in source.fault and "999" not in source.fault


def test_two_frames_of_reference_are_none(tmp_path):
    slices = make_slices(SMALL.but(z_mm=(0.0, 6.0)))
    slices[1].FrameOfReferenceUID = "1.2.3.999"
    source = read_one(head_series.write_series(tmp_path, slices)).source
    assert source.frame_of_reference_uid == "" and not source.fault


def test_no_other_scan_has_a_source():
    assert Scan.from_array(np.zeros((3, 8, 8))).source is None


def test_without_identity_nothing_of_it_is_left(tmp_path):
    _, scan = read_cached("enhanced")
    key = b"k" * 32
    bare = deidentification.deidentify(scan, key)
    held = pickle.dumps(replace(bare, hu=bare.hu[:, :1, :1]))
    for value in (*IDENTIFYING, SERIES, *scan.sop_instance_uids):
        assert value.encode() not in held
    source = bare.source
    assert source.deidentified and source.attribute("StudyInstanceUID") == deidentification.derive_uid(
        STUDY["StudyInstanceUID"], key
    )
    assert [frame.sop_uid for frame in source.frames] == list(bare.sop_instance_uids)
    assert source.frame_of_reference_uid == deidentification.derive_uid(STUDY["FrameOfReferenceUID"], key)
    assert source.attribute("PatientID").startswith("ANON-") and source.attribute("StudyDate") == ""
    other = deidentification.deidentify(scan, b"o" * 32).source
    assert other.attribute("PatientID") != source.attribute("PatientID")
