"""The keys of an issuer: which are used, and what is told of the others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.issuing import SigningKey, jwks, signing_key

from dalsegno.access.jwt_keys import KEYS_MAX, BadKeys, read_keys

EC, RSA = signing_key("ec"), signing_key("rsa", "RS256")


def _document(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"keys": [EC.jwk(kid="good"), *entries]}).encode()


@pytest.mark.parametrize(
    ("key", "checks"),
    [
        (signing_key("a", "ES256"), {"ES256"}),
        (signing_key("b", "ES384"), {"ES384"}),
        (signing_key("c", "ES512"), {"ES512"}),
        (signing_key("d", "EdDSA"), {"EdDSA"}),
        (RSA, {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    ],
    ids=lambda each: each.algorithm if isinstance(each, SigningKey) else "",
)
def test_a_key_checks_what_fits_its_kind(key: SigningKey, checks: set[str]) -> None:
    """The kind of a key decides which algorithms it checks; its member `alg` only narrows that."""
    (found,) = read_keys(jwks(key)).keys
    assert (found.kid, set(found.algorithms)) == (key.kid, checks)
    (found,) = read_keys(json.dumps({"keys": [key.jwk(alg=key.algorithm)]}).encode()).keys
    assert set(found.algorithms) == {key.algorithm}


SMALL = SigningKey("small", "RS256", rsa.generate_private_key(65537, 1024))
PRIVATE = {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "d": "c2VjcmV0"}


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"kty": "oct", "k": "c2VjcmV0", "kid": "s"}, "is secret"),
        (PRIVATE, "is secret"),
        (SMALL.jwk(), "is of RSA with 1024 bits"),
        (EC.jwk(alg="HS256"), "says that it is for 'HS256', which does not fit its kind"),
        (EC.jwk(alg="none"), "says that it is for 'none', which does not fit its kind"),
        (EC.jwk(alg=["ES256"]), "does not fit its kind"),
        (EC.jwk(kid=7), "has a kid that is no text"),
        (EC.jwk(key_ops=["sign"]), "is not for checking"),
        (EC.jwk(key_ops=7), "is not for checking"),
        (EC.jwk(crv="secp256k1"), "cannot be read"),
        (EC.jwk(x="c2VjcmV0"), "cannot be read"),
        (EC.jwk(x=7), "cannot be read"),
        ({"kty": "RSA", "n": "", "e": "AQAB"}, "cannot be read"),
        ({"kty": "unheard"}, "cannot be read"),
        ({}, "cannot be read"),
    ],
)
def test_a_key_that_cannot_be_used_is_told(entry: dict[str, Any], told: str) -> None:
    """A key that is secret, weak, or for something else is left out with a reason that does not show it."""
    found = read_keys(_document(entry))
    assert [each.kid for each in found.keys] == ["good"]
    (fault,) = found.faults
    assert fault.startswith("keys[1] ")
    assert told in fault
    assert "c2VjcmV0" not in fault


def test_keys_for_encryption_are_nothing_to_tell() -> None:
    """Issuers publish keys for encryption beside the others."""
    found = read_keys(_document(RSA.jwk(use="enc")))
    assert ([each.kid for each in found.keys], found.faults) == (["good"], ())


def test_a_kid_that_stands_for_two_keys_is_used_for_neither() -> None:
    """Two keys of a kind with one name are both left out; keys of different kinds may have one."""
    other = signing_key("other")
    found = read_keys(_document(EC.jwk(), other.jwk(kid="ec")))
    assert [each.kid for each in found.keys] == ["good"]
    assert found.faults == ("the kid 'ec' stands for two keys: neither is used",)
    found = read_keys(_document(RSA.jwk(kid="good")))
    assert ([each.kid for each in found.keys], found.faults) == (["good", "good"], ())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"<html>", "it is no JWKS document"),
        (b"[" * 200_000, "it is no JWKS document"),
        (b'{"keys": {}}', "it is no JWKS document"),
        (b'{"keys": []}', "it has no key that can be used"),
        (b'{"keys": [{"kty": "oct", "k": "AA"}]}', "no key that can be used; keys[0] is secret"),
        (json.dumps({"keys": [{}] * (KEYS_MAX + 1)}).encode(), "it has 101 keys"),
        (b"\xff\xfe", "it is no JWKS document"),
    ],
    ids=range(7),
)
def test_what_has_no_key_is_refused_as_a_whole(content: bytes, told: str) -> None:
    """A document without a key that can be used is an error, so that the keys from before stay in use."""
    with pytest.raises(BadKeys) as raised:
        read_keys(content)
    assert told in str(raised.value)
