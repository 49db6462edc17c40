"""Messages of other packages, which may quote a patient's value, reach no stream, with any number of threads."""

import logging
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from pydicom.misc import warn_and_log

from phantoms import head_series
from strokeseg.library_output import silence_libraries
from strokeseg.reading import read_one

NAMES = ("pydicom", "nibabel", "nibabel.global", "PIL", "PIL.PngImagePlugin")


@pytest.fixture
def shown(caplog):
    """Collect every warning and log record of the process."""
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield lambda: [str(each.message) for each in caught] + [record.getMessage() for record in caplog.records]


def test_two_contexts_that_overlap_leave_the_loggers_as_they_were(shown):
    levels = [logging.getLogger(name).level for name in NAMES]
    first, second = ExitStack(), ExitStack()
    threads = [ThreadPoolExecutor(1), ThreadPoolExecutor(1)]
    try:
        threads[0].submit(lambda: first.enter_context(silence_libraries())).result()
        threads[1].submit(lambda: second.enter_context(silence_libraries())).result()
        threads[0].submit(first.close).result()
        threads[1].submit(warn_and_log, "SECRET of the second").result()
        for name in NAMES:
            threads[1].submit(logging.getLogger(name).error, "SECRET of a logger").result()
        assert [text for text in shown() if "SECRET" in text] == []
        threads[1].submit(second.close).result()
    finally:
        for thread in threads:
            thread.shutdown()
    assert [logging.getLogger(name).level for name in NAMES] == levels
    warn_and_log("after both")
    assert shown().count("after both") == 2  # the warning and the log record


def test_other_threads_keep_their_messages(shown):
    with silence_libraries(), ThreadPoolExecutor(1) as other:
        other.submit(warn_and_log, "of another thread").result()
    assert shown().count("of another thread") == 2  # the warning and the log record


def test_a_filter_of_the_caller_does_not_bring_them_back(shown):
    with silence_libraries():
        pass
    warnings.simplefilter("always")
    with silence_libraries():
        warn_and_log("SECRET")
    assert "SECRET" not in "".join(shown())


def test_eight_threads_that_read_at_once_show_nothing(tmp_path, capfd, shown):
    slices = head_series.make_datasets(head_series.Geometry(z_mm=tuple(range(-48, 60, 6))))
    with warnings.catch_warnings(action="ignore"):
        for data in slices:
            data.StudyDate = "SECRET-DATE-OF-NO-FORM"
            data.SOPInstanceUID = f"SECRET_{data.InstanceNumber}"
        head_series.write_series(tmp_path, slices)
    levels = [logging.getLogger(name).level for name in NAMES]
    earlier, barrier = len(shown()), threading.Barrier(8)
    capfd.readouterr()

    def read(_):
        barrier.wait()
        return [read_one(tmp_path).shape for _ in range(3)]

    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(read, range(8)))) == 8
    assert shown()[earlier:] == [] and capfd.readouterr() == ("", "")
    assert [logging.getLogger(name).level for name in NAMES] == levels
