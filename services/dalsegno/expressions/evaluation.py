"""Evaluate an expression: in the engine if that is quick, else in the pool.

An expression with a known bound runs in the engine with a small budget, which is part of the budget of the event. If
that is not enough, it runs again in the pool, with the same closures and the full budget.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from functools import cache
from typing import ClassVar

from dalsegno.expressions.budget import STEPS_HERE, Budget, BudgetHere, NeedsPool
from dalsegno.expressions.language import Language
from dalsegno.expressions.pool_client import Overrun, evaluate_in_pool, keep_overrun, overrun_before
from dalsegno.workflow.scope import EvaluationError, Scope

COMPILED_MAX = 2_048
"""How many expressions of a kind are kept compiled by their texts, for definitions that repeat them."""

Path = tuple[str, ...]
"""A variable and keys in it."""
PATH_COST = 1
"""Steps of following a path."""
ELSEWHERE = object()
"""Represents the value of a path that leads through anything but dicts."""


class Source(ABC):
    """A text that is an expression, or contains expressions."""

    __slots__ = ("cost", "is_bounded", "language", "path", "text")

    notation: ClassVar[str]
    """Its kind, for the pool."""
    made: ClassVar[tuple[str, ...]] = ()
    """The attributes that are computed from the others if they are None."""

    def __init__(self, text: str, language: Language, *, cost: int, is_bounded: bool, path: Path | None) -> None:
        self.text = text
        self.language = language
        self.cost = cost
        """Steps of each evaluation, beside those that depend on the data."""
        self.is_bounded = is_bounded
        """Whether the budget counts everything that it does, so that it may run in the engine."""
        self.path = path
        """The path that it reads, if it does nothing else; that is so for nearly all expressions."""

    def __reduce__(self) -> tuple[object, ...]:
        """Return the state for another process, which compiles it again (definitions/reading.py)."""
        values = (None if name in self.made else getattr(self, name) for name in _attributes(type(self)))
        return _restore, (type(self), *values)

    def evaluate(self, scope: Scope, place: str = "") -> object:
        """Return the value as plain JSON data. `place` keeps `uuid()` of two places apart. Raises EvaluationError."""
        if self.path is not None:
            found = follow(scope, self.path)
            if found is not ELSEWHERE:
                return found
        left = scope.steps_left if self.is_bounded else 0
        steps = left if left < STEPS_HERE else STEPS_HERE
        if steps > self.cost:
            overrun = overrun_before(self.text, place, left)
            if overrun is None:
                budget = BudgetHere(place, steps - self.cost)
                try:
                    return self.value(scope, budget)
                except (NeedsPool, RecursionError):
                    overrun = Overrun(steps - budget.steps, is_moved=steps == STEPS_HERE)
                    keep_overrun(self.text, place, left, overrun)
                except MemoryError:
                    raise
                except Exception as error:
                    raise self.failure(error) from None
                finally:
                    if overrun is None:
                        scope.spend(steps - budget.steps)
            scope.spend(overrun.steps, is_moved=overrun.is_moved)
        return evaluate_in_pool(self.notation, self.text, scope, place, self.language.name)

    def evaluate_here(self, scope: Scope, place: str) -> object:
        """Evaluate in this process without the engine's limits; the pool does this. Raises EvaluationError."""
        try:
            return self.value(scope, Budget(place))
        except MemoryError:
            raise
        except Exception as error:
            raise self.failure(error) from None

    @abstractmethod
    def value(self, scope: Scope, budget: Budget) -> object:
        """Return the value as plain JSON data. Raises NeedsPool, and the exceptions of Python and the libraries."""

    @abstractmethod
    def failure(self, error: Exception) -> EvaluationError:
        """Return the message of an error in it.

        Python's functions and the libraries raise exceptions of any type. Each is an error of the expression.
        """


@cache
def _attributes(kind: type[Source]) -> tuple[str, ...]:
    return tuple(name for each in kind.__mro__ for name in getattr(each, "__slots__", ()))


def _restore(kind: type[Source], *values: object) -> Source:
    """Return the source from another process. (A tuple of values takes less memory than the usual dict.)"""
    source: Source = object.__new__(kind)
    for name, value in zip(_attributes(kind), values, strict=True):
        setattr(source, name, value)
    return source


def follow(scope: Scope, path: Path) -> object:
    """Return the value at the path, or ELSEWHERE if it is not a variable or a member of dicts in it.

    What comes unchanged out of the scope is JSON data already.
    """
    try:
        value: object = scope.variable(path[0])
        for name in path[1:]:
            value = value[name]  # type: ignore[index]
    except (KeyError, TypeError, EvaluationError):
        return ELSEWHERE
    scope.spend(PATH_COST)
    return value


def explain(shown: str, error: Exception) -> EvaluationError:
    """Return the error with the text of its expression, both shortened, for the author."""
    if isinstance(error, RecursionError):
        cause = "it nests too deeply"
    elif isinstance(error, EvaluationError):
        cause = str(error)
    elif isinstance(error, re.error):
        cause = f"error: {error}"  # From Python 3.13 on its name is another one.
    else:
        cause = f"{type(error).__name__}: {error}"
    return EvaluationError(f"{shown}: {shorten(cause, 1_000)}")


def shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"
