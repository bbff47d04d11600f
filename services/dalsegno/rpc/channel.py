"""Channels of our clients: limits, keepalive, quick reconnects."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import grpc

from dalsegno.access.bearer import TokenFile
from dalsegno.rpc.authorized import AuthorizedChannel
from dalsegno.rpc.logs import request_id

if TYPE_CHECKING:
    from dalsegno.rpc.credentials import ClientTls

MESSAGE_BYTES = 16 * 1024 * 1024
"""The largest request of the contract."""

ANSWER_BYTES = 2 * MESSAGE_BYTES
"""The largest answer: enough for one row with all its values at their maximum size."""

METADATA_BYTES = 256 * 1024
"""The metadata that our clients accept, so that a refusal can list all violations."""

USER_AGENT = "dalsegno/"
"""The start of the user agent of our clients: it tells a server that the client accepts METADATA_BYTES."""

REQUEST_ID_KEY = "x-request-id"

REASON_KEY = "dalsegno-reason-bin"
"""The metadata with which a server says, beside its health, why it is not ready."""

ACTOR_KEY = "x-dalsegno-actor"
"""The metadata with the name of the caller. Servers that ask for tokens take it from our own services only."""

ACTOR_LENGTH = 255

_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.primary_user_agent", f"{USER_AGENT}1"),
    ("grpc.max_receive_message_length", ANSWER_BYTES),
    ("grpc.max_send_message_length", -1),  # the server refuses a message that is too large, with the reason
    ("grpc.max_metadata_size", METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", 2 * METADATA_BYTES),
    ("grpc.enable_http_proxy", 0),  # a proxy from the environment is for the web, not for our services
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # in spite of its name, the time for one attempt to connect
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Two channels to one address do not share a connection, so that closing one does not affect the other.
    ("grpc.use_local_subchannel_pool", 1),
]


_BALANCED: list[tuple[str, int | str]] = [
    (
        "grpc.service_config",
        json.dumps({"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}),
    )
]
"""Calls go in turn to the addresses of a name whose servers say that they are ready."""


def actor_in(metadata: Mapping[str, Any]) -> str:
    """Return the name of the caller in the metadata of a call, as it can be stored; empty if it has none."""
    return str(metadata.get(ACTOR_KEY, ""))[:ACTOR_LENGTH].replace("\0", "")


def open_channel(
    address: str,
    *,
    balanced: bool = False,
    tls: ClientTls | None = None,
    name: str = "",
    token: TokenFile | None = None,
) -> grpc.aio.Channel:
    """Return a channel to `host:port` or `unix:/path`. It connects at its first use, and reconnects by itself.

    `balanced`: the name has several addresses, with a server at each. With `tls` the certificate of the server must
    have the host of the address, or `name` if that is given. Without, it speaks plain text. Its calls show the `token`.
    """
    channel = _open(address, balanced, tls, name)
    return channel if token is None else AuthorizedChannel(channel, token)


def _open(address: str, balanced: bool, tls: ClientTls | None, name: str) -> grpc.aio.Channel:
    options = _OPTIONS + _BALANCED if balanced else _OPTIONS
    if tls is None:
        return grpc.aio.insecure_channel(address, options=options)
    from dalsegno.rpc.renewal import RenewedChannel  # loads cryptography: not for plain text

    if expected := tls.server_name or name or (tls.name_for(address) if address.startswith("unix") else ""):
        options = [*options, ("grpc.default_authority", expected)]
    return RenewedChannel(tls, lambda credentials: grpc.aio.secure_channel(address, credentials, options=options))


def call_metadata() -> tuple[tuple[str, str], ...]:
    """Return metadata with the request id of the current call, or with a new one outside of calls."""
    return ((REQUEST_ID_KEY, request_id.get() or uuid.uuid4().hex),)


_ENDS_OF_A_CUT_CALL = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}


def reason_in(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """Return what a server lacks, as the metadata of its health says; empty if it says nothing."""
    reason = b"".join(value for key, value in metadata or () if key == REASON_KEY and isinstance(value, bytes))
    return reason.decode("utf-8", "replace")


def has_no_answer(error: grpc.aio.AioRpcError) -> bool:
    """Return whether a call has no answer: its server was not there, or died, or a proxy cut the call.

    A proxy resets a stream that it cuts, which comes as INTERNAL. What the server itself says names the request.
    """
    is_answer = any(key == REQUEST_ID_KEY for key, _ in error.trailing_metadata() or ())
    return error.code() is grpc.StatusCode.CANCELLED or (error.code() in _ENDS_OF_A_CUT_CALL and not is_answer)


def was_never_sent(error: grpc.aio.AioRpcError) -> bool:
    """Return whether a call has certainly not reached a server, because there was no connection."""
    return error.code() is grpc.StatusCode.UNAVAILABLE and "failed to connect" in (error.details() or "")
