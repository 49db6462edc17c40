"""Many at once, and everything that a client may send."""

import contextlib
import socket
import statistics
import threading
import time
from pathlib import Path

import httpx
import hypothesis
import jsonschema
import pytest
import schemathesis
import uvicorn
from schemathesis import checks

from slowdown import measure_slowdown
from stress import web_latency
from strokeseg.web import limits, server
from strokeseg.web.app import create_app
from web_process import PICTURE_FIELDS, ServerProcess, free_port, picture_parts, wait_until_ended


@pytest.mark.slow
def test_many_uploads_at_once_end_right_and_health_answers_meanwhile(tmp_path):
    """50 uploads of 10 clients; the median of /health/live is under 100 ms, and the server's memory stays bounded."""
    with ServerProcess(tmp_path, f"sqlite:///{tmp_path / 'a.db'}") as server:
        before, made, times = _memory_mb(server.process.pid), [], []

        def client():
            with server.create_client() as one:
                made.extend(
                    one.post("/studies", files=picture_parts(1), data=PICTURE_FIELDS).json()["id"] for _ in range(5)
                )

        threads = [threading.Thread(target=client) for _ in range(10)]
        for thread in threads:
            thread.start()
        with server.create_client() as one:
            while any(thread.is_alive() for thread in threads) or len(times) < 30:
                begun = time.perf_counter()
                assert one.get("/health/live").status_code == 200
                times.append(time.perf_counter() - begun)
                time.sleep(0.02)
            states = [wait_until_ended(one, study) for study in made]
        assert len({study["id"] for study in states}) == 50
        assert {study["status"] for study in states} == {"done"}
        assert len({study["volume_ml"] for study in states}) == 1
        assert statistics.median(times) < 0.1 * measure_slowdown()
        assert _memory_mb(server.process.pid) - before < 200


@pytest.mark.slow
def test_a_result_is_there_soon_after_the_upload(tmp_path):
    """4 s, the first slice after 0.8 s, where both cores are free (`python -m stress.web_latency`).

    The aims are 10 s and 1 s on two free cores. Here another test has one of them, so these bounds only catch what is
    far slower; the command is what shows the aims.
    """
    with ServerProcess(tmp_path, f"sqlite:///{tmp_path / 'a.db'}") as running, running.create_client() as client:
        waits = [web_latency.measure_waits(client) for _ in range(3)]
    slice_s, result_s = (min(column) for column in zip(*waits, strict=True))
    print(f"first slice {slice_s:.2f} s, result {result_s:.2f} s")
    assert slice_s < 4 * measure_slowdown() and result_s < 20 * measure_slowdown()


@pytest.mark.slow
def test_a_large_upload_is_never_whole_in_memory(tmp_path):
    """120 MB in one request: the server grows by far less."""
    with (
        ServerProcess(tmp_path, f"sqlite:///{tmp_path / 'a.db'}", "--workers", "0") as server,
        server.create_client() as client,
    ):
        client.get("/studies")
        before = _memory_mb(server.process.pid, "VmHWM")
        head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.bin"\r\n\r\n'

        def body():
            yield head
            for _ in range(120):
                yield b"x" * 2**20
            yield b"\r\n--b--\r\n"

        answer = client.post("/studies", content=body(), headers={"Content-Type": "multipart/form-data; boundary=b"})
        assert answer.status_code == 201
        assert _memory_mb(server.process.pid, "VmHWM") - before < 50


