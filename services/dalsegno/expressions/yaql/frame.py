"""What a compiled YAQL expression works on while it runs."""

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
        """The frame in which these variables are visible too."""
        return Frame(self.scope, self.budget, {**self.names, **names})


Closure = Callable[[Frame, object], object]
"""A compiled node: from the frame and the value of `$` to its own value."""


class NotCompiled(Exception):
    """This expression is left to the library."""


class TooDeep(Exception):
    """The expression nests deeper than compiled expressions may."""
