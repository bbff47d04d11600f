"""Sessions of browsers: a cookie, with the encrypted token of a caller.

    /login: token ──begin──▶ cookie ──with a request──▶ find ──▶ the token, as `Authorization` of the call of the api

The api checks the token at each call, as any other, so a session ends with its token. A page that is not the gateway's
own cannot use a session: see `foreign`.
"""

from __future__ import annotations

import base64
import secrets
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from dalsegno.gateway.cookie_cipher import CookieCipher, Purpose
from dalsegno.gateway.hosts import is_loopback, name_of

SESSION_S = 12 * 3600.0
"""The longest session, whatever its token allows."""
UNUSED_S = 1800.0
"""How long a cookie is valid. One that is used is replaced before."""
RENEW_S = 300.0
"""The age at which a cookie is replaced by a new one."""
LOGIN_S = 600.0
"""How long a login at an issuer may take."""

COOKIE_BYTES_MAX = 4000
"""The length of a name with its value, of which browsers keep 4,096 bytes."""
ENDED_MAX = 100_000
"""The number of sessions of which it is remembered that they were ended."""

Told = tuple[str, str]
T = TypeVar("T")


class Session(msgspec.Struct, frozen=True, array_like=True):
    """What the cookie of a session says."""

    id: str
    token: str
    ends_s: float
    """When it ends, in seconds since 1970, at the latest."""
    made_s: float
    """When this cookie was made, likewise."""


class LoginFlow(msgspec.Struct, frozen=True, array_like=True):
    """What the cookie of a login that has gone to an issuer says."""

    state: str
    nonce: str
    verifier: str
    """The secret of PKCE."""
    next: str
    """The path to which the browser goes afterwards."""
    ends_s: float


@dataclass(frozen=True, slots=True)
class Asked:
    """Where a request has come from, as far as its headers say."""

    own: str
    """The origin of this gateway, as browsers see it."""
    host: str
    """The name of the host that it asks for."""
    is_write: bool
    origin: str
    site: str
    cookies: str


class TooLong(ValueError):
    """A token does not fit into a cookie. The text says what to do."""


class Sessions:
    """Makes, finds and ends sessions. Use it within one event loop."""

    def __init__(self, cipher: CookieCipher, public_origin: str = "") -> None:
        """`public_origin`: the origin under which browsers reach the gateway; empty: what they ask it by."""
        self._cipher = cipher
        self._public_origin = public_origin
        self._ended: OrderedDict[str, float] = OrderedDict()
        """By the id of a session that was ended here: when it would end by itself."""

    def asked(self, scope: Mapping[str, object], headers: Mapping[str, str], cookies: Iterable[str]) -> Asked:
        """Return where a request has come from. `headers`: by lower-case name."""
        host = headers.get("host", "").lower()
        own = self._public_origin or f"{scope['scheme']}://{host}"
        is_write = scope["method"] not in ("GET", "HEAD")
        origin, site = headers.get("origin", "").lower(), headers.get("sec-fetch-site", "")
        return Asked(own, name_of(host), is_write, origin, site, "; ".join(cookies))

    def begin(self, token: str, asked: Asked, ends_s: float | None = None) -> tuple[Session, Told]:
        """Begin a session, which ends with its token; return it with the header that gives the browser its cookie.
        Raises TooLong."""
        now_s = time.time()
        ends_s = min(now_s + SESSION_S, ends_s or expiry_of(token) or now_s + SESSION_S)
        session = Session(secrets.token_hex(16), token, ends_s, now_s)
        return session, self._cookie_of(session, asked)

    def find(self, asked: Asked) -> Session | None:
        """Return the session of a request; None if it has none that is valid."""
        content = self._cipher.decrypt(_cookie(asked.cookies, _session_name(asked.own)), Purpose.SESSION)
        session = _read(zlib.decompress(content), Session) if content is not None else None
        if session is None:
            return None
        now_s = time.time()
        if now_s >= min(session.ends_s, session.made_s + UNUSED_S) or session.id in self._ended:
            return None
        return session

    def renewed(self, session: Session, asked: Asked) -> tuple[Told, ...]:
        """Return the header with a new cookie, if that of the session has its age."""
        now_s = time.time()
        if now_s < session.made_s + RENEW_S:
            return ()
        return (self._cookie_of(Session(session.id, session.token, session.ends_s, now_s), asked),)

    def end(self, session: Session) -> None:
        """Let no cookie of a session count any more at this gateway."""
        now_s = time.time()
        while self._ended and (len(self._ended) >= ENDED_MAX or next(iter(self._ended.values())) <= now_s):
            self._ended.popitem(last=False)
        self._ended[session.id] = session.ends_s

    def forget(self, asked: Asked) -> Told:
        """Return the header that takes the cookie of a session from the browser."""
        return _set_cookie(_session_name(asked.own), "", asked.own, 0)

    def begin_login(self, flow: LoginFlow, asked: Asked) -> Told:
        """Return the header with the cookie of a login at an issuer. It is sent when the issuer leads back here."""
        value = self._cipher.encrypt(msgspec.msgpack.encode(flow), Purpose.LOGIN)
        return _set_cookie(_login_name(asked.own), value, asked.own, LOGIN_S, same_site="Lax")

    def find_login(self, asked: Asked) -> LoginFlow | None:
        """Return the login that this browser has begun; None if it has begun none, or too long ago."""
        content = self._cipher.decrypt(_cookie(asked.cookies, _login_name(asked.own)), Purpose.LOGIN)
        flow = _read(content, LoginFlow) if content is not None else None
        return flow if flow is not None and time.time() < flow.ends_s else None

    def forget_login(self, asked: Asked) -> Told:
        """Return the header that takes the cookie of a login from the browser."""
        return _set_cookie(_login_name(asked.own), "", asked.own, 0, same_site="Lax")

    def _cookie_of(self, session: Session, asked: Asked) -> Told:
        name = _session_name(asked.own)
        value = self._cipher.encrypt(zlib.compress(msgspec.msgpack.encode(session)), Purpose.SESSION)
        if len(name) + len(value) > COOKIE_BYTES_MAX:
            raise TooLong(
                f"the token has {len(session.token)} characters, which are too many for a cookie: let its issuer put"
                " fewer claims into it"
            )
        lasts_s = min(UNUSED_S, session.ends_s - session.made_s)
        return _set_cookie(name, value, asked.own, lasts_s)


