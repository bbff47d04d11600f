"""Roles, and for what a caller has them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

EVERY = "*"
"""The pattern of all namespaces, or of all actions."""


class Role(StrEnum):
    """What a caller may do: see the enum of access_service.proto."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    AUTHOR = "author"
    EXECUTOR = "executor"
    ADMIN = "admin"
    SERVICE = "service"


_HAVING = {
    Role.VIEWER: frozenset({Role.VIEWER, Role.OPERATOR, Role.AUTHOR, Role.ADMIN, Role.SERVICE}),
    Role.OPERATOR: frozenset({Role.OPERATOR, Role.ADMIN, Role.SERVICE}),
    Role.AUTHOR: frozenset({Role.AUTHOR, Role.ADMIN, Role.SERVICE}),
    Role.EXECUTOR: frozenset({Role.EXECUTOR, Role.SERVICE}),
    Role.ADMIN: frozenset({Role.ADMIN, Role.SERVICE}),
    Role.SERVICE: frozenset({Role.SERVICE}),
}
"""By a role: the roles whose callers may do what it may."""


@dataclass(frozen=True, slots=True)
class Grant:
    """One role, and for what.

    >>> grant = Grant.parse("viewer@team-*")
    >>> grant.gives(Role.VIEWER, "team-a"), grant.gives(Role.VIEWER, "other"), grant.gives(Role.OPERATOR, "team-a")
    (True, False, False)
    """

    role: Role
    pattern: str = EVERY
    """Of namespaces, or for executors of actions: a whole name, or the beginning of names and `*`."""

    def gives(self, role: Role, name: str) -> bool:
        """Return whether it gives a role for one namespace, or one action."""
        return self.role in _HAVING[role] and self._covers(name)

    def gives_somewhere(self, role: Role) -> bool:
        """Return whether it gives a role for anything."""
        return self.role in _HAVING[role]

    def _covers(self, name: str) -> bool:
        return name.startswith(self.pattern[:-1]) if self.pattern.endswith(EVERY) else name == self.pattern

    @property
    def fault(self) -> str:
        """Return what is wrong with it; empty if nothing is."""
        if EVERY in self.pattern[:-1]:
            return f"the pattern {self.pattern!r} has * before its end"
        if self.role is Role.SERVICE and self.pattern != EVERY:
            return "a service may do everything: its pattern is *"
        return ""

    @classmethod
    def parse(cls, text: str) -> Grant:
        """Read `ROLE@PATTERN`, or `ROLE` for everything. Raises ValueError."""
        role, at, pattern = text.partition("@")
        if role not in set(Role):
            raise ValueError(f"{role!r} is no role: there are {', '.join(Role)}")
        grant = cls(Role(role), pattern if at else EVERY)
        if grant.fault:
            raise ValueError(grant.fault)
        return grant

    def __str__(self) -> str:
        return self.role if self.pattern == EVERY else f"{self.role}@{self.pattern}"


def write_grants(grants: Iterable[Grant]) -> str:
    """Return grants as the store keeps them.

    >>> write_grants([Grant(Role.VIEWER, "team-a")])
    '[["viewer", "team-a"]]'
    """
    return json.dumps([(each.role, each.pattern) for each in grants], ensure_ascii=False)


def read_grants(text: str) -> tuple[Grant, ...]:
    """Return the grants in a row of the store, without roles of a later version."""
    return tuple(Grant(Role(role), pattern) for role, pattern in json.loads(text) if role in set(Role))
