"""Search what an action reports for the secrets that it was given, and mask them: also in base64, and percent-encoded.

What would take long to search is a secret as a whole instead.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from dalsegno.workflow.execution import Execution
from dalsegno.workflow.records import Attempt
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
ENCODED_MAX = 256
"""The longest secret that is found in any percent-encoding: of some characters, and of others not."""
PUBLISHERS_MAX = 100
"""How many tasks, the newest, are asked for secrets of which an input may be made."""
KNOWN_MAX = 64 * 1024
"""The longest value that is searched for such secrets, in characters of its text."""
CUT_MAX = 4 * 1024
"""The longest beginning of a secret that is found at the end of a text that was cut."""

_NOT_SHOWN = "the action failed; its error is not shown, because it was given large secrets"
_CUT = re.compile(r"(?:…|\.\.\.)?(?: \([\d,]+ bytes\))?\Z")
"""What those who cut a text put in the place of the rest."""


class Masks:
    """What hides the secrets of one input."""

    def __init__(self, given: Value, cipher: Cipher, known: Iterable[Value] = ()) -> None:
        """`known`: other values of the execution. The input may be made of secrets in them."""
        self._cipher = cipher
        texts = set(_secret_texts(given.data, cipher))
        self._can_search = len(texts) <= SECRETS_MAX and sum(map(len, texts)) <= SECRET_CHARACTERS_MAX
        if self._can_search:
            texts.update(_parts("\n".join(texts), known, cipher))
        self._texts = sorted(texts) if self._can_search else []
        words = {form for text in self._texts for form in _forms(text)}
        # The longest first: a word that is a part of another one would leave the rest of that.
        self._words = sorted(words, key=lambda word: (-len(word), word))

    def text(self, text: str) -> str:
        """Return the text of an error with MASK in place of each secret, also of one that was cut at its end."""
        if not self._may_search(text):
            return _NOT_SHOWN
        return self._without_cut(_replaced(text, self._words, self._encoded(text)))

    def value(self, value: Value) -> Value:
        """Return the value with MASK in place of each secret: the same one if there is none in it, a secret as a whole
        if it is large. Raise UnfitValue if that is too large."""
        plain = json.dumps(value.data, ensure_ascii=False)
        if not self._may_search(plain):
            return hide_value(value, self._cipher)
        words = [word for word in self._words if json.dumps(word, ensure_ascii=False)[1:-1] in plain]
        is_large = len(plain) > MASKED_MAX
        encoded = self._encoded(plain if is_large else "\n".join(_leaves(value.data)))
        if not words and not encoded:
            return value
        return hide_value(value, self._cipher) if is_large else Value(data=_masked(value.data, words, encoded))

    def _may_search(self, text: str) -> bool:
        return self._can_search and len(text) * len(self._words) <= SEARCHED_MAX

    def _encoded(self, text: str) -> list[re.Pattern[str]]:
        """Return what finds the secrets that are in the text percent-encoded, by whatever rules."""
        if "%" not in text and "+" not in text:
            return []
        decoded = unquote(text), unquote_plus(text)
        secrets = (secret for secret in self._texts if len(secret) <= ENCODED_MAX)
        return [_pattern(secret) for secret in secrets if any(secret in each for each in decoded)]

    def _without_cut(self, text: str) -> str:
        """Return the text with MASK in place of the beginning of a secret at its end."""
        end = _CUT.search(text)
        assert end is not None, "it also matches nothing"
        body = text[: end.start()]
        for word in self._words:
            start = body.find(word[:CHARACTERS_MIN], max(0, len(body) - min(len(word), CUT_MAX)))
            while start >= 0:
                if word.startswith(body[start:]):
                    return body[:start] + MASK + end[0]
                start = body.find(word[:CHARACTERS_MIN], start + 1)
        return text


def _replaced(text: str, words: Iterable[str], encoded: Iterable[re.Pattern[str]]) -> str:
    for word in words:
        text = text.replace(word, MASK)
    for pattern in encoded:
        text = pattern.sub(MASK, text)
    return text


def _masked(data: object, words: list[str], encoded: list[re.Pattern[str]]) -> object:
    if isinstance(data, str):
        return data if len(data) < CHARACTERS_MIN else _replaced(data, words, encoded)
    if isinstance(data, dict):
        return {_masked(name, words, encoded): _masked(member, words, encoded) for name, member in data.items()}
    if isinstance(data, list | tuple):
        return [_masked(item, words, encoded) for item in data]
    if isinstance(data, int | float) and not isinstance(data, bool):
        shown = str(data)
        return data if len(shown) < CHARACTERS_MIN or _replaced(shown, words, ()) == shown else MASK
    return data


def _leaves(data: object) -> Iterator[str]:
    """Yield the texts in a value, and the keys of its dicts."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for name, member in data.items():
            yield name
            yield from _leaves(member)
    elif isinstance(data, list | tuple):
        for item in data:
            yield from _leaves(item)


def masks(execution: Execution, attempt: Attempt, cipher: Cipher) -> Masks | None:
    """Return what hides the secrets that an action was given; None: there are none."""
    if not execution.holds_secrets or not carries_secret(attempt.input):
        return None
    newest = islice(reversed(execution.tasks.values()), PUBLISHERS_MAX)
    published = (value for task in newest for value in task.published.values())
    return Masks(
        attempt.input, cipher, (execution.input, execution.environment, *execution.globals.values(), *published)
    )


def _parts(given: str, known: Iterable[Value], cipher: Cipher) -> Iterator[str]:
    """Yield the secrets of these values of which the given ones are made: a URL with a password, and the like."""
    searched = filter(carries_secret, (value for value in known if len(value.text) <= KNOWN_MAX))
    texts = (text for value in searched for text in _secret_texts(value.data, cipher))
    for text in islice(texts, SECRETS_MAX):
        if len(text) <= len(given) and any(form in given for form in _forms(text)):
            yield text


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
    """Yield the text as it may stand in a result: itself, in JSON, as Python shows it, percent-encoded, in base64."""
    yield text
    for written in (json.dumps(text), json.dumps(text, ensure_ascii=False), repr(text)):
        yield written[1:-1]
    for encoded in (quote(text, safe=""), quote(text), quote_plus(text)):
        yield encoded
        yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), encoded)
    data = text.encode()
    for offset in range(3):  # where it begins among the groups of three bytes that base64 encodes together
        whole = base64.b64encode(bytes(offset) + data + bytes(2)).decode()
        # Only the characters that depend on nothing but the text.
        part = whole[-(-8 * offset // 6) : 8 * (offset + len(data)) // 6]
        yield part
        yield part.translate(_URL_SAFE)


_URL_SAFE = str.maketrans("+/", "-_")


def _pattern(text: str) -> re.Pattern[str]:
    """Return what matches the text with any of its characters percent-encoded, and others not."""
    return re.compile("".join(map(_either, text)))


def _either(character: str) -> str:
    encoded = "".join(f"%{byte:02x}" for byte in character.encode())
    plus = r"|\+" if character == " " else ""
    return f"(?:(?i:{encoded})|{re.escape(character)}{plus})"
