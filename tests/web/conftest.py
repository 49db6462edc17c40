import pytest
from fastapi.testclient import TestClient

from strokeseg.web.app import create_app
from strokeseg.web.settings import ServerSettings, parse_database_url
from web_process import PostgresServer


@pytest.fixture(scope="session")
def postgres():
    """A private PostgreSQL; `postgres.create_database()` gives an empty database."""
    server = PostgresServer()
    if server.programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'strokeseg.db'}"
    return request.getfixturevalue("postgres").create_database()


@pytest.fixture
def settings(tmp_path):
    """Return a function that creates settings in a temporary folder; named settings are changed."""

    def make(database="", **changes):
        defaults = {
            "database": parse_database_url(database or f"sqlite:///{tmp_path / 'strokeseg.db'}"),
            "storage": str(tmp_path / "data"),
            "audit": tmp_path / "audit.jsonl",
            "workers": 0,
            "threads": 1,
            "lease_s": 3.0,
        }
        return ServerSettings(**{**defaults, **changes})

    return make


@pytest.fixture
def served(settings):
    """Return a function that creates a client of an application in this process; it ends with the test."""
    clients = []

    def make(**changes):
        client = TestClient(
            create_app(settings(**changes)), base_url="http://127.0.0.1/api/v1", raise_server_exceptions=False
        )
        clients.append(client)
        return client.__enter__()

    yield make
    for client in clients:
        client.__exit__(None, None, None)
