"""The child processes that do the steps of a study, and what is left of one that was given up."""

import json
import multiprocessing

import pytest

from strokeseg.errors import StrokesegError
from strokeseg.web import worker
from strokeseg.web.worker_pool import StepCancelled, WorkerDied, WorkerPool, WorkInterrupted
from web_process import PICTURES

pytestmark = pytest.mark.slow
OPTIONS = {"window": (40.0, 120.0), "spacing_mm": (5.0, 0.45, 0.45), "series": None}


@pytest.fixture
def pool():
    made = WorkerPool(1, 8 * 2**30, "fast")
    yield made
    made.close()


@pytest.fixture
def scan(tmp_path, pool):
    upload, out = tmp_path / "upload", tmp_path / "scan"
    upload.mkdir()
    out.mkdir()
    for path in PICTURES[:12]:
        (upload / path.name).write_bytes(path.read_bytes())
    assert pool.run(worker.read, str(upload), str(out), OPTIONS) == 12
    return str(out)


def segment(pool, scan, out, model="fast", **how):
    out.mkdir()
    pool.run(worker.segment, scan, str(out), model, 1, {}, **how)
    return sorted(path.name for path in out.iterdir())


def test_a_step_given_up_by_its_caller_leaves_no_answer_for_the_next(tmp_path, pool, scan):
    """Such as when the database fails during a progress report: the next step must not receive its result."""

    def away(*_):
        raise RuntimeError("away")

    with pytest.raises(RuntimeError, match="away"):
        segment(pool, scan, tmp_path / "first", progress=away)
    reported = []
    made = segment(pool, scan, tmp_path / "second", progress=lambda done, total: reported.append(done))
    assert made and reported == list(range(1, 13))
    assert list((tmp_path / "first").iterdir()) == []


def test_a_step_that_tells_its_progress_is_stopped_in_the_middle(tmp_path, pool, scan):
    reported = []
    with pytest.raises(StepCancelled):
        segment(
            pool,
            scan,
            tmp_path / "out",
            model="default",  # slower than the pool looks whether a step was cancelled
            progress=lambda done, total: reported.append(done),
            is_cancelled=lambda: bool(reported),
        )
    assert reported and reported[-1] < 12
    assert segment(pool, scan, tmp_path / "again")


def test_a_step_beyond_its_time_is_ended(tmp_path, pool, scan):
    with pytest.raises(WorkerDied, match="longer than 0 s"):
        segment(pool, scan, tmp_path / "out", timeout_s=0.0)
    assert segment(pool, scan, tmp_path / "again")


def test_a_closed_pool_interrupts_its_step_and_starts_no_other(tmp_path, pool, scan):
    """The interruption is no Exception: DBOS would store one as the outcome of the step."""
    with pytest.raises(WorkInterrupted):
        segment(pool, scan, tmp_path / "out", progress=lambda done, total: pool.close())
    with pytest.raises(WorkInterrupted):
        segment(pool, scan, tmp_path / "again")
    assert not issubclass(WorkInterrupted, Exception)
    assert not any(process.name == "strokeseg-step" for process in multiprocessing.active_children())


def test_an_error_of_a_step_comes_as_itself_and_its_child_goes_on(tmp_path, pool, scan):
    empty, out = tmp_path / "empty", tmp_path / "out"
    empty.mkdir()
    out.mkdir()
    with pytest.raises(StrokesegError) as caught:
        pool.run(worker.read, str(empty), str(out), OPTIONS)
    assert caught.value.remedy and not isinstance(caught.value, WorkerDied)
    assert segment(pool, scan, tmp_path / "again")


class Unreadable:
    """An argument that cannot be received: the error quotes a value."""

    def __reduce__(self):
        return int, ("Doe^Jane",)


def test_a_worker_process_that_fails_says_where_and_not_with_which_value(capfd):
    pool = WorkerPool(1, 8 * 2**30, "none")
    try:
        with pytest.raises(WorkerDied):
            pool.run(worker.read, Unreadable())
    finally:
        pool.close()
    shown = capfd.readouterr().err
    assert "Doe" not in shown and "Traceback" not in shown
    lines = [json.loads(line) for line in shown.splitlines()]
    assert [line["message"] for line in lines if "ValueError" in line["message"]]
