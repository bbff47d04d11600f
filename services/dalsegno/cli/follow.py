"""Follow an execution although streams break and servers restart: every message once, in order."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import grpc

from dalsegno.cli.connection import Connection
from dalsegno.cli.retries import RETRY_S, Retries, is_cut
from dalsegno.v1 import execution_service_pb2 as messages


async def follow(
    connection: Connection,
    execution_id: str,
    *,
    keep_open: bool = False,
    retry_s: float = RETRY_S,
    is_silent: bool = False,
) -> AsyncGenerator[messages.WatchExecutionResponse]:
    """Yield a snapshot of the execution in pages, then its changes, until it is at rest (with `keep_open`: for ever).

    Continues from the last resume token when the stream breaks. Raises grpc.aio.AioRpcError when the server refuses, or
    is unavailable for `retry_s` seconds; `is_silent`: prints nothing about that.
    """
    request = messages.WatchExecutionRequest(execution_id=execution_id, keep_open=keep_open)
    async with Retries(retry_s, is_silent=is_silent) as retries:
        while True:
            try:
                stream = connection.executions.WatchExecution(request)
                async for message in stream:
                    retries.answered()
                    if message.resume_token:
                        request.resume_token = message.resume_token
                    yield message
                return
            except grpc.aio.AioRpcError as error:
                if not is_cut(error):
                    raise
                await retries.wait(error)
