"""Security headers of every response, and requests that are refused because of where a browser sends them from."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from strokeseg.errors import Unauthorized
from strokeseg.web import problems

# No inline scripts or styles, and no other server. NiiVue draws with WebGL and creates images from blobs.
PAGE_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
# A page that is part of a result, such as report.html, contains its own policy with the hash of each script. Here it
# gets a separate origin, so that it can neither use the session nor read another study.
DOCUMENT_CSP = "sandbox allow-scripts allow-modals; frame-ancestors 'none'"

_DEFAULT_HEADERS = {
    "content-security-policy": PAGE_CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=(), serial=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_HSTS = "max-age=31536000"
_LOCAL_HOSTS = {"127.0.0.1", "::1", "localhost"}
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class SecurityMiddleware:
    """ASGI middleware: adds the default headers, and refuses requests that another web site causes.

    Parameters
    ----------
    app : ASGIApp
        The protected application.
    local_only : bool
        Sign-in is off, so only pages of this machine may send requests: a host name that another web site pointed at
        127.0.0.1 is refused, and so are requests forwarded by a proxy.
    """

    def __init__(self, app: ASGIApp, local_only: bool) -> None:
        self._app, self._local_only = app, local_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, pass it on, and add headers to the response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        base = scope.get("root_path", "")
        if base and not scope["path"].startswith(f"{base}/"):
            # Some proxies remove their own path; in ASGI it is part of the path, and mounted files need it.
            scope["path"] = base + scope["path"]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _DEFAULT_HEADERS.items():
                    headers.setdefault(name, value)
                if scope["scheme"] == "https":
                    headers.setdefault("strict-transport-security", _HSTS)
            await send(message)

        headers = Headers(scope=scope)
        reason = _check_fetch_site(headers, scope["method"]) or (self._local_only and _check_local(headers))
        app = problems.create_response(Unauthorized(*reason), 403) if reason else self._app
        await app(scope, receive, send_with_headers)


def _check_fetch_site(headers: Headers, method: str) -> tuple[str, str] | None:
    """Return the reason and remedy if another web site causes a change; None if the request is fine."""
    # Only browsers send this header, and a page cannot set it.
    if method not in SAFE_METHODS and headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return "the request comes from another web site", "Use the application's own page."
    return None


def _check_local(headers: Headers) -> tuple[str, str] | None:
    """Return the reason and remedy if a request does not come from this machine; None if it is fine."""
    host = _parse_hostname(headers.get("host", ""))
    origin = headers.get("origin")
    if host not in _LOCAL_HOSTS:
        return "the request names another machine", "Open http://127.0.0.1 with the port that `strokeseg serve` logs."
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        return "the request comes from another web site", "Use the application's own page."
    if "x-forwarded-for" in headers or "forwarded" in headers:
        remedy = "Start `strokeseg serve` with --trusted-proxy ADDRESS; it then requires tokens."
        return "a proxy forwarded the request, but sign-in is off", remedy
    return None


def _parse_hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
