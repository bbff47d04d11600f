"""YAQL's functions on strings."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from dalsegno.expressions.values import CONTAINER_COST, BuiltList, describe, is_iterable
from dalsegno.expressions.yaql.collections import need_integer, replace_items
from dalsegno.expressions.yaql.frame import Frame
from dalsegno.expressions.yaql.operators import is_number, walk
from dalsegno.expressions.yaql.registry import ANY, builtin
from dalsegno.workflow.scope import EvaluationError

SHOWN = 100_000
"""Items of an iterator that `str()` shows."""


def need_string(frame: Frame, value: Any, what: str) -> str:
    """The string, paid for as if it were read. Raises EvaluationError."""
    if isinstance(value, str):
        frame.budget.read(value)
        return value
    raise EvaluationError(f"{what} needs a string, not {describe(value)}")


def as_string(frame: Frame, value: Any) -> str:
    """`str()`: YAQL's words for null and booleans; lists look as the library shows them, in round brackets.

    Iterators look like lists: the library shows an address in memory, different each time.
    """
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, (list, tuple, Mapping)):
        return repr(_as_tuples(frame, value, 0))
    if is_iterable(value):
        return repr(_as_tuples(frame, [*islice(value, SHOWN)], 0))
    return str(value)


def _as_tuples(frame: Frame, value: Any, depth: int) -> Any:
    if depth > 200:
        raise EvaluationError("str() of a value nested deeper than 200 levels")
    frame.budget.build(len(value) if isinstance(value, str) else CONTAINER_COST)
    if isinstance(value, (list, tuple)):
        return tuple(_as_tuples(frame, item, depth + 1) for item in value)
    if isinstance(value, Mapping):
        return {_as_tuples(frame, key, depth + 1): _as_tuples(frame, item, depth + 1) for key, item in value.items()}
    return value


def _measured(frame: Frame, text: str) -> str:
    frame.budget.build(len(text))
    return text


@builtin("str", function=True)
def string(frame: Frame, value: Any) -> object:
    try:
        return _measured(frame, as_string(frame, value))
    except ValueError:
        raise EvaluationError("str() of an integer with too many digits") from None


@builtin("isString", function=True)
def is_string(frame: Frame, value: Any) -> object:
    return isinstance(value, str)


@builtin("toUpper", method=True)
def to_upper(frame: Frame, text: Any) -> object:
    return _measured(frame, need_string(frame, text, "toUpper()").upper())


@builtin("toLower", method=True)
def to_lower(frame: Frame, text: Any) -> object:
    return _measured(frame, need_string(frame, text, "toLower()").lower())


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
    frame.budget.build(len(source))
    cut = source.rsplit if right else source.split
    return BuiltList(cut(between, need_integer(limit, what)))


def join_strings(frame: Frame, left: Any, right: Any) -> object:
    """`list.join(separator)` and `separator.join(list)`."""
    separator, items = (left, right) if isinstance(left, str) else (right, left)
    between = need_string(frame, separator, "join()")
    parts = []
    for item in walk(frame, items, "join()"):
        part = as_string(frame, item)
        frame.budget.build(len(part) + len(between))
        parts.append(part)
    return between.join(parts)


def concat_strings(frame: Frame, *texts: Any) -> object:
    return _measured(frame, "".join(need_string(frame, text, "concat()") for text in texts))


@builtin("trim", least=1, most=2, method=True)
def trim(frame: Frame, text: Any, characters: Any = None) -> object:
    return need_string(frame, text, "trim()").strip(_characters(frame, characters, "trim()"))


@builtin("trimLeft", least=1, most=2, method=True)
def trim_left(frame: Frame, text: Any, characters: Any = None) -> object:
    return need_string(frame, text, "trimLeft()").lstrip(_characters(frame, characters, "trimLeft()"))


@builtin("trimRight", least=1, most=2, method=True)
def trim_right(frame: Frame, text: Any, characters: Any = None) -> object:
    return need_string(frame, text, "trimRight()").rstrip(_characters(frame, characters, "trimRight()"))


@builtin("norm", least=1, most=2, method=True, function=True)
def norm(frame: Frame, text: Any, characters: Any = None) -> object:
    if text is None:
        return None
    return need_string(frame, text, "norm()").strip(_characters(frame, characters, "norm()")) or None


@builtin("isEmpty", least=1, most=3, method=True, function=True)
def is_empty(frame: Frame, text: Any, trimmed: Any = True, characters: Any = None) -> object:
    if text is None:
        return True
    source = need_string(frame, text, "isEmpty()")
    if not isinstance(trimmed, bool):
        raise EvaluationError(f"isEmpty() needs a boolean, not {describe(trimmed)}")
    return not (source.strip(_characters(frame, characters, "isEmpty()")) if trimmed else source)


def _characters(frame: Frame, value: Any, what: str) -> str | None:
    return None if value is None else need_string(frame, value, what)


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
    frame.budget.step(1 + len(text) // 64)
    found = text.count(old) if count < 0 else min(text.count(old), count)
    frame.budget.build(max(len(text) + found * (len(new) - len(old)), 0))
    return text.replace(old, new, count)


@builtin("substring", least=2, most=3, method=True)
def substring(frame: Frame, text: Any, start: Any, length: Any = -1) -> object:
    source = need_string(frame, text, "substring()")
    first, count = need_integer(start, "substring()"), need_integer(length, "substring()")
    if count < 0:
        count = len(source)
    if first < 0:
        first += len(source)
    return _measured(frame, source[first : first + count])


def find_in_string(frame: Frame, text: str, part: Any, span: tuple[Any, ...], last: bool) -> int:
    """`indexOf` and `lastIndexOf` of strings; the span is a start and a length, both optional."""
    what = "lastIndexOf()" if last else "indexOf()"
    frame.budget.read(text)
    find = text.rfind if last else text.find
    first = need_integer(span[0], what) if span else 0
    if len(span) < 2:
        return find(need_string(frame, part, what), first)
    count = need_integer(span[1], what)
    if first < 0:
        first += len(text)
    if count < 0:
        count = len(text) - first
    return find(need_string(frame, part, what), first, first + count)


@builtin("toCharArray", method=True)
def to_characters(frame: Frame, text: Any) -> object:
    source = need_string(frame, text, "toCharArray()")
    frame.budget.build(len(source))
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
    return hex(value)
