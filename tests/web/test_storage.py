"""Files in a folder and in an S3-compatible storage: the same promises, the latter against moto's server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from strokeseg.errors import NotFound, UsageError
from strokeseg.web.storage import Storage
from web_process import PICTURE_FIELDS, picture_parts, wait_until_ended


@pytest.fixture(scope="module")
def bucket():
    """An S3 endpoint of this machine, and the URL of a bucket in it."""
    import boto3
    import s3fs
    from moto.server import ThreadedMotoServer

    s3fs.S3FileSystem.clear_instance_cache()  # fsspec would give the one of an earlier server, which is gone
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = dict(os.environ)
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    boto3.client("s3").create_bucket(Bucket="scans")
    yield "s3://scans/strokeseg"
    os.environ.clear()
    os.environ.update(environment)
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def storage(request, tmp_path):
    url = str(tmp_path / "data") if request.param == "folder" else request.getfixturevalue("bucket")
    return Storage(url, tmp_path / "scratch")


def test_files_are_put_read_in_part_listed_and_removed(storage, tmp_path):
    data = bytes(range(256)) * 10_000
    (tmp_path / "a").write_bytes(data)
    storage.put(tmp_path / "a", "studies/x/a.bin")
    assert storage.read("studies/x/a.bin") == data and storage.exists("studies/x/a.bin")
    assert b"".join(storage.read_range("studies/x/a.bin", 1000, 1_500_000)) == data[1000:1_500_000]
    assert b"".join(storage.read_range("studies/x/a.bin", 0, 2**62)) == data
    made = tmp_path / "made"
    made.mkdir()
    for name in ("b", "c"):
        (made / name).write_bytes(name.encode())
    storage.put_folder(made, "studies/x/v0")
    assert sorted(storage.list_names("studies/x")) == ["a.bin", "v0"]
    assert sorted(storage.list_names("studies/x/v0")) == ["b", "c"] and storage.list_names("studies/y") == []
    assert storage.sum_bytes("studies/x") == len(data) + 2
    copies = tmp_path / "copies"
    copies.mkdir()
    assert (storage.provide_local("studies/x/v0", ["b"], copies) / "b").read_bytes() == b"b"
    storage.remove("studies/x")
    storage.remove("studies/x")
    assert not storage.exists("studies/x/a.bin")
    with pytest.raises(NotFound):
        storage.read("studies/x/a.bin")
    storage.check_writable()


def test_a_place_that_cannot_be_is_wrong_usage(tmp_path):
    with pytest.raises(UsageError):
        Storage("nothing-known://x", tmp_path)


@pytest.mark.slow
def test_a_study_lives_in_s3(served, bucket, caplog):
    caplog.set_level("ERROR")  # moto's server tells every request
    client = served(storage=bucket, workers=1)
    study = client.post("studies", files=picture_parts(3), data=PICTURE_FIELDS).json()["id"]
    assert wait_until_ended(client, study)["status"] == "done"
    part = client.get(f"studies/{study}/files/ct.nii.gz", headers={"Range": "bytes=10-19"})
    assert part.status_code == 206 and len(part.content) == 10
    form = client.get(f"studies/{study}/slices").json()
    assert len(client.get(f"studies/{study}/slices/2").content) == form["rows"] * form["columns"] * 2
    client.delete(f"studies/{study}")
    assert client.app.state.context.storage.list_names(f"studies/{study}") == []


def test_the_scratch_of_another_container_stays(tmp_path, monkeypatch):
    """Its process number means nothing here; only the lease does."""
    with monkeypatch.context() as other:
        other.setattr(os, "getpid", lambda: 2**22 + 1)  # no process of this machine has this number
        first = Storage(str(tmp_path / "data"))
    (first.scratch / "received").write_text("x")
    second = Storage(str(tmp_path / "data"))
    assert (first.scratch / "received").read_text() == "x" and first.scratch != second.scratch


def test_the_scratch_of_a_killed_process_is_deleted_by_the_next(tmp_path):
    code = (
        f"from strokeseg.web.storage import Storage; s = Storage({str(tmp_path / 'data')!r}); print(s.scratch); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as process:
        scratch = Path(process.stdout.readline().strip())
        (scratch / "received").write_text("x")
        Storage(str(tmp_path / "data"))
        assert (scratch / "received").exists(), "it is running"
        process.kill()
        process.wait()
        Storage(str(tmp_path / "data"))
        assert not scratch.exists()
