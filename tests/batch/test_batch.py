"""Many studies by processes of this machine: what lands on disk, what a second call does, and what a kill costs."""

import contextlib
import csv
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nibabel
import numpy as np
import psutil
import pytest

import strokeseg
from phantoms.cylinder_heads import head, save_nifti
from strokeseg import batch
from strokeseg.batch import host_resources, result_tables, scheduler
from strokeseg.batch.journal import Journal
from strokeseg.batch.records import BatchSettings, BatchStudy, Failure, Task, record_failure
from strokeseg.cli import main
from strokeseg.errors import Conflict, DiskFull, NotWritable, UnknownModel, UsageError


def rows(path):
    with path.open(newline="") as stream:
        return {row["id"]: row for row in csv.DictReader(stream)}


def test_a_batch_answers_as_segment_does(heads, tmp_path):
    out = tmp_path / "out"
    summary = batch.run([heads], out, workers=2)
    assert (summary.studies, summary.done, summary.failed, summary.with_blood) == (3, 3, 0, 3)
    table = rows(out / "results.csv")
    for path in sorted(heads.iterdir()):
        alone = strokeseg.segment(path, threads=1)
        alone.save(tmp_path / "alone", ("json", "nifti"))
        own = out / path.name.removesuffix(".nii.gz")
        ours, theirs = (nibabel.load(folder / "mask.nii.gz") for folder in (own, tmp_path / "alone"))
        assert np.asanyarray(ours.dataobj).tobytes() == np.asanyarray(theirs.dataobj).tobytes()
        assert (ours.affine == theirs.affine).all()
        row = table[own.name]
        assert float(row["volume_ml"]) == alone.findings.volume_ml
        assert (row["status"], row["hemorrhage"], row["lesions"]) == ("accepted", "true", "1")
        assert row["model_sha256"] == alone.model.sha256


def test_the_parquet_table_says_what_the_csv_says(heads, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    (heads / "bad.zip").write_bytes(b"no zip")
    batch.run([heads], tmp_path / "out", workers=2)
    table = parquet.read_table(tmp_path / "out/results.parquet").to_pylist()
    written = rows(tmp_path / "out/results.csv")
    assert [row["id"] for row in table] == ["bad", "head_0", "head_1", "head_2"] == list(written)
    for row in table:
        for name, value in row.items():
            shown = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            assert written[row["id"]][name] == shown, name
    assert isinstance(table[1]["hemorrhage"], bool) and isinstance(table[1]["volume_ml"], float)


def test_one_bad_scan_stops_nothing_and_a_second_call_does_nothing_again(heads, tmp_path, capfd):
    out = tmp_path / "out"
    (heads / "bad.nii.gz").write_bytes(b"no volume")
    assert main(["batch", str(heads), "-o", str(out), "--workers", "1", "--json"]) == 3
    first = json.loads(capfd.readouterr().out)
    assert (first["done"], first["before"], first["failed"]) == (3, 0, 1)
    [failure] = rows(out / "failures.csv").values()
    assert (failure["id"], failure["code"]) == ("bad", "unreadable") and failure["remedy"]
    assert not (out / "bad").exists()
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/result.json")}
    second = batch.run([heads], out)
    assert (second.done, second.before, second.failed) == (0, 3, 1)
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("*/result.json")}
    save_nifti(heads / "bad.nii.gz", head())
    assert batch.run([heads], out, workers=1).done == 1, "a changed input is tried again"
    assert rows(out / "failures.csv") == {}


def test_what_changed_is_done_again_and_nothing_else(heads, tmp_path):
    out = tmp_path / "out"
    batch.run([heads], out, workers=1)
    save_nifti(heads / "head_1.nii.gz", head(30.0))
    shutil.rmtree(out / "head_2")
    assert batch.run([heads], out, workers=1).done == 2
    assert float(rows(out / "results.csv")["head_1"]["volume_ml"]) > float(
        rows(out / "results.csv")["head_2"]["volume_ml"]
    )
    assert batch.run([heads], out, workers=1, model="blind").with_blood == 0, "another network, other results"
    assert batch.run([heads], out, workers=1, model="blind").done == 0