@pytest.mark.slow
def test_a_body_of_three_gigabytes_is_refused_as_soon_as_it_is_known(tmp_path):
    """Where it is announced before a byte of it; where it is not, at the limit: nothing of it stays."""
    with ServerProcess(tmp_path, f"sqlite:///{tmp_path / 'a.db'}", "--workers", "0", "--max-upload", "100M") as server:
        with server.create_client() as client:
            client.get("/studies")
            before, sent = _memory_mb(server.process.pid, "VmHWM"), 0

            def body():
                nonlocal sent
                yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.bin"\r\n\r\n'
                while sent < 3 * 2**30:
                    sent += 2**20
                    yield b"x" * 2**20

            kind = {"Content-Type": "multipart/form-data; boundary=b"}
            answer = None
            with contextlib.suppress(httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
                answer = client.post("/studies", content=body(), headers=kind)
            assert answer is None or answer.status_code == 413
            assert sent < 200 * 2**20 and _memory_mb(server.process.pid, "VmHWM") - before < 50
        with socket.create_connection(("127.0.0.1", server.port), 10) as announced:
            announced.sendall(
                b"POST /api/v1/studies HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 3221225472\r\n\r\n"
            )
            assert announced.recv(4096).startswith(b"HTTP/1.1 413")
        scratch = (tmp_path / "data" / "scratch").rglob("*")
        assert not [path for path in scratch if path.is_file() and path.suffix != ".lease"]


@pytest.mark.slow
def test_clients_that_do_not_go_on_are_sent_away_and_hinder_nobody(settings, monkeypatch):
    """100 connections with half a head, 20 with half a body: one that goes on is served meanwhile."""
    monkeypatch.setattr(limits, "HEAD_TIMEOUT_S", 3.0)
    monkeypatch.setattr(limits, "BODY_TIMEOUT_S", 3.0)
    config = server.create_config(settings(workers=0))
    config.port = free_port()
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not running.started:
        assert time.monotonic() < until
        time.sleep(0.05)
    base = f"http://127.0.0.1:{config.port}/api/v1"
    try:
        with contextlib.ExitStack() as open_:

            def send(text):
                one = open_.enter_context(socket.create_connection(("127.0.0.1", config.port), 20))
                one.sendall(text)
                return one

            heads = [send(b"GET /api/v1/health/live HTTP/1.1\r\nHo") for _ in range(100)]
            post = b"POST /api/v1/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
            bodies = [send(post + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n") for _ in range(20)]

            def slowly():
                yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
                for _ in range(8):
                    time.sleep(1.0)
                    yield b"x" * 4096  # more than the least rate
                yield b"\r\n--b--\r\n"

            kind = {"Content-Type": "multipart/form-data; boundary=b"}
            took = []
            for _ in range(5):
                begun = time.perf_counter()
                assert httpx.get(f"{base}/health/live").status_code == 200
                took.append(time.perf_counter() - begun)
            assert statistics.median(took) < 0.2 * measure_slowdown()
            assert httpx.post(f"{base}/studies", content=slowly(), headers=kind, timeout=30).status_code == 201
            assert {one.recv(4096) for one in heads} == {b""}, "closed"
            for one in bodies:
                answer = b"".join(iter(lambda one=one: one.recv(4096), b""))  # to its end: the connection is closed
                assert answer.startswith(b"HTTP/1.1 408") and b"Send it again, or use a resumable upload." in answer
    finally:
        running.should_exit = True
        thread.join(20)


def _memory_mb(pid, what="VmRSS"):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


@pytest.mark.slow
def test_every_answer_is_in_the_openapi_document(tmp_path):
    """schemathesis sends what the document allows and what it does not: no 5xx, no answer that is not documented."""
    checked = [
        checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
    ]
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    with ServerProcess(tmp_path, f"sqlite:///{tmp_path / 'a.db'}") as server, server.create_client() as client:
        study = client.post("/studies", files=picture_parts(1), data=PICTURE_FIELDS).json()["id"]
        wait_until_ended(client, study)
        schema = schemathesis.openapi.from_url(f"{server.base}/api/v1/openapi.json")
        assert schema.raw_schema["openapi"].startswith("3.1")
        tried = 0
        for result in schema.get_all_operations():
            operation = result.ok()
            if operation.path.endswith("/events") or (operation.method == "get" and "/auth/" in operation.path):
                continue  # the streams do not end; a sign-in needs a service
            for mode in modes:
                tried += _tried(operation, mode, checked, server.base, study)
        assert tried > 200


def _tried(operation, mode, checked, base, study):
    count = 0

    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    @hypothesis.settings(
        max_examples=4,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def each(case):
        nonlocal count
        count += 1
        # A made-up id is answered with 404 alone: half of the requests are about a study that there is.
        if operation.method != "delete" and mode is schemathesis.GenerationMode.POSITIVE and count % 2:
            case.path_parameters.update(
                {name: study for name in ("study_id", "other_id") if name in case.path_parameters}
            )
        _fits(operation, case.call_and_validate(base_url=base, checks=checked))

    with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # nothing of this kind can be sent to this route
        each()
    return count


def _fits(operation, response):
    """An answer is of the form that is documented for it; schemathesis itself misreads `prefixItems`."""
    document = operation.schema.raw_schema
    documented = document["paths"][operation.path][operation.method]["responses"][str(response.status_code)]
    media = response.headers.get("content-type", [""])[0].split(";")[0]
    form = documented.get("content", {}).get(media, {}).get("schema")
    if form and media.endswith("json") and operation.method != "head":
        jsonschema.Draft202012Validator({**form, "components": document["components"]}).validate(response.json())


def test_the_document_names_every_problem(settings):
    document = create_app(settings()).openapi()
    assert "Problem" in document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation.get("summary"), (method, path)
            if path.startswith("/api/v1/studies"):
                assert {"401", "403"} <= set(operation["responses"]), (method, path)
