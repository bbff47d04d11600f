"""The simple forms of Mistral's definitions: texts, lists of texts, numbers, expressions, mappings.

A Reader never raises: what does not fit becomes a problem, and the caller continues with the rest, so that one reading
of a document finds all problems.
"""

from __future__ import annotations

import json
import re
from typing import Any

from dalsegno.definitions.forms import Forms
from dalsegno.definitions.load import DEFAULT_LIMITS
from dalsegno.definitions.problems import EXPRESSION, Path, shown
from dalsegno.expressions.compile import ExpressionProblem, compile_template
from dalsegno.expressions.language import MISTRAL
from dalsegno.workflow.scope import Constant, Template

_EXPRESSION = re.compile(r"^({{.*}}|<%.*?%>)\s*$")
"""A text that counts as an expression where only an expression is allowed: it begins and ends as one, on one line."""

_EXPRESSION_HINT = "write an expression: <% ... %> or {{ ... }}"


class Reader(Forms):
    """Reads the parts of one Mistral document and adds the problems."""

    def template(self, value: object, path: Path) -> Template:
        """Return the value with its expressions compiled. Their problems, and calls of unknown functions, are added."""
        if isinstance(value, str | dict | list):
            self.warn_of_unknown(value, path, MISTRAL)
            return compile_template(value, self._note_expression, path)
        return Constant(value)

    def mapping_template(self, value: object, path: Path) -> Template | None:
        """Return a mapping that is not empty, with compiled values."""
        mapping = self.mapping(value, path)
        return None if mapping is None else self.template(mapping, path)

    def integer(self, value: object, path: Path) -> Template | None:
        """Read a whole number that is not negative, or an expression."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return Constant(value)
        return self._expression_or_fault(value, path, "a whole number from 0 on")

    def boolean(self, value: object, path: Path) -> Template | None:
        """Read true or false, or an expression."""
        if isinstance(value, bool):
            return Constant(value)
        return self._expression_or_fault(value, path, "true, false")

    def expression(self, value: object, path: Path) -> Template | None:
        """Read an expression."""
        return self._expression_or_fault(value, path, "")

    def parameters(self, value: object, path: Path) -> dict[str, Any]:
        """Read a list of names and one-key mappings `name: default`. Return the default of each name, or REQUIRED."""
        read: dict[str, Any] = {}
        if not isinstance(value, list) or not value:
            self.fault(path, f"must be a list of names that is not empty, not {shown(value)}")
            return read
        seen: set[str] = set()
        for index, item in enumerate(value):
            place = (*path, index)
            identity = json.dumps(item, sort_keys=True)
            if identity in seen:
                self.fault(place, f"{shown(item)} is twice in the list")
                continue
            seen.add(identity)
            if isinstance(item, dict) and len(item) == 1:
                self.mapping(item, place)
                read.update(item)
            elif isinstance(item, dict):
                self.fault(
                    place, "a default takes a mapping with exactly one key", "put each input in an item of its own"
                )
            else:
                name = self.text(item, place)
                if name is not None:
                    read[name] = REQUIRED
        return read

    def _expression_or_fault(self, value: object, path: Path, other: str) -> Template | None:
        if isinstance(value, str) and _EXPRESSION.search(value):
            return self.template(value, path)
        wanted = f"must be {other} or an expression" if other else "must be an expression"
        hint = _EXPRESSION_HINT
        if isinstance(value, str) and value.strip().lstrip("-").isdigit() and other:
            hint = "remove the quotes"
        self.fault(path, f"{wanted}, not {shown(value)}", hint)
        return None

    def _note_expression(self, problem: ExpressionProblem) -> None:
        self._problems.add(problem.path, problem.message, category=EXPRESSION)


def is_deep(value: object) -> bool:
    """Return whether lists and mappings are nested deeper than a document may nest them."""
    level: list[object] = [value]
    for _ in range(DEFAULT_LIMITS.depth_max):
        level = [
            item
            for part in level
            if isinstance(part, list | dict)
            for item in (part.values() if isinstance(part, dict) else part)
        ]
        if not level:
            return False
    return True


class _Required:
    """Marks a parameter without a default."""

    def __repr__(self) -> str:
        return "required"


REQUIRED = _Required()
