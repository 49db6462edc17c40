"""Structured reports: valid, and with the findings' numbers for highdicom, dcmqi and dcmtk alike."""

import json
import re
import subprocess
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.sr.coding import Code

from phantoms import dicom_series, head_series
from phantoms.dicom_series import (
    KINDS,
    SMALL,
    add_second_lesion,
    label_lesion,
    make_document,
    read_cached,
    write_objects,
)
from strokeseg.outputs.dicom import codes
from strokeseg.pacs.sop_classes import CLASS_OF_FORMAT, SENT_CLASSES
from strokeseg.reading import read_one
from strokeseg.result import DISCLAIMER, Midline, Remark

VOLUME = Code("118565006", "SCT", "Volume")
LONG_AXIS = Code("103339001", "SCT", "Long axis")
HEMORRHAGE = Code("1386000", "SCT", "Intracranial hemorrhage")
WHOLE, VENTRICLES, MIDLINE = "StrokeSeg whole scan", "StrokeSeg ventricles", "StrokeSeg midline"

EVERYTHING = {
    "volume_ml": 23.4,
    "volume_interval_ml": (18.5, 29.25),
    "interval_level": 0.9,
    "confidence": 0.93,
    "side": "left",
    "midline_shift_mm": 4.25,
    "midline_shift_side": "right",
    "intraventricular": True,
    "intraventricular_ml": 1.75,
    "ventricular_share": 0.125,
}


