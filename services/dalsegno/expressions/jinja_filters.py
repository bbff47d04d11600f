"""Jinja's filters and tests that may run in the engine: the size of the values of each is counted.

Others run in the pool, unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import update_wrapper
from typing import Any

from jinja2 import pass_context
from jinja2 import tests as native_tests
from jinja2.filters import FILTERS as NATIVE_FILTERS
from jinja2.filters import ignore_case, make_attrgetter
from jinja2.runtime import Context
from jinja2.utils import _PassArg

from dalsegno.expressions import integers
from dalsegno.expressions.budget import Budget
from dalsegno.expressions.integers import bounded
from dalsegno.expressions.jinja_values import calculate, compare, contains, pay
from dalsegno.expressions.keys import key_of
from dalsegno.expressions.texts import pay_for_case, pay_for_split, pay_for_strip
from dalsegno.expressions.values import CONTAINER_COST, is_iterator, show, weigh

BudgetOf = Callable[[Context], Budget]
"""Returns the budget of a running template."""
Charge = Callable[[Budget, Any, tuple[Any, ...], Mapping[str, Any]], Any]
"""Counts a filter on a value with further arguments, and returns the value for the filter."""
ITEM_COST = 8
"""Steps of one item in a filter that calls something for each."""


def _pay_nothing(budget: Budget, value: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """Count nothing: it takes no longer for a larger value."""
    return value


def _pay_for_number(budget: Budget, value: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    return bounded(budget, value)


def _pay_for_integer(budget: Budget, value: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        budget.read(value)
        budget.step(min(len(value), integers.DIGITS) ** 2 >> 15)
        budget.build(len(value))  # In base 16 its length has no limit.
    return bounded(budget, value)


def _pay_for_reading(budget: Budget, value: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        budget.read(value)
    return bounded(budget, value)


def _pay_for_text(budget: Budget, value: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """Count a conversion of letters. Another value becomes text, as in Jinja."""
    text = value if isinstance(value, str) else show(value, budget)
    pay_for_case(budget, text)
    return text


def _pay_for_title(budget: Budget, value: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    text = _pay_for_text(budget, value, arguments, named)
    budget.step(len(text))
    return text


def _pay_for_trim(budget: Budget, value: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    text = value if isinstance(value, str) else show(value, budget)
    characters = _argument(arguments, named, 0, "chars", None)
    pay_for_strip(budget, text, characters if isinstance(characters, str) else None)
    return text


def _pay_for_string(budget: Budget, value: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    return show(value, budget)


def _pay_for_list(budget: Budget, value: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    return settle(budget, value)


def _pay_for_each(budget: Budget, value: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """Count a function for each item, when the items are read."""
    return pay(budget, value, ITEM_COST + _parts(*arguments, *named.values())) if value else value


def _pay_for_comparisons(budget: Budget, value: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """Count a comparison of each item."""
    items = settle(budget, value)
    budget.step(len(items) * (ITEM_COST + _parts(*arguments, *named.values())))
    weigh(items, budget)
    return items


def _pay_for_sorting(budget: Budget, value: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    items = _pay_for_comparisons(budget, value, arguments, named)
    budget.step(weigh(items, budget) * len(items).bit_length() // 4)
    return items


def settle(budget: Budget, value: Any) -> Any:
    """Return a counted list of an iterable; other values are unchanged."""
    if isinstance(value, str):
        pay_for_split(budget, value, None)
    elif is_iterator(value):
        items = []
        for item in value:
            budget.step(1)
            budget.build(1)
            items.append(item)
        return items
    elif isinstance(value, Iterable):
        items = list(value)
        budget.step(len(items))
        budget.build(CONTAINER_COST + len(items))
        return items
    return value


def _argument(arguments: tuple[Any, ...], named: Mapping[str, Any], place: int, name: str, default: Any) -> Any:
    return arguments[place] if place < len(arguments) else named.get(name, default)


def _parts(*arguments: Any) -> int:
    """Return the number of parts of all names of attributes."""
    return sum(1 + each.count(".") + each.count(",") for each in arguments if isinstance(each, str))


CHARGES: dict[str, Charge] = {
    "abs": _pay_for_number,
    "capitalize": _pay_for_text,
    "count": _pay_nothing,
    "d": _pay_nothing,
    "default": _pay_nothing,
    "first": _pay_nothing,
    "float": _pay_for_reading,
    "int": _pay_for_integer,
    "last": _pay_nothing,
    "length": _pay_nothing,
    "list": _pay_for_list,
    "lower": _pay_for_text,
    "map": _pay_for_each,
    "max": _pay_for_comparisons,
    "min": _pay_for_comparisons,
    "reject": _pay_for_each,
    "rejectattr": _pay_for_each,
    "reverse": _pay_for_list,
    "select": _pay_for_each,
    "selectattr": _pay_for_each,
    "sort": _pay_for_sorting,
    "string": _pay_for_string,
    "title": _pay_for_title,
    "trim": _pay_for_trim,
    "upper": _pay_for_text,
}
"""The costs of the filters that Jinja itself applies."""


FILTERS = frozenset(CHARGES) | {"sum", "join", "unique"}


def _charged(budget_of: BudgetOf, charge: Charge, native: Callable[..., Any]) -> Callable[..., Any]:
    passed = _PassArg.from_obj(native)

    @pass_context
    def apply(context: Context, value: Any, *arguments: Any, **named: Any) -> Any:
        budget = budget_of(context)
        value = charge(budget, value, arguments, named)
        if passed is None:
            found = native(value, *arguments, **named)
        else:
            environment, evaluation = context.environment, context.eval_ctx
            first = {_PassArg.context: context, _PassArg.environment: environment}.get(passed, evaluation)
            found = native(first, value, *arguments, **named)
        return bounded(budget, found)

    return update_wrapper(apply, native, assigned=("__name__", "__doc__"), updated=())


def filters(budget_of: BudgetOf) -> dict[str, Callable[..., Any]]:
    """Return the counted filters, by name."""

    @pass_context
    def total(context: Context, items: Any, attribute: Any = None, start: Any = 0) -> Any:
        """Return `sum`, counting each addition, also of lists."""
        if isinstance(start, str):
            raise TypeError("sum() can't sum strings")
        budget, found = budget_of(context), start
        for item in _attributes(context, budget, items, attribute):
            found = calculate(budget, "+", found, item)
        return found

    @pass_context
    def join(context: Context, items: Any, d: Any = "", attribute: Any = None) -> str:
        budget = budget_of(context)
        between = show(d, budget)
        parts = []
        for item in _attributes(context, budget, items, attribute):
            part = show(item, budget)
            budget.build(1 + len(between) + len(part))
            parts.append(part)
        return between.join(parts)

    @pass_context
    def unique(context: Context, items: Any, case_sensitive: bool = False, attribute: Any = None) -> Iterator[Any]:
        budget = budget_of(context)
        key = make_attrgetter(context.environment, attribute, postprocess=None if case_sensitive else ignore_case)
        seen = set()
        for item in pay(budget, items, ITEM_COST + _parts(attribute)):
            mark = key(item)
            if isinstance(mark, (list, dict)):
                raise TypeError("unique compares no lists and no dicts")
            known = key_of(budget, mark)
            if known not in seen:
                budget.build(CONTAINER_COST)
                seen.add(known)
                yield item

    own = {"sum": total, "join": join, "unique": unique}
    return own | {name: _charged(budget_of, charge, NATIVE_FILTERS[name]) for name, charge in CHARGES.items()}


def _attributes(context: Context, budget: Budget, items: Any, attribute: Any) -> Iterator[Any]:
    """Yield the items, or an attribute of each, counted."""
    paid = pay(budget, items, ITEM_COST + _parts(attribute))
    return paid if attribute is None else map(make_attrgetter(context.environment, attribute), paid)


_NATIVE_TESTS: Mapping[str, Any] = native_tests.TESTS
COMPARING_TESTS = {
    "eq": "eq",
    "equalto": "eq",
    "==": "eq",
    "ne": "ne",
    "!=": "ne",
    "lt": "lt",
    "lessthan": "lt",
    "<": "lt",
    "le": "lteq",
    "<=": "lteq",
    "gt": "gt",
    "greaterthan": "gt",
    ">": "gt",
    "ge": "gteq",
    ">=": "gteq",
}
"""Tests that compare, by the names of their operators."""
QUICK_TESTS = (
    "defined",
    "undefined",
    "none",
    "string",
    "number",
    "integer",
    "float",
    "boolean",
    "mapping",
    "sequence",
    "iterable",
    "true",
    "false",
)
"""Tests that take no longer for a larger value."""
DIVIDING_TESTS = ("odd", "even")
TESTS = frozenset({*COMPARING_TESTS, *QUICK_TESTS, *DIVIDING_TESTS, "in"})


def tests(budget_of: BudgetOf) -> dict[str, Callable[..., Any]]:
    """Return the counted tests, by name."""

    def comparing(name: str) -> Callable[..., Any]:
        @pass_context
        def test(context: Context, value: Any, other: Any) -> Any:
            return compare(budget_of(context), name, value, other)

        return test

    def dividing(native: Callable[..., Any]) -> Callable[..., Any]:
        @pass_context
        def test(context: Context, value: Any) -> Any:
            budget = budget_of(context)
            if isinstance(value, str):
                budget.leave()  # `value % 2` is formatting for a text.
            return native(bounded(budget, value))

        return test

    @pass_context
    def is_in(context: Context, value: Any, items: Any) -> Any:
        return contains(budget_of(context), items, value)

    quick: dict[str, Callable[..., Any]] = {name: _NATIVE_TESTS[name] for name in QUICK_TESTS}
    divided = {name: dividing(_NATIVE_TESTS[name]) for name in DIVIDING_TESTS}
    return quick | divided | {name: comparing(sign) for name, sign in COMPARING_TESTS.items()} | {"in": is_in}
