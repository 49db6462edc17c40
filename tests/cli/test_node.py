"""`strokeseg node` as somebody meets it who tries it for the first time."""

import getpass
import json
import socket
import time
from pathlib import Path

import pytest
from sqlalchemy import select

from node_cases import preserve_logging
from orthanc import free_port
from phantoms import head_series
from strokeseg.errors import StrokesegError, UnreadableFile
from strokeseg.pacs import database as tables
from strokeseg.pacs import outbox
from strokeseg.web.database import studies
from strokeseg.web.study_store import NewStudy, StudyStore

SAMPLES = Path(__file__).parents[2] / "samples"
NODE = """
[[rule]]
name = "chest"
match.body_part = "CHEST"
[[rule]]
name = "head"
match.body_part = "HEAD"
match.thickness_mm = [2, 6]
"""
NOBODY = """
[[peer]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = {port}
use = "get"
[[peer]]
name = "scanner"
ae_title = "CT1"
[[web]]
name = "web"
url = "http://127.0.0.1:{port}/dicom-web"
[[notice]]
name = "ward"
kind = "hl7"
host = "127.0.0.1"
port = {port}
[[rule]]
name = "all"
send = [{{ to = "pacs" }}]
"""


@pytest.fixture(autouse=True)
def log():
    with preserve_logging():
        yield


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "node.toml"
    path.write_text(NODE)
    return path


@pytest.fixture
def database(tmp_path):
    return f"sqlite:///{tmp_path / 'node.db'}"


@pytest.fixture
def waiting(database):
    """A database in which one delivery waits, and its id."""
    engine = tables.open_database(database)
    with engine.begin() as connection:
        key = outbox.enqueue(connection, "send", "pacs", "1.2.3", 1, {"study": "a"})
    engine.dispose()
    return key


def head(folder, **values):
    datasets = head_series.make_datasets(head_series.Geometry(z_mm=(0.0, 5.0, 10.0), shape=(16, 16)))
    for data in datasets:
        data.BodyPartExamined, data.SliceThickness = "HEAD", "5"
        for name, value in values.items():
            setattr(data, name, value)
    return head_series.write_series(folder, datasets)


def test_the_help_shows_each_way_of_use(run):
    code, out, _ = run("node", "--help")
    assert code == 0
    for option in ("--check", "--explain", "--undelivered", "--resend", "--retry", "docs/pacs.md"):
        assert option in out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("[node", "is not valid TOML"),
        ("[node]\nprot = 1", "node.prot"),
        ("[node]\nport = 0", "node.port"),
        ("[node.tls]\ncertificate = 'a.pem'\nkey = 'a.key'", "node.tls.certificate: file no"),
    ],
)
def test_a_wrong_file_is_named_with_its_place(run, tmp_path, content, said):
    path = tmp_path / "wrong.toml"
    if content is not None:
        path.write_text(content)
    code, out, err = run("node", path)
    assert (code, out) == (2, "")
    assert "error[usage]" in err
    assert "wrong.toml" in err
    assert said in err


def test_two_wishes_at_once_are_refused(run, file):
    code, _, err = run("node", file, "--check", "--undelivered")
    assert code == 2
    assert "exclude each other" in err


def test_a_check_with_nobody_there_ends_soon_and_says_so(run, tmp_path):
    path = tmp_path / "node.toml"
    path.write_text(NOBODY.format(port=free_port()))
    begun = time.monotonic()
    code, out, _ = run("node", path, "--check", "--json")
    assert time.monotonic() - begun < 15
    assert code == 3
    rows = {row["name"]: row for row in json.loads(out)}
    assert {name for name, row in rows.items() if row["good"]} == {"scanner"}
    assert rows["pacs"]["said"] == "does not answer at its host and port"
    assert "cannot be reached" in rows["web"]["said"]
    assert "cannot be reached" in rows["ward"]["said"]


