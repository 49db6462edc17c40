"""Who may send how much: identity first, a bound for every route, and bytes counted as they arrive."""

import asyncio
import socket
import time
import tracemalloc
from pathlib import Path

import pytest
from fastapi.routing import iter_route_contexts

from strokeseg.web import auth, database
from strokeseg.web.app import create_app
from web_process import PICTURE_FIELDS, ServerProcess, picture_parts

FORM = {"Content-Type": "multipart/form-data; boundary=b"}
MB = 2**20


def form_parts(size, block=2**16):
    """Yield a form with one file of a size; sent without a Content-Length."""
    yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.bin"\r\n\r\n'
    for _ in range(size // block):
        yield b"x" * block
    yield b"\r\n--b--\r\n"


def send_raw(port, head, size):
    """Send a request with a body, and return the response's first line; the server may close before the body's end."""
    with socket.create_connection(("127.0.0.1", port), 60) as one:
        one.sendall(head)
        sent, block = 0, b"x" * MB
        try:
            while sent < size:
                one.sendall(block)
                sent += MB
            return one.recv(4096).split(b"\r\n")[0]
        except OSError:
            return b"closed"


def memory_mb(pid, what="VmHWM"):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


def forget_hold(client):
    """Let five minutes pass for the announced uploads."""
    with client.app.state.context.engine.begin() as connection:
        connection.execute(database.uploads.update().values(created=database.uploads.c.created - 301))


def test_every_route_identifies_the_user_first_and_bounds_its_body(settings):
    """A new route is in this test without being named."""
    paths = {
        route.path: isinstance(route.original_route, auth.BoundedRoute)
        for route in iter_route_contexts(create_app(settings()).routes)
        if route.path.startswith("/api/v1/") and route.path != "/api/v1/openapi.json"
    }
    assert len(paths) > 20 and [path for path, is_bounded in paths.items() if not is_bounded] == []


def test_a_stranger_cannot_fill_the_memory(tmp_path):
    """300 MB to the sign-in and to a route that needs a token, of any content type: refused, and not held."""
    (tmp_path / "auth.toml").write_text("[failures]\nmost = 10000\n")
    options = ("--workers", "0", "--auth-config", str(tmp_path / "auth.toml"))
    with ServerProcess(tmp_path, f"sqlite:///{tmp_path / 'a.db'}", *options) as server:
        before = memory_mb(server.process.pid)
        for path, kind, status in (
            ("auth/session", "text/plain", b"413"),
            ("auth/session", "application/x+json", b"413"),
            ("uploads", "text/plain", b"401"),
            ("studies", "multipart/form-data; boundary=b", b"401"),
        ):
            head = (
                f"POST /api/v1/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-StrokeSeg: 1\r\n"
                f"Content-Type: {kind}\r\nContent-Length: {75 * MB}\r\n\r\n"
            ).encode()
            answer = send_raw(server.port, head, 75 * MB)
            assert answer == b"closed" or answer.startswith(b"HTTP/1.1 " + status), (path, answer)
            with server.create_client() as client:
                small = client.post(f"/{path}", content=b"x" * (MB + 1), headers={"Content-Type": kind})
                assert small.status_code == int(status), path
        assert memory_mb(server.process.pid) - before < 40


@pytest.mark.parametrize("kind", ["application/json", "application/x+json", "text/plain", "application/octet-stream"])
def test_a_bound_holds_whatever_the_content_type(served, kind):
    client = served()
    for path, most in (("auth/session", 4096), ("uploads", 2**16), ("uploads/finish", MB)):
        answers = [
            client.post(path, content=content, headers={"Content-Type": kind, "X-StrokeSeg": "1"})
            for content in (b" " * (most + 1), iter([b" " * most, b" "]), b" " * most)
        ]
        assert [answer.status_code for answer in answers] == [413, 413, 422], path
        assert answers[0].json()["code"] == "too-large"


def test_a_list_of_as_many_uploads_as_allowed_fits(served):
    client = served()
    ids = [f"{number:032x}" for number in range(20_000)]
    assert client.post("uploads/finish", json={"uploads": ids}).status_code == 404, "understood, but there are none"


def test_a_corrected_mask_is_never_whole_in_memory(settings):
    """60 MB in small parts; what comes after the body is stopped."""
    app = create_app(settings())
    context = app.state.context
    study, now = "1" * 32, time.time()
    row = {"id": study, "created": now, "changed": now, "status": "done", "priority": "normal", "model": "default"}
    more = {"options": "{}", "name": "a", "owner": "local", "upload": "x.zip", "version": 0}
    with context.engine.begin() as connection:
        connection.execute(database.studies.insert().values(**row, **more))
        version = {"study": study, "version": 0, "created": now, "folder": "v0", "findings": "{}"}
        connection.execute(database.versions.insert().values(**version))
    context.guard.audit = lambda *_: (_ for _ in ()).throw(RuntimeError("the body has been received"))
    parts, sent = 60 * 16, []

    async def receive():
        nonlocal parts
        parts -= 1
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b"x" * 2**16, "more_body": parts > 0}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": f"/api/v1/studies/{study}/versions", "raw_path": b"", "root_path": "",
        "query_string": b"", "scheme": "http", "http_version": "1.1", "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80), "headers": [(b"host", b"127.0.0.1")],
    }  # fmt: skip

    async def run():
        with pytest.raises(RuntimeError, match="received"):
            await app(scope, receive, send)

    tracemalloc.start()
    try:
        asyncio.run(run())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert parts == 0 and peak < 12 * MB


