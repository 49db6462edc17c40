"""Every look at a patient's data has a line in the audit log; one view, which makes many requests, has a few."""

import gzip
import json
import os
import time

import pytest
from fastapi.routing import iter_route_contexts

from strokeseg.web import database
from strokeseg.web.auth import tokens
from strokeseg.web.auth.audit import GATHER_S, Views
from strokeseg.web.schemas import ResultFile, ResultFiles

STUDY, LATER, COMPARISON = "a" * 32, "b" * 32, "c" * 32
FINDINGS = json.dumps({"hemorrhage": False, "confidence": 0.9, "volume_ml": 0.0, "volume_interval_ml": None})
VALUES = {"study_id": STUDY, "index": "0", "name": "report.html", "comparison_id": COMPARISON}
NO_DATA = {"/studies/{study_id}/files": "names and checksums", "/comparisons/{comparison_id}": "its state"}
"""Routes about a study that send nothing of a patient."""


@pytest.fixture
def viewer(served, tmp_path):
    """A client of anna, who may see two studies with results and their comparison."""
    (tmp_path / "auth.toml").write_text("session_hours = 1\n")
    client = served(auth_config=tmp_path / "auth.toml")
    context, now = client.app.state.context, time.time()
    study = {"created": now, "changed": now, "status": "done", "priority": "normal", "model": "default"}
    study |= {"options": "{}", "name": "Doe^Jane", "owner": "anna", "upload": "x.zip", "version": 0, "slices": 40}
    with context.engine.begin() as connection:
        for identity in (STUDY, LATER):
            connection.execute(database.studies.insert().values(id=identity, **study))
            version = {"study": identity, "version": 0, "created": now, "folder": "v0", "findings": FINDINGS}
            connection.execute(database.versions.insert().values(**version))
        row = {"id": COMPARISON, "created": now, "earlier": STUDY, "later": LATER, "status": "done", "folder": "c0"}
        connection.execute(database.comparisons.insert().values(**row, earlier_version=0, later_version=0))
    pixels = gzip.compress(b"\0\0")
    geometry = {"slices": 40, "rows": 1, "columns": 1, "calibrated": True, "window": [40, 80]}
    geometry |= {"pixel_spacing_mm": None, "slice_positions_mm": None, "orientation": {}, "upright": {}}
    geometry["offsets"] = [number * len(pixels) for number in range(41)]
    manifest = ResultFiles(
        items=[ResultFile(name="report.html", bytes=2, sha256="0", media_type="text/html", format="report")]
    )
    contents = {"result.json": b"{}", "change.json": b"{}", "report.html": b"<>", "labels.bin": pixels}
    contents["files.json"] = manifest.model_dump_json().encode()
    for prefix in (f"studies/{STUDY}/v0", "comparisons/c0"):
        for name, content in contents.items():
            store(context.storage, tmp_path, f"{prefix}/{name}", content)
    for name, content in (("slices.json", json.dumps(geometry).encode()), ("slices.bin", pixels * 40)):
        store(context.storage, tmp_path, f"studies/{STUDY}/scan/{name}", content)
    store(context.storage, tmp_path, f"studies/{STUDY}/scan/thumbnail.png", b"png")
    token, _ = tokens.create_token(context.engine, "anna", None, ["read"], 1)
    client.headers["Authorization"] = f"Bearer {token}"
    return client


def store(storage, folder, key, content):
    (folder / "new").write_bytes(content)
    storage.put(folder / "new", key)


def read_log(folder):
    lines = [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]
    return [(line["user"], line["action"], line["study"]) for line in lines]


def list_looks(app):
    """(method, path) of every route that shows studies or comparisons, without the streams, which do not end."""
    for route in iter_route_contexts(app.routes):
        path = route.path.removeprefix("/api/v1")
        if path.startswith(("/studies", "/comparisons")) and not path.endswith("/events") and path not in NO_DATA:
            yield from ((method, path) for method in route.methods & {"GET", "HEAD"})


def test_every_route_that_shows_a_patient_has_a_line(viewer, tmp_path):
    """A new route is in this test without being named."""
    looks = list(list_looks(viewer.app))
    assert len(looks) >= 10
    for method, path in looks:
        before = len(read_log(tmp_path))
        viewer.app.state.guard._views = Views()
        url = path.format(**VALUES).removeprefix("/")
        assert viewer.request(method, url).status_code == 200, path
        new = read_log(tmp_path)[before:]
        studies = [STUDY, LATER] if "comparison" in path else [STUDY] if "study_id" in path else [None]
        assert [(user, study) for user, _, study in new] == [("anna", study) for study in studies], (method, path)
    viewer.app.state.guard._views = Views()
    assert viewer.get(f"studies/{STUDY}/slices/0", headers={"If-None-Match": "*"}).status_code == 304
    assert read_log(tmp_path)[-1] == ("anna", "view-slices", STUDY), "the browser shows what it has kept"
    assert "Doe" not in (tmp_path / "audit.jsonl").read_text()


def test_a_view_of_forty_slices_has_one_line_for_them(viewer, tmp_path):
    for _ in range(2):
        for number in range(40):
            assert viewer.get(f"studies/{STUDY}/slices/{number}").status_code == 200
        for part in ("slices", "mask", "result", "thumbnail", "files/report.html"):
            assert viewer.get(f"studies/{STUDY}/{part}").status_code == 200
    actions = ["view-slices", "view-mask", "view-result", "view-thumbnail", "view-report"]
    assert read_log(tmp_path) == [("anna", action, STUDY) for action in actions]


def test_a_report_runs_in_a_sandbox(viewer):
    """Its scripts get an origin of their own: they can neither use the session nor read another study."""
    policy = viewer.get(f"studies/{STUDY}/files/report.html").headers["content-security-policy"]
    assert policy.startswith("sandbox") and "allow-same-origin" not in policy


def test_what_is_not_there_is_no_look(viewer, tmp_path):
    assert viewer.get(f"studies/{LATER}/result").status_code == 404
    assert viewer.get(f"studies/{'d' * 32}").status_code == 404
    assert read_log(tmp_path) == []


def test_what_cannot_be_logged_is_not_shown(viewer, monkeypatch):
    """A full disk: refused, and refused again; then it is shown and logged."""
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda number, content: write(number, content[:5]))
        for _ in range(2):
            answer = viewer.get(f"studies/{STUDY}/result")
            assert (answer.status_code, answer.json()["code"]) == (507, "disk-full")
    assert viewer.get(f"studies/{STUDY}/result").status_code == 200


def test_the_same_look_is_logged_again_after_five_minutes():
    now = [0.0]
    views = Views(lambda: now[0])
    assert views.is_new("anna", "result", STUDY)
    views.remember("anna", "result", STUDY)
    assert not views.is_new("anna", "result", STUDY)
    assert views.is_new("ben", "result", STUDY) and views.is_new("anna", "result", LATER)
    now[0] = GATHER_S
    assert views.is_new("anna", "result", STUDY)
