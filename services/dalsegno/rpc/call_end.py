"""How a server has ended a call, also if a message was being sent at that moment.

When a message cannot be sent, grpc.aio gives the call the status INTERNAL, even if the status of the server has come
before. An executor that must stay away would connect again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import grpc

WITHIN_S = 1.0
"""The time in which the status of the server comes after a message could not be sent."""

_SEND_FAILURE = "Internal error from Core"


class CallEnd:
    """Notes the status with which a server ends a call."""

    def __init__(self, call: Any) -> None:
        self._found: asyncio.Future[grpc.aio.AioRpcError] = asyncio.get_running_loop().create_future()
        call.add_done_callback(self._note)

    def _note(self, call: Any) -> None:
        """Keep the first status that is not the library's own. The library calls this for each status."""
        error = _result_of(error_of(call))
        if not self._found.done() and not _is_send_failure(error):
            self._found.set_result(error)

    async def correct(self, error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        """Return the error of the server, if this one is the library's own because a message could not be sent."""
        if _is_send_failure(error):
            await asyncio.wait([self._found], timeout=WITHIN_S)
            if self._found.done():
                return self._found.result()
        return error


async def error_of(call: Any) -> grpc.aio.AioRpcError:
    """Wait for the end of a call, and return its status as an error, also if it is OK."""
    code, details, trailing = await call.code(), await call.details(), await call.trailing_metadata()
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)


def _is_send_failure(error: grpc.aio.AioRpcError) -> bool:
    return error.code() is grpc.StatusCode.INTERNAL and error.details() == _SEND_FAILURE


def _result_of(coroutine: Coroutine[Any, Any, grpc.aio.AioRpcError]) -> grpc.aio.AioRpcError:
    """Return the result of a coroutine that waits for nothing: a task would run after the status has been replaced."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: grpc.aio.AioRpcError = stop.value
        return result
    coroutine.close()
    raise RuntimeError("the call has not ended")