def test_failures_are_tried_again_only_when_asked_for(heads, tmp_path):
    (heads / "bad.zip").write_bytes(b"no zip")
    batch.run([heads], tmp_path / "out", workers=1)
    calls = []
    batch.run([heads], tmp_path / "out", workers=1, progress=calls.append)
    assert not calls
    batch.run([heads], tmp_path / "out", workers=1, retry_failed=True, progress=calls.append)
    assert [(progress.completed, progress.failed, progress.total) for progress in calls] == [(1, 1, 1)]


def test_studies_of_one_id_are_refused(heads, tmp_path):
    other = tmp_path / "other"
    save_nifti(other / "head_0.nii", head())
    summary = batch.run([heads, other], tmp_path / "out", workers=1)
    assert (summary.done, summary.failed) == (2, 2)
    with (tmp_path / "out/failures.csv").open(newline="") as stream:
        assert [(row["id"], row["code"]) for row in csv.DictReader(stream)] == [("head_0", "duplicate-id")] * 2
    assert not (tmp_path / "out/head_0").exists()


def test_another_study_never_takes_an_earlier_one_s_folder(heads, tmp_path):
    batch.run([heads], tmp_path / "out", workers=1)
    content = (tmp_path / "out/head_0/result.json").read_bytes()
    save_nifti(tmp_path / "other/head_0.nii.gz", head(30.0))
    assert batch.run([tmp_path / "other"], tmp_path / "out", workers=1).failed == 1
    assert (tmp_path / "out/head_0/result.json").read_bytes() == content


def test_a_wrong_row_stops_nothing(heads, tmp_path):
    (tmp_path / "list.csv").write_text(
        "path,id,window\nheads/head_0.nii.gz,one,\nheads/head_1.nii.gz,two,wide\nnone.zip,,\n"
    )
    summary = batch.run([], tmp_path / "out", list_file=tmp_path / "list.csv", workers=1)
    assert (summary.done, summary.failed) == (1, 2)
    assert {row["code"] for row in rows(tmp_path / "out/failures.csv").values()} == {"manifest-row", "unreadable"}
    assert (tmp_path / "out/one/result.json").is_file()


def test_wrong_arguments_are_refused_before_any_work(heads, tmp_path):
    out = tmp_path / "out"
    for options in ({"workers": 0}, {"timeout_s": 0}, {"limit_memory_mb": 10}, {"formats": ("json", "gif")}):
        with pytest.raises(UsageError):
            batch.run([heads], out, **options)
    with pytest.raises(UnknownModel):
        batch.run([heads], out, model="none")
    with pytest.raises(UsageError):
        batch.run([heads], heads / "out")
    assert not out.exists()


def test_two_batches_do_not_write_into_one_folder(heads, tmp_path):
    with Journal(tmp_path / "out"), pytest.raises(Conflict):
        batch.run([heads], tmp_path / "out", workers=1)


def test_a_line_that_a_kill_cut_off_is_dropped(heads, tmp_path):
    batch.run([heads], tmp_path / "out", workers=1)
    with (tmp_path / "out/journal.jsonl").open("ab") as stream:
        stream.write(b'{"id":"head_3","path":"/som')
    with Journal(tmp_path / "out") as journal:
        assert sorted(journal.records) == ["head_0", "head_1", "head_2"]
        journal.add(record_failure(BatchStudy("x", "x", ""), "", Failure(code="a", message="b", remedy="c")))
    with Journal(tmp_path / "out") as journal:
        assert "x" in journal.records


def test_a_journal_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "journal.jsonl").write_text('{"mine": 1}\n')
    with pytest.raises(NotWritable), Journal(tmp_path):
        pass
    assert (tmp_path / "journal.jsonl").read_text() == '{"mine": 1}\n'


