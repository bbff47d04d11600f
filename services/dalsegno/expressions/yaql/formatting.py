"""YAQL's `format`, which its library had before version 3: `'{0} of {name}'.format(1, name => x)`.

A field is a number, a plain name, or nothing if all fields are counted. It cannot reach attributes or indexes of a
value, and only texts, numbers and booleans accept a format, of limited width.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from string import Formatter
from typing import Any

from dalsegno.expressions.integers import pay_for_digits
from dalsegno.expressions.yaql.frame import Frame
from dalsegno.expressions.yaql.registry import ANY, builtin
from dalsegno.expressions.yaql.strings import as_string, need_string
from dalsegno.workflow.scope import EvaluationError

WIDTH_MAX = 1_000
"""The maximum width of a field, and the maximum digits of its number."""
FIELD_COST = 10
"""Steps of one field."""

_NAME = re.compile(r"[0-9]{1,4}|[^\W\d]\w*|")
_SPEC = re.compile(r"(?:.?[<>=^])?[-+ ]?z?#?0?([0-9]*)[_,]?(?:\.([0-9]+))?[bdeEfFgGosxX%]?", re.DOTALL)
"""Python's formats without `c`, which makes characters that no text may have, and `n`, which depends on the machine.
The groups are width and precision."""


@builtin("format", most=ANY, method=True, function=True, named=True)
def format_text(frame: Frame, text: Any, /, *values: Any, **named: Any) -> object:
    """Return the text with each field replaced by the argument that it numbers or names. Raises EvaluationError."""
    source = need_string(frame, text, "format()")
    frame.budget.build(len(source))
    parts: list[str] = []
    counted, numbered = 0, False
    for literal, name, spec in _parsed(source):
        parts.append(literal)
        if name is None:
            continue
        frame.budget.step(FIELD_COST)
        if name == "":
            name, counted = str(counted), counted + 1
        else:
            numbered = numbered or name[0] in "0123456789"
        if counted and numbered:
            raise EvaluationError("format(): either all fields have a number or none")
        parts.append(_filled(frame, _argument(name, values, named), spec))
    return "".join(parts)


def _parsed(text: str) -> Iterator[tuple[str, str | None, str]]:
    """Yield a text, the field after it (None at the end, "" for one without a name), and the field's format."""
    try:
        for literal, name, spec, conversion in Formatter().parse(text):
            if conversion:
                raise EvaluationError(f"format() converts nothing: take `!{conversion}` out of `{{{name}}}`")
            if name is not None and not _NAME.fullmatch(name):
                told = "a field is a number or a plain name; give format() the value itself"
                raise EvaluationError(f"format() does not look into values for `{{{name[:100]}}}`: {told}")
            yield literal, name, spec or ""
    except ValueError as error:
        raise EvaluationError(f"format(): {error}") from None


def _argument(name: str, values: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    try:
        return values[int(name)] if name[0] in "0123456789" else named[name]
    except LookupError:
        raise EvaluationError(f"format() is given no argument for `{{{name}}}`") from None


def _filled(frame: Frame, value: Any, spec: str) -> str:
    """Return the text of one field; its cost is counted before, as far as the format has its length."""
    frame.budget.build(_width(spec))
    if isinstance(value, str):
        frame.budget.build(len(value))
    pay_for_digits(frame.budget, value)
    is_plain = value is None or isinstance(value, (str, int, float))
    if spec and (value is None or not is_plain):
        raise EvaluationError(f"format(): `{spec[:100]}` applies to texts and numbers only")
    try:
        made = format(value, spec) if is_plain else as_string(frame, value)
    except (ValueError, OverflowError) as error:  # the part after the semicolon is for programmers
        raise EvaluationError(f"format(): {str(error).partition(';')[0]}") from None
    if not isinstance(value, str):
        frame.budget.build(len(made))
    return made


def _width(spec: str) -> int:
    """Return the number of characters of a format. Raises EvaluationError if it is unknown or too long."""
    if not spec:
        return 0
    found = _SPEC.fullmatch(spec)
    if found is None:
        raise EvaluationError(f"format() does not know the format `{spec[:100]}`")
    numbers = [number.lstrip("0") or "0" for number in found.groups(default="0")]
    if any(len(number) > 4 or int(number) > WIDTH_MAX for number in numbers):
        raise EvaluationError(f"format(): a field has at most {WIDTH_MAX:,} characters or digits, not `{spec[:100]}`")
    return sum(map(int, numbers))
