"""Values inside an evaluation and how they become plain JSON data at its end.

Data of the scope is plain already and may be large, so it is never walked through: only what an expression has built
itself (the two classes here) and what it has left unfinished (iterators, views) is converted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Set
from datetime import datetime, timedelta
from typing import Any

from dalsegno.expressions.budget import Budget
from dalsegno.workflow.scope import EvaluationError

DEPTH = 200
"""Levels of nesting in a value that an expression gives."""


CONTAINER_COST = 16
"""A list or a dict within a value costs as much time as so many of its elements."""
PLAIN: frozenset[type] = frozenset({str, int, bool, dict, list, type(None)})
"""Types whose values are plain JSON data as they are. Floats may be infinite."""


class BuiltList(list[Any]):
    """A list made by the expression: what is in it may still need converting."""

    __slots__ = ()


class BuiltDict(dict[Any, Any]):
    """A dict made by the expression: what is in it may still need converting."""

    __slots__ = ()


SCALARS: frozenset[type] = frozenset({str, int, bool, type(None)})
"""PLAIN without the containers: for values of the library, which keeps its own types in plain lists."""


def finish(value: object, budget: Budget, depth: int = 0, plain: frozenset[type] = PLAIN) -> object:
    """The value as plain JSON data; what is of a `plain` type is taken as it is.

    Raises EvaluationError for what JSON cannot hold.
    """
    kind = type(value)
    if kind in plain:
        if depth and kind is not int:
            measure(value, budget, depth)
        return value
    if kind is float:
        return _finish_float(value)  # type: ignore[arg-type]
    if depth >= DEPTH:
        raise EvaluationError(f"it gives a value nested deeper than {DEPTH} levels")
    if kind is map or kind is filter or kind is BuiltList:
        return _finish_items(value, budget, depth, plain)  # type: ignore[arg-type]
    if isinstance(value, Mapping):
        budget.build(CONTAINER_COST + len(value))
        return {finish_key(key): finish(item, budget, depth + 1, plain) for key, item in value.items()}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return _finish_set(value, budget, depth, plain)
    if isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray)):
        return _finish_items(value, budget, depth, plain)
    return _finish_rest(value)


def measure(value: object, budget: Budget, depth: int) -> None:
    """Pay for a plain value within a built one: however often it is repeated, all of it will be written out.

    Raises EvaluationError.
    """
    if isinstance(value, str):
        budget.build(len(value))
        return
    if depth >= DEPTH:
        raise EvaluationError(f"it gives a value nested deeper than {DEPTH} levels")
    if isinstance(value, dict):
        budget.build(CONTAINER_COST + 8 * len(value))
        value = value.values()
    elif isinstance(value, list):
        budget.build(CONTAINER_COST + len(value))
    else:
        return
    for item in value:
        if type(item) is not int:
            measure(item, budget, depth + 1)


def is_iterator(value: object) -> bool:
    return isinstance(value, Iterator)


def is_iterable(value: object) -> bool:
    """Whether YAQL walks through it: lists, sets, views and iterators, but not strings and dicts."""
    return isinstance(value, (list, tuple)) or (isinstance(value, Iterable) and not isinstance(value, (str, Mapping)))


def describe(value: object) -> str:
    """The kind of a value in the words of a workflow's author."""
    if value is None:
        return "null"
    names: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "a boolean"),
        (int, "an integer"),
        (float, "a number"),
        (str, "a string"),
        (Mapping, "a dict"),
        ((list, tuple), "a list"),
        (Set, "a set"),
        (Iterable, "an iterator"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), f"a {type(value).__name__}")


def _finish_items(items: Iterable[object], budget: Budget, depth: int, plain: frozenset[type]) -> list[object]:
    budget.build(CONTAINER_COST)
    finished: list[object] = []
    for item in items:
        budget.size -= 1
        if budget.size < 0:
            budget.build(0)
        finished.append(item if type(item) is int else finish(item, budget, depth + 1, plain))
    return finished


def _finish_set(items: Set[object], budget: Budget, depth: int, plain: frozenset[type]) -> list[object]:
    """Sets have no order of their own: one by value is the same each time the event is stepped."""
    finished = _finish_items(items, budget, depth, plain)
    return sorted(finished, key=lambda item: (type(item).__name__, repr(item)))


def finish_key(key: object) -> str:
    """The key of a dict as JSON writes it. Raises EvaluationError."""
    if isinstance(key, str):
        return str(key)
    if key is None:
        return "null"
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, (int, float)):
        return repr(key)
    raise EvaluationError(f"it gives a dict with {describe(key)} as a key")


def _finish_float(number: float) -> float:
    if not math.isfinite(number):
        raise EvaluationError(f"it gives {number}, which JSON does not have")
    return number


def _finish_rest(value: object) -> object:
    if isinstance(value, bool):
        return bool(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _finish_float(float(value))
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%f")
    if isinstance(value, timedelta):
        return value.total_seconds()
    raise EvaluationError(f"it gives {describe(value)}, which is not JSON data")
