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
from strokeseg.serve.auth import failures, rules, sessions, tables, tokens
from strokeseg.serve.auth.audit import Audit
from strokeseg.serve.auth.headers import SAFE_METHODS, Shield
from strokeseg.serve.auth.users import LOCAL, Scope, User
from strokeseg.serve.problems import Refused

COOKIE = "strokeseg_session"
HEADER = "X-StrokeSeg"
PREFIX = "/api/v1"
PUBLIC = frozenset({"/", "/static", *(f"{PREFIX}/{name}" for name in ("me", "health/live", "health/ready"))})
"""What anyone may ask for: the page, which holds no data, who one is, and whether the server lives. The sign-in's own
routes and the description of the interface are besides."""

# They are read by the guard itself; these say in the OpenAPI document how one gets in.
_BEARER = HTTPBearer(auto_error=False, description="a token of `strokeseg tokens create`")
_COOKIE = APIKeyCookie(
    name=COOKIE, auto_error=False, description=f"a session; changes also need the header {HEADER}: 1"
)


class Settings(Protocol):
    """What the guard must know of the server's settings."""

    @property
    def loopback(self) -> bool: ...  # noqa: D102
    @property
    def base(self) -> str: ...  # noqa: D102
    @property
    def trusted_proxies(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def auth_config(self) -> Path | None: ...  # noqa: D102
    @property
    def audit(self) -> Path: ...  # noqa: D102


class Needs:
    """A dependency that gives the user of a request, or refuses it."""

    def __init__(self, guard: Guard, scope: Scope) -> None:
        self._guard, self.scope = guard, scope

    def __call__(self, request: Request, _bearer: Any = Security(_BEARER), _cookie: Any = Security(_COOKIE)) -> User:  # noqa: B008
        """Raise Refused: 401, 403 or 429."""
        return self._guard.admit(request, self.scope)


class Guard:
    """Knows users by token or session; see :func:`guard`.

    Parameters
    ----------
    mode : "off" where only this machine can ask, "token", or "oidc" where people can also sign in at a service
    login_path : where signing in begins, relative to the page; None without a service
    """

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.engine, self.rules = engine, rules.load(settings.auth_config)
        # Behind a proxy the address 127.0.0.1 says nothing of who asks.
        alone = settings.loopback and not (settings.trusted_proxies or settings.base or settings.auth_config)
        self.mode: Literal["off", "token", "oidc"] = "off" if alone else "oidc" if self.rules.oidc else "token"
        self.login_path = f"{PREFIX}/auth/login".lstrip("/") if self.mode == "oidc" else None
        self.cookie_path = settings.base or "/"
        self._audit = Audit(settings.audit)
        self._needs = {scope: Needs(self, scope) for scope in ("read", "write", "admin")}
        tables.create(engine)

    def require(self, scope: Scope) -> Needs:
        """Give the dependency that lets in who has a scope, and gives the route its :class:`User`."""
        return self._needs[scope]

    def optional(self, request: Request) -> User | None:
        """Give the user of a request, or None; nothing is refused or counted."""
        if self.mode == "off":
            return LOCAL
        bearer = bearer_of(request)
        if bearer is not None:
            token = tokens.known(self.engine, bearer)
            return token.user if token else None
        cookie = request.cookies.get(COOKIE)
        return sessions.user_of(self.engine, cookie) if cookie else None

    def admit(self, request: Request, scope: Scope) -> User:
        """Give the user of a request that needs a scope.

        Raises
        ------
        Refused
            401 `unauthorized` without or with a wrong token, 403 without the scope or the header, 429 `busy` after too
            many wrong ones
        """
        user = self.optional(request)
        if user is None:
            if bearer_of(request) is not None:
                raise self.failed(request)
            raise Refused(
                Unauthorized("nobody is signed in", "Send a token, or sign in."), 401, {"WWW-Authenticate": "Bearer"}
            )
        if self.mode != "off" and bearer_of(request) is None:
            needs_header(request)
        if scope not in user.scopes:
            self.audit(user, _action(request), _study(request), "refused", request)
            said = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'}
            raise Refused(Unauthorized(f"the scope {scope} is needed", "Ask the administrator for it."), 403, said)
        return user

    def failed(self, request: Request) -> Refused:
        """Count and log a wrong token, and give the refusal."""
        limit = self.rules.failures
        times, wait_s = failures.count(self.engine, address_of(request), limit.window_s)
        if times > limit.most:
            # Not logged: else whoever knocks could fill the disk.
            said = {"Retry-After": str(int(wait_s) + 1)}
            return Refused(Busy("too many wrong tokens from this address", "Wait, and send a right one."), 429, said)
        self.audit(None, _action(request), _study(request), "refused", request)
        said = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        return Refused(Unauthorized("the token is wrong, expired or revoked", "Ask for a new one."), 401, said)

    def audit(self, user: User | None, action: str, study_id: str | None, outcome: str, request: Request) -> None:
        """Log who did what to which study, and how it ended; on the disk when this returns.

        Parameters
        ----------
        user : None is somebody unknown
        action : a word of ours, as "upload"; nothing that a user wrote
        study_id : its id, never its name
        outcome : "done", "refused" or an error's code
        request : where it comes from

        Raises
        ------
        NotWritable, DiskFull
            `not-writable`, `disk-full`: what cannot be logged must not be done
        """
        self._audit.append(user.name if user else None, action, study_id, outcome, address_of(request))

    def install(self, app: FastAPI) -> None:
        """Add the sign-in routes and the headers; call it when all routes are there.

        Raises
        ------
        RuntimeError
            if a route of the interface asks nobody for a scope
        """
        from strokeseg.serve.auth import signin

        app.include_router(signin.router(self), prefix=f"{PREFIX}/auth", tags=["sign-in"])
        described = {app.openapi_url, app.docs_url, app.redoc_url, app.swagger_ui_oauth2_redirect_url}
        forgotten = sorted(open_routes(app) - PUBLIC - described)
        if forgotten:
            raise RuntimeError(f"routes that ask for no scope: {', '.join(forgotten)}")
        app.add_middleware(Shield, local_only=self.mode == "off")


def guard(settings: Settings, engine: Engine) -> Guard:
    """Make the guard of a server.

    Parameters
    ----------
    settings : of the server
    engine : of its database; missing tables are made

    Raises
    ------
    UsageError
        `usage`, if the file of --auth-config is wrong
    NotWritable, DiskFull
        `not-writable`, `disk-full`, if the audit log cannot be written
    """
    return Guard(settings, engine)


def open_routes(app: FastAPI) -> set[str]:
    """Give the paths, beside the sign-in's, that ask for no scope."""
    return {
        str(route.path)
        for route in iter_route_contexts(app.routes)
        if not str(route.path).startswith(f"{PREFIX}/auth/")
        and not any(isinstance(call, Needs) for call in _calls(getattr(route, "dependant", None)))
    }


def _calls(dependant: Any) -> Iterator[Callable[..., Any] | None]:
    for each in dependant.dependencies if dependant else ():
        yield each.call
        yield from _calls(each)


def needs_header(request: Request) -> None:
    """Refuse a change that a browser may have been talked into: another site's page cannot send our header."""
    if request.method not in SAFE_METHODS and request.headers.get(HEADER) != "1":
        raise Refused(Unauthorized(f"the header {HEADER}: 1 is missing", "Use the application's own page."), 403)


def bearer_of(request: Request) -> str | None:
    """Give the token of a request's Authorization header."""
    scheme, value = get_authorization_scheme_param(request.headers.get("Authorization"))
    return value if scheme.lower() == "bearer" else None


def address_of(request: Request) -> str:
    """Give where a request comes from; the server has put the address behind a trusted proxy there."""
    return request.client.host[:64] if request.client else "unknown"


def _action(request: Request) -> str:
    # The name of our function; a path may hold anything.
    return str(getattr(request.scope.get("endpoint"), "__name__", "unknown"))


def _study(request: Request) -> str | None:
    given = request.path_params.get("id") or request.path_params.get("study_id")
    return given if isinstance(given, str) else None
