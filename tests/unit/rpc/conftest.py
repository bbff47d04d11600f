"""A server with scripted servicers, and a channel to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from dalsegno.rpc.channel import open_channel
from dalsegno.rpc.server import Server
from dalsegno.v1 import engine_service_pb2, engine_service_pb2_grpc, executor_service_pb2, executor_service_pb2_grpc

Submit = Callable[[engine_service_pb2.SubmitRequest], Awaitable[engine_service_pb2.SubmitResponse]]


async def nothing(request: engine_service_pb2.SubmitRequest) -> engine_service_pb2.SubmitResponse:
    """Return an empty answer."""
    return engine_service_pb2.SubmitResponse()


class Engine(engine_service_pb2_grpc.EngineServiceServicer):
    """Calls the function of the test for Submit, and sends one hint and then nothing for Follow."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def Submit(self, request: Any, context: Any) -> Any:
        return await self.world.submit(request)

    async def SubmitMany(self, request: Any, context: Any) -> Any:
        answers = [await self.world.submit(write) for write in request.writes]
        return engine_service_pb2.SubmitManyResponse(
            results=[engine_service_pb2.WriteResult(answer=answer) for answer in answers]
        )

    async def Await(self, request: Any, context: Any) -> Any:
        return engine_service_pb2.AwaitResponse()

    async def Follow(self, request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            yield engine_service_pb2.FollowResponse(hints=[engine_service_pb2.Hint(execution_id="e", revision=1)])
            await asyncio.Event().wait()
        finally:
            self.world.ended.append("follow")
            self.world.follow_ended.set()


class Executors(executor_service_pb2_grpc.ExecutorServiceServicer):
    """Acknowledges with the reason of each Goodbye, and ends when the server stops if it is to."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def Connect(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for message in request_iterator:
                reason = message.goodbye.reason
                yield executor_service_pb2.ConnectResponse(welcome=executor_service_pb2.Welcome(engine_id=reason))
                if reason == "until stopped":
                    await self.world.server.stopping.wait()
                    yield executor_service_pb2.ConnectResponse(drain=executor_service_pb2.Drain())
                    return
                if reason == "for ever":
                    await asyncio.Event().wait()
        finally:
            self.world.ended.append("connect")


@dataclass
class World:
    """The server, the channel and the records of a test."""

    server: Server
    channel: grpc.aio.Channel
    submit: Submit = nothing
    ended: list[str] = field(default_factory=list)
    follow_ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def engine(self) -> engine_service_pb2_grpc.EngineServiceAsyncStub:
        """Return a stub of the engine's service."""
        return engine_service_pb2_grpc.EngineServiceStub(self.channel)

    @property
    def executors(self) -> executor_service_pb2_grpc.ExecutorServiceAsyncStub:
        """Return a stub of the executors' service."""
        return executor_service_pb2_grpc.ExecutorServiceStub(self.channel)

    def refuse_with(self, error: BaseException) -> None:
        """Let every Submit raise."""

        async def refuse(request: Any) -> Any:
            raise error

        self.submit = refuse

    async def failed_submit(self, **options: Any) -> grpc.aio.AioRpcError:
        """Submit, and return the error."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.engine.Submit(engine_service_pb2.SubmitRequest(), **options)
        return caught.value


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Provide a running server with both scripted services."""
    services = ["dalsegno.v1.EngineService", "dalsegno.v1.ExecutorService"]
    server = Server("127.0.0.1:0", services, unhurried=["/dalsegno.v1.EngineService/Unhurried"])
    world = World(server, open_channel("unused:1"))
    engine_service_pb2_grpc.add_EngineServiceServicer_to_server(Engine(world), server.grpc)
    executor_service_pb2_grpc.add_ExecutorServiceServicer_to_server(Executors(world), server.grpc)
    await server.start()
    await server.set_ready(True)
    world.channel = open_channel(f"127.0.0.1:{server.port}")
    yield world
    await world.channel.close()
    await server.stop(0.5)
