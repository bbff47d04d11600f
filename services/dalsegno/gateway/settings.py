"""The settings of a gateway, from the command line and the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dalsegno.access.issuers import fault_of_url
from dalsegno.gateway.provider import Provider, read_secret
from dalsegno.rpc.fetching import trust_of
from dalsegno.rpc.links import BOTH_OPTIONS, Links
from dalsegno.rpc.options import INSECURE, Auth, Options, words_of

if TYPE_CHECKING:
    from dalsegno.gateway.cookie_cipher import CookieCipher


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one gateway."""

    listen: str = "127.0.0.1:7702"
    apis: tuple[str, ...] = ("127.0.0.1:7700",)
    """The addresses of the apis."""
    host_names: tuple[str, ...] = ()
    """The hosts that requests may name beside those of loopback."""
    cors_origins: tuple[str, ...] = ()
    """The origins whose pages may call it beside its own."""
    tls: Links = field(default_factory=Links)
    """What it shows to others, whom it lets in, and whom it trusts; without files it speaks plain text."""
    metrics_port: int = 0
    """The port of the metrics for Prometheus; 0: none."""
    grace_s: float = 5.0
    """The time that calls have to end when the gateway stops."""
    log_level: str = "info"
    auth: str = Auth.OPEN
    """Whether the apis ask its callers for tokens."""
    public_origin: str = ""
    """The origin under which browsers reach it, where that is not what they ask it by: behind a proxy."""
    cipher: CookieCipher | None = None
    """Of the cookies of sessions; None: one of its own."""
    oidc: Provider | None = None
    """Where people log in, beside tokens."""
    insecure: bool = False
    """Whether it may listen where other machines reach it, although it asks no client for a certificate."""


def read_settings(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read each setting from its option, else its variable (DALSEGNO_GATEWAY_LISTEN, ...), else the default."""
    environment = os.environ if environment is None else environment
    parser = Options("gateway", "The public services of Dal Segno over HTTP, and webhooks.", Settings(), environment)
    parser.add("listen", str, "host:port to listen on; port 0: any free one")
    parser.add_addresses("api", "apis", "host:port of an api; repeatable, or with commas", "DALSEGNO_SERVER")
    parser.add_list("host-names", "hosts that requests may name, beside localhost and loopback addresses")
    parser.add_list("cors-origins", "origins whose pages may call it, such as https://app.example.com; *: any")
    parser.add_tls(BOTH_OPTIONS)
    parser.add("metrics-port", int, "the port of the metrics for Prometheus; 0: none")
    parser.add("grace-s", float, "the time that calls have to end when the gateway stops")
    parser.add("log-level", str, "debug, info, warning or error", "DALSEGNO_LOG_LEVEL")
    parser.add_auth("tokens: the apis ask callers for tokens, which it passes on; open: they do not")
    parser.add_flag("insecure", INSECURE, "DALSEGNO_INSECURE")
    parser.add(
        "public-origin", str, "the origin under which browsers reach it behind a proxy: https://flows.example.com"
    )
    for name, told in _LOGIN_OPTIONS.items():
        value = environment.get(f"DALSEGNO_GATEWAY_{name.replace('-', '_').upper()}", "")
        parser.add_argument(f"--{name}", default=value, help=told, metavar=_METAVARS.get(name, "FILE"))
    found = vars(parser.parse_args(arguments))
    found["tls"] = parser.take_tls(found, listens=True)
    try:
        found["public_origin"] = _origin_of(found["public_origin"])
        given = {name: found.pop(name.replace("-", "_")) for name in _LOGIN_OPTIONS}
        if any(given.values()) and found["auth"] != Auth.TOKENS:
            raise ValueError("logins need --auth tokens: without it the apis ask for no token")
        return Settings(**found, cipher=_cipher_of(given["session-key-file"]), oidc=_provider_of(given))
    except ValueError as error:
        parser.error(str(error))


_LOGIN_OPTIONS = {
    "session-key-file": "the file of the keys that encrypt sessions, the same for all gateways; empty: its own key",
    "oidc-issuer": "the issuer (OpenID Connect) at which people log in, as its tokens name it (iss)",
    "oidc-client-id": "the name that the issuer has for this gateway",
    "oidc-client-secret-file": "the file of the secret for that; empty: the client is public",
    "oidc-ca": "the file of the authorities by which the issuer is trusted, PEM; empty: those of the system",
    "oidc-scopes": "what is asked for beside openid, separated by commas, such as groups,email",
}

_METAVARS = {"oidc-issuer": "URL", "oidc-client-id": "ID", "oidc-scopes": "NAMES"}


def _cipher_of(path: str) -> CookieCipher | None:
    """Return what encrypts with the keys of a file; None without one. Raises ValueError."""
    if not path:
        return None
    from dalsegno.gateway.cookie_cipher import CookieCipher  # loads cryptography: not for a gateway without sessions

    return CookieCipher(path)


def _provider_of(given: Mapping[str, str]) -> Provider | None:
    """Return the issuer at which people log in; None if there is none. Raises ValueError."""
    issuer, client_id = given["oidc-issuer"], given["oidc-client-id"]
    if not issuer:
        others = [name for name, value in given.items() if value and name.startswith("oidc-")]
        if others:
            raise ValueError(f"--{others[0]} needs --oidc-issuer: at which issuer people log in")
        return None
    if fault := fault_of_url(issuer):
        raise ValueError(f"--oidc-issuer {issuer}: {fault}")
    if not client_id:
        raise ValueError("--oidc-issuer needs --oidc-client-id: the name that it has for this gateway")
    if given["oidc-client-secret-file"]:
        read_secret(given["oidc-client-secret-file"])
    if given["oidc-ca"]:
        trust_of(given["oidc-ca"])
    scopes = words_of(given["oidc-scopes"])
    return Provider(issuer, client_id, given["oidc-client-secret-file"], given["oidc-ca"], scopes)


def _origin_of(text: str) -> str:
    """Return an origin as browsers write it; empty for none. Raises ValueError."""
    if not text:
        return ""
    parts = urlsplit(text)
    is_whole = parts.scheme in ("http", "https") and parts.hostname and parts.username is None
    if not is_whole or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"--public-origin {text}: it is no origin such as https://flows.example.com")
    return f"{parts.scheme}://{parts.netloc.lower()}"
