import pytest

from node_cases import ListeningScp, preserve_logging


@pytest.fixture(autouse=True)
def log():
    with preserve_logging():
        yield


@pytest.fixture
def port(tmp_path):
    scp = ListeningScp(tmp_path)
    yield scp
    scp.stop()