def test_a_check_of_somebody_silent_ends_soon(run, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        path = tmp_path / "node.toml"
        path.write_text(NOBODY.format(port=silent.getsockname()[1]))
        begun = time.monotonic()
        code, out, _ = run("node", path, "--check")
        assert time.monotonic() - begun < 30
    assert code == 3
    assert out.count("NO") == 2  # the peer and the web server; to hl7 it is enough to connect


def test_a_check_without_peers_says_so(run, file):
    code, out, err = run("node", file, "--check")
    assert (code, out) == (0, "")
    assert "no peer, server or receiver to try" in err


def test_an_explanation_names_the_rule_and_why_not_the_others(run, file, tmp_path):
    code, out, _ = run("node", file, "--explain", head(tmp_path / "in"))
    assert code == 0
    assert "chest: the body part 'HEAD' does not match 'CHEST'" in out
    assert "head: matches, segment" in out
    code, out, _ = run("node", file, "--explain", head(tmp_path / "thin", SliceThickness="1"), "--json")
    [explanation] = json.loads(out)
    assert explanation["rule"] is None
    assert "no rule matches" in explanation["reasons"][-1]


@pytest.mark.parametrize("name", ["ge_head.zip", "ctich_081"])
def test_the_samples_are_explained_or_refused(run, file, name):
    code, out, err = run("node", file, "--explain", SAMPLES / name)
    if name.endswith("zip"):
        assert code == 0
        assert "series 1.2." in out
    else:
        assert code == 3
        assert "contains no DICOM files" in err


def test_what_is_not_there_cannot_be_explained(run, file, tmp_path):
    code, _, err = run("node", file, "--explain", tmp_path / "nothing")
    assert code == 3
    assert "no such file or folder" in err


def test_undelivered_without_a_database_makes_none(run, file, tmp_path, database):
    code, _, err = run("node", file, "--undelivered", "--database", database)
    assert code == 3
    assert "error[not-found]: the database does not exist" in err
    assert not (tmp_path / "node.db").exists()


def test_a_database_that_does_not_answer_is_named_without_its_url(run, file):
    url = f"postgresql://somebody:secret-word@127.0.0.1:{free_port()}/node"
    for arguments in ([], ["--undelivered"]):
        code, _, err = run("node", file, *arguments, "--database", url)
        assert code == 3
        assert "error[not-writable]: the database cannot be opened" in err
        assert "secret-word" not in err


def test_what_waits_is_listed_and_can_be_sent_again(run, file, database, waiting):
    code, out, _ = run("node", file, "--undelivered", "--database", database)
    assert code == 0
    assert out.splitlines()[0].split() == ["id", "state", "kind", "target", "since", "tries", "last", "answer"]
    assert out.splitlines()[1].split()[:4] == [waiting[:8], "waiting", "send", "pacs"]
    listed = json.loads(run("node", file, "--undelivered", "--json", "--database", database)[1])
    assert [row["id"] for row in listed] == [waiting]
    code, _, err = run("node", file, "--resend", waiting[:8], "--database", database)
    assert code == 0
    assert "a running node tries it at once" in err


@pytest.mark.parametrize("key", ["", "abc", "______", "%%%%%%", "deadbeef00", "' OR 1=1 --", "ü" * 8])
def test_a_wrong_id_is_refused(run, file, database, waiting, key):
    code, _, err = run("node", file, "--resend", key, "--database", database)
    assert code == 3
    assert "no undelivered row has this id" in err


def test_a_fresh_database_has_nothing(run, file, database):
    tables.open_database(database).dispose()
    code, out, _ = run("node", file, "--undelivered", "--database", database)
    assert (code, out) == (0, "No delivery waits, and none was given up.\n")


@pytest.fixture
def failed(database):
    """A database with two series: one whose study failed, and one whose study was refused."""
    engine = tables.open_database(database)
    store = StudyStore(engine)
    errors = {"1.2.1": ("failed", StrokesegError("broken", "")), "1.2.2": ("refused", UnreadableFile("letter.txt"))}
    with_defaults = {"study_uid": "1", "sender": "a", "prior": False, "instances": 1, "committed": False}
    with_defaults |= {"first_at": 1.0, "last_at": 1.0, "state": "failed", "version": 1, "rule": "head"}
    for number, (uid, (status, error)) in enumerate(errors.items()):
        study = f"{number}" * 32
        store.add(NewStudy(study, "series", "study.zip", 1, {}, "default", "normal"), "node", None)
        store.record_failure(study, 0, status, error)
        with engine.begin() as connection:
            row = {**with_defaults, "series_uid": uid, "job": study, "why": f"{status}: {error.code}"}
            connection.execute(tables.series_table.insert().values(row))
    engine.dispose()
    return database


def _read_states(url):
    engine = tables.open_database(url)
    with engine.connect() as connection:
        series = dict(connection.execute(select(tables.series_table.c.series_uid, tables.series_table.c.state)).all())
        study = dict(connection.execute(select(studies.c.id, studies.c.status)).all())
    engine.dispose()
    return series, [study[digit * 32] for digit in "01"]


def test_what_failed_is_retried_and_recorded(run, file, failed, tmp_path):
    audit = tmp_path / "audit.jsonl"
    code, out, _ = run("node", file, "--retry", "all", "--json", "--database", failed, "--audit", audit)
    assert code == 0 and [(one["series_uid"], one["study"]) for one in json.loads(out)] == [("1.2.1", "0" * 32)]
    assert _read_states(failed) == ({"1.2.1": "queued", "1.2.2": "failed"}, ["queued", "refused"])
    code, out, err = run("node", file, "--retry", "1.2.2", "--database", failed, "--audit", audit)
    assert code == 0 and "1.2.2" in out and "unreadable" in out and "half a minute" in err
    assert _read_states(failed) == ({"1.2.1": "queued", "1.2.2": "queued"}, ["queued", "queued"])
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [(line["user"], line["action"], line["study"]) for line in lines] == [
        (getpass.getuser(), "retry", digit * 32) for digit in "01"
    ]
    code, out, _ = run("node", file, "--retry", "all", "--database", failed, "--audit", audit)
    assert (code, out) == (0, "No series failed.\n")


@pytest.mark.parametrize("uid", ["1.2.3", "1.2", "", "%"])
def test_a_series_that_did_not_fail_is_not_retried(run, file, failed, tmp_path, uid):
    code, _, err = run("node", file, "--retry", uid, "--database", failed, "--audit", tmp_path / "audit.jsonl")
    assert code == 3 and "no failed series has this UID" in err
    assert _read_states(failed)[0] == {"1.2.1": "failed", "1.2.2": "failed"}


def test_a_retry_that_cannot_be_recorded_is_not_done(run, file, failed, tmp_path):
    code, _, err = run("node", file, "--retry", "all", "--database", failed, "--audit", tmp_path)
    assert code == 3 and "audit log" in err
    assert _read_states(failed)[0] == {"1.2.1": "failed", "1.2.2": "failed"}
