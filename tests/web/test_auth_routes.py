"""Every route of the real application, as it is today: a new one is in these tests without being named."""

import time

import pytest
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from sqlalchemy import insert

from strokeseg.web import database
from strokeseg.web.app import create_app
from strokeseg.web.auth import tokens
from strokeseg.web.settings import ServerSettings

# Routes without access control, listed here again: opening another one needs a change in two places.
OPEN = {"/", "/static", "/api/v1/openapi.json", "/api/v1/me", "/api/v1/health/live", "/api/v1/health/ready"} | {
    f"/api/v1/auth/{name}" for name in ("session", "logout", "login", "callback")
}
BENS, ALSO_BENS, UPLOAD, COMPARISON, ANNAS = (digit * 32 for digit in "12345")
VALUES = {
    "study_id": BENS,
    "other_id": ALSO_BENS,
    "upload_id": UPLOAD,
    "comparison_id": COMPARISON,
    "index": "0",
    "name": "result.json",
}
OF_SOMEONE = {name for name in VALUES if name.endswith("_id")}
BODIES = {
    "PATCH": {"content": b"x", "headers": {"Upload-Offset": "0", "Content-Type": "application/octet-stream"}},
    "/api/v1/uploads/finish": {"json": {"uploads": [UPLOAD]}},
    "/api/v1/uploads/{upload_id}/finish": {"json": {}},
    "/api/v1/studies/{study_id}/versions": {"content": b"x", "headers": {"Content-Type": "application/octet-stream"}},
}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    (folder / "auth.toml").write_text("[failures]\nmost = 10000\n")
    settings = ServerSettings(
        host="0.0.0.0",
        database=f"sqlite:///{folder / 'server.db'}",
        storage=str(folder / "data"),
        workers=0,
        audit=folder / "audit.jsonl",
        auth_config=folder / "auth.toml",
    )
    made = create_app(settings)
    fill(made.state.context.engine)
    return made


def fill(engine):
    """Two studies of ben and his group, one of anna; an upload and a comparison of ben."""
    now = time.time()
    study = {
        "created": now,
        "changed": now,
        "status": "done",
        "priority": "normal",
        "model": "default",
        "options": "{}",
    }
    more = {"upload": "x.zip", "version": 0, "slices": 3}
    with engine.begin() as connection:
        for name, owner, group in ((BENS, "ben", "unit"), (ALSO_BENS, "ben", "unit"), (ANNAS, "anna", None)):
            row = {**study, **more, "id": name, "name": f"of {owner}", "owner": owner, "group": group}
            connection.execute(insert(database.studies).values(row))
        row = {"id": UPLOAD, "created": now, "owner": "ben", "name": "x.zip", "size": 5, "offset": 0}
        connection.execute(insert(database.uploads).values(row))
        row = {"id": COMPARISON, "created": now, "earlier": BENS, "later": ALSO_BENS, "status": "done"}
        versions = {"earlier_version": 0, "later_version": 0}
        connection.execute(insert(database.comparisons).values({**row, **versions}))


def routes(app):
    """(method, path) of every route that is not meant to be open."""
    for route in iter_route_contexts(app.routes):
        if route.path not in OPEN:
            assert route.path.startswith("/api/v1/"), f"{route.path} lies beside the interface"
            for method in sorted(route.methods):
                yield method, route.path


def call(app, method, path, token=None):
    client = TestClient(app, base_url="http://scans.example.org", raise_server_exceptions=False)
    sent = dict(BODIES.get(path) or BODIES.get(method) or {})
    headers = {**sent.pop("headers", {}), **({"Authorization": f"Bearer {token}"} if token else {})}
    return client.request(method, path.format(**VALUES), headers=headers, **sent)


def check_all(app, token, status, chosen=lambda method, path: True):
    calls = [each for each in routes(app) if chosen(*each)]
    assert calls
    statuses = {each: call(app, *each, token).status_code for each in calls}
    assert {each: code for each, code in statuses.items() if code != status} == {}


def test_no_token_is_refused_everywhere(app):
    assert len(list(routes(app))) > 20
    check_all(app, None, 401)


def test_a_wrong_token_is_refused_everywhere(app):
    check_all(app, "strokeseg_0123456789abcdef_" + "a" * 43, 401)


def test_an_expired_and_a_revoked_token_are_refused_everywhere(app):
    engine = app.state.context.engine
    text, _ = tokens.create_token(engine, "ben", "unit", ["admin"], 1e-9)
    check_all(app, text, 401)
    text, stored = tokens.create_token(engine, "ben", "unit", ["admin"], None)
    tokens.revoke_token(engine, stored.id)
    check_all(app, text, 401)


def test_reading_is_not_writing_anywhere(app):
    reader, _ = tokens.create_token(app.state.context.engine, "ben", "unit", ["read"], 1)
    check_all(app, reader, 403, lambda method, path: method not in ("GET", "HEAD"))


def test_what_is_of_others_is_not_there(app):
    other, _ = tokens.create_token(app.state.context.engine, "anna", "another unit", ["write"], 1)
    check_all(app, other, 404, lambda method, path: any(f"{{{name}}}" in path for name in OF_SOMEONE))
    finish = call(app, "POST", "/api/v1/uploads/finish", other)
    assert finish.status_code == 404
    client = TestClient(app, base_url="http://scans.example.org", headers={"Authorization": f"Bearer {other}"})
    assert [study["id"] for study in client.get("/api/v1/studies").json()["items"]] == [ANNAS]
    assert client.post(f"/api/v1/studies/{ANNAS}/compare/{BENS}").status_code == 404


def test_the_group_sees_what_is_of_the_group(app):
    carl, _ = tokens.create_token(app.state.context.engine, "carl", "unit", ["read"], 1)
    client = TestClient(app, base_url="http://scans.example.org", headers={"Authorization": f"Bearer {carl}"})
    assert {study["id"] for study in client.get("/api/v1/studies").json()["items"]} == {BENS, ALSO_BENS}
    assert client.get(f"/api/v1/studies/{BENS}").json()["owner"] == "ben"
    assert client.get(f"/api/v1/studies/{ANNAS}").status_code == 404


def test_a_session_changes_nothing_without_the_header(app):
    token, _ = tokens.create_token(app.state.context.engine, "anna", None, ["write"], 1)
    client = TestClient(app, base_url="http://scans.example.org")
    client.post("/api/v1/auth/session", json={"token": token}, headers={"X-StrokeSeg": "1"})
    assert client.get("/api/v1/studies").status_code == 200
    for method, path in routes(app):
        if method not in ("GET", "HEAD"):
            assert client.request(method, path.format(**VALUES)).status_code == 403, path
