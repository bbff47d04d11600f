"""Two engines in one process, over the wire: what becomes of an executor's work when one of them has ended."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from unittest.mock import patch

import grpc
import pytest
import pytest_asyncio
from tests.integration.engines import ScriptedExecutor, done, until, wire
from tests.unit.engine.conftest import Desk

from dalsegno.engine import service
from dalsegno.engine.executors import dispatcher
from dalsegno.engine.service import Engine
from dalsegno.engine.settings import Settings
from dalsegno.rpc.channel import open_channel
from dalsegno.store.memory import MemoryStore
from dalsegno.v1 import engine_service_pb2_grpc
from dalsegno.workflow.identity import parse_attempt_id

LEASE_S = 1.0


@dataclass
class Two:
    """Two engines on one store."""

    first: Desk
    second: Desk

    def end_first(self) -> None:
        """End the first engine, as the second one does when it is silent."""
        self.first.store.end_engine(self.first.engine.number)


@pytest.fixture(autouse=True)
def ticks() -> Iterator[None]:
    """Let engines look at each other and at their executors more often than once a second."""
    with patch.object(service, "TICK_S", 0.1):
        yield


@pytest_asyncio.fixture
async def two() -> AsyncIterator[Two]:
    store = MemoryStore()
    settings = Settings(listen="127.0.0.1:0", grace_s=0.2, lease_s=LEASE_S, heartbeat_s=0.3)
    engines = [Engine(settings, store, is_only_engine=False) for _ in range(2)]
    desks: list[Desk] = []
    async with asyncio.timeout(60):
        for engine in engines:
            await engine.start()
            channel = open_channel(f"127.0.0.1:{engine.port}")
            desks.append(Desk(engine, store, engine_service_pb2_grpc.EngineServiceStub(channel)))
        yield Two(*desks)
        for engine in engines:
            await engine.stop()


class Session:
    """One session of an executor, with a stream to each engine. It holds every action until it is told to end it."""

    def __init__(self, two: Two, **more: object) -> None:
        self.first = ScriptedExecutor(
            two.first.address,
            lambda run: None,
            session_id=str(uuid.uuid4()),
            slots=10,
            **more,  # type: ignore[arg-type]
        )
        self.second = ScriptedExecutor(
            two.second.address,
            *(lambda run: None, "scripted", self.first.session_id),
            slots=10,
            held=self.first.held,
            reported=self.first.reported,
            **more,  # type: ignore[arg-type]
        )

    async def __aenter__(self) -> Session:
        await self.first.__aenter__()
        await until(lambda: self.first.welcomes)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.first.die()
        await self.second.die()

    async def open_second(self) -> None:
        """Open the stream to the second engine."""
        await self.second.__aenter__()
        await until(lambda: self.second.welcomes)

    async def receive(self, two: Two, count: int) -> list[wire.RunAction]:
        """What the first engine hands out of so many actions that are not safe to repeat."""
        for _ in range(count):
            await two.first.run("test.unsafe")
        await until(lambda: len(self.first.received) == count)
        return self.first.received

    def never_received(self, run: wire.RunAction) -> None:
        """Be as if this delivery had not come."""
        del self.first.held[run.action_execution_id, run.delivery]


async def finish(executor: ScriptedExecutor, two: Two, run: wire.RunAction) -> str:
    """Report an action on this stream. Return the state of its execution in the end."""
    await executor.finish(run, done(run))
    execution_id, _ = parse_attempt_id(run.action_execution_id)
    return (await two.second.wait(execution_id)).state


@pytest.mark.parametrize("answers_inventory", [True, False])
async def test_a_hello_to_the_other_engine_loses_nothing(two: Two, answers_inventory: bool) -> None:
    """What the first engine has handed out and the Hello to the second one does not list, because it came after it,
    stays with the executor, and is not sent again."""
    async with Session(two, answers_inventory=answers_inventory) as session:
        (run,) = await session.receive(two, 1)
        session.never_received(run)
        await session.open_second()
        session.first.held[run.action_execution_id, run.delivery] = run
        assert await finish(session.first, two, run) == "SUCCESS"
        assert session.second.received == []
        assert session.second.asked == []


async def test_the_other_engine_asks_what_the_executor_has(two: Two) -> None:
    """What it has goes on, what it has not is sent again, though it is not safe to repeat: it never began."""
    async with Session(two, answers_inventory=True) as session:
        kept, missed = await session.receive(two, 2)
        await session.open_second()
        session.never_received(missed)
        two.end_first()
        await until(lambda: session.second.received)
        (again,) = session.second.received
        assert (again.action_execution_id, again.delivery) == (missed.action_execution_id, 2)
        assert session.second.asked == [two.first.engine.id]
        assert [await finish(session.second, two, run) for run in (kept, again)] == ["SUCCESS", "SUCCESS"]
        await until(lambda: len(session.second.acks) == 2)
        assert {ack.verdict for ack in session.second.acks} == {wire.ACK_VERDICT_ACCEPTED}


async def test_an_executor_is_asked_after_its_hello_too(two: Two) -> None:
    """One that comes to the other engine only when its own has ended is asked at once."""
    async with Session(two, answers_inventory=True) as session:
        kept, missed = await session.receive(two, 2)
        session.never_received(missed)
        two.end_first()
        await session.open_second()
        await until(lambda: session.second.received)
        assert session.second.asked == [two.first.engine.id]
        assert await finish(session.second, two, kept) == "SUCCESS"


async def test_an_executor_without_inventory_says_hello_again(two: Two) -> None:
    """Its stream to the other engine is ended, and its next Hello tells what it has; it is not ended again."""
    async with Session(two) as session:
        kept, missed = await session.receive(two, 2)
        await session.open_second()
        session.never_received(missed)
        two.end_first()
        await until(lambda: session.second.received)
        assert [run.action_execution_id for run in session.second.received] == [missed.action_execution_id]
        await until(lambda: session.second.errors)
        assert [error.code() for error in session.second.errors] == [grpc.StatusCode.UNAVAILABLE]
        assert "say Hello again" in str(session.second.errors[0].details())
        await asyncio.sleep(0.5)
        assert len(session.second.welcomes) == 2
        assert session.second.asked == []
        assert await finish(session.second, two, kept) == "SUCCESS"


async def test_an_executor_that_does_not_answer_loses_its_work(two: Two) -> None:
    """After a lease time its session ends: what is not safe to repeat fails with an error that names it. Nobody waits
    for ever."""
    async with Session(two, answers_inventory=True, tells_inventory=False) as session:
        (run,) = await session.receive(two, 1)
        await session.open_second()
        two.end_first()
        execution_id, key = parse_attempt_id(run.action_execution_id)
        assert (await two.second.wait(execution_id)).state == "ERROR"
        attempt = two.second.read(lambda queries: queries.attempt(execution_id, key))
        assert "executor 'scripted' was lost" in attempt.error
        await until(lambda: any("did not answer" in str(error.details()) for error in session.second.errors))


async def test_an_engine_that_was_ended_takes_nothing_more(two: Two) -> None:
    """Who asks it for anything is told that it cannot write; it says that it is to be stopped."""
    two.end_first()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await two.first.run("std.noop")
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    await asyncio.wait_for(two.first.engine.ended.wait(), 10)
    assert not two.second.engine.ended.is_set()
    assert (await two.second.run("std.noop")).id


async def test_an_inventory_that_breaks_the_contract_ends_the_stream(two: Two) -> None:
    """It is refused with the place of what is wrong; one that nobody asked for is ignored."""
    async with Session(two, answers_inventory=True) as session:
        await session.first.say(inventory=wire.Inventory(engine_id="nobody asked"))
        (run,) = await session.receive(two, 1)
        assert await finish(session.first, two, run) == "SUCCESS"
        wrong = wire.DeliveryReference(action_execution_id="nonsense", delivery=1)
        await session.first.say(inventory=wire.Inventory(engine_id="e", in_flight=[wrong]))
        await until(lambda: session.first.errors)
        assert session.first.errors[0].code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "inventory.in_flight[0].action_execution_id" in str(session.first.errors[0].details())


async def test_what_an_ended_engine_had_not_handed_out_goes_to_another_one(two: Two) -> None:
    """No executor serves the first engine; when it has ended, what was READY there is handed out by the second."""
    async with Session(two) as session:
        await session.open_second()
        await session.first.die()
        await until(lambda: not two.first.engine._executors.count)
        with patch.object(dispatcher, "HELP_AFTER_S", 1e9):
            waiting = await two.first.run("test.unsafe")
            two.end_first()
            await until(lambda: session.second.received)
        assert [run.action_execution_id for run in session.second.received] == [waiting.id]
