"""Single sign-on by OpenID Connect: authorization code flow with PKCE, by Authlib."""

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

log = logging.getLogger("strokeseg.serve")

LOGIN_COOKIE = "strokeseg_login"
LOGIN_TIMEOUT_S = 600
"""Maximum duration of signing in."""

# A service's document may also offer "none", and HS256, whose key can both verify and sign: both are refused.
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")


class Provider:
    """A sign-in service.

    The state, the nonce and the PKCE verifier are kept between leaving for the service and returning from it in a
    signed cookie that expires after ten minutes; every server process can derive its key.

    Parameters
    ----------
    config : OidcConfig
        The service.
    """

    def __init__(self, config: OidcConfig) -> None:
        self._config = config
        secret = config.client_secret.get_secret_value()
        self._signer = URLSafeTimedSerializer(
            hashlib.sha256(b"strokeseg login\0" + secret.encode()).digest(),
            salt=LOGIN_COOKIE,
            signer_kwargs={"key_derivation": "hmac"},
        )
        self._client: Any = OAuth().register(
            "provider",
            client_id=config.client_id,
            client_secret=secret,
            server_metadata_url=f"{config.issuer}/.well-known/openid-configuration",
            client_kwargs={"scope": config.ask_for, "code_challenge_method": "S256", "timeout": 10.0},
        )

    async def start_login(self, request: Request) -> tuple[Response, str]:
        """Create the redirect to the service.

        Parameters
        ----------
        request : Request
            The request to sign in.

        Returns
        -------
        redirect : Response
            The redirect.
        cookie : str
            The value of the login cookie.

        Raises
        ------
        HttpRefusal
            503 `busy`, if the service does not respond correctly.
        """
        request.scope["session"] = {}
        try:
            await self._load_metadata()
            redirect: Response = await self._client.authorize_redirect(
                request, f"{self._config.public_url}/api/v1/auth/callback"
            )
        except (AuthlibBaseError, httpx2.HTTPError, RuntimeError, ValueError) as error:
            raise _create_unavailable(error) from None
        return redirect, str(self._signer.dumps(request.scope["session"]))

    async def finish_login(self, request: Request) -> User:
        """Check the service's response: signature, issuer, audience, nonce and time.

        Parameters
        ----------
        request : Request
            The request that the service redirected here.

        Returns
        -------
        User
            The user.

        Raises
        ------
        HttpRefusal
            401 or 403 `unauthorized`; 503 `busy`, if the service does not respond correctly.
        """
        try:
            request.scope["session"] = self._signer.loads(
                request.cookies.get(LOGIN_COOKIE, ""), max_age=LOGIN_TIMEOUT_S
            )
        except BadData:
            request.scope["session"] = {}
        if not any(key.endswith(f"_{request.query_params.get('state')}") for key in request.scope["session"]):
            raise HttpRefusal(Unauthorized("signing in was not started here, or took too long", "Sign in again."), 401)
        try:
            await self._load_metadata()
            token = await self._client.authorize_access_token(request, leeway=60)
        except (OAuthError, JoseError) as error:
            log.warning("signing in failed: %s", type(error).__name__)
            raise HttpRefusal(
                Unauthorized("the sign-in service did not confirm who you are", "Sign in again."), 401
            ) from None
        except (AuthlibBaseError, httpx2.HTTPError, RuntimeError, ValueError, KeyError) as error:
            raise _create_unavailable(error) from None
        return self._create_user(token.get("userinfo") or {})

    def _create_user(self, claims: dict[str, Any]) -> User:
        config = self._config
        name = claims.get(config.name_claim)
        if not (isinstance(name, str) and name.isprintable() and 0 < len(name) <= 255):
            raise HttpRefusal(
                Unauthorized(f"the sign-in service sent no {config.name_claim}", "Ask the administrator."), 403
            )
        if config.name_claim == "email" and claims.get("email_verified") is not True:
            error = Unauthorized("your e-mail address is not verified", "Verify it at the sign-in service.")
            raise HttpRefusal(error, 403)
        claimed = claims.get(config.groups_claim) or []
        groups = {claimed} if isinstance(claimed, str) else {each for each in claimed if isinstance(each, str)}
        for access in config.access:
            if access.member == "*" or access.member in groups:
                return User(name, access.group, expand_scopes(access.scopes))
        raise HttpRefusal(Unauthorized("none of your groups may use this application", "Ask the administrator."), 403)

    async def _load_metadata(self) -> None:
        metadata = await self._client.load_server_metadata()
        if str(metadata.get("issuer", "")).rstrip("/") != self._config.issuer:
            self._client.server_metadata.clear()
            raise ValueError("another issuer")
        offered = metadata.get("id_token_signing_alg_values_supported") or ["RS256"]
        allowed = [each for each in offered if each in _ALGORITHMS] or ["RS256"]
        metadata["id_token_signing_alg_values_supported"] = allowed


def _create_unavailable(error: Exception) -> HttpRefusal:
    log.warning("the sign-in service does not respond correctly: %s", type(error).__name__)
    return HttpRefusal(
        Busy("the sign-in service does not respond correctly", "Try again, or tell the administrator."), 503
    )
