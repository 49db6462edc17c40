"""The interface without a worker: uploads, lists, files, events, and what it refuses."""

import io
import json
import signal
import socket
import threading
import time
import zipfile

import httpx
import pytest

from web_process import PICTURE_FIELDS, ServerProcess, picture_parts, wait_until_ended

ONE = [("files", ("a.png", b"not a picture", "image/png"))]


def _post(client, **more):
    return client.post("studies", files=ONE, **more)


def test_the_list_is_paged_and_filtered(served):
    client = served()
    made = [_post(client, data={"name": f"study {number}"}).json()["id"] for number in range(5)]
    first = client.get("studies", params={"limit": 2}).json()
    second = client.get("studies", params={"limit": 2, "cursor": first["next"]}).json()
    third = client.get("studies", params={"limit": 2, "cursor": second["next"]}).json()
    assert [one["id"] for page in (first, second, third) for one in page["items"]] == made[::-1]
    assert third["next"] is None
    assert [one["id"] for one in client.get("studies", params={"q": "STUDY 3"}).json()["items"]] == [made[3]]
    assert client.get("studies", params={"q": "%"}).json()["items"] == []
    client.post(f"studies/{made[0]}/cancel")
    assert [one["id"] for one in client.get("studies", params={"status": "cancelled"}).json()["items"]] == [made[0]]
    assert client.get("studies", params={"cursor": "bm9uZQ=="}).status_code == 400


def test_the_same_key_makes_one_study_also_at_the_same_time(served):
    client = served()
    answers = []

    def send():
        answers.append(_post(client, headers={"Idempotency-Key": "k1"}))

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.status_code for one in answers) == [200] * 5 + [201]
    assert len({one.json()["id"] for one in answers}) == 1
    assert len(client.get("studies").json()["items"]) == 1
    other = client.post(
        "studies", files=[("files", ("a.png", b"another", "image/png"))], headers={"Idempotency-Key": "k1"}
    )
    assert other.status_code == 409 and other.json()["code"] == "conflict"


def test_problems_have_their_form(served):
    answer = served().get("studies/" + "0" * 32)
    assert answer.status_code == 404 and answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (
        problem["type"] == "urn:strokeseg:error:not-found"
        and problem["code"] == "not-found"
        and problem["status"] == 404
    )
    assert set(problem) == {"type", "title", "status", "detail", "code", "remedy"}


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"window": "40"}, 400),
        ({"window": "nan,80"}, 400),
        ({"spacing": "5,0,1"}, 400),
        ({"priority": "now"}, 400),
        ({"model": "../../etc/passwd"}, 422),
        ({"name": "x" * 300}, 400),
    ],
)
def test_wrong_fields_are_refused(served, fields, status):
    client = served()
    assert _post(client, data=fields).status_code == status
    assert client.get("studies").json()["items"] == []


def test_an_upload_goes_on_where_it_was_cut(served):
    """Three chunks, one of them sent twice and one at a wrong offset: the study then has the same bytes."""
    client, data = served(), bytes(range(256)) * 40
    upload = client.post("uploads", json={"name": "folder/IM1", "size": len(data)}).json()
    at = f"uploads/{upload['id']}"

    def send(start, stop, offset=None):
        headers = {"Upload-Offset": str(start if offset is None else offset)}
        return client.patch(at, content=data[start:stop], headers=headers)

    assert send(0, 4000).headers["Upload-Offset"] == "4000"
    assert send(0, 4000).status_code == 409
    assert client.head(at).headers["Upload-Offset"] == "4000"
    assert client.post(f"{at}/finish", json={}).status_code == 409
    assert send(4000, 9000).status_code == 204
    assert client.patch(at, content=b"x" * 2000, headers={"Upload-Offset": "9000"}).status_code == 413
    assert client.get(at).json()["offset"] == 9000
    assert send(9000, len(data)).status_code == 204
    key = {"Idempotency-Key": "once"}
    made = client.post("uploads/finish", json={"uploads": [upload["id"]], "name": "n"}, headers=key)
    assert made.status_code == 201
    again = client.post("uploads/finish", json={"uploads": [upload["id"]], "name": "n"}, headers=key)
    assert again.status_code == 200 and again.json()["id"] == made.json()["id"]
    assert client.get(at).status_code == 404
    context = client.app.state.context
    row = context.jobs.studies.get_row(made.json()["id"])
    assert context.storage.read(f"studies/{row.id}/upload/{row.upload}") == data


