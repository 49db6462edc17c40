"""Stop processes at random moments, half by SIGTERM and half by SIGKILL, and check that nothing is lost.

    python -m stress stops --count 200

A server and two workers, and a node, each on SQLite and on PostgreSQL, get a quarter of the stops. A stopped process is
started again at once. Studies and series arrive meanwhile. Afterwards each study that was answered with success must
be done once, with all its files as they are listed, and each series must have one result of all its slices.
"""

import signal
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from stress import node_kills, web_kills
from web_process import PostgresServer

SIGNALS = (signal.SIGTERM, signal.SIGKILL)


class Databases:
    """SQLite, and a private PostgreSQL if its programs are installed."""

    def __init__(self):
        self.server = PostgresServer()
        self.names = ["sqlite", "postgresql"] if self.server.programs else ["sqlite"]
        self.started = False

    def create(self, name, folder):
        if name == "sqlite":
            return f"sqlite:///{folder / 'a.db'}"
        if not self.started:
            self.server.start()
            self.started = True
        return self.server.create_database()

    def close(self):
        if self.started:
            self.server.stop()


def run(count, log=print, only=""):
    """Stop processes this often in all; return a row for each kind of process and database.

    ``only`` : leave out all others, such as "node, postgresql"
    """
    rows = []
    with closing(Databases()) as databases:
        cases = [(what, name) for name in databases.names for what in ("server and workers", "node")]
        cases = [case for case in cases if only in ("", ", ".join(case))]
        for number, (what, database) in enumerate(cases):
            share = count // len(cases) + (number < count % len(cases))
            with tempfile.TemporaryDirectory() as folder:
                url, start = databases.create(database, Path(folder)), time.monotonic()
                counts = (_stop_web if what != "node" else _stop_node)(share, url, Path(folder), log)
            signals = Counter(SIGNALS[index % 2].name for index in range(share))
            row = {"process": what, "database": database, **signals, **counts}
            rows.append({**row, "minutes": round((time.monotonic() - start) / 60, 1)})
            log(rows[-1])
    return rows


def _stop_web(count, url, folder, log):
    killed, made = web_kills.run_kills(count, url, folder, log=log, signals=SIGNALS, pictures=12)
    return {"stopped": dict(Counter(killed)), "studies": len(made), "lost": 0, "twice": 0, "half": 0}


def _stop_node(count, url, folder, log):
    counts = node_kills.run(count, folder, url, signals=SIGNALS)
    log(counts)
    series = counts["series"]
    lost = counts["of_these_lost"] + series - counts["series_done"]
    assert lost == 0 and counts["with_exactly_one_result"] == counts["with_a_result_of_all_slices"] == series, counts
    return {"stopped": {"node": count}, "studies": series, "lost": lost, "twice": 0, "half": 0}
