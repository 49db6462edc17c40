"""Recovery after kill -9, with real processes."""

import os
import signal
import time

import pytest

from stress.web_kills import run_kills
from web_process import PICTURE_FIELDS, ServerProcess, list_step_processes, picture_parts, wait_until_ended

pytestmark = pytest.mark.slow


def test_a_dead_workers_study_is_taken_over_by_a_live_one(tmp_path, database):
    """One of two workers is killed in the middle of a study; the other ends it, though the first never comes back."""
    server = ServerProcess(tmp_path, database, "--workers", "0", "--lease", "2")
    first, second = (
        ServerProcess(tmp_path, database, "--workers", "1", "--lease", "2", worker_only=True) for _ in range(2)
    )
    with server, server.create_client() as client, first:
        study = client.post("/studies", files=picture_parts(6), data=PICTURE_FIELDS).json()["id"]
        until = time.monotonic() + 120
        while client.get(f"/studies/{study}").json()["status"] not in ("segmenting", "measuring", "writing"):
            assert time.monotonic() < until
            time.sleep(0.02)
        first.kill()
        assert client.get(f"/studies/{study}").json()["status"] != "done"
        with second:
            state = wait_until_ended(client, study)
        assert state["status"] == "done" and len(state["versions"]) == 1


@pytest.mark.parametrize("seed", [1])
def test_kills_at_random_moments_lose_nothing(tmp_path, database, seed):
    killed, made = run_kills(3, database, tmp_path, seed)
    assert len(killed) == 3 and made


def test_stops_and_kills_in_turn_lose_nothing(tmp_path):
    signals = (signal.SIGTERM, signal.SIGKILL)
    killed, made = run_kills(4, f"sqlite:///{tmp_path / 'a.db'}", tmp_path, seed=2, signals=signals, pictures=12)
    assert len(killed) == 4 and made


def test_a_decoder_that_crashes_ends_no_server(tmp_path):
    """The child that reads is killed from outside, as a crash would end it: the step is tried again, and succeeds."""
    with ServerProcess(tmp_path, f"sqlite:///{tmp_path / 'a.db'}") as server, server.create_client() as client:
        study = client.post("/studies", files=picture_parts(6), data=PICTURE_FIELDS).json()["id"]
        until = time.monotonic() + 60
        while client.get(f"/studies/{study}").json()["status"] != "segmenting":
            assert time.monotonic() < until
            time.sleep(0.02)
        for child in list_step_processes(server.process.pid):
            os.kill(child, signal.SIGKILL)
        assert wait_until_ended(client, study)["status"] == "done"
        assert server.process.poll() is None
