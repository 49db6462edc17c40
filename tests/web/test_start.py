"""What a start finds after a kill, a lost database or a clock that was set back."""

import asyncio
import os
import sqlite3
import time

import pytest

from node_cases import preserve_logging
from strokeseg.cli import main
from strokeseg.errors import UnusableDatabase
from strokeseg.web import database, events, leases
from strokeseg.web.app import create_app
from strokeseg.web.auth import LOCAL_USER
from strokeseg.web.storage import Storage
from web_process import free_port

STUDY = "a" * 32


def add_study(engine, study=STUDY):
    now = time.time()
    row = {"id": study, "created": now, "changed": now, "status": "queued", "priority": "normal", "model": "default"}
    more = {"options": "{}", "name": "x", "owner": "local", "upload": "x.zip", "version": -1}
    with engine.begin() as connection:
        connection.execute(database.studies.insert().values(**row, **more))


def put(storage, folder, key):
    (folder / "new").write_bytes(b"x")
    storage.put(folder / "new", key)


@pytest.fixture
def cut_database(tmp_path):
    """A database with 200 studies that ends in the middle, as after a copy that broke off."""
    engine = database.connect(f"sqlite:///{tmp_path / 'strokeseg.db'}")
    for number in range(200):
        add_study(engine, f"{number:032x}")
    engine.dispose()
    with sqlite3.connect(tmp_path / "strokeseg.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    file = tmp_path / "strokeseg.db"
    content = file.read_bytes()
    return file, content


@pytest.mark.parametrize("part", [0.5, 0.95, 0.02])
def test_a_cut_database_is_named_at_the_start(cut_database, settings, capfd, part):
    file, content = cut_database
    file.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(UnusableDatabase, match="damaged"):
        create_app(settings())
    with preserve_logging():
        code = main(["serve", "--database", f"sqlite:///{file}", "--workers", "0", "--port", str(free_port())])
    shown = capfd.readouterr().err
    assert code == 3 and "error[database]" in shown and "Traceback" not in shown


def test_an_empty_database_beside_full_folders_is_refused(settings, tmp_path):
    storage = Storage(str(tmp_path / "data"))
    for number in range(16):
        put(storage, tmp_path, f"studies/{number:032x}/scan/slices.bin")
        put(storage, tmp_path, f"studies/{number:032x}/upload/study.zip")
    (tmp_path / "strokeseg.db").touch()
    with pytest.raises(UnusableDatabase, match="no study, but the storage has the files of 16"):
        create_app(settings())
    engine = database.connect(settings().database)
    add_study(engine)
    engine.dispose()
    create_app(settings())


def test_a_database_that_does_not_answer_is_named_without_its_password(settings):
    with pytest.raises(UnusableDatabase) as caught:
        create_app(settings("postgresql://anna:SECRET@127.0.0.1:1/strokeseg"))
    assert "cannot be opened" in str(caught.value) and "SECRET" not in str(caught.value)


def test_the_rest_of_killed_uploads_is_removed(served, tmp_path):
    """Chunks without a row or of the day before, and uploads of studies that were never registered; all else stays."""
    client = served()
    context = client.app.state.context
    going_on = client.post("uploads", json={"name": "a.zip", "size": 5}).json()["id"]
    old = client.post("uploads", json={"name": "a.zip", "size": 5}).json()["id"]
    add_study(context.engine)
    with context.engine.begin() as connection:
        is_old = database.uploads.c.id == old
        connection.execute(database.uploads.update().where(is_old).values(created=time.time() - 86_401))
    keys = {
        f"uploads/{old}/piece": False,
        f"uploads/{'1' * 32}/piece": False,
        f"uploads/{going_on}/piece": True,
        f"studies/{'2' * 32}/upload/x.zip": False,
        f"studies/{STUDY}/upload/x.zip": True,
        f"studies/{'3' * 32}/upload/x.zip": True,  # new: its row may follow
        f"studies/{'4' * 32}/scan/slices.bin": True,  # its row was lost
    }
    day_ago = time.time() - 90_000
    for key in keys:
        put(context.storage, tmp_path, key)
        if "3" * 32 not in key:
            file = tmp_path / "data" / key
            for path in (file, file.parent, file.parent.parent):
                os.utime(path, (day_ago, day_ago))
    context.retention.sweep()
    assert {key: context.storage.exists(key) for key in keys} == keys


def test_an_idempotency_key_is_valid_for_a_day(served):
    client = served()
    context, headers = client.app.state.context, {"Idempotency-Key": "k"}

    def upload(content):
        return client.post("studies", files={"files": ("a.zip", content)}, headers=headers).status_code

    assert [upload(b"x"), upload(b"x"), upload(b"y")] == [201, 200, 409]
    context.retention.sweep()
    assert upload(b"y") == 409
    with context.engine.begin() as connection:
        connection.execute(database.idempotency_keys.update().values(created=time.time() - 86_401))
    context.retention.sweep()
    assert upload(b"y") == 201


def test_some_of_the_disk_stays_free(served, monkeypatch):
    client, free = served(), 256 * 2**20
    storage = client.app.state.context.storage
    for more, status in ((10 * 2**20, 201), (1000, 507)):
        monkeypatch.setattr(storage, "read_free_bytes", lambda more=more: free + more)
        assert client.post("studies", files={"files": ("a.zip", b"x" * 2**16)}).status_code == status


def test_a_stream_without_events_is_kept_open(served, monkeypatch):
    monkeypatch.setattr(events, "_KEEPALIVE_S", 0.05)
    context = served().app.state.context

    async def listen():
        stream = context.events.listen(LOCAL_USER, None, None)
        comments = [await asyncio.wait_for(anext(stream), 5) for _ in range(3)]
        await stream.aclose()
        return comments

    assert asyncio.run(listen()) == [": connected\n\n", ": keep-alive\n\n", ": keep-alive\n\n"]


def test_events_go_on_after_the_clock_was_set_back(served, monkeypatch):
    """An hour back: a change after it has an earlier time than those that were sent, and is sent too."""
    context = served().app.state.context
    add_study(context.engine)
    shift = [0.0]
    real = time.time
    monkeypatch.setattr(database.time, "time", lambda: real() + shift[0])

    async def listen():
        stream = context.events.listen(LOCAL_USER, None, None)
        await anext(stream)
        await asyncio.sleep(0.5)
        shift[0] = -3600.0
        await asyncio.to_thread(context.jobs.studies.set_status, STUDY, 0, "reading")
        while '"reading"' not in await asyncio.wait_for(anext(stream), 5):
            pass
        await stream.aclose()
        await context.events.close()

    asyncio.run(listen())


def test_a_dead_process_is_noticed_with_the_clock_set_back(tmp_path, monkeypatch):
    """Its number belongs to another process now, and its lease looks fresh for an hour: it does not change, though."""
    engine = database.connect(f"sqlite:///{tmp_path / 'a.db'}")
    with engine.begin() as connection:
        row = {"machine": leases._identify_machine(), "pid": os.getpid(), "started": 0.0, "seen": time.time() + 3600}
        connection.execute(database.workers.insert().values(id="dead", **row))
        connection.execute(database.workers.insert().values(id="alive", **row))
    now, dead = [0.0], []
    monkeypatch.setattr(leases.time, "monotonic", lambda: now[0])
    own, alive = leases.Leases(engine, "own", 10.0), leases.Leases(engine, "alive", 10.0)
    for _ in range(5):
        alive.renew()
        own.recover_expired(dead.append)
        now[0] += 4.0
    assert dead == ["dead"]
