"""What can be set about an api, from the command line and the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dalsegno.rpc.options import Options


@dataclass(frozen=True, slots=True)
class Settings:
    """How one api runs."""

    listen: str = "127.0.0.1:7700"
    engine: str = "127.0.0.1:7701"
    """The address of the engine."""
    database: str = ""
    """The store's URL; empty: DALSEGNO_DATABASE_URL."""
    readers: int = 8
    """How many reads of the store may run at once."""
    metrics_port: int = 0
    """Where Prometheus finds the metrics; 0: nowhere."""
    grace_s: float = 5.0
    """How long calls have to end when the api is stopped."""
    log_level: str = "info"
    insecure: bool = False
    """Whether it may listen where other machines reach it, though it neither encrypts nor asks who they are."""


def read_settings(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings: an option, else its environment variable (DALSEGNO_API_LISTEN, ...), else the default."""
    environment = os.environ if environment is None else environment
    default = Settings()
    parser = Options("api", "The public services of Dal Segno.", default, environment)
    parser.add("listen", str, "host:port to listen on; port 0: any free one")
    parser.add("engine", str, "host:port of the engine", "DALSEGNO_ENGINE")
    parser.add("database", str, "sqlite:///path or postgresql://...", "DALSEGNO_DATABASE_URL")
    parser.add("readers", int, "how many reads of the store may run at once")
    parser.add("metrics-port", int, "where Prometheus finds the metrics; 0: nowhere")
    parser.add("grace-s", float, "how long calls have to end when the api is stopped")
    parser.add("log-level", str, "debug, info, warning or error", "DALSEGNO_LOG_LEVEL")
    parser.add_flag(
        "insecure", "listen where other machines reach it, without TLS and authentication", "DALSEGNO_INSECURE"
    )
    return Settings(**vars(parser.parse_args(arguments)))