def test_a_full_disk_stops_with_a_sentence_and_the_rest_is_done_later(heads, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can make a small disk")
    try:
        for number in range(12):
            save_nifti(heads / f"more_{number}.nii.gz", head(20.0 + number / 10))
        with pytest.raises(DiskFull):
            batch.run([heads], small / "out", workers=1)
        done = len(list((small / "out").glob("*/result.json")))
        assert 0 < done < 15 and not list((small / "out").rglob("*.partial"))
        subprocess.run(["mount", "-o", "remount,size=8m", str(small)], check=True)
        summary = batch.run([heads], small / "out", workers=1)
        assert (summary.before + summary.done, summary.failed) == (15, 0) and summary.before >= done - 1
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_worker_that_meets_a_full_disk_stops_the_batch(tmp_path):
    class Full:
        def __init__(self):
            self.task, self.killed = None, False

        def assign(self, task):
            self.task = task

        def receive(self):
            full = Failure(code="disk-full", message="no space is left", remedy="")
            return None if self.task is None else record_failure(self.task.study, self.task.key, full)

        def kill(self):
            self.killed = True

    class One:
        get_capacity = get_retry_capacity = staticmethod(lambda: 1)
        start_worker = staticmethod(Full)
        wait_ready = staticmethod(lambda workers, timeout_s: workers)

    tasks = [Task(BatchStudy(str(number), "x", ""), "k") for number in range(3)]
    with pytest.raises(DiskFull):
        list(scheduler.run_tasks(iter(tasks), One(), BatchSettings(tmp_path)))


def test_workers_fit_into_the_memory():
    cores = len(os.sched_getaffinity(0))
    assert host_resources.choose_worker_count(None, host_resources.WORKER_MEMORY_MB) == 1
    assert host_resources.choose_worker_count(None, 10**6) == cores
    assert host_resources.choose_worker_count(7, None) == 7
    assert abs(host_resources.read_resident_memory_mb(os.getpid()) - psutil.Process().memory_info().rss / 2**20) < 30
    assert host_resources.read_available_memory_mb() <= psutil.virtual_memory().total / 2**20


def test_a_path_that_is_no_utf8_is_still_listed(heads, tmp_path):
    odd = os.fsencode(heads) + b"/od\xff.nii.gz"
    with contextlib.suppress(OSError), Path(os.fsdecode(odd)).open("wb") as stream:
        stream.write(b"bad")
    batch.run([heads], tmp_path / "out", workers=1)
    assert len(rows(tmp_path / "out/results.csv")) == len(list(heads.iterdir()))
    assert result_tables.COLUMNS[:2] == ("id", "path")


class Store:
    """A server on the loopback that gives a file's size at once and its bytes when it is let."""

    def __init__(self, content):
        self.go, self.asked = threading.Event(), threading.Semaphore(0)
        store = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()

            def do_GET(self):
                store.asked.release()
                store.go.wait(60)
                self.do_HEAD()
                with contextlib.suppress(OSError):
                    self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/slow.nii.gz"


@pytest.fixture
def store(heads):
    """A study that takes as long as the test wants, in a manifest with two quick ones."""
    store = Store((heads / "head_2.nii.gz").read_bytes())
    quick = "".join(f"{heads}/head_{number}.nii.gz\n" for number in (0, 1))
    (heads.parent / "list.csv").write_text(f"path\n{quick}{store.url}\n")
    yield store
    store.go.set()
    store.server.shutdown()
    store.server.server_close()


def begun(tmp_path, *options, workers=1):
    """Start the command in a process of its own."""
    code = "import sys; from strokeseg.cli import main; sys.exit(main())"
    fixed = ["batch", "--manifest", "list.csv", "-o", "out", "--workers", str(workers), "--json"]
    return subprocess.Popen(
        [sys.executable, "-c", code, *fixed, *options],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def workers_of(process):
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_killed_worker_costs_nothing_when_the_study_goes_well_alone(tmp_path, store):
    process = begun(tmp_path)
    assert store.asked.acquire(timeout=60)
    [worker] = workers_of(process)
    worker.kill()
    assert store.asked.acquire(timeout=60), "the study is tried again"
    store.go.set()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and json.loads(out)["done"] == 3
    assert (tmp_path / "out/slow/mask.nii.gz").is_file()


def test_a_study_that_kills_its_worker_twice_is_given_up_and_tried_by_the_next_call(tmp_path, store):
    process = begun(tmp_path)
    for _ in range(2):
        assert store.asked.acquire(timeout=60)
        [worker] = workers_of(process)
        worker.kill()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 3 and json.loads(out)["done"] == 2
    [failure] = rows(tmp_path / "out/failures.csv").values()
    assert (failure["id"], failure["code"]) == ("slow", "worker-died")
    store.go.set()
    assert batch.run([], tmp_path / "out", list_file=tmp_path / "list.csv", workers=1).done == 1


def test_a_killed_batch_leaves_no_process_and_its_second_call_does_what_is_missing(tmp_path, store):
    process = begun(tmp_path)
    assert store.asked.acquire(timeout=60)
    until(lambda: (tmp_path / "out/journal.jsonl").read_bytes().count(b"\n") == 3)
    workers = workers_of(process)
    process.kill()
    process.communicate()
    until(lambda: not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers), 20)
    before = (tmp_path / "out/head_0/result.json").stat().st_mtime_ns
    store.go.set()
    summary = batch.run([], tmp_path / "out", list_file=tmp_path / "list.csv", workers=1)
    assert (summary.done, summary.before, summary.failed) == (1, 2, 0)
    assert (tmp_path / "out/head_0/result.json").stat().st_mtime_ns == before
    assert len(rows(tmp_path / "out/results.csv")) == 3


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_ends_within_seconds_and_keeps_what_is_done(tmp_path, store, sent, code):
    process = begun(tmp_path)
    assert store.asked.acquire(timeout=60)
    workers = workers_of(process)
    start = time.monotonic()
    process.send_signal(sent)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code and time.monotonic() - start < 15 and "Traceback" not in errors
    assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)
    assert sorted(rows(tmp_path / "out/results.csv")) == ["head_0", "head_1"]
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_a_kill_while_files_are_put_in_place_is_made_good(heads, tmp_path):
    """Delivery renames file by file, result.json last: a kill between two leaves some without it."""
    out = tmp_path / "out"
    batch.run([heads], out, workers=1)
    (out / "head_1/result.json").unlink()
    (out / "head_1/.strokeseg-x.partial").mkdir()
    (out / "head_1/mine.txt").write_text("a note")
    assert batch.run([heads], out, workers=1).done == 1
    assert {"result.json", "mask.nii.gz", "mine.txt"} <= {path.name for path in (out / "head_1").iterdir()}
    assert not list(out.rglob("*.partial"))


