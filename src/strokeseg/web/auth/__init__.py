"""Who gets in: tokens, browsers' sessions, a sign-in service; and a log of who did what. docs/security.md tells more.

::

    request ──▶ Shield (headers, where from) ──▶ route ──▶ require(scope) ──▶ token | session ──▶ User
                                                              └── wrong ──▶ failures, audit
"""

from strokeseg.web.auth.guard import Guard, create_guard
from strokeseg.web.auth.headers import DOCUMENT_CSP, PAGE_CSP
from strokeseg.web.auth.users import LOCAL_USER, SCOPES, User

__all__ = ["DOCUMENT_CSP", "LOCAL_USER", "PAGE_CSP", "SCOPES", "Guard", "User", "create_guard"]
