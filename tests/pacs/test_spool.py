"""Store, delete and count instances, without a network."""

import pytest
from sqlalchemy import select, update

from node_cases import ImmediateJobs, make_settings
from phantoms import head_series
from strokeseg.pacs import database, outbox, priors
from strokeseg.pacs.completion import OpenAssociations
from strokeseg.pacs.job_queue import JobState
from strokeseg.pacs.series_processing import SeriesProcessor
from strokeseg.pacs.spool import ReceivedInstance, Spool, read_expected_count

DAY = 86400.0


class Jobs(ImmediateJobs):
    """Accepts every series except those whose name contains `broken`."""

    def submit(self, key, name, files, *, model, urgent, formats, decision):
        if "broken" in name:
            raise RuntimeError("SECRET^NAME")
        for path in files:
            path.read_bytes()
        return self.keys.setdefault(key, f"study-{len(self.keys) + 1}")

    def read_state(self, study):
        return JobState("done")


@pytest.fixture
def spool(tmp_path):
    spool = Spool(tmp_path / "spool", database.open_database(f"sqlite:///{tmp_path / 'node.db'}"))
    yield spool
    spool.engine.dispose()


@pytest.fixture
def processor(tmp_path, spool):
    settings = make_settings(tmp_path, rule=[{"name": "all"}], node={"keep_series_days": 3})
    return SeriesProcessor(settings, spool, OpenAssociations(), Jobs(tmp_path / "jobs"))


def instance(series="1.2.3", number=1, content=b"a", prior=False, **values):
    data = head_series.Dataset()
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"{series}.{number}"
    data.SeriesInstanceUID, data.StudyInstanceUID = series, "1.2"
    for name, value in values.items():
        setattr(data, name, value)
    return ReceivedInstance(content, data, "modality", prior)


def rows(spool, table=database.series_table):
    with spool.engine.connect() as connection:
        return {row["series_uid"]: row for row in connection.execute(select(table)).mappings()}


def make_readable(spool):
    """Replace every file by one with a readable header."""
    for path in spool.folder.rglob("*.dcm"):
        head_series.write(head_series.make_datasets(head_series.Geometry(z_mm=(0.0,), shape=(8, 8)))[0], path)


def test_a_prior_that_somebody_sends_later_is_work_from_its_beginning(spool, processor):
    assert spool.store(instance(prior=True)) == "new"
    make_readable(spool)
    processor.process_due()
    processor.process_due()
    assert (rows(spool)["1.2.3"]["prior"], rows(spool)["1.2.3"]["state"]) == (True, "done")
    assert spool.store(instance(prior=True)) == "same"
    assert rows(spool)["1.2.3"]["state"] == "done"
    assert spool.store(instance()) == "same"
    row = rows(spool)["1.2.3"]
    assert (row["prior"], row["state"], row["version"], row["instances"]) == (False, "open", 0, 1)
    processor.process_due()
    processor.process_due()
    row = rows(spool)["1.2.3"]
    assert (row["state"], row["version"], row["job"]) == ("done", 1, "study-1")
    assert spool.store(instance()) == "same"
    assert rows(spool)["1.2.3"]["state"] == "done"


def test_one_series_that_cannot_be_handed_on_does_not_hold_up_the_others(spool, processor, caplog):
    spool.store(instance("1.2.broken"))
    spool.store(instance("1.2.4"))
    make_readable(spool)
    processor.process_due()
    processor.process_due()
    assert {uid: row["state"] for uid, row in rows(spool).items()} == {"1.2.broken": "open", "1.2.4": "done"}
    lines = [record.getMessage() for record in caplog.records if record.name == "strokeseg.node"]
    lines = [line for line in lines if "1.2.broken" in line]
    assert len(lines) == 1, "the series is paused"
    assert "SECRET" not in " ".join(lines)


def test_a_file_that_is_gone_leaves_its_series_open_and_the_others_go_on(spool, processor):
    for uid in ("1.2.5", "1.2.6"):
        spool.store(instance(uid))
    make_readable(spool)
    [missing] = spool.list_files("1.2.5")
    missing.unlink()
    processor.process_due()
    processor.process_due()
    assert {uid: row["state"] for uid, row in rows(spool).items()} == {"1.2.5": "open", "1.2.6": "done"}


