"""Hold many connections open, silent or with slow bodies, while another user's study is done.

    python -m stress connections --count 300

The connections come from another address of this machine, without a token. A silent one sends nothing, a slow one the
head of an upload and then a byte every five seconds. Connections that the server has closed are opened again.
"""

import contextlib
import socket
import tempfile
import threading
import time
from pathlib import Path

from web_process import PICTURE_FIELDS, ServerProcess, picture_parts, wait_until_ended

ATTACKER = "127.0.0.2"
PAUSE_S = 5.0
HEAD = (
    b"POST /api/v1/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
)


class Attack(threading.Thread):
    """Connections that are kept open until the end."""

    def __init__(self, port, count, slow):
        super().__init__(daemon=True)
        self.port, self.count, self.slow = port, count, slow
        self.ending, self.open, self.refused = threading.Event(), [], 0

    def run(self):
        while not self.ending.is_set():
            self.open = [one for one in self.open if self._send(one)]
            while len(self.open) < self.count and not self.ending.is_set():
                try:
                    one = socket.create_connection(("127.0.0.1", self.port), 2, source_address=(ATTACKER, 0))
                    one.settimeout(2)
                    one.sendall(HEAD if self.slow else b"")
                except OSError:
                    self.refused += 1
                    break
                self.open.append(one)
            self.ending.wait(PAUSE_S)

    def _send(self, one):
        """Send one more byte; return whether the server has left the connection open."""
        with contextlib.suppress(OSError):
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                if not one.recv(4096):
                    raise OSError
            one.settimeout(2)
            one.sendall(b"x" if self.slow else b"")
            return True
        self.refused += 1
        one.close()
        return False

    def stop(self):
        self.ending.set()
        self.join()
        for one in self.open:
            one.close()


def attack(count, slow, slices=1, nofile=1024):
    """Return what became of a study that was sent meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        limit = ("prlimit", f"--nofile={nofile}:{nofile}")
        server = ServerProcess(Path(folder), f"sqlite:///{folder}/a.db", prefix=limit)
        with server, server.create_client() as client:
            crowd = Attack(server.port, count, slow)
            crowd.start()
            until = time.monotonic() + 60
            while len(crowd.open) < count and not crowd.refused and time.monotonic() < until:
                time.sleep(0.1)
            start, status = time.monotonic(), "not sent"
            try:
                study = client.post("/studies", files=picture_parts(slices), data=PICTURE_FIELDS).json()["id"]
                status = wait_until_ended(client, study)["status"]
            except Exception as error:
                status = type(error).__name__
            seconds = round(time.monotonic() - start, 1)
            crowd.stop()
        log_mb = round(server.log.stat().st_size / 2**20, 1)
    kind = "slow bodies" if slow else "silent"
    return {"connections": count, "kind": kind, "study": status, "seconds": seconds, "log_mb": log_mb}


def run(count=300, log=print):
    """Attack with silent and with slow connections; return a row for each."""
    rows = []
    for slow in (False, True):
        rows.append(attack(count, slow))
        log(rows[-1])
    return rows
