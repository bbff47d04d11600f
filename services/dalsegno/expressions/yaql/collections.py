"""YAQL's functions on lists and dicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from itertools import islice
from typing import Any

from dalsegno.expressions.keys import key_of, pay_for_key
from dalsegno.expressions.values import (
    CONTAINER_COST,
    MEMBER_COST,
    BuiltDict,
    BuiltList,
    describe,
    is_iterable,
    is_iterator,
)
from dalsegno.expressions.yaql.frame import Frame
from dalsegno.expressions.yaql.lazy import stack
from dalsegno.expressions.yaql.operators import collect, equal, is_member, is_sequence, merge, pay, walk
from dalsegno.expressions.yaql.registry import ANY, builtin
from dalsegno.workflow.scope import EvaluationError

MERGE_COST = 2
"""Steps of merging one key of two dicts."""
DISTINCT_COST = 3
"""Steps of a check whether a value occurred before, beside the visit of the value."""


def need_dict(value: Any, what: str) -> Mapping[Any, Any]:
    if isinstance(value, Mapping):
        return value
    raise EvaluationError(f"{what} needs a dict, not {describe(value)}")


def need_integer(value: Any, what: str) -> int:
    if isinstance(value, int):
        return value
    raise EvaluationError(f"{what} needs an integer, not {describe(value)}")


@builtin("len", method=True, function=True)
def length(frame: Frame, value: Any) -> object:
    if isinstance(value, (str, Mapping, list, tuple, Set)):
        return len(value)
    if is_iterator(value):
        return sum(1 for _ in walk(frame, value, "len()"))
    raise EvaluationError(f"len() does not apply to {describe(value)}")


@builtin("list", least=0, most=ANY, function=True)
def make_list(frame: Frame, *values: Any) -> object:
    return collect(frame, _unroll(frame, values))


def _unroll(frame: Frame, values: Any) -> Iterator[Any]:
    """Yield all items of nested iterators. Not recursive: each item would pass through all levels above it."""
    levels = [iter(values)]
    while levels:
        for value in levels[-1]:
            if is_iterator(value):
                frame.budget.step(1)
                levels.append(value)
                break
            yield value
        else:
            levels.pop()


@builtin("toList", method=True)
def to_list(frame: Frame, items: Any) -> object:
    return collect(frame, walk(frame, items, "toList()"))


@builtin("flatten", method=True)
def flatten(frame: Frame, items: Any) -> object:
    source = walk(frame, items, "flatten()")
    return stack(_flatten(frame, source), source)


def _flatten(frame: Frame, items: Any) -> Iterator[Any]:
    """Yield the items without recursion: each item would pass through all levels above it."""
    levels = [iter(items)]
    while levels:
        for item in levels[-1]:
            frame.budget.step(1)
            if is_iterable(item):
                levels.append(iter(walk(frame, item, "flatten()")))
                break
            yield item
        else:
            levels.pop()


@builtin("dict", function=True)
def make_dict(frame: Frame, pairs: Any) -> object:
    result = BuiltDict()
    for pair in walk(frame, pairs, "dict()"):
        try:
            key, value = islice(iter(pair), 2)
        except (TypeError, ValueError):
            raise EvaluationError("dict() needs a list of pairs") from None
        put(frame, result, key, value)
    return result


def put(frame: Frame, target: BuiltDict, key: Any, value: Any) -> None:
    """Set a key, and count it. Raises EvaluationError for an invalid key."""
    frame.budget.step(1)
    frame.budget.build(MEMBER_COST)
    pay_for_key(frame.budget, key, len(target))
    try:
        target[key] = value
    except TypeError:
        raise EvaluationError(f"{describe(key)} cannot be a key") from None


@builtin("toDict", least=2, most=3, method=True, lambdas={1: 1, 2: 1})
def to_dict(frame: Frame, items: Any, key: Callable[[Any], Any], value: Callable[[Any], Any] | None = None) -> object:
    result = BuiltDict()
    for item in walk(frame, items, "toDict()"):
        put(frame, result, key(item), item if value is None else value(item))
    return result


@builtin("get", least=2, most=3, method=True)
def get(frame: Frame, target: Any, key: Any, default: Any = None) -> object:
    source = need_dict(target, "get()")
    pay_for_key(frame.budget, key, len(source))
    return source.get(key, default)


@builtin("set", least=2, most=3, method=True)
def set_keys(frame: Frame, target: Any, *change: Any) -> object:
    source = need_dict(target, "set()")
    changes = BuiltDict({change[0]: change[1]}) if len(change) == 2 else need_dict(change[0], "set()")
    return merge(frame, source, changes)


@builtin("keys", method=True)
def keys(frame: Frame, target: Any) -> object:
    return need_dict(target, "keys()").keys()


@builtin("values", method=True)
def values(frame: Frame, target: Any) -> object:
    return need_dict(target, "values()").values()


@builtin("items", method=True)
def items(frame: Frame, target: Any) -> object:
    return need_dict(target, "items()").items()


@builtin("containsKey", least=2, method=True)
def contains_key(frame: Frame, target: Any, key: Any) -> object:
    source = need_dict(target, "containsKey()")
    pay_for_key(frame.budget, key, len(source))
    return key in source


@builtin("containsValue", least=2, method=True)
def contains_value(frame: Frame, target: Any, value: Any) -> object:
    source = need_dict(target, "containsValue()")
    frame.budget.step(len(source))
    return any(equal(frame, item, value) for item in source.values())


@builtin("contains", least=2, method=True)
def contains(frame: Frame, items: Any, value: Any) -> object:
    if not is_iterable(items):
        raise EvaluationError(f"contains() needs a list, not {describe(items)}")
    return is_member(frame, value, items)


@builtin("isList", function=True)
def is_list(frame: Frame, value: Any) -> object:
    return is_sequence(value)


@builtin("isDict", function=True)
def is_dict(frame: Frame, value: Any) -> object:
    return isinstance(value, Mapping)


@builtin("isSet", function=True)
def is_set(frame: Frame, value: Any) -> object:
    return isinstance(value, Set)


@builtin("isIterable", function=True)
def is_iterable_value(frame: Frame, value: Any) -> object:
    return is_iterable(value)


@builtin("delete", least=1, most=ANY, method=True)
def delete(frame: Frame, target: Any, *arguments: Any) -> object:
    """Delete keys of a dict, or `count` items of a list from a position on."""
    if isinstance(target, Mapping):
        return delete_all(frame, target, list(arguments))
    if not 1 <= len(arguments) <= 2:
        raise EvaluationError("delete() of a list takes a position and a count")
    start, count = _span(arguments[0], arguments[1] if len(arguments) == 2 else 1, "delete()")
    source = walk(frame, target, "delete()")
    return stack((item for place, item in enumerate(source) if not _in_span(place, start, count)), source)


def _span(start: Any, count: Any, what: str) -> tuple[int, int]:
    return need_integer(start, what), need_integer(count, what)


def _in_span(place: int, start: int, count: int) -> bool:
    return start <= place < start + count if count >= 0 else place >= start


@builtin("deleteAll", least=2, method=True)
def delete_all(frame: Frame, target: Any, keys: Any) -> object:
    source = need_dict(target, "deleteAll()")
    result = merge(frame, source, {})
    for key in walk(frame, keys, "deleteAll()"):
        pay_for_key(frame.budget, key, len(result))
        result.pop(key, None)
    return result


def replace_items(frame: Frame, target: Any, position: Any, value: Any, count: Any = 1) -> object:
    """Replace `count` items of a list by one `value`."""
    start, number = _span(position, count, "replace()")
    source = walk(frame, target, "replace()")

    def run() -> Iterator[Any]:
        replaced = False
        for place, item in enumerate(source):
            if not _in_span(place, start, number):
                yield item
            elif not replaced:
                replaced = True
                yield value

    return stack(run(), source)


@builtin("insert", least=3, method=True)
def insert(frame: Frame, items: Any, position: Any, value: Any) -> object:
    place = need_integer(position, "insert()")
    if is_sequence(items):
        result = collect(frame, walk(frame, items, "insert()"))
        frame.budget.step(len(result) // 64)
        result.insert(place, value)
        return result
    if isinstance(items, Set):
        raise EvaluationError("insert() does not apply to a set")
    source = walk(frame, items, "insert()")
    return stack(_insert_all(source, place, [value], before=False), source)


@builtin("insertMany", least=3, method=True)
def insert_many(frame: Frame, items: Any, position: Any, values: Any) -> object:
    place = need_integer(position, "insertMany()")
    source = walk(frame, items, "insertMany()")
    more = walk(frame, values, "insertMany()")
    return stack(_insert_all(source, place, more, before=True), source, more)


def _insert_all(items: Any, position: int, values: Any, before: bool) -> Iterator[Any]:
    place = -1
    if before and position < 0:
        yield from values
    for place, item in enumerate(items):
        if place == position:
            yield from values
        yield item
    if position > place:
        yield from values


@builtin("mergeWith", least=2, most=5, method=True, lambdas={2: 2, 3: 2})
def merge_with(
    frame: Frame,
    target: Any,
    another: Any,
    merge_lists: Callable[[Any, Any], Any] | None = None,
    merge_items: Callable[[Any, Any], Any] | None = None,
    levels: Any = 0,
) -> object:
    """Merge two dicts, level by level; lists are joined without repetition, else the second one wins."""
    merger = _Merger(frame, merge_lists, merge_items)
    depth = need_integer(levels, "mergeWith()")
    return merger.merge(need_dict(target, "mergeWith()"), need_dict(another, "mergeWith()"), depth)


class _Merger:
    def __init__(self, frame: Frame, lists: Callable[[Any, Any], Any] | None, items: Callable[[Any, Any], Any] | None):
        self.frame = frame
        self.lists = lists
        self.items = items

    def merge(self, left: Mapping[Any, Any], right: Mapping[Any, Any], levels: int) -> BuiltDict:
        result = merge(self.frame, left, right)
        for key, value in right.items():
            self.frame.budget.step(MERGE_COST)
            if key in left:
                result[key] = self._merge_value(left[key], value, levels)
        return result

    def _merge_value(self, left: Any, right: Any, levels: int) -> object:
        if levels != 1 and isinstance(right, Mapping):
            return self.merge(need_dict(left, "mergeWith()"), right, levels - 1 if levels else 0)
        if levels != 1 and is_sequence(right):
            if not is_sequence(left):
                raise EvaluationError(f"mergeWith() cannot merge {describe(left)} with a list")
            return self._merge_lists(left, right)
        return right if self.items is None else self.items(left, right)

    def _merge_lists(self, left: Any, right: Any) -> object:
        if self.lists is not None:
            return self.lists(left, right)
        self.frame.budget.step(len(left) + len(right))
        return collect(self.frame, distinct_items(self.frame, [*left, *right], None))


def distinct_items(frame: Frame, items: Any, key: Callable[[Any], Any] | None) -> Iterator[Any]:
    """Yield the items whose keys were not there before; a list or a dict may be a key."""
    budget = frame.budget
    seen: set[object] = set()
    for item in items:
        budget.step(DISTINCT_COST)
        mark = key_of(budget, item if key is None else key(item))
        if mark not in seen:
            budget.build(MEMBER_COST)
            seen.add(mark)
            yield item


@builtin("switchCase", least=1, most=ANY, method=True, lambdas={place: 0 for place in range(1, 50)})
def switch_case(frame: Frame, case: Any, *choices: Callable[[], Any]) -> object:
    number = need_integer(case, "switchCase()")
    if not choices:
        return None
    return choices[number if 0 <= number < len(choices) else -1]()


@builtin("selectCase", least=0, most=ANY, function=True, lambdas={place: 0 for place in range(50)})
def select_case(frame: Frame, *conditions: Callable[[], Any]) -> object:
    return next((place for place, holds in enumerate(conditions) if holds()), len(conditions))


@builtin("coalesce", least=0, most=ANY, function=True, lambdas={place: 0 for place in range(50)})
def coalesce(frame: Frame, *choices: Callable[[], Any]) -> object:
    return next((value for value in (choice() for choice in choices) if value is not None), None)


@builtin("repeat", least=1, most=2, method=True)
def repeat(frame: Frame, value: Any, times: Any = -1) -> object:
    number = need_integer(times, "repeat()")
    return pay(frame, iter(lambda: value, _NEVER) if number < 0 else (value for _ in range(number)))


_NEVER = object()


@builtin("splitAt", least=2, method=True)
def split_at(frame: Frame, items: Any, position: Any) -> object:
    source = collect(frame, walk(frame, items, "splitAt()"))
    frame.budget.build(2 * CONTAINER_COST + len(source))
    place = need_integer(position, "splitAt()")
    return BuiltList([BuiltList(source[:place]), BuiltList(source[place:])])
