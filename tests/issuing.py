"""Issuers of tokens (JWT) with keys of the test's own, and a server with their public keys (JWKS)."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from dalsegno.rpc import jwt_directory

AUDIENCE = "dalsegno"


@dataclass(frozen=True)
class SigningKey:
    """A private key, and what its issuer publishes of it."""

    kid: str
    algorithm: str
    private: Any

    def jwk(self, **more: Any) -> dict[str, Any]:
        """Return the public key as an entry of a JWKS; `more`: members that it has, too."""
        kind = jwt.get_algorithm_by_name(self.algorithm)
        public: dict[str, Any] = type(kind).to_jwk(self.private.public_key(), as_dict=True)
        return {"kid": self.kid, "use": "sig", **{name: public[name] for name in public if name != "key_ops"}, **more}


@cache
def signing_key(kid: str, algorithm: str = "ES256") -> SigningKey:
    """Return the key with this name, the same each time."""
    private: Any
    match algorithm:
        case "EdDSA":
            private = ed25519.Ed25519PrivateKey.generate()
        case "ES256" | "ES384" | "ES512":
            curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
            private = ec.generate_private_key(curves[algorithm])
        case _:
            private = rsa.generate_private_key(65537, 2048)
    return SigningKey(kid, algorithm, private)


def jwks(*keys: SigningKey) -> bytes:
    """Return the document of these keys."""
    return json.dumps({"keys": [each.jwk() for each in keys]}).encode()


@dataclass
class TestIssuer:
    """Somebody who makes tokens."""

    __test__ = False

    name: str = "sso"
    url: str = "https://sso.example.com"
    key: SigningKey = field(default_factory=lambda: signing_key("one"))

    def token(
        self,
        subject: str = "alice",
        *,
        key: SigningKey | None = None,
        headers: dict[str, Any] | None = None,
        without: Sequence[str] = (),
        lasts_s: float = 600,
        **claims: Any,
    ) -> str:
        """Return a token; `claims` are beside the usual ones, or in place of them."""
        key = key or self.key
        now = int(time.time())
        usual = {"iss": self.url, "sub": subject, "aud": AUDIENCE, "iat": now, "exp": now + lasts_s}
        told = {name: value for name, value in {**usual, **claims}.items() if name not in without}
        return signed(told, key, headers)

    def entry(self, keys: str, rules: Iterable[dict[str, Any]] = (), **more: Any) -> dict[str, Any]:
        """Return its entry in the file of issuers."""
        usual = {"name": self.name, "issuer": self.url, "audience": AUDIENCE, "keys": keys}
        return {**usual, "grants": list(rules) or [rule("crew", "viewer")], **more}


def signed(claims: dict[str, Any], key: SigningKey, headers: dict[str, Any] | None = None) -> str:
    """Return a token with these claims, signed by a key; `headers` None: those with its kid."""
    text = json.dumps(claims).encode()
    return jwt.PyJWS().encode(text, key.private, key.algorithm, {"kid": key.kid} if headers is None else headers)


def forged(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """Return a token with this header and signature, whatever they are."""
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(each).decode().rstrip("=") for each in parts)


def rule(group: str, *roles: str) -> dict[str, Any]:
    """Return a rule that gives roles to those who are in a group."""
    return {"when": {"groups": group}, "roles": list(roles)}


def write_issuers(path: Path, *entries: dict[str, Any], **more: Any) -> str:
    """Write the file of issuers at once, and return its path."""
    written = path.with_suffix(".new")
    written.write_text(json.dumps({"issuers": entries, **more}))  # JSON is YAML
    written.rename(path)
    return str(path)


def set_clock(patch: pytest.MonkeyPatch, now_s: Callable[[], float]) -> None:
    """Set the clock by which tokens that were found genuine expire, in seconds since 1970."""
    patch.setattr(jwt_directory, "time", SimpleNamespace(time=now_s))


@dataclass
class KeyServer:
    """Serves keys, and is told how to do that badly."""

    url: str = ""
    content: bytes = b""
    status: int = 200
    hangs: bool = False
    """Whether it begins an answer and never ends it."""
    count: int = 0
    """The number of requests."""
    elsewhere: int = 0
    """The number of requests at the address to which it redirects."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request for keys."""
        self.count += 1
        if self.hangs:
            started = web.StreamResponse()
            await started.prepare(request)
            await asyncio.sleep(3600)
        if 300 <= self.status < 400:
            raise web.HTTPFound(f"{self.url}/elsewhere")
        return web.Response(body=self.content, status=self.status)

    async def answer_elsewhere(self, _: web.Request) -> web.Response:
        """Answer a request that has followed a redirect."""
        self.elsewhere += 1
        return web.Response(body=self.content)


@asynccontextmanager
async def key_server(*keys: SigningKey) -> AsyncIterator[KeyServer]:
    """Serve these keys on 127.0.0.1."""
    server = KeyServer(content=jwks(*keys))
    application = web.Application()
    application.router.add_get("/keys", server.answer)
    application.router.add_get("/keys/elsewhere", server.answer_elsewhere)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    try:
        yield server
    finally:
        await runner.cleanup()
