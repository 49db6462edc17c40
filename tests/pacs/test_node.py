"""Modality (DCMTK) to node to archive (Orthanc): what a hospital's IT person would try first."""

import json
import socket
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pydicom
import pytest

from node_cases import NodeUnderTest, make_settings, save_lesion_network, wait_until
from orthanc import Archive, free_port
from phantoms import dicom_series, head_series
from strokeseg.errors import NotDelivered
from strokeseg.pacs import database, query_retrieve, scu
from strokeseg.pacs.settings import Peer, TlsFiles

pytestmark = pytest.mark.slow
GEOMETRY = head_series.Geometry(z_mm=tuple(range(-40, 60, 8)))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    port = free_port()
    known = {"node": ["STROKESEG", "127.0.0.1", port]}
    archive = Archive(tmp_path_factory.mktemp("orthanc"), DicomModalities=known, OrthancExplorerEnabled=False)
    archive.node_port = port
    yield archive
    archive.stop()


def head(folder, study="1.2.840.99.1", series="1.2.840.99.1.1", patient="P1", date="20240102", **options):
    datasets = head_series.make_datasets(GEOMETRY, series=series)
    for data in datasets:
        data.StudyInstanceUID, data.SeriesInstanceUID, data.PatientID = study, series, patient
        data.StudyDate, data.BodyPartExamined, data.SeriesDescription = date, "HEAD", "Head native"
        data.AccessionNumber = "A1"
        for name, value in options.items():
            setattr(data, name, value)
    return head_series.write_series(folder, datasets)


