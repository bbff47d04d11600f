"""Answers that cannot be written."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.server import Endpoint

from dalsegno.gateway.application import Rpc
from dalsegno.v1 import system_service_pb2 as messages

PATH = "/dalsegno.v1.SystemService/GetServerInfo"
SCOPE = {
    "type": "http",
    "http_version": "1.1",
    "method": "POST",
    "path": PATH,
    "root_path": "",
    "query_string": b"",
    "headers": [(b"content-type", b"application/proto"), (b"connect-timeout-ms", b"200")],
}


async def test_an_answer_that_cannot_be_written_in_time_is_no_fault() -> None:
    """When the time of a call is over, or its caller leaves, while the answer is written, nobody can be told, and
    nothing is raised: it would be logged as a fault of the gateway. (Found by scripts/fuzz.)"""
    is_written = asyncio.Event()

    async def answer(request: Any, context: Any) -> bytes:
        return b""

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            is_written.set()
            await asyncio.Event().wait()  # the caller does not read

    method: Any = MethodInfo(
        name="GetServerInfo",
        service_name="dalsegno.v1.SystemService",
        input=messages.GetServerInfoRequest,
        output=messages.GetServerInfoResponse,
        idempotency_level=IdempotencyLevel.NO_SIDE_EFFECTS,
        stream_type=StreamType.UNARY,
    )
    rpc = Rpc(cast(Any, SimpleNamespace(endpoints={PATH: Endpoint.unary(method=method, function=answer)})))
    async with asyncio.timeout(10):
        await rpc(cast(Any, SCOPE), cast(Any, receive), cast(Any, send))
    assert is_written.is_set()
