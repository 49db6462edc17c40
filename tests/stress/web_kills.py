"""Kill a server and its workers at random moments, and check what became of the studies.

`cd tests && python -m stress.web_kills 30` does so on SQLite and on PostgreSQL; the tests do it a few times. With
`--stops` every second one is a polite stop (SIGTERM).
"""

import argparse
import hashlib
import random
import signal
import tempfile
import threading
import time
import uuid
from pathlib import Path

import httpx

from web_process import PICTURE_FIELDS, TERMINAL_STATUSES, PostgresServer, ServerProcess, picture_parts


class UploadClient(threading.Thread):
    """Uploads studies one after the other, each until it is answered, as a client does that never gives up."""

    def __init__(self, base, files):
        super().__init__(daemon=True)
        self.base, self.files, self.made = base, files, {}
        self.ending = threading.Event()

    def run(self):
        while not self.ending.is_set():
            key = uuid.uuid4().hex
            while True:
                try:
                    answer = httpx.post(
                        f"{self.base}/api/v1/studies",
                        files=self.files,
                        data={**PICTURE_FIELDS, "name": key},
                        headers={"Idempotency-Key": key},
                        timeout=30,
                    )
                    assert answer.status_code in (200, 201), answer.text
                    self.made[key] = answer.json()["id"]
                    break
                except httpx.HTTPError:
                    time.sleep(0.2)
            self.ending.wait(3.0)


def run_kills(kills, database, folder, seed=0, log=lambda text: None, signals=(signal.SIGKILL,), pictures=1):
    """Kill so many times; give the processes' kinds that were killed, and the studies' ids.

    The signals are sent in turn; ``pictures`` is the number of slices of a study.

    Raises AssertionError if a study is lost, is there twice, or is half there.
    """
    chance = random.Random(seed)
    server = ServerProcess(folder, database, "--workers", "0", "--lease", "2").start()
    workers = [
        ServerProcess(folder, database, "--workers", "1", "--lease", "2", worker_only=True).start() for _ in range(2)
    ]
    client = UploadClient(server.base, picture_parts(pictures))
    client.start()
    killed = []
    try:
        for number in range(kills):
            if number % 4 < 2:  # the others may end it while it starts
                server.wait_until_ready()
            time.sleep(chance.uniform(0.5, 6.0))
            which = chance.choice([server, *workers])
            chosen = signals[number % len(signals)]
            which.kill(chosen)
            killed.append("server" if which is server else "worker")
            log(f"{chosen.name} {number + 1}: {killed[-1]}, {len(client.made)} studies so far")
            which.start(wait=False)
        server.wait_until_ready()
        client.ending.set()
        client.join(60)
        assert not client.is_alive()
        _check(server, client.made, log)
        return killed, client.made
    finally:
        client.ending.set()
        for process in (server, *workers):
            process.__exit__()


def _check(server, made, log):
    """None lost: each ends. None twice: as many studies as keys. None half: every file is there as it is listed."""
    until = time.monotonic() + 120 + 60 * len(made)
    with server.create_client() as client:
        for key, study in made.items():
            while (state := client.get(f"/studies/{study}").json())["status"] not in TERMINAL_STATUSES:
                assert time.monotonic() < until, state
                time.sleep(0.3)
            assert state["status"] == "done" and state["name"] == key, state
            assert [one["version"] for one in state["versions"]] == [0]
            for one in client.get(f"/studies/{study}/files").json()["items"]:
                content = client.get(f"/studies/{study}/files/{one['name']}").content
                assert hashlib.sha256(content).hexdigest() == one["sha256"]
        listed, cursor = [], ""
        while cursor is not None:
            page = client.get("/studies", params={"limit": 200, "cursor": cursor}).json()
            listed += [one["id"] for one in page["items"]]
            cursor = page["next"]
        assert sorted(listed) == sorted(made.values())
    log(f"{len(made)} studies: none lost, none twice, none half")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", type=int, nargs="?", default=30)
    parser.add_argument("--stops", action="store_true", help="send SIGTERM and SIGKILL in turn")
    parser.add_argument("--pictures", type=int, default=1, help="slices of each study")
    arguments = parser.parse_args()
    signals = (signal.SIGTERM, signal.SIGKILL) if arguments.stops else (signal.SIGKILL,)
    server = PostgresServer().start()
    try:
        for name in ("sqlite", "postgresql"):
            with tempfile.TemporaryDirectory() as folder:
                url = f"sqlite:///{folder}/a.db" if name == "sqlite" else server.create_database()
                print(name, flush=True)
                run_kills(
                    arguments.kills,
                    url,
                    Path(folder),
                    log=lambda text: print(" ", text, flush=True),
                    signals=signals,
                    pictures=arguments.pictures,
                )
    finally:
        server.stop()


if __name__ == "__main__":
    main()
