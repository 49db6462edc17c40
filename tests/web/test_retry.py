"""A study that failed is processed again: by the route, with its ID, recorded in the audit log."""

import json

import pytest

from strokeseg.errors import StrokesegError
from web_process import PICTURE_FIELDS, picture_parts, wait_until_ended


def _read_audit(tmp_path):
    return [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_study_that_failed_is_retried_by_its_own_id(served, tmp_path, monkeypatch):
    client = served(workers=1)
    steps = client.app.state.context.jobs._steps
    read, tries = steps.read, []

    def fail_twice(study):
        tries.append(study)
        if len(tries) < 3:
            raise StrokesegError("broken", "Try again.")
        return read(study)

    monkeypatch.setattr(steps, "read", fail_twice)
    study = client.post("studies", files=picture_parts(1), data=PICTURE_FIELDS).json()["id"]
    for _ in range(2):
        assert wait_until_ended(client, study)["status"] == "failed"
        answer = client.post(f"studies/{study}/retry")
        assert answer.status_code == 202 and answer.json()["status"] == "queued" and answer.json()["error"] is None
    state = wait_until_ended(client, study)
    assert state["status"] == "done" and state["id"] == study and len(tries) == 3
    assert len(client.get("studies").json()["items"]) == 1
    retries = [line for line in _read_audit(tmp_path) if line["action"] == "retry"]
    assert [(line["user"], line["study"], line["outcome"]) for line in retries] == [("local", study, "done")] * 2
    assert all(line["time"] for line in retries)
    assert client.delete(f"studies/{study}").status_code == 204


def test_only_what_failed_or_was_refused_is_retried(served, tmp_path):
    client = served()
    study = client.post("studies", files=picture_parts(1), data=PICTURE_FIELDS).json()["id"]
    answer = client.post(f"studies/{study}/retry")
    assert answer.status_code == 409 and answer.json()["code"] == "conflict" and "queued" in answer.json()["detail"]
    assert client.post(f"studies/{'0' * 32}/retry").status_code == 404
    assert "retry" not in {line["action"] for line in _read_audit(tmp_path)}


def test_two_retries_at_once_make_one_job(served):
    client = served()
    study = client.post("studies", files=picture_parts(1), data=PICTURE_FIELDS).json()["id"]
    jobs = client.app.state.context.jobs
    jobs.studies.record_failure(study, 0, "failed", StrokesegError("broken", "Try again."))
    options = jobs.studies.get_row(study).options
    assert jobs.studies.restart(study, options, ("failed",))
    assert not jobs.studies.restart(study, options, ("failed", "queued"))
    assert json.loads(jobs.studies.get_row(study).options)["retries"] == 1


def test_the_failure_of_an_earlier_job_does_not_end_a_retried_study(served):
    """As when a process dies between the failure's row and its checkpoint, and the study is retried before that."""
    client = served()
    study = client.post("studies", files=picture_parts(1), data=PICTURE_FIELDS).json()["id"]
    jobs, error = client.app.state.context.jobs, StrokesegError("broken", "Try again.")
    jobs._record_study_failure(study, study, 0, error)
    assert client.get(f"studies/{study}").json()["status"] == "failed"
    assert client.post(f"studies/{study}/retry").status_code == 202
    jobs._record_study_failure(study, study, 0, error)
    assert client.get(f"studies/{study}").json()["status"] == "queued"
    jobs._record_study_failure(f"{study}-retry1", study, 0, error)
    assert client.get(f"studies/{study}").json()["status"] == "failed"
