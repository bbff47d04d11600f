"""The context in compiled YAQL: it reads single variables where it names one, so that the cost does not depend on the
size of the context."""

from __future__ import annotations

from dalsegno.expressions.language import Language
from dalsegno.expressions.values import quote
from dalsegno.expressions.yaql.frame import Closure, Frame
from dalsegno.expressions.yaql.operators import attribute
from dalsegno.workflow.scope import EvaluationError

ABSENT = object()
"""Represents a variable that does not exist."""


def context_closure(language: Language) -> Closure:
    """Return the whole context."""

    def closure(frame: Frame, dollar: object) -> object:
        shown = language.shown(frame.scope)
        frame.budget.step(len(shown) if isinstance(shown, dict) else 1)  # a result may have any type
        return shown

    return closure


def refusal(message: str) -> Closure:
    """Return a closure that fails at each evaluation."""

    def closure(frame: Frame, dollar: object) -> object:
        raise EvaluationError(message)

    return closure


def variable_closure(name: str, language: Language) -> Closure:
    """Return the variable of this name."""
    if language.hides(name):
        return variable_at_closure(lambda frame, dollar: name, language)

    def closure(frame: Frame, dollar: object) -> object:
        try:
            return frame.scope.variable(name)
        except KeyError:
            raise EvaluationError(f"there is no variable {name!r}") from None

    return closure


def path_closure(path: tuple[str, ...]) -> Closure:
    """Return the value at a path: a variable, and keys in it."""
    first, rest = path[0], path[1:]

    def closure(frame: Frame, dollar: object) -> object:
        try:
            value = frame.scope.variable(first)
        except KeyError:
            raise EvaluationError(f"there is no variable {first!r}") from None
        for name in rest:
            value = value[name] if type(value) is dict and name in value else attribute(frame, value, name)
        return value

    return closure


def variable_at_closure(key: Closure, language: Language) -> Closure:
    """Return the variable whose name the key gives."""

    def closure(frame: Frame, dollar: object) -> object:
        name = key(frame, dollar)
        try:
            if isinstance(name, str) and not language.hides(name):
                return frame.scope.variable(name)
        except KeyError:
            pass
        raise EvaluationError(f"there is no variable {quote(name)}")

    return closure


def variable_or(frame: Frame, language: Language, name: object, default: object) -> object:
    """Return the variable, or the default if it does not exist."""
    if not isinstance(name, str) or language.hides(name):
        return default
    try:
        return frame.scope.variable(name)
    except KeyError:
        return default
