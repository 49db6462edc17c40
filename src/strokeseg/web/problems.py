"""Errors as problem details (RFC 9457), with the same codes as the command line."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from strokeseg.atomic_write import is_disk_full
from strokeseg.errors import (
    Busy,
    Conflict,
    DiskFull,
    InputError,
    ModelError,
    NotFound,
    StrokesegError,
    TooLarge,
    Unauthorized,
    UsageError,
    describe_fault,
)

log = logging.getLogger("strokeseg.serve")
MEDIA_TYPE = "application/problem+json"
_STATUS: dict[type[StrokesegError], int] = {
    UsageError: 400,
    Unauthorized: 401,
    NotFound: 404,
    Conflict: 409,
    TooLarge: 413,
    InputError: 422,
    ModelError: 422,
    Busy: 503,
    DiskFull: 507,
}
_CODES = {401: "unauthorized", 403: "unauthorized", 404: "not-found", 405: "usage", 409: "conflict", 413: "too-large"}
_REMEDIES = {
    408: "Send it again, or use a resumable upload.",
    413: "Send a single series, or use a resumable upload.",
}


class Problem(BaseModel):
    """The body of every error response."""

    type: str = Field(examples=["urn:strokeseg:error:not-found"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["the study does not exist"])
    code: str = Field(examples=["not-found"], description="docs/codes.md lists them")
    remedy: str = Field(examples=["List the studies with GET /api/v1/studies."])


class HttpRefusal(Exception):  # noqa: N818 - named for what is wrong, as in errors.py
    """A refusal with its own HTTP status and headers; any route or dependency may raise it.

    Parameters
    ----------
    error : StrokesegError
        The error to respond with.
    status : int or None
        HTTP status; None is the one of the error's class.
    headers : mapping of str to str or None
        Additional response headers.
    """

    def __init__(
        self, error: StrokesegError, status: int | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(str(error))
        self.error, self.status, self.headers = error, status, headers


def get_status(error: StrokesegError) -> int:
    """Return the HTTP status of an error."""
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)


def create_response(
    error: StrokesegError, status: int | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Create the response for an error.

    Parameters
    ----------
    error : StrokesegError
        The error to respond with.
    status : int or None
        HTTP status; None is the one of the error's class.
    headers : mapping of str to str or None
        Additional response headers.

    Returns
    -------
    JSONResponse
        Problem details.
    """
    return _create_problem(status or get_status(error), error.code, error.message, error.remedy, headers)


def document_problems(*statuses: int) -> dict[int | str, dict[str, object]]:
    """Return the part of a route's OpenAPI description that lists its possible problems."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def add_exception_handlers(app: FastAPI) -> None:
    """Make an application respond to every error with problem details."""
    app.add_exception_handler(StrokesegError, _handle_refusal)
    app.add_exception_handler(HttpRefusal, _handle_refusal)
    app.add_exception_handler(HTTPException, _handle_http_error)
    app.add_exception_handler(RequestValidationError, _handle_invalid_request)
    app.add_exception_handler(ClientDisconnect, _handle_disconnect)
    app.add_exception_handler(OSError, _handle_system_error)
    app.add_exception_handler(DBAPIError, _handle_system_error)
    app.add_exception_handler(Exception, _handle_fault)


def _handle_refusal(request: Request, error: Exception) -> Response:
    if isinstance(error, HttpRefusal):
        return create_response(error.error, error.status, error.headers)
    assert isinstance(error, StrokesegError)
    if get_status(error) >= 500:
        log.warning("%s %s: %s", request.method, _get_route(request), error.code)
    return create_response(error)


def _handle_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "usage" if error.status_code < 500 else "error")
    remedy = _REMEDIES.get(error.status_code, "See docs/serve.md.")
    return _create_problem(error.status_code, code, str(error.detail), remedy, error.headers)


def _handle_invalid_request(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    detail = "; ".join(f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()[:5])
    return _create_problem(422, "usage", detail[:2000], "Compare the request with /api/v1/openapi.json.")


def _handle_disconnect(_request: Request, _error: Exception) -> Response:
    """Respond to a connection that broke before the end of its body: nobody reads it, and it is no fault."""
    return _create_problem(408, "usage", "the connection broke before the end of the body", _REMEDIES[408])


def _handle_system_error(request: Request, error: Exception) -> Response:
    """Respond with 507 if the disk of the files or of the database is full; anything else is a fault."""
    if not _is_disk_full(error):
        raise error
    full = DiskFull("no space is left on the server's disk", "Ask the administrator for more space.")
    return _handle_refusal(request, full)


def _is_disk_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return is_disk_full(error)
    cause = getattr(error, "orig", None)
    # sqlite3 names its code, psycopg the SQLSTATE of "disk full".
    return getattr(cause, "sqlite_errorname", "") == "SQLITE_FULL" or getattr(cause, "sqlstate", "") == "53100"


def _handle_fault(request: Request, error: Exception) -> Response:
    log.error("%s %s: %s", request.method, _get_route(request), describe_fault(error))
    return _create_problem(500, "error", "internal error in StrokeSeg", "Report it with the line in the server's log.")


def _get_route(request: Request) -> str:
    route = request.scope.get("route")
    return str(getattr(route, "path", "?"))


def _create_problem(
    status: int, code: str, detail: str, remedy: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    title = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Error"
    problem = Problem(
        type=f"urn:strokeseg:error:{code}", title=title, status=status, detail=detail, code=code, remedy=remedy
    )
    return JSONResponse(problem.model_dump(), status, headers=dict(headers or {}), media_type=MEDIA_TYPE)
