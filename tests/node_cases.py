"""Nodes and open ports for tests, and programs that call them."""

import contextlib
import logging
import shutil
import subprocess
import threading
import time

from sqlalchemy import select

import strokeseg
from orthanc import free_port
from phantoms import dicom_series, networks
from strokeseg.pacs.completion import OpenAssociations
from strokeseg.pacs.database import open_database, series_table
from strokeseg.pacs.job_queue import JobState
from strokeseg.pacs.node import Node
from strokeseg.pacs.notices import ResultNotice
from strokeseg.pacs.scp import StorageScp
from strokeseg.pacs.settings import NodeSettings
from strokeseg.pacs.spool import Spool
from strokeseg.web.settings import parse_database_url

NOTICE = ResultNotice(
    key="0123456789abcdef0123456789abcdef",
    study_uid="1.2.3",
    series_uid="1.2.3.4",
    accession="A|1^2",
    patient_id="P&1\r",
    version=2,
    hemorrhage=True,
    confidence=0.97,
    volume_ml=12.345,
    interval_ml=(9.0, 16.5),
    at="2024-05-06T07:08:09+00:00",
    software="strokeseg 0.1.0",
    model="default 1",
)


def make_settings(folder, **sections):
    """Settings of a node: peers MODALITY, which may send and request commitment, and VIEWER."""
    node = {"folder": folder / "node", "port": free_port(), "least_free_mb": 0, "settle_s": 0, "quiet_s": 5}
    content = {
        "node": {**node, **sections.pop("node", {})},
        "peer": [
            {"name": "modality", "ae_title": "MODALITY", "host": "127.0.0.1", "port": 1, "may": ["send", "commit"]},
            {"name": "viewer", "ae_title": "VIEWER", "from_addresses": ["127.0.0.1"]},
        ],
        **sections,
    }
    return NodeSettings.model_validate(content)


class ListeningScp:
    """A listening receiver, called by programs of DCMTK."""

    def __init__(self, folder, **sections):
        self.settings = make_settings(folder, **sections)
        self.spool = Spool(self.settings.node.folder, open_database(f"sqlite:///{folder / 'node.db'}"))
        self.associations = OpenAssociations()
        self.events = []
        self.receiver = StorageScp(
            self.settings, self.spool, self.associations, observe=lambda *what: self.events.append(what)
        )
        self.port = self.receiver.start()

    def call(self, program, *arguments, title="MODALITY", called="STROKESEG"):
        command = [dicom_series.find_program(program), "-aet", title, "-aec", called]
        command += ["127.0.0.1", str(self.port), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    def stop(self):
        self.receiver.stop()
        self.spool.engine.dispose()


@contextlib.contextmanager
def preserve_logging():
    """Restore the log of this process after a node or a server has configured it."""
    logs = [logging.getLogger(name) for name in ("strokeseg.node", "strokeseg.serve", "")]
    before = [(log.handlers, log.propagate, log.level) for log in logs]
    hook = threading.excepthook
    try:
        yield
    finally:
        threading.excepthook = hook
        for log, (handlers, propagate, level) in zip(logs, before, strict=True):
            log.handlers, log.propagate = handlers, propagate
            log.setLevel(level)


def wait_until(condition, seconds=30.0):
    """Wait until the condition returns a true value, and return it."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "the condition was not met in time"
        time.sleep(0.05)
    return value


class ImmediateJobs:
    """Jobs without a web application: a study is segmented as soon as it is submitted."""

    def __init__(self, folder):
        self.folder = folder
        self.keys, self.documents, self.urgent, self.compared = {}, {}, [], []

    def submit(self, key, name, files, *, model, urgent, formats, decision):
        study = self.keys.setdefault(key, f"study-{len(self.keys) + 1}")
        if study in self.documents:
            return study
        inputs = self.folder / study / "in"
        inputs.mkdir(parents=True, exist_ok=True)
        for path in files:
            shutil.copy(path, inputs)
        try:
            result = strokeseg.segment(inputs, model=model, threads=1)
            output_formats = ["pdf-dicom" if name == "pdf" else name for name in formats]
            self.documents[study] = result.save(self.folder / study / "out", ("json", *output_formats))
        except strokeseg.errors.StrokesegError as error:
            self.documents[study] = error
        if urgent:
            self.urgent.append(study)
        return study

    def read_state(self, study):
        document = self.documents.get(study)
        if isinstance(document, Exception):
            return JobState("refused", str(document))
        return JobState("done", "", document) if document else JobState("gone")

    def read_objects(self, study, formats):
        paths = sorted(path for path in (self.folder / study / "out").rglob("*.dcm"))
        stems = [{"pdf": "report_pdf"}.get(name, name.replace("-", "_")) for name in formats]
        return [path.read_bytes() for path in paths if any(path.stem.startswith(stem) for stem in stems)]

    def compare(self, earlier, later):
        self.compared.append((earlier, later))


class NodeUnderTest:
    """A running node."""

    def __init__(self, folder, jobs=None, database=None, **toml):
        folder.mkdir(exist_ok=True)
        self.settings = make_settings(folder, **toml)
        self.jobs = jobs or ImmediateJobs(folder / "jobs")
        self.node = Node(self.settings, parse_database_url(database or f"sqlite:///{folder / 'node.db'}"), self.jobs)
        self.node.start()
        self.port = self.node.port

    call = ListeningScp.call

    def rows(self, table=series_table):
        with self.node.spool.engine.connect() as connection:
            return [dict(row) for row in connection.execute(select(table)).mappings()]

    def stop(self):
        self.node.stop()


def save_lesion_network(folder):
    """Save a handmade network as `default` that outlines what is between 50 and 80 HU and not a thin edge."""
    size, window = 96, {"kernel_shape": [5, 5], "pads": [2] * 4}
    nodes = [
        ("Sub", ["image", "low"], "above", {}),
        ("Sub", ["high", "image"], "below", {}),
        ("Min", ["above", "below"], "inside", {}),
        ("Neg", ["inside"], "outside", {}),
        ("MaxPool", ["outside"], "grown", window),
        ("Neg", ["grown"], "eroded", {}),
        ("MaxPool", ["eroded"], "opened", window),
        ("Mul", ["opened", "k"], "logits", {}),
    ]
    network = networks.make_network(size, nodes, {"low": 0.25, "high": 1.0, "k": 40.0})
    networks.save_network(folder, "default", network, size, architecture="a band of [grey]")
