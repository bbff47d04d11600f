"""Connections to services, kept open: a channel and the types of the services behind it."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor

from dalsegno.actions.grpc_calls.failure import CallFailed, invalid
from dalsegno.actions.grpc_calls.metadata import Entry
from dalsegno.actions.grpc_calls.schema import Schema, list_services, missing, read_set, reflection_of
from dalsegno.outgoing.connecting import resolve
from dalsegno.outgoing.reach import Reach, TargetRefused

CONNECT_S = 10.0
"""The time in which a connection must be open."""

RECONNECT_S = 2.5
"""The time for another attempt after a failed one: attempts are at most 2.4 s apart."""

KNOWN_FOR_S = 300.0
"""The time after which a service is asked again for its types."""

CONNECTIONS_MAX = 100
"""Connections without calls beyond this number are closed, the one used longest ago first."""

SETS_MAX = 20
"""The most descriptor sets that are kept for one connection."""

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
METADATA_BYTES_MAX = 256 * 1024

_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.primary_user_agent", "dalsegno-grpc.call"),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", 2 * METADATA_BYTES_MAX),
    ("grpc.service_config_disable_resolution", 1),  # what is repeated is decided here, not by a record in the DNS
    ("grpc.keepalive_time_ms", 360_000),  # servers end connections that ping more than once in five minutes
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", int(CONNECT_S * 1000)),  # in spite of its name, the time for one attempt
    ("grpc.max_reconnect_backoff_ms", 2_000),
]
State = grpc.ChannelConnectivity

_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
"""The variables with the proxy that gRPC uses."""

_PROBE = "/grpc.health.v1.Health/Check"


@dataclass(frozen=True, slots=True)
class Certificates:
    """The operator's files for TLS, as PEM; empty: the roots of gRPC, and no client certificate."""

    ca: str = ""
    certificate: str = ""
    key: str = ""

    def stamp(self) -> tuple[int, ...]:
        """Return what changes when a file is replaced. Raises OSError for one that cannot be read."""
        return tuple(Path(each).stat().st_mtime_ns for each in self._files() if each)

    def read(self) -> grpc.ChannelCredentials:
        """Return the credentials. Raises OSError for a file that cannot be read."""
        ca, certificate, key = (Path(each).read_bytes() if each else None for each in self._files())
        return grpc.ssl_channel_credentials(ca, key, certificate)

    def _files(self) -> tuple[str, str, str]:
        return self.ca, self.certificate, self.key


