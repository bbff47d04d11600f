"""Encrypts and decrypts secrets with the key of the store, by AES-256-GCM."""

from __future__ import annotations

import base64
import binascii
import hmac
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from dalsegno.secrets.keys import NONCE_BYTES
from dalsegno.workflow.scope import EvaluationError
from dalsegno.workflow.secrets import MARK, Cipher, Undecryptable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NO_KEYS = "this engine has no key for secrets: start it with --secret-keys FILE (openssl rand -base64 32 > FILE)"
NAMESPACES_MAX = 1_000


class Ciphers(Protocol):
    """Gives each namespace a cipher of its own."""

    @property
    def hash_key(self) -> bytes:
        """Return the key with which requests are hashed; empty: they are hashed without one."""
        ...

    def of(self, namespace: str) -> Cipher:
        """Return the cipher of the namespace."""
        ...


class StoreCiphers:
    """The ciphers of a store with a key."""

    def __init__(self, store_key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # slow to load, and many processes have no key

        self._aes = AESGCM(hmac.digest(store_key, b"encrypt", "sha256"))
        self._nonces = hmac.digest(store_key, b"nonce", "sha256")
        self._hash_key = hmac.digest(store_key, b"hash", "sha256")
        self.of = lru_cache(NAMESPACES_MAX)(self._of)

    @property
    def hash_key(self) -> bytes:
        """Return the key with which requests are hashed: the hash of one with a password must not confirm a guess."""
        return self._hash_key

    def _of(self, namespace: str) -> Cipher:
        return NamespaceCipher(self._aes, self._nonces, namespace)


class NamespaceCipher:
    """The cipher of a namespace: what was encrypted in one cannot be decrypted in another.

    The nonce is made of the text, so that equal texts are encrypted equally, and different ones with different nonces.
    """

    def __init__(self, aes: AESGCM, nonces: bytes, namespace: str) -> None:
        self._aes = aes
        self._nonces = nonces
        self._namespace = namespace.encode()

    def encrypt(self, text: str) -> str:
        """Return the mark and the encrypted text."""
        written = text.encode()
        nonce = hmac.digest(self._nonces, self._namespace + b"\0" + written, "sha256")[:NONCE_BYTES]
        whole = nonce + self._aes.encrypt(nonce, written, self._namespace)
        return MARK + base64.urlsafe_b64encode(whole).decode().rstrip("=")

    def decrypt(self, encrypted: str) -> str:
        """Return the text. Raises Undecryptable."""
        from cryptography.exceptions import InvalidTag

        body = encrypted.removeprefix(MARK)
        try:
            whole = base64.b64decode(body + "=" * (-len(body) % 4), b"-_", validate=True)
            return self._aes.decrypt(whole[:NONCE_BYTES], whole[NONCE_BYTES:], self._namespace).decode()
        except (InvalidTag, ValueError, binascii.Error) as error:
            raise Undecryptable(encrypted[: len(MARK) + 8]) from error


class NoCiphers:
    """The ciphers of an engine without a key."""

    hash_key = b""

    def of(self, namespace: str) -> Cipher:
        """Return a cipher that refuses."""
        return _NO_CIPHER


class _NoCipher:
    """Refuses to encrypt."""

    def encrypt(self, text: str) -> str:
        """Raise EvaluationError."""
        raise EvaluationError(NO_KEYS)

    def decrypt(self, encrypted: str) -> str:
        """Raise Undecryptable."""
        raise Undecryptable(encrypted[: len(MARK) + 8])


_NO_CIPHER = _NoCipher()
NO_CIPHERS = NoCiphers()
