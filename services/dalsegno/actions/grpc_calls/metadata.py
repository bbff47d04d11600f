"""Metadata of calls. A key that ends with -bin has bytes, which are base64 in JSON."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping

Entry = tuple[str, str | bytes]

_KEY = re.compile(r"[0-9a-z_.-]+")
_TEXT = re.compile(r"[\x20-\x7e]*")


def read_metadata(given: object) -> Iterator[Entry]:
    """Yield the entries of metadata in JSON: a value, or a list of values, by key. Raises ValueError."""
    if not isinstance(given, Mapping):
        raise ValueError("metadata: must be an object")
    for name, values in given.items():
        key = name.lower()
        if not _KEY.fullmatch(key):
            raise ValueError(f"metadata: {name!r} is no key: lower-case letters, digits and _-. only")
        if key.startswith("grpc-"):
            raise ValueError(f"metadata: {name!r}: keys that begin with grpc- belong to the protocol")
        for value in values if isinstance(values, list) else [values]:
            yield key, _read_value(key, value)


def _read_value(key: str, value: object) -> str | bytes:
    if key.endswith("-bin"):
        try:
            return b64decode(str(value), validate=True)
        except binascii.Error:
            raise ValueError(f"metadata: the value of {key!r} is not base64, as keys that end with -bin need") from None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"metadata: the value of {key!r} is neither a string, nor a number, nor a list of these")
    if not _TEXT.fullmatch(str(value)):
        raise ValueError(f"metadata: the value of {key!r} is not printable ASCII; use a key that ends with -bin")
    return str(value)


def metadata_to_json(entries: Iterable[Entry]) -> dict[str, object]:
    """Return metadata as JSON: a string by key, or a list of strings for a key with several values."""
    found: dict[str, list[str]] = {}
    for key, value in entries:
        found.setdefault(key, []).append(b64encode(value).decode() if isinstance(value, bytes) else str(value))
    return {key: values[0] if len(values) == 1 else values for key, values in found.items()}
