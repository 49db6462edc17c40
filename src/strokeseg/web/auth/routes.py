"""The routes for signing in and out."""

from __future__ import annotations

import html
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from strokeseg.errors import NotFound
from strokeseg.web import problems
from strokeseg.web.auth import oidc, sessions, tokens
from strokeseg.web.auth.bounded_route import BoundedRoute, limit_body
from strokeseg.web.auth.guard import SESSION_COOKIE, Guard, check_csrf_header
from strokeseg.web.problems import HttpRefusal, document_problems

_PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>Not signed in · StrokeSeg</title>
  <link rel="icon" href="{base}static/icon.svg" type="image/svg+xml">
  <link rel="stylesheet" href="{base}static/css/base.css">
</head>
<body>
  <header class="masthead"><a class="brand" href="{base}">StrokeSeg</a></header>
  <main id="main" class="empty">
    <h1>Not signed in</h1>
    <p>{message}. {remedy} <code>{code}</code></p>
    <p><a href="{base}">Back to the start page</a></p>
  </main>
</body>
</html>
"""
router = APIRouter(route_class=BoundedRoute)
_MAX_TOKEN_BODY_BYTES = 4096
TokenText = Annotated[str, Body(embed=True, alias="token", max_length=200)]


def get_guard(request: Request) -> Guard:
    """Return the guard of the application that received a request."""
    guard: Guard = request.app.state.guard
    return guard


CurrentGuard = Annotated[Guard, Depends(get_guard)]


@router.post("/session", status_code=204, responses=document_problems(401, 403, 422, 429, 507))
@limit_body(_MAX_TOKEN_BODY_BYTES)
def sign_in(guard: CurrentGuard, request: Request, text: TokenText) -> Response:
    """Sign in with a token; the response sets the session cookie. Requires the header X-StrokeSeg: 1."""
    check_csrf_header(request)
    token = tokens.find_valid_token(guard.engine, text)
    if token is None:
        raise guard.record_failure(request)
    guard.audit(token.user, "sign-in", None, "done", request)
    value = sessions.create_session(guard.engine, token.user, guard.config.session_hours, token)
    return _set_session_cookie(guard, request, Response(status_code=204), value)


@router.post("/logout", status_code=204, responses=document_problems(403, 507))
def sign_out(guard: CurrentGuard, request: Request) -> Response:
    """Sign out; the session ends at once. Requires the header X-StrokeSeg: 1."""
    check_csrf_header(request)
    value = request.cookies.get(SESSION_COOKIE)
    if value:
        guard.audit(sessions.find_user(guard.engine, value), "sign-out", None, "done", request)
        sessions.delete_session(guard.engine, value)
    response = Response(status_code=204)
    response.delete_cookie(SESSION_COOKIE, path=guard.cookie_path, httponly=True, samesite="strict")
    return response


@router.get("/login", status_code=302, responses=document_problems(404, 503))
async def start_login(guard: CurrentGuard, request: Request) -> Response:
    """Redirect to the sign-in service."""
    try:
        response, cookie = await _require_provider(guard).start_login(request)
    except HttpRefusal as refusal:
        return _send_error_page(guard, request, refusal)
    # SameSite=Lax: the browser returns from the service's page and must send this cookie.
    response.set_cookie(
        oidc.LOGIN_COOKIE,
        cookie,
        max_age=oidc.LOGIN_TIMEOUT_S,
        path=guard.cookie_path,
        secure=_is_encrypted(request),
        httponly=True,
        samesite="lax",
    )
    return response


@router.get("/callback", status_code=303, responses=document_problems(401, 403, 404, 429, 503, 507))
async def finish_login(guard: CurrentGuard, request: Request) -> Response:
    """Return from the sign-in service and continue to the page."""
    provider = _require_provider(guard)
    try:
        user = await provider.finish_login(request)
    except HttpRefusal as refusal:
        counted = await run_in_threadpool(guard.record_failure, request)
        return _send_error_page(guard, request, counted if counted.status == 429 else refusal)
    await run_in_threadpool(guard.audit, user, "sign-in", None, "done", request)
    value = await run_in_threadpool(sessions.create_session, guard.engine, user, guard.config.session_hours)
    response = RedirectResponse(f"{guard.cookie_path.rstrip('/')}/", 303)
    response.delete_cookie(oidc.LOGIN_COOKIE, path=guard.cookie_path, httponly=True, samesite="lax")
    return _set_session_cookie(guard, request, response, value)


def _send_error_page(guard: Guard, request: Request, refusal: HttpRefusal) -> Response:
    """Create a page that explains a failed sign-in to a person; raises the refusal for a program."""
    if "text/html" not in request.headers.get("accept", ""):
        raise refusal
    base, error = f"{guard.cookie_path.rstrip('/')}/", refusal.error
    text = _PAGE.format(
        base=html.escape(base),
        message=html.escape(error.message[:1].upper() + error.message[1:]),
        remedy=html.escape(error.remedy),
        code=html.escape(error.code),
    )
    return HTMLResponse(text, refusal.status or problems.get_status(error), refusal.headers)


def _require_provider(guard: Guard) -> oidc.Provider:
    if guard.provider is None:
        raise NotFound("no sign-in service is configured", "Use a token; docs/security.md explains sign-in services.")
    return guard.provider


def _set_session_cookie(guard: Guard, request: Request, response: Response, value: str) -> Response:
    response.set_cookie(
        SESSION_COOKIE,
        value,
        max_age=int(guard.config.session_hours * 3600),
        path=guard.cookie_path,
        secure=_is_encrypted(request),
        httponly=True,
        samesite="strict",
    )
    return response


def _is_encrypted(request: Request) -> bool:
    return request.url.scheme == "https"
