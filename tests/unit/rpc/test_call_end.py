"""How a server has ended a call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from dalsegno.rpc.call_end import CallEnd, error_of
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.v1 import executor_service_pb2_grpc


class Ends(executor_service_pb2_grpc.ExecutorServiceServicer):
    """Ends each stream when the test says so."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()

    async def Connect(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        await self.may_end.wait()
        await context.abort(grpc.StatusCode.ABORTED, "stay away")


@pytest.fixture
async def servicer() -> Ends:
    """What the server serves."""
    return Ends()


@pytest.fixture
async def call(servicer: Ends) -> AsyncIterator[Any]:
    """A call to the server."""
    server = grpc.aio.server()
    executor_service_pb2_grpc.add_ExecutorServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield executor_service_pb2_grpc.ExecutorServiceStub(channel).Connect()
    await server.stop(None)


@pytest.mark.parametrize("ends_before", [True, False])
async def test_a_message_that_cannot_be_sent_hides_no_status(servicer: Ends, call: Any, ends_before: bool) -> None:
    """The status of the server counts, whether it comes before a message cannot be sent or after that."""
    end = CallEnd(call)
    await call.write(wire.ConnectRequest(hello=wire.Hello()))
    if ends_before:
        servicer.may_end.set()
        assert (await error_of(call)).code() is grpc.StatusCode.ABORTED

    call._cython_call.set_internal_error("as the library does when a message cannot be sent")
    error = await error_of(call)
    servicer.may_end.set()
    found = await end.correct(error)

    assert error.code() is grpc.StatusCode.INTERNAL
    assert (found.code(), found.details()) == (grpc.StatusCode.ABORTED, "stay away")
