"""The life of a study, on both databases."""

import errno
import gzip
import hashlib
import io
import json
import shutil
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

import strokeseg
from strokeseg.web import storage
from web_process import PICTURE_FIELDS, PICTURES, picture_parts, wait_until_ended

COUNT = 5
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """The package's own result for the same pictures, without a server."""
    folder = tmp_path_factory.mktemp("stack")
    for path in PICTURES[:COUNT]:
        shutil.copy(path, folder)
    return strokeseg.segment(folder, model="fast", window=(40.0, 120.0), spacing_mm=(5.0, 0.45, 0.45))


def test_the_whole_life_of_a_study(served, database, truth):
    client = served(database=database, workers=1)
    made = client.post("studies", files=picture_parts(COUNT), data={**PICTURE_FIELDS, "name": "a <b>head</b>"})
    assert made.status_code == 201 and made.json()["status"] == "queued"
    study = made.json()["id"]
    assert made.headers["Location"] == f"/api/v1/studies/{study}"
    state = wait_until_ended(client, study)
    assert state["status"] == "done" and state["has_slices"] and state["name"] == "a <b>head</b>"
    assert state["volume_ml"] == truth.findings.volume_ml and state["hemorrhage"] == truth.findings.hemorrhage
    assert state["confidence"] == truth.findings.confidence and state["version"] == 0 and len(state["versions"]) == 1

    result = client.get(f"studies/{study}/result").json()
    assert result["findings"] == json.loads(truth.findings.model_dump_json())
    _check_slices(client, study, truth)
    mask = np.frombuffer(client.get(f"studies/{study}/mask").content, np.uint8).reshape(truth.mask.shape)
    np.testing.assert_array_equal(mask > 0, truth.mask)
    assert mask.max() == len(truth.findings.lesions)
    _check_files(client, study)
    _check_edit(client, study, truth)
    assert client.delete(f"studies/{study}").status_code == 204
    assert client.get(f"studies/{study}").status_code == 404
    assert client.get("studies").json()["items"] == []


def _check_slices(client, study, truth):
    form = client.get(f"studies/{study}/slices").json()
    assert (form["slices"], form["rows"], form["columns"]) == truth.scan.shape
    assert form["orientation"] == {"right": "L", "left": "R", "top": "A", "bottom": "P"}
    assert form["pixel_spacing_mm"] == [0.45, 0.45] and form["window"] == [40.0, 120.0]
    for index in (0, COUNT - 1):
        answer = client.get(f"studies/{study}/slices/{index}")
        assert answer.headers["Content-Encoding"] == "gzip"
        np.testing.assert_array_equal(
            np.frombuffer(answer.content, "<i2").reshape(truth.scan.shape[1:]), truth.scan.hu[index]
        )
        again = client.get(f"studies/{study}/slices/{index}", headers={"If-None-Match": answer.headers["ETag"]})
        assert again.status_code == 304 and not again.content
    assert client.get(f"studies/{study}/slices/{COUNT}").status_code == 404
    small = Image.open(io.BytesIO(client.get(f"studies/{study}/thumbnail").content))
    assert max(small.size) == 160 and small.format == "PNG"


def _check_files(client, study):
    listed = client.get(f"studies/{study}/files").json()["items"]
    names = {one["name"] for one in listed}
    assert {"result.json", "mask.nii.gz", "ct.nii.gz", "report.html", "scene.glb", "lesions.seg.nrrd"} <= names
    assert not {name for name in names if name.endswith(".dcm")}  # of pictures there are none
    for one in listed:
        answer = client.get(f"studies/{study}/files/{one['name']}")
        assert len(answer.content) == one["bytes"]
        assert hashlib.sha256(answer.content).hexdigest() == one["sha256"]
        assert answer.headers["ETag"] == f'"{one["sha256"]}"'
    whole = zipfile.ZipFile(io.BytesIO(client.get(f"studies/{study}/download").content))
    assert whole.testzip() is None and set(whole.namelist()) == names


def _check_edit(client, study, truth):
    """A person erases everything but one block: the volume follows, and the machine's answer stays."""
    drawn = np.zeros(truth.mask.shape, np.uint8)
    drawn[2:4, 200:220, 200:230] = 1
    sent = client.post(
        f"studies/{study}/versions",
        content=gzip.compress(drawn.tobytes()),
        params={"author": "Dr. A", "note": "<i>too much</i>", "accepted": "true"},
        headers={"Content-Type": "application/octet-stream"},
    )
    assert sent.status_code == 202 and sent.json()["status"] == "measuring"
    state = wait_until_ended(client, study, also=lambda state: state["version"] == 1 or state["error"])
    last = state["versions"][1]
    assert (last["author"], last["note"], last["accepted"]) == ("Dr. A", "<i>too much</i>", True)
    # 2 slices x 20 x 30 pixels of 5 x 0.45 x 0.45 mm
    assert state["volume_ml"] == pytest.approx(2 * 600 * 5 * 0.45**2 / 1000, abs=0.01)
    assert state["confidence"] is None and state["volume_interval_ml"] is None
    machine = client.get(f"studies/{study}/result", params={"version": 0}).json()
    assert machine["findings"] == json.loads(truth.findings.model_dump_json())
    edited = client.get(f"studies/{study}/result").json()
    assert "corrected" in {remark["code"] for remark in edited["remarks"]}
    mask = np.frombuffer(client.get(f"studies/{study}/mask").content, np.uint8).reshape(truth.mask.shape)
    np.testing.assert_array_equal(mask > 0, drawn > 0)
    wrong = client.post(
        f"studies/{study}/versions",
        content=gzip.compress(b"12"),
        headers={"Content-Type": "application/octet-stream"},
    )
    assert wrong.status_code == 202
    state = wait_until_ended(client, study, also=lambda state: state["error"])
    assert state["status"] == "done" and state["error"]["code"] == "geometry" and len(state["versions"]) == 2


