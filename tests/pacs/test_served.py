"""A node with the jobs of the web application: the study is in the worklist, and its objects are sent."""

import getpass
import json
import logging
import signal
import time
import urllib.request

import pytest
from pydicom import dcmread
from sqlalchemy import select

from node_cases import ListeningScp, make_settings, wait_until
from orthanc import free_port
from phantoms import dicom_series, head_series
from stress import node_kills
from strokeseg.errors import StrokesegError
from strokeseg.pacs import database, retry, runtime
from strokeseg.web.auth.audit import AuditLog
from strokeseg.web.database import studies
from strokeseg.web.study_store import StudyStore

pytestmark = pytest.mark.slow
RULE = {"name": "head", "send": [{"to": "scp", "what": ["sr", "capture"]}], "urgent": True}


class RunningNodeWithScp:
    """A complete node and DCMTK's storescp."""

    def __init__(self, folder):
        (folder / "received").mkdir(parents=True)
        port, self.metrics = free_port(), free_port()
        command = [dicom_series.find_program("storescp"), "-aet", "SCP", "-od", str(folder / "received"), str(port)]
        self.scp = node_kills.subprocess.Popen(command)
        peers = [
            {"name": "modality", "ae_title": "MODALITY", "host": "127.0.0.1", "port": 1, "may": ["send"]},
            {"name": "scp", "ae_title": "SCP", "host": "127.0.0.1", "port": port},
        ]
        self.settings = make_settings(folder, peer=peers, rule=[RULE], node={"metrics_port": self.metrics})
        self.received = folder / "received"
        self.running = runtime.start_node(self.settings, f"sqlite:///{folder / 'node.db'}", str(folder / "store"), 1)
        self.port = self.running.port

    call = ListeningScp.call

    def rows(self, table):
        with self.running.node.spool.engine.connect() as connection:
            return connection.execute(select(table)).mappings().all()

    def stop(self):
        self.running.stop()
        self.scp.kill()
        self.scp.wait()
        for name in ("strokeseg.node", "strokeseg.serve"):
            logging.getLogger(name).handlers = []
            logging.getLogger(name).propagate = True


@pytest.fixture
def served(tmp_path):
    running = RunningNodeWithScp(tmp_path)
    yield running
    running.stop()


def test_a_received_series_is_a_study_of_the_worklist_and_its_objects_go_out(served, tmp_path, caplog):
    slices = head_series.make_datasets(node_kills.GEOMETRY)
    run = served.call("storescu", head_series.write_series(tmp_path / "in", slices), "+sd")
    assert run.returncode == 0, run.stderr
    [sent] = wait_until(lambda: [row for row in served.rows(database.outbox_table) if row["state"] == "sent"], 120)
    assert sent["target"] == "scp"
    [row] = served.rows(database.series_table)
    study = StudyStore(served.running.node.spool.engine).get_study(row["job"])
    assert (study.status, study.priority) == ("done", "urgent")
    received = [dcmread(path) for path in sorted(served.received.iterdir())]
    assert {data.Modality for data in received} >= {"SR"}
    assert {data.StudyInstanceUID for data in received} == {"1.2"}
    text = urllib.request.urlopen(f"http://127.0.0.1:{served.metrics}/metrics").read().decode()
    assert 'strokeseg_node_series{state="done"} 1.0' in text
    assert 'strokeseg_node_events_total{kind="store",outcome="stored"} 12.0' in text
    assert any("complete (association ended)" in message for message in caplog.messages)
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize("place", ["command", "worklist"])
def test_a_series_whose_study_failed_is_retried_and_its_objects_go_out(served, tmp_path, monkeypatch, place):
    steps, tries = served.running.jobs._steps, []
    read = steps.read

    def fail_once(study):
        tries.append(study)
        if len(tries) == 1:
            raise StrokesegError("broken", "Try again.")
        return read(study)

    monkeypatch.setattr(steps, "read", fail_once)
    slices = head_series.make_datasets(node_kills.GEOMETRY)
    assert served.call("storescu", head_series.write_series(tmp_path / "in", slices), "+sd").returncode == 0
    [row] = wait_until(lambda: [row for row in served.rows(database.series_table) if row["state"] == "failed"], 60)
    if place == "worklist":
        served.running.jobs.retry(row["job"])
    else:
        audit, engine = AuditLog(tmp_path / "audit.jsonl"), served.running.node.spool.engine
        assert [one.study for one in retry.retry_series(engine, None, audit)] == [row["job"]]
        assert retry.retry_series(engine, None, audit) == []
        [line] = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
        assert (line["user"], line["action"], line["study"]) == (getpass.getuser(), "retry", row["job"])
    wait_until(lambda: [row for row in served.rows(database.outbox_table) if row["state"] == "sent"], 120)
    [row] = served.rows(database.series_table)
    assert row["state"] == "done" and len(tries) == 2 and set(tries) == {row["job"]}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_node_goes_on_with_its_series_at_the_next_start(tmp_path, number):
    """The series is stopped while the network runs; the sender had success for its instances."""
    node = node_kills.KilledNode(tmp_path, None)
    stored, deadline = set(), time.monotonic() + 120
    node_kills.send(node.port, node_kills.make_series(1, node_kills.SLICES, node_kills.GEOMETRY), stored, deadline)
    assert len(stored) == node_kills.SLICES
    engine = database.open_database(node.database)

    def read():
        with engine.connect() as connection:
            series = connection.execute(select(database.series_table)).mappings().one_or_none()
            job = series["job"] if series and series["instances"] == node_kills.SLICES else ""
            return series, connection.execute(select(studies).where(studies.c.id == job)).mappings().one_or_none()

    wait_until(lambda: (study := read()[1]) and study["status"] == "segmenting" and study["done"], 120)
    node.kill(number)
    series, study = read()
    assert (series["state"], study["status"], study["error"]) == ("queued", "segmenting", None)
    node.start()
    series, study = wait_until(lambda: (rows := read()) and rows[0]["state"] not in ("open", "queued") and rows, 180)
    assert (series["state"], study["status"], study["slices"]) == ("done", "done", node_kills.SLICES)
    node.stop()
    engine.dispose()


def test_log_lines_are_json_and_name_the_place_of_a_fault_and_not_its_words(capfd):
    log = logging.getLogger("strokeseg.node")
    runtime.configure_json_log()
    try:
        raise ValueError("SECRET^NAME")
    except ValueError:
        log.exception("an internal error")
    finally:
        log.handlers, log.propagate = [], True
    line = json.loads(capfd.readouterr().err)
    assert (line["level"], line["exception"], line["message"]) == ("error", "ValueError", "an internal error")
    assert line["place"].startswith("test_served.py:")
    assert "SECRET" not in json.dumps(line)


def test_stops_and_kills_lose_nothing(tmp_path):
    signals = (signal.SIGTERM, signal.SIGKILL)
    counts = node_kills.run(kills=4, folder=tmp_path, count=3, signals=signals)
    assert counts["instances_answered_with_success"] == 3 * node_kills.SLICES
    assert counts["of_these_lost"] == 0
    assert counts["series_done"] == counts["with_a_result_of_all_slices"] == counts["with_exactly_one_result"] == 3
