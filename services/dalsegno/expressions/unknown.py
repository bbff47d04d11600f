"""Unknown names that an expression calls, found at compilation, for readers of a definition."""

from __future__ import annotations

from dataclasses import dataclass

YAQL = "YAQL"
JINJA = "Jinja"

FUNCTION = "function"
METHOD = "method"
FILTER = "filter"
TEST = "test"


@dataclass(frozen=True, slots=True)
class Unknown:
    """One undefined name that an expression calls. The expression fails at this call."""

    notation: str
    """YAQL or JINJA."""
    kind: str
    """FUNCTION, METHOD, FILTER or TEST."""
    name: str

    def __str__(self) -> str:
        return f"there is no {self.kind} `{self.name[:100]}` in {self.notation}"
