"""Secondary captures and the wrapped PDF: valid, without the patient in the picture, and leading to their source."""

import numpy as np
import pydicom
import pytest

from phantoms import dicom_series
from phantoms.dicom_series import KINDS, add_second_lesion, label_lesion, make_document, read_cached, write_objects
from strokeseg.outputs.dicom.context import make_context
from strokeseg.outputs.images import slice_images


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_series_has_a_valid_picture_of_its_widest_slice(tmp_path, kind):
    folder, scan = read_cached(kind)
    files, _ = write_objects(tmp_path / "out", scan, formats=("capture",))
    assert set(files) == {"capture_1"} and dicom_series.list_errors(files["capture_1"]) == []
    data = pydicom.dcmread(files["capture_1"])
    areas = {key: dicom_series.mark_lesion(hu).sum() for key, (hu, _) in dicom_series.read_frames(folder).items()}
    [source] = data.SourceImageSequence
    named = source.ReferencedSOPInstanceUID, source.get("ReferencedFrameNumber")
    assert areas[named] == max(areas.values())
    assert (data.Modality, data.ConversionType, data.BurnedInAnnotation) == ("OT", "WSD", "NO")
    assert data.PatientOrientation == ["L", "P"] and data.SamplesPerPixel == 3
    assert "centre 40 and width 80 HU" in data.DerivationDescription


def test_the_picture_is_face_up_with_the_outline_around_the_bleeding(tmp_path):
    """The bleed lies in the patient's left and front: right of and above the middle, whatever the stored order."""
    for kind in ("plain", "face down", "quarter turn"):
        _, scan = read_cached(kind)
        files, _ = write_objects(tmp_path / kind / "out", scan, formats=("capture",))
        image = pydicom.dcmread(files["capture_1"]).pixel_array
        height, width = image.shape[:2]
        line = (np.abs(image.astype(int) - slice_images.OUTLINE_COLOUR).max(axis=2) < 40).nonzero()
        assert len(line[0]) > 100
        assert line[1].min() > width / 2 and line[0].mean() < height / 2, kind


def test_two_lesions_have_two_pictures_in_one_series(tmp_path):
    _, scan = read_cached("plain")
    scan, labels = add_second_lesion(scan)
    labels[labels == 2] = 0
    labels[2, 20:24, 20:24] = 2
    files, _ = write_objects(tmp_path / "out", scan, labels, ("capture",))
    one, two = (pydicom.dcmread(files[f"capture_{number}"]) for number in (1, 2))
    assert one.SeriesInstanceUID == two.SeriesInstanceUID and one.SOPInstanceUID != two.SOPInstanceUID
    assert (one.InstanceNumber, two.InstanceNumber) == (1, 2)
    assert two.SourceImageSequence[0].ReferencedSOPInstanceUID == scan.sop_instance_uids[2]
    assert dicom_series.list_errors(files["capture_2"]) == []


def test_without_bleeding_the_middle_slice_is_shown_without_outline(tmp_path):
    _, scan = read_cached("plain")
    files, remarks = write_objects(tmp_path / "out", scan, np.zeros(scan.shape, np.int32), ("capture",))
    data = pydicom.dcmread(files["capture_1"])
    assert not remarks and dicom_series.list_errors(files["capture_1"]) == []
    assert data.SourceImageSequence[0].ReferencedSOPInstanceUID == scan.sop_instance_uids[len(scan.hu) // 2]
    assert "outline" not in data.DerivationDescription
    assert not (np.abs(data.pixel_array.astype(int) - slice_images.OUTLINE_COLOUR).max(axis=2) < 40).any()


@pytest.mark.parametrize("kind", ["plain", "tilted", "enhanced, in no order", "concatenation", "one slice"])
@pytest.mark.parametrize("pdf", [b"%PDF-1.7 even", b"%PDF-1.7 of odd length"])
def test_a_pdf_is_wrapped_whole(tmp_path, kind, pdf):
    _, scan = read_cached(kind)
    files, _ = write_objects(tmp_path / "out", scan, formats=(), pdf=pdf)
    assert set(files) == {"report_pdf"} and dicom_series.list_errors(files["report_pdf"]) == []
    data = pydicom.dcmread(files["report_pdf"])
    assert data.EncapsulatedDocument[: data.EncapsulatedDocumentLength] == pdf
    assert data.MIMETypeOfEncapsulatedDocument == "application/pdf"
    named = {
        (item.ReferencedSOPInstanceUID, number)
        for item in data.SourceInstanceSequence
        for number in np.atleast_1d(item.get("ReferencedFrameNumber", 0)).tolist()
    }
    assert named == {(frame.sop_uid, frame.number or 0) for frame in scan.source.frames}


def test_what_is_no_pdf_is_not_wrapped(tmp_path):
    from datetime import datetime

    from strokeseg.outputs.dicom.encapsulated_pdf import encapsulate_pdf

    _, scan = read_cached("plain")
    labels = label_lesion(scan)
    shared, _ = make_context(scan, make_document(scan, labels), labels, datetime(2026, 1, 1))
    with pytest.raises(ValueError, match="not a PDF"):
        encapsulate_pdf(shared, b"<html>")
    assert encapsulate_pdf(shared, b"%PDF-1.7", burned_in=True).BurnedInAnnotation == "YES"
