"""What can be set about an engine, from the command line and the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dalsegno.rpc.options import Options


@dataclass(frozen=True, slots=True)
class Settings:
    """How one engine runs."""

    listen: str = "127.0.0.1:7701"
    database: str = ""
    """The store's URL; empty: DALSEGNO_DATABASE_URL."""
    lease_s: float = 15.0
    """How long an executor may be silent before it loses what it has."""
    heartbeat_s: float = 5.0
    cache_mb: int = 256
    """How much memory copies of executions may take, roughly."""
    metrics_port: int = 0
    """Where Prometheus finds the metrics; 0: nowhere."""
    grace_s: float = 5.0
    """How long executors have to bring what they have when the engine is stopped."""
    state_folder: str = ""
    """Where it notes what it steps, unless beside a SQLite file; empty: the system's folder for temporary files."""
    log_level: str = "info"
    insecure: bool = False
    """Whether it may listen where other machines reach it, though it neither encrypts nor asks who they are."""


def read_settings(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings: an option, else its environment variable (DALSEGNO_ENGINE_LISTEN, ...), else the default."""
    environment = os.environ if environment is None else environment
    default = Settings()
    parser = Options("engine", "The engine: decides, stores, hands out.", default, environment)
    parser.add("listen", str, "host:port to listen on; port 0: any free one")
    parser.add("database", str, "sqlite:///path, postgresql://... or memory://", "DALSEGNO_DATABASE_URL")
    parser.add("lease-s", float, "how long an executor may be silent before it loses what it has, in seconds")
    parser.add("heartbeat-s", float, "how often both sides of a stream give a sign of life, in seconds")
    parser.add("cache-mb", int, "how much memory copies of executions may take, roughly")
    parser.add("metrics-port", int, "where Prometheus finds the metrics; 0: nowhere")
    parser.add("grace-s", float, "how long executors have to bring what they have when the engine is stopped")
    parser.add(
        "state-folder", str, "where it notes what it steps, if not beside a SQLite file; else among temporary files"
    )
    parser.add("log-level", str, "debug, info, warning or error", "DALSEGNO_LOG_LEVEL")
    parser.add_flag(
        "insecure", "listen where other machines reach it, without TLS and authentication", "DALSEGNO_INSECURE"
    )
    return Settings(**vars(parser.parse_args(arguments)))
