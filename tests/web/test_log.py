"""The log of the server: a JSON object a line, one for each request, and nothing of a patient."""

import json
import logging
import socket
import sys
import time

import pytest

from strokeseg.web import json_log
from web_process import PICTURE_FIELDS, ServerProcess, picture_parts

SECRET = "Doe^Jane"
BROKEN = (
    b"POST /api/v1/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b"Content-Length: 1000\r\n\r\n--b\r\n"
)


@pytest.fixture
def log(served, caplog):
    """Return a function that returns the records of the requests to an application so far."""
    caplog.set_level(logging.INFO, "strokeseg.serve")

    def read():
        lines = [json.loads(json_log.JsonFormatter().format(record)) for record in caplog.records]
        return [line for line in lines if line["message"] == "request"]

    return read


def test_each_request_has_one_line(served, log):
    client = served()
    study = client.post("studies", files=picture_parts(1), data=PICTURE_FIELDS).json()["id"]
    client.get(f"studies/{study}")
    client.get("studies", params={"q": SECRET})
    client.get(f"studies/{SECRET}")
    client.get(f"http://127.0.0.1/{SECRET}")
    client.get("studies", headers={"Host": "scans.example"})
    client.request(SECRET.replace("^", ""), "studies")
    seen = [(line["method"], line["route"], line["study"], line["status"]) for line in log()]
    assert seen == [
        ("POST", "/studies", None, 201),
        ("GET", "/studies/{study_id}", study, 200),
        ("GET", "/studies", None, 200),
        ("GET", "/studies/{study_id}", None, 422),
        ("GET", None, None, 404),
        ("GET", None, None, 403),
        (None, "/studies", None, 405),
    ]
    assert all(line["address"] == "testclient" and line["duration_ms"] > 0 for line in log())
    assert "Doe" not in json.dumps(log())


def wait_until_contains(path, text, timeout_s=20):
    until = time.monotonic() + timeout_s
    while text not in path.read_text():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_a_fault_is_one_line_without_its_words(tmp_path):
    """A route raises an error with a patient's name, and an upload breaks off: neither leaves a traceback."""
    script = (
        "from strokeseg.segmentation import models\n"
        f"def fail(): raise ValueError('{SECRET}')\n"
        "models.list_names = fail\n"
        "from strokeseg.cli import main\n"
        "import sys\n"
        "sys.exit(main())\n"
    )
    for debug in (False, True):
        server = ServerProcess(tmp_path, f"sqlite:///{tmp_path / 'a.db'}", "--workers", "0")
        options = ["--debug"] if debug else []
        server.command = [sys.executable, "-c", script, *options, *server.command[3:]]
        with server, server.create_client() as client:
            assert client.get("/models").status_code == 500
            with socket.create_connection(("127.0.0.1", server.port), 10) as broken:
                broken.sendall(BROKEN)
            wait_until_contains(server.log, '"status": 408')
        lines = [json.loads(line) for line in server.log.read_text().splitlines()]
        assert [line["status"] for line in lines if line.get("route") == "/studies"] == [408], "no fault"
        faults = [line for line in lines if line["level"] == "error"]
        assert "ValueError" in json.dumps(faults[0])
        assert (len(faults), SECRET in json.dumps(lines), "Traceback" in json.dumps(lines)) == (
            (2, True, True) if debug else (1, False, False)
        )


def test_messages_and_faults_of_other_packages_are_named_by_their_place():
    def log_fault(name, *arguments):
        try:
            raise KeyError(SECRET)
        except KeyError:
            record = logging.getLogger(name).makeRecord(
                name, logging.ERROR, __file__, 7, arguments[0], arguments[1:], sys.exc_info()
            )
        return json_log.JsonFormatter().format(record)

    for line in (log_fault("asyncio", f"Task: {SECRET}"), log_fault("botocore.auth", "signed %s", SECRET)):
        assert SECRET not in line
        assert json.loads(line)["message"].endswith("test_log.py:7".replace(".py", ""))
        assert json.loads(line)["exception"] == "KeyError"
