"""The settings of an executor, from the command line and the environment."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dalsegno.actions.limits import Limits, parse_limits
from dalsegno.actions.permission import PERMISSIONS, read_allowed
from dalsegno.outgoing.reach import NOWHERE, Reach
from dalsegno.rpc.links import CALLER_OPTIONS, Links
from dalsegno.rpc.options import Options


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one executor."""

    engines: tuple[str, ...] = ("127.0.0.1:7701",)
    """The addresses of the engines it works for."""
    id: str = ""
    """Its name, stable over restarts: the actions of the last run are given up at once, but with another name only when
    the lease ends."""
    slots: int = 1000
    """The number of actions that it runs at once for all engines. Async actions need little, so it is large; `threads`
    limits blocking ones."""
    threads: int = 32
    """The number of blocking actions that run at once; further ones wait, and use a slot meanwhile."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """A task with a `target` selects executors by them."""
    limits: Mapping[str, Limits] = field(default_factory=dict)
    """Limits of actions by name, in place of their own."""
    allow: tuple[str, ...] = ()
    """The allowed ones of the built-in actions that are off by default: `std.ssh`, `std.javascript`, `core.local`, and
    `grpc.call=TARGET` for each target."""
    private_networks: Reach = NOWHERE
    """The addresses that actions may reach beside public ones. Not those of `std.ssh`, and of `grpc.call` only those of
    targets with a wildcard: whoever allows these says where they lead."""
    grpc_ca: str = ""
    """PEM of the authorities that sign the certificates of services; empty: those that gRPC knows."""
    grpc_cert: str = ""
    """PEM of the client certificate of grpc.call; empty: none."""
    grpc_key: str = ""
    """PEM of its key."""
    grpc_descriptors: str = ""
    """The folder of the descriptor sets that workflows can name; empty: none."""
    tls: Links = field(default_factory=Links)
    """How it calls engines."""
    token_file: str = ""
    """The file of the token that it shows to engines; empty: none."""
    listen: str = ""
    """host:port of the health service; empty: none."""
    metrics_port: int = 0
    """The port of the metrics for Prometheus; 0: none."""
    grace_s: float = 10.0
    """The time that actions have to end when the executor stops."""
    log_level: str = "info"


def read_settings(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read each setting from its option, else its variable (DALSEGNO_EXECUTOR_SLOTS, ...), else the default."""
    environment = os.environ if environment is None else environment
    default = Settings()
    parser = Options("executor", "Runs actions for engines.", default, environment)
    parser.add_addresses("engine", "engines", "host:port of an engine; repeatable, or with commas", "DALSEGNO_ENGINE")
    parser.add("id", str, "the executor's name, stable over restarts")
    parser.add("slots", int, "the number of actions that it runs at once")
    parser.add("threads", int, "the number of blocking actions that it runs at once")
    parser.add_argument("--label", action="append", default=[], help="name=value, for tasks with a target; repeatable")
    parser.add_argument("--limit", action="append", default=[], help="name=4, name=10/s or name=4,10/s; repeatable")
    shown = ", ".join(PERMISSIONS)
    parser.add_argument(
        "--allow", action="append", help=f"allow {shown}=HOST:PORT,... (* for all); may be given more than once"
    )
    parser.add_networks("where actions may send something")
    parser.add("grpc-ca", str, "grpc.call: file of the authorities that sign the certificates of services")
    parser.add("grpc-cert", str, "grpc.call: file of the client certificate")
    parser.add("grpc-key", str, "grpc.call: file of the key of the client certificate")
    parser.add("grpc-descriptors", str, "grpc.call: folder of the descriptor sets that workflows can name")
    parser.add_tls(CALLER_OPTIONS)
    parser.add_token_file("the file of the token to show to engines, of the role executor")
    parser.add("listen", str, "host:port of the health service; empty: none")
    parser.add("metrics-port", int, "the port of the metrics for Prometheus; 0: none")
    parser.add("grace-s", float, "the time that actions have to end when the executor stops")
    parser.add("log-level", str, "debug, info, warning or error", "DALSEGNO_LOG_LEVEL")
    found = vars(parser.parse_args(arguments))
    tls = parser.take_tls(found, listens=False)
    limits = _read_limits(parser, found.pop("limit") or environment.get("DALSEGNO_EXECUTOR_LIMITS", "").split())
    labels = _read_labels(parser, found.pop("label") or _listed([environment.get("DALSEGNO_EXECUTOR_LABELS", "")]))
    try:
        allow = read_allowed(_listed(found.pop("allow") or [environment.get("DALSEGNO_EXECUTOR_ALLOW", "")]))
    except ValueError as error:
        parser.error(f"--allow {error}")
    if bool(found["grpc_cert"]) != bool(found["grpc_key"]):
        parser.error("--grpc-cert and --grpc-key belong together")
    found["id"] = found["id"] or f"{socket.gethostname()}-{os.getpid()}"
    if found["slots"] < 1 or found["threads"] < 1:
        parser.error("--slots and --threads must be at least 1")
    return Settings(tls=tls, labels=labels, limits=limits, allow=allow, **found)


def _read_labels(parser: Options, texts: Sequence[str]) -> dict[str, str]:
    for text in texts:
        if not text.partition("=")[1]:
            parser.error(f"--label {text}: it is not of the form name=value")
    return dict(text.partition("=")[::2] for text in texts)


def _read_limits(parser: Options, texts: Sequence[str]) -> dict[str, Limits]:
    found = {}
    for text in texts:
        name, _, limit = text.partition("=")
        try:
            found[name] = parse_limits(limit)
        except ValueError as error:
            parser.error(f"--limit {text}: {error}")
    return found


def _listed(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the words of texts, which commas or spaces separate."""
    return tuple(dict.fromkeys(word for text in texts for word in text.replace(",", " ").split()))
