"""Who someone is, and what they may do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from strokeseg.errors import UsageError

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")


def expand_scopes(names: Iterable[str]) -> frozenset[str]:
    """Return the scopes that are named and those that each holds: admin holds write, write holds read.

    Raises
    ------
    UsageError
        `usage`, for an unknown one or none.
    """
    named = [name.strip() for name in names if name.strip()]
    unknown = sorted(set(named) - set(SCOPES))
    if unknown or not named:
        said = f"{unknown[0][:40]!r} is no scope" if unknown else "no scope is given"
        raise UsageError(said, "Give some of read, write and admin.")
    most = max(index for index, scope in enumerate(SCOPES) if scope in named)
    return frozenset(SCOPES[: most + 1])


@dataclass(frozen=True)
class User:
    """Someone who got in.

    Parameters
    ----------
    name : str
        Of a person or a program; what they upload belongs to it.
    group : str or None
        Whose studies they also see; None is no group.
    scopes : frozenset of str
        Of "read", "write", "admin".
    """

    name: str
    group: str | None
    scopes: frozenset[str]

    def can_see(self, owner: str, group: str | None) -> bool:
        """Whether a study of that owner and group is theirs to see: their own, their group's, or all for an admin."""
        return "admin" in self.scopes or owner == self.name or (group is not None and group == self.group)


LOCAL_USER = User("local", None, frozenset(SCOPES))
"""Whoever sits at this machine, where nobody is asked who they are."""