def unprotected(asked: Asked) -> str:
    """Return why no cookie is given to a browser: it would go through a network as plain text; empty if it would
    not."""
    if asked.own.startswith("https:") or is_loopback(asked.host):
        return ""
    return f"sessions need https, and {asked.own} is without: serve TLS, or name --public-origin behind a proxy"


def foreign(asked: Asked, *, needs_origin: bool) -> str:
    """Return why a request may not begin, use or end a session: no page of ours has sent it; empty if one has.
    `needs_origin`: whether a request that says nothing of its origin is refused."""
    if asked.origin:
        return "" if asked.origin == asked.own else f"a page of {asked.origin} may not use sessions of {asked.own}"
    if asked.site:
        is_own = asked.site == "same-origin" or (asked.site == "none" and not asked.is_write)
        return "" if is_own else f"pages of other origins may not use sessions of {asked.own}"
    return f"a write by a session shows its origin (`Origin: {asked.own}`), as browsers do" if needs_origin else ""


def _session_name(own: str) -> str:
    """Return the name of the cookie of sessions. Over TLS no other host and no page without TLS can set it."""
    return f"{_prefix(own)}dalsegno"


def _login_name(own: str) -> str:
    return f"{_prefix(own)}dalsegno-login"


def _prefix(own: str) -> str:
    return "__Host-" if own.startswith("https:") else ""


def _set_cookie(name: str, value: str, own: str, lasts_s: float, same_site: str = "Strict") -> Told:
    secure = "; Secure" if own.startswith("https:") else ""
    return "set-cookie", f"{name}={value}; Path=/; Max-Age={int(lasts_s)}; HttpOnly; SameSite={same_site}{secure}"


def _cookie(cookies: str, name: str) -> str:
    """Return the value of a cookie; empty if there is none of this name, or two, one of which another has set."""
    pairs = [each.strip().partition("=") for each in cookies.split(";")]
    found = [value for each, _, value in pairs if each == name]
    return found[0] if len(found) == 1 else ""


def _read(content: bytes, kind: type[T]) -> T | None:
    """Return what was encrypted; None for what another version of the gateway has written in another form."""
    try:
        return msgspec.msgpack.decode(content, type=kind)
    except msgspec.MsgspecError:
        return None


def expiry_of(token: str) -> float | None:
    """Return when a token says that it expires (JWT), in seconds since 1970; None for one that does not say it."""
    try:
        part = token.split(".")[1]
        found = msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)), type=_Claims)
    except (IndexError, ValueError):
        return None
    return found.exp


class _Claims(msgspec.Struct):
    exp: float | None = None
