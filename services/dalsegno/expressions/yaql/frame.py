"""What a compiled YAQL expression works on while it runs."""

from __future__ import annotations

from collections.abc import Callable

from dalsegno.expressions.budget import Budget
from dalsegno.workflow.scope import Scope


class Frame:
    """The scope, the budget, and the variables (`$name`, `$2`) visible at one place of an expression."""

    __slots__ = ("budget", "names", "scope")

    def __init__(self, scope: Scope, budget: Budget, names: dict[str, object]) -> None:
        self.scope = scope
        self.budget = budget
        self.names = names

    def with_names(self, names: dict[str, object]) -> Frame:
        """The frame in which these variables are visible too."""
        return Frame(self.scope, self.budget, {**self.names, **names})


Closure = Callable[[Frame, object], object]
"""A compiled node: from the frame and the value of `$` to its own value."""


class NotCompiled(Exception):
    """This expression is left to the library."""


class TooDeep(Exception):
    """The expression nests deeper than compiled expressions may."""
