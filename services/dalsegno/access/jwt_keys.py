"""The public keys of an issuer (JWKS): which of them can check a token."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

KEYS_MAX = 100
RSA_BITS_MIN = 2048

_OF_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_OF_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


class BadKeys(ValueError):
    """What was read is no set of keys. The text says why."""


@dataclass(frozen=True, slots=True)
class Key:
    """One public key."""

    kid: str
    """Its name; empty: it has none."""
    algorithms: frozenset[str]
    """Those that it may check: they fit its kind, also if a token names others."""
    thumbprint: str
    public: Any


@dataclass(frozen=True, slots=True)
class KeySet:
    """All keys of an issuer that can be used."""

    keys: tuple[Key, ...] = ()
    faults: tuple[str, ...] = ()
    """What is wrong with others."""

    def has(self, thumbprint: str) -> bool:
        """Return whether a key is among them."""
        return any(each.thumbprint == thumbprint for each in self.keys)

    def named(self, kid: str) -> tuple[Key, ...]:
        """Return the keys with this name; all of them if it is empty."""
        return tuple(each for each in self.keys if not kid or each.kid == kid)


class _Jwks(msgspec.Struct):
    keys: list[dict[str, Any]]


def read_keys(content: bytes) -> KeySet:
    """Return the keys in a JWKS document. Those that cannot be used are left out, and told. Raises BadKeys."""
    try:
        found = msgspec.json.decode(content, type=_Jwks).keys
    except (ValueError, RecursionError) as error:
        raise BadKeys(f"it is no JWKS document: {error}") from None
    if len(found) > KEYS_MAX:
        raise BadKeys(f"it has {len(found)} keys; at most {KEYS_MAX} are taken")
    keys, faults = [], []
    for index, each in enumerate(found):
        if each.get("use", "sig") != "sig":  # for encryption: nothing is wrong with that
            continue
        key = _read_key(each)
        if isinstance(key, Key):
            keys.append(key)
        else:
            faults.append(f"keys[{index}] {key}")
    doubled = _doubled(keys)
    faults += (f"the kid {kid[:64]!r} stands for two keys: neither is used" for kid in sorted(doubled))
    keys = [each for each in keys if each.kid not in doubled]
    if not keys:
        raise BadKeys("; ".join(["it has no key that can be used", *faults]))
    return KeySet(tuple(keys), tuple(faults))


def _doubled(keys: list[Key]) -> set[str]:
    """Return the names that two keys for the same algorithm have."""
    return {
        one.kid
        for one, other in combinations(keys, 2)
        if one.kid and one.kid == other.kid and one.algorithms & other.algorithms
    }


def _read_key(found: dict[str, Any]) -> Key | str:
    """Return a key, or what is wrong with it."""
    kid, named = found.get("kid", ""), found.get("alg")
    if not isinstance(kid, str):
        return "has a kid that is no text"
    if found.get("kty") == "oct" or "d" in found:
        return "is secret: only public keys belong here, and this one must not be used any more"
    if "verify" not in (operations if isinstance(operations := found.get("key_ops", ["verify"]), list) else ()):
        return "is not for checking (key_ops)"
    try:
        public = jwt.PyJWK({name: value for name, value in found.items() if name != "alg"}).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return "cannot be read"  # what the library says of it may have the whole key
    algorithms = _algorithms_of(public)
    if isinstance(algorithms, str):
        return algorithms
    if named is not None and not (algorithms := frozenset({named} if isinstance(named, str) else ()) & algorithms):
        return f"says that it is for {str(named)[:40]!r}, which does not fit its kind"
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Key(kid, algorithms, hashlib.sha256(der).hexdigest(), public)


def _algorithms_of(public: Any) -> frozenset[str] | str:
    """Return what a key can check, or why it checks nothing."""
    match public:
        case RSAPublicKey() if public.key_size < RSA_BITS_MIN:
            return f"is of RSA with {public.key_size} bits; {RSA_BITS_MIN} are the least"
        case RSAPublicKey():
            return _OF_RSA
        case EllipticCurvePublicKey() if public.curve.name in _OF_CURVES:
            return frozenset({_OF_CURVES[public.curve.name]})
        case Ed25519PublicKey():
            return frozenset({"EdDSA"})
        case _:
            return "is of a kind that is not taken: RSA, EC P-256, P-384, P-521 and Ed25519 are"
