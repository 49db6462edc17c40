"""Send the server whatever it would have to hold, without a token, and measure the most memory that it took.

python -m stress memory --size 500
"""

import tempfile
from pathlib import Path

from stress.raw_requests import read_peak_mb, send_raw
from web_process import ServerProcess

LIMIT_MB = 400
MB = 2**20
ROUTES = [
    ("auth/session", "text/plain"),
    ("auth/session", "application/json"),
    ("auth/session", "application/x+json"),
    ("uploads", "text/plain"),
    ("uploads", "application/octet-stream"),
    ("uploads/finish", "application/json"),
    ("studies", "multipart/form-data; boundary=b"),
    ("studies", "application/dicom"),
]


def run(size_mb=500, log=print):
    """Send bodies of a size to every route that takes one; return a row for each, and one for headers."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "auth.toml").write_text("[failures]\nmost = 10000\n")
        options = ("--workers", "0", "--auth-config", f"{folder}/auth.toml")
        with ServerProcess(Path(folder), f"sqlite:///{folder}/a.db", *options) as server:
            for route, kind in ROUTES:
                for length in (f"Content-Length: {size_mb * MB}", "Transfer-Encoding: chunked"):
                    head = f"POST /api/v1/{route} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-StrokeSeg: 1\r\n"
                    head = f"{head}Content-Type: {kind}\r\n{length}\r\n\r\n".encode()
                    answer = send_raw(server.port, head, size_mb * MB, chunked="chunked" in length)
                    peak = round(read_peak_mb(server.process.pid))
                    rows.append({"route": route, "type": kind, "body": length.split(":")[0], "answer": answer})
                    rows[-1]["peak_mb"] = peak
                    log(rows[-1])
            answer = send_raw(server.port, b"GET /api/v1/studies HTTP/1.1\r\nX: ", size_mb * MB)
            peak = round(read_peak_mb(server.process.pid))
            rows.append({"route": "studies", "type": "", "body": "one header", "answer": answer, "peak_mb": peak})
            log(rows[-1])
    return rows
