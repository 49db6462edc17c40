"""UIDs as functions of what they stand for: the same input gives the same object, and a re-send is no second one."""

from __future__ import annotations

import re
import uuid

# The space that StrokeSeg's names live in; a UUID of its own, made once.
_NAMESPACE = uuid.UUID("6f1f2b0e-6d0b-4c39-9a53-0c7c6e0f4a11")
_UID_FORM = re.compile(r"\d+(\.\d+)+")
MAX_LENGTH = 64


def derive_uid(*parts: str) -> str:
    """Return the UID of a name that consists of parts: 2.25 and a name-based UUID (RFC 9562 version 5, PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(0).join(parts)).int}"


def is_usable(uid: str) -> bool:
    """Whether a UID can stand in an object: digits and dots, at most 64.

    A component that begins with 0 breaks the rules as well (PS3.5 9.1), but scanners write such UIDs and archives know
    their studies by them: it is kept as it is.
    """
    return len(uid) <= MAX_LENGTH and _UID_FORM.fullmatch(uid) is not None


def repair_uid(uid: str, *place: str) -> str:
    """Return a UID that can stand in an object: itself, or one that follows from it, or from its place if it is empty."""
    return uid if is_usable(uid) else derive_uid("mended", *((uid,) if uid else place))
