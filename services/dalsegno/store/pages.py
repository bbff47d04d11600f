"""Page tokens: where a list continues. A token is valid only for the list and the filter that it was made for."""

from __future__ import annotations

import base64
import hashlib
import json
import math

from dalsegno.store.filters import Filter
from dalsegno.workflow.refusals import InvalidPageToken, InvalidRequest
from dalsegno.workflow.value import text_fault

PAGE_SIZE = 100
"""The number of rows in a page, unless the caller asks for another."""

PAGE_SIZE_MAX = 1000

PAGE_BYTES_MAX = 3_670_016
"""A page ends before the texts of its rows exceed this together, in bytes (3.5 MiB). It has at least one row."""

Key = tuple[str | int | float, ...]


def page_size(asked: int) -> int:
    """Return the number of rows in a page. Raises InvalidRequest for a negative number."""
    if asked < 0:
        raise InvalidRequest.of("page_size", "is negative")
    return min(asked or PAGE_SIZE, PAGE_SIZE_MAX)


def write_token(subject: str, chosen: Filter, key: Key) -> str:
    """Return the token of the page after the row with this key. `subject` identifies the list."""
    text = json.dumps([_fingerprint(subject, chosen), *key], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_token(token: str, subject: str, chosen: Filter, shape: tuple[type, ...]) -> Key | None:
    """Return the key in a token. None: the first page. Raises InvalidPageToken."""
    if not token:
        return None
    try:
        parts = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, RecursionError):
        raise InvalidPageToken.of("page_token", "is not a page token of this list") from None
    if not isinstance(parts, list) or parts[:1] != [_fingerprint(subject, chosen)]:
        raise InvalidPageToken.of("page_token", "is from another list, or the filter has changed")
    key = tuple(parts[1:])
    if tuple(map(type, key)) != shape or not all(map(_could_be_stored, key)):
        raise InvalidPageToken.of("page_token", "is not a page token of this list")
    return key


def _could_be_stored(part: str | int | float) -> bool:
    """Return whether this value can be in the key of a row. Databases refuse to compare other values."""
    if isinstance(part, str):
        return not text_fault(part)
    return math.isfinite(part) if isinstance(part, float) else abs(part) < 2**31


def _fingerprint(subject: str, chosen: Filter) -> str:
    return hashlib.blake2b(f"{subject}\n{chosen.identity}".encode(), digest_size=6).hexdigest()