def test_names_of_files_stay_names(served, tmp_path):
    """Any name stays a name inside the study's archive, and no file is written outside the storage."""
    client = served()
    names = [
        "../../../evil",
        "/etc/passwd",
        "C:\\Windows\\x.dcm",
        "<script>alert(1)</script>",
        "a\x00b",
        "..",
        "x" * 900,
    ]
    files = [("files", (name, b"data %d" % number, "application/dicom")) for number, name in enumerate(names)]
    study = client.post("studies", files=files, data={"name": "<img src=x onerror=alert(1)>"}).json()
    assert study["name"] == "<img src=x onerror=alert(1)>"
    context = client.app.state.context
    row = context.jobs.studies.get_row(study["id"])
    archive = zipfile.ZipFile(io.BytesIO(context.storage.read(f"studies/{row.id}/upload/{row.upload}")))
    assert len(archive.namelist()) == len(names)
    for name in archive.namelist():
        assert ".." not in name.split("/") and not name.startswith("/") and "\\" not in name
    assert not list(tmp_path.rglob("*evil*")) and not list(tmp_path.rglob("*script*"))
    for name in ("..%2f..%2fstrokeseg.db", "%2e%2e", "....//x", "scan.json", "files.json", "labels.bin"):
        assert client.get(f"studies/{row.id}/files/{name}").status_code in (404, 422)


def test_too_much_is_refused_before_it_is_taken(served, tmp_path):
    client = served(max_upload_bytes=10_000, quota_bytes=15_000)
    big = [("files", ("a.bin", b"x" * 20_000, "application/octet-stream"))]
    answer = client.post("studies", files=big)
    assert answer.status_code == 413 and answer.json()["code"] == "too-large"

    def endless():
        for _ in range(40):
            yield b"--b\r\n" if _ == 0 else b"x" * 1000

    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    cut = client.post("studies", content=endless(), headers=kind)
    assert cut.status_code == 413 and cut.json()["remedy"] == "Send a single series, or use a resumable upload."
    assert client.post("uploads", json={"name": "a", "size": 20_000}).status_code == 413
    assert _post(client).status_code == 201
    assert client.post("uploads", json={"name": "a", "size": 9_000}).status_code == 201
    full = client.post("uploads", json={"name": "a", "size": 9_000})
    assert full.status_code == 507 and full.json()["code"] == "disk-full"
    assert client.post("uploads", content=b'{"name": "' + b"a" * 3_000_000).status_code in (400, 413, 422)
    left = [path for path in (tmp_path / "data" / "scratch").rglob("*") if path.is_file()]
    left = [path for path in left if path.suffix != ".lease"]  # of the server, for as long as it runs
    assert not left, "what was refused is gone from the disk"


def test_old_studies_go(served):
    client = served(keep_days=1e-9)
    study = _post(client).json()["id"]
    time.sleep(0.01)
    client.app.state.context.retention.sweep()
    assert client.get(f"studies/{study}").status_code == 404
    assert client.app.state.context.storage.list_names("studies") == []


def test_the_page_and_its_files_are_served_packed_and_by_tag(served):
    client = served()
    page = client.get("http://127.0.0.1/")
    assert page.status_code == 200 and page.headers["Content-Type"].startswith("text/html")
    script = client.get("http://127.0.0.1/static/js/api.js", headers={"Accept-Encoding": "gzip"})
    assert script.headers["Content-Encoding"] == "gzip" and "javascript" in script.headers["Content-Type"]
    assert script.headers["Cache-Control"] == "no-cache"
    again = {"If-None-Match": script.headers["ETag"]}
    assert client.get("http://127.0.0.1/static/js/api.js", headers=again).status_code == 304
    assert client.get("http://127.0.0.1/static/../app.py").status_code == 404


def test_metrics_are_read_by_prometheus(served):
    from prometheus_client.parser import text_string_to_metric_families

    client = served()
    for _ in range(3):
        _post(client)
    families = {family.name: family for family in text_string_to_metric_families(client.get("metrics").text)}
    assert families["strokeseg_queue_length"].samples[0].value == 3
    statuses = {sample.labels["status"]: sample.value for sample in families["strokeseg_studies_total"].samples}
    assert statuses == {"queued": 3}
    assert families["strokeseg_processes"].samples[0].value == 1


