"""What an executor does when it is asked about an engine that has ended."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from tests.integration.engines import until
from tests.unit.worker.scripted import GONE, WAITS_S, Engine, Line, MakeExecutor, order
from tests.unit.worker.test_stream import make_gated

from dalsegno.v1 import executor_service_pb2 as wire


@pytest.fixture(autouse=True)
def named(engine: Engine, other_engine: Engine) -> None:
    """Give the two engines different ids."""
    engine.engine_id, other_engine.engine_id = "first", "second"


async def ask(line: Line, engine_id: str, meanwhile: list[wire.TaskDone] | None = None) -> list[tuple[str, int]]:
    """Ask what the executor has of an engine. Return the deliveries that it names, and what it reports meanwhile."""
    await line.send(inventory=wire.InventoryRequest(engine_id=engine_id))
    async with asyncio.timeout(WAITS_S):
        while (message := await line.received.get()) is not None:
            if meanwhile is not None:
                meanwhile += message.task_done.outcomes
            if message.HasField("inventory"):
                break
    assert message is not None
    answer = message.inventory
    assert answer.engine_id == engine_id
    return [(each.action_execution_id, each.delivery) for each in answer.in_flight]


async def until_broken(line: Line) -> None:
    """Return when the executor has ended its stream."""
    await until(line.ended.done)


async def test_hello_says_that_the_executor_answers(engine: Engine, make_executor: MakeExecutor) -> None:
    """An engine asks only executors that answer."""
    make_executor()
    assert (await engine.line()).hello.answers_inventory


async def test_all_that_it_has_is_named_and_goes_on(
    engine: Engine, other_engine: Engine, make_executor: MakeExecutor
) -> None:
    """What runs and what is not acknowledged is named, also twice; the outcomes come on the stream that is left."""
    gated, gate, begun = make_gated()
    make_executor(gated, others=[other_engine])
    first, second = await engine.line(), await other_engine.line()
    await first.run(order(1, "test.gated", '{"number": 1}'), order(2))
    await second.run(order(3, "test.gated", '{"number": 3}'))
    await first.outcomes(1)
    await until(lambda: len(begun) == 2)

    everything = [("e.1.0.1", 1), ("e.2.0.1", 1), ("e.3.0.1", 1)]
    moved: list[wire.TaskDone] = []
    assert sorted(await ask(second, "first", moved)) == everything
    moved = moved or await second.outcomes(1)
    assert [each.action_execution_id for each in moved] == ["e.2.0.1"]
    assert sorted(await ask(second, "first")) == everything

    gate.set()
    found = {each.action_execution_id for each in await second.outcomes(2)}
    assert found == {"e.1.0.1", "e.3.0.1"}
    assert sorted(begun) == [1, 3]


async def test_nothing_more_is_taken_from_an_engine_that_has_ended(
    engine: Engine, other_engine: Engine, make_executor: MakeExecutor
) -> None:
    """Its stream is ended before the answer, and a new one as soon as its Welcome names it; another engine at the same
    address is welcome."""
    gated, _, begun = make_gated()
    make_executor(gated, others=[other_engine])
    first, second = await engine.line(), await other_engine.line()

    assert await ask(second, "first") == []
    await until_broken(first)
    again = await engine.line()
    with suppress(*GONE):
        await again.run(order(1, "test.gated"))
    await until_broken(again)
    assert begun == []

    engine.engine_id = "third"
    while not begun:
        line = await engine.line()
        try:
            await line.run(order(2, "test.gated", '{"number": 2}'))
        except GONE:
            continue
        await until(lambda line=line: begun or line.ended.done())  # type: ignore[misc]
    assert begun == [2]


async def test_it_answers_for_an_engine_that_it_has_never_met(engine: Engine, make_executor: MakeExecutor) -> None:
    """The engine may have ended before the executor came to it; the stream that asks stays."""
    gated, _, begun = make_gated()
    make_executor(gated)
    line = await engine.line()
    await line.run(order(1, "test.gated"))
    await until(lambda: begun)
    assert await ask(line, "unknown") == [("e.1.0.1", 1)]
    assert await ask(line, "unknown") == [("e.1.0.1", 1)]
