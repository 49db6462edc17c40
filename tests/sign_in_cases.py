"""A small application with access control, and a sign-in service that signs its tokens without Authlib."""

import base64
import hashlib
import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from fastapi import Depends, FastAPI, Request
from fastapi.testclient import TestClient

from strokeseg.web import auth, database, problems
from strokeseg.web.auth import tokens

HOST = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class GuardSettings:
    audit: Path
    is_loopback: bool = False
    base_path: str = ""
    trusted_proxies: tuple = ()
    auth_config: Path | None = None


class GuardedServer:
    """The application, its guard and its database, as one worker has them."""

    def __init__(self, folder, rules=None, **settings):
        if rules is not None:
            settings["auth_config"] = folder / "auth.toml"
            settings["auth_config"].write_text(rules)
        self.audit = folder / "audit.jsonl"
        self.engine = database.connect(f"sqlite:///{folder / 'server.db'}")
        self.guard = auth.create_guard(GuardSettings(self.audit, **settings), self.engine)
        self.app = create_application(self.guard)

    def create_client(self, token=None, url=HOST, **more):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return TestClient(self.app, base_url=url, headers=headers, follow_redirects=False, **more)

    def create_token(self, owner="anna", group=None, scope="write", days=1.0):
        return tokens.create_token(self.engine, owner, group, [scope], days)[0]

    def read_audit_log(self):
        return [json.loads(line) for line in self.audit.read_text().splitlines()]


def create_application(guard):
    """Create an application whose routes return the current user."""
    app = FastAPI()
    problems.add_exception_handlers(app)

    @app.get("/api/v1/studies/{id}")
    def read(id: str, user: Annotated[auth.User, Depends(auth.RequireScope("read"))]):
        return {"user": user.name, "group": user.group, "scopes": sorted(user.scopes)}

    @app.post("/api/v1/studies")
    def write(request: Request, user: Annotated[auth.User, Depends(auth.RequireScope("write"))]):
        guard.audit(user, "upload", "0af3", "done", request)
        return {"user": user.name}

    @app.delete("/api/v1/studies/{id}")
    def remove(id: str, user: Annotated[auth.User, Depends(auth.RequireScope("admin"))]):
        return {"user": user.name}

    @app.get("/api/v1/me")
    def me(request: Request):
        user = guard.find_user(request)
        return {"user": user.name if user else None, "auth": guard.mode, "login": guard.login_path}

    @app.get("/")
    def page():
        return "the page"

    auth.protect(app, guard)
    return app


class IdentityProvider:
    """A sign-in service on this machine; what it says can be falsified.

    Parameters
    ----------
    claims : of the one who signs in, over the right ones
    algorithm : of the signature: RS256, or "none"
    foreign_key : sign with a key that it does not publish
    issuer : what its document says it is; None is the truth
    """

    def __init__(self, **claims):
        self.claims, self.algorithm, self.foreign_key, self.issuer, self.offered = (
            claims,
            "RS256",
            False,
            None,
            ["RS256"],
        )
        self.key, self.other = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
        self.codes, self.wrong = {}, []
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                provider.handle_get(self)

            def do_POST(self):
                provider.handle_post(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def handle_get(self, handler):
        parts = urlsplit(handler.path)
        if parts.path.endswith("openid-configuration"):
            self.send_configuration(handler)
        elif parts.path == "/keys":
            numbers = self.key.public_key().public_numbers()
            n, e = (
                encode_base64url(number.to_bytes((number.bit_length() + 7) // 8, "big"))
                for number in (numbers.n, numbers.e)
            )
            send_json(handler, {"keys": [{"kty": "RSA", "kid": "one", "use": "sig", "alg": "RS256", "n": n, "e": e}]})
        elif parts.path == "/authorize":
            login = {key: value[0] for key, value in parse_qs(parts.query).items()}
            code = f"code-{len(self.codes)}"
            self.codes[code] = login
            handler.send_response(302)
            back = urlencode({"code": code, "state": login["state"]})
            handler.send_header("Location", f"{login['redirect_uri']}?{back}")
            handler.end_headers()

    def send_configuration(self, handler):
        send_json(
            handler,
            {
                "issuer": self.issuer or self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
                "id_token_signing_alg_values_supported": self.offered,
            },
        )

    def handle_post(self, handler):
        sent = parse_qs(handler.rfile.read(int(handler.headers["Content-Length"])).decode())
        sent = {key: value[0] for key, value in sent.items()}
        login = self.codes.pop(sent.get("code"), None)
        user, _, password = (
            base64.b64decode(handler.headers.get("Authorization", "Basic ").split()[1]).decode().partition(":")
        )
        verifier = hashlib.sha256(sent.get("code_verifier", "").encode()).digest()
        if (
            login is None
            or (user, password) != ("strokeseg", "given by the service")
            or login.get("code_challenge_method") != "S256"
            or encode_base64url(verifier) != login["code_challenge"]
            or sent["redirect_uri"] != login["redirect_uri"]
        ):
            send_json(handler, {"error": "invalid_grant"}, 400)
            return
        now = int(time.time())
        claims = {"iss": self.url, "aud": "strokeseg", "iat": now, "exp": now + 300, "nonce": login["nonce"]}
        token = self.sign_token({**claims, **self.claims})
        send_json(handler, {"access_token": "unused", "token_type": "Bearer", "id_token": token})

    def sign_token(self, claims):
        head = {"alg": self.algorithm, "kid": "one", "typ": "JWT"}
        content = f"{encode_base64url(json.dumps(head).encode())}.{encode_base64url(json.dumps(claims).encode())}"
        if self.algorithm == "none":
            return f"{content}."
        key = self.other if self.foreign_key else self.key
        return f"{content}.{encode_base64url(key.sign(content.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def encode_base64url(content):
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def send_json(handler, content, status=200):
    data = json.dumps(content).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)
