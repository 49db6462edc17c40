"""The guard: decides whether a request may use a route."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Protocol

from fastapi import Request, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.security import APIKeyCookie, HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param
from sqlalchemy import Engine

from strokeseg.errors import Busy, Unauthorized
from strokeseg.web.auth import config, credentials, oidc, rate_limit, sessions, tokens
from strokeseg.web.auth.audit import AuditLog, Views
from strokeseg.web.auth.headers import SAFE_METHODS
from strokeseg.web.auth.users import LOCAL_USER, Credential, Scope, User
from strokeseg.web.problems import HttpRefusal

SESSION_COOKIE = "strokeseg_session"
CSRF_HEADER = "X-StrokeSeg"
API_PREFIX = "/api/v1"

# The guard reads both itself; these only describe the authentication in the OpenAPI document.
_BEARER = HTTPBearer(auto_error=False, description="A token created by `strokeseg tokens create`")
_COOKIE = APIKeyCookie(
    name=SESSION_COOKIE, auto_error=False, description=f"A session; changes also need the header {CSRF_HEADER}: 1"
)


class GuardSettings(Protocol):
    """The server settings that the guard reads."""

    @property
    def is_loopback(self) -> bool: ...  # noqa: D102
    @property
    def base_path(self) -> str: ...  # noqa: D102
    @property
    def trusted_proxies(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def auth_config(self) -> Path | None: ...  # noqa: D102
    @property
    def audit(self) -> Path: ...  # noqa: D102


class RequireScope:
    """A FastAPI dependency that returns the user of a request, or refuses the request.

    Parameters
    ----------
    scope : {"read", "write", "admin"}
        The scope that the user needs.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope: Scope = scope

    async def __call__(
        self,
        request: Request,
        _bearer: Any = Security(_BEARER),  # noqa: B008
        _cookie: Any = Security(_COOKIE),  # noqa: B008
    ) -> User:
        """Return the user; raises HttpRefusal with 401, 403 or 429."""
        user: User | None = request.scope.get(self._key)
        if user is not None:
            return user
        guard: Guard = request.app.state.guard
        return await run_in_threadpool(guard.authorize, request, self.scope)

    def remember(self, request: Request, user: User) -> None:
        """Keep the user of a request that was authorized before its body was read."""
        request.scope[self._key] = user

    @property
    def _key(self) -> str:
        return f"strokeseg.user.{self.scope}"


