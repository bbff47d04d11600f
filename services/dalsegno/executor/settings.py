"""What can be set about an executor, from the command line and the environment."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dalsegno.actions.permission import PERMISSIONS
from dalsegno.rpc.options import Options


@dataclass(frozen=True, slots=True)
class Settings:
    """How one executor runs."""

    engines: tuple[str, ...] = ("127.0.0.1:7701",)
    """The addresses of the engines it works for."""
    id: str = ""
    """Its name, stable over restarts: a restarted executor gives up at once what it had, with another name it does so
    when the lease ends."""
    slots: int = 1000
    """How many actions it runs at once over all engines. Async actions cost little, so this is many; what blocks is
    bounded by `threads`."""
    threads: int = 32
    """How many blocking actions run at once; further ones wait, and hold a slot while they do."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Tasks with a `target` choose by them."""
    allow: tuple[str, ...] = ()
    """The built-in actions that are off otherwise: `std.ssh`, `std.javascript`, `core.local`."""
    listen: str = ""
    """host:port of the health service; empty: none."""
    metrics_port: int = 0
    """Where Prometheus finds the metrics; 0: nowhere."""
    grace_s: float = 10.0
    """How long actions have to end when the executor is stopped."""
    log_level: str = "info"


def read_settings(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings: an option, else its environment variable (DALSEGNO_EXECUTOR_SLOTS, ...), else the default."""
    environment = os.environ if environment is None else environment
    default = Settings()
    parser = Options("executor", "Runs actions for engines.", default, environment)
    known = _listed([environment.get("DALSEGNO_ENGINE", "")])
    parser.add_argument("--engine", action="append", help="host:port of an engine; may be given more than once")
    parser.add("id", str, "the executor's name, stable over restarts")
    parser.add("slots", int, "how many actions it runs at once")
    parser.add("threads", int, "how many blocking actions it runs at once")
    parser.add_argument("--label", action="append", default=[], help="name=value, for tasks with a target")
    shown = ", ".join(PERMISSIONS)
    parser.add_argument("--allow", action="append", help=f"turn on {shown}; may be given more than once")
    parser.add("listen", str, "host:port of the health service; empty: none")
    parser.add("metrics-port", int, "where Prometheus finds the metrics; 0: nowhere")
    parser.add("grace-s", float, "how long actions have to end when the executor is stopped")
    parser.add("log-level", str, "debug, info, warning or error", "DALSEGNO_LOG_LEVEL")
    found = vars(parser.parse_args(arguments))
    engines = tuple(dict.fromkeys(found.pop("engine") or known or default.engines))
    labels = dict(label.partition("=")[::2] for label in found.pop("label"))
    allow = _listed(found.pop("allow") or [environment.get("DALSEGNO_EXECUTOR_ALLOW", "")])
    if unknown := [each for each in allow if each not in PERMISSIONS]:
        parser.error(f"--allow {', '.join(unknown)}: it is one of {', '.join(PERMISSIONS)}")
    found["id"] = found["id"] or f"{socket.gethostname()}-{os.getpid()}"
    if found["slots"] < 1 or found["threads"] < 1:
        parser.error("--slots and --threads must be at least 1")
    return Settings(engines=engines, labels=labels, allow=allow, **found)


def _listed(texts: Sequence[str]) -> tuple[str, ...]:
    """The words of texts with commas or blanks between them."""
    return tuple(dict.fromkeys(word for text in texts for word in text.replace(",", " ").split()))