def test_logs_hold_nothing_of_a_patient(served, caplog):
    client = served()
    secret = "Doe^John"
    client.post("studies", files=[("files", (secret, b"x", "application/dicom"))], data={"name": secret})
    client.get("studies", params={"q": secret})
    client.get(f"studies/{secret}")
    assert secret not in caplog.text
    assert secret not in client.app.state.context.settings.audit.read_text()


@pytest.mark.slow
def test_a_real_server_sends_events_ranges_and_survives_a_cut(tmp_path):
    with ServerProcess(tmp_path, f"sqlite:///{tmp_path / 'a.db'}") as server, server.create_client() as client:
        heard, opened = [], threading.Event()

        def listen():
            with httpx.stream("GET", f"{server.base}/api/v1/studies/events", timeout=120) as stream:
                for line in stream.iter_lines():
                    opened.set()
                    if line.startswith(("event:", "data:")):
                        heard.append(line)
                    if heard[-2:-1] == ["event: deleted"]:
                        return

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        assert opened.wait(30)
        _cut(server)
        study = client.post("/studies", files=picture_parts(3), data=PICTURE_FIELDS).json()["id"]
        assert wait_until_ended(client, study)["status"] == "done"
        _ranges(client, study)
        until = time.monotonic() + 30  # a study that is deleted at once is reported as deleted, not as done
        while not any(line.startswith("data:") and json.loads(line[5:]).get("status") == "done" for line in heard):
            assert time.monotonic() < until, heard
            time.sleep(0.05)
        client.delete(f"/studies/{study}")
        listener.join(30)
        assert not listener.is_alive()
        states = [json.loads(line[5:]) for line in heard if line.startswith("data:")]
        seen = [state["status"] for state in states if state.get("id") == study and "status" in state]
        assert list(dict.fromkeys(seen))[-1] == "done" and {"reading", "writing"} & set(seen)
        assert states[-1] == {"id": study}
        with httpx.stream("GET", f"{server.base}/api/v1/studies/{'0' * 32}/events") as gone:
            assert gone.status_code == 404
        headers = {"X-Long": "x" * 3_000_000}
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{server.base}/api/v1/health/live", headers=headers).raise_for_status()
        assert client.get("/health/live").status_code == 200


def _cut(server):
    """A connection breaks in the middle of a chunk: what arrived is kept."""
    with server.create_client() as client:
        upload = client.post("/uploads", json={"name": "a.bin", "size": 100_000}).json()["id"]
        with socket.create_connection(("127.0.0.1", server.port)) as line:
            head = f"PATCH /api/v1/uploads/{upload} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpload-Offset: 0\r\n"
            line.sendall(f"{head}Content-Length: 100000\r\n\r\n".encode() + b"a" * 70_000)
            time.sleep(0.5)
        until = time.monotonic() + 20
        while (offset := client.get(f"/uploads/{upload}").json()["offset"]) == 0:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert offset == 70_000
        rest = client.patch(f"/uploads/{upload}", content=b"b" * 30_000, headers={"Upload-Offset": "70000"})
        assert rest.headers["Upload-Offset"] == "100000"


def _ranges(client, study):
    """Ranges as RFC 9110 says, against the whole file."""
    at = f"/studies/{study}/files/ct.nii.gz"
    whole = client.get(at)
    data, tag = whole.content, whole.headers["ETag"]
    assert whole.headers["Accept-Ranges"] == "bytes" and "attachment" in whole.headers["Content-Disposition"]
    for header, part in {"bytes=0-9": data[:10], "bytes=100-": data[100:], "bytes=-5": data[-5:]}.items():
        answer = client.get(at, headers={"Range": header})
        assert answer.status_code == 206 and answer.content == part
        assert answer.headers["Content-Range"].endswith(f"/{len(data)}")
    assert client.get(at, headers={"Range": f"bytes={len(data)}-"}).status_code == 416
    assert client.get(at, headers={"Range": "bytes=0-9", "If-Range": '"other"'}).status_code == 200
    assert client.get(at, headers={"If-None-Match": tag}).status_code == 304
    head = client.head(at)
    assert head.headers["Content-Length"] == str(len(data)) and not head.content


@pytest.mark.slow
def test_an_ephemeral_server_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with ServerProcess(tmp_path, f"sqlite:///{tmp_path / 'a.db'}", "--ephemeral", "--workers", "0") as server:
        with server.create_client() as client:
            assert client.post("/studies", files=ONE).status_code == 201
        assert list(tmp_path.rglob("study.png"))
        server.kill(signal.SIGTERM)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [server.log]
