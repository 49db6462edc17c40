"""Protecting an application: sign-in routes, security headers, and the check that every route requires a scope."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from strokeseg.web.auth import routes
from strokeseg.web.auth.bounded_route import find_requirements
from strokeseg.web.auth.guard import API_PREFIX, Guard
from strokeseg.web.auth.headers import SecurityMiddleware

PUBLIC_PATHS = frozenset({"/", "/static", *(f"{API_PREFIX}/{name}" for name in ("me", "health/live", "health/ready"))})
"""Routes without a scope: the page, which contains no data, the current user, and the state of the server. The sign-in
routes and the OpenAPI document are exempt as well."""


def protect(app: FastAPI, guard: Guard) -> None:
    """Add the sign-in routes and the security headers; call it after all other routes have been added.

    Parameters
    ----------
    app : FastAPI
        The application.
    guard : Guard
        Decides who may use its routes.

    Raises
    ------
    RuntimeError
        If a route does not require a scope.
    """
    app.state.guard = guard
    app.include_router(routes.router, prefix=f"{API_PREFIX}/auth", tags=["sign-in"])
    documentation = {app.openapi_url, app.docs_url, app.redoc_url, app.swagger_ui_oauth2_redirect_url}
    unprotected = sorted(find_open_routes(app) - PUBLIC_PATHS - documentation)
    if unprotected:
        raise RuntimeError(f"routes that require no scope: {', '.join(unprotected)}")
    app.add_middleware(SecurityMiddleware, local_only=guard.mode == "off")


def find_open_routes(app: FastAPI) -> set[str]:
    """Return the paths, except those of the sign-in, that require no scope."""
    return {
        str(route.path)
        for route in iter_route_contexts(app.routes)
        if not str(route.path).startswith(f"{API_PREFIX}/auth/")
        and not any(find_requirements(getattr(route, "dependant", None)))
    }
