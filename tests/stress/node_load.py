"""Load test: a thousand series on eight associations, shuffled, duplicated, late and interleaved.

Each series must get one final result.

    cd tests && python -m stress.node_load 1000            receive, decide and submit; nothing is segmented
    cd tests && python -m stress.node_load 100 --segment   also segment each series
    ... --database postgresql://USER@HOST/NAME      an empty database instead of SQLite

Prints the counts, and the node's memory and open files over the run, as one JSON object.
"""

import argparse
import json
import os
import random
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage
from sqlalchemy import select

from node_cases import ImmediateJobs, NodeUnderTest
from phantoms import head_series
from strokeseg.pacs.database import instances_table
from strokeseg.pacs.job_queue import JobState

ASSOCIATIONS = 8
DUPLICATE_SHARE, LATE_SHARE = 0.05, 0.01  # shares of the instances
RULE = {"name": "all", "send": []}


class CountingJobs(ImmediateJobs):
    """Accepts a series and counts its instances."""

    def __init__(self, folder):
        super().__init__(folder)
        self.instance_counts = {}

    def submit(self, key, name, files, *, model, urgent, formats, decision):
        study = self.keys.setdefault(key, f"study-{len(self.keys) + 1}")
        self.instance_counts[study] = len(files)
        return study

    def read_state(self, study):
        return JobState("done")


def make_series(number, slices, geometry):
    uid = f"1.2.840.99.{number}"
    for data in head_series.make_datasets(geometry, series=uid):
        data.StudyInstanceUID, data.SeriesInstanceUID = f"{uid}.0", uid
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid(
            entropy_srcs=[uid, "-", str(data.InstanceNumber)]
        )
        yield data


def open_association(port):
    caller = AE(ae_title="MODALITY")
    caller.add_requested_context(CTImageStorage)
    caller.dimse_timeout = 10
    association = caller.associate("127.0.0.1", port, ae_title="STROKESEG")
    assert association.is_established
    return association


def store_instances(port, instances, refused):
    """Send over one association; without an answer (pynetdicom's SCU can lose one), repeat over a new one."""
    association = open_association(port)
    for data in instances:
        status = association.send_c_store(data)
        while "Status" not in status:
            association = open_association(port)
            status = association.send_c_store(data)
        if status.Status != 0:
            refused.append(data.SOPInstanceUID)
    association.release()


def send_series(port, work, late, refused, seed):
    """Send the share of one association: three series at a time, mixed."""
    order = random.Random(seed)
    for start in range(0, len(work), 3):
        instances = [data for one in work[start : start + 3] for data in one()]
        instances += order.sample(instances, max(1, round(DUPLICATE_SHARE * len(instances))))
        order.shuffle(instances)
        held = {data.SOPInstanceUID for data in order.sample(instances, max(1, round(LATE_SHARE * len(instances))))}
        now = [data for data in instances if data.SOPInstanceUID not in held]
        late += [data for data in instances if data.SOPInstanceUID in held]
        store_instances(port, now, refused)


def memory_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


def run(count, slices, segment=False, folder=None, database=None):
    """Send all series, wait until all are finished, and return the counts."""
    geometry = head_series.Geometry(
        z_mm=tuple(range(-slices * 2, slices * 2, 4)), shape=(48, 48), spacing_mm=(4.0, 3.6)
    )
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        jobs = None if segment else CountingJobs(Path(temporary) / "jobs")
        node = NodeUnderTest(Path(temporary) / "n", jobs, database, rule=[RULE], node={"settle_s": 0.5, "quiet_s": 30})
        try:
            return _run_load(node, count, slices, geometry)
        finally:
            node.stop()


def _run_load(node, count, slices, geometry):
    curve, stopping = [], threading.Event()

    def watch():
        while not stopping.wait(2):
            curve.append((round(memory_mb()), len(os.listdir("/proc/self/fd"))))

    threading.Thread(target=watch, daemon=True).start()
    start, refused, late = time.monotonic(), [], []
    work = [lambda number=number: list(make_series(number, slices, geometry)) for number in range(1, count + 1)]
    threads = [
        threading.Thread(target=send_series, args=(node.port, work[index::ASSOCIATIONS], late, refused, index))
        for index in range(ASSOCIATIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store_instances(node.port, late, refused)
    sent_s = time.monotonic() - start
    end = time.monotonic() + 3600
    while not all(row["state"] == "done" for row in node.rows()) and time.monotonic() < end:
        time.sleep(0.5)
    stopping.set()
    rows = node.rows()
    with node.node.spool.engine.connect() as connection:
        instance_counts = Counter(connection.execute(select(instances_table.c.series_uid)).scalars())
    final = Counter(row["job"] for row in rows)
    submitted = getattr(node.jobs, "instance_counts", None)
    complete = sum((submitted[row["job"]] if submitted else _read_slices(node, row)) == slices for row in rows)
    return {
        "series": count,
        "instances_sent": count * slices,
        "refused": len(refused),
        "late_instances": len(late),
        "series_done": sum(row["state"] == "done" for row in rows),
        "series_whole": sum(number == slices for number in instance_counts.values()),
        "final_results_of_all_slices": complete,
        "results_shared_by_two_series": sum(number > 1 for number in final.values()),
        "versions": dict(sorted(Counter(row["version"] for row in rows).items())),
        "seconds_to_send": round(sent_s, 1),
        "instances_a_second": round(count * slices / sent_s),
        "memory_mb_over_time": [memory for memory, _ in curve][:: max(1, len(curve) // 20)],
        "open_files_most": max((files for _, files in curve), default=0),
    }


def _read_slices(node, row):
    return node.jobs.read_state(row["job"]).document.input.slices


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("series", type=int)
    parser.add_argument("--slices", type=int, default=30)
    parser.add_argument("--segment", action="store_true")
    parser.add_argument("--database", help="postgresql://USER@HOST/NAME instead of SQLite")
    arguments = parser.parse_args()
    counts = run(arguments.series, arguments.slices, arguments.segment, database=arguments.database)
    print(json.dumps(counts, indent=2))


if __name__ == "__main__":
    main()
