"""Search what an action reports for the secrets that it was given, and mask them: also in base64, and percent-encoded.

What would take long to search is a secret as a whole instead.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

from dalsegno.workflow.secrets import MASK, Cipher, carries_secret, hide_value, is_secret, show
from dalsegno.workflow.value import Value

CHARACTERS_MIN = 6
"""Shorter parts of a secret are not searched for: they would be found in anything."""
SECRET_CHARACTERS_MAX = 32 * 1024
SECRETS_MAX = 100
SEARCHED_MAX = 32 * 1024 * 1024
"""The most characters that are searched in all: those of the report, times the forms of the secrets."""
MASKED_MAX = 64 * 1024
"""The longest text of a result in which parts are masked."""

_NOT_SHOWN = "the action failed; its error is not shown, because it was given large secrets"


class Masks:
    """What hides the secrets of one input."""

    def __init__(self, given: Value, cipher: Cipher) -> None:
        self._cipher = cipher
        texts = set(_secret_texts(given.data, cipher))
        self._can_search = len(texts) <= SECRETS_MAX and sum(map(len, texts)) <= SECRET_CHARACTERS_MAX
        words = {form for text in texts for form in _forms(text)} if self._can_search else set()
        # The longest first: a word that is a part of another one would leave the rest of that.
        self._words = sorted(words, key=lambda word: (-len(word), word))

    def text(self, text: str) -> str:
        """Return the text of an error with MASK in place of each secret."""
        if not self._may_search(text):
            return _NOT_SHOWN
        return self._replaced(text)

    def value(self, value: Value) -> Value:
        """Return the value with MASK in place of each secret: the same one if there is none in it, a secret as a whole
        if it is large. Raise UnfitValue if that is too large."""
        plain = json.dumps(value.data, ensure_ascii=False)
        if not self._may_search(plain):
            return hide_value(value, self._cipher)
        if not any(json.dumps(word, ensure_ascii=False)[1:-1] in plain for word in self._words):
            return value
        if len(plain) > MASKED_MAX:
            return hide_value(value, self._cipher)
        return Value(data=self._masked(value.data))

    def _may_search(self, text: str) -> bool:
        return self._can_search and len(text) * len(self._words) <= SEARCHED_MAX

    def _replaced(self, text: str) -> str:
        for word in self._words:
            text = text.replace(word, MASK)
        return text

    def _masked(self, data: object) -> object:
        if isinstance(data, str):
            return self._replaced(data)
        if isinstance(data, dict):
            return {self._replaced(name): self._masked(member) for name, member in data.items()}
        if isinstance(data, list | tuple):
            return [self._masked(item) for item in data]
        if isinstance(data, int | float) and not isinstance(data, bool) and self._replaced(str(data)) != str(data):
            return MASK
        return data


def masks(given: Value, cipher: Cipher) -> Masks | None:
    """Return what hides the secrets in the input of an action; None: there are none."""
    return Masks(given, cipher) if carries_secret(given) else None


def _secret_texts(data: object, cipher: Cipher) -> Iterator[str]:
    """Yield the texts and numbers in the secrets of a value that are long enough to be searched for."""
    if is_secret(data):
        yield from _texts(show(data, cipher))
    elif isinstance(data, dict):
        for member in data.values():
            yield from _secret_texts(member, cipher)
    elif isinstance(data, list | tuple):
        for item in data:
            yield from _secret_texts(item, cipher)


def _texts(data: object) -> Iterator[str]:
    if isinstance(data, str) and len(data) >= CHARACTERS_MIN:
        yield data
    elif isinstance(data, int | float) and not isinstance(data, bool) and len(str(data)) >= CHARACTERS_MIN:
        yield str(data)
    elif isinstance(data, dict):
        for name, member in data.items():
            yield from _texts(name)
            yield from _texts(member)
    elif isinstance(data, list | tuple):
        for item in data:
            yield from _texts(item)


def _forms(text: str) -> Iterator[str]:
    """Yield the text as it may stand in a result."""
    yield text
    for encoded in (quote(text, safe=""), quote(text), quote_plus(text)):
        yield encoded
        yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), encoded)
    written = text.encode()
    for offset in range(3):  # where it begins among the groups of three bytes that base64 encodes together
        whole = base64.b64encode(bytes(offset) + written + bytes(2)).decode()
        # Only the characters that depend on nothing but the text.
        part = whole[-(-8 * offset // 6) : 8 * (offset + len(written)) // 6]
        yield part
        yield part.translate(_URL_SAFE)


_URL_SAFE = str.maketrans("+/", "-_")
