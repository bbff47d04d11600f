"""What an executor may say before the engine has dealt with what it said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

from dalsegno.engine.conductor import Conductor
from dalsegno.engine.dispatcher import Dispatcher
from dalsegno.engine.executors import Executors
from dalsegno.engine.settings import Settings
from dalsegno.engine.streams import REPORTS_BYTES_MAX, REPORTS_MAX, UNREAD_MAX, Stream
from dalsegno.engine.work import Told, Work
from dalsegno.v1 import executor_service_pb2 as wire

EXECUTION = "00000000-0000-7000-8000-000000000000"


def make_stream() -> Stream:
    return Stream("s", "x", {}, {}, 1, 1)


async def is_read_on(stream: Stream) -> bool:
    """Whether the stream would be read now."""
    try:
        await asyncio.wait_for(stream.room(), 0.01)
    except TimeoutError:
        return False
    return True


async def test_many_reports_hold_the_stream() -> None:
    """With more reports than the bound nothing is read until one of them is stored."""
    stream = make_stream()
    for _ in range(REPORTS_MAX):
        stream.take_in(10)
    assert await is_read_on(stream)
    stream.take_in(10)
    assert stream.is_held
    waiting = asyncio.create_task(stream.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    stream.settle(10)
    await asyncio.wait_for(waiting, 1)
    assert not stream.is_held


async def test_large_reports_hold_the_stream() -> None:
    """A few reports with many bytes hold it as well."""
    stream = make_stream()
    for _ in range(3):
        stream.take_in(REPORTS_BYTES_MAX // 2)
    assert not await is_read_on(stream)
    stream.settle(REPORTS_BYTES_MAX // 2)
    assert await is_read_on(stream)


async def test_acknowledgements_that_nobody_takes_hold_the_stream() -> None:
    """Who does not read is not read; but that is the executor's doing, so it has to be heard to be taken for alive."""
    stream = make_stream()
    for _ in range(UNREAD_MAX + 1):
        stream.acknowledge(wire.Ack())
    assert not await is_read_on(stream)
    assert not stream.is_held
    next(stream.messages())
    assert await is_read_on(stream)


class SlowConductor:
    """Takes everything and does nothing until the test says so."""

    def __init__(self) -> None:
        self.on_commit: list[Any] = []
        self.works: list[Told] = []
        self.dispatcher = Dispatcher(lambda attempt, delivery: "token")

    def put(self, work: Work) -> None:
        self.works.append(cast(Told, work))


async def test_an_executor_is_read_no_further_while_nothing_is_stored() -> None:
    """Of 100,000 reports about a thousand are taken in; the rest follow as these are stored, and not being read is
    no silence of the executor."""
    conductor = SlowConductor()
    executors = Executors(cast(Conductor, conductor), Settings(), "engine")
    stream = make_stream()
    executors._streams["s"] = stream
    reading = asyncio.create_task(executors._read(stream, _reports(200)))
    for _ in range(1_000):
        if stream.is_held:
            break
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert len(conductor.works) == REPORTS_MAX + 1
    assert executors.take_heard() == {"s"}
    assert executors.take_heard() == {"s"}  # it could say nothing since, and is alive
    while not reading.done():
        works, conductor.works = conductor.works, []
        assert len(works) <= REPORTS_MAX + 1
        for work in works:
            work.verdict = "accepted"
            work.done()
        for _ in stream.messages():
            """The executor takes its acknowledgements."""
        await asyncio.sleep(0)
    await reading
    assert not stream.is_held


async def _reports(messages: int) -> AsyncIterator[wire.ConnectRequest]:
    for number in range(messages):
        outcomes = [
            wire.TaskDone(
                action_execution_id=f"{EXECUTION}.{number}.{item}.1", delivery=1, outcome=wire.TASK_OUTCOME_SUCCEEDED
            )
            for item in range(500)
        ]
        yield wire.ConnectRequest(task_done=wire.TaskDoneBatch(outcomes=outcomes))
