"""The guard that every route asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

from fastapi import FastAPI, Request, Security
from fastapi.routing import iter_route_contexts
from fastapi.security import APIKeyCookie, HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param
from sqlalchemy import Engine

from strokeseg.errors import Busy, Unauthorized
from strokeseg.web.auth import config, credentials, rate_limit, sessions, tokens
from strokeseg.web.auth.audit import AuditLog
from strokeseg.web.auth.headers import SAFE_METHODS, SecurityMiddleware
from strokeseg.web.auth.users import LOCAL_USER, Scope, User
from strokeseg.web.problems import HttpRefusal

SESSION_COOKIE = "strokeseg_session"
CSRF_HEADER = "X-StrokeSeg"
API_PREFIX = "/api/v1"
PUBLIC_PATHS = frozenset({"/", "/static", *(f"{API_PREFIX}/{name}" for name in ("me", "health/live", "health/ready"))})
"""What anyone may ask for: the page, which holds no data, who one is, and whether the server lives. The sign-in's own
routes and the description of the interface are besides."""

# They are read by the guard itself; these say in the OpenAPI document how one gets in.
_BEARER = HTTPBearer(auto_error=False, description="a token of `strokeseg tokens create`")
_COOKIE = APIKeyCookie(
    name=SESSION_COOKIE, auto_error=False, description=f"a session; changes also need the header {CSRF_HEADER}: 1"
)


class GuardSettings(Protocol):
    """What the guard must know of the server's settings."""

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
    """A dependency that gives the user of a request, or refuses it."""

    def __init__(self, guard: Guard, scope: Scope) -> None:
        self._guard, self.scope = guard, scope

    def __call__(self, request: Request, _bearer: Any = Security(_BEARER), _cookie: Any = Security(_COOKIE)) -> User:  # noqa: B008
        """Raise Refused: 401, 403 or 429."""
        return self._guard.authorize(request, self.scope)


class Guard:
    """Knows users by token or session; see :func:`guard`.

    Parameters
    ----------
    mode : object
        "off" where only this machine can ask, "token", or "oidc" where people can also sign in at a service.
    login_path : object
        Where signing in begins, relative to the page; None without a service.
    """

    def __init__(self, settings: GuardSettings, engine: Engine) -> None:
        self.engine, self.config = engine, config.load_config(settings.auth_config)
        # Behind a proxy the address 127.0.0.1 says nothing of who asks.
        alone = settings.is_loopback and not (settings.trusted_proxies or settings.base_path or settings.auth_config)
        self.mode: Literal["off", "token", "oidc"] = "off" if alone else "oidc" if self.config.oidc else "token"
        self.login_path = f"{API_PREFIX}/auth/login".lstrip("/") if self.mode == "oidc" else None
        self.cookie_path = settings.base_path or "/"
        self._audit = AuditLog(settings.audit)
        self._needs = {scope: RequireScope(self, scope) for scope in ("read", "write", "admin")}
        credentials.create_tables(engine)

    def require(self, scope: Scope) -> RequireScope:
        """Return the dependency that lets in who has a scope, and gives the route its :class:`User`."""
        return self._needs[scope]

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

    def authorize(self, request: Request, scope: Scope) -> User:
        """Return the user of a request that needs a scope.

        Raises
        ------
        Refused
            401 `unauthorized` without or with a wrong token, 403 without the scope or the header, 429 `busy` after
            too many wrong ones.
        """
        user = self.find_user(request)
        if user is None:
            if get_bearer_token(request) is not None:
                raise self.record_failure(request)
            raise HttpRefusal(
                Unauthorized("nobody is signed in", "Send a token, or sign in."), 401, {"WWW-Authenticate": "Bearer"}
            )
        if self.mode != "off" and get_bearer_token(request) is None:
            check_csrf_header(request)
        if scope not in user.scopes:
            self.audit(user, _get_action(request), _get_study_id(request), "refused", request)
            said = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'}
            raise HttpRefusal(Unauthorized(f"the scope {scope} is needed", "Ask the administrator for it."), 403, said)
        return user

    def record_failure(self, request: Request) -> HttpRefusal:
        """Count and log a wrong token, and give the refusal."""
        limit = self.config.failures
        times, wait_s = rate_limit.record_failure(self.engine, get_client_address(request), limit.window_s)
        if times > limit.most:
            # Not logged: else whoever knocks could fill the disk.
            said = {"Retry-After": str(int(wait_s) + 1)}
            return HttpRefusal(
                Busy("too many wrong tokens from this address", "Wait, and send a right one."), 429, said
            )
        self.audit(None, _get_action(request), _get_study_id(request), "refused", request)
        said = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        return HttpRefusal(Unauthorized("the token is wrong, expired or revoked", "Ask for a new one."), 401, said)

    def audit(self, user: User | None, action: str, study_id: str | None, outcome: str, request: Request) -> None:
        """Log who did what to which study, and how it ended; on the disk when this returns.

        Parameters
        ----------
        user : User or None
            None is somebody unknown.
        action : str
            A word of ours, as "upload"; nothing that a user wrote.
        study_id : str or None
            Its id, never its name.
        outcome : str
            "done", "refused" or an error's code.
        request : Request
            Where it comes from.

        Raises
        ------
        NotWritable, DiskFull
            `not-writable`, `disk-full`: what cannot be logged must not be done.
        """
        self._audit.append(user.name if user else None, action, study_id, outcome, get_client_address(request))

    def install(self, app: FastAPI) -> None:
        """Add the sign-in routes and the headers; call it when all routes are there.

        Raises
        ------
        RuntimeError
            If a route of the interface asks nobody for a scope.
        """
        from strokeseg.web.auth import routes

        app.include_router(routes.create_router(self), prefix=f"{API_PREFIX}/auth", tags=["sign-in"])
        described = {app.openapi_url, app.docs_url, app.redoc_url, app.swagger_ui_oauth2_redirect_url}
        forgotten = sorted(find_open_routes(app) - PUBLIC_PATHS - described)
        if forgotten:
            raise RuntimeError(f"routes that ask for no scope: {', '.join(forgotten)}")
        app.add_middleware(SecurityMiddleware, local_only=self.mode == "off")


