"""Sealed texts, which a browser keeps for the gateway: nobody else can read or make one.

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

KEY_BYTES = 32
KEYS_MAX = 10
_FILE_BYTES_MAX = 10_000
_NONCE_BYTES = 12

_log = logging.getLogger("dalsegno.gateway")


class BadKeyFile(ValueError):
    """The file of --session-key-file cannot be used. The text says what to do, and has no key."""


class Purpose(StrEnum):
    """What a sealed text is for. It is opened for that only."""

    SESSION = "dalsegno session"
    LOGIN = "dalsegno login"


class Seal:
    """Seals and opens texts (AES-256-GCM)."""

    def __init__(self, path: str = "") -> None:
        """`path`: the file of keys, the first of which seals; it is read again when it changes. Without one there is a
        key for this process only. Raises BadKeyFile."""
        self._path = path
        self._stamp = stamp_of(path) if path else None
        self._keys = _read_keys(path) if path else [AESGCM(AESGCM.generate_key(8 * KEY_BYTES))]

    def close(self, content: bytes, purpose: Purpose) -> str:
        """Return the sealed text, in the alphabet of base64 for URLs."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._current()[0].encrypt(nonce, content, purpose.encode())
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def open(self, text: str, purpose: Purpose) -> bytes | None:
        """Return what was sealed; None for a text that we have not sealed for this purpose."""
        try:
            sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            return None
        nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
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
            lines = file.read(_FILE_BYTES_MAX).decode("ascii", "replace").split()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadKeyFile(f"--session-key-file {path}: it cannot be read: {reason}") from None
    if not 1 <= len(lines) <= KEYS_MAX:
        raise BadKeyFile(f"--session-key-file {path}: it has {len(lines)} keys; 1 to {KEYS_MAX} are taken, one a line")
    return [_key(path, number, line) for number, line in enumerate(lines, 1)]


def _key(path: str, number: int, line: str) -> AESGCM:
    try:
        found = base64.b64decode(line, validate=True)
    except (ValueError, binascii.Error):
        found = b""
    if len(found) != KEY_BYTES:
        told = f"line {number} is no key of {KEY_BYTES} bytes in base64; `openssl rand -base64 {KEY_BYTES}` makes one"
        raise BadKeyFile(f"--session-key-file {path}: {told}")
    return AESGCM(found)
