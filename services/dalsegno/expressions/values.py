"""Values inside an evaluation and how they become plain JSON data at its end.

Data of the scope is plain already and may be large, so it is never visited: only values that an expression has built
(the two classes here) and unfinished ones (iterators, views) are converted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Set
from datetime import datetime, timedelta
from typing import Any

import orjson

from dalsegno.expressions.budget import Budget
from dalsegno.expressions.integers import SHORT, bounded, write_integer
from dalsegno.expressions.yaql.lazy import Lazy
from dalsegno.workflow.scope import EvaluationError

DEPTH = 200
"""Levels of nesting in a value that an expression makes."""
CONTAINER_COST = 16
"""The memory of a list or a dict within a value, in elements."""
MEMBER_COST = 8
"""The memory of a member of a dict without its key, in elements of a list."""
PAID_AT_ONCE = 64
"""Items that are converted before they are counted."""
BUILT_COST = 3
"""Steps of converting a list or a dict that the expression has made, without its members."""
NESTING = 700
"""Levels of nesting in a value in a list or a dict of a definition: together a value has up to 800."""
WRITTEN_PER_STEP = 256
"""Bytes of JSON that are written in the time of one step."""
QUOTED = 60
"""Characters of a text that are shown in a message."""


class BuiltList(list[Any]):
    """A list made by the expression: what is in it may still need converting."""

    __slots__ = ()


class BuiltDict(dict[Any, Any]):
    """A dict made by the expression: what is in it may still need converting."""

    __slots__ = ()


_Kinds = frozenset[type]
PROVEN: _Kinds = frozenset({int, bool, dict, list, type(None)})
"""Types whose values are plain JSON data if they come from closures or from the scope. Texts need a check, floats may
be infinite."""
_UNPROVEN: _Kinds = frozenset({bool, type(None)})
"""The same if plain lists and dicts may contain any values."""
_SEQUENCES: _Kinds = frozenset({BuiltList, Lazy, map, filter})
"""Other types that closures often return."""


def finish(value: object, budget: Budget) -> object:
    """Return the value of an expression as plain JSON data: every value of either language comes through here.

    Plain lists, dicts and integers are such data already, unless the budget knows better. Raises EvaluationError for
    what JSON cannot hold here, and NeedsPool.
    """
    if budget.unproven:
        return _finish(value, budget, 0, _UNPROVEN)
    kind = type(value)
    if kind in PROVEN or (kind is str and is_storable(value)):  # type: ignore[arg-type]
        return value
    return (_finish_items if kind in _SEQUENCES else _finish)(value, budget, 0, PROVEN)  # type: ignore[arg-type]


def _finish(value: Any, budget: Budget, depth: int, plain: _Kinds) -> object:
    kind = type(value)
    if kind in _SEQUENCES:
        return _finish_items(value, budget, depth, plain)
    if kind in plain:
        if depth and (kind is dict or kind is list):
            _measure(value, budget, depth)
        return value
    if kind is str:
        if depth:
            budget.build(len(value))
        return finish_text(value, budget)
    if kind is int:
        return bounded(budget, value)
    if kind is float:
        return _finish_float(value)
    if isinstance(value, Mapping):
        return _finish_members(value, budget, depth, plain)
    if isinstance(value, str):
        return finish_text(str(value), budget)
    if isinstance(value, (set, frozenset)):
        return _finish_set(value, budget, depth, plain)
    if isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray)):
        return _finish_items(value, budget, depth, plain)
    return _finish_rest(value, budget)


def _finish_items(items: Iterable[object], budget: Budget, depth: int, plain: _Kinds) -> list[object]:
    if depth >= DEPTH:
        raise _too_deep()
    budget.steps -= BUILT_COST + len(items) // 4 if type(items) is BuiltList else BUILT_COST
    if budget.steps < 0:
        budget.exhaust()
    trusted: type | None = int if int in plain else None
    finished: list[object] = []
    count = CONTAINER_COST
    for item in items:
        count += 1
        if count >= PAID_AT_ONCE:
            budget.build(count)
            count = 0
        kind = type(item)
        if kind is trusted:
            finished.append(item)
        elif kind is str:
            budget.build(len(item))  # type: ignore[arg-type]
            finished.append(item if is_storable(item) else finish_text(item, budget))  # type: ignore[arg-type]
        elif (kind is dict or kind is list) and trusted:
            _measure(item, budget, depth + 1)
            finished.append(item)
        else:
            finished.append(_finish(item, budget, depth + 1, plain))
    budget.build(count)
    return finished


def _finish_members(members: Mapping[Any, object], budget: Budget, depth: int, plain: _Kinds) -> dict[str, object]:
    if depth >= DEPTH:
        raise _too_deep()
    budget.step(BUILT_COST + len(members))
    size = CONTAINER_COST + MEMBER_COST * len(members)
    trusted: type | None = int if int in plain else None
    finished = {}
    for key, item in members.items():
        name = key if type(key) is str and is_storable(key) else finish_key(key, budget)
        size += len(name)
        finished[name] = item if type(item) is trusted else _finish(item, budget, depth + 1, plain)
    budget.build(size)
    return finished


def _finish_set(items: Set[object], budget: Budget, depth: int, plain: _Kinds) -> list[object]:
    """Sort a set by value, because a set has no order: replays of an event must give the same result."""
    finished = _finish_items(items, budget, depth, plain)
    weight = weigh(finished, budget)
    budget.step(len(finished) * len(finished).bit_length() // 4 + weight)
    return sorted(finished, key=lambda item: (type(item).__name__, repr(item)))


def _measure(value: Any, budget: Budget, depth: int) -> None:
    """Count a plain value within a built one: each repetition is written in full.

    Raises EvaluationError and NeedsPool.
    """
    if depth >= DEPTH:
        raise _too_deep()
    count = len(value)
    budget.steps -= 1 + count // 2
    if budget.steps < 0:
        budget.exhaust()
    if type(value) is dict:
        size = CONTAINER_COST + MEMBER_COST * count
        for key, item in value.items():
            size += len(key)
            kind = type(item)
            if kind is str:
                size += len(item)
            elif kind is dict or kind is list:
                _measure(item, budget, depth + 1)
    else:
        size = CONTAINER_COST + count
        for item in value:
            kind = type(item)
            if kind is str:
                size += len(item)
            elif kind is dict or kind is list:
                _measure(item, budget, depth + 1)
    budget.build(size)


def _too_deep() -> EvaluationError:
    return EvaluationError(f"it gives a value nested deeper than {DEPTH} levels")


def is_storable(text: str) -> bool:
    """Return whether a text can certainly be stored, as nearly all can. finish_text checks the others."""
    return text.isascii() and "\0" not in text


def finish_text(text: str, budget: Budget) -> str:
    """Return the text. Raises EvaluationError if it cannot be stored."""
    if "\0" in text:
        raise EvaluationError("it gives a text with a NUL character, which cannot be stored")
    if not text.isascii():
        budget.read(text)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise EvaluationError("it gives a text with half a surrogate pair, which cannot be stored") from None
    return text


def finish_key(key: object, budget: Budget) -> str:
    """Return the key of a dict as JSON writes it. Raises EvaluationError."""
    if isinstance(key, str):
        return finish_text(str(key), budget)
    if key is None:
        return "null"
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, int):
        return write_integer(budget, key)
    if isinstance(key, float):
        return repr(key)
    raise EvaluationError(f"it gives a dict with {describe(key)} as a key")


def _finish_float(number: float) -> float:
    if not math.isfinite(number):
        raise EvaluationError(f"it gives {number}, which JSON does not have")
    return number


def _finish_rest(value: object, budget: Budget) -> object:
    if isinstance(value, int):
        return bounded(budget, int(value))
    if isinstance(value, float):
        return _finish_float(float(value))
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%f")
    if isinstance(value, timedelta):
        return value.total_seconds()
    raise EvaluationError(f"it gives {describe(value)}, which is not JSON data")


def check_nesting(value: object) -> int:
    """Check the nesting of plain data, and return the number of steps for it. Raises EvaluationError."""
    try:
        return len(orjson.dumps(value)) // WRITTEN_PER_STEP
    except TypeError:  # deeper than orjson goes, or with an integer that it does not write
        pass
    seen = depth = 0
    level: list[Any] = [value]
    while level:
        depth += 1
        if depth > NESTING:
            raise EvaluationError(f"it gives a value nested deeper than {NESTING} levels")
        members = [member for part in level for member in (part.values() if isinstance(part, dict) else part)]
        level = [member for member in members if isinstance(member, (dict, list))]
        seen += len(members)
    return seen


def weigh(value: object, budget: Budget) -> int:
    """Count a visit of everything in a value, and return the number of steps. The items of iterators are not visited.
    Raises EvaluationError and NeedsPool."""
    before = budget.steps
    waiting = [value]
    while waiting:
        part = waiting.pop()
        kind = type(part)
        if kind is str or isinstance(part, str):
            budget.read(part)  # type: ignore[arg-type]
        elif kind is int:
            bounded(budget, part)
        elif kind is float or kind is bool or part is None:
            continue
        elif isinstance(part, Mapping):
            budget.step(1 + 2 * len(part))
            waiting.extend(part)
            waiting.extend(part.values())
        elif isinstance(part, (list, tuple, Set)):
            budget.step(1 + len(part))
            waiting.extend(part)
    return before - budget.steps


def show(value: object, budget: Budget) -> str:
    """Return the value in a text, as Python shows it. Raises EvaluationError and NeedsPool."""
    if isinstance(value, int) and not isinstance(value, bool) and not -SHORT < value < SHORT:
        return write_integer(budget, value)
    if not isinstance(value, (str, int, float)):
        weigh(value, budget)
    text = str(value)
    budget.build(len(text))
    return text


def quote(value: object) -> str:
    """Return a short text of the value for a message."""
    if isinstance(value, str):
        return repr(value if len(value) <= QUOTED else f"{value[:QUOTED]}…")
    if value is None or isinstance(value, float) or (isinstance(value, int) and -SHORT < value < SHORT):
        return repr(value)
    return describe(value)


def is_iterator(value: object) -> bool:
    return isinstance(value, Iterator)


def is_iterable(value: object) -> bool:
    """Return whether YAQL iterates over it: lists, sets, views and iterators, but not strings and dicts."""
    return isinstance(value, (list, tuple)) or (isinstance(value, Iterable) and not isinstance(value, (str, Mapping)))


def describe(value: object) -> str:
    """Return the name of a value's type for the author of a workflow."""
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
