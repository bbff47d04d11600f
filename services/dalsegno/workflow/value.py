"""JSON values: the one place where JSON text becomes data and data becomes text.

A Value holds one form and makes the other on demand. So a result that no expression reads travels from the executor to
the store and on to a client without being parsed.
"""

from __future__ import annotations

import hashlib
import json
import marshal
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import Any, cast

import msgspec
import orjson

INLINE_BYTES = 1024
"""The longest text that is stored inline; a longer one is stored once and referred to by its digest."""

VALUE_BYTES_MAX = 4_000_000
"""The longest text of a value: with the rest of its message it stays below gRPC's default limit."""

TASKS_MAX = 1_000
"""The most records that a function for tasks or executions returns."""

EXECUTION_BYTES_MAX = 64 * 1024 * 1024
"""The most bytes of all values of an execution."""

SECRET_MARK = "dalsegno:secret:9d41f7c2:"
"""How an encrypted value begins (secrets.py). Only the engine makes such texts: none may come from outside."""

_DIGITS = bytes.maketrans(b"0123456789", b"0000000000")
_LONG_NUMBER = b"0" * 19
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_NOT_FINITE = re.compile(rb"g.{6}[\xf0-\xff][\x7f\xff]", re.DOTALL)
"""A float in the form of `marshal`, eight bytes behind a `g`, whose exponent is that of NaN and the infinities."""
_PLAIN = 2
"""The version of that form that has floats as bytes and no references."""
_TYPES = frozenset({str, int, float, bool, type(None), list, dict})
_KEYS = frozenset({str})
_MISSING = object()


class UnfitValue(ValueError):
    """Text that is not JSON, or data that JSON cannot represent. The message has the place: a path like
    `$.items[3].name`."""


def encode(data: object, *, limited: bool = False) -> str:
    """Return the JSON text of the data. Raise UnfitValue for NaN, infinities, NUL, lone surrogates and what JSON cannot
    represent; `limited`: also for more bytes than a value may have.

    orjson writes NaN as null without an error, so a text that holds a null is searched for NaN.
    """
    try:
        written = orjson.dumps(data)
    except (TypeError, ValueError):
        return _encode_otherwise(data, limited=limited)
    if limited:
        limit(len(written))
    if _holds_unfit(data, written):
        _refuse_unfit(data)
    return written.decode()


def _may_hold_nan(data: object) -> bool:
    """Return whether a float in it may be NaN or infinite: the bytes of the floats tell. (Asking each member takes
    twenty times as long.)"""
    try:
        return _NOT_FINITE.search(marshal.dumps(cast(Any, data), _PLAIN)) is not None
    except ValueError:
        return True  # it holds what only orjson can write


def _encode_otherwise(data: object, *, limited: bool) -> str:
    """Return the JSON text of what orjson refuses, such as integers beyond 64 bits. Raise UnfitValue.

    msgspec writes them, but also a set as a list, a number as a key, and NaN as null.
    """
    if not _is_plain(data):
        _refuse_unfit(data)
    try:
        written = msgspec.json.encode(data)
    except (TypeError, ValueError, RecursionError):
        _refuse_unfit(data)
        written = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    if limited:
        limit(len(written))
    if _holds_unfit(data, written):
        _refuse_unfit(data)
    return written.decode()


def _is_plain(data: object) -> bool:
    """Return whether all of it is of the types that decoding gives.

    It looks at all members of one depth at once: where there are many small objects, that takes a third of the time.
    """
    members = [data]
    while members:
        if not _TYPES.issuperset(map(type, members)):
            return False
        objects = [member for member in members if type(member) is dict]
        if not _KEYS.issuperset(map(type, chain.from_iterable(objects))):
            return False
        arrays = [member for member in members if type(member) is list]
        members = [*chain.from_iterable(arrays), *chain.from_iterable(map(dict.values, objects))]
    return True


def decode(text: str) -> object:
    """Return the data of a JSON text, integers exact. Raise UnfitValue."""
    return _decoded(text, is_exact=_has_long_number(text))


def _decoded(text: str, *, is_exact: bool) -> object:
    try:
        if is_exact:  # orjson would turn integers beyond 64 bits into floats
            return _decoded_exactly(text)
        return orjson.loads(text)
    except RecursionError:
        raise UnfitValue("nested too deeply") from None
    except ValueError as error:
        raise UnfitValue(f"not JSON: {error}") from None


def _decoded_exactly(text: str) -> object:
    """Return the data of a JSON text. Raise ValueError and RecursionError, whose text has the place.

    msgspec takes half the time of `json`, which says more of a fault.
    """
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return json.loads(text, parse_constant=_refuse_constant)


BYTES_MAX = 4
"""The most bytes that a character has in UTF-8."""


def byte_length(text: str) -> int:
    """How many bytes the text has in UTF-8: what limits in bytes are about.

    >>> byte_length("abc"), byte_length("äö")
    (3, 4)
    """
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _has_long_number(text: str) -> bool:
    """Return whether it may hold an integer beyond 64 bits. (A regular expression takes twenty times as long.)"""
    return len(text) >= len(_LONG_NUMBER) and _LONG_NUMBER in text.encode("utf-8", "surrogatepass").translate(_DIGITS)


