"""One call: the method is found, the request is sent, and sent again where that is allowed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import grpc
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from dalsegno.actions.grpc_calls.connection import Connection, find_method, unary
from dalsegno.actions.grpc_calls.conversion import (
    lacks_fields,
    message_from_json,
    message_to_json,
    types_named,
)
from dalsegno.actions.grpc_calls.failure import CallFailed, invalid, read_failure
from dalsegno.actions.grpc_calls.metadata import Entry
from dalsegno.actions.grpc_calls.schema import Schema, is_safe
from dalsegno.workflow.value import VALUE_BYTES_MAX, encode

DELAY_FIRST_S = 0.2
DELAY_MAX_S = 5.0

ASKED_DELAY_MAX_S = 30.0
"""A service that asks for a longer delay is not called again here: a retry of the task can wait longer."""

MESSAGES_MAX = 100_000
"""The most messages of one stream."""

ASIDE_BYTES = 256 * 1024
"""Larger messages are converted in a thread, so that other actions go on meanwhile."""

P = ParamSpec("P")
R = TypeVar("R")

NO_LIMIT_S = 1e9
_CHANGED = frozenset({"UNIMPLEMENTED", "INTERNAL"})
"""Codes that a service gives when it is no longer what it has described."""


@dataclass(slots=True)
class Request:
    """What to call, and how."""

    service: str
    method: str
    data: object
    metadata: Sequence[Entry]
    deadline_s: float | None
    """By the monotonic clock; None: no limit."""
    retries: int
    retry_codes: frozenset[str]
    safe: bool
    """Whether it may be carried out twice."""
    stop_after: int | None
    """The number of messages after which a stream is left; None: it is read to its end."""
    descriptors: tuple[bytes, bytes] | None = None
    """A descriptor set, after its digest; None: server reflection."""
    tries: int = field(default=0, init=False)
    """The number of times that it was tried."""

    def time_left_s(self) -> float:
        """Return the seconds until the deadline. Raises CallFailed when it is over."""
        if self.deadline_s is None:
            return NO_LIMIT_S
        left_s = self.deadline_s - time.monotonic()
        if left_s <= 0:
            raise CallFailed("DEADLINE_EXCEEDED", "the time is over")
        return left_s


async def carry_out(request: Request, connection: Connection) -> object:
    """Return the result as JSON: the message, or the list of messages of a stream. Raises CallFailed."""
    delay_s = DELAY_FIRST_S
    sent = False
    while True:
        request.tries += 1
        try:
            await connection.connect(request.time_left_s())
            return await _call(request, connection, await _prepare_anew(request, connection))
        except CallFailed as failure:
            if failure.code in _CHANGED:
                connection.forget()
            failure.sent = sent = sent or failure.sent
            wait_s = failure.retry_delay_s if failure.retry_delay_s is not None else delay_s * random.uniform(0.8, 1.2)
            if not _may_repeat(request, failure, wait_s):
                raise
        await asyncio.sleep(wait_s)
        delay_s = min(2 * delay_s, DELAY_MAX_S)


def _may_repeat(request: Request, failure: CallFailed, wait_s: float) -> bool:
    if request.tries > request.retries or wait_s > ASKED_DELAY_MAX_S:
        return False
    if request.deadline_s is not None and time.monotonic() + wait_s >= request.deadline_s:
        return False
    return failure.may_repeat(request.safe, request.retry_codes)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A call that can be sent."""

    method: MethodDescriptor
    schema: Schema
    body: bytes


async def _prepare_anew(request: Request, connection: Connection) -> _Prepared:
    """Prepare the call. What does not fit what a service has described before may fit what it describes now."""
    was_known = request.descriptors is None and connection.knows(request.service)
    try:
        return await _prepare(request, connection)
    except CallFailed:
        if not was_known:
            raise
    connection.forget()
    return await _prepare(request, connection)


async def _prepare(request: Request, connection: Connection) -> _Prepared:
    schema, method = await _find(request, connection)
    request.safe = request.safe or is_safe(method)
    await _learn(request, schema, {name for name in types_named(request.data) if schema.type_named(name) is None})
    is_large = len(encode(request.data)) > ASIDE_BYTES
    try:
        body = await _convert(is_large, message_from_json, request.data, method.input_type, schema.pool)
    except ValueError as error:
        raise invalid(str(error)) from None
    return _Prepared(method, schema, body)


