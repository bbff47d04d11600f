"""What an expression calls that there is not: found when it is compiled, for whoever reads a definition."""

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
    """One name that an expression calls and that nobody has defined. The expression fails when it gets there."""

    notation: str
    """YAQL or JINJA."""
    kind: str
    """FUNCTION, METHOD, FILTER or TEST."""
    name: str

    def __str__(self) -> str:
        return f"there is no {self.kind} `{self.name[:100]}` in {self.notation}"
