"""What an executor may say before the engine has handled what it said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from dalsegno.engine.batches.conductor import Conductor
from dalsegno.engine.batches.work import DeliverEvent, Work
from dalsegno.engine.executors.callbacks import Callbacks
from dalsegno.engine.executors.dispatcher import Dispatcher
from dalsegno.engine.executors.progress import Board
from dalsegno.engine.executors.server import Executors
from dalsegno.engine.executors.streams import REPORTS_BYTES_MAX, REPORTS_MAX, UNREAD_MAX, ExecutorStream, count_down
from dalsegno.engine.executors.tokens import new_key
from dalsegno.engine.settings import Settings
from dalsegno.rpc import convert
from dalsegno.rpc.sizes import MESSAGE_BYTES_MAX
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.workflow.events import Verdict
from dalsegno.workflow.value import VALUE_BYTES_MAX

EXECUTION = "00000000-0000-7000-8000-000000000000"
DEFAULT_LIMIT_BYTES = 4 * 1024 * 1024
"""What gRPC's receivers take unless somebody raises it."""


def make_stream() -> ExecutorStream:
    return ExecutorStream("s", "x", {}, {}, 1, 1)


async def is_read_on(stream: ExecutorStream) -> bool:
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
        self.works: list[DeliverEvent] = []

    def nudge(self) -> None:
        pass

    def put(self, work: Work) -> None:
        self.works.append(cast(DeliverEvent, work))


def make_executors(conductor: SlowConductor) -> Executors:
    async def unread(_: object) -> None:
        raise AssertionError("reports of executors that may serve everything cost no read")

    dispatcher = Dispatcher(Callbacks(new_key()))
    return Executors(cast(Conductor, conductor), dispatcher, Settings(), "engine", Board(), 0, unread)


async def test_who_has_said_something_since_the_last_look_is_alive() -> None:
    """A message counts once, also when the stream has ended since: the lease counts from the last message."""
    executors = make_executors(SlowConductor())
    stream = make_stream()
    executors._enter(stream)
    executors.take_heard()
    assert executors.take_heard() == set()
    stream.heard = True
    assert executors.take_heard() == {"s"}
    assert executors.take_heard() == set()
    stream.heard = True
    executors._leave(stream)
    assert executors.take_heard() == {"s"}
    assert executors.take_heard() == set()


async def test_when_the_engine_stops_streams_end_after_the_grace() -> None:
    """Executors are told to finish, get nothing more, and are waited for; those that stay are ended."""
    executors = make_executors(SlowConductor())
    stream = make_stream()
    executors._enter(stream)
    draining = asyncio.create_task(executors.drain(0.05))
    await asyncio.sleep(0)
    (message,) = stream.messages()
    assert (message.WhichOneof("message"), stream.is_open, stream.is_ended) == ("drain", False, False)
    await draining
    assert (stream.is_ended, str(stream.ending)) == (True, "the engine is stopping")


async def test_when_the_engine_stops_it_waits_for_nobody_who_has_left() -> None:
    """With the last stream the wait is over."""
    executors = make_executors(SlowConductor())
    stream = make_stream()
    executors._enter(stream)
    asyncio.get_running_loop().call_soon(executors._leave, stream)
    await asyncio.wait_for(executors.drain(60), 5)
    assert not stream.is_ended


@pytest.mark.long("many megabytes")
async def test_an_executor_is_read_no_further_while_nothing_is_stored() -> None:
    """Of 100,000 reports about a thousand are taken in; the rest follow as these are stored, and not being read is
    no silence of the executor."""
    conductor = SlowConductor()
    executors = make_executors(conductor)
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
            work.verdict = Verdict.ACCEPTED
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


def sent(stream: ExecutorStream) -> list[wire.ConnectResponse]:
    """What the stream writes, each message as gRPC's default limit lets a receiver take it."""
    found = list(stream.messages())
    assert max(message.ByteSize() for message in found) <= DEFAULT_LIMIT_BYTES
    return found


def test_actions_to_run_are_sent_in_batches_cut_by_bytes() -> None:
    """100 inputs of 100,000 characters, each of 3 bytes, make ten times what so many characters of ASCII would fill;
    all are sent, in order, in messages of at most 3.5 MiB, also when it is written how much time each has left."""
    stream = make_stream()
    deadline = convert.timestamp(2_000.0)
    runs = [
        wire.RunAction(action_execution_id=f"{EXECUTION}.{n}.0.1", input="€" * 100_000, deadline=deadline)
        for n in range(100)
    ]
    stream.run(runs)

    messages = sent(stream)

    for message in messages:
        count_down(message, 1_000.0)
    assert max(message.ByteSize() for message in messages) <= MESSAGE_BYTES_MAX
    assert [run.action_execution_id for message in messages for run in message.run_action.actions] == [
        run.action_execution_id for run in runs
    ]
    assert {len(message.run_action.actions) for message in messages[:-1]} == {12}


def test_an_input_of_the_longest_value_is_sent_alone() -> None:
    """4,000,000 bytes of characters that are no ASCII, with the longest names beside them, fit the default limit."""
    stream = make_stream()
    long = "ä" * 255
    context = wire.ActionContext(namespace=long, workflow=long, task_name=long, execution_id=EXECUTION)
    largest = wire.RunAction(action=long, input="ä" * (VALUE_BYTES_MAX // 2), context=context, task_token="t" * 200)
    small = wire.RunAction(input="{}")
    stream.run([small, largest, small])

    assert [len(message.run_action.actions) for message in sent(stream)] == [1, 1, 1]


async def test_acknowledgements_are_sent_in_batches_cut_by_bytes() -> None:
    """500 refusals with sentences of 20,000 characters, each of 3 bytes, come in several messages within the limit."""
    stream = make_stream()
    for number in range(500):
        stream.acknowledge(wire.Ack(action_execution_id=f"{EXECUTION}.{number}.0.1", reason="€" * 20_000))

    messages = sent(stream)

    assert max(message.ByteSize() for message in messages) <= MESSAGE_BYTES_MAX
    assert len(messages) == 9
    names = [ack.action_execution_id for message in messages for ack in message.ack.acks]
    assert names == [f"{EXECUTION}.{number}.0.1" for number in range(500)]
