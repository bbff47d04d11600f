"""Whether a token of an issuer (JWT) is genuine, and for whom it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from dalsegno.access.bearer import JWT_LENGTH_MAX
from dalsegno.access.issuers import Issuer
from dalsegno.access.jwt_keys import Key, KeySet

NAME_LENGTH_MAX = 255
"""The length of a caller's name: a longer one is refused, since two that are cut off could be the same."""

_TYPES = ("", "jwt", "at+jwt", "application/at+jwt")
_REQUIRED = ("exp", "iss", "aud", "sub")
_FAULTS = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)


class BadJwt(ValueError):
    """A token does not count. The text says why, and has no part of it that is secret."""


class UnknownKey(BadJwt):
    """The keys that are known of its issuer have none of this name."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a token says of itself, before anything of it is checked."""

    issuer: str
    algorithm: str
    kid: str


def look_at(token: str) -> Shown:
    """Return what a token says of itself. Raises BadJwt."""
    if len(token) > JWT_LENGTH_MAX:
        raise BadJwt(f"it has {len(token)} characters; {JWT_LENGTH_MAX} are the most")
    try:
        found = jwt.decode_complete(token, options={"verify_signature": False})
    except _FAULTS:
        raise BadJwt("it cannot be read") from None
    header, issuer = found["header"], found["payload"].get("iss")
    kind = header.get("typ", "")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise BadJwt(f"it is of the type {str(kind)[:40]!r}, and no access token")
    if not isinstance(issuer, str):
        raise BadJwt("it names no issuer (iss)")
    return Shown(issuer, str(header.get("alg")), header.get("kid") or "")


def choose_key(shown: Shown, issuer: Issuer, keys: KeySet) -> Key:
    """Return the key that checks a token. Raises BadJwt, and UnknownKey if a newer set may contain it."""
    if shown.algorithm not in issuer.algorithms:
        taken = ", ".join(issuer.algorithms)
        raise BadJwt(f"it is signed by {shown.algorithm[:40]!r}; those of {issuer.name!r} are taken with {taken}")
    named = keys.named(shown.kid)
    if not named:
        raise UnknownKey(f"it is signed by the key {shown.kid[:64]!r}, which {issuer.name!r} does not have")
    fitting = [each for each in named if shown.algorithm in each.algorithms]
    if len(fitting) > 1:
        raise BadJwt(f"it names no key (kid), and {issuer.name!r} has {len(fitting)} for {shown.algorithm}")
    if not fitting:
        told = f"the key {shown.kid[:64]!r}" if shown.kid else "any key"
        raise BadJwt(f"it is signed by {shown.algorithm}, which is not for {told} of {issuer.name!r}")
    return fitting[0]


def check(token: str, shown: Shown, issuer: Issuer, key: Key) -> Mapping[str, Any]:
    """Return the claims of a token that is genuine, valid now and for us. Raises BadJwt."""
    try:
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key.public,
            algorithms=[shown.algorithm],
            audience=issuer.audiences,
            issuer=issuer.issuer,
            leeway=issuer.leeway_s,
            options={"require": list(_REQUIRED), "enforce_minimum_key_length": True},
        )
        ends_at(claims)
    except _FAULTS as error:
        raise BadJwt(_told(error, issuer)) from None
    _check_subject(claims["sub"], issuer)
    return claims


def ends_at(claims: Mapping[str, Any]) -> float:
    """Return when a token expires, in seconds since 1970. Raises ValueError, TypeError and OverflowError."""
    return float(int(claims["exp"]))


def name_of(claims: Mapping[str, Any], issuer: Issuer) -> str:
    """Return the name of the caller for whom a token stands."""
    return f"{issuer.name}/{claims['sub']}"


def _check_subject(subject: str, issuer: Issuer) -> None:
    if not subject or not subject.isprintable() or subject != subject.strip():
        raise BadJwt("its subject (sub) is empty, or has characters that cannot be shown")
    if len(subject) > (most := NAME_LENGTH_MAX - len(issuer.name) - 1):
        raise BadJwt(f"its subject (sub) has {len(subject)} characters; {most} are the most")


def _told(error: Exception, issuer: Issuer) -> str:
    """Return what is wrong with a token, in our own words: those of the library may quote it."""
    match error:
        case jwt.ExpiredSignatureError():
            return "it has expired (exp)"
        case jwt.ImmatureSignatureError():
            return "it is not valid yet (nbf, iat): do the clocks differ?"
        case jwt.InvalidAudienceError():
            return f"it is not for this service: its audience (aud) is none of {', '.join(issuer.audiences)}"
        case jwt.InvalidSignatureError():
            return f"its signature is not by the key of {issuer.name!r} that it names"
        case jwt.MissingRequiredClaimError():
            return f"it lacks the claim {error.claim}"
        case _:
            return "it, or one of its claims, cannot be read"