def create_guard(settings: GuardSettings, engine: Engine) -> Guard:
    """Make the guard of a server.

    Parameters
    ----------
    settings : GuardSettings
        Of the server.
    engine : Engine
        Of its database; missing tables are made.

    Raises
    ------
    UsageError
        `usage`, if the file of --auth-config is wrong.
    NotWritable, DiskFull
        `not-writable`, `disk-full`, if the audit log cannot be written.
    """
    return Guard(settings, engine)


def find_open_routes(app: FastAPI) -> set[str]:
    """Return the paths, beside the sign-in's, that ask for no scope."""
    return {
        str(route.path)
        for route in iter_route_contexts(app.routes)
        if not str(route.path).startswith(f"{API_PREFIX}/auth/")
        and not any(isinstance(call, RequireScope) for call in _iterate_dependencies(getattr(route, "dependant", None)))
    }


def _iterate_dependencies(dependant: Any) -> Iterator[Callable[..., Any] | None]:
    for each in dependant.dependencies if dependant else ():
        yield each.call
        yield from _iterate_dependencies(each)


def check_csrf_header(request: Request) -> None:
    """Refuse a change that a browser may have been talked into: another site's page cannot send our header."""
    if request.method not in SAFE_METHODS and request.headers.get(CSRF_HEADER) != "1":
        raise HttpRefusal(
            Unauthorized(f"the header {CSRF_HEADER}: 1 is missing", "Use the application's own page."), 403
        )


def get_bearer_token(request: Request) -> str | None:
    """Return the token of a request's Authorization header."""
    scheme, value = get_authorization_scheme_param(request.headers.get("Authorization"))
    return value if scheme.lower() == "bearer" else None


def get_client_address(request: Request) -> str:
    """Return where a request comes from; the server has put the address behind a trusted proxy there."""
    return request.client.host[:64] if request.client else "unknown"


def _get_action(request: Request) -> str:
    # The name of our function; a path may hold anything.
    return str(getattr(request.scope.get("endpoint"), "__name__", "unknown"))


def _get_study_id(request: Request) -> str | None:
    given = request.path_params.get("id") or request.path_params.get("study_id")
    return given if isinstance(given, str) else None
