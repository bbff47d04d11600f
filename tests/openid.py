"""An issuer of OpenID Connect, at which a test logs in, and a browser that keeps cookies.

async with openid_issuer() as issuer: issuer.authorize(address) gives the address to which it would lead a browser back
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
from aiohttp import web
from tests.issuing import TestIssuer, jwks

CLIENT, SECRET = "dalsegno-web", "a secret: with / and ü"


@dataclass
class OpenIdIssuer:
    """Gives codes and id tokens, and is told how to do that badly."""

    of_tokens: TestIssuer = field(default_factory=TestIssuer)
    claims: dict[str, Any] = field(default_factory=dict)
    """Claims of the next id tokens, in place of the right ones."""
    token: str = ""
    """What it gives in place of an id token."""
    document: dict[str, Any] = field(default_factory=dict)
    """What it publishes of itself, in place of what is right."""
    count: int = 0
    """The number of requests for tokens."""
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Return its address, which is its name too."""
        return self.of_tokens.url

    def authorize(self, address: str, state: str = "") -> str:
        """Return where a person who logs in at this address is led back to; `state`: in place of the right one."""
        assert address.startswith(f"{self.url}/authorize?")
        asked = dict(parse_qsl(urlsplit(address).query))
        assert (asked["response_type"], asked["client_id"]) == ("code", CLIENT)
        assert (asked["scope"], asked["code_challenge_method"]) == ("openid groups", "S256")
        code = secrets.token_urlsafe(8)
        self._codes[code] = asked
        query = {"code": code, "state": state or asked["state"], "iss": self.url}
        return f"{asked['redirect_uri']}?{urlencode(query)}"

    async def _publish(self, _: web.Request) -> web.Response:
        right = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
        }
        return web.json_response({**right, **self.document})

    async def _give(self, request: web.Request) -> web.Response:
        self.count += 1
        form = await request.post()
        shown = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
        assert shown == f"{CLIENT}:a+secret%3A+with+%2F+and+%C3%BC"
        asked = self._codes.pop(str(form["code"]), None)
        digest = hashlib.sha256(str(form["code_verifier"]).encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if asked is None or (asked["code_challenge"], asked["redirect_uri"]) != (challenge, form["redirect_uri"]):
            return web.json_response({"error": "invalid_grant"}, status=400)
        claims = {"aud": CLIENT, "nonce": asked["nonce"], "groups": ["crew"], **self.claims}
        return web.json_response({"access_token": "opaque", "id_token": self.token or self.of_tokens.token(**claims)})

    async def _keys(self, _: web.Request) -> web.Response:
        return web.Response(body=jwks(self.of_tokens.key))


@asynccontextmanager
async def openid_issuer() -> AsyncIterator[OpenIdIssuer]:
    """Run an issuer on 127.0.0.1."""
    issuer = OpenIdIssuer()
    application = web.Application()
    application.router.add_get("/.well-known/openid-configuration", issuer._publish)
    application.router.add_get("/keys", issuer._keys)
    application.router.add_post("/token", issuer._give)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    issuer.of_tokens.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield issuer
    finally:
        await runner.cleanup()


@dataclass(frozen=True)
class Page:
    """What a browser has received."""

    status: int
    headers: Any
    text: str
    cookies: dict[str, str]
    """The whole `Set-Cookie` headers, by the name of the cookie."""


class Browser:
    """Keeps cookies, as long as they last, and follows no redirect."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        """`url`: the origin of the gateway."""
        self.url = url
        self.cookies: dict[str, str] = {}
        self._http = http

    async def get(self, path: str, **headers: str) -> Page:
        """Ask for a path, or for a whole address of the gateway."""
        return await self._send("GET", path, None, headers)

    async def post(self, path: str, body: Any = None, *, form: Any = None, **headers: str) -> Page:
        """Post JSON or a form, as a page of the gateway does unless the headers say otherwise. (In their names _ stands
        for -; an empty one is not sent.)"""
        given = {"origin": self.url, **headers}
        return await self._send("POST", path, body, given, form)

    async def call(self, method: str, message: Any, **headers: str) -> Page:
        """Call a method of the api."""
        return await self.post(f"/dalsegno.v1.{method}", message, **headers)

    async def watch(self, execution_id: str) -> AsyncIterator[str]:
        """Watch an execution; each message, and in the end the one that says why it has ended."""
        message = json.dumps({"executionId": execution_id}).encode()
        async with self._http.post(
            f"{self.url}/dalsegno.v1.ExecutionService/WatchExecution",
            data=b"\0" + len(message).to_bytes(4, "big") + message,
            headers={"content-type": "application/connect+json", "origin": self.url, "cookie": self._shown()},
        ) as answer:
            with contextlib.suppress(asyncio.IncompleteReadError):
                while head := await answer.content.readexactly(5):
                    yield (await answer.content.readexactly(int.from_bytes(head[1:], "big"))).decode()

    def _shown(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())

    async def _send(self, method: str, path: str, body: Any, headers: dict[str, str], form: Any = None) -> Page:
        shown = {name.replace("_", "-"): value for name, value in headers.items() if value}
        if self.cookies:
            shown["cookie"] = self._shown()
        address = path if path.startswith("http") else self.url + path
        how: dict[str, Any] = {"json": body} if form is None and method == "POST" else {"data": form}
        async with self._http.request(method, address, headers=shown, allow_redirects=False, **how) as answer:
            found = answer.headers.getall("set-cookie", [])
            text = await answer.text()
        named = {each.partition("=")[0]: each for each in found}
        for name, each in named.items():
            morsel = SimpleCookie(each)[name]
            self.cookies.pop(name, None)
            if morsel["max-age"] != "0":
                self.cookies[name] = morsel.value
        return Page(answer.status, answer.headers, text, named)


@asynccontextmanager
async def browser_at(url: str, authority: str = "") -> AsyncIterator[Browser]:
    """Provide a browser at a gateway; `authority`: the file of the one that it trusts."""
    context = ssl.create_default_context(cafile=authority) if authority else True
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http:
        yield Browser(url, http)
