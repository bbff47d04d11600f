"""The keys of an operator, and the key of a store, which is stored encrypted with one of these.

Secrets are encrypted with the key of the store. So another key of the operator replaces the one before it without a
change of any secret (`rewrap`).
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path

KEY_BYTES = 32
NONCE_BYTES = 12
MAKE = "openssl rand -base64 32 makes a key"
COMMAND_S = 30.0
"""How long a command may take to print the keys."""

STORE_KEY = "secret_key"
"""The name of the setting with the encrypted key of the store."""

_WRAPPED = b"dalsegno: the key of a store"


class UnfitKeys(ValueError):
    """The keys cannot be read, or are not those of the store."""


def new_key() -> bytes:
    """Return a new key."""
    return secrets.token_bytes(KEY_BYTES)


def read_file(path: Path) -> tuple[bytes, ...]:
    """Return the keys in a file, the newest first. Raises UnfitKeys."""
    try:
        mode = path.stat().st_mode
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UnfitKeys(f"cannot read the keys of secrets: {error}") from None
    if mode & 0o077:
        raise UnfitKeys(f"the keys of secrets in {path} can be read by other users: chmod 600 {path}")
    return parse_keys(text, str(path))


def read_command(command: str) -> tuple[bytes, ...]:
    """Return the keys that a command prints, the newest first. Raises UnfitKeys."""
    try:
        ended = subprocess.run(command, shell=True, capture_output=True, timeout=COMMAND_S, check=True)
    except subprocess.TimeoutExpired:
        raise UnfitKeys(f"the command for the keys of secrets has not ended within {COMMAND_S:g} s") from None
    except subprocess.CalledProcessError as error:
        told = error.stderr.decode(errors="replace").strip()[-500:]
        raise UnfitKeys(f"the command for the keys of secrets ended with {error.returncode}: {told}") from None
    return parse_keys(ended.stdout.decode(errors="replace"), "the output of the command")


def parse_keys(text: str, place: str) -> tuple[bytes, ...]:
    """Return the keys in a text, one a line, in base64. Empty lines and lines that begin with # are ignored. `place`:
    what the text is, for errors. Raises UnfitKeys."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        written = line.strip()
        if not written or written.startswith("#"):
            continue
        try:
            key = base64.b64decode(written, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise UnfitKeys(f"line {number} of {place} must be {KEY_BYTES} random bytes in base64 ({MAKE})")
        found.append(key)
    if not found:
        raise UnfitKeys(f"there is no key in {place} ({MAKE})")
    return tuple(found)


def ensure_file(path: Path) -> None:
    """Write a file with a new key, for its owner alone, unless there is one."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(base64.b64encode(new_key()).decode() + "\n")
        file.flush()
        os.fsync(file.fileno())


def wrap(key: bytes, store_key: bytes) -> str:
    """Return the key of a store, encrypted."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # slow to load, and many processes have no secrets

    nonce = secrets.token_bytes(NONCE_BYTES)
    return base64.b64encode(nonce + AESGCM(key).encrypt(nonce, store_key, _WRAPPED)).decode()


def unwrap(keys: Sequence[bytes], wrapped: str) -> bytes:
    """Return the key of a store. Raises UnfitKeys if none of the keys fits."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    whole = base64.b64decode(wrapped)
    for key in keys:
        try:
            return AESGCM(key).decrypt(whole[:NONCE_BYTES], whole[NONCE_BYTES:], _WRAPPED)
        except InvalidTag:
            continue
    raise UnfitKeys(
        "the secrets of this store are encrypted with another key: none of the given ones fits. Give the file with it"
    )


def rewrap(keys: Sequence[bytes], wrapped: str) -> str:
    """Return the key of a store, encrypted with the newest key. Raises UnfitKeys if none of the keys fits."""
    return wrap(keys[0], unwrap(keys, wrapped))
