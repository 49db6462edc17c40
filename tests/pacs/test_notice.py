"""HL7 read by python-hl7, FHIR by its own models, both over real sockets."""

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import hl7
import pytest
from fhir.resources.R4B.bundle import Bundle

from pacs_cases import NEWS
from strokeseg.errors import NotDelivered
from strokeseg.pacs import notice
from strokeseg.pacs.notice import News
from strokeseg.pacs.settings import Notice

NOTHING = News(
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
    message = hl7.parse(notice.oru(NEWS, "C1"))
    assert str(message.segment("MSH")[9]) == "ORU^R01^ORU_R01"
    assert str(message["MSH.F10"]) == "C1"
    assert message.unescape(str(message["PID.F3"])) == "P&1 "
    assert message.unescape(str(message["OBR.F3"])) == "A|1^2"
    found = {str(row[3][0][0]): row for row in message.segments("OBX")}
    assert str(found["ICH"][5]) == "Y"
    assert (str(found["VOLUME"][5]), str(found["VOLUME"][6][0][0])) == ("12.35", "mL")
    assert str(found["INTERVAL"][5]) == "^9.00^-^16.50"
    assert "12.3 ml (9.0 to 16.5)" in message.unescape(str(found["TEXT"][5]))
    assert all(str(row[11]) == "P" for row in found.values())


def test_unknown_figures_are_left_out():
    message = hl7.parse(notice.oru(NOTHING, "C1"))
    codes = [str(row[3][0][0]) for row in message.segments("OBX")]
    assert "VOLUME" not in codes
    assert "INTERVAL" not in codes
    assert "No intracranial hemorrhage" in str(message)
    assert len(notice.bundle(NOTHING)["entry"]) == 2


def test_a_bundle_is_a_transaction_that_makes_each_thing_once():
    made = notice.bundle(NEWS)
    read = Bundle.model_validate(json.loads(json.dumps(made)))
    assert read.type == "transaction"
    kinds = [entry.request.url for entry in read.entry]
    assert kinds == ["Observation", "Observation", "DiagnosticReport"]
    assert all(entry.request.ifNoneExist.startswith("identifier=urn:strokeseg:") for entry in read.entry)
    assert float(read.entry[1].resource.valueQuantity.value) == 12.35
    references = {result.reference for result in read.entry[2].resource.result}
    assert references == {entry.fullUrl for entry in read.entry[:2]}
    assert notice.bundle(NEWS) == made


class Mllp(socketserver.BaseRequestHandler):
    def handle(self):
        data = b""
        while not data.endswith(b"\x1c\r"):
            data += self.request.recv(4096)
        message = hl7.parse(data[1:-2].decode())
        self.server.got.append(message)
        self.request.sendall(b"\x0b" + str(message.create_ack(self.server.code)).encode() + b"\x1c\r")


@pytest.fixture
def ward():
    server = socketserver.TCPServer(("127.0.0.1", 0), Mllp)
    server.got, server.code = [], "AA"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_message_is_told_by_mllp_and_acknowledged(ward):
    notice.tell(Notice(name="ward", kind="hl7", host="127.0.0.1", port=ward.server_address[1]), NEWS)
    [message] = ward.got
    assert str(message["MSH.F10"]) == NEWS.key[:20]


@pytest.mark.parametrize("code", ["AE", "AR"])
def test_a_message_that_is_refused_is_not_delivered(ward, code):
    ward.code = code
    with pytest.raises(NotDelivered, match=f"answered {code}"):
        notice.tell(Notice(name="ward", kind="hl7", host="127.0.0.1", port=ward.server_address[1]), NEWS)


def test_nobody_there_is_not_delivered():
    with pytest.raises(NotDelivered, match="cannot be reached"):
        notice.tell(Notice(name="ward", kind="hl7", host="127.0.0.1", port=9), NEWS)


class Fhir(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.got.append((dict(self.headers), json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    made = HTTPServer(("127.0.0.1", 0), Fhir)
    made.got, made.status = [], 200
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def of(server, kind, **more):
    return Notice(name="ward", kind=kind, url=f"http://127.0.0.1:{server.server_port}/", **more)


def test_a_bundle_is_posted_with_a_bearer_token(server, monkeypatch):
    monkeypatch.setenv("FHIR_TOKEN", "abc")
    auth = {"kind": "bearer", "secret": {"variable": "FHIR_TOKEN"}}
    notice.tell(of(server, "fhir", auth=auth), NEWS)
    [(headers, body)] = server.got
    assert headers["Content-Type"] == "application/fhir+json"
    assert headers["Authorization"] == "Bearer abc"
    assert body["resourceType"] == "Bundle"


def test_a_webhook_never_has_the_patients_number(server):
    notice.tell(of(server, "webhook"), NEWS)
    [(headers, body)] = server.got
    assert "P&1" not in json.dumps(body)
    assert body["volume_ml"] == 12.345
    assert headers["Idempotency-Key"] == NEWS.key


def test_an_error_of_the_receiver_is_not_delivered(server):
    server.status = 503
    with pytest.raises(NotDelivered, match="answered 503"):
        notice.tell(of(server, "webhook"), NEWS)
