"""Jinja's operators, tests and methods on values; the size of the values is counted before.

Jinja leaves these operations to Python; here each is checked first.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Set, ValuesView
from typing import Any

from dalsegno.expressions import integers
from dalsegno.expressions.budget import CHARACTERS_PER_STEP, Budget
from dalsegno.expressions.integers import bounded
from dalsegno.expressions.keys import pay_for_key
from dalsegno.expressions.texts import pay_for_case, pay_for_search, pay_for_split, pay_for_strip
from dalsegno.expressions.values import CONTAINER_COST, weigh

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gteq": operator.ge,
    "lt": operator.lt,
    "lteq": operator.le,
}
"""By Jinja's names of operators."""
ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
}
_Sequences = (list, tuple)


def compare(budget: Budget, name: str, left: Any, right: Any) -> Any:
    """`left name right`."""
    if name == "in":
        return contains(budget, right, left)
    if name == "notin":
        return not contains(budget, right, left)
    pay_for_comparison(budget, left, right)
    return COMPARISONS[name](left, right)


def pay_for_comparison(budget: Budget, left: Any, right: Any) -> None:
    """Count a comparison of whole values."""
    if isinstance(left, str) or isinstance(right, str):
        if isinstance(left, str) and isinstance(right, str):
            budget.read(left)
    elif isinstance(left, int):
        bounded(budget, left)
    elif left is not None and not isinstance(left, float):
        weigh(left, budget)
        if isinstance(left, Set):
            weigh(right, budget)


def contains(budget: Budget, items: Any, item: Any) -> bool:
    """`item in items`."""
    if isinstance(items, str):
        if isinstance(item, str):
            pay_for_search(budget, items, item)
        return item in items
    if isinstance(items, (Mapping, Set)):
        pay_for_key(budget, item, len(items))
        weigh(item, budget)
        return item in items
    if isinstance(items, (*_Sequences, ValuesView, Iterator)):
        for each in items:
            budget.step(1)
            if each is item:
                return True
            pay_for_comparison(budget, each, item)
            if each == item:
                return True
        return False
    return item in items


def calculate(budget: Budget, sign: str, left: Any, right: Any) -> Any:
    """`left sign right`."""
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return _calculate_numbers(budget, sign, left, right)
    if sign == "*":
        return _repeat(budget, left, right)
    if sign == "**":
        return left**right
    if sign == "+" and isinstance(left, str) and isinstance(right, str):
        budget.build(len(left) + len(right))
    elif sign == "+" and isinstance(left, _Sequences) and isinstance(right, _Sequences):
        budget.build(CONTAINER_COST + len(left) + len(right))
    elif sign == "%" and isinstance(left, str):
        budget.leave()  # `'%1000000000d' % 1`
    else:
        weigh(left, budget)
        weigh(right, budget)
    return ARITHMETIC[sign](left, right)


def _calculate_numbers(budget: Budget, sign: str, left: Any, right: Any) -> Any:
    if sign == "*":
        return integers.multiply(budget, left, right)
    if sign == "**":
        return integers.power(budget, left, right)
    if sign not in ("+", "-"):
        integers.pay_division(budget, left, right)
    return bounded(budget, ARITHMETIC[sign](left, right))


def _repeat(budget: Budget, left: Any, right: Any) -> Any:
    values, times = (right, left) if isinstance(left, int) else (left, right)
    if isinstance(times, int) and isinstance(values, (str, *_Sequences)):
        budget.build(CONTAINER_COST + len(values) * max(times, 0))
    return left * right


def cut(budget: Budget, value: Any, span: slice) -> Any:
    """`value[start:stop:step]`."""
    if isinstance(value, (str, *_Sequences)):
        count = len(range(*span.indices(len(value))))
        budget.step(count // CHARACTERS_PER_STEP)
        budget.build(count)
    return value[span]


def pay(budget: Budget, items: Iterable[Any], cost: int) -> Iterator[Any]:
    """Yield the items, counting each."""
    for item in items:
        budget.step(cost)
        yield item


def _pay_for_text(budget: Budget, text: str, arguments: tuple[Any, ...]) -> None:
    budget.read(text)
    for argument in arguments:
        weigh(argument, budget)


def _pay_for_strip(budget: Budget, text: str, arguments: tuple[Any, ...]) -> None:
    pay_for_strip(budget, text, arguments[0] if arguments and isinstance(arguments[0], str) else None)


def _pay_for_split(budget: Budget, text: str, arguments: tuple[Any, ...], *, backwards: bool = False) -> None:
    separator = arguments[0] if arguments and isinstance(arguments[0], str) else None
    pay_for_split(budget, text, separator, backwards=backwards)


def _pay_for_right_split(budget: Budget, text: str, arguments: tuple[Any, ...]) -> None:
    _pay_for_split(budget, text, arguments, backwards=True)


def _pay_for_case(budget: Budget, text: str, arguments: tuple[Any, ...]) -> None:
    pay_for_case(budget, text)


def _pay_for_get(budget: Budget, members: Any, arguments: tuple[Any, ...]) -> None:
    if arguments:
        pay_for_key(budget, arguments[0], len(members))


def _pay_for_view(budget: Budget, members: Any, arguments: tuple[Any, ...]) -> None:
    """Count nothing: a view is iterated later."""


METHODS: dict[str, Callable[[Budget, Any, tuple[Any, ...]], None]] = {
    "get": _pay_for_get,
    "keys": _pay_for_view,
    "values": _pay_for_view,
    "items": _pay_for_view,
    "split": _pay_for_split,
    "rsplit": _pay_for_right_split,
    "strip": _pay_for_strip,
    "lstrip": _pay_for_strip,
    "rstrip": _pay_for_strip,
    "upper": _pay_for_case,
    "lower": _pay_for_case,
    "title": _pay_for_case,
    "startswith": _pay_for_text,
    "endswith": _pay_for_text,
    "isdigit": _pay_for_text,
}
"""The costs of the methods of texts and dicts that the engine may call."""


def pay_for_method(budget: Budget, method: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """Count a call of a method of a text or a dict."""
    charge = METHODS.get(method.__name__)
    if charge is not None and isinstance(method.__self__, (str, dict)):
        charge(budget, method.__self__, (*arguments, *named.values()))