def test_the_quota_holds_without_a_content_length(served):
    """3 MB and a quota of 1 MB: refused while the bytes arrive, in one request and in chunks; nothing stays."""
    client = served(quota_bytes=MB)
    answer = client.post("studies", content=form_parts(3 * MB), headers=FORM)
    assert (answer.status_code, answer.json()["code"]) == (507, "disk-full")
    upload = client.post("uploads", json={"name": "a.zip", "size": MB}).json()["id"]
    forget_hold(client)
    assert client.post("studies", content=form_parts(MB // 2), headers=FORM).status_code == 201
    chunk = client.patch(f"uploads/{upload}", content=iter([b"x" * MB]), headers={"Upload-Offset": "0"})
    assert chunk.status_code == 507
    assert client.get(f"uploads/{upload}").json()["offset"] == 0
    assert client.get("studies").json()["items"][0]["status"] == "queued"


def test_an_announced_upload_holds_quota_for_five_minutes(served):
    """An announcement of all the quota, without a byte: then a study fits again; what has arrived counts."""
    client = served(quota_bytes=MB)
    ids = [client.post("uploads", json={"name": "a.zip", "size": MB}).json()["id"]]
    assert client.post("uploads", json={"name": "a.zip", "size": 1}).status_code == 507
    sent = client.patch(f"uploads/{ids[0]}", content=b"x" * (MB // 4), headers={"Upload-Offset": "0"})
    assert sent.status_code == 204, "its own chunks are not counted twice"
    forget_hold(client)
    assert client.post("studies", files=picture_parts(1), data=PICTURE_FIELDS).status_code == 201
    headers = {"Upload-Offset": str(MB // 4)}
    assert client.patch(f"uploads/{ids[0]}", content=b"x" * (MB // 2), headers=headers).status_code == 204
    assert client.post("studies", content=form_parts(MB // 2), headers=FORM).status_code == 507
    assert client.delete(f"uploads/{ids[0]}").status_code == 204
    assert client.post("studies", content=form_parts(MB // 2), headers=FORM).status_code == 201


@pytest.mark.parametrize("name", ["part-00000", "piece"])
def test_a_full_disk_is_said_with_507(served, monkeypatch, name):
    """/dev/full in place of the received file: the error is the kernel's own."""
    client, open_path = served(), Path.open

    def open_full(path, *arguments, **keywords):
        return open_path(Path("/dev/full") if path.name == name else path, *arguments, **keywords)

    upload = client.post("uploads", json={"name": "a.zip", "size": MB}).json()["id"]
    monkeypatch.setattr(Path, "open", open_full)
    if name == "piece":
        answer = client.patch(f"uploads/{upload}", content=b"x" * MB, headers={"Upload-Offset": "0"})
    else:
        answer = client.post("studies", content=form_parts(MB), headers=FORM)
    assert (answer.status_code, answer.json()["code"]) == (507, "disk-full")