def archive_peer(archive, **more):
    return {"name": "archive", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": archive.dimse, **more}


def peers(archive, **more):
    modality = {"name": "modality", "ae_title": "MODALITY", "host": "127.0.0.1", "port": 1, "may": ["send", "commit"]}
    return [modality, archive_peer(archive, **more)]


ALL = {"name": "head", "match": {"body_part": "HEAD"}, "send": [{"to": "archive", "what": ["sr", "capture"]}]}


def test_from_modality_to_archive(archive, tmp_path, monkeypatch):
    save_lesion_network(tmp_path / "networks")
    monkeypatch.setenv("STROKESEG_MODELS", str(tmp_path / "networks"))
    whole = {**ALL, "send": [{"to": "archive", "what": ["seg", "sr", "capture", "pdf"]}]}
    node = NodeUnderTest(tmp_path / "n", peer=peers(archive), rule=[whole])
    try:
        folder = head(tmp_path / "in")
        archive.send(*folder.iterdir())
        assert node.call("storescu", folder, "+sd").returncode == 0
        [sent] = wait_until(lambda: [row for row in node.rows(database.outbox_table) if row["state"] == "sent"], 60)
        assert (sent["kind"], sent["target"], sent["tries"]) == ("send", "archive", 1)
        [row] = node.rows()
        assert (row["state"], row["version"], row["rule"]) == ("done", 1, "head")
    finally:
        node.stop()
    series = archive.get("/dicom-web/studies/1.2.840.99.1/series")
    assert {item["00080060"]["Value"][0] for item in series} == {"CT", "SEG", "SR", "OT", "DOC"}
    [study] = [one for one in archive.get("/studies?expand") if one["MainDicomTags"]["AccessionNumber"] == "A1"]
    names = [item["ID"] for item in archive.get(f"/studies/{study['ID']}/instances")]
    kinds = set()
    for name in names:
        path = tmp_path / f"{name}.dcm"
        path.write_bytes(archive.get(f"/instances/{name}/file", "application/dicom")[0])
        kind = pydicom.dcmread(path, stop_before_pixels=True).Modality
        kinds.add(kind)
        if kind != "CT":
            assert dicom_series.list_errors(path) == [], kind
        if kind in ("OT", "SEG"):
            picture, _ = archive.get(f"/instances/{name}/preview", "image/png")
            assert picture.startswith(b"\x89PNG")
    assert kinds == {"CT", "SEG", "SR", "OT", "DOC"}


def test_a_late_slice_gives_a_new_version(archive, tmp_path):
    node = NodeUnderTest(tmp_path / "n", peer=peers(archive), rule=[ALL])
    try:
        folder = head(tmp_path / "in", series="1.2.840.99.1.2")
        files = sorted(folder.iterdir())
        assert node.call("storescu", *files[:-1]).returncode == 0
        wait_until(lambda: [row["state"] for row in node.rows()] == ["done"], 60)
        assert node.call("storescu", files[-1]).returncode == 0
        wait_until(lambda: [(row["state"], row["version"]) for row in node.rows()] == [("done", 2)], 60)
        assert [document.input.slices for document in node.jobs.documents.values()] == [12, 13]
        assert node.call("storescu", *files).returncode == 0
        assert [row["version"] for row in node.rows()] == [2]
    finally:
        node.stop()


def test_what_no_rule_wants_is_kept_and_not_segmented(archive, tmp_path):
    chest = {**ALL, "match": {"body_part": "CHEST"}}
    node = NodeUnderTest(tmp_path / "n", peer=peers(archive), rule=[chest])
    try:
        assert node.call("storescu", head(tmp_path / "in"), "+sd").returncode == 0
        wait_until(lambda: [row["state"] for row in node.rows()] == ["ignored"])
        assert node.jobs.keys == {}
    finally:
        node.stop()


def test_an_archive_that_is_down_gets_its_results_later(archive, tmp_path, monkeypatch):
    monkeypatch.setattr("strokeseg.pacs.outbox.FIRST_PAUSE_S", 0.5)
    node = NodeUnderTest(tmp_path / "n", peer=peers(archive), rule=[ALL], node={"network_timeout_s": 5})
    archive.stop()
    try:
        assert node.call("storescu", head(tmp_path / "in", series="1.2.840.99.1.3"), "+sd").returncode == 0
        wait_until(lambda: [row for row in node.rows(database.outbox_table) if row["tries"] >= 2], 60)
        [row] = node.rows(database.outbox_table)
        assert "does not answer" in row["error"] or "aborted" in row["error"]
        archive.start()
        wait_until(lambda: [row["state"] for row in node.rows(database.outbox_table)] == ["sent"], 60)
    finally:
        if archive.process.poll() is not None:
            archive.start()
        node.stop()


def test_a_restart_goes_on_where_it_was(archive, tmp_path):
    folder = head(tmp_path / "in", series="1.2.840.99.1.4")
    quiet = {"settle_s": 600, "quiet_s": 600, "port": free_port()}
    first = NodeUnderTest(tmp_path / "n", peer=peers(archive), rule=[ALL], node=quiet)
    try:
        assert first.call("storescu", folder, "+sd").returncode == 0
    finally:
        first.stop()
    second = NodeUnderTest(tmp_path / "n", peer=peers(archive), rule=[ALL])
    try:
        wait_until(lambda: [row["state"] for row in second.rows()] == ["done"], 60)
        wait_until(lambda: [row["state"] for row in second.rows(database.outbox_table)] == ["sent"], 60)
    finally:
        second.stop()


def test_results_are_stored_by_dicomweb_too(archive, tmp_path):
    web = [{"name": "web", "url": archive.dicomweb}]
    rule = {**ALL, "send": [{"to": "web", "what": ["seg", "sr"]}]}
    node = NodeUnderTest(tmp_path / "n", peer=peers(archive), web=web, rule=[rule])
    try:
        assert node.call("storescu", head(tmp_path / "in", series="1.2.840.99.1.5"), "+sd").returncode == 0
        [sent] = wait_until(lambda: [row for row in node.rows(database.outbox_table) if row["state"] == "sent"], 60)
        assert sent["target"] == "web"
    finally:
        node.stop()


@pytest.mark.parametrize("method", ["move", "get", "web"])
def test_the_patients_earlier_scan_is_fetched_and_compared(archive, tmp_path, method):
    number = {"move": 1, "get": 2, "web": 3}[method]
    patient, base = f"PRIOR{number}", f"1.2.840.99.7.{number}"
    earlier = head(tmp_path / "earlier", f"{base}.1", f"{base}.1.1", patient, "20230101")
    archive.send(*earlier.iterdir())
    other = head(tmp_path / "other", f"{base}.3", f"{base}.3.1", "SOMEBODY ELSE", "20230601")
    archive.send(*other.iterdir())
    web = [{"name": "web", "url": archive.dicomweb, "priors": True}] if method == "web" else []
    rule = {**ALL, "send": [], "priors": True}
    use = {} if method == "web" else {"use": method, "may": ["send"]}
    node = NodeUnderTest(
        tmp_path / "n", peer=peers(archive, **use), web=web, rule=[rule], node={"port": archive.node_port}
    )
    try:
        later = head(tmp_path / "later", f"{base}.2", f"{base}.2.1", patient)
        assert node.call("storescu", later, "+sd").returncode == 0
        wait_until(lambda: node.jobs.compared, 90)
        rows = {row["series_uid"]: row for row in node.rows()}
        assert set(rows) == {f"{base}.1.1", f"{base}.2.1"}
        assert rows[f"{base}.1.1"]["prior"]
        assert node.jobs.compared == [(rows[f"{base}.1.1"]["job"], rows[f"{base}.2.1"]["job"])]
    finally:
        node.stop()


def test_commitment_is_answered_on_an_association_of_its_own(archive, tmp_path):
    from pynetdicom import AE, evt
    from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

    reports, port = [], free_port()
    listener = AE(ae_title="MODALITY")
    listener.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)

    def report(event):
        reports.append((event.event_type, event.event_information))
        return 0x0000, None

    server = listener.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, report)])
    modality = {
        "name": "modality",
        "ae_title": "MODALITY",
        "host": "127.0.0.1",
        "port": port,
        "may": ["send", "commit"],
    }
    node = NodeUnderTest(tmp_path / "n", peer=[modality])
    try:
        folder = head(tmp_path / "in")
        assert node.call("storescu", folder, "+sd").returncode == 0
        caller = AE(ae_title="MODALITY")
        caller.add_requested_context(StorageCommitmentPushModel)
        request = pydicom.Dataset()
        request.TransactionUID = "1.2.3.4"
        request.ReferencedSOPSequence = []
        stored_uid = pydicom.dcmread(next(folder.iterdir())).SOPInstanceUID
        for uid in (stored_uid, "1.2.3.4.5"):
            item = pydicom.Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = pydicom.uid.CTImageStorage, uid
            request.ReferencedSOPSequence.append(item)
        association = caller.associate("127.0.0.1", node.port, ae_title="STROKESEG")
        status, _ = association.send_n_action(
            request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        association.release()
        assert status.Status == 0
        [(kind, answer)] = wait_until(lambda: reports)
        assert (kind, answer.TransactionUID) == (2, "1.2.3.4")
        assert [item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence] == [stored_uid]
        assert [item.ReferencedSOPInstanceUID for item in answer.FailedSOPSequence] == ["1.2.3.4.5"]
    finally:
        node.stop()
        server.shutdown()


def certificates(folder):
    """Make an authority, a server's and a client's certificate with OpenSSL's program."""
    tool = dicom_series.find_program("openssl")

    def run(*arguments):
        subprocess.run([tool, *arguments], check=True, capture_output=True, cwd=folder)

    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    for name in ("server", "client"):
        run(
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
            "-subj",
            f"/CN={name}",
        )
        (folder / "ext").write_text("subjectAltName=IP:127.0.0.1")
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", f"{name}.pem", "-extfile", "ext"]
        run("x509", "-req", "-in", f"{name}.csr", *signed)
    return folder


def test_tls_takes_only_a_known_certificate(tmp_path):
    folder = certificates(tmp_path)
    tls = {"certificate": folder / "server.pem", "key": folder / "server.key", "authority": folder / "ca.pem"}
    node = NodeUnderTest(tmp_path / "n", node={"tls": tls})
    try:
        silent = socket.create_connection(("127.0.0.1", node.port))  # starts no handshake and must not block others
        known = ["+tls", folder / "client.key", folder / "client.pem", "+cf", folder / "ca.pem"]
        assert node.call("echoscu", *known).returncode == 0
        unknown = certificates_of_others(tmp_path)
        strange = ["+tls", unknown / "client.key", unknown / "client.pem", "+cf", folder / "ca.pem"]
        assert node.call("echoscu", *strange).returncode != 0
        assert node.call("echoscu").returncode != 0
        ours = {"certificate": folder / "client.pem", "key": folder / "client.key", "authority": folder / "ca.pem"}
        peer = Peer(name="self", ae_title="STROKESEG", host="127.0.0.1", port=node.port, tls=ours)
        scu.c_echo(make_settings(tmp_path, node={"ae_title": "MODALITY"}).node, peer)
        strangers = {
            "certificate": unknown / "client.pem",
            "key": unknown / "client.key",
            "authority": folder / "ca.pem",
        }
        with pytest.raises(NotDelivered):
            scu.c_echo(
                make_settings(tmp_path, node={"ae_title": "MODALITY"}).node,
                peer.model_copy(update={"tls": TlsFiles(**strangers)}),
            )
        silent.close()
    finally:
        node.stop()


def certificates_of_others(folder):
    other = folder / "others"
    other.mkdir()
    return certificates(other)


class Hook(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((dict(self.headers), json.loads(body)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments):
        pass


def test_a_webhook_is_told_once_and_signed(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("HOOK_SECRET", "a secret")
    server = HTTPServer(("127.0.0.1", 0), Hook)
    server.requests = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    notice = [{"name": "ward", "kind": "webhook", "url": url, "sign_with": {"variable": "HOOK_SECRET"}}]
    rule = {**ALL, "send": [], "tell": [{"to": "ward", "when": "always"}], "urgent": True}
    node = NodeUnderTest(tmp_path / "n", peer=peers(archive), notice=notice, rule=[rule])
    try:
        assert node.call("storescu", head(tmp_path / "in", series="1.2.840.99.1.8"), "+sd").returncode == 0
        wait_until(lambda: server.requests, 60)
        [(headers, notice)] = server.requests
        assert notice["series_uid"] == "1.2.840.99.1.8"
        assert notice["accession"] == "A1"
        assert "SECRET" not in json.dumps(notice)
        assert headers["X-StrokeSeg-Signature"].startswith("sha256=")
        assert node.jobs.urgent
    finally:
        node.stop()
        server.shutdown()


def test_priors_are_found_only_of_the_patient(archive, tmp_path):
    local = make_settings(tmp_path).node
    peer = Peer(**archive_peer(archive))
    assert query_retrieve.c_find(local, peer, "STUDY", {"PatientID": "NOBODY", "StudyInstanceUID": ""}) == []
