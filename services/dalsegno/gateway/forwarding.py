"""Forward every method of the public services to the api: message, metadata, deadline, cancel and status.

Each method is an endpoint of the library, made from its descriptor, so that a new method needs nothing here.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import Endpoint
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2

from dalsegno.gateway.calls import CallFailed, Calls
from dalsegno.gateway.contract import SERVICES
from dalsegno.gateway.failures import connect_error
from dalsegno.gateway.messages import Received, read, written
from dalsegno.gateway.metadata import accepts_gzip, add_to, metadata_of
from dalsegno.rpc.channel import REQUEST_ID_KEY
from dalsegno.rpc.peers import Balanced, Peers

_HEALTH_CHECK = "/grpc.health.v1.Health/Check"
_NOT_SERVING = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING).SerializeToString()

LONGEST_S = 366 * 86_400.0
"""A longer deadline counts as this one. A header may have more than 292 years, which grpc takes for a deadline that has
passed."""

Context = RequestContext[Any, Any]

_GRPC = re.compile(r"application/grpc($|[+;])")
"""The content types of gRPC itself, whose clients accept short details only: gRPC-Web has them in the body."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the api."""

    path: str
    """`/package.Service/Method`"""
    output: type[Any]
    is_stream: bool
    rpc: Any
    """The method of the channel; it takes and gives bytes."""


class Forwarder:
    """Calls the api for callers over HTTP."""

    def __init__(self, apis: Peers, channel: Balanced, calls: Calls) -> None:
        self._apis = apis
        self._channel = channel
        self._calls = calls
        self.methods: dict[str, MethodInfo[Any, Any]] = {}
        """By path, `/package.Service/Method`."""
        self.endpoints: dict[str, Any] = {}
        """How the library serves each of them."""
        for service in SERVICES:
            for method in service.methods:
                self._add(method)

    def _add(self, descriptor: MethodDescriptor) -> None:
        service = descriptor.containing_service.full_name
        path, is_stream = f"/{service}/{descriptor.name}", descriptor.server_streaming
        is_read = descriptor.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS
        call = self._channel.unary_stream if is_stream else self._channel.unary_unary
        method = Method(path, GetMessageClass(descriptor.output_type), is_stream, call(path))
        self.methods[path] = info = MethodInfo(
            name=descriptor.name,
            service_name=service,
            input=GetMessageClass(descriptor.input_type),
            output=method.output,
            idempotency_level=IdempotencyLevel.NO_SIDE_EFFECTS if is_read else IdempotencyLevel.UNKNOWN,
            stream_type=StreamType.SERVER_STREAM if is_stream else StreamType.UNARY,
        )
        if is_stream:
            self.endpoints[path] = Endpoint.server_stream(
                info, lambda request, context: self._stream(method, request, context)
            )
        else:
            self.endpoints[path] = Endpoint.unary(info, lambda request, context: self._answer(method, request, context))

    async def _answer(self, method: Method, request: Received, context: Context) -> bytes:
        if method.path == _HEALTH_CHECK and not self._apis.is_ready:
            # as `/healthz` says: an api may be ready before the gateway knows it
            return await _written(method, _NOT_SERVING, request, context)
        async with self._called(method, request, context) as upstream:
            answer: bytes = await upstream
            add_to(context.response_headers, await upstream.initial_metadata())
            add_to(context.response_trailers, await upstream.trailing_metadata())
            return await _written(method, answer, request, context)

    async def _stream(self, method: Method, request: Received, context: Context) -> AsyncIterator[bytes]:
        async with self._called(method, request, context) as upstream:
            async for answer in upstream:
                yield await _written(method, answer, request, context)
            add_to(context.response_trailers, await upstream.trailing_metadata())

    @asynccontextmanager
    async def _called(self, method: Method, request: Received, context: Context) -> AsyncIterator[Any]:
        """Call the api for one call of a caller. Raises ConnectError."""
        headers, left_s = context.request_headers, None
        if context.timeout_ms is not None:
            left_s = min(context.timeout_ms / 1000, LONGEST_S)
        is_grpc = _GRPC.match(headers.get("content-type", "")) is not None
        try:
            with self._calls.served(method.path, headers.get(REQUEST_ID_KEY), left_s, short=is_grpc) as call:
                context.response_headers[REQUEST_ID_KEY] = call.request_id
                message, metadata = await read(request), metadata_of(headers, call.request_id)
                with self._calls.opened(method.rpc, message, metadata, left_s, is_stream=method.is_stream) as upstream:
                    yield upstream
        except CallFailed as failed:
            raise connect_error(failed.status) from None


async def _written(method: Method, answer: bytes, request: Received, context: Context) -> bytes:
    may_gzip = accepts_gzip(context.request_headers)
    return await written(answer, method.output, as_json=request.is_json, may_gzip=may_gzip)