class Guard:
    """Identifies users by token or session; :func:`create_guard` creates one.

    Attributes
    ----------
    mode : {"off", "token", "oidc"}
        "off" if only this machine can send requests; "oidc" if people can also sign in at a sign-in service.
    provider : Provider or None
        The sign-in service, if there is one.
    login_path : str or None
        Where signing in starts, relative to the page; None without a sign-in service.
    """

    def __init__(self, settings: GuardSettings, engine: Engine) -> None:
        self.engine, self.config = engine, config.load_config(settings.auth_config)
        # Behind a proxy every request comes from 127.0.0.1, so the address does not identify the sender.
        is_local = settings.is_loopback and not (settings.trusted_proxies or settings.base_path or settings.auth_config)
        self.mode: Literal["off", "token", "oidc"] = "off" if is_local else "oidc" if self.config.oidc else "token"
        self.provider = oidc.Provider(self.config.oidc) if self.config.oidc and self.mode == "oidc" else None
        self.login_path = f"{API_PREFIX}/auth/login".lstrip("/") if self.mode == "oidc" else None
        self.cookie_path = settings.base_path or "/"
        self._audit, self._views = AuditLog(settings.audit), Views()
        credentials.create_tables(engine)

    def find_user(self, request: Request) -> User | None:
        """Return the user of a request, or None; nothing is refused or counted."""
        if self.mode == "off":
            return LOCAL_USER
        bearer = get_bearer_token(request)
        if bearer is not None:
            token = tokens.find_valid_token(self.engine, bearer)
            return token.user if token else None
        cookie = request.cookies.get(SESSION_COOKIE)
        return sessions.find_user(self.engine, cookie) if cookie else None

    def find_ended(self, listening: Iterable[Credential]) -> set[Credential]:
        """Return those of some credentials that were revoked, have expired, or whose session has ended."""
        every = set(listening)
        valid_tokens, valid_sessions = set[str](), set[str]()
        if ids := [each.token for each in every if each.token is not None]:
            valid_tokens = tokens.list_valid_ids(self.engine, ids)
        if hashes := [each.session for each in every if each.session is not None]:
            valid_sessions = sessions.list_valid_hashes(self.engine, hashes)
        return {each for each in every if each.token not in valid_tokens and each.session not in valid_sessions}

    def authorize(self, request: Request, scope: Scope) -> User:
        """Return the user of a request that needs a scope.

        Parameters
        ----------
        request : Request
            The request.
        scope : {"read", "write", "admin"}
            The scope that the user needs.

        Returns
        -------
        User
            The user.

        Raises
        ------
        HttpRefusal
            401 `unauthorized` without or with a wrong token, 403 without the scope or the header, 429 `busy` after too
            many wrong tokens.
        """
        user = self.find_user(request)
        if user is None:
            if get_bearer_token(request) is not None:
                raise self.record_failure(request)
            raise HttpRefusal(
                Unauthorized("not signed in", "Send a token, or sign in."), 401, {"WWW-Authenticate": "Bearer"}
            )
        if self.mode != "off" and get_bearer_token(request) is None:
            check_csrf_header(request)
        if scope not in user.scopes:
            self.audit(user, _get_action(request), _get_study_id(request), "refused", request)
            headers = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'}
            error = Unauthorized(f"this needs the scope {scope}", "Ask the administrator for it.")
            raise HttpRefusal(error, 403, headers)
        return user

    def record_failure(self, request: Request) -> HttpRefusal:
        """Count and log a wrong token, and return the refusal to raise."""
        limit = self.config.failures
        count, wait_s = rate_limit.record_failure(self.engine, get_client_address(request), limit.window_s)
        if count > limit.most:
            # Not logged: otherwise an attacker could fill the disk.
            headers = {"Retry-After": str(int(wait_s) + 1)}
            error = Busy("too many wrong tokens from this address", "Wait, then send a valid token.")
            return HttpRefusal(error, 429, headers)
        self.audit(None, _get_action(request), _get_study_id(request), "refused", request)
        headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        error_401 = Unauthorized("the token is wrong, expired or revoked", "Ask the administrator for a new one.")
        return HttpRefusal(error_401, 401, headers)

    def audit(self, user: User | None, action: str, study_id: str | None, outcome: str, request: Request) -> None:
        """Log who did what to which study, and the outcome; returns once the line is on the disk.

        Parameters
        ----------
        user : User or None
            None is an unknown user.
        action : str
            A fixed word such as "upload"; never text from a user.
        study_id : str or None
            The study's ID, never its name.
        outcome : str
            "done", "refused" or an error code.
        request : Request
            The request; its address is logged.

        Raises
        ------
        NotWritable, DiskFull
            `not-writable`, `disk-full`: an action that cannot be logged must not be carried out.
        """
        self._audit.append(user.name if user else None, action, study_id, outcome, get_client_address(request))

    def audit_view(self, user: User, part: str, study_id: str | None, request: Request) -> None:
        """Log that a user sees a part of a study, unless the same was logged in the last five minutes.

        Parameters
        ----------
        user : User
            The user.
        part : str
            A fixed word such as "result"; the action is "view-result".
        study_id : str or None
            The study's ID; None for the list of all that the user may see.
        request : Request
            The request; its address is logged.

        Raises
        ------
        NotWritable, DiskFull
            `not-writable`, `disk-full`: what cannot be logged must not be shown.
        """
        look = (user.name, part, study_id, get_client_address(request))
        if self._views.is_new(*look):
            self.audit(user, f"view-{part}", study_id, "done", request)
            self._views.remember(*look)


def create_guard(settings: GuardSettings, engine: Engine) -> Guard:
    """Create the guard of a server.

    Parameters
    ----------
    settings : GuardSettings
        The server's settings.
    engine : Engine
        The server's database; missing tables are created.

    Returns
    -------
    Guard
        The guard.

    Raises
    ------
    UsageError
        `usage`, if the file of --auth-config is invalid.
    NotWritable, DiskFull
        `not-writable`, `disk-full`, if the audit log cannot be written.
    """
    return Guard(settings, engine)


def check_csrf_header(request: Request) -> None:
    """Refuse a change without our header: a browser cannot be made to send it by another site's page."""
    if request.method not in SAFE_METHODS and request.headers.get(CSRF_HEADER) != "1":
        raise HttpRefusal(
            Unauthorized(f"the header {CSRF_HEADER}: 1 is missing", "Use the application's own page."), 403
        )


def get_bearer_token(request: Request) -> str | None:
    """Return the token in a request's Authorization header."""
    scheme, value = get_authorization_scheme_param(request.headers.get("Authorization"))
    return value if scheme.lower() == "bearer" else None


def get_client_address(request: Request) -> str:
    """Return the address of the sender; behind a trusted proxy the web server has set the forwarded one."""
    return request.client.host[:64] if request.client else "unknown"


def _get_action(request: Request) -> str:
    # The name of our function; a path may contain anything.
    return str(getattr(request.scope.get("endpoint"), "__name__", "unknown"))


def _get_study_id(request: Request) -> str | None:
    study_id = request.path_params.get("id") or request.path_params.get("study_id")
    return study_id if isinstance(study_id, str) else None
