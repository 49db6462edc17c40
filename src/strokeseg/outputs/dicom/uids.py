"""UIDs derived from names: the same input gives the same UIDs, so that sending a result again adds no second object."""

from __future__ import annotations

import re
import uuid

# The namespace of StrokeSeg's names: a random UUID.
_NAMESPACE = uuid.UUID("6f1f2b0e-6d0b-4c39-9a53-0c7c6e0f4a11")
_UID_FORM = re.compile(r"\d+(\.\d+)+")
MAX_LENGTH = 64


def derive_uid(*parts: str) -> str:
    """Derive the UID of a name with several parts: 2.25 and a name-based UUID (RFC 9562 version 5, PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(0).join(parts)).int}"


def is_usable(uid: str) -> bool:
    """Return whether a UID can be used in an object: digits and dots, at most 64 characters.

    A component with a leading 0 is invalid too (PS3.5 9.1), but scanners write such UIDs and archives file studies
    under them, so they are kept.
    """
    return len(uid) <= MAX_LENGTH and _UID_FORM.fullmatch(uid) is not None


def repair_uid(uid: str, *substitute: str) -> str:
    """Return the UID itself if it is usable, else one derived from it, or from the substitute name if it is empty."""
    return uid if is_usable(uid) else derive_uid("mended", *((uid,) if uid else substitute))
