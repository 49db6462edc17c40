"""HL7 read by python-hl7, FHIR by its own models, both over real sockets."""

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import hl7
import pytest
from fhir.resources.R4B.bundle import Bundle

from node_cases import NOTICE
from strokeseg.errors import NotDelivered
from strokeseg.pacs import notices
from strokeseg.pacs.notices import ResultNotice
from strokeseg.pacs.settings import NoticeTarget

NOTHING = ResultNotice(
    key="k" * 32,
    study_uid="1.2.3",
    series_uid="1.2.3.4",
    accession="",
    patient_id="",
    version=1,
    hemorrhage=False,
    confidence=None,
    volume_ml=None,
    interval_ml=None,
    at="2024-05-06T07:08:09+00:00",
    software="s",
    model="m",
)


def test_an_oru_is_read_by_another_parser():
    message = hl7.parse(notices.build_oru(NOTICE, "C1"))
    assert str(message.segment("MSH")[9]) == "ORU^R01^ORU_R01"
    assert str(message["MSH.F10"]) == "C1"
    assert message.unescape(str(message["PID.F3"])) == "P&1 "
    assert message.unescape(str(message["OBR.F3"])) == "A|1^2"
    rows = {str(row[3][0][0]): row for row in message.segments("OBX")}
    assert str(rows["ICH"][5]) == "Y"
    assert (str(rows["VOLUME"][5]), str(rows["VOLUME"][6][0][0])) == ("12.35", "mL")
    assert str(rows["INTERVAL"][5]) == "^9.00^-^16.50"
    assert "12.3 ml (9.0 to 16.5)" in message.unescape(str(rows["TEXT"][5]))
    assert all(str(row[11]) == "P" for row in rows.values())


def test_unknown_figures_are_left_out():
    message = hl7.parse(notices.build_oru(NOTHING, "C1"))
    codes = [str(row[3][0][0]) for row in message.segments("OBX")]
    assert "VOLUME" not in codes
    assert "INTERVAL" not in codes
    assert "No intracranial hemorrhage" in str(message)
    assert len(notices.build_fhir_bundle(NOTHING)["entry"]) == 2


def test_a_bundle_is_a_transaction_that_makes_each_thing_once():
    bundle = notices.build_fhir_bundle(NOTICE)
    parsed = Bundle.model_validate(json.loads(json.dumps(bundle)))
    assert parsed.type == "transaction"
    kinds = [entry.request.url for entry in parsed.entry]
    assert kinds == ["Observation", "Observation", "DiagnosticReport"]
    assert all(entry.request.ifNoneExist.startswith("identifier=urn:strokeseg:") for entry in parsed.entry)
    assert float(parsed.entry[1].resource.valueQuantity.value) == 12.35
    references = {result.reference for result in parsed.entry[2].resource.result}
    assert references == {entry.fullUrl for entry in parsed.entry[:2]}
    assert notices.build_fhir_bundle(NOTICE) == bundle


class Mllp(socketserver.BaseRequestHandler):
    def handle(self):
        data = b""
        while not data.endswith(b"\x1c\r"):
            data += self.request.recv(4096)
        message = hl7.parse(data[1:-2].decode())
        self.server.received.append(message)
        self.request.sendall(b"\x0b" + str(message.create_ack(self.server.code)).encode() + b"\x1c\r")


@pytest.fixture
def ward():
    server = socketserver.TCPServer(("127.0.0.1", 0), Mllp)
    server.received, server.code = [], "AA"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_message_is_told_by_mllp_and_acknowledged(ward):
    notices.send_notice(NoticeTarget(name="ward", kind="hl7", host="127.0.0.1", port=ward.server_address[1]), NOTICE)
    [message] = ward.received
    assert str(message["MSH.F10"]) == NOTICE.key[:20]


@pytest.mark.parametrize("code", ["AE", "AR"])
def test_a_message_that_is_refused_is_not_delivered(ward, code):
    ward.code = code
    with pytest.raises(NotDelivered, match=f"answered {code}"):
        notices.send_notice(
            NoticeTarget(name="ward", kind="hl7", host="127.0.0.1", port=ward.server_address[1]), NOTICE
        )


def test_nobody_there_is_not_delivered():
    with pytest.raises(NotDelivered, match="cannot be reached"):
        notices.send_notice(NoticeTarget(name="ward", kind="hl7", host="127.0.0.1", port=9), NOTICE)


class Fhir(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.received.append(
            (dict(self.headers), json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        )
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = HTTPServer(("127.0.0.1", 0), Fhir)
    server.received, server.status = [], 200
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def of(server, kind, **more):
    return NoticeTarget(name="ward", kind=kind, url=f"http://127.0.0.1:{server.server_port}/", **more)


def test_a_bundle_is_posted_with_a_bearer_token(server, monkeypatch):
    monkeypatch.setenv("FHIR_TOKEN", "abc")
    auth = {"kind": "bearer", "secret": {"variable": "FHIR_TOKEN"}}
    notices.send_notice(of(server, "fhir", auth=auth), NOTICE)
    [(headers, body)] = server.received
    assert headers["Content-Type"] == "application/fhir+json"
    assert headers["Authorization"] == "Bearer abc"
    assert body["resourceType"] == "Bundle"


def test_a_webhook_never_has_the_patients_number(server):
    notices.send_notice(of(server, "webhook"), NOTICE)
    [(headers, body)] = server.received
    assert "P&1" not in json.dumps(body)
    assert body["volume_ml"] == 12.345
    assert headers["Idempotency-Key"] == NOTICE.key


def test_an_error_of_the_receiver_is_not_delivered(server):
    server.status = 503
    with pytest.raises(NotDelivered, match="answered 503"):
        notices.send_notice(of(server, "webhook"), NOTICE)
