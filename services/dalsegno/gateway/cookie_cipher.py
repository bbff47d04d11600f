"""Encrypts what a browser keeps for the gateway in cookies: nobody else can read it, or make such a text.

The gateway keeps no sessions itself, so any gateway with the same key knows those of the others, also after a restart.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
from enum import StrEnum
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dalsegno.access.files import stamp_of
from dalsegno.secrets.keys import UnfitKeys, new_key, parse_keys

KEYS_MAX = 10
_FILE_BYTES_MAX = 10_000
_NONCE_BYTES = 12

_log = logging.getLogger("dalsegno.gateway")


class BadKeyFile(ValueError):
    """The file of --session-key-file cannot be used. The text says what to do, and has no key."""


class Purpose(StrEnum):
    """What an encrypted text is for. It is decrypted for that only."""

    SESSION = "dalsegno session"
    LOGIN = "dalsegno login"


class CookieCipher:
    """Encrypts and decrypts what cookies hold (AES-256-GCM)."""

    def __init__(self, path: str = "") -> None:
        """`path`: the file of keys, the first of which encrypts; it is read again when it changes. Without one there is
        a key for this process only. Raises BadKeyFile."""
        self._path = path
        self._stamp = stamp_of(path) if path else None
        self._keys = _read_keys(path) if path else [AESGCM(new_key())]

    def encrypt(self, content: bytes, purpose: Purpose) -> str:
        """Return the encrypted text, in the alphabet of base64 for URLs."""
        nonce = os.urandom(_NONCE_BYTES)
        encrypted = nonce + self._current()[0].encrypt(nonce, content, purpose.encode())
        return base64.urlsafe_b64encode(encrypted).decode().rstrip("=")

    def decrypt(self, text: str, purpose: Purpose) -> bytes | None:
        """Return what was encrypted; None for a text that we have not encrypted for this purpose."""
        try:
            encrypted = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            return None
        nonce, rest = encrypted[:_NONCE_BYTES], encrypted[_NONCE_BYTES:]
        if len(rest) < 16:  # the library raises another error for what has no tag
            return None
        for key in self._current():
            try:
                return key.decrypt(nonce, rest, purpose.encode())
            except InvalidTag:
                continue
        return None

    def _current(self) -> list[AESGCM]:
        """Return the keys as they are in the file now, or were before it had a fault."""
        if self._path and (stamp := stamp_of(self._path)) != self._stamp:
            self._stamp = stamp
            try:
                self._keys = _read_keys(self._path)
            except BadKeyFile as error:
                _log.warning("%s; the keys from before stay in use", error)
            else:
                _log.info("read again after a change: %s", self._path)
        return self._keys


def _read_keys(path: str) -> list[AESGCM]:
    """Return the keys in a file. Raises BadKeyFile."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(_FILE_BYTES_MAX).decode("ascii", "replace")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadKeyFile(f"--session-key-file {path}: it cannot be read: {reason}") from None
    try:
        found = parse_keys(text, "it")
    except UnfitKeys as error:
        raise BadKeyFile(f"--session-key-file {path}: {error}") from None
    if len(found) > KEYS_MAX:
        raise BadKeyFile(f"--session-key-file {path}: it has {len(found)} keys; 1 to {KEYS_MAX} are taken, one a line")
    return [AESGCM(key) for key in found]
