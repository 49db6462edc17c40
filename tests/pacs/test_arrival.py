from strokeseg.pacs.completion import OpenAssociations, SeriesProgress, find_completion_reason


def ask(instances, expected=None, committed=False, silence_s=0.0, is_arriving=False):
    return find_completion_reason(
        SeriesProgress(instances, expected, committed, 100.0), is_arriving, 100.0 + silence_s, quiet_s=60, settle_s=5
    )


def test_the_senders_count_ends_the_wait_at_once():
    assert ask(30, expected=30, is_arriving=True) == "count"


def test_no_count_and_an_open_association_wait_for_quiet():
    assert ask(30, silence_s=59, is_arriving=True) is None
    assert ask(30, silence_s=60, is_arriving=True) == "quiet"


def test_an_ended_association_settles_first():
    assert ask(30, silence_s=4.9) is None
    assert ask(30, silence_s=5) == "association ended"


def test_a_request_for_commitment_ends_the_wait_when_its_association_is_over():
    assert ask(30, committed=True, is_arriving=True) is None
    assert ask(30, committed=True) == "commitment"


def test_missing_instances_are_waited_for_and_then_named():
    assert ask(28, expected=30, committed=True, silence_s=59) is None
    assert ask(28, expected=30, silence_s=60) == "quiet, 28 of 30 instances"


def test_more_than_was_said_settles_first_since_more_may_come():
    assert ask(31, expected=30, silence_s=1) is None
    assert ask(31, expected=30, silence_s=5) == "count exceeded"


def test_an_association_carries_its_series_until_it_ends():
    associations = OpenAssociations()
    associations.add(1, "a")
    associations.add(1, "b")
    associations.add(2, "b")
    assert associations.list_series() == {"a", "b"}
    associations.remove(1)
    assert associations.list_series() == {"b"}
    associations.remove(2)
    associations.remove(2)
    assert associations.list_series() == set()