def checked(text: str, bytes_max: int = VALUE_BYTES_MAX) -> Value:
    """Return a Value of a text from outside, checked as JSON that every service can carry. Raise UnfitValue."""
    size = byte_length(text)
    if size > bytes_max:
        raise UnfitValue(f"too large: {size:,} bytes, at most {bytes_max:,}")
    has_long_number = _has_long_number(text)
    data = _decoded(text, is_exact=has_long_number)
    has_escape = "\\u" in text and (
        ("\\u0000" in text and _NUL.search(text)) or "\\ud" in text.lower()  # the expression alone would take long
    )
    if (has_escape or has_long_number) and _may_be_unfit(data):
        _refuse_unfit(data)
    if SECRET_MARK in text or ("\\u" in text and SECRET_MARK in json.dumps(data, ensure_ascii=False)):
        raise UnfitValue(f"holds {SECRET_MARK!r}, the mark of encrypted values, which only the engine writes")
    return Value(text=text, data=data)


def text_fault(text: str) -> str:
    """Return why a text cannot be stored, in words; empty when it can."""
    if "\0" in text:
        return "holds a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds a lone surrogate"
    return ""


def _may_be_unfit(data: object) -> bool:
    """Return whether anything in decoded data may be unfit for a value. (Checking each member takes twenty times as
    long.)"""
    try:
        return _holds_unfit(data, msgspec.json.encode(data))
    except (ValueError, RecursionError):
        return True


def _holds_unfit(data: object, written: bytes) -> bool:
    """Return whether data may hold NUL, NaN or an infinity, of which the last two are written as null."""
    return b"\\u0000" in written or (b"null" in written and _may_hold_nan(data))


def _refuse_constant(word: str) -> object:
    raise UnfitValue(f"{word} is not JSON")


def _refuse_unfit(data: object) -> None:
    for path, reason in _unfit(data, "$"):
        raise UnfitValue(f"{path}: {reason}")


def _unfit(data: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(data, float) and not math.isfinite(data):
        yield path, f"{data} is not JSON"
    elif isinstance(data, str):
        if reason := text_fault(data):
            yield path, reason
    elif isinstance(data, dict):
        for key, member in data.items():
            if not isinstance(key, str):
                yield path, f"has a key that is not a string: {key!r}"
            else:
                yield from _unfit(key, f"{path} (a key)")
            yield from _unfit(member, f"{path}.{key}")
    elif isinstance(data, list | tuple):
        for index, member in enumerate(data):
            yield from _unfit(member, f"{path}[{index}]")
    elif not isinstance(data, int | float | bool | None):
        yield path, f"a {type(data).__name__} is not JSON"


class Value:
    """One JSON value. Immutable: nobody changes `data` in place."""

    __slots__ = ("_data", "_digest", "_text")

    def __init__(self, *, text: str | None = None, data: object = _MISSING) -> None:
        self._text = text
        self._data = data
        self._digest: str | None = None

    @property
    def data(self) -> object:
        """Return the parsed form."""
        data = self._data
        if data is _MISSING:
            assert self._text is not None
            data = self._data = decode(self._text)
        return data

    @property
    def text(self) -> str:
        """Return the JSON text. Raise UnfitValue when the data cannot be written as JSON."""
        if self._text is None:
            self._text = encode(self._data)
        return self._text

    def drop_data(self) -> None:
        """Keep only the text, which takes a fraction of the memory; the data is made again on demand."""
        if self._text is not None:
            self._data = _MISSING

    @property
    def inline(self) -> str | None:
        """Return the text; None for a large one, which the store keeps apart, once per execution."""
        text = self.text
        return None if len(text) * BYTES_MAX > INLINE_BYTES and byte_length(text) > INLINE_BYTES else text

    @property
    def is_large(self) -> bool:
        """Return whether the store keeps the text apart."""
        return self.inline is None

    @property
    def digest(self) -> str:
        """Return the digest of the text: equal texts have equal digests."""
        if self._digest is None:
            self._digest = hashlib.blake2b(self.text.encode(), digest_size=16).hexdigest()
        return self._digest

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and (self is other or self.text == other.text)

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Value({self.text[:80]})"


def made(data: object) -> Value:
    """Return a Value of data that an expression has made, encoded now. Raise UnfitValue, also for one that is too
    large."""
    return Value(text=encode(data, limited=True), data=data)


def member_bytes(name: str, value: Value) -> int:
    """Return how many bytes the value takes as a member of an object."""
    return byte_length(name) + 4 + byte_length(value.text)


def limit(size: int) -> None:
    """Raise UnfitValue when this is more bytes than a value may have."""
    if size > VALUE_BYTES_MAX:
        raise UnfitValue(f"too large: a value of {size:,} bytes; a value has at most {VALUE_BYTES_MAX:,}")


def moment(at_s: float) -> str:
    """Return the time as expressions show it."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S")


NULL = Value(text="null", data=None)
EMPTY = Value(text="{}", data={})
