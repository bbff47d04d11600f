"""One-line parameters after a name: `std.echo output="Hello" delay=3`.

The parser finds what Mistral's regular expression finds: `name=value` anywhere in the text, with a quoted text, an
expression, a JSON list, `true`, `false`, `null` or digits as the value. It ignores other text. It is not a regular
expression, because that takes time that grows with the square of the text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from dalsegno.definitions.mistral.syntax import is_deep
from dalsegno.definitions.unparsed import find_unparsed

INLINE_LENGTH_MAX = 64 * 1024
"""The maximum length; a longer text must use `input`."""

_NAME = re.compile(r"([\w.]+[^=(\s\"]*|<%.*?%>|\{\{.*\}\}|\{%.*%\})")
_DIGITS = re.compile(r"\d+")
_SPACE = re.compile(r"\s*")
_WORDS = ("true", "false", "null")


@dataclass(frozen=True, slots=True)
class Inline:
    """A name and the parameters after it."""

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)
    unparsed: str = ""
    """Other text."""


def read_inline(text: str) -> Inline | None:
    """Return the name and the parameters of a text of at most INLINE_LENGTH_MAX; None if it begins without a name."""
    if " " not in text:
        return Inline(text)
    match = _NAME.match(text)
    if match is None:
        return None
    taken = [match.span()]
    if text.startswith("(", match.end()) and text.endswith(")"):  # the form of a call, as for engine commands
        taken += [(match.end(), match.end() + 1), (len(text) - 1, len(text))]
    parameters = _read_parameters(text, taken)
    return Inline(match.group(), parameters, find_unparsed(text, taken))


def _read_parameters(text: str, taken: list[tuple[int, int]]) -> dict[str, Any]:
    """Return the parameters by name. Add the span of each to `taken`."""
    parameters: dict[str, Any] = {}
    absent: dict[str, int] = {}
    end = 0
    equals = text.find("=")
    while equals >= 0:
        start = equals
        while start > end and _is_name_letter(text[start - 1]):
            start -= 1
        found = _read_value(text, equals + 1, absent) if start < equals else None
        if found is not None:
            parameters[text[start:equals]], end = found
            taken.append((start, end))
        equals = text.find("=", max(end, equals + 1))
    return parameters


def _is_name_letter(character: str) -> bool:
    return character.isalnum() or character in "-_"


def _read_value(text: str, start: int, absent: dict[str, int]) -> tuple[Any, int] | None:
    """Return the value that begins here and its end, or None.

    `absent` stores up to where a closing mark is missing, so that no part is searched twice.
    """
    first = text[start : start + 1]
    if first and first in "\"'":
        close = _find(text, first, start + 1, len(text), absent, is_greedy=False)
        return None if close < 0 else (text[start + 1 : close], _skip_space(text, close + 1))
    for opening, closing, is_greedy in (("{{", "}}", True), ("{%", "%}", True), ("<%", "%>", False), ("[", "]", True)):
        if text.startswith(opening, start):
            line_end = text.find("\n", start)
            line_end = len(text) if line_end < 0 else line_end
            close = _find(text, closing, start + len(opening), line_end, absent, is_greedy=is_greedy)
            if close < 0:
                return None
            end = close + len(closing)
            return _decoded(text[start:end]), _skip_space(text, end) if opening == "[" else end
    for word in _WORDS:
        if text.startswith(word, start):
            return json.loads(word), start + len(word)
    digits = _DIGITS.match(text, start)
    return None if digits is None else (_decoded(digits.group()), digits.end())


def _find(text: str, closing: str, start: int, end: int, absent: dict[str, int], *, is_greedy: bool) -> int:
    if absent.get(closing, -1) >= end:
        return -1
    found = text.rfind(closing, start, end) if is_greedy else text.find(closing, start, end)
    if found < 0:
        absent[closing] = end
    return found


def _skip_space(text: str, start: int) -> int:
    match = _SPACE.match(text, start)
    assert match is not None
    return match.end()


def _decoded(text: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):  # an expression, or a list that is not JSON: it stays text
        return text
    return text if is_deep(value) else value


def _refuse(word: str) -> object:
    raise ValueError(word)