def unary(channel: grpc.aio.Channel, path: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    """Return the call of a method with the bytes of its messages."""
    method: Any = channel.unary_unary(path)
    return method  # type: ignore[no-any-return]


class Connection:
    """A channel to one target, and the types of its services."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.calls = 0
        """The number of calls that use it now."""
        self._ask = reflection_of(channel)
        self._reflected: Schema | None = None
        self._reflected_at_s = 0.0
        self._sets: OrderedDict[bytes, Schema] = OrderedDict()

    @property
    def has_failed(self) -> bool:
        """Return whether it cannot be opened now."""
        return self.channel.get_state() is State.TRANSIENT_FAILURE

    async def connect(self, timeout_s: float) -> None:
        """Return when the connection is open. Raises CallFailed with the reason if it cannot be opened in time."""
        state = self.channel.get_state(try_to_connect=True)
        if state is State.READY:
            return
        self.forget()  # after a new connection it may be another service
        # A channel that has failed before stays so until its next attempt succeeds.
        connect_s = RECONNECT_S if state is State.TRANSIENT_FAILURE else CONNECT_S
        try:
            async with asyncio.timeout(min(timeout_s, connect_s)):
                while state is not State.READY:
                    await self.channel.wait_for_state_change(state)
                    state = self.channel.get_state(try_to_connect=True)
                    if state is State.TRANSIENT_FAILURE:
                        break
        except TimeoutError:
            if timeout_s < connect_s:
                raise CallFailed("DEADLINE_EXCEEDED", f"no connection within {timeout_s:.3g} s") from None
        if state is not State.READY:
            raise CallFailed("UNAVAILABLE", await self._find_cause())

    async def _find_cause(self) -> str:
        """Return why there is no connection. Only a call tells it: this one does nothing if it arrives after all."""
        try:
            await unary(self.channel, _PROBE)(b"", timeout=1.0)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                return error.details() or "no connection"
        return "no connection"

    def knows(self, service: str) -> bool:
        """Return whether a service has described itself before."""
        is_fresh = time.monotonic() - self._reflected_at_s <= KNOWN_FOR_S
        return self._reflected is not None and is_fresh and self._reflected.has_service(service)

    async def reflect(self, service: str, metadata: Sequence[Entry], timeout_s: float) -> Schema:
        """Return the types of a service, as it describes itself. Raises CallFailed with the services there are."""
        if self._reflected is None or time.monotonic() - self._reflected_at_s > KNOWN_FOR_S:
            self._reflected, self._reflected_at_s = Schema(self._ask), time.monotonic()
        schema = self._reflected
        if not schema.has_service(service):
            await schema.learn(service, metadata, timeout_s)
        if not schema.has_service(service):
            self.forget()  # it may come
            raise missing("service", service, await list_services(self._ask, metadata, timeout_s))
        return schema

    async def read_set(self, digest: bytes, written: bytes) -> Schema:
        """Return the types of a descriptor set."""
        schema = self._sets.get(digest)
        if schema is None:
            schema = self._sets[digest] = await asyncio.to_thread(read_set, written)
            if len(self._sets) > SETS_MAX:
                self._sets.popitem(last=False)
        self._sets.move_to_end(digest)
        return schema

    def forget(self) -> None:
        """Drop what the services have described: they are asked again at the next call."""
        self._reflected = None


class Connections:
    """The connections of one event loop."""

    def __init__(self) -> None:
        self._open: OrderedDict[object, Connection] = OrderedDict()

    @asynccontextmanager
    async def use(self, target: str, certificates: Certificates | None, reach: Reach) -> AsyncIterator[Connection]:
        """Yield the connection to a target for one call, with TLS if there are certificates. Raises CallFailed.

        `reach`: the addresses that the target may have.
        """
        try:
            key = target, certificates, certificates and certificates.stamp(), reach
            connection = self._open.get(key)
            if connection is None:
                place = await _find_place(target, reach)
                connection = self._open.get(key) or Connection(_open_channel(place, certificates))
                self._open[key] = connection
        except OSError as error:
            raise invalid(f"the executor cannot read {error.filename} for TLS: {error.strerror}") from None
        self._open.move_to_end(key)
        connection.calls += 1
        try:
            yield connection
        finally:
            connection.calls -= 1
            await self._close_some()

    async def _close_some(self) -> None:
        """Close connections without calls: those that cannot be opened, and the oldest beyond the maximum."""
        idle = [(key, each) for key, each in self._open.items() if not each.calls]
        excess = len(self._open) - CONNECTIONS_MAX
        for index, (key, connection) in enumerate(idle):
            if self._open.get(key) is not connection or connection.calls:
                continue  # meanwhile another call has closed or taken it
            if index < excess or connection.has_failed:
                del self._open[key]
                await connection.channel.close()

    async def close(self) -> None:
        """Close all connections."""
        while self._open:
            await self._open.popitem()[1].channel.close()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a channel leads."""

    target: str
    """As gRPC takes it, which resolves names itself."""
    named: str = ""
    """The host:port for which it stands, if the target has addresses only."""

    def options(self) -> list[tuple[str, int | str]]:
        if not self.named:
            return _OPTIONS
        host = self.named.rpartition(":")[0].strip("[]")
        return [*_OPTIONS, ("grpc.default_authority", self.named), ("grpc.ssl_target_name_override", host)]


async def _find_place(target: str, reach: Reach) -> _Place:
    """Return where to connect to. The addresses of a target that may not be anywhere are checked, and then kept.

    Raises CallFailed.
    """
    if reach.everything:
        return _Place(target)
    host, _, port = target.rpartition(":")
    try:
        async with asyncio.timeout(CONNECT_S):
            found = await resolve(reach, host.strip("[]"), int(port))
    except TargetRefused as refused:
        raise CallFailed("PERMISSION_DENIED", str(refused)) from None
    except OSError as error:
        raise CallFailed("UNAVAILABLE", f"{host} has no address: {error.strerror or 'no answer'}") from None
    family = found[0][0]  # gRPC takes addresses of one family
    chosen = [address[0] for each, address in found if each is family]
    if any(os.environ.get(name) for name in _PROXIES):
        del chosen[1:]  # a proxy is asked for one
    if family is socket.AF_INET6:
        return _Place("ipv6:" + ",".join(f"[{each}]:{port}" for each in chosen), target)
    return _Place("ipv4:" + ",".join(f"{each}:{port}" for each in chosen), target)


def _open_channel(place: _Place, certificates: Certificates | None) -> grpc.aio.Channel:
    if certificates is None:
        return grpc.aio.insecure_channel(place.target, options=place.options())
    return grpc.aio.secure_channel(place.target, certificates.read(), options=place.options())


def find_method(schema: Schema, service: str, method: str) -> MethodDescriptor:
    """Return a method that can be called. Raises CallFailed."""
    found = schema.find(service, method)
    if found.client_streaming:
        raise invalid(f"{service}/{method} takes a stream of requests: only unary and server-streaming methods work")
    return found
