"""The routes of signing in and out."""

from __future__ import annotations

import html
from typing import Annotated

from fastapi import APIRouter, Body, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from strokeseg.errors import NotFound
from strokeseg.serve import problems
from strokeseg.serve.auth import oidc, sessions, tokens
from strokeseg.serve.auth.guard import COOKIE, Guard, needs_header
from strokeseg.serve.problems import Refused, responses

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
Text = Annotated[str, Body(embed=True, alias="token", max_length=200)]


def router(guard: Guard) -> APIRouter:
    """Give the routes under /auth."""
    routes = APIRouter()
    rules, engine = guard.rules, guard.engine
    provider = oidc.Provider(rules.oidc) if guard.mode == "oidc" and rules.oidc else None

    @routes.post("/session", status_code=204, responses=responses(401, 403, 422, 429, 507))
    def begin(request: Request, text: Text) -> Response:
        """Sign in with a token: the answer sets the session's cookie. Needs the header X-StrokeSeg: 1."""
        needs_header(request)
        token = tokens.known(engine, text)
        if token is None:
            raise guard.failed(request)
        guard.audit(token.user, "sign-in", None, "done", request)
        value = sessions.begin(engine, token.user, rules.session_hours, token)
        return _with_session(guard, request, Response(status_code=204), value)

    @routes.post("/logout", status_code=204, responses=responses(403, 507))
    def leave(request: Request) -> Response:
        """Sign out: the session ends at once. Needs the header X-StrokeSeg: 1."""
        needs_header(request)
        value = request.cookies.get(COOKIE)
        if value:
            guard.audit(sessions.user_of(engine, value), "sign-out", None, "done", request)
            sessions.end(engine, value)
        answer = Response(status_code=204)
        answer.delete_cookie(COOKIE, path=guard.cookie_path, httponly=True, samesite="strict")
        return answer

    @routes.get("/login", status_code=302, responses=responses(404, 503))
    async def to_provider(request: Request) -> Response:
        """Go to the sign-in service."""
        try:
            answer, kept = await _known(provider).leave(request)
        except Refused as refused:
            return _told(guard, request, refused)
        # Lax: the browser comes back here from the service's page, and must bring this cookie.
        answer.set_cookie(
            oidc.COOKIE,
            kept,
            max_age=oidc.SECONDS,
            path=guard.cookie_path,
            secure=_encrypted(request),
            httponly=True,
            samesite="lax",
        )
        return answer

    @routes.get("/callback", status_code=303, responses=responses(401, 403, 404, 429, 503, 507))
    async def from_provider(request: Request) -> Response:
        """Come back from the sign-in service, and go on to the page."""
        asked = _known(provider)
        try:
            user = await asked.come_back(request)
        except Refused as refused:
            counted = await run_in_threadpool(guard.failed, request)
            return _told(guard, request, counted if counted.status == 429 else refused)
        await run_in_threadpool(guard.audit, user, "sign-in", None, "done", request)
        value = await run_in_threadpool(sessions.begin, engine, user, rules.session_hours)
        answer = RedirectResponse(f"{guard.cookie_path.rstrip('/')}/", 303)
        answer.delete_cookie(oidc.COOKIE, path=guard.cookie_path, httponly=True, samesite="lax")
        return _with_session(guard, request, answer, value)

    return routes


def _told(guard: Guard, request: Request, refused: Refused) -> Response:
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
    return HTMLResponse(text, refused.status or problems.status_of(error), refused.headers)


def _known(provider: oidc.Provider | None) -> oidc.Provider:
    if provider is None:
        raise NotFound("there is no sign-in service", "Use a token; docs/security.md tells how to add a service.")
    return provider


def _with_session(guard: Guard, request: Request, answer: Response, value: str) -> Response:
    answer.set_cookie(
        COOKIE,
        value,
        max_age=int(guard.rules.session_hours * 3600),
        path=guard.cookie_path,
        secure=_encrypted(request),
        httponly=True,
        samesite="strict",
    )
    return answer


def _encrypted(request: Request) -> bool:
    return request.url.scheme == "https"
