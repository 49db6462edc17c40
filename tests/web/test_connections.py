"""Connections, in all and for each address, and bodies and responses that are slow: others are served meanwhile."""

import asyncio
import contextlib
import os
import resource
import socket
import threading
import time

import pytest
import uvicorn

from strokeseg.errors import UsageError
from strokeseg.web import connections, limits
from strokeseg.web.connections import ConnectionLimits, LimitedListener, MinuteLog
from web_process import PICTURE_FIELDS, ServerProcess, free_port, picture_parts, wait_until_ended

SLOW_BODY = (
    b"POST /api/v1/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b"Content-Length: 100000\r\n\r\n--b\r\n"
)


@pytest.fixture
def serve():
    """Return a function that runs an ASGI application behind listeners in a thread; returns its server."""
    running = []

    def start(app, listeners):
        config = uvicorn.Config(
            app, http=limits.TimeoutProtocol, loop="asyncio", lifespan="off", log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": listeners}, daemon=True)
        thread.start()
        running.append((server, thread))
        wait_for(lambda: server.started)
        return server

    yield start
    for server, thread in running:
        server.should_exit = server.force_exit = True
        thread.join(10)


def wait_for(condition, timeout_s=20):
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def connect(port, address="127.0.0.1"):
    return socket.create_connection(("127.0.0.1", port), 10, source_address=(address, 0))


def ask(one):
    """Send a small request and return the status line; empty if the connection was closed."""
    with contextlib.suppress(OSError):
        one.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        return one.recv(4096).split(b"\r\n")[0]
    return b""


async def answer_at_once(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.slow
def test_the_study_of_another_user_is_done_during_a_flood_of_slow_bodies(tmp_path):
    """450 connections that send some bytes a second, to a process with 400 descriptors."""
    options = ("--max-per-address", "20", "--request-timeout", "10")
    server = ServerProcess(tmp_path, f"sqlite:///{tmp_path / 'a.db'}", *options)
    server.command[:0] = ["prlimit", "--nofile=400:400"]
    stop, held = threading.Event(), []

    def flood():
        """Keep 450 connections open; one that was ended is opened again."""
        while not stop.wait(0.3):
            for one in list(held):
                try:
                    one.send(b"x")
                except OSError:
                    held.remove(one)
                    one.close()
            for _ in range(min(50, 450 - len(held))):
                with contextlib.suppress(OSError):
                    one = connect(server.port, "127.0.0.2")
                    one.setblocking(False)
                    held.append(one)
                    one.send(SLOW_BODY)

    with server:
        thread = threading.Thread(target=flood)
        thread.start()
        try:
            time.sleep(4.0)
            with server.create_client() as client:
                for _ in range(2):
                    answer = client.post("/studies", files=picture_parts(1), data=PICTURE_FIELDS)
                    assert answer.status_code == 201
                    assert wait_until_ended(client, answer.json()["id"], 60)["status"] == "done"
                descriptors = len(os.listdir(f"/proc/{server.process.pid}/fd"))
        finally:
            stop.set()
            thread.join(20)
            for one in held:
                one.close()
    log = server.log.read_text()
    assert descriptors < 200
    assert "from its address" in log and len(log) < 200_000
    assert "Traceback" not in log


def test_connections_are_counted_in_all_and_for_each_address():
    counted = ConnectionLimits(most=4, most_per_address=2)
    assert [counted.add("192.0.2.1") is None for _ in range(3)] == [True, True, False]
    assert counted.add("2001:db8::1") is None and counted.add("2001:db8::2") is None
    assert "from its address" not in counted.add("192.0.2.9"), "4 are open in all"
    counted.remove("2001:db8::1")
    assert counted.add("192.0.2.1") is not None
    assert counted.add("192.0.2.9") is None
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.9", "2001:db8::2"):
        counted.remove(address)
    assert counted.count == 0


def test_addresses_of_one_ipv6_network_count_together():
    counted = ConnectionLimits(most=10, most_per_address=1)
    assert counted.add("2001:db8:0:1::1") is None
    assert counted.add("2001:db8:0:1::2") is not None
    assert counted.add("2001:db8:0:2::1") is None


@pytest.mark.parametrize("proxy", ["192.0.2.1", "192.0.2.0/24", "*"])
def test_a_trusted_proxy_may_open_more(proxy):
    counted = ConnectionLimits(most=3, most_per_address=1, proxies=["localhost", proxy])
    assert [counted.add("192.0.2.1") is None for _ in range(4)] == [True, True, True, False]


def test_a_connection_too_many_is_told_so_and_may_come_again_later(serve):
    counted, port = ConnectionLimits(most=10, most_per_address=2), free_port()
    serve(answer_at_once, connections.open_listeners("127.0.0.1", port, counted, is_plain=True))
    with connect(port) as first, connect(port) as second:
        assert ask(first) == ask(second) == b"HTTP/1.1 200 OK"
        with connect(port) as third:
            assert third.recv(4096).startswith(b"HTTP/1.1 503") and third.recv(1) == b""
        with connect(port, "127.0.0.2") as other:
            assert ask(other) == b"HTTP/1.1 200 OK"
    wait_for(lambda: counted.count == 0)
    with connect(port) as again:
        assert ask(again) == b"HTTP/1.1 200 OK"


def test_a_handshake_that_does_not_go_on_counts(serve):
    """With TLS the protocol sees a connection only after its handshake; the listener sees it at once."""
    counted, port = ConnectionLimits(most=10, most_per_address=2), free_port()
    serve(answer_at_once, connections.open_listeners("127.0.0.1", port, counted, is_plain=False))
    with connect(port), connect(port), connect(port) as third:
        assert third.recv(4096) == b"", "closed, and nothing sent that is not TLS"
        assert counted.count == 2


def test_without_a_descriptor_one_line_a_minute_is_logged(caplog):
    """A listener whose process has no descriptor left refuses at once, so that the event loop does not spin."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    now = [0.0]
    with LimitedListener(socket.AF_INET, ConnectionLimits(10, 10)) as listener:
        listener._minute_log = MinuteLog(lambda: now[0])
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        clients = [connect(listener.getsockname()[1]) for _ in range(5)]
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))), hard))
            fillers = []
            with contextlib.suppress(OSError):
                while True:
                    fillers.append(os.open(os.devnull, os.O_RDONLY))
            for number in range(4):
                now[0] = 61.0 if number == 3 else 0.0
                with pytest.raises(ConnectionAbortedError):
                    listener.accept()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for number in fillers:
                os.close(number)
        assert [one.recv(10) for one in clients[:4]] == [b""] * 4
        connection, _ = listener.accept()
        for one in (connection, *clients):
            one.close()
    lines = [record.getMessage() for record in caplog.records]
    assert [line.rpartition("(")[2].split()[0] for line in lines] == ["1", "3"]


def test_connections_leave_descriptors_for_everything_else(monkeypatch):
    actual = resource.getrlimit(resource.RLIMIT_NOFILE)

    def refuse(*_):
        raise PermissionError("a filter of system calls")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    assert connections.fit_to_descriptors(500) == (1024 - connections.RESERVED_DESCRIPTORS) // 2
    assert connections.fit_to_descriptors(100) == 100
    monkeypatch.setattr(resource, "getrlimit", refuse)
    assert connections._read_descriptor_limits() == actual


def test_a_port_in_use_is_refused_with_a_sentence():
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(UsageError, match="--port"):
        connections.open_listeners("127.0.0.1", other.getsockname()[1], ConnectionLimits(1, 1), is_plain=True)


def receive_body(parts, pause_s, **options):
    """Send parts of a body with pauses through the limits; return the status of the refusal and the parts taken."""
    taken = []

    async def app(_scope, receive, _send):
        while True:
            message = await receive()
            taken.append(message["body"])
            if not message["more_body"]:
                return

    left = list(parts)

    async def receive():
        await asyncio.sleep(pause_s)
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    try:
        asyncio.run(limits.RequestLimits(app, **options)({"type": "http"}, receive, None))
    except limits.HTTPException as error:
        return error.status_code, error.detail, len(taken)
    return 200, "", len(taken)


def test_a_body_must_have_the_least_rate(monkeypatch):
    monkeypatch.setattr(limits, "BODY_TIMEOUT_S", 0.2)
    status, detail, taken = receive_body([b"x"] * 50, 0.05, min_bytes_per_s=100)
    assert (status, detail) == (408, "the client sent too slowly") and taken < 10
    assert receive_body([b"x" * 20] * 10, 0.05, min_bytes_per_s=100)[0] == 200


def test_a_body_has_a_time_in_all():
    status, detail, taken = receive_body([b"x" * 2000] * 50, 0.05, timeout_s=0.3)
    assert (status, detail) == (408, "the client sent for too long") and taken < 10
    assert receive_body([b"x" * 2000] * 4, 0.05, timeout_s=2.0)[0] == 200


async def answer_eight_megabytes(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % 2**23)]})
    for _ in range(8):
        await send({"type": "http.response.body", "body": b"x" * 2**20, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def test_a_response_that_nobody_reads_is_given_up(serve, monkeypatch):
    monkeypatch.setattr(limits, "RESPONSE_TIMEOUT_S", 0.5)
    counted, port = ConnectionLimits(most=10, most_per_address=10), free_port()
    serve(answer_eight_megabytes, connections.open_listeners("127.0.0.1", port, counted, is_plain=True))
    with socket.socket() as silent, connect(port) as slow:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.connect(("127.0.0.1", port))
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for one in (silent, slow):
            one.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        begun, size = time.monotonic(), 0
        while time.monotonic() - begun < 2.0:
            size += len(slow.recv(2**15))
            time.sleep(0.02)
        assert size > 0 and counted.count == 1, "the client that reads slowly is still served"


@pytest.mark.parametrize(("name", "limit"), [("DISCARD_TIMEOUT_S", 0.3), ("DISCARD_BYTES", 2**20)])
def test_the_rest_of_a_body_is_read_only_for_a_while(serve, monkeypatch, name, limit):
    """A response that came before the body's end: a client that sends on is disconnected after a time or a size."""
    monkeypatch.setattr(limits, name, limit)
    port = free_port()
    serve(answer_at_once, connections.open_listeners("127.0.0.1", port, ConnectionLimits(9, 9), is_plain=True))
    with connect(port) as one:
        one.sendall(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000000\r\n\r\n")
        assert one.recv(4096).startswith(b"HTTP/1.1 200")
        begun, sent = time.monotonic(), 0
        with contextlib.suppress(OSError):
            while time.monotonic() - begun < 4.0:
                sent += one.send(b"x" * 2**16)
                time.sleep(0.01 if name == "DISCARD_TIMEOUT_S" else 0.0)
        assert time.monotonic() - begun < 4.0 and sent < 200 * 2**20
