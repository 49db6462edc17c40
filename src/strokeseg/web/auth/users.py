"""Users and their scopes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from strokeseg.errors import UsageError

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")


def expand_scopes(names: Iterable[str]) -> frozenset[str]:
    """Return the named scopes and those that each includes: admin includes write, write includes read.

    Parameters
    ----------
    names : iterable of str
        Names of scopes.

    Returns
    -------
    frozenset of str
        All scopes.

    Raises
    ------
    UsageError
        `usage`, for an unknown scope or for none.
    """
    named = [name.strip() for name in names if name.strip()]
    unknown = sorted(set(named) - set(SCOPES))
    if unknown or not named:
        message = f"unknown scope {unknown[0][:40]!r}" if unknown else "no scope was given"
        raise UsageError(message, "Use read, write or admin.")
    highest = max(index for index, scope in enumerate(SCOPES) if scope in named)
    return frozenset(SCOPES[: highest + 1])


@dataclass(frozen=True)
class Credential:
    """What a user was identified by: the ID of a token, or the hash of a session's cookie."""

    token: str | None = None
    session: str | None = None


@dataclass(frozen=True)
class User:
    """An authenticated user.

    Attributes
    ----------
    name : str
        Name of a person or a program; the owner of what they upload.
    group : str or None
        The group whose studies they also see; None is no group.
    scopes : frozenset of str
        Any of "read", "write" and "admin".
    credential : Credential or None
        What the user was identified by; None if sign-in is off.
    """

    name: str
    group: str | None
    scopes: frozenset[str]
    credential: Credential | None = field(default=None, compare=False)

    def can_see(self, owner: str, group: str | None) -> bool:
        """Return whether the user may see a study: their own, their group's, or any for an admin."""
        return "admin" in self.scopes or owner == self.name or (group is not None and group == self.group)


LOCAL_USER = User("local", None, frozenset(SCOPES))
"""The user of this machine, if sign-in is off."""
