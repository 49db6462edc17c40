import itertools

import pytest
from sqlalchemy import select

from strokeseg.errors import NotDelivered, NotFound
from strokeseg.pacs import database, outbox


@pytest.fixture
def engine(tmp_path):
    engine = database.open_database(f"sqlite:///{tmp_path / 'node.db'}")
    yield engine
    engine.dispose()


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(outbox.time, "time", lambda: now[0])
    return now


def enqueue(engine, target="pacs", version=1, **content):
    with engine.begin() as connection:
        return outbox.enqueue(connection, "send", target, "1.2.3", version, content)


def states(engine):
    with engine.connect() as connection:
        return [
            tuple(row)
            for row in connection.execute(select(database.outbox_table.c.version, database.outbox_table.c.state))
        ]


def fail(row, content):
    raise NotDelivered("pacs: does not answer")


def test_what_is_put_in_twice_goes_out_once(engine):
    enqueue(engine, study="a")
    enqueue(engine, study="a")
    delivered = []
    for _ in range(3):
        outbox.deliver_due(engine, {"send": lambda row, content: delivered.append(content) or content}, keep_days=1)
    assert delivered == [{"study": "a"}]


def test_a_failure_is_tried_again_after_growing_pauses(engine, clock):
    enqueue(engine)
    tried = []
    for _ in range(2000):
        if outbox.deliver_due(engine, {"send": fail}, keep_days=7):
            tried.append(clock[0])
        clock[0] += 1
    pauses = [round(later - earlier) for earlier, later in itertools.pairwise(tried)]
    assert pauses[:5] == [5, 10, 20, 40, 80]


def test_after_the_days_it_is_dead_and_can_be_sent_again(engine, clock):
    row_id = enqueue(engine)
    while [state for _, state in states(engine)] == ["waiting"]:
        outbox.deliver_due(engine, {"send": fail}, keep_days=1)
        clock[0] += outbox.LONGEST_PAUSE_S
        assert clock[0] < 1000 + 2 * 86400
    assert clock[0] > 1000 + 0.9 * 86400
    [row] = outbox.list_undelivered(engine)
    assert (row["state"], row["error"]) == ("dead", "pacs: does not answer [not-delivered]")
    outbox.retry_now(engine, row_id[:8])
    outbox.deliver_due(engine, {"send": lambda row, content: content}, keep_days=1)
    assert states(engine) == [(1, "sent")]
    assert outbox.list_undelivered(engine) == []


def test_a_fault_of_ours_stops_nothing(engine, clock):
    enqueue(engine, target="a")
    clock[0] += 1
    enqueue(engine, target="b")
    delivered = []

    def deliver(row, content):
        if row["target"] == "a":
            raise ZeroDivisionError
        delivered.append(row["target"])
        return content

    outbox.deliver_due(engine, {"send": deliver}, keep_days=1)
    assert delivered == ["b"]


def test_a_new_version_takes_the_place_of_one_that_waits(engine):
    enqueue(engine, version=1)
    enqueue(engine, version=2)
    assert states(engine) == [(1, "withdrawn"), (2, "waiting")]


def test_an_unfinished_one_goes_on_after_its_pause(engine, clock):
    enqueue(engine)
    seen = []

    def deliver(row, content):
        seen.append(dict(content))
        return content if "half" in content else {"half": True, outbox.RETRY_AFTER_S: 10}

    for _ in range(30):
        outbox.deliver_due(engine, {"send": deliver}, keep_days=1)
        clock[0] += 1
    assert seen == [{}, {"half": True}]


def test_what_is_never_finished_is_dead_in_the_end(engine, clock):
    enqueue(engine)
    while [state for _, state in states(engine)] == ["waiting"]:
        outbox.deliver_due(engine, {"send": lambda row, content: {outbox.RETRY_AFTER_S: 3600}}, keep_days=1)
        clock[0] += 3600
        assert clock[0] < 1000 + 2 * 86400
    [row] = outbox.list_undelivered(engine)
    assert (row["state"], row["error"]) == ("dead", "not finished yet")


def test_what_a_receiver_does_not_keep_is_sent_again_with_pauses_and_not_for_ever(engine, clock):
    row_id = enqueue(engine)
    sent = []
    for _ in range(3000):
        outbox.deliver_due(engine, {"send": lambda row, content: sent.append(clock[0]) or content}, keep_days=1)
        outbox.requeue_sent(engine, row_id, keep_days=1)
        clock[0] += 60
    assert [state for _, state in states(engine)] == ["dead"]
    assert len(sent) < 40
    assert sent[-1] < 1000 + 86400
    outbox.requeue_sent(engine, "an unknown one", keep_days=1)


def test_one_target_does_not_hold_up_another(engine):
    enqueue(engine, target="a")
    enqueue(engine, target="b")
    delivered = []
    functions = {"send": lambda row, content: delivered.append(row["target"]) or content}
    assert outbox.deliver_due(engine, functions, 1, database.outbox_table.c.target == "b") == 1
    assert delivered == ["b"]


@pytest.mark.parametrize("row_id", ["", "abcdef123", "%", "______", "%%%%%%"])
def test_an_unknown_id_is_refused(engine, row_id):
    enqueue(engine)
    with pytest.raises(NotFound):
        outbox.retry_now(engine, row_id)
