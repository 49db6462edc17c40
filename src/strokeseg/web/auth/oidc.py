"""Signing in at a service that speaks OpenID Connect: authorization code with PKCE, by Authlib."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.base_client import OAuthError
from authlib.integrations.starlette_client import OAuth
from fastapi import Request
from fastapi.responses import Response
from itsdangerous import BadData, URLSafeTimedSerializer
from joserfc.errors import JoseError

from strokeseg.errors import Busy, Unauthorized
from strokeseg.web.auth.config import OidcConfig
from strokeseg.web.auth.users import User, expand_scopes
from strokeseg.web.problems import HttpRefusal

log = logging.getLogger("strokeseg.web")

LOGIN_COOKIE = "strokeseg_login"
LOGIN_TIMEOUT_S = 600
"""How long signing in may take."""

# What a provider's document may allow beyond: "none", and HS256, whose key everyone who can verify can also sign with.
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")


class Provider:
    """A sign-in service.

    What must be kept between leaving for it and coming back (state, nonce, PKCE's verifier) lies in a signed cookie of
    ten minutes, under a key that every worker can derive.
    """

    def __init__(self, rules: OidcConfig) -> None:
        self._rules = rules
        secret = rules.client_secret.get_secret_value()
        self._signer = URLSafeTimedSerializer(
            hashlib.sha256(b"strokeseg login\0" + secret.encode()).digest(),
            salt=LOGIN_COOKIE,
            signer_kwargs={"key_derivation": "hmac"},
        )
        self._client: Any = OAuth().register(
            "provider",
            client_id=rules.client_id,
            client_secret=secret,
            server_metadata_url=f"{rules.issuer}/.well-known/openid-configuration",
            client_kwargs={"scope": rules.ask_for, "code_challenge_method": "S256", "timeout": 10.0},
        )

    async def start_login(self, request: Request) -> tuple[Response, str]:
        """Return the redirect to the service, and what the login cookie must hold.

        Raises
        ------
        Refused
            503 `busy`, if the service does not answer as it should.
        """
        request.scope["session"] = {}
        try:
            await self._metadata()
            redirect: Response = await self._client.authorize_redirect(
                request, f"{self._rules.public_url}/api/v1/auth/callback"
            )
        except (AuthlibBaseError, httpx2.HTTPError, RuntimeError, ValueError) as error:
            raise _create_unavailable(error) from None
        return redirect, str(self._signer.dumps(request.scope["session"]))

    async def finish_login(self, request: Request) -> User:
        """Check what the service says of someone who comes back: signature, issuer, audience, nonce and time.

        Raises
        ------
        Refused
            401 or 403 `unauthorized`; 503 `busy`, if the service does not answer as it should.
        """
        try:
            request.scope["session"] = self._signer.loads(
                request.cookies.get(LOGIN_COOKIE, ""), max_age=LOGIN_TIMEOUT_S
            )
        except BadData:
            request.scope["session"] = {}
        if not any(key.endswith(f"_{request.query_params.get('state')}") for key in request.scope["session"]):
            raise HttpRefusal(Unauthorized("signing in was not begun here, or took too long", "Sign in again."), 401)
        try:
            await self._metadata()
            token = await self._client.authorize_access_token(request, leeway=60)
        except (OAuthError, JoseError) as error:
            log.warning("signing in failed: %s", type(error).__name__)
            raise HttpRefusal(
                Unauthorized("the sign-in service did not vouch for you", "Sign in again."), 401
            ) from None
        except (AuthlibBaseError, httpx2.HTTPError, RuntimeError, ValueError, KeyError) as error:
            raise _create_unavailable(error) from None
        return self._user(token.get("userinfo") or {})

    def _user(self, claims: dict[str, Any]) -> User:
        rules = self._rules
        name = claims.get(rules.name_claim)
        if not (isinstance(name, str) and name.isprintable() and 0 < len(name) <= 255):
            raise HttpRefusal(
                Unauthorized(f"the sign-in service gave no {rules.name_claim}", "Ask the administrator."), 403
            )
        if rules.name_claim == "email" and claims.get("email_verified") is not True:
            raise HttpRefusal(Unauthorized("the sign-in service did not verify your address", "Verify it there."), 403)
        listed = claims.get(rules.groups_claim) or []
        groups = {listed} if isinstance(listed, str) else {each for each in listed if isinstance(each, str)}
        for access in rules.access:
            if access.member == "*" or access.member in groups:
                return User(name, access.group, expand_scopes(access.scopes))
        raise HttpRefusal(Unauthorized("you are in no group that may use this", "Ask the administrator."), 403)

    async def _metadata(self) -> None:
        said = await self._client.load_server_metadata()
        if str(said.get("issuer", "")).rstrip("/") != self._rules.issuer:
            self._client.server_metadata.clear()
            raise ValueError("another issuer")
        offered = said.get("id_token_signing_alg_values_supported") or ["RS256"]
        said["id_token_signing_alg_values_supported"] = [each for each in offered if each in _ALGORITHMS] or ["RS256"]


def _create_unavailable(error: Exception) -> HttpRefusal:
    log.warning("the sign-in service does not answer as it should: %s", type(error).__name__)
    return HttpRefusal(
        Busy("the sign-in service does not answer as it should", "Try again, or tell the administrator."), 503
    )
