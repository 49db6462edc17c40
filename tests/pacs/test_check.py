"""`--check` against real peers: DCMTK's storescp, and an Orthanc that accepts everything."""

import subprocess

import pytest

from node_cases import make_settings, wait_until
from orthanc import Archive, free_port
from phantoms import dicom_series
from strokeseg.pacs.connection_check import check_connections


@pytest.fixture
def images_only(tmp_path):
    """DCMTK's storescp, which accepts the classes of its profile: here secondary captures, no segmentations."""
    port, profile = free_port(), tmp_path / "profile.cfg"
    profile.write_text(
        "[[TransferSyntaxes]]\n[Plain]\nTransferSyntax1 = LittleEndianExplicit\n"
        "[[PresentationContexts]]\n[Few]\n"
        "PresentationContext1 = VerificationSOPClass\\Plain\n"
        "PresentationContext2 = SecondaryCaptureImageStorage\\Plain\n"
        "[[Profiles]]\n[Default]\nPresentationContexts = Few\n"
    )
    command = [dicom_series.find_program("storescp"), "-xf", str(profile), "Default", "-od", str(tmp_path), str(port)]
    process = subprocess.Popen(command)
    yield port
    process.kill()
    process.wait()


def rows(folder, port, **more):
    peer = {"name": "pacs", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": port, **more.pop("peer", {})}
    settings = make_settings(folder, peer=[peer], **more)
    return {row.tried: row for row in check_connections(settings)}


def test_a_peer_that_does_not_take_a_class_is_told_by_its_name(tmp_path, images_only):
    rule = [{"name": "all", "send": [{"to": "pacs", "what": ["seg", "capture"]}]}]
    wait_until(lambda: rows(tmp_path, images_only)["C-ECHO"].good)
    results = rows(tmp_path, images_only, rule=rule)
    assert not results["store"].good
    assert results["store"].said == "does not accept SegmentationStorage"
    rule[0]["send"][0]["what"] = ["capture"]
    assert rows(tmp_path, images_only, rule=rule)["store"].said == "accepts SecondaryCaptureImageStorage"


@pytest.mark.slow
def test_an_archive_answers_everything(tmp_path):
    (tmp_path / "orthanc").mkdir()
    archive = Archive(tmp_path / "orthanc", DicomAlwaysAllowFind=True)
    try:
        rule = [{"name": "all", "send": [{"to": "pacs", "what": ["seg", "sr", "capture", "pdf"]}]}]
        web = [{"name": "web", "url": archive.dicomweb}]
        results = rows(tmp_path, archive.dimse, peer={"use": "get"}, rule=rule, web=web)
        assert {tried: row.good for tried, row in results.items()} == {
            "C-ECHO": True,
            "C-FIND": True,
            "store": True,
            "QIDO-RS": True,
        }
        wrong = [{"name": "web", "url": archive.dicomweb + "/nothing"}]
        assert rows(tmp_path, archive.dimse, web=wrong)["QIDO-RS"].said == "answered 404"
        assert archive.get("/statistics")["CountInstances"] == 0
    finally:
        archive.stop()
