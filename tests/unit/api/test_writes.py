"""Writes: which of them go to the engine together, and which wait for others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from dalsegno.api import lanes
from dalsegno.api.homes import Homes
from dalsegno.api.lanes import FURTHER_LEAST, TOGETHER_BYTES
from dalsegno.api.writes import Writes
from dalsegno.rpc.peers import Peers
from dalsegno.v1 import engine_service_pb2 as wire
from dalsegno.v1 import engine_service_pb2_grpc
from dalsegno.v1 import execution_service_pb2 as public

Starts = list[str]


class Engine(engine_service_pb2_grpc.EngineServiceServicer):
    """Notes the descriptions of the starts in each call, and answers none of those that are held before it may."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[Starts] = asyncio.Queue()
        self.held: set[str] = set()
        self.may_answer = asyncio.Event()

    async def Submit(self, request: wire.SubmitRequest, context: Any) -> wire.SubmitResponse:
        await self._take([request])
        return wire.SubmitResponse(start_execution=public.StartExecutionResponse())

    async def SubmitMany(self, request: wire.SubmitManyRequest, context: Any) -> wire.SubmitManyResponse:
        await self._take(list(request.writes))
        answer = wire.SubmitResponse(start_execution=public.StartExecutionResponse())
        return wire.SubmitManyResponse(results=[wire.WriteResult(answer=answer) for _ in request.writes])

    async def Await(self, request: wire.AwaitRequest, context: Any) -> wire.AwaitResponse:
        raise AssertionError("no answer comes later")

    def Follow(self, request: wire.FollowRequest, context: Any) -> AsyncIterator[wire.FollowResponse]:
        raise AssertionError("nobody follows")

    async def _take(self, writes: list[wire.SubmitRequest]) -> None:
        names = [each.start_execution.description for each in writes]
        self.calls.put_nowait(names)
        if self.held & set(names):
            await self.may_answer.wait()

    async def next(self) -> Starts:
        """The descriptions in the next call."""
        async with asyncio.timeout(30):
            return await self.calls.get()


class Context:
    """A call of a public method."""

    def time_remaining(self) -> float:
        """Return the time until its deadline."""
        return 20.0

    def invocation_metadata(self) -> tuple[()]:
        """Return what came with it."""
        return ()


class Caller:
    """Sends starts."""

    def __init__(self, writes: Writes) -> None:
        self._writes = writes

    def start(self, description: str, input: str = "{}") -> asyncio.Task[public.StartExecutionResponse]:
        """Send one, and return when it is answered."""
        request = public.StartExecutionRequest(workflow="wf", description=description, input=input)
        kind = public.StartExecutionResponse
        return asyncio.create_task(self._writes.submit("start_execution", request, Context(), kind))


async def serving() -> health.aio.HealthServicer:
    """Return the health of a server that is ready."""
    told = health.aio.HealthServicer()
    await told.set("", health_pb2.HealthCheckResponse.SERVING)
    return told


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[Engine]:
    """An engine, which ends with the test."""
    yield Engine()


@pytest_asyncio.fixture
async def caller(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Caller]:
    """Writes to the engine, none of whose calls counts as slow, however long it is held."""
    monkeypatch.setattr(lanes, "SLOW_S", 3600.0)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    engine_service_pb2_grpc.add_EngineServiceServicer_to_server(engine, server)
    health_pb2_grpc.add_HealthServicer_to_server(await serving(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    engines = Peers("engine", [f"127.0.0.1:{port}"])
    await engines.start()
    yield Caller(Writes(engines, Homes()))
    engine.may_answer.set()
    await engines.stop()
    await server.stop(None)


async def test_few_writes_wait_for_the_call_under_way_and_go_together(engine: Engine, caller: Caller) -> None:
    """The engine takes them as one batch."""
    engine.held = {"first"}
    tasks = [caller.start("first")]
    assert await engine.next() == ["first"]
    tasks += [caller.start("second"), caller.start("third")]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await engine.calls.get()
    engine.may_answer.set()
    assert await engine.next() == ["second", "third"]
    await asyncio.gather(*tasks)


async def test_many_writes_do_not_wait_for_the_call_under_way(engine: Engine, caller: Caller) -> None:
    """They are worth a call."""
    engine.held = {"first"}
    first = caller.start("first")
    assert await engine.next() == ["first"]
    others = [caller.start(str(number)) for number in range(FURTHER_LEAST)]
    assert len(await engine.next()) == FURTHER_LEAST
    await asyncio.gather(*others)
    assert not first.done()
    engine.may_answer.set()
    await first


@pytest.mark.parametrize("sooner", ["large", "small"])
async def test_no_write_waits_for_a_large_one(engine: Engine, caller: Caller, sooner: str) -> None:
    """A large one has a call of its own, whichever comes first."""
    engine.held = {sooner}
    inputs = {"large": f'{{"x": "{"x" * TOGETHER_BYTES}"}}', "small": "{}"}
    first = caller.start(sooner, inputs.pop(sooner))
    assert await engine.next() == [sooner]
    ((later, given),) = inputs.items()
    await asyncio.wait_for(caller.start(later, given), 30)
    assert not first.done()
    engine.may_answer.set()
    await first
