import time

import httpx
import pytest

from sign_in_cases import GuardedServer, IdentityProvider

RULES = """
[oidc]
issuer = "{url}"
client_id = "strokeseg"
client_secret_file = "secret"
public_url = "https://scans.example.org/sub"
name_claim = "{name}"

[[oidc.access]]
member = "neuro"
group = "stroke-unit"

[[oidc.access]]
member = "students"
scopes = ["read"]
"""
PAGE = "https://scans.example.org"


@pytest.fixture(scope="module")
def keys():
    made = IdentityProvider()
    made.server.server_close()
    return made.key, made.other


@pytest.fixture
def provider(keys):
    with IdentityProvider(sub="u-17", preferred_username="anna", groups=["neuro"]) as running:
        running.key, running.other = keys
        yield running


def server_of(folder, provider, name="sub"):
    (folder / "secret").write_text("given by the service\n")
    return GuardedServer(folder, RULES.format(url=provider.url, name=name), base_path="/sub")


def sign_in(server, client=None):
    """Sign in as a browser does; return the last response and the client."""
    client = client or server.create_client(url=PAGE)
    leaving = client.get("/api/v1/auth/login")
    assert leaving.status_code == 302, leaving.text
    login_cookie = leaving.headers["set-cookie"]
    back = httpx.get(leaving.headers["location"]).headers["location"]
    assert back.startswith(f"{PAGE}/sub/api/v1/auth/callback?"), (
        "the redirect address comes from the configuration, not from the request"
    )
    # The test client's cookie jar keeps to the path that a proxy would have taken away.
    client.cookies.set("strokeseg_login", login_cookie.split(";")[0].split("=", 1)[1])
    return client.get(f"/api/v1/auth/callback?{back.split('?')[1]}"), client, login_cookie, back


def session_of(answer):
    cookies = [value for value in answer.headers.get_list("set-cookie") if value.startswith("strokeseg_session=")]
    return cookies[0] if cookies else None


def test_signs_in_with_name_group_and_scopes(tmp_path, provider):
    server = server_of(tmp_path, provider)
    assert server.create_client(url=PAGE).get("/api/v1/me").json() == {
        "user": None,
        "auth": "oidc",
        "login": "api/v1/auth/login",
    }
    answer, client, login_cookie, _ = sign_in(server)
    assert (answer.status_code, answer.headers["location"]) == (303, "/sub/")
    cookie = session_of(answer)
    assert {"HttpOnly", "SameSite=strict", "Secure", "Path=/sub"} <= {part.strip() for part in cookie.split(";")}
    assert {"HttpOnly", "SameSite=lax", "Secure"} <= {part.strip() for part in login_cookie.split(";")}
    client.cookies.set("strokeseg_session", cookie.split(";")[0].split("=", 1)[1])
    seen = client.get("/api/v1/studies/0af3").json()
    assert seen == {"user": "u-17", "group": "stroke-unit", "scopes": ["read", "write"]}
    assert server.read_audit_log()[-1]["action"] == "sign-in"
    assert server.read_audit_log()[-1]["user"] == "u-17"


def test_the_first_access_that_fits_counts(tmp_path, provider):
    provider.claims["groups"] = ["others", "students"]
    server = server_of(tmp_path, provider, "preferred_username")
    answer, client, _, _ = sign_in(server)
    client.cookies.set("strokeseg_session", session_of(answer).split(";")[0].split("=", 1)[1])
    seen = client.get("/api/v1/studies/0af3").json()
    assert seen == {"user": "anna", "group": None, "scopes": ["read"]}


@pytest.mark.parametrize(
    "false",
    [
        {"foreign_key": True},
        {"algorithm": "none", "offered": ["RS256", "none"]},
        {"claims": {"iss": "https://evil.example"}},
        {"claims": {"aud": "another application"}},
        {"claims": {"nonce": "of another time"}},
        {"claims": {"exp": int(time.time()) - 3600}},
    ],
    ids=lambda false: "-".join(map(str, [*false, *false.get("claims", [])])),
)
def test_a_false_token_is_refused(tmp_path, provider, false):
    for name, value in false.items():
        setattr(provider, name, {**provider.claims, **value} if name == "claims" else value)
    server = server_of(tmp_path, provider)
    answer, *_ = sign_in(server)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert session_of(answer) is None
    assert server.read_audit_log()[-1]["outcome"] == "refused"


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"groups": ["others"]}, "sub"),
        ({"groups": None}, "sub"),
        ({"groups": {"neuro": 1, "x": 2}, "sub": None}, "sub"),
        ({"email": "anna@example.org"}, "email"),
        ({"email": "anna@example.org", "email_verified": False}, "email"),
        ({"preferred_username": "a\nb"}, "preferred_username"),
    ],
)
def test_who_is_not_known_enough_is_refused(tmp_path, provider, claims, name):
    provider.claims.update(claims)
    answer, *_ = sign_in(server_of(tmp_path, provider, name))
    assert (answer.status_code, session_of(answer)) in ((403, None), (401, None))


def test_one_cannot_be_signed_in_by_someone_else(tmp_path, provider):
    server = server_of(tmp_path, provider)
    leaving = server.create_client(url=PAGE).get("/api/v1/auth/login")
    back = httpx.get(leaving.headers["location"]).headers["location"].split("?")[1]
    victim = server.create_client(url=PAGE)
    answer = victim.get(f"/api/v1/auth/callback?{back}")
    assert (answer.status_code, session_of(answer)) == (401, None)
    for cookie in ("x", "a.b.c", "e30.Z8J0Yg.AAAA"):
        victim.cookies.set("strokeseg_login", cookie)
        assert victim.get(f"/api/v1/auth/callback?{back}").status_code == 401


def test_a_code_opens_once(tmp_path, provider):
    server = server_of(tmp_path, provider)
    first, client, login_cookie, back = sign_in(server)
    assert first.status_code == 303
    client.cookies.set("strokeseg_login", login_cookie.split(";")[0].split("=", 1)[1])
    assert client.get(f"/api/v1/auth/callback?{back.split('?')[1]}").status_code == 401


def test_a_second_worker_can_end_what_the_first_began(tmp_path, provider):
    first, second = server_of(tmp_path, provider), server_of(tmp_path, provider)
    leaving = first.create_client(url=PAGE).get("/api/v1/auth/login")
    back = httpx.get(leaving.headers["location"]).headers["location"].split("?")[1]
    client = second.create_client(url=PAGE)
    client.cookies.set("strokeseg_login", leaving.headers["set-cookie"].split(";")[0].split("=", 1)[1])
    assert client.get(f"/api/v1/auth/callback?{back}").status_code == 303


def test_a_service_that_is_another_or_silent_is_said_so(tmp_path, provider):
    provider.issuer = "https://evil.example"
    server = server_of(tmp_path, provider)
    for _ in range(2):
        answer = server.create_client(url=PAGE).get("/api/v1/auth/login")
        assert (answer.status_code, answer.json()["code"]) == (503, "busy")
    provider.issuer = None
    assert server.create_client(url=PAGE).get("/api/v1/auth/login").status_code == 302, "it came back"
    gone = server_of(tmp_path, provider)
    provider.server.socket.close()
    assert gone.create_client(url=PAGE).get("/api/v1/auth/login").status_code == 503


def test_without_a_service_there_is_nothing_to_sign_in_at(tmp_path):
    client = GuardedServer(tmp_path).create_client()
    for path in ("login", "callback"):
        assert client.get(f"/api/v1/auth/{path}").status_code == 404
