import json
import multiprocessing
import os
import stat
from datetime import datetime

import pytest

from sign_in_cases import GuardedServer
from strokeseg.errors import DiskFull, NotWritable
from strokeseg.web.auth.audit import AuditLog


def append_many(path, name, times):
    log = AuditLog(path, max_bytes=4000)
    for _ in range(times):
        log.append(name, "upload", "0af3", "done", "192.0.2.1")


def lines(folder):
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]


def test_says_who_what_when_where_and_how_it_ended(tmp_path):
    server = GuardedServer(tmp_path)
    server.create_client(server.create_token("anna")).post("/api/v1/studies")
    server.create_client(server.create_token("ben", scope="read")).delete("/api/v1/studies/0af3")
    server.create_client("wrong").get("/api/v1/studies/0af3")
    server.create_client(server.create_token("ben", scope="read")).delete(
        "/api/v1/studies/Doe%5EJane%0A%7B%22user%22:1%7D"
    )
    seen = [
        [line[key] for key in ("user", "action", "study", "outcome", "address")] for line in server.read_audit_log()
    ]
    assert seen == [
        ["anna", "upload", "0af3", "done", "testclient"],
        ["ben", "remove", "0af3", "refused", "testclient"],
        [None, "read", "0af3", "refused", "testclient"],
        ["ben", "remove", None, "refused", "testclient"],
    ]
    assert all(
        datetime.fromisoformat(line["time"]).utcoffset().total_seconds() == 0 for line in server.read_audit_log()
    )
    assert "Doe" not in server.audit.read_text()
    assert stat.S_IMODE(server.audit.stat().st_mode) == 0o600


def test_several_processes_append_whole_lines_and_lose_none(tmp_path):
    path = tmp_path / "audit.jsonl"
    jobs = [multiprocessing.get_context("fork").Process(target=append_many, args=(path, n, 60)) for n in "abc"]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    written = lines(tmp_path)
    assert sorted(line["user"] for line in written) == sorted("abc" * 60)
    files = list(tmp_path.glob("audit-*.jsonl"))
    assert len(files) > 2, "full files are set aside"
    assert all(file.stat().st_size <= 4000 for file in files)


def test_is_on_the_disk_before_the_answer(tmp_path, monkeypatch):
    log, synced = AuditLog(tmp_path / "audit.jsonl"), []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.fstat(number).st_size))
    log.append("anna", "upload", "0af3", "done", "192.0.2.1")
    assert synced == [(tmp_path / "audit.jsonl").stat().st_size]


def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    path, real = tmp_path / "audit.jsonl", os.write
    log = AuditLog(path)
    log.append("anna", "upload", "0af3", "done", "192.0.2.1")
    whole = path.read_bytes()
    monkeypatch.setattr(os, "write", lambda number, content: real(number, content[:20]))
    with pytest.raises(DiskFull):
        log.append("anna", "upload", "0af4", "done", "192.0.2.1")
    assert path.read_bytes() == whole


def test_what_cannot_be_logged_is_not_done(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotWritable):
        AuditLog(tmp_path / "folder")
