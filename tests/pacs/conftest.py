import pytest

from pacs_cases import Port, logging_kept


@pytest.fixture(autouse=True)
def log():
    with logging_kept():
        yield


@pytest.fixture
def port(tmp_path):
    made = Port(tmp_path)
    yield made
    made.stop()
