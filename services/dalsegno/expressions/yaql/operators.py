"""YAQL's operators on evaluated values. Each has the result or the error of the library, and counts the size of the
values before."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Set, ValuesView
from itertools import chain
from typing import Any

from dalsegno.expressions import integers
from dalsegno.expressions.integers import bounded
from dalsegno.expressions.keys import pay_for_key
from dalsegno.expressions.texts import pay_for_search
from dalsegno.expressions.values import (
    CONTAINER_COST,
    MEMBER_COST,
    BuiltDict,
    BuiltList,
    describe,
    is_iterable,
    quote,
)
from dalsegno.expressions.yaql.frame import Frame
from dalsegno.expressions.yaql.lazy import SINGLE, depth_of, is_deep, stack
from dalsegno.workflow.scope import EvaluationError


def is_number(value: object) -> bool:
    """Booleans are no numbers in YAQL."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_sequence(value: object) -> bool:
    return isinstance(value, (list, tuple))


def refuse(sign: str, left: object, right: object) -> EvaluationError:
    return EvaluationError(f"'{sign}' does not apply to {describe(left)} and {describe(right)}")


def walk(frame: Frame, value: object, what: str) -> Iterable[Any]:
    """Return the value as an iterable, after counting it. Iterators count each item. Raises EvaluationError."""
    if type(value) is list:
        budget = frame.budget
        budget.steps -= len(value)
        if budget.steps < 0:
            budget.exhaust()
        return value
    if type(value) in SINGLE:
        return value  # type: ignore[return-value]
    if isinstance(value, (list, tuple, Set, ValuesView)):
        frame.budget.step(len(value))
        return value
    if is_iterable(value):
        return collect(frame, value) if is_deep(value) else value  # type: ignore[arg-type, return-value]
    raise EvaluationError(f"{what} needs a list, not {describe(value)}")


def pay(frame: Frame, items: Iterable[Any], cost: int = 1) -> Iterator[Any]:
    """Yield the items, counting each, so that endless iterators end."""
    budget = frame.budget
    for item in items:
        budget.steps -= cost
        if budget.steps < 0:
            budget.exhaust()
        yield item


