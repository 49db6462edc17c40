"""Stops by SIGTERM and Ctrl-C, with real processes: nothing in work is lost."""

import os
import signal
import sqlite3
import time

import pytest

from strokeseg.web.worker_pool import StepCancelled
from web_process import PICTURE_FIELDS, ServerProcess, list_step_processes, picture_parts, wait_until_ended

SLICES = 24  # enough for the network to run for a second or more


def _upload(client):
    return client.post("/studies", files=picture_parts(SLICES), data=PICTURE_FIELDS).json()["id"]


def _wait_until_segmenting(client, study):
    until = time.monotonic() + 120
    while not (state := client.get(f"/studies/{study}").json())["progress"] or not state["progress"]["done"]:
        assert time.monotonic() < until and state["status"] not in ("done", "failed"), state
        time.sleep(0.02)
    assert state["status"] == "segmenting"


def _read_row(folder, study):
    """Return a study's status and error and its workflow's state, as a stopped server left them."""
    with sqlite3.connect(folder / "a.db") as connection:
        row = connection.execute("SELECT status, error FROM serve_studies WHERE id = ?", (study,)).fetchone()
        job = connection.execute("SELECT status FROM workflow_status WHERE workflow_uuid = ?", (study,)).fetchone()
    return (*row, *job)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "whole_group"), [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGINT, False)]
)
def test_a_stopped_server_goes_on_with_its_study_at_the_next_start(tmp_path, number, whole_group):
    """By its process alone, as a container does, or with its step processes first, as systemd may."""
    server = ServerProcess(tmp_path, f"sqlite:///{tmp_path / 'a.db'}", "--lease", "2")
    with server, server.create_client() as client:
        study = _upload(client)
        _wait_until_segmenting(client, study)
        for child in list_step_processes(server.process.pid) if whole_group else ():
            os.kill(child, number)
        server.kill(number)
        assert _read_row(tmp_path, study) == ("segmenting", None, "PENDING")
        server.start()
        state = wait_until_ended(client, study)
    assert state["status"] == "done" and len(state["versions"]) == 1 and state["error"] is None
    assert "worker-died" not in server.log.read_text()


@pytest.mark.slow
def test_a_stopped_workers_study_goes_on_in_another_worker(tmp_path):
    """The lease is released at the stop: nobody waits for its end, which would be in ten minutes."""
    database = f"sqlite:///{tmp_path / 'a.db'}"
    server = ServerProcess(tmp_path, database, "--workers", "0", "--lease", "2")
    first = ServerProcess(tmp_path, database, "--lease", "600", worker_only=True)
    second = ServerProcess(tmp_path, database, "--lease", "2", worker_only=True)
    with server, server.create_client() as client, first:
        study = _upload(client)
        _wait_until_segmenting(client, study)
        first.kill(signal.SIGTERM)
        assert _read_row(tmp_path, study)[:2] == ("segmenting", None)
        with second:
            state = wait_until_ended(client, study, 120)
    assert state["status"] == "done" and len(state["versions"]) == 1


@pytest.mark.slow
def test_stops_in_a_row_lose_nothing(tmp_path):
    """Two studies and stops at different moments: while one is read, segmented, measured and written."""
    server = ServerProcess(tmp_path, f"sqlite:///{tmp_path / 'a.db'}", "--lease", "2")
    with server, server.create_client() as client:
        studies = [_upload(client) for _ in range(2)]
        for delay_s in (0.1, 0.9, 1.7):
            time.sleep(delay_s)
            server.kill(signal.SIGTERM)
            for study in studies:
                assert _read_row(tmp_path, study)[1] is None
            server.start()
        for study in studies:
            state = wait_until_ended(client, study)
            assert state["status"] == "done" and len(state["versions"]) == 1


@pytest.mark.slow
def test_a_study_whose_job_ended_without_a_result_is_queued_again(served, monkeypatch):
    """Stops of version 0.1.0 left such studies: their status is "reading", and their workflow ended as a success."""
    client = served(workers=1)
    jobs, left = client.app.state.context.jobs, []
    read = jobs._steps.read

    def leave(study):
        if not left:
            left.append(study)
            raise StepCancelled
        return read(study)

    monkeypatch.setattr(jobs._steps, "read", leave)
    study = client.post("studies", files=picture_parts(1), data=PICTURE_FIELDS).json()["id"]
    state = wait_until_ended(client, study, 60)  # found when the leases are renewed
    assert left and state["status"] == "done"
