"""How another server knows us: basic, bearer, or a token of the OIDC provider (client credentials)."""

from __future__ import annotations

import ssl
from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import requests
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session

from strokeseg.errors import NotDelivered
from strokeseg.pacs.settings import Authentication, DicomwebServer

_TOKEN_REMEDY = "Look at user, secret, token_url and scope; the provider's log says more."


class _BearerAuth(httpx2.Auth):
    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


def open_httpx_auth(auth: Authentication | None, authority: Path | None, timeout_s: float) -> httpx2.Auth | None:
    """Return what an httpx2 client takes.

    Parameters
    ----------
    authority, timeout_s : Path or None
        For the OIDC provider, as for the server itself.

    Raises
    ------
    NotDelivered
        `not-delivered`, if the OIDC provider gives no token.
    UsageError
        `usage`, if a secret is not there.
    """
    if auth is None:
        return None
    if auth.kind == "basic":
        return httpx2.BasicAuth(str(auth.user), auth.secret.read())
    if auth.kind == "bearer":
        return _BearerAuth(auth.secret.read())
    with _open_oidc_session(auth, authority, timeout_s) as session:
        return _BearerAuth(str(session.token["access_token"]))


def build_tls_verification(authority: Path | None) -> ssl.SSLContext | bool:
    """Return what an httpx2 client checks a server's certificate with: an authority's file, or the system's."""
    return True if authority is None else ssl.create_default_context(cafile=str(authority))


def open_session(web: DicomwebServer) -> requests.Session:
    """Return the session of a DICOMweb server.

    Raises
    ------
    NotDelivered
        `not-delivered`, if the OIDC provider gives no token.
    UsageError
        `usage`, if a secret is not there.
    """
    auth = web.auth
    if auth is not None and auth.kind == "oidc":
        return _open_oidc_session(auth, web.authority, web.timeout_s)
    found = requests.Session()
    if auth is not None and auth.kind == "basic":
        found.auth = (str(auth.user), auth.secret.read())
    elif auth is not None:
        found.headers["Authorization"] = f"Bearer {auth.secret.read()}"
    found.verify = str(web.authority) if web.authority else True
    return found


def _open_oidc_session(auth: Authentication, authority: Path | None, timeout_s: float) -> Any:
    """Return a session with a token of the provider; it fetches a new one by itself when the old one ends."""
    secret, where, verify = auth.secret.read(), str(auth.token_url), str(authority) if authority else True
    kind = "client_credentials"
    found = OAuth2Session(str(auth.user), secret, scope=auth.scope, token_endpoint=where, grant_type=kind)
    found.verify = verify
    try:
        found.fetch_token(where, grant_type=kind, timeout=timeout_s, verify=verify)
        if not found.token.get("access_token"):
            raise ValueError("an answer without a token")
    except (requests.RequestException, AuthlibBaseError, OSError, ValueError) as error:
        name = type(error).__name__
        raise NotDelivered(f"{urlsplit(where).hostname}: gives no token ({name})", _TOKEN_REMEDY) from error
    return found
