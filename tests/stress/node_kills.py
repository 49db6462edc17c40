"""Kill the node with -9 repeatedly while series arrive: no instance answered with success may be lost.

    cd tests && python -m stress.node_kills 30
    cd tests && python -m stress.node_kills 30 --stops     every second one a polite stop (SIGTERM)

Starts `strokeseg node`, sends series to it, kills it at random moments and starts it again. Instances not answered
with success are sent again, as a modality does. At the end every series has one final result of all its slices.
"""

import argparse
import contextlib
import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage
from sqlalchemy import func, select

from orthanc import free_port
from phantoms import head_series
from stress.node_load import make_series
from strokeseg.pacs.database import instances_table, open_database, series_table

SLICES = 12
GEOMETRY = head_series.Geometry(z_mm=tuple(range(-40, 56, 8)))
SETTINGS = """
[node]
port = {port}
settle_s = 1
quiet_s = 20
least_free_mb = 0
[[peer]]
name = "modality"
ae_title = "MODALITY"
host = "127.0.0.1"
port = 1
may = ["send"]
[[rule]]
name = "all"
"""


class KilledNode:
    """A node process that can be killed and restarted."""

    def __init__(self, folder, database):
        self.folder, self.port = folder, free_port()
        self.database = database or f"sqlite:///{folder / 'node.db'}"
        (folder / "node.toml").write_text(SETTINGS.format(port=self.port))
        self.log = (folder / "log").open("ab")
        self.start()

    def start(self):
        command = [sys.executable, "-m", "strokeseg", "node", str(self.folder / "node.toml")]
        command += ["--database", self.database, "--storage", str(self.folder / "store")]
        self.process = subprocess.Popen(command, stderr=self.log, stdout=self.log)

    def wait_until_listening(self, timeout_s=300):
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5):
                return
            time.sleep(0.2)

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        self.process.wait(90)

    def stop(self):
        self.process.terminate()
        self.process.wait(60)
        self.log.close()


def send(port, instances, stored, deadline):
    """Send until each instance is answered with success."""
    waiting = {str(data.SOPInstanceUID): data for data in instances}
    while waiting and time.monotonic() < deadline:
        caller = AE(ae_title="MODALITY")
        caller.acse_timeout = caller.dimse_timeout = caller.network_timeout = caller.connection_timeout = 5
        caller.add_requested_context(CTImageStorage)
        association = caller.associate("127.0.0.1", port, ae_title="STROKESEG")
        for uid, data in list(waiting.items()):
            if not association.is_established:
                time.sleep(0.3)
                break
            try:
                status = association.send_c_store(data)
            except (RuntimeError, OSError):
                break
            if status.get("Status") == 0:
                stored.add(uid)
                del waiting[uid]
        if association.is_established:
            association.release()


def run(kills, folder=None, database=None, count=None, signals=(signal.SIGKILL,)):
    """Kill the node this often, with these signals in turn, and return the counts."""
    count = count or max(4, kills // 2)
    order = random.Random(7)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        node = KilledNode(Path(temporary), database)
        stored, deadline = set(), time.monotonic() + 120 + 40 * kills + 30 * count
        series = [list(make_series(number, SLICES, GEOMETRY)) for number in range(1, count + 1)]

        def send_share(share):
            for instances in share:
                send(node.port, instances, stored, deadline)
                time.sleep(order.uniform(0, 3))

        threads = [threading.Thread(target=send_share, args=(series[index::3],)) for index in range(3)]
        for thread in threads:
            thread.start()
        for number in range(kills):
            if number % 4 < 2:  # the others may end it while it starts
                node.wait_until_listening()
            time.sleep(order.uniform(0.3, 9))
            node.kill(signals[number % len(signals)])
            node.start()
        for thread in threads:
            thread.join()
        engine = open_database(node.database)
        rows = _wait_for_end(engine, count, deadline)
        node.stop()
        counts = _count_results(engine, rows, stored, kills, count)
        engine.dispose()
        return counts


def _wait_for_end(engine, count, deadline):
    while True:
        with engine.connect() as connection:
            rows = connection.execute(select(series_table)).mappings().all()
        if time.monotonic() > deadline or (len(rows) == count and all(row["state"] == "done" for row in rows)):
            return rows
        time.sleep(0.5)


def _count_results(engine, rows, stored, kills, count):
    from strokeseg.web.database import studies, versions

    with engine.connect() as connection:
        stored_uids = set(connection.execute(select(instances_table.c.sop_uid)).scalars())
        jobs = [row["job"] for row in rows]
        slices = dict(connection.execute(select(studies.c.id, studies.c.slices)).all())
        finals = connection.execute(
            select(versions.c.study, func.count()).where(versions.c.folder.is_not(None)).group_by(versions.c.study)
        )
        answers = dict(finals.all())
    return {
        "kills": kills,
        "series": count,
        "instances_answered_with_success": len(stored),
        "of_these_lost": len(stored - stored_uids),
        "series_done": sum(row["state"] == "done" for row in rows),
        "with_a_result_of_all_slices": sum(slices.get(job) == SLICES for job in jobs),
        "with_exactly_one_result": sum(answers.get(job) == 1 for job in jobs),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", type=int)
    parser.add_argument("--database", help="postgresql://USER@HOST/NAME instead of SQLite")
    parser.add_argument("--stops", action="store_true", help="send SIGTERM and SIGKILL in turn")
    arguments = parser.parse_args()
    signals = (signal.SIGTERM, signal.SIGKILL) if arguments.stops else (signal.SIGKILL,)
    print(json.dumps(run(arguments.kills, database=arguments.database, signals=signals), indent=2))


if __name__ == "__main__":
    main()
