"""The routes of signing in and out."""

from __future__ import annotations

import html
from typing import Annotated

from fastapi import APIRouter, Body, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from strokeseg.errors import NotFound
from strokeseg.web import problems
from strokeseg.web.auth import oidc, sessions, tokens
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
    <p><a href="{base}">Back to the start</a></p>
  </main>
</body>
</html>
"""
TokenText = Annotated[str, Body(embed=True, alias="token", max_length=200)]


def create_router(guard: Guard) -> APIRouter:
    """Return the routes under /auth."""
    routes = APIRouter()
    rules, engine = guard.config, guard.engine
    provider = oidc.Provider(rules.oidc) if guard.mode == "oidc" and rules.oidc else None

    @routes.post("/session", status_code=204, responses=document_problems(401, 403, 422, 429, 507))
    def begin(request: Request, text: TokenText) -> Response:
        """Sign in with a token: the answer sets the session's cookie. Needs the header X-StrokeSeg: 1."""
        check_csrf_header(request)
        token = tokens.find_valid_token(engine, text)
        if token is None:
            raise guard.record_failure(request)
        guard.audit(token.user, "sign-in", None, "done", request)
        value = sessions.create_session(engine, token.user, rules.session_hours, token)
        return _set_session_cookie(guard, request, Response(status_code=204), value)

    @routes.post("/logout", status_code=204, responses=document_problems(403, 507))
    def leave(request: Request) -> Response:
        """Sign out: the session ends at once. Needs the header X-StrokeSeg: 1."""
        check_csrf_header(request)
        value = request.cookies.get(SESSION_COOKIE)
        if value:
            guard.audit(sessions.find_user(engine, value), "sign-out", None, "done", request)
            sessions.delete_session(engine, value)
        answer = Response(status_code=204)
        answer.delete_cookie(SESSION_COOKIE, path=guard.cookie_path, httponly=True, samesite="strict")
        return answer

    @routes.get("/login", status_code=302, responses=document_problems(404, 503))
    async def to_provider(request: Request) -> Response:
        """Go to the sign-in service."""
        try:
            answer, kept = await _require_provider(provider).start_login(request)
        except HttpRefusal as refused:
            return _send_error_page(guard, request, refused)
        # Lax: the browser comes back here from the service's page, and must bring this cookie.
        answer.set_cookie(
            oidc.LOGIN_COOKIE,
            kept,
            max_age=oidc.LOGIN_TIMEOUT_S,
            path=guard.cookie_path,
            secure=_is_encrypted(request),
            httponly=True,
            samesite="lax",
        )
        return answer

    @routes.get("/callback", status_code=303, responses=document_problems(401, 403, 404, 429, 503, 507))
    async def from_provider(request: Request) -> Response:
        """Come back from the sign-in service, and go on to the page."""
        asked = _require_provider(provider)
        try:
            user = await asked.finish_login(request)
        except HttpRefusal as refused:
            counted = await run_in_threadpool(guard.record_failure, request)
            return _send_error_page(guard, request, counted if counted.status == 429 else refused)
        await run_in_threadpool(guard.audit, user, "sign-in", None, "done", request)
        value = await run_in_threadpool(sessions.create_session, engine, user, rules.session_hours)
        answer = RedirectResponse(f"{guard.cookie_path.rstrip('/')}/", 303)
        answer.delete_cookie(oidc.LOGIN_COOKIE, path=guard.cookie_path, httponly=True, samesite="lax")
        return _set_session_cookie(guard, request, answer, value)

    return routes


def _send_error_page(guard: Guard, request: Request, refused: HttpRefusal) -> Response:
    """Tell a person who came here by a link why it failed; raises ``refused`` for a program."""
    if "text/html" not in request.headers.get("accept", ""):
        raise refused
    base, error = f"{guard.cookie_path.rstrip('/')}/", refused.error
    text = _PAGE.format(
        base=html.escape(base),
        message=html.escape(error.message[:1].upper() + error.message[1:]),
        remedy=html.escape(error.remedy),
        code=html.escape(error.code),
    )
    return HTMLResponse(text, refused.status or problems.get_status(error), refused.headers)


def _require_provider(provider: oidc.Provider | None) -> oidc.Provider:
    if provider is None:
        raise NotFound("there is no sign-in service", "Use a token; docs/security.md tells how to add a service.")
    return provider


def _set_session_cookie(guard: Guard, request: Request, answer: Response, value: str) -> Response:
    answer.set_cookie(
        SESSION_COOKIE,
        value,
        max_age=int(guard.config.session_hours * 3600),
        path=guard.cookie_path,
        secure=_is_encrypted(request),
        httponly=True,
        samesite="strict",
    )
    return answer


def _is_encrypted(request: Request) -> bool:
    return request.url.scheme == "https"
