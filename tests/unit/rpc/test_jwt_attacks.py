"""Tokens of issuers (JWT) that must not count, each with the reason that its sender is told."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.issuing import AUDIENCE, TestIssuer, forged, jwks, signed, signing_key, write_issuers

from dalsegno.rpc.jwt_directory import IssuerFile, JwtDirectory
from dalsegno.workflow.refusals import Unauthenticated

SSO = TestIssuer()
RSA = signing_key("rsa", "RS256")
OTHER = TestIssuer("other", "https://other.example.com", signing_key("others"))
STRANGER = signing_key("stranger")


def _directory(folder: Path, **more: Any) -> JwtDirectory:
    """Return the directory of two issuers, the first with keys of two kinds."""
    (folder / "sso.json").write_bytes(jwks(SSO.key, RSA))
    (folder / "other.json").write_bytes(jwks(OTHER.key))
    entries = SSO.entry("sso.json", **more), OTHER.entry("other.json")
    return JwtDirectory(IssuerFile(write_issuers(folder / "issuers.yaml", *entries)))


def _claims(**more: Any) -> dict[str, Any]:
    return {"iss": SSO.url, "sub": "alice", "aud": AUDIENCE, "exp": time.time() + 600, **more}


def _by_public_key(form: PublicFormat | None) -> str:
    """Return a token that is signed by HMAC, with the public key of RSA as the secret."""
    public = RSA.private.public_key()
    secret = public.public_bytes(Encoding.PEM, form) if form else json.dumps(RSA.jwk()).encode()
    unsigned = forged({"alg": "HS256", "kid": "rsa"}, _claims()).rstrip(".")
    mac = base64.urlsafe_b64encode(hmac.digest(secret, unsigned.encode(), "sha256")).decode().rstrip("=")
    return f"{unsigned}.{mac}"


def _altered(token: str, **more: Any) -> str:
    """Return a token with other claims under its signature."""
    header, claims, signature = token.split(".")
    found = json.loads(base64.urlsafe_b64decode(claims + "=="))
    written = base64.urlsafe_b64encode(json.dumps({**found, **more}).encode()).decode().rstrip("=")
    return f"{header}.{written}.{signature}"


ALG = "those of 'sso' are taken with"
SIGNATURE = "its signature is not by the key of 'sso' that it names"
UNREADABLE = "cannot be read"
ATTACKS: dict[str, tuple[Callable[[], str], str]] = {
    "no signature": (lambda: forged({"alg": "none"}, _claims()), f"it is signed by 'none'; {ALG}"),
    "no signature, with a kid": (lambda: forged({"alg": "none", "kid": "one"}, _claims()), "it is signed by 'none'"),
    "None in other letters": (lambda: forged({"alg": "NoNe", "kid": "one"}, _claims()), "it is signed by 'NoNe'"),
    "no algorithm": (lambda: forged({"kid": "one"}, _claims()), "it is signed by 'None'"),
    "an algorithm that is no text": (lambda: forged({"alg": ["ES256"], "kid": "one"}, _claims()), ALG),
    "HS256 with the PEM of the public key": (
        lambda: _by_public_key(PublicFormat.SubjectPublicKeyInfo),
        "it is signed by 'HS256'",
    ),
    "HS256 with PKCS1": (lambda: _by_public_key(PublicFormat.PKCS1), "it is signed by 'HS256'"),
    "HS256 with the JWK": (lambda: _by_public_key(None), "it is signed by 'HS256'"),
    "an empty signature": (lambda: forged({"alg": "ES256", "kid": "one"}, _claims()), SIGNATURE),
    "zeros as a signature": (lambda: forged({"alg": "ES256", "kid": "one"}, _claims(), bytes(64)), SIGNATURE),
    "a key of its own": (lambda: SSO.token(key=STRANGER, headers={"kid": "one"}), SIGNATURE),
    "a key in its header": (
        lambda: SSO.token(key=STRANGER, headers={"kid": "one", "jwk": STRANGER.jwk()}),
        SIGNATURE,
    ),
    "an address of keys in its header": (
        lambda: SSO.token(key=STRANGER, headers={"kid": "stranger", "jku": "https://evil.example.com/keys"}),
        "signed by the key 'stranger', which 'sso' does not have",
    ),
    "the key of another issuer": (lambda: SSO.token(key=OTHER.key), "the key 'others', which 'sso' does not have"),
    "the key of another issuer under our kid": (lambda: SSO.token(key=OTHER.key, headers={"kid": "one"}), SIGNATURE),
    "a kid that is a path": (
        lambda: SSO.token(headers={"kid": "../../../../dev/null"}),
        "the key '../../../../dev/null', which 'sso' does not have",
    ),
    "a kid that is a query": (lambda: SSO.token(headers={"kid": "' OR 1=1 --"}), "which 'sso' does not have"),
    "a kid that is an address": (
        lambda: SSO.token(headers={"kid": "http://169.254.169.254/"}),
        "which 'sso' does not have",
    ),
    "a kid that is very long": (lambda: SSO.token(headers={"kid": "k" * 3000}), f"{'k' * 64}', which 'sso' does"),
    "a kid that is no text": (lambda: forged({"alg": "ES256", "kid": {"a": 1}}, _claims()), UNREADABLE),
    "the kid of a key of another kind": (
        lambda: SSO.token(headers={"kid": "rsa"}),
        "signed by ES256, which is not for the key 'rsa' of 'sso'",
    ),
    "RSA under the kid of EC": (
        lambda: SSO.token(key=RSA, headers={"kid": "one"}),
        "signed by RS256, which is not for the key 'one' of 'sso'",
    ),
    "no kid, and no key of its kind": (
        lambda: SSO.token(key=signing_key("ed", "EdDSA"), headers={}),
        "signed by EdDSA, which is not for any key of 'sso'",
    ),
    "a critical header": (lambda: forged({"alg": "ES256", "kid": "one", "crit": ["x"]}, _claims()), UNREADABLE),
    "a body that stands elsewhere": (
        lambda: forged({"alg": "ES256", "kid": "one", "b64": False, "crit": ["b64"]}, _claims()),
        UNREADABLE,
    ),
    "a logout token": (lambda: SSO.token(headers={"kid": "one", "typ": "logout+jwt"}), "of the type 'logout+jwt'"),
    "other claims under its signature": (lambda: _altered(SSO.token(), sub="root"), SIGNATURE),
    "a later end under its signature": (lambda: _altered(SSO.token(lasts_s=-9), exp=2**40), SIGNATURE),
    "another audience": (lambda: SSO.token(aud="billing"), "its audience (aud) is none of dalsegno"),
    "other audiences": (lambda: SSO.token(aud=["billing", "Dalsegno"]), "its audience (aud) is none of dalsegno"),
    "an audience that is no text": (lambda: SSO.token(aud={"dalsegno": 1}), "its audience (aud) is none of"),
    "no audience": (lambda: SSO.token(without=["aud"]), "it lacks the claim aud"),
    "another issuer": (lambda: SSO.token(iss="https://evil.example.com"), "'https://evil.example.com' is not in"),
    "nearly our issuer": (lambda: SSO.token(iss=f"{SSO.url}/"), f"'{SSO.url}/' is not in the file of --issuers"),
    "no issuer": (lambda: SSO.token(without=["iss"]), "it names no issuer (iss)"),
    "an issuer that is no text": (lambda: signed(_claims(iss=[SSO.url]), SSO.key), "it names no issuer (iss)"),
    "expired": (lambda: SSO.token(lasts_s=-4), "it has expired (exp)"),
    "expired, as an end that is true": (lambda: SSO.token(exp=True), "it has expired (exp)"),
    "no end": (lambda: SSO.token(without=["exp"]), "it lacks the claim exp"),
    "an end that is infinite": (lambda: SSO.token(exp=float("inf")), UNREADABLE),
    "an end that is no number": (lambda: SSO.token(exp="NaN"), UNREADABLE),
    "an end that is a number beyond all": (lambda: SSO.token(exp=10**400), UNREADABLE),
    "not valid yet": (lambda: SSO.token(nbf=time.time() + 60), "it is not valid yet (nbf, iat)"),
    "made in the future": (lambda: SSO.token(iat=time.time() + 60), "it is not valid yet (nbf, iat)"),
    "no subject": (lambda: SSO.token(without=["sub"]), "it lacks the claim sub"),
    "an empty subject": (lambda: SSO.token(""), "its subject (sub) is empty"),
    "a subject of lines": (lambda: SSO.token("alice\nroot"), "has characters that cannot be shown"),
    "a subject with an escape": (lambda: SSO.token("\x1b[2Jroot"), "has characters that cannot be shown"),
    "a subject with blanks": (lambda: SSO.token("alice "), "has characters that cannot be shown"),
    "a subject that is no text": (lambda: signed(_claims(sub=7), SSO.key), UNREADABLE),
    "a long subject": (lambda: SSO.token("a" * 252), "its subject (sub) has 252 characters; 251 are the most"),
    "a huge token": (lambda: SSO.token(more="x" * 1_000_000), "characters; 8192 are the most"),
    "a deep header": (lambda: f"{_part('[' * 5000)}.{_part('{}')}.AA", UNREADABLE),
    "deep claims": (lambda: f"{_part('{}')}.{_part('[' * 5000)}.AA", UNREADABLE),
    "claims that are a list": (lambda: f"{_part('{}')}.{_part('[]')}.AA", UNREADABLE),
    "no JSON": (lambda: "aaaa.bbbb.cccc", UNREADABLE),
}


def _part(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize("name", ATTACKS)
async def test_an_attack_is_refused(tmp_path: Path, name: str) -> None:
    """The token does not count, and its sender is told why in one sentence, without any part of the token that would
    let somebody else use it."""
    make, told = ATTACKS[name]
    token = make()
    with pytest.raises(Unauthenticated) as raised:
        await _directory(tmp_path).find(token)
    refused = str(raised.value)
    assert refused.startswith("the token (JWT) does not count: ")
    assert told in refused
    assert refused.isprintable()
    assert len(refused) < 500
    assert not any(part in refused for part in token.split(".") if len(part) > 8)


async def test_a_token_is_found_again_only_as_it_was(tmp_path: Path) -> None:
    """A genuine token that was seen before makes nothing count that only resembles it."""
    directory = _directory(tmp_path)
    token = SSO.token(groups=["crew"])
    assert (await directory.find(token)).name == "sso/alice"
    header, claims, signature = token.split(".")
    for other in (f"{header}.{claims}.", f"{header}.{claims}.{signature[:-4]}AAAA", _altered(token, groups=["root"])):
        with pytest.raises(Unauthenticated):
            await directory.find(other)


async def test_an_issuer_cannot_speak_for_another(tmp_path: Path) -> None:
    """The same subject of two issuers is two callers, and only the issuer in the token is asked for keys."""
    directory = _directory(tmp_path)
    names = [(await directory.find(each.token())).name for each in (SSO, OTHER)]
    assert names == ["sso/alice", "other/alice"]
    with pytest.raises(Unauthenticated, match=r"the key 'one', which 'other' does not have"):
        await directory.find(OTHER.token(key=SSO.key))


@pytest.mark.parametrize("key", [SSO.key, RSA], ids=lambda each: each.algorithm)
async def test_genuine_tokens_count(tmp_path: Path, key: Any) -> None:
    """With or without a kid where one key fits, for one of several audiences, and while clocks differ a little."""
    directory = _directory(tmp_path, leeway_s=60)  # more than a busy machine takes from here to the last look
    for token in (
        SSO.token(key=key),
        SSO.token(key=key, headers={}),
        SSO.token(key=key, headers={"kid": key.kid, "typ": "at+JWT"}),
        SSO.token(key=key, aud=["billing", AUDIENCE]),
        SSO.token(key=key, lasts_s=-20),
        SSO.token(key=key, nbf=time.time() + 50, iat=time.time() + 50),
    ):
        assert (await directory.find(token)).name == "sso/alice"


async def test_an_issuer_may_be_held_to_some_algorithms(tmp_path: Path) -> None:
    """A genuine token by an algorithm that the file does not name for its issuer does not count."""
    directory = _directory(tmp_path, algorithms=["RS256"])
    assert (await directory.find(SSO.token(key=RSA))).name == "sso/alice"
    with pytest.raises(Unauthenticated, match=r"it is signed by 'ES256'; those of 'sso' are taken with RS256;"):
        await directory.find(SSO.token())
