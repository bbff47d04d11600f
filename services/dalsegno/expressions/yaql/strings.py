"""YAQL's functions on strings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dalsegno.expressions.budget import CHARACTERS_PER_STEP
from dalsegno.expressions.integers import bounded
from dalsegno.expressions.texts import (
    pay_for_case,
    pay_for_replace,
    pay_for_search,
    pay_for_split,
    pay_for_strip,
)
from dalsegno.expressions.values import CONTAINER_COST, BuiltList, describe, is_iterable, show
from dalsegno.expressions.yaql.collections import need_integer, replace_items
from dalsegno.expressions.yaql.frame import Frame
from dalsegno.expressions.yaql.operators import collect, is_number, pay_for_members, walk
from dalsegno.expressions.yaql.registry import ANY, builtin
from dalsegno.workflow.scope import EvaluationError

SHOWN_COST = 5
"""Steps of showing a list or a dict, without its members."""


def need_string(frame: Frame, value: Any, what: str) -> str:
    """Return the string, after counting a read of it. Raises EvaluationError."""
    if isinstance(value, str):
        frame.budget.read(value)
        return value
    raise EvaluationError(f"{what} needs a string, not {describe(value)}")


def as_string(frame: Frame, value: Any) -> str:
    """Return `str()`: YAQL's names of null and booleans; lists as the library shows them, in round brackets.

    Iterators are shown as lists: the library shows a memory address, different each time. The length is counted.
    """
    if type(value) is str or type(value) is int:
        return show(value, frame.budget)
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, (list, tuple, Mapping)):
        return _measured(frame, repr(_as_tuples(frame, value, 0)))
    if is_iterable(value):
        return _measured(frame, repr(_as_tuples(frame, collect(frame, value), 0)))
    return show(value, frame.budget)


def _as_tuples(frame: Frame, value: Any, depth: int) -> Any:
    if isinstance(value, str):
        frame.budget.step(1 + len(value) // CHARACTERS_PER_STEP)
        frame.budget.build(len(value))
        return value
    if not isinstance(value, (list, tuple, Mapping)):
        frame.budget.step(1)
        return bounded(frame.budget, value)
    if depth > 200:
        raise EvaluationError("str() of a value nested deeper than 200 levels")
    frame.budget.step(SHOWN_COST)
    frame.budget.build(CONTAINER_COST)
    if isinstance(value, (list, tuple)):
        return tuple(_as_tuples(frame, item, depth + 1) for item in value)
    pay_for_members(frame, value, len(value))
    return {_as_tuples(frame, key, depth + 1): _as_tuples(frame, item, depth + 1) for key, item in value.items()}


def _measured(frame: Frame, text: str) -> str:
    frame.budget.build(len(text))
    return text


@builtin("str", function=True)
def string(frame: Frame, value: Any) -> object:
    return as_string(frame, value)


@builtin("isString", function=True)
def is_string(frame: Frame, value: Any) -> object:
    return isinstance(value, str)


@builtin("toUpper", method=True)
def to_upper(frame: Frame, text: Any) -> object:
    source = need_string(frame, text, "toUpper()")
    pay_for_case(frame.budget, source)
    return source.upper()


@builtin("toLower", method=True)
def to_lower(frame: Frame, text: Any) -> object:
    source = need_string(frame, text, "toLower()")
    pay_for_case(frame.budget, source)
    return source.lower()


@builtin("split", least=1, most=3, method=True)
def split(frame: Frame, text: Any, separator: Any = None, limit: Any = -1) -> object:
    return _split(frame, "split()", text, separator, limit, right=False)


@builtin("rightSplit", least=1, most=3, method=True)
def right_split(frame: Frame, text: Any, separator: Any = None, limit: Any = -1) -> object:
    return _split(frame, "rightSplit()", text, separator, limit, right=True)


def _split(frame: Frame, what: str, text: Any, separator: Any, limit: Any, right: bool) -> object:
    source = need_string(frame, text, what)
    between = None if separator is None else need_string(frame, separator, what)
    if between == "":
        raise EvaluationError(f"{what} with an empty separator")
    pay_for_split(frame.budget, source, between, backwards=right)
    cut = source.rsplit if right else source.split
    return BuiltList(cut(between, need_integer(limit, what)))


def join_strings(frame: Frame, left: Any, right: Any) -> object:
    """`list.join(separator)` and `separator.join(list)`."""
    separator, items = (left, right) if isinstance(left, str) else (right, left)
    between = need_string(frame, separator, "join()")
    parts = []
    for item in walk(frame, items, "join()"):
        part = item if isinstance(item, str) else as_string(frame, item)
        frame.budget.build(1 + len(part) + len(between))
        parts.append(part)
    return between.join(parts)


def concat_strings(frame: Frame, *texts: Any) -> object:
    parts = [need_string(frame, text, "concat()") for text in texts]
    frame.budget.build(sum(map(len, parts)))
    return "".join(parts)


@builtin("trim", least=1, most=2, method=True)
def trim(frame: Frame, text: Any, characters: Any = None) -> object:
    source, wanted = _strippable(frame, text, characters, "trim()")
    return source.strip(wanted)


@builtin("trimLeft", least=1, most=2, method=True)
def trim_left(frame: Frame, text: Any, characters: Any = None) -> object:
    source, wanted = _strippable(frame, text, characters, "trimLeft()")
    return source.lstrip(wanted)


@builtin("trimRight", least=1, most=2, method=True)
def trim_right(frame: Frame, text: Any, characters: Any = None) -> object:
    source, wanted = _strippable(frame, text, characters, "trimRight()")
    return source.rstrip(wanted)


@builtin("norm", least=1, most=2, method=True, function=True)
def norm(frame: Frame, text: Any, characters: Any = None) -> object:
    if text is None:
        return None
    source, wanted = _strippable(frame, text, characters, "norm()")
    return source.strip(wanted) or None


@builtin("isEmpty", least=1, most=3, method=True, function=True)
def is_empty(frame: Frame, text: Any, trimmed: Any = True, characters: Any = None) -> object:
    if text is None:
        return True
    source, wanted = _strippable(frame, text, characters, "isEmpty()")
    if not isinstance(trimmed, bool):
        raise EvaluationError(f"isEmpty() needs a boolean, not {describe(trimmed)}")
    return not (source.strip(wanted) if trimmed else source)


def _strippable(frame: Frame, text: Any, characters: Any, what: str) -> tuple[str, str | None]:
    """Return the text and the characters to remove from its ends, both strings, after counting the work."""
    source = need_string(frame, text, what)
    wanted = None if characters is None else need_string(frame, characters, what)
    pay_for_strip(frame.budget, source, wanted)
    return source, wanted


@builtin("replace", least=2, most=4, method=True)
def replace(frame: Frame, target: Any, *arguments: Any) -> object:
    """Of a string: one text by another, or several by a dict. Of a list: items from a position on."""
    if not isinstance(target, str):
        if not 2 <= len(arguments) <= 3:
            raise EvaluationError("replace() of a list takes a position, a value and a count")
        return replace_items(frame, target, *arguments)
    if isinstance(arguments[0], Mapping) and len(arguments) <= 2:
        count = need_integer(arguments[1], "replace()") if len(arguments) == 2 else -1
        for old, new in arguments[0].items():
            target = _replace(frame, target, as_string(frame, old), as_string(frame, new), count)
        return target
    if len(arguments) == 1:
        raise EvaluationError("replace() needs what to replace and by what")
    count = need_integer(arguments[2], "replace()") if len(arguments) == 3 else -1
    old, new = need_string(frame, arguments[0], "replace()"), need_string(frame, arguments[1], "replace()")
    return _replace(frame, target, old, new, count)


def _replace(frame: Frame, text: str, old: str, new: str, count: int) -> str:
    pay_for_replace(frame.budget, text, old, new, count)
    return text.replace(old, new, count)


@builtin("substring", least=2, most=3, method=True)
def substring(frame: Frame, text: Any, start: Any, length: Any = -1) -> object:
    source = need_string(frame, text, "substring()")
    first, count = need_integer(start, "substring()"), need_integer(length, "substring()")
    if count < 0:
        count = len(source)
    if first < 0:
        first += len(source)
    frame.budget.build(min(count, len(source)))
    return source[first : first + count]


def find_in_string(frame: Frame, text: str, part: Any, span: tuple[Any, ...], last: bool) -> int:
    """`indexOf` and `lastIndexOf` of strings; the span is a start and a length, both optional."""
    what = "lastIndexOf()" if last else "indexOf()"
    find = text.rfind if last else text.find
    wanted = need_string(frame, part, what)
    pay_for_search(frame.budget, text, wanted, backwards=last)
    first = need_integer(span[0], what) if span else 0
    if len(span) < 2:
        return find(wanted, first)
    count = need_integer(span[1], what)
    if first < 0:
        first += len(text)
    if count < 0:
        count = len(text) - first
    return find(wanted, first, first + count)


@builtin("toCharArray", method=True)
def to_characters(frame: Frame, text: Any) -> object:
    source = need_string(frame, text, "toCharArray()")
    pay_for_split(frame.budget, source, None)
    return BuiltList(source)


@builtin("startsWith", least=1, most=ANY, method=True)
def starts_with(frame: Frame, text: Any, *prefixes: Any) -> object:
    wanted = tuple(need_string(frame, prefix, "startsWith()") for prefix in prefixes)
    return need_string(frame, text, "startsWith()").startswith(wanted)


@builtin("endsWith", least=1, most=ANY, method=True)
def ends_with(frame: Frame, text: Any, *suffixes: Any) -> object:
    wanted = tuple(need_string(frame, suffix, "endsWith()") for suffix in suffixes)
    return need_string(frame, text, "endsWith()").endswith(wanted)


@builtin("hex", function=True)
def hexadecimal(frame: Frame, value: Any) -> object:
    if not is_number(value) or isinstance(value, float):
        raise EvaluationError(f"hex() needs an integer, not {describe(value)}")
    frame.budget.build(len("0x") + bounded(frame.budget, value).bit_length() // 4)
    return hex(value)
