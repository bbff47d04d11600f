"""The settings of an engine, from the command line and the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dalsegno.outgoing.reach import NOWHERE, Reach
from dalsegno.rpc.links import SERVER_OPTIONS, Links
from dalsegno.rpc.options import AUTH, INSECURE, SERVICE_NAMES, Auth, Options

if TYPE_CHECKING:
    from dalsegno.rpc.jwt_directory import IssuerFile


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of an engine."""

    listen: str = "127.0.0.1:7701"
    database: str = ""
    """The store's URL; empty: DALSEGNO_DATABASE_URL."""
    lease_s: float = 15.0
    """How long an executor may be silent before it loses its work."""
    heartbeat_s: float = 5.0
    cache_mb: int = 256
    """How much memory cached executions may take, roughly."""
    metrics_port: int = 0
    """The port of the Prometheus metrics; 0: none."""
    grace_s: float = 5.0
    """How long executors have to send their reports when the engine stops."""
    state_folder: str = ""
    """The folder of the step note, unless it is beside a SQLite file; empty: the system's folder for temporary
    files."""
    public_url: str = ""
    """The address under which third parties reach the gateway; empty: they cannot, and `callback_url()` fails."""
    log_level: str = "info"
    private_networks: Reach = NOWHERE
    """The addresses that notices may reach beside public ones."""
    tls: Links = field(default_factory=Links)
    """What it shows to others, and whom it lets in; without files it speaks plain text."""
    auth: str = Auth.OPEN
    service_names: tuple[str, ...] = ()
    """The names in certificates of services of ours, which may act for others."""
    issuers: IssuerFile | None = None
    """Whose tokens count beside ours."""
    secret_keys: tuple[bytes, ...] = field(default=(), repr=False)
    """The keys of secrets, the newest first; none: there are no secrets."""
    insecure: bool = False
    """Whether it may listen on addresses that other machines reach, though it asks no client for a certificate."""


def read_settings(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings: an option, otherwise its environment variable (DALSEGNO_ENGINE_LISTEN, ...), otherwise the
    default."""
    environment = os.environ if environment is None else environment
    default = Settings()
    parser = Options("engine", "The engine: decides, stores, hands out.", default, environment)
    parser.add("listen", str, "host:port to listen on; port 0: any free one")
    parser.add("database", str, "sqlite:///path, postgresql://... or memory://", "DALSEGNO_DATABASE_URL")
    parser.add("lease-s", float, "how long an executor may be silent before it loses what it has, in seconds")
    parser.add("heartbeat-s", float, "how often both sides of a stream send a heartbeat, in seconds")
    parser.add("cache-mb", int, "how much memory cached executions may take, roughly")
    parser.add("metrics-port", int, "where Prometheus finds the metrics; 0: nowhere")
    parser.add("grace-s", float, "how long executors have to send their reports when the engine stops")
    parser.add(
        "state-folder", str, "where it notes what it steps, unless beside a SQLite file; default: temporary files"
    )
    parser.add("public-url", str, "the address under which third parties reach the gateway, for callbacks")
    parser.add_networks("where receivers of notices may be")
    parser.add("log-level", str, "debug, info, warning or error", "DALSEGNO_LOG_LEVEL")
    parser.add_tls(SERVER_OPTIONS)
    parser.add_auth(AUTH)
    parser.add_list("service-names", SERVICE_NAMES)
    parser.add_issuers()
    parser.add_secret_keys()
    parser.add_flag("insecure", INSECURE, "DALSEGNO_INSECURE")
    found = vars(parser.parse_args(arguments))
    found["tls"] = parser.take_tls(found, listens=True)
    parser.check_service_names(found)
    found["issuers"] = parser.take_issuers(found)
    found["secret_keys"] = parser.take_secret_keys(found)
    try:
        found["public_url"] = checked_address(found["public_url"])
    except ValueError as error:
        parser.error(f"--public-url: {error}")
    return Settings(**found)


def checked_address(public_url: str) -> str:
    """Return the address of the gateway without a slash at its end; empty if it is empty. Raises ValueError."""
    if not public_url:
        return ""
    parts = urlsplit(public_url)
    is_plain = public_url.isascii() and public_url.isprintable() and not set(public_url) & set(' "\\<>')
    if parts.scheme not in ("http", "https") or not parts.hostname or not is_plain:
        raise ValueError(f"{public_url!r} is no address such as https://flows.example.com")
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"{public_url!r} must have no query, no fragment and no user")
    return public_url.rstrip("/")
