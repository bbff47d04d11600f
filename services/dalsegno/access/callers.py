"""Callers: who has sent the call that is served now, and what it may do."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dalsegno.access.grants import EVERY, Grant, Role

if TYPE_CHECKING:
    from dalsegno.access.claims import Rule
    from dalsegno.access.issuers import Issuer

ASK_ADMIN = "an admin makes a token with it by `dalsegno token create`"


@dataclass(frozen=True, slots=True)
class Origin:
    """Who has made the token of a caller, other than ourselves."""

    issuer: Issuer
    key: str
    """The thumbprint of the key that has checked it."""


@dataclass(frozen=True, slots=True)
class ByCertificate:
    """What certificates gave when a caller was known by one."""

    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Caller:
    """One caller."""

    name: str
    """The actor in journals."""
    grants: tuple[Grant, ...] = ()
    token_id: str = ""
    """The token that it has shown; empty: a certificate, or nothing."""
    sha256: str = ""
    """The hash of that token, in hex."""
    expires_s: float | None = None
    """When its token expires, in seconds since 1970; None: never."""
    account: str = ""
    """Under which its calls are counted, with those of other tokens of the same caller; empty: they are not."""
    origin: Origin | ByCertificate | None = None
    """None: its token is one of ours, or it has none."""
    advice: str = ASK_ADMIN
    """How it gets a role that it lacks."""

    def has(self, role: Role, name: str) -> bool:
        """Return whether it has a role for one namespace, or one action."""
        return any(grant.gives(role, name) for grant in self.grants)

    def patterns(self, role: Role) -> tuple[str, ...]:
        """Return for which namespaces, or actions, it has a role."""
        return tuple(dict.fromkeys(grant.pattern for grant in self.grants if grant.gives_somewhere(role)))

    def has_everywhere(self, role: Role) -> bool:
        """Return whether it has a role for all namespaces, or actions."""
        return EVERY in self.patterns(role)

    def lacking(self, role: Role, names: Iterable[str]) -> list[str]:
        """Return those of these namespaces, or actions, for which it lacks a role."""
        patterns = [grant for grant in self.grants if grant.gives_somewhere(role)]
        return [name for name in names if not any(grant.gives(role, name) for grant in patterns)]


ANYBODY = Caller("", (Grant(Role.SERVICE),))
"""The caller of every call to a server that asks for no tokens."""

HOLDER = "task token"
"""The actor of calls that show nothing but a task token."""

current: ContextVar[Caller] = ContextVar("caller", default=ANYBODY)
"""The caller of the call that this task serves."""
