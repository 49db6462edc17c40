"""Access control: tokens, browser sessions, single sign-on, and the audit log. See docs/security.md.

::

    request ──▶ SecurityMiddleware (headers, origin) ──▶ route ──▶ RequireScope ──▶ token | session ──▶ User
                                                                        └── wrong ──▶ rate_limit, audit
"""

from strokeseg.web.auth.bounded_route import MAX_UPLOAD, BoundedRoute, limit_body
from strokeseg.web.auth.guard import Guard, RequireScope, create_guard
from strokeseg.web.auth.headers import DOCUMENT_CSP, PAGE_CSP
from strokeseg.web.auth.protection import protect
from strokeseg.web.auth.users import LOCAL_USER, SCOPES, Credential, User

__all__ = [
    "DOCUMENT_CSP",
    "LOCAL_USER",
    "MAX_UPLOAD",
    "PAGE_CSP",
    "SCOPES",
    "BoundedRoute",
    "Credential",
    "Guard",
    "RequireScope",
    "User",
    "create_guard",
    "limit_body",
    "protect",
]
