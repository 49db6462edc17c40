import hashlib
import sqlite3
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI

from sign_in_cases import HOST, GuardedServer
from strokeseg.errors import UsageError
from strokeseg.web import auth
from strokeseg.web.auth import rate_limit, tokens

STUDY, STUDIES = "/api/v1/studies/0af3", "/api/v1/studies"
OURS = {"X-StrokeSeg": "1"}


@pytest.fixture
def server(tmp_path):
    return GuardedServer(tmp_path)


def signed_in(server, token, url=HOST):
    client = server.create_client(url=url)
    answer = client.post("/api/v1/auth/session", json={"token": token}, headers=OURS)
    assert answer.status_code == 204
    return client, answer.headers["set-cookie"]


def test_off_only_where_nobody_else_can_ask(tmp_path):
    alone = GuardedServer(tmp_path, is_loopback=True)
    assert alone.guard.mode == "off"
    assert alone.create_client().get(STUDY).json() == {
        "user": "local",
        "group": None,
        "scopes": ["admin", "read", "write"],
    }
    for more in (
        {},
        {"is_loopback": True, "base_path": "/sub"},
        {"is_loopback": True, "trusted_proxies": ("10.0.0.1",)},
    ):
        guarded = GuardedServer(tmp_path, **more)
        assert guarded.guard.mode == "token"
        assert guarded.create_client().get(STUDY).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example:8000"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "["},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"X-Forwarded-For": "203.0.113.7"},
        {"Forwarded": "for=203.0.113.7"},
    ],
)
def test_off_lets_no_other_site_and_no_proxy_in(tmp_path, headers):
    client = GuardedServer(tmp_path, is_loopback=True).create_client()
    answer = client.get(STUDY, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["code"] == "unauthorized"
    assert answer.headers["content-type"] == "application/problem+json"
    assert client.get(STUDY, headers={"Origin": HOST}).status_code == 200


def test_a_token_opens_what_its_scope_says_and_no_more(server):
    calls = [("GET", STUDY), ("POST", STUDIES), ("DELETE", STUDY)]
    opened = {"read": [200, 403, 403], "write": [200, 200, 403], "admin": [200, 200, 200]}
    for scope, expected in opened.items():
        client = server.create_client(server.create_token(scope=scope))
        assert [client.request(*call).status_code for call in calls] == expected
    refusal = server.create_client(server.create_token(scope="read")).post(STUDIES)
    assert 'scope="write"' in refusal.headers["www-authenticate"]


def test_what_is_wrong_is_refused(server):
    right = server.create_token()
    public, hidden = right.removeprefix("strokeseg_").split("_", 1)
    wrong = [
        "x", "", "strokeseg_", f"strokeseg_{public}_{hidden[:-1]}", f"strokeseg_{public}_{hidden[::-1]}",
        f"strokeseg_{'0' * 16}_{hidden}", right.upper(), f"{right}\u00e9".encode().decode("latin-1"), "a" * 5000,
    ]  # fmt: skip
    client = server.create_client()
    assert client.get(STUDY).headers["www-authenticate"] == "Bearer"
    for text in wrong:
        answer = client.get(STUDY, headers={"Authorization": f"Bearer {text}".encode("latin-1", "replace")})
        assert answer.status_code == 401, text
        assert answer.json()["type"] == "urn:strokeseg:error:unauthorized"
    assert client.get(STUDY, headers={"Authorization": f"Basic {right}"}).status_code == 401
    assert client.get(STUDY, headers={"Authorization": f"bearer {right}"}).json()["user"] == "anna"


def test_expired_and_revoked_open_nothing(server, monkeypatch):
    text, stored = tokens.create_token(server.engine, "anna", None, ["read"], 1)
    client = server.create_client(text)
    assert client.get(STUDY).status_code == 200
    now = tokens.time.time()
    monkeypatch.setattr(tokens.time, "time", lambda: now + 86_401)
    assert client.get(STUDY).status_code == 401
    monkeypatch.undo()
    page, _ = signed_in(server, text)
    assert page.get(STUDY).status_code == 200
    tokens.revoke_token(server.engine, stored.id)
    assert client.get(STUDY).status_code == 401
    assert page.get(STUDY).status_code == 401, "its session ends with it"
    assert [token.state for token in tokens.list_tokens(server.engine)] == ["revoked"]


def test_nothing_that_opens_is_stored(server, tmp_path):
    text = server.create_token()
    client, _ = signed_in(server, text)
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    hidden = text.rsplit("_", 1)[1] if text.count("_") == 2 else text[len("strokeseg_") + 17 :]
    assert len(hidden) == 43
    assert hidden.encode() not in stored
    assert client.cookies["strokeseg_session"].encode() not in stored
    with sqlite3.connect(tmp_path / "server.db") as database:
        assert (
            database.execute("select hash from serve_tokens").fetchone()[0]
            == hashlib.sha256(hidden.encode()).hexdigest()
        )


def test_a_session_is_for_the_page_alone(server):
    client, cookie = signed_in(server, server.create_token())
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert "secure" not in cookie.lower()
    _, cookie = signed_in(server, server.create_token(), "https://example.org")
    assert "; Secure" in cookie
    assert client.get(STUDY).json()["user"] == "anna"
    assert client.post(STUDIES).status_code == 403
    assert client.post(STUDIES, headers={"X-StrokeSeg": "0"}).status_code == 403
    assert client.post(STUDIES, headers=OURS).status_code == 200
    value = client.cookies["strokeseg_session"]
    assert client.post("/api/v1/auth/logout").status_code == 403
    assert client.post("/api/v1/auth/logout", headers=OURS).status_code == 204
    again = server.create_client(cookies={"strokeseg_session": value})
    assert again.get(STUDY).status_code == 401, "the cookie is dead, not only forgotten"


def test_a_session_lasts_no_longer_than_said(server, monkeypatch):
    client, _ = signed_in(server, server.create_token(days=0.25))
    now = tokens.time.time()
    monkeypatch.setattr(tokens.time, "time", lambda: now + 6 * 3600 - 5)
    assert client.get(STUDY).status_code == 200
    monkeypatch.setattr(tokens.time, "time", lambda: now + 6 * 3600 + 5)
    assert client.get(STUDY).status_code == 401


def test_another_site_cannot_sign_someone_in_or_change_anything(server):
    token = server.create_token()
    assert server.create_client().post("/api/v1/auth/session", json={"token": token}).status_code == 403
    for site in ("cross-site", "same-site"):
        answer = server.create_client(token).post(STUDIES, headers={"Sec-Fetch-Site": site})
        assert answer.status_code == 403
    assert server.create_client(token).post(STUDIES, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_wrong_tokens_are_slowed_down_and_right_ones_are_not(tmp_path):
    server = GuardedServer(tmp_path, "[failures]\nmost = 3\nwindow_s = 60")
    right = server.create_client(server.create_token())
    statuses = [server.create_client("wrong").get(STUDY).status_code for _ in range(5)]
    assert statuses == [401, 401, 401, 429, 429]
    answer = server.create_client().post("/api/v1/auth/session", json={"token": "wrong"}, headers=OURS)
    assert (answer.status_code, answer.json()["code"]) == (429, "busy")
    assert 1 <= int(answer.headers["retry-after"]) <= 61
    assert right.get(STUDY).status_code == 200
    assert len(server.read_audit_log()) == 3, "what is slowed down does not fill the log"


def test_failures_are_forgotten_and_their_table_is_bounded(server, monkeypatch):
    monkeypatch.setattr(rate_limit, "_MAX_ADDRESSES", 5)
    assert [rate_limit.record_failure(server.engine, "192.0.2.1", 60)[0] for _ in range(3)] == [1, 2, 3]
    # One customer has 2^64 addresses of IPv6.
    assert [rate_limit.record_failure(server.engine, f"2001:db8::{n}", 60)[0] for n in (1, 2)] == [1, 2]
    assert rate_limit.record_failure(server.engine, "::ffff:192.0.2.1", 60)[0] == 4
    for n in range(20):
        rate_limit.record_failure(server.engine, f"198.51.100.{n}", 60)
    with server.engine.connect() as connection:
        assert connection.exec_driver_sql("select count(*) from serve_failures").scalar() == 5
    now = rate_limit.time.time()
    monkeypatch.setattr(rate_limit.time, "time", lambda: now + 61)
    assert rate_limit.record_failure(server.engine, "198.51.100.19", 60)[0] == 1


def test_two_workers_count_together(tmp_path):
    rules = "[failures]\nmost = 1"
    first, second = GuardedServer(tmp_path, rules), GuardedServer(tmp_path, rules)
    assert first.create_client("wrong").get(STUDY).status_code == 401
    assert second.create_client("wrong").get(STUDY).status_code == 429


def test_everyone_sees_their_own_and_their_groups_studies():
    anna = auth.User("anna", "unit", frozenset({"read", "write"}))
    assert anna.can_see("anna", None)
    assert anna.can_see("ben", "unit")
    assert not anna.can_see("ben", "other")
    assert not anna.can_see("ben", None)
    alone = auth.User("carl", None, frozenset({"read"}))
    assert not alone.can_see("ben", None), "no group is not a group"
    assert auth.User("dora", None, frozenset({"admin"})).can_see("ben", "other")


@pytest.mark.parametrize("path", ["/", STUDY, "/api/v1/me", "/nothing"])
def test_every_answer_says_what_the_browser_may_do(server, path):
    headers = server.create_client().get(path, headers={"Origin": "https://evil.example"}).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert "unsafe" not in headers["content-security-policy"] and "http" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "camera=()" in headers["permissions-policy"]
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert not [name for name in headers if name.startswith("access-control-")], "no other site may read"
    assert "strict-transport-security" not in headers
    assert "strict-transport-security" in server.create_client(url="https://example.org").get(path).headers


def test_no_other_site_is_allowed_to_ask(server):
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = server.create_client().options(STUDIES, headers=headers)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_a_route_that_asks_for_no_scope_stops_the_server(server):
    app = FastAPI()

    @app.get("/api/v1/guarded")
    def guarded(user: Annotated[auth.User, Depends(auth.RequireScope("read"))]): ...

    @app.get("/api/v1/forgotten/{id}")
    def forgotten(id: str): ...

    deeper = APIRouter()

    @deeper.get("/deeper")
    def deeper_route(): ...

    app.include_router(deeper, prefix="/api/v1")
    with pytest.raises(RuntimeError) as caught:
        auth.protect(app, server.guard)
    assert str(caught.value).endswith(": /api/v1/deeper, /api/v1/forgotten/{id}")


def test_the_openapi_document_says_how_to_get_in(server):
    document = server.app.openapi()
    kinds = {scheme["type"] for scheme in document["components"]["securitySchemes"].values()}
    assert kinds == {"http", "apiKey"}
    assert document["paths"]["/api/v1/studies"]["post"]["security"]
    assert "security" not in document["paths"]["/api/v1/me"]["get"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[failures]\nmost = 0", "failures.most"),
        ("nothing = 1", "nothing"),
        ("[oidc", "cannot be read"),
        ('[oidc]\nissuer = "http://id.example"', "oidc.issuer: must begin with https://"),
    ],
)
def test_a_wrong_file_is_refused_with_its_key(tmp_path, text, message):
    with pytest.raises(UsageError, match="--auth-config") as caught:
        GuardedServer(tmp_path, text)
    assert message in caught.value.message
