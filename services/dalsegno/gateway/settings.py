"""The settings of a gateway, from the command line and the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dalsegno.rpc.links import BOTH_OPTIONS, Links
from dalsegno.rpc.options import INSECURE, Auth, Options


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
    found = vars(parser.parse_args(arguments))
    found["tls"] = parser.take_tls(found, listens=True)
    return Settings(**found)