def test_the_key_is_of_the_very_files_that_are_handed_on(spool):
    spool.store(instance(number=1))
    files, first = spool.list_files_and_key("1.2.3")
    spool.store(instance(number=2))
    more, second = spool.list_files_and_key("1.2.3")
    assert (len(files), len(more)) == (1, 2)
    assert first != second
    assert spool.list_files_and_key("1.2.3") == (more, second)


def test_only_ended_and_delivered_series_of_long_ago_are_forgotten(spool, processor):
    uids = {"old": "1.1", "open": "1.2", "undelivered": "1.3", "new": "1.4", "failed": "1.5"}
    for uid in uids.values():
        spool.store(instance(uid))
    with spool.engine.begin() as connection:
        every = update(database.series_table)
        connection.execute(every.values(state="done", last_at=database.series_table.c.last_at - 4 * DAY))
        for name, change in (("open", {"state": "open"}), ("failed", {"state": "failed"})):
            connection.execute(every.where(database.series_table.c.series_uid == uids[name]).values(change))
        late = every.where(database.series_table.c.series_uid == uids["new"])
        connection.execute(late.values(last_at=database.series_table.c.last_at + 3 * DAY))
        outbox.enqueue(connection, "send", "pacs", uids["undelivered"], 1, {})
        outbox.enqueue(connection, "send", "pacs", uids["old"], 1, {})
        sent = update(database.outbox_table).where(database.outbox_table.c.series_uid == uids["old"])
        connection.execute(sent.values(state="sent", next_at=database.outbox_table.c.next_at - 4 * DAY))
    processor.delete_expired()
    assert set(rows(spool)) == {uids[name] for name in ("open", "undelivered", "new")}
    assert {row["series_uid"] for row in rows(spool, database.instances_table).values()} == set(rows(spool))
    assert len(list(spool.folder.rglob("*.dcm"))) == 3
    assert set(rows(spool, database.outbox_table)) == {uids["undelivered"]}
    assert spool.store(instance(uids["old"])) == "new"


def test_nothing_is_forgotten_where_nothing_is_said(tmp_path, spool):
    spool.store(instance())
    with spool.engine.begin() as connection:
        connection.execute(update(database.series_table).values(state="done", last_at=0.0))
    SeriesProcessor(make_settings(tmp_path), spool, OpenAssociations(), Jobs(tmp_path)).delete_expired()
    assert set(rows(spool)) == {"1.2.3"}


def test_a_series_that_opened_again_meanwhile_is_not_forgotten(spool):
    spool.store(instance())
    spool.delete_series("1.2.3")
    assert set(rows(spool)) == {"1.2.3"}
    assert len(spool.list_files("1.2.3")) == 1


@pytest.mark.parametrize(("stated", "expected"), [("30", 30), ("0", None), ("-3", None), ("99999999999", None)])
def test_a_count_that_cannot_be_is_none(stated, expected):
    header = head_series.Dataset()
    header.NumberOfSeriesRelatedInstances = stated
    assert read_expected_count(header) == expected


def row(study, date, time, series="1", **values):
    row = head_series.Dataset()
    row.StudyInstanceUID, row.SeriesInstanceUID, row.PatientID = study, f"{study}.{series}", "P1"
    row.StudyDate, row.StudyTime, row.SeriesDescription = date, time, "Head"
    row.NumberOfSeriesRelatedInstances = "30"
    for name, value in values.items():
        setattr(row, name, value)
    return row


@pytest.mark.parametrize(
    ("archive_rows", "prior"),
    [
        ([row("2", "20240101", "080000"), row("3", "20240101", "120000")], "2.1"),
        ([row("3", "20240101", "120000")], None),
        ([row("3", "20240101", "")], None),
        ([row("2", "20231231", ""), row("4", "20240102", "080000")], "2.1"),
        ([row("1", "20231231", "080000")], None),  # the study itself
        ([row("2", "20231231", "080000", PatientID="P2")], None),
        ([row("2", "", "")], None),
    ],
)
def test_only_an_earlier_study_of_the_patient_is_a_prior(tmp_path, spool, monkeypatch, archive_rows, prior):
    """The current scan is of 10:00 on 2024-01-01. The priors are stored already, so nothing is fetched."""
    for series in archive_rows:
        for number in range(30):
            spool.store(instance(str(series.SeriesInstanceUID), number))
    peer = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 9, "use": "move"}
    monkeypatch.setattr(priors, "_find_series", lambda settings, archive, keys: archive_rows)
    current = row("1", "20240101", "100000")
    assert priors.fetch_prior(make_settings(tmp_path, peer=[peer]), current, set(), spool) == prior