def test_results_that_a_power_cut_damaged_are_made_again(heads, tmp_path):
    """A file without its bytes, one without its end, and one that is gone."""
    out = tmp_path / "out"
    batch.run([heads], out, workers=1)
    whole = (out / "head_1/mask.nii.gz").read_bytes()
    (out / "head_0/result.json").write_bytes(b"")
    (out / "head_1/mask.nii.gz").write_bytes(whole[: len(whole) // 2])
    (out / "head_2/result.json").unlink()
    summary = batch.run([heads], out, workers=1)
    assert (summary.done, summary.before, summary.failed) == (3, 0, 0)
    assert (out / "head_1/mask.nii.gz").read_bytes() == whole
    assert all(json.loads((out / f"head_{number}/result.json").read_bytes())["files"] for number in range(3))
    assert [path.name for path in out.rglob("*.changed")] == ["mask.nii.gz.changed"]
    assert batch.run([heads], out, workers=1).done == 0


def test_a_file_that_someone_edited_is_kept_under_another_name(heads, tmp_path):
    out = tmp_path / "out"
    batch.run([heads], out, workers=1)
    path = out / "head_1/mask.nii.gz"
    edited = path.read_bytes()[:-1] + b"!"
    path.write_bytes(edited)
    assert batch.run([heads], out, workers=1).done == 1
    assert path.with_name("mask.nii.gz.changed").read_bytes() == edited != path.read_bytes()


def test_a_journal_without_digests_is_believed_for_files_that_are_not_empty(heads, tmp_path):
    out = tmp_path / "out"
    batch.run([heads], out, workers=1)
    journal = out / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:
        line.pop("files", None)
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines).replace('"schema": ', '"schema":'))
    assert batch.run([heads], out, workers=1).done == 0
    (out / "head_0/mask.nii.gz").write_bytes(b"")
    assert batch.run([heads], out, workers=1).done == 1


def test_a_study_beyond_its_time_is_given_up(tmp_path, store):
    summary = batch.run([], tmp_path / "out", list_file=tmp_path / "list.csv", workers=2, timeout_s=15)
    assert (summary.done, summary.failed) == (2, 1)
    assert rows(tmp_path / "out/failures.csv")["slow"]["code"] == "timeout"
