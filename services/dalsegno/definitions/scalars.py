"""YAML scalars as JSON values: the types of PyYAML's SafeLoader, but dates as text, and nothing that JSON lacks."""

from __future__ import annotations

import datetime
import json
import math
import re
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

_PREFIX = "tag:yaml.org,2002:"
_RESOLVERS: dict[str, list[tuple[str, re.Pattern[str]]]] = yaml.SafeLoader.yaml_implicit_resolvers
_CONSTRUCTOR = SafeConstructor()
_SURROGATE = re.compile("[\ud800-\udfff]")

_NUMBER_LENGTH_MAX = 1_000
"""A limit, because parsing digits takes time that grows with the square of their number."""


class UnfitScalar(ValueError):
    """A scalar without a JSON form, or with a wrong tag."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def scalar_value(event: Any) -> str | int | float | bool | None:
    """Return the value of a scalar event. Raises UnfitScalar."""
    text: str = event.value
    tag = event.tag
    if tag is None or tag == "!":
        if not event.implicit[0]:
            return _fit_text(text, event)
        tag = implicit_tag(text)
    if tag == _PREFIX + "str":
        return _fit_text(text, event)
    return _typed_value(tag, text, event)


def implicit_tag(text: str) -> str:
    """Return the type that YAML 1.1 gives an unquoted text."""
    for tag, pattern in _RESOLVERS.get(text[0] if text else "", ()):
        if pattern.match(text):
            return tag
    return _PREFIX + "str"


def key_text(value: object) -> str:
    """Return a key as text, as JSON requires."""
    return value if isinstance(value, str) else json.dumps(value)


def _fit_text(text: str, event: Any) -> str:
    if event.style == '"':  # only an escape can add these to a text
        if "\0" in text:
            raise UnfitScalar("holds a NUL character")
        if _SURROGATE.search(text):
            return _joined(text)
    return text


def _joined(text: str) -> str:
    """Return the text with one character for each pair of surrogates (JSON's escapes beyond 16 bits)."""
    try:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        raise UnfitScalar("holds a lone surrogate") from None


def _typed_value(tag: str, text: str, event: Any) -> str | int | float | bool | None:
    name = tag.removeprefix(_PREFIX)
    if name == "value":  # a single `=`, for which SafeLoader has no type
        return text
    if name not in ("int", "float", "bool", "null", "timestamp"):
        raise UnfitScalar(f"the tag `{tag.replace(_PREFIX, '!!')}` is not allowed")
    if len(text) > _NUMBER_LENGTH_MAX:
        raise UnfitScalar(f"a number may have at most {_NUMBER_LENGTH_MAX} characters", "quote it to make it text")
    node = yaml.ScalarNode(tag, text, event.start_mark, event.end_mark)
    try:
        value = getattr(_CONSTRUCTOR, f"construct_yaml_{name}")(node)
    except (ValueError, ArithmeticError, LookupError, AttributeError, TypeError, yaml.YAMLError):
        raise UnfitScalar(f"`{text[:40]}` is no {name}", "quote it to make it text") from None
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        raise UnfitScalar(f"`{text[:40]}` is no number that JSON has", "quote it to make it text")
    assert value is None or isinstance(value, int | float | bool)
    return value
