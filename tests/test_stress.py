"""Short forms of the stress tests; docs/reliability.md has the figures of the long ones."""

import json
import shutil

import pytest

from stress import connections, memory, page, power_cut, stops, surroundings

needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="needs strace (requirements/debian.txt)")


@needs_strace
@pytest.mark.parametrize("name", power_cut.SCENARIOS)
def test_after_a_power_cut_at_any_moment_what_was_promised_is_whole(tmp_path, name):
    counts, faults = power_cut.replay(name, tmp_path)
    assert faults == [] and counts["states"] > 10


@needs_strace
def test_a_program_that_syncs_nothing_is_found_out(tmp_path):
    """A rename that is kept before the bytes of the file, and one that is lost after success was reported."""
    counts, _ = power_cut.replay("careless", tmp_path, power_cut.Careless())
    assert counts["faults"] >= 2


def test_a_power_cut_keeps_what_was_synced_and_the_order_of_each_folder(tmp_path):
    """Written by hand: a file is synced, renamed, and its folder synced; then another is created beside it."""
    (tmp_path / "a").mkdir()
    disk = power_cut.Disk(tmp_path)
    for kind, paths, data in (
        ("create", ["a/x"], b""), ("write", ["a/x"], b"1234"), ("sync", ["a/x"], b""), ("rename", ["a/x", "a/y"], b""),
        ("sync", ["a"], b""), ("create", ["a/z"], b""), ("write", ["a/z"], b"56"),
    ):  # fmt: skip
        disk.apply(power_cut.Operation(kind, paths, data))
    states = {tuple(sorted((path, content) for path, content in state.items() if content is not None))
              for state in disk.list_states()}  # fmt: skip
    kept = ("a/y", b"1234")
    assert states == {(kept,), (kept, ("a/z", b"")), (kept, ("a/z", b"5")), (kept, ("a/z", b"56"))}


@pytest.mark.slow
def test_stops_of_every_process_lose_nothing():
    for row in stops.run(4, log=lambda text: None):
        assert (row["lost"], row["twice"], row["half"]) == (0, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("slow", [False, True])
def test_another_users_study_is_done_beside_many_connections(slow):
    assert connections.attack(60, slow)["study"] == "done"


@pytest.mark.slow
def test_the_memory_stays_bounded_whatever_is_sent_without_a_token():
    assert all(row["peak_mb"] < memory.LIMIT_MB for row in memory.run(60, log=lambda text: None))


@pytest.mark.slow
@pytest.mark.skipif(
    not surroundings.can_unshare("--mount"),
    reason="this system permits no mount namespace",
)
def test_a_full_disk_loses_nothing(tmp_path):
    row = surroundings.fill_disk(tmp_path)
    assert (row["before"], row["an_upload_meanwhile"], row["afterwards"], row["studies_whole"]) == (
        "done",
        507,
        "done",
        2,
    )


@pytest.mark.slow
def test_a_clock_that_is_set_back_stops_nothing(tmp_path):
    assert set(surroundings.set_clock_back(tmp_path).values()) == {"clock set back", "done"}


@pytest.mark.slow
@pytest.mark.skipif(
    not surroundings.can_unshare("--pid", "--fork", "--mount-proc"),
    reason="this system permits no process namespace",
)
def test_a_second_container_takes_nothing_from_the_first(tmp_path):
    row = surroundings.share_storage(tmp_path)
    assert set(row["studies"]) == {"done"} and row["upload_afterwards"] == 201


def test_the_page_is_that_of_the_stored_figures():
    """`cd tests && python -m stress page` writes it again."""
    assert page.PAGE.read_text() == page.render(json.loads(page.FIGURES.read_text()))
