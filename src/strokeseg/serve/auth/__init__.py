"""Who gets in: tokens, browsers' sessions, a sign-in service; and a log of who did what. docs/security.md tells more.

::

    request ──▶ Shield (headers, where from) ──▶ route ──▶ require(scope) ──▶ token | session ──▶ User
                                                              └── wrong ──▶ failures, audit
"""

from strokeseg.serve.auth.guard import Guard, guard
from strokeseg.serve.auth.headers import DOCUMENT_CSP, PAGE_CSP
from strokeseg.serve.auth.users import LOCAL, SCOPES, User

__all__ = ["DOCUMENT_CSP", "LOCAL", "PAGE_CSP", "SCOPES", "Guard", "User", "guard"]
