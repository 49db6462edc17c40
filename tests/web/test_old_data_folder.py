"""A data folder of version 0.1.0 opens: results are shown, and unfinished studies continue."""

import base64
import hashlib
import json
import pickle
import sys
import zipfile
from pathlib import Path

import pytest

from strokeseg.web.pickled_names import register_old_names
from strokeseg.web.worker_pool import StepCancelled, WorkerDied
from web_process import ServerProcess, wait_until_ended

DATA_FOLDER = Path(__file__).parents[1] / "data" / "data_folder_0.1.0.zip"

# pickle.dumps(Crashed("the process ended", "Try again.")) and pickle.dumps(Stopped()) by version 0.1.0.
WORKER_DIED = (
    "gASVSQAAAAAAAACMFHN0cm9rZXNlZy5zZXJ2ZS5jcmV3lIwHQ3Jhc2hlZJSTlIwRdGhlIHByb2Nlc3MgZW5kZWSUjApUcnkgYWdhaW4ulIaUUpQu"
)
STEP_CANCELLED = "gASVJwAAAAAAAACMFHN0cm9rZXNlZy5zZXJ2ZS5jcmV3lIwHU3RvcHBlZJSTlClSlC4="


@pytest.mark.slow
def test_a_data_folder_of_the_first_version_goes_on(tmp_path):
    """It holds a finished study, one whose worker was killed while the network ran, and one in the queue."""
    with zipfile.ZipFile(DATA_FOLDER) as archive:
        archive.extractall(tmp_path / "data")
    ids = json.loads((tmp_path / "data" / "ids.json").read_text())
    database = f"sqlite:///{tmp_path / 'data' / 'strokeseg.db'}"
    with ServerProcess(tmp_path, database, "--lease", "2") as server, server.create_client() as client:
        done = client.get(f"/studies/{ids['done']}").json()
        assert done["status"] == "done" and done["volume_ml"] is not None
        for file in client.get(f"/studies/{ids['done']}/files").json()["items"]:
            content = client.get(f"/studies/{ids['done']}/files/{file['name']}").content
            assert hashlib.sha256(content).hexdigest() == file["sha256"]
        for name in ("half", "queued"):
            study = wait_until_ended(client, ids[name])
            assert study["status"] == "done" and len(study["versions"]) == 1, study


def test_errors_that_the_first_version_stored_can_be_loaded(monkeypatch):
    """DBOS stores the error of a step as a pickle, which names the class by its module of that time."""
    monkeypatch.delitem(sys.modules, "strokeseg.serve.crew", raising=False)
    with pytest.raises(ModuleNotFoundError):
        pickle.loads(base64.b64decode(WORKER_DIED))
    register_old_names()
    error = pickle.loads(base64.b64decode(WORKER_DIED))
    assert type(error) is WorkerDied
    assert (error.code, error.message, error.remedy) == ("worker-died", "the process ended", "Try again.")
    assert type(pickle.loads(base64.b64decode(STEP_CANCELLED))) is StepCancelled
