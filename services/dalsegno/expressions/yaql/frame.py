"""The state of a compiled YAQL expression while it runs."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from dalsegno.expressions.budget import Budget
from dalsegno.workflow.scope import Scope


class Frame(msgspec.Struct):
    """The scope, the budget, and the variables (`$name`, `$2`) visible at one place of an expression."""

    scope: Scope
    budget: Budget
    names: dict[str, object]

    def with_names(self, names: dict[str, object]) -> Frame:
        """Return a frame in which these variables are visible, too."""
        return Frame(self.scope, self.budget, {**self.names, **names})


Closure = Callable[[Frame, object], object]
"""A compiled node: a function of the frame and the value of `$` that returns its value."""


class NotCompiled(Exception):
    """The library must evaluate this expression."""


class TooDeep(Exception):
    """The expression is nested deeper than compiled expressions may be."""
