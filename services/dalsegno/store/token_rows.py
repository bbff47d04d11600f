"""The tokens of callers, of which only hashes are stored: their rows, and their part of the port."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token. Its row is never deleted, and changes once: when it is revoked."""

    token_id: str
    """The first hex digits of its hash."""
    sha256: str
    """In hex."""
    name: str
    """The caller that it stands for."""
    grants: str
    """JSON text: see access/grants.py."""
    created_s: float
    expires_s: float | None
    revoked_s: float | None
    actor: str
    comment: str


TokenCounts = tuple[int, int]
"""How many tokens there are, and how many of them are revoked. So it tells whether any has changed."""


class TokenQueries(Protocol):
    """The read side."""

    def tokens(self) -> list[TokenRow]:
        """Return all tokens, the oldest first."""
        ...

    def token_counts(self) -> TokenCounts:
        """Return how many tokens there are, and how many are revoked."""
        ...


class TokenChanges(Protocol):
    """The write side."""

    def add_token(self, row: TokenRow) -> None:
        """Store a token. Raises StoreConflict when its id exists."""
        ...

    def revoke_token(self, token_id: str, at_s: float) -> None:
        """Mark a token as revoked, unless it is."""
        ...
