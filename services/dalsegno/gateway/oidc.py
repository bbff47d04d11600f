"""Logins at an issuer of OpenID Connect: the authorization code flow with PKCE.

    begin: /login/oidc ──state, nonce, challenge──▶ the issuer, where a person logs in
    finish: /login/callback ◀──code, state── ; code, verifier ──▶ token endpoint ──▶ id token ──checked──▶ its session

The id token becomes the token of the session: apis check it as any token of an issuer, by their file of --issuers.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from urllib.parse import quote_plus, urlencode, urlsplit

import msgspec

from dalsegno.access.issuers import ALGORITHMS, LEEWAY_S, Issuer, fault_of_url
from dalsegno.access.jwt_check import BadJwt, check, ends_at, look_at
from dalsegno.gateway.provider import BadSecret, Provider, read_secret
from dalsegno.gateway.sessions import LOGIN_S, LoginFlow
from dalsegno.rpc.errors import refusals
from dalsegno.rpc.fetching import Bounds, CannotFetch, Form, fetch
from dalsegno.rpc.jwt_directory import key_for
from dalsegno.rpc.key_source import KeySource

CALLBACK = "/login/callback"

BOUNDS = Bounds(within_s=5.0, bytes_max=256 * 1024)
"""What one request to the issuer may take."""
DOCUMENT_S = 3600.0
"""How long what the issuer publishes of itself is used."""
AGAIN_S = 10.0
"""The least time between two reads of that, when one has failed."""
EXCHANGES_MAX = 20
"""The number of logins that ask the issuer at once."""
USED_MAX = 100_000
"""The number of logins of which it is remembered that they have come back."""
_ERROR_SHOWN = 200


class LoginFailed(Exception):
    """A login at the issuer has failed. The text says why, for the person who logs in."""


class _Document(msgspec.Struct):
    """What an issuer publishes of itself."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    code_challenge_methods_supported: tuple[str, ...] = ("S256",)
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class _Answer(msgspec.Struct):
    """What the token endpoint answers."""

    id_token: str = ""


