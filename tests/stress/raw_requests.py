"""Requests as bytes, and the memory of the process that answers them."""

import socket
from pathlib import Path

MB = 2**20


def send_raw(port, head, size, chunked=False):
    """Send a request with a body, and return the response's status line; the server may close before the body's end."""
    with socket.create_connection(("127.0.0.1", port), 60) as one:
        one.sendall(head)
        sent, block = 0, b"x" * MB
        if chunked:
            block = b"%x\r\n%s\r\n" % (MB, block)
        try:
            while sent < size:
                one.sendall(block)
                sent += MB
            return one.recv(4096).split(b"\r\n")[0].decode() or "closed"
        except OSError:
            return "closed"


def read_peak_mb(pid):
    """Return the most memory that a process has held, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
