"""Authentication at other servers: basic, bearer, or a token of an OIDC provider (client credentials)."""

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

_TOKEN_REMEDY = "Check user, secret, token_url and scope; the provider's log has details."


class _BearerAuth(httpx2.Auth):
    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


def open_httpx_auth(auth: Authentication | None, authority: Path | None, timeout_s: float) -> httpx2.Auth | None:
    """Open the authentication of an httpx2 client.

    Parameters
    ----------
    auth : Authentication or None
        Authentication of the settings; None for a server without.
    authority : Path or None
        Certificate authority of the OIDC provider, the same as of the server.
    timeout_s : float
        Time limit in seconds for the OIDC provider, the same as for the server.

    Returns
    -------
    httpx2.Auth or None
        The authentication.

    Raises
    ------
    NotDelivered
        `not-delivered`, if the OIDC provider issues no token.
    UsageError
        `usage`, if a secret is missing.
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
    """Return the TLS verification of an httpx2 client: against an authority's file, or the system's authorities."""
    return True if authority is None else ssl.create_default_context(cafile=str(authority))


def open_session(server: DicomwebServer) -> requests.Session:
    """Open the HTTP session of a DICOMweb server.

    Parameters
    ----------
    server : DicomwebServer
        The server.

    Returns
    -------
    requests.Session
        The session.

    Raises
    ------
    NotDelivered
        `not-delivered`, if the OIDC provider issues no token.
    UsageError
        `usage`, if a secret is missing.
    """
    auth = server.auth
    if auth is not None and auth.kind == "oidc":
        return _open_oidc_session(auth, server.authority, server.timeout_s)
    session = requests.Session()
    if auth is not None and auth.kind == "basic":
        session.auth = (str(auth.user), auth.secret.read())
    elif auth is not None:
        session.headers["Authorization"] = f"Bearer {auth.secret.read()}"
    session.verify = str(server.authority) if server.authority else True
    return session


def _open_oidc_session(auth: Authentication, authority: Path | None, timeout_s: float) -> Any:
    """Return a session with a token of the provider; it renews the token by itself."""
    secret, token_url, verify = auth.secret.read(), str(auth.token_url), str(authority) if authority else True
    grant = "client_credentials"
    session = OAuth2Session(str(auth.user), secret, scope=auth.scope, token_endpoint=token_url, grant_type=grant)
    session.verify = verify
    try:
        session.fetch_token(token_url, grant_type=grant, timeout=timeout_s, verify=verify)
        if not session.token.get("access_token"):
            raise ValueError("the answer contains no token")
    except (requests.RequestException, AuthlibBaseError, OSError, ValueError) as error:
        name = type(error).__name__
        raise NotDelivered(f"{urlsplit(token_url).hostname}: issues no token ({name})", _TOKEN_REMEDY) from error
    return session
