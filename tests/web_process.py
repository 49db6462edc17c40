"""`strokeseg serve` as a process, and a private PostgreSQL, for the tests of the server."""

import contextlib
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

SAMPLES = Path(__file__).parents[1] / "samples"
PICTURES = sorted((SAMPLES / "ctich_081").glob("*.jpg"))
PICTURE_FIELDS = {"window": "40,120", "spacing": "5,0.45,0.45", "model": "fast"}
TERMINAL_STATUSES = ("done", "refused", "failed", "cancelled")


def picture_parts(count):
    """Return the first slices of a patient as the parts of a form; a single one is fast."""
    return [("files", (path.name, path.read_bytes(), "image/jpeg")) for path in PICTURES[:count]]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class ServerProcess:
    """`strokeseg serve` as a process that can be killed and started again."""

    def __init__(self, folder, database, *options, worker_only=False, prefix=(), environment=()):
        self.folder, self.port = folder, free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", **dict(environment)}
        self.command = [
            *prefix, sys.executable, "-m", "strokeseg", "serve",
            "--database", database, "--storage", str(folder / "data"),
            "--audit", str(folder / "audit.jsonl"), "--port", str(self.port), *options,
        ]  # fmt: skip
        self.command += ["--worker-only"] if worker_only else []
        self.worker_only = worker_only
        self.process = None
        self.log = folder / f"log-{self.port}.txt"

    def start(self, wait=True):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=self.environment)
        if wait and not self.worker_only:
            self.wait_until_ready()
        return self

    def wait_until_ready(self, timeout_s=300):
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.base}/api/v1/health/ready", timeout=5).status_code == 200:
                    return
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.2)
        raise AssertionError(self.log.read_text())

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        self.process.wait(120)

    def create_client(self):
        return httpx.Client(base_url=f"{self.base}/api/v1", timeout=60)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()


def list_step_processes(parent):
    """List the processes that a server started to do steps: not multiprocessing's own tracker."""
    pids = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_text().rsplit(")", 1)[1].split()
                command = Path(f"/proc/{name}/cmdline").read_text()
            except OSError:
                continue
            if int(stat[1]) == parent and "spawn_main" in command:
                pids.append(int(name))
    assert pids
    return pids


def wait_until_ended(client, study, timeout_s=600, also=lambda state: True):
    """Wait until a study has ended, and return its state."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        state = client.get(f"/studies/{study}").json()
        if state["status"] in TERMINAL_STATUSES and also(state):
            return state
        time.sleep(0.1)
    raise AssertionError(state)


class PostgresServer:
    """A private PostgreSQL, reached only by a socket in its own folder; it refuses to run as root."""

    def __init__(self):
        initdb = shutil.which("initdb") or next(iter(sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))), None)
        self.programs = Path(initdb).resolve().parent if initdb else None
        self.count = 0

    def start(self):
        self.folder = Path(tempfile.mkdtemp(prefix="sspg"))
        self.user = pwd.getpwnam("nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name)
        os.chown(self.folder, self.user.pw_uid, self.user.pw_gid)
        self._run("initdb", "-D", self.folder / "db", "-U", "strokeseg", "-A", "trust", "--no-sync", "-E", "UTF8")
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off -c max_connections=200"
        self._run("pg_ctl", "-D", self.folder / "db", "-w", "-l", self.folder / "log", "-o", options, "start")
        return self

    def stop(self):
        self._run("pg_ctl", "-D", self.folder / "db", "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def create_database(self):
        """Create an empty database and return its URL."""
        self.count += 1
        self._run("createdb", "-h", self.folder, "-U", "strokeseg", f"test{self.count}")
        return f"postgresql://strokeseg@/test{self.count}?host={self.folder}"

    def _run(self, program, *arguments):
        command = [str(self.programs / program), *(str(one) for one in arguments)]
        who = {"user": self.user.pw_uid, "group": self.user.pw_gid} if os.geteuid() == 0 else {}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **who)