def test_what_is_no_head_is_refused_with_its_code_and_nothing_is_left(served, database, tmp_path):
    client = served(database=database, workers=1)
    cases = {"letter.txt": (b"Dear doctor", "unreadable"), "half.zip": (b"PK\x03\x04 cut", "unreadable")}
    made = {
        name: client.post("studies", files=[("files", (name, data))]).json()["id"] for name, (data, _) in cases.items()
    }
    for name, (_, code) in cases.items():
        state = wait_until_ended(client, made[name])
        assert state["status"] == "refused" and state["error"]["code"] == code and state["error"]["remedy"]
        assert str(tmp_path) not in state["error"]["detail"], "no path of the server"
        assert not state["has_result"] and client.get(f"studies/{made[name]}/result").status_code == 404


def test_cancel_ends_a_study_in_its_queue_and_urgent_goes_first(served, database):
    client = served(database=database, workers=0)
    normal = client.post("studies", files=picture_parts(1), data=PICTURE_FIELDS).json()["id"]
    urgent = client.post("studies", files=picture_parts(1), data={**PICTURE_FIELDS, "priority": "urgent"}).json()["id"]
    gone = client.post("studies", files=picture_parts(1), data=PICTURE_FIELDS).json()["id"]
    assert client.post(f"studies/{gone}/cancel").json()["status"] == "cancelled"
    client.app.state.context.jobs.close()
    worked = served(database=database, workers=1)
    order = {study: wait_until_ended(worked, study)["versions"][0]["created"] for study in (normal, urgent)}
    assert order[urgent] < order[normal]
    assert worked.get(f"studies/{gone}").json()["status"] == "cancelled"


@pytest.mark.parametrize(("times", "status"), [(2, "done"), (100, "failed")])
def test_a_full_disk_is_tried_again_ever_later_and_then_said(served, monkeypatch, times, status):
    """The disk is full for so many stored files of the answer; a refusal, beside it, is tried once."""
    client, full, reads = served(workers=1), [], []
    jobs = client.app.state.context.jobs
    move, read = storage._move, jobs._steps.read

    def moved(source, target):
        if "/answer/" in str(target) and len(full) < times:
            full.append(time.monotonic())
            raise OSError(errno.ENOSPC, "No space left on device")
        move(source, target)

    def counted(study):
        reads.append(study)
        return read(study)

    monkeypatch.setattr(storage, "_move", moved)
    monkeypatch.setattr(jobs._steps, "read", counted)
    study = client.post("studies", files=picture_parts(2), data=PICTURE_FIELDS).json()["id"]
    letter = client.post("studies", files=[("files", ("a.txt", b"Dear doctor"))]).json()["id"]
    state = wait_until_ended(client, study)
    assert state["status"] == status and len(full) == min(times, 4)
    assert status == "done" or state["error"]["code"] == "disk-full"
    waits = np.diff(full)
    assert waits[0] > 0.9 and (len(waits) < 2 or waits[-1] > 8)
    assert wait_until_ended(client, letter)["status"] == "refused" and reads.count(letter) == 1


def test_a_comparison_says_what_compare_says(served, truth):
    client = served(workers=1)
    ids = [client.post("studies", files=picture_parts(COUNT), data=PICTURE_FIELDS).json()["id"] for _ in range(2)]
    assert client.post(f"studies/{ids[0]}/compare/{ids[1]}").status_code == 404  # not done yet
    for study in ids:
        wait_until_ended(client, study)
    response = client.post(f"studies/{ids[0]}/compare/{ids[1]}")
    assert response.status_code == 202
    one = response.json()["id"]
    assert client.post(f"studies/{ids[0]}/compare/{ids[1]}").json()["id"] == one
    until = time.monotonic() + 120
    while (state := client.get(f"comparisons/{one}").json())["status"] not in ("done", "refused", "failed"):
        assert time.monotonic() < until
        time.sleep(0.1)
    expected = None
    try:
        expected = strokeseg.compare(truth, truth).change
    except strokeseg.errors.StrokesegError as error:
        assert state["error"]["code"] == error.code
    if expected is not None:
        document = client.get(f"comparisons/{one}/result").json()
        assert document["change"] == json.loads(expected.model_dump_json())
        assert client.get(f"comparisons/{one}/files/change.html").status_code == 200
    client.delete(f"studies/{ids[0]}")
    assert client.get(f"comparisons/{one}").status_code == 404
