"""Channels: how a client of ours reaches a server: limits, keepalive, quick reconnects."""

from __future__ import annotations

import uuid

import grpc

from dalsegno.rpc.logs import request_id

MESSAGE_BYTES = 16 * 1024 * 1024
"""The largest request of the contract."""

ANSWER_BYTES = 2 * MESSAGE_BYTES
"""The largest answer: one row with all its values, each as large as it may be, is within it."""

METADATA_BYTES = 256 * 1024
"""How much metadata our clients take, so that a refusal can name everything that is wrong."""

USER_AGENT = "dalsegno/"
"""Begins the user agent of our clients: by it a server knows that the client takes METADATA_BYTES."""

REQUEST_ID_KEY = "x-request-id"

ACTOR_KEY = "x-dalsegno-actor"
"""The metadata in which a caller says who asks. It is believed: there is no authentication yet."""

_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.primary_user_agent", f"{USER_AGENT}1"),
    ("grpc.max_receive_message_length", ANSWER_BYTES),
    ("grpc.max_send_message_length", -1),  # a message that is too large is refused by the server, which says why
    ("grpc.max_metadata_size", METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", 2 * METADATA_BYTES),
    ("grpc.enable_http_proxy", 0),  # a proxy from the environment is for the web, not for services beside us
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Two channels to one address share no connection: a test or a tool that closes one leaves the other alone.
    ("grpc.use_local_subchannel_pool", 1),
]


def open_channel(address: str) -> grpc.aio.Channel:
    """A channel to `host:port` or `unix:/path`. It connects when it is first used, and again whenever it has to."""
    return grpc.aio.insecure_channel(address, options=_OPTIONS)


def call_metadata() -> tuple[tuple[str, str], ...]:
    """Metadata that carries on the request id of the call being served, or a new one outside of calls."""
    return ((REQUEST_ID_KEY, request_id.get() or uuid.uuid4().hex),)
