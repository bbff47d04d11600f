"""Tokens of callers: how they look, and the file in which a program finds its own."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import secrets
from pathlib import Path

from dalsegno.access.files import stamp_of

KEY = "authorization"
"""The metadata with the token of a caller: `Bearer TOKEN`."""

PREFIX = "dst_"
"""The start of every token, so that a scanner for secrets finds tokens in texts."""

ID_LENGTH = 16

FILE_VARIABLE = "DALSEGNO_TOKEN_FILE"
"""The environment variable with the file of the token of a program, unless an option names it."""

JWT_LENGTH_MAX = 8192
"""The length of a token of an issuer: what proxies on the way take as one header."""

_FORM = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")
_JWT_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_FILE_BYTES = JWT_LENGTH_MAX + 1024


class BadToken(ValueError):
    """A token, or its file, cannot be used. The text says what to do, and not the token."""


def new_token() -> str:
    """Return a new token."""
    return PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")


def is_token(text: str) -> bool:
    """Return whether a text has the form of a token."""
    return _FORM.fullmatch(text) is not None


def is_jwt(text: str) -> bool:
    """Return whether a text has the form of a token of an issuer (JWT).

    >>> is_jwt("eyJhbGciOiJSUzI1NiJ9.e30.c2ln"), is_jwt("dst_x"), is_jwt("a.b")
    (True, False, False)
    """
    return _JWT_FORM.fullmatch(text) is not None


def hash_of(token: str) -> bytes:
    """Return the hash of a token, which a server stores instead of the token."""
    return hashlib.sha256(token.encode()).digest()


def id_of(sha256: bytes) -> str:
    """Return the id of the token with this hash."""
    return sha256.hex()[:ID_LENGTH]


class TokenFile:
    """The token of a program, in a file that is read again when it changes. Its use never raises: a file that has
    become unreadable leaves the token from before in use."""

    def __init__(self, path: str) -> None:
        """Read it. Raises BadToken."""
        self._path = path
        self._stamp = stamp_of(path)
        self._token = self._read()

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata with the token as it is now."""
        stamp = stamp_of(self._path)
        if stamp != self._stamp:
            with contextlib.suppress(BadToken):  # it is being written: the next call looks again
                self._token, self._stamp = self._read(), stamp
        return ((KEY, f"Bearer {self._token}"),)

    def _read(self) -> str:
        try:
            with Path(self._path).open("rb") as file:
                text = file.read(_FILE_BYTES).decode("ascii", "replace").strip()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise BadToken(f"--token-file {self._path}: it cannot be read: {reason}") from None
        if not (is_token(text) or (is_jwt(text) and len(text) <= JWT_LENGTH_MAX)):
            raise BadToken(
                f"--token-file {self._path}: it has no token, which begins with {PREFIX}; `dalsegno token create` makes"
                f" one; nor a JWT of at most {JWT_LENGTH_MAX} characters"
            )
        return text


def open_token_file(path: str) -> TokenFile | None:
    """Return the token in the file at a path; None for an empty path. Raises BadToken."""
    return TokenFile(path) if path else None
