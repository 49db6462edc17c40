import itertools

import pytest
from sqlalchemy import select

from strokeseg.errors import NotDelivered, NotFound
from strokeseg.pacs import database, outbox


@pytest.fixture
def engine(tmp_path):
    made = database.open_database(f"sqlite:///{tmp_path / 'node.db'}")
    yield made
    made.dispose()


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(outbox.time, "time", lambda: now[0])
    return now


def put(engine, target="pacs", version=1, **content):
    with engine.begin() as connection:
        return outbox.enqueue(connection, "send", target, "1.2.3", version, content)


def states(engine):
    with engine.connect() as connection:
        return [
            tuple(row)
            for row in connection.execute(select(database.outbox_table.c.version, database.outbox_table.c.state))
        ]


def never(row, content):
    raise NotDelivered("pacs: does not answer")


def test_what_is_put_in_twice_goes_out_once(engine):
    put(engine, study="a")
    put(engine, study="a")
    gone = []
    for _ in range(3):
        outbox.deliver_due(engine, {"send": lambda row, content: gone.append(content) or content}, keep_days=1)
    assert gone == [{"study": "a"}]


def test_a_failure_is_tried_again_after_growing_pauses(engine, clock):
    put(engine)
    tried = []
    for _ in range(2000):
        if outbox.deliver_due(engine, {"send": never}, keep_days=7):
            tried.append(clock[0])
        clock[0] += 1
    pauses = [round(later - sooner) for sooner, later in itertools.pairwise(tried)]
    assert pauses[:5] == [5, 10, 20, 40, 80]


def test_after_the_days_it_is_dead_and_can_be_sent_again(engine, clock):
    key = put(engine)
    while [state for _, state in states(engine)] == ["waiting"]:
        outbox.deliver_due(engine, {"send": never}, keep_days=1)
        clock[0] += outbox.LONGEST_PAUSE_S
        assert clock[0] < 1000 + 2 * 86400
    assert clock[0] > 1000 + 0.9 * 86400
    [row] = outbox.list_undelivered(engine)
    assert (row["state"], row["error"]) == ("dead", "pacs: does not answer [not-delivered]")
    outbox.retry_now(engine, key[:8])
    outbox.deliver_due(engine, {"send": lambda row, content: content}, keep_days=1)
    assert states(engine) == [(1, "sent")]
    assert outbox.list_undelivered(engine) == []


def test_a_fault_of_ours_stops_nothing(engine, clock):
    put(engine, target="a")
    clock[0] += 1
    put(engine, target="b")
    gone = []

    def way(row, content):
        if row["target"] == "a":
            raise ZeroDivisionError
        gone.append(row["target"])
        return content

    outbox.deliver_due(engine, {"send": way}, keep_days=1)
    assert gone == ["b"]


def test_a_new_version_takes_the_place_of_one_that_waits(engine):
    put(engine, version=1)
    put(engine, version=2)
    assert states(engine) == [(1, "withdrawn"), (2, "waiting")]


def test_an_unfinished_one_goes_on_after_its_pause(engine, clock):
    put(engine)
    seen = []

    def way(row, content):
        seen.append(dict(content))
        return content if "half" in content else {"half": True, outbox.RETRY_AFTER_S: 10}

    for _ in range(30):
        outbox.deliver_due(engine, {"send": way}, keep_days=1)
        clock[0] += 1
    assert seen == [{}, {"half": True}]


def test_what_is_never_finished_is_dead_in_the_end(engine, clock):
    put(engine)
    while [state for _, state in states(engine)] == ["waiting"]:
        outbox.deliver_due(engine, {"send": lambda row, content: {outbox.RETRY_AFTER_S: 3600}}, keep_days=1)
        clock[0] += 3600
        assert clock[0] < 1000 + 2 * 86400
    [row] = outbox.list_undelivered(engine)
    assert (row["state"], row["error"]) == ("dead", "not finished yet")


def test_what_a_receiver_does_not_keep_is_sent_again_with_pauses_and_not_for_ever(engine, clock):
    key = put(engine)
    sent = []
    for _ in range(3000):
        outbox.deliver_due(engine, {"send": lambda row, content: sent.append(clock[0]) or content}, keep_days=1)
        outbox.requeue_sent(engine, key, keep_days=1)
        clock[0] += 60
    assert [state for _, state in states(engine)] == ["dead"]
    assert len(sent) < 40
    assert sent[-1] < 1000 + 86400
    outbox.requeue_sent(engine, "an unknown one", keep_days=1)


def test_one_target_does_not_hold_up_another(engine):
    put(engine, target="a")
    put(engine, target="b")
    gone = []
    way = {"send": lambda row, content: gone.append(row["target"]) or content}
    assert outbox.deliver_due(engine, way, 1, database.outbox_table.c.target == "b") == 1
    assert gone == ["b"]


@pytest.mark.parametrize("key", ["", "abcdef123", "%", "______", "%%%%%%"])
def test_an_unknown_id_is_refused(engine, key):
    put(engine)
    with pytest.raises(NotFound):
        outbox.retry_now(engine, key)