async def _find(request: Request, connection: Connection) -> tuple[Schema, MethodDescriptor]:
    """Return the types of the service, and the method."""
    if request.descriptors is not None:
        schema = await connection.read_set(*request.descriptors)
    else:
        try:
            schema = await connection.reflect(request.service, request.metadata, request.time_left_s())
        except grpc.aio.AioRpcError as error:
            failure = read_failure(error, DescriptorPool(), sent=False)
            failure.message = f"server reflection: {failure.message}"
            raise failure from None
    return schema, find_method(schema, request.service, request.method)


async def _learn(request: Request, schema: Schema, types: set[str]) -> bool:
    """Ask the service about types that it has not described. Return whether it has described any of them."""
    try:
        learned = [await schema.learn(name, request.metadata, request.time_left_s()) for name in sorted(types)]
    except (CallFailed, grpc.aio.AioRpcError):
        return False  # they are shown as bytes, or refused
    return any(learned)


async def _call(request: Request, connection: Connection, prepared: _Prepared) -> object:
    """Send the request, and return the result."""
    try:
        received = await _exchange(request, connection.channel, prepared)
    except grpc.aio.AioRpcError as error:
        failure = read_failure(error, prepared.schema.pool, sent=True)
        if failure.unknown_types and await _learn(request, prepared.schema, failure.unknown_types):
            failure = read_failure(error, prepared.schema.pool, sent=True)
        raise failure from None
    try:
        is_large = sum(map(len, received)) > ASIDE_BYTES
        read = await _read(request, prepared.schema, prepared.method.output_type, received, is_large)
        if read.has_unknown_fields and prepared.schema.is_reflected:
            connection.forget()  # the service has more than it described: it is another version now
            with contextlib.suppress(CallFailed):
                schema, method = await _find(request, connection)
                read = await _read(request, schema, method.output_type, received, is_large)
    except (DecodeError, ValueError) as error:
        connection.forget()
        raise CallFailed("INTERNAL", f"the answer cannot be read: {error}", sent=True) from None
    return read.data if prepared.method.server_streaming else read.data[0]


async def _exchange(request: Request, channel: grpc.aio.Channel, prepared: _Prepared) -> list[bytes]:
    """Return the messages of the answer. Raises CallFailed if they are too many."""
    path = f"/{request.service}/{request.method}"
    timeout_s = None if request.deadline_s is None else request.time_left_s()
    metadata = grpc.aio.Metadata(*request.metadata)
    if not prepared.method.server_streaming:
        answer: Any = await unary(channel, path)(prepared.body, timeout=timeout_s, metadata=metadata)
        return [answer]
    received: list[bytes] = []
    size = 0
    stream: Any = channel.unary_stream(path)
    call = stream(prepared.body, timeout=timeout_s, metadata=metadata)
    try:
        async for message in call:
            received.append(message)
            size += len(message)
            if size > VALUE_BYTES_MAX or len(received) > MESSAGES_MAX:
                words = f"more than {VALUE_BYTES_MAX:,} bytes or {MESSAGES_MAX:,} messages; stop_after limits them"
                raise CallFailed("RESOURCE_EXHAUSTED", f"result too large: {words}", sent=True)
            if len(received) == request.stop_after:
                break
    finally:
        call.cancel()  # the end of the loop does not end the call
    return received


@dataclass(frozen=True, slots=True)
class _Read:
    data: list[object]
    unknown_types: set[str]
    has_unknown_fields: bool


async def _read(request: Request, schema: Schema, kind: Descriptor, received: list[bytes], is_large: bool) -> _Read:
    """Return messages as JSON. Raises DecodeError or ValueError."""
    read = await _convert(is_large, _read_messages, received, kind, schema.pool)
    if read.unknown_types and await _learn(request, schema, read.unknown_types):
        read = await _convert(is_large, _read_messages, received, kind, schema.pool)
    return read


def _read_messages(received: list[bytes], kind: Descriptor, pool: DescriptorPool) -> _Read:
    data: list[object] = []
    unknown_types: set[str] = set()
    has_unknown_fields = False
    for each in received:
        message = GetMessageClass(kind)()
        message.ParseFromString(each)
        written, missing = message_to_json(message, pool)
        data.append(written)
        unknown_types |= missing
        has_unknown_fields = has_unknown_fields or lacks_fields(message)
    return _Read(data, unknown_types, has_unknown_fields)


async def _convert(is_large: bool, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    return await asyncio.to_thread(function, *args, **kwargs) if is_large else function(*args, **kwargs)
