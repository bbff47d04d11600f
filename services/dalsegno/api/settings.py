"""The settings of an api, from the command line and the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dalsegno.access.bearer import TokenFile
from dalsegno.rpc.links import BOTH_OPTIONS, Links
from dalsegno.rpc.options import AUTH, INSECURE, SERVICE_NAMES, Auth, Options

if TYPE_CHECKING:
    from dalsegno.rpc.jwt_directory import IssuerFile


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one api."""

    listen: str = "127.0.0.1:7700"
    engines: tuple[str, ...] = ("127.0.0.1:7701",)
    """The addresses of the engines."""
    database: str = ""
    """The store's URL; empty: DALSEGNO_DATABASE_URL."""
    readers: int = 8
    """The number of reads of the store that may run at once."""
    metrics_port: int = 0
    """The port of the metrics for Prometheus; 0: none."""
    progress_s: float = 15.0
    """The longest time without a message on the stream of a watcher who does not ask for another, at least 1: less than
    the idle time after which a proxy ends a stream."""
    grace_s: float = 5.0
    """The time that calls have to end when the api stops."""
    log_level: str = "info"
    tls: Links = field(default_factory=Links)
    """What it shows to others, whom it lets in, and whom it trusts; without files it speaks plain text."""
    auth: str = Auth.OPEN
    service_names: tuple[str, ...] = ()
    """The names in certificates of services of ours, which may act for others."""
    issuers: IssuerFile | None = None
    """Whose tokens count beside ours."""
    caller_calls: int = 0
    """The number of calls that one token may make in a second; 0: any."""
    caller_streams: int = 0
    """The number of streams and waits that one token may have open; 0: any."""
    caller_starts: int = 0
    """The number of executions and actions that one token may start in a minute; 0: any."""
    token: TokenFile | None = None
    """The token that it shows to engines."""
    insecure: bool = False
    """Whether it may listen where other machines reach it, although it asks no client for a certificate."""


def read_settings(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read each setting from its option, else its variable (DALSEGNO_API_LISTEN, ...), else the default."""
    environment = os.environ if environment is None else environment
    default = Settings()
    parser = Options("api", "The public services of Dal Segno.", default, environment)
    parser.add("listen", str, "host:port to listen on; port 0: any free one")
    parser.add_addresses("engine", "engines", "host:port of an engine; repeatable, or with commas", "DALSEGNO_ENGINE")
    parser.add("database", str, "sqlite:///path or postgresql://...", "DALSEGNO_DATABASE_URL")
    parser.add("readers", int, "the number of reads of the store that may run at once")
    parser.add("metrics-port", int, "the port of the metrics for Prometheus; 0: none")
    parser.add("grace-s", float, "the time that calls have to end when the api stops")
    parser.add("log-level", str, "debug, info, warning or error", "DALSEGNO_LOG_LEVEL")
    parser.add("progress-s", float, "the longest time without a message on the stream of a watcher; at least 1")
    parser.add_tls(BOTH_OPTIONS)
    parser.add_auth(AUTH)
    parser.add_list("service-names", SERVICE_NAMES)
    parser.add_issuers()
    parser.add("caller-calls", int, "the number of calls that one token may make in a second; 0: any")
    parser.add("caller-streams", int, "the number of streams and waits that one token may have open; 0: any")
    parser.add("caller-starts", int, "the number of executions and actions that a token may start in a minute; 0: any")
    parser.add_token_file("the file of the token to show to engines, of the role service")
    parser.add_flag("insecure", INSECURE, "DALSEGNO_INSECURE")
    found = vars(parser.parse_args(arguments))
    found["tls"] = parser.take_tls(found, listens=True)
    parser.check_service_names(found)
    found["issuers"] = parser.take_issuers(found)
    found["token"] = parser.take_token(found)
    for name in ("caller_calls", "caller_streams", "caller_starts"):
        if found[name] < 0:
            parser.error(f"--{name.replace('_', '-')} must not be negative")
    if not found["progress_s"] >= 1:
        parser.error("--progress-s must be at least 1")
    return Settings(**found)
