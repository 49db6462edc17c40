"""Take from the server what it relies on: space on the disk, the clock, and the storage folder for itself.

    python -m stress surroundings

Linux namespaces stand for a full disk (a small file system) and for a second container (its own process numbers).
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from node_cases import wait_until
from web_process import PICTURE_FIELDS, ServerProcess, picture_parts, wait_until_ended

NAMESPACE = ("unshare", "--user", "--map-root-user")
DISK_MB = 300  # the server keeps 256 MB free
SHIFT = """
import os, time
_now, _now_ns = time.time, time.time_ns
def _shift():
    try:
        return float(open(os.environ["STRESS_CLOCK"]).read() or 0)
    except OSError:
        return 0.0
time.time = lambda: _now() + _shift()
time.time_ns = lambda: _now_ns() + int(_shift() * 1e9)
"""


def can_unshare(*options):
    """Return whether this machine lets a user make such a namespace."""
    program = shutil.which("unshare")
    command = [*NAMESPACE, *options, "true"]
    return bool(program) and subprocess.run(command, capture_output=True, check=False).returncode == 0


def _upload(client, name="a", slices=1):
    return client.post("/studies", files=picture_parts(slices), data={**PICTURE_FIELDS, "name": name})


def fill_disk(folder):
    """Fill the disk while a study is segmented; later give the space back and try that study again."""
    data = folder / "data"
    data.mkdir()
    script = f'mount -t tmpfs -o size={DISK_MB}m tmpfs "{data}" && exec "$@"'
    prefix = (*NAMESPACE, "--mount", "sh", "-c", script, "sh")
    with (
        ServerProcess(folder, f"sqlite:///{folder}/a.db", prefix=prefix) as server,
        server.create_client() as client,
    ):
        earlier = _upload(client).json()["id"]
        before = wait_until_ended(client, earlier)["status"]
        study = _upload(client, slices=24).json()["id"]
        wait_until(lambda: client.get(f"/studies/{study}").json()["status"] not in ("queued", "reading"))
        filler = Path(f"/proc/{server.process.pid}/root{data}/filler")
        _fill(filler)
        full = wait_until_ended(client, study)
        refused = _upload(client).status_code
        filler.unlink()
        if full["status"] == "failed":
            assert client.post(f"/studies/{study}/retry").is_success
        after = wait_until_ended(client, study, also=lambda state: state["status"] == "done")["status"]
        whole = sum(_is_whole(client, one) for one in (earlier, study))
    status = full["status"] if full["error"] is None else f"{full['status']} ({full['error']['code']})"
    return {
        "test": "disk full", "before": before, "meanwhile": status, "an_upload_meanwhile": refused, "afterwards": after,
        "studies_whole": whole,
    }  # fmt: skip


def _fill(path):
    with path.open("wb") as stream, contextlib.suppress(OSError):
        while True:
            stream.write(bytes(2**20))
            stream.flush()


def _is_whole(client, study):
    files = client.get(f"/studies/{study}/files").json()["items"]
    return bool(files) and all(
        len(client.get(f"/studies/{study}/files/{one['name']}").content) == one["bytes"] for one in files
    )


def set_clock_back(folder, shift_s=-3600.0):
    """Set the clock back by an hour while a server runs, and at its next start after a kill."""
    (folder / "site").mkdir()
    (folder / "site/sitecustomize.py").write_text(SHIFT)
    clock = folder / "clock"
    clock.write_text("0")
    path = os.environ.get("PYTHONPATH", "")
    environment = {"PYTHONPATH": f"{folder / 'site'}:{path}", "STRESS_CLOCK": str(clock)}
    server = ServerProcess(folder, f"sqlite:///{folder}/a.db", "--lease", "2", environment=environment)
    statuses = []
    with server, server.create_client() as client:
        statuses.append(wait_until_ended(client, _upload(client).json()["id"])["status"])
        clock.write_text(str(shift_s))
        statuses.append(wait_until_ended(client, _upload(client).json()["id"])["status"])
        study = _upload(client, slices=12).json()["id"]
        server.kill(signal.SIGKILL)
        clock.write_text(str(2 * shift_s))
        server.start()
        statuses.append(wait_until_ended(client, study)["status"])
    return {"test": "clock set back", "before": statuses[0], "while_it_runs": statuses[1], "after_a_kill": statuses[2]}


def share_storage(folder):
    """Start a worker with process numbers of its own on the same storage folder, and upload meanwhile."""
    database = f"sqlite:///{folder}/a.db"
    prefix = (*NAMESPACE, "--pid", "--fork", "--mount-proc", "--kill-child")
    with (
        ServerProcess(folder, database, "--workers", "0", "--lease", "2") as server,
        server.create_client() as client,
    ):
        worker = ServerProcess(folder, database, "--lease", "2", worker_only=True, prefix=prefix)
        statuses = []
        for _ in range(3):
            worker.start()
            statuses.append(wait_until_ended(client, _upload(client).json()["id"])["status"])
            worker.kill()
        answer = _upload(client).status_code
    return {"test": "second container", "studies": statuses, "upload_afterwards": answer}


def run(log=print):
    """Run the three; return a row for each."""
    cases = [(fill_disk, ("--mount",)), (set_clock_back, None), (share_storage, ("--pid", "--fork", "--mount-proc"))]
    rows = []
    for case, options in cases:
        if options is not None and not can_unshare(*options):
            rows.append({"test": case.__name__, "not_run": "no namespaces here"})
        else:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(case(Path(folder)))
        log(rows[-1])
    return rows