class Oidc:
    """Has people log in at one issuer. Use it within one event loop."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._document: _Document | None = None
        self._keys: KeySource | None = None
        self._read_s = self._failed_s = -math.inf
        """When the document was read, and when that has failed last, by the steady clock."""
        self._reading = asyncio.Lock()
        self._exchanging = asyncio.Semaphore(EXCHANGES_MAX)
        self._used: OrderedDict[str, float] = OrderedDict()
        """By the state of a login that has come back: when it would end by itself."""

    @property
    def name(self) -> str:
        """Return the issuer for people."""
        return urlsplit(self._provider.issuer).netloc

    async def begin(self, next_path: str, origin: str) -> tuple[str, LoginFlow]:
        """Return the address to which the browser goes, and what it has to keep meanwhile. Raises LoginFailed."""
        document, _ = await self._known()
        flow = LoginFlow(
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(32),
            next=next_path,
            ends_s=time.time() + LOGIN_S,
        )
        digest = hashlib.sha256(flow.verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self._provider.client_id,
            "redirect_uri": origin + CALLBACK,
            "scope": " ".join(dict.fromkeys(("openid", *self._provider.scopes))),
            "state": flow.state,
            "nonce": flow.nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        joint = "&" if urlsplit(document.authorization_endpoint).query else "?"
        return f"{document.authorization_endpoint}{joint}{urlencode(query)}", flow

    async def finish(self, flow: LoginFlow, query: Mapping[str, str], origin: str) -> tuple[str, float]:
        """Return the id token of a browser that has come back with this query, and when it ends. Raises LoginFailed."""
        if not hmac.compare_digest(query.get("state", "").encode(), flow.state.encode()):
            raise LoginFailed("it is not the login that this browser has begun last")
        self._use(flow)
        if query.get("iss", self._provider.issuer) != self._provider.issuer:
            raise LoginFailed("another issuer has answered")
        if error := query.get("error"):
            told = query.get("error_description", "")
            raise LoginFailed(f"{self.name} says: {error[:_ERROR_SHOWN]} {told[:_ERROR_SHOWN]}".strip())
        if not (code := query.get("code", "")):
            raise LoginFailed(f"{self.name} has sent no code")
        if self._exchanging.locked():
            raise LoginFailed("too many people log in at this moment: try again")
        async with self._exchanging:
            document, keys = await self._known()
            token = await self._exchange(document, code, flow, origin)
            return token, await self._check(token, keys, flow)

    def _use(self, flow: LoginFlow) -> None:
        """Note that a login has come back. Raises LoginFailed if it had before."""
        if flow.state in self._used:
            raise LoginFailed("this login was finished before")
        while self._used and (len(self._used) >= USED_MAX or next(iter(self._used.values())) <= time.time()):
            self._used.popitem(last=False)
        self._used[flow.state] = flow.ends_s

    async def _exchange(self, document: _Document, code: str, flow: LoginFlow, origin: str) -> str:
        """Return the id token for a code. Raises LoginFailed."""
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": origin + CALLBACK,
            "code_verifier": flow.verifier,
        }
        client_id, user = self._provider.client_id, None
        if not self._provider.secret_file:
            fields["client_id"] = client_id
        elif "client_secret_basic" in document.token_endpoint_auth_methods_supported:
            user = quote_plus(client_id), quote_plus(read_secret(self._provider.secret_file))
        else:
            fields |= {"client_id": client_id, "client_secret": read_secret(self._provider.secret_file)}
        try:
            content = await fetch(document.token_endpoint, self._provider.ca, BOUNDS, Form(fields, user))
            token = msgspec.json.decode(content, type=_Answer).id_token
        except (ValueError, RecursionError) as error:
            told = str(error) if isinstance(error, CannotFetch | BadSecret) else "its answer cannot be read"
            raise LoginFailed(f"{self.name} gives no token for the code: {told}") from None
        if not token:
            raise LoginFailed(f"{self.name} gives no id token for the code")
        return token

    async def _check(self, token: str, keys: KeySource, flow: LoginFlow) -> float:
        """Return when an id token ends. Raises LoginFailed unless it is genuine, for us, and for this login."""
        try:
            shown = look_at(token)
            if shown.issuer != self._provider.issuer:
                raise BadJwt("another issuer has made it")
            claims = check(token, shown, keys.issuer, await key_for(shown, keys))
        except BadJwt as error:
            raise LoginFailed(f"the id token of {self.name} does not count: {error}") from None
        except refusals.Unavailable as error:
            raise LoginFailed(str(error)) from None
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), flow.nonce.encode()):
            raise LoginFailed(f"the id token of {self.name} does not count: it is for another login (nonce)")
        if claims.get("azp", self._provider.client_id) != self._provider.client_id:
            raise LoginFailed(f"the id token of {self.name} does not count: it is for another client (azp)")
        return ends_at(claims)

    async def _known(self) -> tuple[_Document, KeySource]:
        """Return what the issuer publishes of itself, and its keys. Raises LoginFailed."""
        async with self._reading:
            if time.monotonic() >= max(self._read_s + DOCUMENT_S, self._failed_s + AGAIN_S):
                try:
                    self._take(await self._read())
                except (ValueError, RecursionError) as error:
                    self._failed_s = time.monotonic()
                    if self._document is None:
                        raise LoginFailed(f"{self.name} cannot be asked: {error}") from None
            if self._document is None or self._keys is None:
                raise LoginFailed(f"{self.name} could not be asked a moment ago: try again")
            self._keys.look()
            return self._document, self._keys

    async def _read(self) -> _Document:
        """Read what the issuer publishes of itself. Raises ValueError."""
        url = f"{self._provider.issuer.rstrip('/')}/.well-known/openid-configuration"
        found = msgspec.json.decode(await fetch(url, self._provider.ca, BOUNDS), type=_Document)
        if found.issuer != self._provider.issuer:
            raise ValueError(f"it says that it is {found.issuer[:_ERROR_SHOWN]!r}, not {self._provider.issuer!r}")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if fault := fault_of_url(getattr(found, name)):
                raise ValueError(f"its {name} {fault}")
        if "S256" not in found.code_challenge_methods_supported:
            raise ValueError("it does not take PKCE with S256")
        return found

    def _take(self, document: _Document) -> None:
        if self._keys is None or self._keys.issuer.keys != document.jwks_uri:
            if self._keys is not None:
                self._keys.close()
            self._keys = KeySource(_issuer_of(self._provider, document, self.name))
        self._document, self._read_s = document, time.monotonic()

    def close(self) -> None:
        """Read no more keys."""
        if self._keys is not None:
            self._keys.close()


def _issuer_of(provider: Provider, document: _Document, name: str) -> Issuer:
    """Return the issuer as id tokens of ours are checked by."""
    return Issuer(
        name=name,
        issuer=provider.issuer,
        audiences=(provider.client_id,),
        keys=document.jwks_uri,
        ca=provider.ca,
        algorithms=ALGORITHMS,
        leeway_s=LEEWAY_S,
        grants_claim="",
        rules=(),
    )
