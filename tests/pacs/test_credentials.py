"""OIDC client credentials against a token server of our own, over real sockets."""

import base64
import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from node_cases import NOTICE
from strokeseg.errors import NotDelivered
from strokeseg.pacs import dicomweb, notices
from strokeseg.pacs.settings import DicomwebServer, NoticeTarget


class Provider(BaseHTTPRequestHandler):
    """`/token` issues a new token to the one known client; every other path requires the latest token."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path == "/token":
            self._token(dict(urllib.parse.parse_qsl(body)))
        else:
            self._guarded()

    def do_GET(self):
        self._guarded()

    def _token(self, form):
        credentials = base64.b64decode(self.headers.get("Authorization", "Basic ")[6:]).decode()
        if credentials != "node:a secret" or form.get("grant_type") != "client_credentials":
            self._answer(401, {"error": "invalid_client"})
            return
        self.server.scopes.append(form.get("scope"))
        answer = {"access_token": f"token-{len(self.server.scopes)}", "token_type": "Bearer", "expires_in": 3600}
        self._answer(200, self.server.instead or answer)

    def _guarded(self):
        self.server.shown.append(self.headers.get("Authorization"))
        self._answer(200, [])

    def _answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def provider(monkeypatch):
    monkeypatch.setenv("CLIENT_SECRET", "a secret")
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    server = HTTPServer(("127.0.0.1", 0), Provider)
    server.scopes, server.shown, server.instead = [], [], None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def auth(server, **more):
    url = f"http://127.0.0.1:{server.server_port}/token"
    return {"kind": "oidc", "user": "node", "secret": {"variable": "CLIENT_SECRET"}, "token_url": url, **more}


def make_server(server, **more):
    return DicomwebServer(name="web", url=f"http://127.0.0.1:{server.server_port}/dicom-web", auth=auth(server, **more))


def test_a_dicomweb_server_is_shown_the_providers_token(provider):
    server = make_server(provider, scope="dicom.read")
    assert dicomweb.search_series(dicomweb.open_client(server), server, {"PatientID": "X"}) == []
    assert provider.scopes == ["dicom.read"]
    assert provider.shown == ["Bearer token-1"]


def test_a_receiver_is_shown_the_providers_token(provider):
    url = f"http://127.0.0.1:{provider.server_port}/notice"
    notices.send_notice(NoticeTarget(name="ward", kind="webhook", url=url, auth=auth(provider)), NOTICE)
    assert provider.shown == ["Bearer token-1"]


@pytest.mark.parametrize("user", ["stranger", "nöde"])
def test_a_client_that_the_provider_does_not_know_is_not_delivered(provider, user):
    server = make_server(provider, user=user)
    with pytest.raises(NotDelivered, match="issues no token") as caught:
        dicomweb.open_client(server)
    assert "a secret" not in str(caught.value)
    target = NoticeTarget(name="ward", kind="fhir", url=server.url, auth=auth(provider, user=user))
    with pytest.raises(NotDelivered, match="issues no token"):
        notices.send_notice(target, NOTICE)
    assert provider.shown == []


def test_an_answer_without_a_token_is_none(provider):
    provider.instead = {"hello": "there"}
    with pytest.raises(NotDelivered, match="issues no token"):
        dicomweb.open_client(make_server(provider))


def test_a_provider_that_is_not_there_is_named_by_its_host(provider):
    server = make_server(provider, token_url="http://127.0.0.1:9/token")
    with pytest.raises(NotDelivered, match=r"127\.0\.0\.1: issues no token"):
        dicomweb.open_client(server)
