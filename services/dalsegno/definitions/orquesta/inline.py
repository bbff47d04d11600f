"""One-line parameters: `core.echo message="Hello" times=3`, and `publish: x=<% result() %>`.

The parser finds `name=value` anywhere in the text, with a list, a quoted text, a number, `true` or `false` in any case,
`null` or an expression as the value. It ignores other text, like Orquesta. A list is JSON only without a quoted text in
it: `[1, 2]` is a list, `["a"]` is text. It is not a regular expression, because that takes time that grows with the
square of a long text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from dalsegno.definitions.unparsed import find_unparsed

INLINE_LENGTH_MAX = 64 * 1024
"""The maximum length; a longer text must use `input` or a list."""

_PLAIN = re.compile(r"-?\d*\.\d+|-?\d+|(?i:true|false)|null")
_QUOTES = "\"'"
_MARKS = (("{{", "}}"), ("<%", "%>"))


@dataclass(frozen=True, slots=True)
class Inline:
    """The parameters of a text, names and values in order; a name may occur twice."""

    parameters: list[tuple[str, Any]] = field(default_factory=list)
    unparsed: str = ""
    """Other text."""


def read_inline(text: str) -> Inline:
    """Return the parameters of a text of at most INLINE_LENGTH_MAX."""
    found: list[tuple[str, Any]] = []
    taken: list[tuple[int, int]] = []
    absent: dict[str, int] = {}
    end = 0
    equals = text.find("=")
    while equals >= 0:
        start = equals
        while start > end and _is_name_letter(text[start - 1]):
            start -= 1
        value = _read_value(text, equals + 1, absent) if start < equals else None
        if value is not None:
            found.append((text[start:equals], value[0]))
            end = value[1]
            taken.append((start, end))
        equals = text.find("=", max(end, equals + 1))
    return Inline(found, find_unparsed(text, taken))


def _is_name_letter(character: str) -> bool:
    return character.isalnum() or character == "_"


def _read_value(text: str, start: int, absent: dict[str, int]) -> tuple[Any, int] | None:
    """Return the value that begins here and its end, or None.

    `absent` stores up to where a closing mark is missing, so that no part is searched twice.
    """
    first = text[start : start + 1]
    if first == "[":
        close = _find_last(text, "]", start + 1, _line_end(text, start), absent)
        return None if close < 0 else (_listed(text[start : close + 1]), close + 1)
    if first and first in _QUOTES:
        close = text.find(first, start + 1) if absent.get(first, -1) < start else -1
        if close < 0:
            absent[first] = len(text)
            return None
        return _unquoted(first, text[start + 1 : close]), close + 1
    for opening, closing in _MARKS:
        if text.startswith(opening, start):
            close = _find_first(text, closing, start + len(opening), _line_end(text, start), absent)
            return None if close < 0 else (text[start : close + 2], close + 2)
    plain = _PLAIN.match(text, start)
    return None if plain is None else (_decoded(plain.group()), plain.end())


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end


def _find_first(text: str, closing: str, start: int, end: int, absent: dict[str, int]) -> int:
    found = -1 if absent.get(closing, -1) >= end else text.find(closing, start, end)
    if found < 0:
        absent[closing] = end
    return found


def _find_last(text: str, closing: str, start: int, end: int, absent: dict[str, int]) -> int:
    found = -1 if absent.get(closing, -1) >= end else text.rfind(closing, start, end)
    if found < 0:
        absent[closing] = end
    return found


def _listed(text: str) -> Any:
    """Return a list in square brackets; if it contains a quoted text, the whole as text."""
    is_text = any(text.count(quote) > 1 for quote in _QUOTES)
    return text if is_text else _decoded(text)


def _unquoted(quote: str, text: str) -> Any:
    """Return a quoted text without its quotes, also without apostrophes directly inside; a JSON object is decoded."""
    if quote == '"':
        text = text.removeprefix("'").removesuffix("'")
    is_object = text.startswith("{") and text.endswith("}") and not text.startswith("{{")
    return _decoded(text) if is_object else text


def _decoded(text: str) -> Any:
    try:
        return json.loads(text.lower() if text.lower() in ("true", "false") else text, parse_constant=_refuse)
    except (ValueError, RecursionError):  # `.5`, or a list of expressions: it stays text
        return text


def _refuse(word: str) -> object:
    raise ValueError(word)