def private(code):
    return Code(code, "99STROKESEG", "")


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A scan of two lesions about which everything is known, with its report and segmentation."""
    folder = tmp_path_factory.mktemp("full")
    _, scan = read_cached("enhanced, tilted and turned")
    scan, labels = add_second_lesion(scan)
    midline = Midline(slice=7, front_lps_mm=(0, -80, 20), back_lps_mm=(0, 80, 20), septum_lps_mm=(4, -10, 20))
    document = make_document(scan, labels, **EVERYTHING, midline=midline)
    first, second = document.findings.lesions
    first = first.model_copy(
        update={
            "surface_mm2": 3456.5,
            "sphericity": 0.75,
            "std_hu": 6.5,
            "intraventricular_ml": 1.5,
            "type_probabilities": {"intraparenchymal": 0.75, "intraventricular": 0.125},
        }
    )
    second = second.model_copy(update={"volume_ml": 0.5, "side": "midline", "place": "ventricle"})
    remarks = [
        Remark(code="thick-slices", severity="warning", message="The slices are 6.1 mm apart."),
        Remark(code="gantry-tilt", severity="info", message="The gantry was tilted."),
    ]
    document = document.model_copy(
        update={
            "remarks": remarks,
            "findings": document.findings.model_copy(update={"lesions": [first, second]}),
        }
    )
    files, _ = write_objects(folder / "out", scan, labels, ("seg", "sr"), document)
    return scan, document, files


def report_of(files):
    return highdicom.sr.srread(files["sr"])


def groups_of(files):
    """Return the measurement groups by their tracking identifier."""
    content = report_of(files).content
    matches = [*content.get_image_measurement_groups(), *content.get_volumetric_roi_measurement_groups()]
    return {group.tracking_identifier: group for group in matches}


def value(group, name):
    """Return the one number of this name, or None."""
    matches = [one for one in group.get_measurements() if one.name.value == name.value]
    assert len(matches) <= 1, name
    return (matches[0].value, matches[0].unit.value) if matches else None


def answer(group, name):
    [matches] = [one for one in group.get_qualitative_evaluations() if one.name.value == name.value]
    return matches.value.meaning


def test_the_report_is_of_the_class_that_the_node_announces(full):
    assert pydicom.dcmread(full[2]["sr"]).SOPClassUID == SENT_CLASSES[CLASS_OF_FORMAT["sr"]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_series_has_a_valid_report_that_refers_to_its_segmentation(tmp_path, kind):
    folder, scan = read_cached(kind)
    scan, labels = add_second_lesion(scan)
    files, _ = write_objects(tmp_path / "out", scan, labels, ("sr",), make_document(scan, labels, **EVERYTHING))
    assert set(files) == {"seg", "sr"}  # what it refers to is written too
    assert dicom_series.list_errors(files["sr"]) == []
    segmentation = pydicom.dcmread(files["seg"])
    stored = dicom_series.read_frames(folder)
    groups = groups_of(files)
    for segment in segmentation.SegmentSequence:
        group = groups[segment.TrackingID]
        assert group.tracking_uid == segment.TrackingUID
        reference = group.referenced_segment
        [item] = [one for one in reference if "ReferencedSegmentNumber" in one.ReferencedSOPSequence[0]]
        [target] = item.ReferencedSOPSequence
        assert target.ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
        assert target.ReferencedSegmentNumber == segment.SegmentNumber
        sources = [one for one in reference if one is not item]
        named = {
            (image.ReferencedSOPInstanceUID, number)
            for one in sources
            for image in one.ReferencedSOPSequence
            for number in numbers_of(image)
        }
        slices = np.flatnonzero((labels == segment.SegmentNumber).any((1, 2)))
        frames = [scan.source.frames[index] for index in slices]
        assert named == {(frame.sop_uid, frame.number) for frame in frames} <= set(stored)


def numbers_of(image):
    number = image.get("ReferencedFrameNumber")
    return [number] if number is None or isinstance(number, int) else list(number)


def test_all_objects_that_were_looked_at_are_evidence(full):
    scan, _, files = full
    evidence = {instance for _, _, instance, _ in report_of(files).get_evidence(current_procedure_only=True)}
    assert evidence == {*scan.sop_instance_uids, pydicom.dcmread(files["seg"]).SOPInstanceUID}


def test_the_whole_scans_numbers_are_the_findings(full):
    _, _, files = full
    whole = groups_of(files)[WHOLE]
    assert value(whole, VOLUME) == (23.4, "ml")
    assert value(whole, private("volume-low")) == (18.5, "ml")
    assert value(whole, private("volume-high")) == (29.25, "ml")
    assert value(whole, private("interval-level")) == (0.9, "1")
    assert value(whole, private("confidence")) == (0.93, "1")
    assert answer(whole, HEMORRHAGE) == "Present"
    [site] = whole.finding_sites
    assert site.value.meaning == "Brain" and site.laterality.meaning == "Left"


def test_the_ventricles_and_the_midline_are_groups_of_their_own(full):
    scan, _, files = full
    ventricles, midline = (groups_of(files)[name] for name in (VENTRICLES, MIDLINE))
    assert value(ventricles, VOLUME) == (1.75, "ml") and value(ventricles, private("ivh-share")) == (0.125, "1")
    assert ventricles.finding_sites[0].value.meaning == "Brain ventricle"
    assert value(midline, private("midline-shift")) == (4.25, "mm")
    assert answer(midline, Code("272741003", "SCT", "Laterality")) == "Right"
    [image] = midline.source_images
    assert image.referenced_sop_instance_uid == scan.source.frames[7].sop_uid
    assert image.referenced_frame_numbers == [scan.source.frames[7].number]


def test_a_lesions_numbers_are_the_findings(full):
    _, _, files = full
    one, two = (groups_of(files)[f"StrokeSeg lesion {number}"] for number in (1, 2))
    assert value(one, VOLUME) == (12.34, "ml")
    assert value(one, private("abc2")) == (13.1, "ml")
    assert value(one, LONG_AXIS) == (31.4, "mm")
    assert value(one, Code("C0JK", "IBSI", "")) == (3456.5, "mm2")
    assert value(one, Code("QCFX", "IBSI", "")) == (0.75, "1")
    assert value(one, private("probability")) == (0.81, "1")
    assert value(one, private("ivh-volume")) == (1.5, "ml")
    assert value(one, private("p-iph")) == (0.75, "1") and value(one, private("p-ivh")) == (0.125, "1")
    assert value(two, VOLUME) == (0.5, "ml") and value(two, private("p-iph")) is None
    density = {item.derivation.meaning: item.value for item in one.get_measurements() if item.name.value == "112031"}
    assert density == {"Mean": 62.0, "Standard Deviation": 6.5}
    assert (one.finding_type.value, two.finding_type.value) == ("274100004", "1386000")
    assert two.finding_sites[0].value.meaning == "Brain ventricle"
    assert two.finding_sites[0].laterality.meaning == "Midline"


def test_dcmqi_reads_the_same_numbers(full, tmp_path):
    _, _, files = full
    command = [dicom_series.find_program("tid1500reader"), "--inputDICOM", files["sr"]]
    run = subprocess.run([*command, "--outputMetadata", tmp_path / "sr.json"], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
    read = {one["TrackingIdentifier"]: one for one in json.loads((tmp_path / "sr.json").read_text())["Measurements"]}
    numbers = {
        (name, item["quantity"]["CodeMeaning"]): (float(item["value"]), item["units"]["CodeValue"])
        for name, one in read.items()
        for item in one["measurementItems"]
    }
    assert numbers[WHOLE, "Volume"] == (23.4, "ml")
    assert numbers[WHOLE, "Volume, lower end of its interval"] == (18.5, "ml")
    assert numbers[MIDLINE, "Midline shift at the septum pellucidum"] == (4.25, "mm")
    assert numbers["StrokeSeg lesion 1", "Volume by ABC/2"] == (13.1, "ml")
    assert numbers["StrokeSeg lesion 2", "Volume"] == (0.5, "ml")
    assert read["StrokeSeg lesion 2"]["ReferencedSegment"] == 2
    uid = pydicom.dcmread(files["seg"]).SOPInstanceUID
    assert read["StrokeSeg lesion 1"]["segmentationSOPInstanceUID"] == uid


def test_dcmtk_draws_it_as_a_page(full):
    _, _, files = full
    run = subprocess.run([dicom_series.find_program("dsr2html"), files["sr"]], capture_output=True, check=False)
    page = run.stdout.decode("utf-8", "replace")
    assert run.returncode == 0 and b"E:" not in run.stderr
    assert "Imaging Measurement Report" in page and "23.4" in page and "Midline shift" in page


def comments(files):
    items = [item for group in groups_of(files).values() for item in group[0].ContentSequence]
    return [item.TextValue for item in items if item.ConceptNameCodeSequence[0].CodeValue == "121106"]


def test_warnings_and_the_disclaimer_are_comments(full):
    _, _, files = full
    assert comments(files) == ["Hemorrhage was detected.", "The slices are 6.1 mm apart.", DISCLAIMER]


@pytest.mark.parametrize("kind", ["tilted", "enhanced"])
def test_no_bleeding_is_a_report_without_a_segmentation(tmp_path, kind):
    _, scan = read_cached(kind)
    labels = np.zeros(scan.shape, np.int32)
    files, [remark] = write_objects(tmp_path / "out", scan, labels, ("seg", "sr"))
    assert set(files) == {"sr"} and remark.code == "no-segmentation"
    assert dicom_series.list_errors(files["sr"]) == []
    [whole] = groups_of(files).values()
    assert value(whole, VOLUME) == (0.0, "ml") and whole.finding_type is None
    assert answer(whole, HEMORRHAGE) == "Absent"
    assert comments(files)[0] == "No hemorrhage was detected, so there is no segmentation."
    named = {image.referenced_sop_instance_uid for image in whole.source_images}
    assert named == set(scan.sop_instance_uids)  # on all of which it looked


def test_what_was_not_measured_is_left_out(tmp_path):
    _, scan = read_cached("plain")
    labels = label_lesion(scan)
    document = make_document(scan, labels, volume_ml=None, confidence=None)
    [lesion] = document.findings.lesions
    update = dict.fromkeys(("volume_ml", "abc2_ml", "max_diameter_mm", "mean_hu", "probability", "side", "place"))
    document = document.model_copy(
        update={"findings": document.findings.model_copy(update={"lesions": [lesion.model_copy(update=update)]})}
    )
    files, _ = write_objects(tmp_path / "out", scan, labels, ("sr",), document)
    groups = groups_of(files)
    assert set(groups) == {WHOLE, "StrokeSeg lesion 1"}
    assert all(list(group.get_measurements()) == [] for group in groups.values())
    assert groups["StrokeSeg lesion 1"].finding_sites[0].laterality is None
    assert dicom_series.list_errors(files["sr"]) == []


def test_no_blood_in_the_ventricles_is_said(tmp_path):
    _, scan = read_cached("plain")
    labels = label_lesion(scan)
    document = make_document(scan, labels, intraventricular=False, intraventricular_ml=0.0)
    files, _ = write_objects(tmp_path / "out", scan, labels, ("sr",), document)
    group = groups_of(files)[VENTRICLES]
    assert value(group, VOLUME) == (0.0, "ml") and group.finding_type is None
    assert answer(group, HEMORRHAGE) == "Absent"


@pytest.mark.parametrize(
    ("place", "types", "finding", "site"),
    [
        (None, None, "1386000", "Brain"),
        ("unsure", None, "1386000", "Brain"),
        ("deep", None, "274100004", "Brain"),
        ("lobar", None, "274100004", "Cerebral hemisphere"),
        ("ventricle", None, "1386000", "Brain ventricle"),
        ("cerebellum", None, "1386000", "Cerebellum"),
        ("brainstem", None, "1386000", "Brain Stem"),
        ("extra-axial", None, "1386000", "Intracranial structure"),
        ("extra-axial", {"subdural": 0.7, "epidural": 0.2}, "35486000", "Intracranial structure"),
        ("extra-axial", {"subdural": 0.4, "epidural": 0.4}, "1386000", "Intracranial structure"),
        ("extra-axial", {"subarachnoid": 0.9}, "21454007", "Subarachnoid space"),
        ("extra-axial", {"epidural": 0.9}, "1386000", "Intracranial structure"),
        ("cerebellum", {"intraparenchymal": 0.9}, "1386000", "Cerebellum"),
        ("lobar", {"intraparenchymal": 0.9}, "274100004", "Cerebral hemisphere"),
        (None, {"intraventricular": 0.9}, "1386000", "Brain ventricle"),
    ],
)
def test_a_type_is_coded_where_it_is_known_and_general_where_not(place, types, finding, site):
    from phantoms.results import make_lesion

    what = codes.choose_lesion_codes(make_lesion(1, 0, 1, place=place, type_probabilities=types))
    assert (what.finding.value, what.site.meaning) == (finding, site)


@pytest.mark.parametrize("name", [name for name in dir(codes) if isinstance(getattr(codes, name), Code)])
def test_public_codes_are_those_of_the_dictionary(name):
    """Held against pydicom's copy of PS3.16; three SNOMED CT concepts are not in it."""
    from pydicom.sr._concepts_dict import concepts

    code = getattr(codes, name)
    if code.scheme_designator == codes.SCHEME or name in ("CEREBRAL", "SUBDURAL", "SUBARACHNOID"):
        return
    if code.scheme_designator == "UCUM":  # its table has other words, and cm3 where UCUM itself has ml too
        assert code.value in {"ml", *(value for entries in concepts["UCUM"].values() for value in entries)}
        return
    known = {
        meaning.lower()
        for entries in concepts[code.scheme_designator].values()
        for value, (meaning, _) in entries.items()
        if value == code.value
    }
    assert code.meaning.lower() in {re.sub(r" \((procedure|disorder|qualifier value)\)", "", one) for one in known}


def test_the_page_names_every_private_code_and_every_finding():
    page = (Path(__file__).parents[3] / "docs/dicom-outputs.md").read_text()
    every = [getattr(codes, name) for name in dir(codes)] + list(codes.TYPE_PROBABILITIES.values())
    for code in every:
        if isinstance(code, Code) and (code.scheme_designator == codes.SCHEME or "hemorrhage" in code.meaning.lower()):
            word = f"`{code.value}`" if code.scheme_designator == codes.SCHEME else f"SCT {code.value}"
            assert word in page, code


@pytest.mark.slow
def test_three_hundred_slices_have_a_report_too(tmp_path):
    geometry = SMALL.but(z_mm=tuple(np.linspace(-48, 62, 300)), shape=(45, 40), spacing_mm=(4.4, 4.2))
    scan = read_one(head_series.write_series(tmp_path / "in", dicom_series.make_slices(geometry)))
    files, _ = write_objects(tmp_path / "out", scan, formats=("sr",))
    assert dicom_series.list_errors(files["sr"]) == []
