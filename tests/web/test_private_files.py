"""Other users of the machine can read nothing, whatever the umask."""

import os
import stat
from pathlib import Path

import pytest

from strokeseg.web import database
from strokeseg.web.storage import Storage
from web_process import PICTURE_FIELDS, picture_parts


@pytest.fixture(params=[0o000, 0o022, 0o377], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


def read_mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_all_that_a_server_makes_is_private(served, tmp_path, umask):
    client = served()
    assert client.post("studies", files=picture_parts(2), data=PICTURE_FIELDS).status_code == 201
    scan = tmp_path / "made" / "scan.json"  # as a step writes it
    scan.parent.mkdir(0o755)
    scan.parent.chmod(0o755)
    scan.write_text("a patient's name")
    scan.chmod(0o644)
    client.app.state.context.storage.put_folder(scan.parent, "studies/x/scan")
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert {"study.zip", "scan.json"} <= {path.name for path in files}
    assert {path: oct(read_mode(path)) for path in files if read_mode(path) != 0o600} == {}
    folders = [tmp_path / "data", *(path for path in (tmp_path / "data").rglob("*") if path.is_dir())]
    assert {path: oct(read_mode(path)) for path in folders if read_mode(path) != 0o700} == {}
    databases = sorted(tmp_path.glob("strokeseg.db*"))
    assert len(databases) == 3, "with its write-ahead log"
    assert {read_mode(path) for path in databases} == {0o600}


def test_what_an_older_version_made_is_changed_at_the_start(served, tmp_path, caplog):
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o755)
    file = tmp_path / "strokeseg.db"
    database.connect(f"sqlite:///{file}").dispose()
    (tmp_path / "audit.jsonl").touch()
    for path in (file, tmp_path / "audit.jsonl"):
        path.chmod(0o644)
    served()
    assert read_mode(tmp_path / "data") == 0o700
    assert read_mode(file) == read_mode(tmp_path / "audit.jsonl") == 0o600
    assert f"the folder of --storage {tmp_path / 'data'}: other users of this machine could read it (mode 0755)" in (
        caplog.text
    )


def test_what_belongs_to_someone_else_is_named_with_the_remedy(tmp_path, caplog, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o755)

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    Storage(str(tmp_path / "data"), tmp_path / "scratch")
    assert f"must run: chmod 0700 {tmp_path / 'data'}" in caplog.text and "Operation not permitted" in caplog.text
