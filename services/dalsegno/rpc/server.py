"""The grpc.aio server of each of our services, from the first bind to the last call.

server = Server("127.0.0.1:0", services=["dalsegno.v1.EngineService"])
engine_service_pb2_grpc.add_EngineServiceServicer_to_server(servicer, server.grpc)
await server.start()                 # bound: server.port; health says NOT_SERVING
await server.set_ready(True)         # health says SERVING
...
await server.stop(grace_s=5)         # streams end first, then calls, then the server
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from dalsegno.rpc.addresses import is_address
from dalsegno.rpc.background import keep_running
from dalsegno.rpc.channel import ANSWER_BYTES, MESSAGE_BYTES, METADATA_BYTES, REASON_KEY
from dalsegno.rpc.interceptors import CallInterceptor
from dalsegno.rpc.reflection import add_reflection

if TYPE_CHECKING:
    from dalsegno.rpc.credentials import ServerTls
    from dalsegno.rpc.guard import Guard

_LARGEST = "grpc.max_receive_message_length"
_OPTIONS: list[tuple[str, int]] = [
    (
        "grpc.so_reuseport",
        0,
    ),  # otherwise a second server on the same port binds without an error and receives half of the calls
    # Twice the limit of the API, so that the interceptor can describe what is too large; above, grpc refuses.
    (_LARGEST, 2 * MESSAGE_BYTES),
    ("grpc.max_send_message_length", ANSWER_BYTES),
    ("grpc.max_metadata_size", METADATA_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
]


REASON_BYTES = 2_000
"""A longer reason is cut off: an answer has little room for metadata."""

INSTEAD = (
    "listen on a loopback address like 127.0.0.1, let in only clients with certificates (--tls-certificate, --tls-key,"
    " --tls-client-ca; `dalsegno certs init` makes some to try) or, by TLS, with tokens (--auth tokens), or accept it"
    " with --insecure"
)

_log = logging.getLogger("dalsegno.rpc")


class CannotListen(Exception):
    """The address cannot be bound: it is in use, not of this machine, or open to others without --insecure."""


def is_local(address: str) -> bool:
    """Return whether only this machine can reach an address, `host:port` or `unix:/path`.

    >>> [is_local(each) for each in ("127.0.0.1:7700", "[::1]:0", "unix:/run/engine", "0.0.0.0:7700", ":7700")]
    [True, True, True, False, False]
    """
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        found = socket.getaddrinfo(host, None) if host else []
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(str(each[4][0]).partition("%")[0]).is_loopback for each in found)


def exposure(tls: ServerTls | None, *, asks_tokens: bool = False) -> str:
    """Return what anybody may do who reaches a server; empty if it asks clients for certificates or tokens by TLS."""
    if tls is None and asks_tokens:
        return "it speaks plain text, so everybody on the way can read everything, tokens too"
    if tls is None:
        return (
            "it speaks plain text and asks nobody for a certificate, so everybody who can reach it can read and do"
            " everything"
        )
    return (
        ""
        if tls.asks_clients or asks_tokens
        else "it asks no client for a certificate or a token: everybody who can reach it can do everything"
    )


def check_reach(address: str, tls: ServerTls | None, *, insecure: bool, asks_tokens: bool = False) -> None:
    """Log who can use a server besides those it knows. Raises CannotListen if that is more than this machine, unless
    `insecure`."""
    if not (told := exposure(tls, asks_tokens=asks_tokens)):
        return
    if is_local(address):
        _log.info("%s is open to all users of this machine: %s", address, told)
    elif insecure:
        _log.warning("%s is open to everybody who can reach it: %s", address, told)
    else:
        raise CannotListen(f"cannot listen on {address}: {told}; {INSTEAD}")


class _Health(health.aio.HealthServicer):
    """The health service, which also says why a server is not ready, or what else it lacks."""

    reason = ""

    def __init__(self, more: Callable[[], str]) -> None:
        """`more`: what else is not as it should be, though the server may be ready."""
        super().__init__()
        self._more = more

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> Any:
        if reason := "; ".join(filter(None, (self.reason, self._more()))):
            told = (REASON_KEY, reason.encode("utf-8", "replace")[:REASON_BYTES])
            context.set_trailing_metadata((*context.trailing_metadata(), told))
        return await super().Check(request, context)


class Server:
    """One server with health, reflection and the interceptor. Use it within one event loop."""

    def __init__(
        self,
        address: str,
        services: Sequence[str],
        unhurried: Iterable[str] = (),
        *,
        insecure: bool = False,
        tls: ServerTls | None = None,
        roomy: Mapping[str, int] | None = None,
        guard: Guard | None = None,
    ) -> None:
        """Prepare a server for `host:port` (port 0 takes a free one) that serves these full service names.

        `unhurried` names unary methods, `/package.Service/Method`, without a default deadline; `roomy` the methods that
        accept larger messages, with their maximum size. With `tls` it speaks TLS only. If it does not ask clients for
        certificates, and has no `guard` that asks for tokens, it serves this machine only, unless `insecure`; a server
        without services, which has only the health service, serves everybody.
        """
        self.address = address
        self._insecure = insecure
        self._tls = tls
        self._guard = guard
        self._looking: asyncio.Task[None] | None = None
        """Looks which tokens are valid."""
        self.port = 0
        self.stopping = asyncio.Event()
        """Set when the server begins to stop: servicers of two-way streams then end them."""
        self._services = tuple(services)
        roomy = roomy or {}
        self._interceptor = CallInterceptor(frozenset(unhurried), roomy, tls, guard)
        options = {**dict(_OPTIONS), _LARGEST: max(dict(_OPTIONS)[_LARGEST], *roomy.values(), 0)}
        self.grpc = grpc.aio.server(interceptors=[self._interceptor], options=list(options.items()))
        self._health = _Health(lambda: guard.told if guard is not None else "")
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        add_reflection((*self._services, health.SERVICE_NAME), self.grpc)

    async def start(self) -> None:
        """Bind and serve, not yet ready. Raises CannotListen."""
        if not is_address(self.address):
            raise CannotListen(f"cannot listen on {self.address}: it is not of the form host:port")
        if self._services:
            check_reach(self.address, self._tls, insecure=self._insecure, asks_tokens=self._guard is not None)
        await self.set_ready(False)
        try:
            if self._tls is None:
                self.port = self.grpc.add_insecure_port(self.address)
            else:
                self.port = self.grpc.add_secure_port(self.address, self._tls.credentials())
        except RuntimeError as error:
            raise CannotListen(f"cannot listen on {self.address}: {error}") from None
        await self.grpc.start()
        if self._guard is not None:
            self._looking = keep_running(partial(self._guard.keep_up, self._interceptor.end_refused), "tokens")

    async def set_ready(self, ready: bool, service: str | None = None, *, reason: str = "") -> None:
        """Set in the health service whether a service is ready; None: all services and the server as a whole.

        `reason`: why it is not; whoever asks gets it with the answer.
        """
        self._health.reason = reason
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in (*self._services, "") if service is None else (service,):
            await self._health.set(name, status)

    async def stop(self, grace_s: float) -> None:
        """End streams, then wait for calls, all within about `grace_s`; then cancel the rest."""
        ends_s = time.monotonic() + grace_s
        await self._health.enter_graceful_shutdown()
        self.stopping.set()
        await self._interceptor.end_streams(grace_s)
        if self._looking is not None:
            self._looking.cancel()
        await self.grpc.stop(max(0.1, ends_s - time.monotonic()))
