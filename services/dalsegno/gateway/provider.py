"""The issuer at which people log in, as the options of a gateway name it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Provider:
    """The issuer at which people log in."""

    issuer: str
    client_id: str
    secret_file: str = ""
    """The file of the client's secret; empty: the client is public."""
    ca: str = ""
    """The file of the authorities by which it is trusted; empty: those of the system."""
    scopes: tuple[str, ...] = ()
    """What is asked for beside `openid`."""


class BadSecret(ValueError):
    """The file of a client's secret cannot be used. The text says why, and not the secret."""


def read_secret(path: str) -> str:
    """Return the secret in a file. Raises BadSecret."""
    try:
        with Path(path).open("rb") as file:
            secret = file.read(10_000).decode().strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise BadSecret(f"--oidc-client-secret-file {path}: it cannot be read: {reason}") from None
    if not secret:
        raise BadSecret(f"--oidc-client-secret-file {path}: it is empty")
    return secret