def pack(frame: Frame, rows: Iterable[Iterable[Any]], width: int) -> Iterator[BuiltList]:
    """Yield the rows, of so many items each, as lists."""
    budget = frame.budget
    for row in rows:
        budget.step(1 + width // 8)
        budget.build(CONTAINER_COST + width)
        yield BuiltList(row)


def collect(frame: Frame, items: Iterable[Any]) -> BuiltList:
    """Return a list of the items, counting them."""
    budget = frame.budget
    if isinstance(items, (list, tuple, Set)):
        budget.build(CONTAINER_COST + len(items))
        return BuiltList(items)
    budget.build(CONTAINER_COST)
    cost = 1 + depth_of(items) // 8
    result = BuiltList()
    for item in items:
        budget.steps -= cost
        budget.size -= 1
        if budget.steps < 0 or budget.size < 0:
            budget.step(0)
            budget.build(0)
        result.append(item)
    return result


def merge(frame: Frame, left: Mapping[Any, Any], right: Mapping[Any, Any]) -> BuiltDict:
    """Return one dict of two, the second one before the first."""
    count = len(left) + len(right)
    frame.budget.step(1 + count // 4)
    frame.budget.build(CONTAINER_COST + MEMBER_COST * count)
    pay_for_members(frame, left, len(left))
    pay_for_members(frame, right, count)
    return BuiltDict({**left, **right})


def pay_for_members(frame: Frame, source: Mapping[Any, Any], held: int) -> None:
    """Count the look-ups of all keys of a dict among others. Dicts of the scope have texts as keys, which are cheap."""
    if type(source) is not dict:
        frame.budget.step(len(source))
        for key in source:
            pay_for_key(frame.budget, key, held)


def add(frame: Frame, left: Any, right: Any) -> object:
    if type(left) is str and type(right) is str:
        frame.budget.build(len(left) + len(right))
        return left + right
    if is_number(left) and is_number(right):
        return bounded(frame.budget, left + right)
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return merge(frame, left, right)
    if is_sequence(left) and is_sequence(right):
        frame.budget.build(CONTAINER_COST + len(left) + len(right))
        return BuiltList(chain(left, right))
    if isinstance(left, frozenset) and isinstance(right, frozenset):
        pay_for_sets(frame, left, right)
        return left | right
    if is_iterable(left) and is_iterable(right):
        first, second = walk(frame, left, "'+'"), walk(frame, right, "'+'")
        return stack(chain(first, second), first, second)
    raise refuse("+", left, right)


def pay_for_sets(frame: Frame, *sets: Set[Any]) -> None:
    """Count a union or a comparison of sets."""
    count = sum(map(len, sets))
    frame.budget.step(1 + count)
    frame.budget.build(CONTAINER_COST + MEMBER_COST * count)
    for each in sets:
        for item in each:
            pay_for_key(frame.budget, item, count)


def subtract(frame: Frame, left: Any, right: Any) -> object:
    if is_number(left) and is_number(right):
        return bounded(frame.budget, left - right)
    if isinstance(left, Set) and isinstance(right, Set):
        pay_for_sets(frame, left, right)
        return frozenset(left) - frozenset(right)
    raise refuse("-", left, right)


def multiply(frame: Frame, left: Any, right: Any) -> object:
    if is_number(left) and is_number(right):
        return integers.multiply(frame.budget, left, right)
    if isinstance(left, int) and (isinstance(right, str) or is_sequence(right)):
        left, right = right, left
    if isinstance(right, int) and isinstance(left, str):
        frame.budget.build(len(left) * max(right, 0))
        return left * right
    if isinstance(right, int) and is_sequence(left):
        frame.budget.build(CONTAINER_COST + len(left) * max(right, 0))
        return BuiltList(list(left) * right)
    raise refuse("*", left, right)


def divide(frame: Frame, left: Any, right: Any) -> object:
    if not (is_number(left) and is_number(right)):
        raise refuse("/", left, right)
    if right == 0:
        raise EvaluationError("division by zero")
    integers.pay_division(frame.budget, left, right)
    return bounded(frame.budget, left // right if isinstance(left, int) and isinstance(right, int) else left / right)


def modulo(frame: Frame, left: Any, right: Any) -> object:
    if not (is_number(left) and is_number(right)):
        raise refuse("mod", left, right)
    if right == 0:
        raise EvaluationError("division by zero")
    integers.pay_division(frame.budget, left, right)
    return bounded(frame.budget, left % right)


EQUAL_COST = 4
"""Steps of comparing two containers, without their members."""


def equal(frame: Frame, left: Any, right: Any) -> bool:
    """Return whether two values are the same. Containers are compared member by member, so that each is counted."""
    frame.budget.step(1)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(_all_equal(frame, zip(left, right, strict=True)))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        if len(left) != len(right):
            return False
        frame.budget.step(len(left))
        pay_for_members(frame, left, len(right))
        if any(key not in right for key in left):
            return False
        return all(_all_equal(frame, ((value, right[key]) for key, value in left.items())))
    if isinstance(left, Set) and isinstance(right, Set):
        pay_for_sets(frame, left, right)
        return bool(left == right)
    if isinstance(left, str):
        frame.budget.read(left)
    else:
        bounded(frame.budget, left)
    return bool(left == right)


def _all_equal(frame: Frame, pairs: Iterable[tuple[Any, Any]]) -> Iterator[bool]:
    frame.budget.step(EQUAL_COST)
    for left, right in pairs:
        frame.budget.step(1)
        yield left is right or equal(frame, left, right)


def not_equal(frame: Frame, left: Any, right: Any) -> bool:
    return not equal(frame, left, right)


def contained(frame: Frame, left: Any, right: Any) -> object:
    if isinstance(right, str) and isinstance(left, str):
        pay_for_search(frame.budget, right, left)
        return left in right
    if not is_iterable(right):
        raise refuse("in", left, right)
    return is_member(frame, left, right)


def is_member(frame: Frame, value: object, items: Any) -> bool:
    """Return whether the items contain the value. A dict or a list is in no set of keys."""
    if isinstance(items, Set):
        pay_for_key(frame.budget, value, len(items))
        try:
            return value in items
        except TypeError:
            return False
    source = walk(frame, items, "'in'")
    if isinstance(value, (str, list, tuple, Mapping, Set)):
        return any(equal(frame, item, value) for item in source)
    return value in source


TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def compare(sign: str) -> Callable[[Frame, Any, Any], object]:
    """Return the comparison of this sign. null is less than everything else and equal to itself."""

    test = TESTS[sign]

    def closure(frame: Frame, left: Any, right: Any) -> object:
        if is_number(left) and is_number(right):
            return test(bounded(frame.budget, left), right)
        if isinstance(left, str) and isinstance(right, str):
            frame.budget.read(left)
            return test(left, right)
        if left is None or right is None:
            return test(left is not None, right is not None)
        if isinstance(left, Set) and isinstance(right, Set):
            pay_for_sets(frame, left, right)
            return test(left, right)
        raise refuse(sign, left, right)

    return closure


less = compare("<")
greater = compare(">")

BINARY: dict[str, Callable[[Frame, Any, Any], object]] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "mod": modulo,
    "=": equal,
    "!=": not_equal,
    "in": contained,
    "<": less,
    "<=": compare("<="),
    ">": greater,
    ">=": compare(">="),
}


def negate(frame: Frame, value: Any) -> object:
    if not is_number(value):
        raise EvaluationError(f"'-' does not apply to {describe(value)}")
    return -bounded(frame.budget, value)


def affirm(frame: Frame, value: Any) -> object:
    if not is_number(value):
        raise EvaluationError(f"'+' does not apply to {describe(value)}")
    return +value


def invert(frame: Frame, value: object) -> object:
    return not value


UNARY: dict[str, Callable[[Frame, Any], object]] = {"-": negate, "+": affirm, "not": invert}


def attribute(frame: Frame, value: Any, name: str) -> object:
    """`value.name`: of a dict its member, of a list the members of its members. Raises EvaluationError."""
    if isinstance(value, Mapping):
        try:
            return value[name]
        except KeyError:
            raise EvaluationError(f"there is no key {name!r}") from None
    if is_iterable(value):
        items = walk(frame, value, f".{name}")
        return stack((attribute(frame, item, name) for item in pay(frame, items)), items)
    raise EvaluationError(f"{describe(value)} has no key {name!r}")


def index(frame: Frame, value: Any, key: Any) -> object:
    """`value[key]` of a dict or a list. Raises EvaluationError."""
    if isinstance(value, Mapping):
        pay_for_key(frame.budget, key, len(value))
        try:
            return value[key]
        except (KeyError, TypeError):
            raise EvaluationError(f"there is no key {quote(key)}") from None
    if is_sequence(value) and isinstance(key, int):
        try:
            return value[key]
        except IndexError:
            raise EvaluationError(f"there is no index {quote(key)} in a list of {len(value)}") from None
    raise EvaluationError(f"{describe(value)} cannot be indexed with {describe(key)}")


def index_or(frame: Frame, value: Any, key: Any, default: Any) -> object:
    """`value[key, default]` of a dict. Raises EvaluationError."""
    if not isinstance(value, Mapping):
        raise EvaluationError(f"{describe(value)} cannot be indexed with a default")
    pay_for_key(frame.budget, key, len(value))
    return value.get(key, default)
