"""A node with the web application's own jobs: the study stands in the worklist, and its objects go out."""

import json
import logging
import urllib.request

import pytest
from pydicom import dcmread
from sqlalchemy import select

import dicom_cases
import pacs_kills
import synth
from orthanc import free_port
from pacs_cases import Port, settings_of, until
from strokeseg.pacs import running, tables
from strokeseg.serve.studies import Studies

pytestmark = pytest.mark.slow
RULE = {"name": "head", "send": [{"to": "scp", "what": ["sr", "capture"]}], "urgent": True}


class Served:
    """A whole node beside DCMTK's storescp."""

    def __init__(self, folder):
        (folder / "got").mkdir(parents=True)
        port, self.metrics = free_port(), free_port()
        command = [dicom_cases.tool("storescp"), "-aet", "SCP", "-od", str(folder / "got"), str(port)]
        self.scp = pacs_kills.subprocess.Popen(command)
        peers = [
            {"name": "modality", "ae_title": "MODALITY", "host": "127.0.0.1", "port": 1, "may": ["send"]},
            {"name": "scp", "ae_title": "SCP", "host": "127.0.0.1", "port": port},
        ]
        self.settings = settings_of(folder, peer=peers, rule=[RULE], node={"metrics_port": self.metrics})
        self.got = folder / "got"
        self.running = running.start(self.settings, f"sqlite:///{folder / 'node.db'}", str(folder / "store"), 1)
        self.port = self.running.port

    call = Port.call

    def rows(self, table):
        with self.running.node.spool.engine.connect() as connection:
            return connection.execute(select(table)).mappings().all()

    def stop(self):
        self.running.close()
        self.scp.kill()
        self.scp.wait()
        for name in ("strokeseg.node", "strokeseg.serve"):
            logging.getLogger(name).handlers = []
            logging.getLogger(name).propagate = True


@pytest.fixture
def served(tmp_path):
    made = Served(tmp_path)
    yield made
    made.stop()


def test_a_received_series_is_a_study_of_the_worklist_and_its_objects_go_out(served, tmp_path, caplog):
    slices = synth.datasets(pacs_kills.GEOMETRY)
    run = served.call("storescu", synth.write_series(tmp_path / "in", slices), "+sd")
    assert run.returncode == 0, run.stderr
    [sent] = until(lambda: [row for row in served.rows(tables.outbox) if row["state"] == "sent"], 120)
    assert sent["target"] == "scp"
    [row] = served.rows(tables.series)
    study = Studies(served.running.node.spool.engine).study(row["job"])
    assert (study.status, study.priority) == ("done", "urgent")
    got = [dcmread(path) for path in sorted(served.got.iterdir())]
    assert {data.Modality for data in got} >= {"SR"}
    assert {data.StudyInstanceUID for data in got} == {"1.2"}
    text = urllib.request.urlopen(f"http://127.0.0.1:{served.metrics}/metrics").read().decode()
    assert 'strokeseg_node_series{state="done"} 1.0' in text
    assert 'strokeseg_node_events_total{kind="store",outcome="stored"} 12.0' in text
    assert any("complete (association ended)" in message for message in caplog.messages)
    assert "SECRET" not in caplog.text


def test_log_lines_are_json_and_name_the_place_of_a_fault_and_not_its_words(capfd):
    log = logging.getLogger("strokeseg.node")
    running.log_as_json()
    try:
        raise ValueError("SECRET^NAME")
    except ValueError:
        log.exception("a fault of ours")
    finally:
        log.handlers, log.propagate = [], True
    line = json.loads(capfd.readouterr().err)
    assert (line["level"], line["exception"], line["message"]) == ("error", "ValueError", "a fault of ours")
    assert line["place"].startswith("test_served.py:")
    assert "SECRET" not in json.dumps(line)


def test_kills_lose_nothing(tmp_path):
    found = pacs_kills.run(kills=2, folder=tmp_path, count=3)
    assert found["instances_answered_with_success"] == 3 * pacs_kills.SLICES
    assert found["of_these_lost"] == 0
    assert found["series_done"] == found["with_a_result_of_all_slices"] == found["with_exactly_one_result"] == 3
