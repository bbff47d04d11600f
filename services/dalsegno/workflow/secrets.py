"""Secret values. In memory, in the journal and in the store a secret is one JSON text: a mark, and the encrypted value.

It is decrypted in two places: where an expression reads it, and where its action is handed out. What an expression
makes of a secret is a secret as a whole, so everything else passes the text on like any other value. Readers see MASK
in its place.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Protocol

from dalsegno.workflow.value import SECRET_MARK, UnfitValue, Value, decode, made

MARK = SECRET_MARK
MASK = "********"

_ENCRYPTED = re.compile(re.escape(MARK) + r"[A-Za-z0-9_-]*")
_MEMBER = re.compile(rf'"({_ENCRYPTED.pattern})"(?!\s*:)')
"""An encrypted value as a value in a JSON text, with its quotes. A key of an object is never one."""


class Undecryptable(Exception):
    """The text was not encrypted with the keys of this store, or in another namespace."""


class Cipher(Protocol):
    """Encrypts and decrypts the secrets of a namespace. Equal texts are encrypted equally, so that an event that is
    stepped again makes the same changes."""

    def encrypt(self, text: str) -> str:
        """Return the mark and the encrypted text."""
        ...

    def decrypt(self, encrypted: str) -> str:
        """Return the text. Raise Undecryptable."""
        ...


class SecretFound(BaseException):
    """A scope without secrets was asked for a value with one: the expression is evaluated again, and its value is a
    secret. (As with Suspended, no handler may take it for an error of an expression.)"""

    def __init__(self, cipher: Cipher) -> None:
        super().__init__()
        self.cipher = cipher


def is_secret(data: object) -> bool:
    """Return whether the value as a whole is a secret."""
    return type(data) is str and data.startswith(MARK)


def has_secret(data: object) -> bool:
    """Return whether there is a secret in plain JSON data."""
    if type(data) is dict:
        return any(map(has_secret, data.values()))
    return any(map(has_secret, data)) if type(data) is list or type(data) is tuple else is_secret(data)


def mask(text: str) -> str:
    """Return the text with MASK in place of each secret."""
    return _ENCRYPTED.sub(MASK, text) if MARK in text else text


def hide(data: object, cipher: Cipher) -> str:
    """Return the value as a secret; one that is a secret already is returned unchanged. Raise UnfitValue for what is no
    JSON, or is too large.

    What only begins with the mark is no secret yet: an expression has put the mark before some other text.
    """
    shown = show(data, cipher)
    if isinstance(data, str) and shown is not data:
        return data
    return cipher.encrypt(made(shown).text)


def hide_value(value: Value, cipher: Cipher) -> Value:
    """Return the value as a secret."""
    return made(hide(value.data, cipher))


def hide_named(values: Mapping[str, object], names: Collection[str], cipher: Cipher) -> dict[str, object]:
    """Return the values, those of the given names as secrets. Raise UnfitValue, and EvaluationError without a key."""
    if not names:
        return dict(values)
    return {name: hide(value, cipher) if name in names else value for name, value in values.items()}


def hide_like(before: object, given: Value, cipher: Cipher) -> Value:
    """Return a value, with each part of it as a secret that takes the place of one in the value before. Raise
    UnfitValue, also for MASK: who sends back what was read means the secret, which is not replaced then."""
    return Value(data=_like(before, given.data, cipher)) if has_secret(before) else given


def _like(before: object, given: object, cipher: Cipher) -> object:
    if isinstance(before, dict) and isinstance(given, dict):
        return {name: _like(before.get(name), member, cipher) for name, member in given.items()}
    if isinstance(before, list) and isinstance(given, list) and len(before) == len(given):
        return [_like(old, new, cipher) for old, new in zip(before, given, strict=True)]
    if not has_secret(before):
        return given
    if given == MASK:
        raise UnfitValue(f"{MASK!r}, which is how secrets are shown: leave it out to keep the secret")
    return hide(given, cipher)


def members(data: object, cipher: Cipher) -> object:
    """Return a dict that is a secret as a dict of secrets; anything else unchanged."""
    shown = show(data, cipher) if is_secret(data) else None
    return {name: hide(member, cipher) for name, member in shown.items()} if isinstance(shown, dict) else data


def show(data: object, cipher: Cipher) -> object:
    """Return the value with its secrets decrypted; the same object if there are none in it."""
    if type(data) is str:
        return _decrypted(data, cipher) if data.startswith(MARK) else data
    if type(data) is dict:
        members = {name: show(member, cipher) for name, member in data.items()}
        return members if any(members[name] is not member for name, member in data.items()) else data
    if type(data) is list or type(data) is tuple:
        items = [show(item, cipher) for item in data]
        return items if any(new is not old for new, old in zip(items, data, strict=True)) else data
    return data


def _decrypted(text: str, cipher: Cipher) -> object:
    """Return the decrypted value; the text itself if it only looks like a secret."""
    try:
        return decode(cipher.decrypt(text))
    except Undecryptable:
        return text


def show_text(text: str, cipher: Cipher) -> str:
    """Return a JSON text with its secrets decrypted."""

    def decrypted(found: re.Match[str]) -> str:
        try:
            return cipher.decrypt(found[1])
        except Undecryptable:
            return found[0]

    return _MEMBER.sub(decrypted, text) if MARK in text else text


def recrypt(text: str, old: Cipher, new: Cipher) -> str:
    """Return a JSON text with its secrets encrypted for another namespace. What cannot be decrypted is unchanged."""

    def encrypted(found: re.Match[str]) -> str:
        try:
            return new.encrypt(old.decrypt(found[0]))
        except Undecryptable:
            return found[0]

    return _ENCRYPTED.sub(encrypted, text) if MARK in text else text


def secret_members(text: str) -> list[str]:
    """Return the names of the members of a JSON object that are secrets."""
    if MARK not in text:
        return []
    data = decode(text)
    return [name for name, member in data.items() if is_secret(member)] if isinstance(data, dict) else []


def carries_secret(value: Value) -> bool:
    """Return whether there is a secret in the value."""
    try:
        return MARK in value.text
    except UnfitValue:  # whoever stores it says so
        return False
