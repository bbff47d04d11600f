"""How streams of executors begin and end, and that slots bound what a session runs."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry
from tests.integration.engines import ScriptedExecutor, done, until
from tests.unit.engine.conftest import Desk

from dalsegno.actions.registry import load_registry
from dalsegno.engine.executors import server as executors
from dalsegno.rpc.channel import open_channel
from dalsegno.rpc.failure import Failure, read_failure
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.v1 import executor_service_pb2_grpc
from dalsegno.worker.connection import Connection
from dalsegno.worker.metrics import Metrics
from dalsegno.worker.session import Session

MANY = "version: '2.0'\nmany:\n  tasks: {t: {with-items: i in <% range(12) %>, action: std.noop}}\n"


async def ending(desk: Desk, messages: Iterable[wire.ConnectRequest]) -> Failure:
    """How the engine ends a stream on which this is said."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(to_the_end(desk, messages), 60)
    return read_failure(caught.value)


async def to_the_end(desk: Desk, messages: Iterable[wire.ConnectRequest]) -> None:
    async with open_channel(desk.address) as channel:
        call: Any = executor_service_pb2_grpc.ExecutorServiceStub(channel).Connect()
        for message in messages:
            await call.write(message)
        while await call.read() is not grpc.aio.EOF:
            pass


def hello(**more: Any) -> wire.ConnectRequest:
    fields = {"executor_id": "x", "session_id": str(uuid.uuid4()), "slots": 1, **more}
    return wire.ConnectRequest(hello=wire.Hello(**fields))


def unknown_kind() -> wire.ConnectRequest:
    """A message of a kind that only a later version of the contract has."""
    message = wire.ConnectRequest.FromString(b"\xfa\x07\x03new")  # field 127
    assert message.WhichOneof("message") is None
    return message


async def test_a_stream_that_never_says_hello_is_closed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time for it the stream ends with DEADLINE_EXCEEDED, also if it sends unknown messages."""
    monkeypatch.setattr(executors, "HELLO_WITHIN_S", 0.2)
    for said in ([], [unknown_kind()]):
        failure = await ending(desk, said)
        assert (failure.code, failure.message) == (
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "no Hello came within 0.2 s",
        )


WRONG: dict[str, tuple[list[wire.ConnectRequest], list[str]]] = {
    "no Hello first": ([wire.ConnectRequest(heartbeat=wire.Heartbeat())], ["hello"]),
    "a second Hello": ([hello(), hello()], ["hello"]),
    "credit of 0": ([hello(), wire.ConnectRequest(credit=wire.Credit())], ["credit.more"]),
    "credit below 0": ([hello(), wire.ConnectRequest(credit=wire.Credit(more=-5))], ["credit.more"]),
    "an empty batch": ([hello(), wire.ConnectRequest(task_done=wire.TaskDoneBatch())], ["task_done.outcomes"]),
    "an action that stands twice": (
        [hello(actions=[wire.ActionDescription(name="a.b"), wire.ActionDescription(name="a.b")])],
        ["hello.actions[1].name"],
    ),
    "a parameter that stands twice": (
        [hello(actions=[{"name": "a.b", "parameters": [{"name": "p"}, {"name": "p"}, {"name": ""}]}])],
        ["hello.actions[0].parameters[1].name", "hello.actions[0].parameters[2].name"],
    ),
    "a delivery of nothing": (
        [hello(in_flight=[wire.DeliveryReference(action_execution_id="x.y", delivery=1)])],
        ["hello.in_flight[0].action_execution_id"],
    ),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_not_well_formed_ends_the_stream_and_names_its_field(desk: Desk, name: str) -> None:
    """INVALID_ARGUMENT, with each field that is wrong."""
    messages, fields = WRONG[name]
    failure = await ending(desk, messages)
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.subject for violation in failure.violations] == fields


async def test_an_unknown_kind_of_message_is_ignored(desk: Desk) -> None:
    """A newer executor says more than this engine knows, before its Hello and after: it is served all the same."""
    async with open_channel(desk.address) as channel:
        call: Any = executor_service_pb2_grpc.ExecutorServiceStub(channel).Connect()
        for message in (unknown_kind(), hello(), unknown_kind(), wire.ConnectRequest()):
            await call.write(message)
        assert (await call.read()).HasField("welcome")
        await call.write(wire.ConnectRequest(goodbye=wire.Goodbye()))
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_two_streams_of_one_session_do_not_end_each_other_in_a_circle(desk: Desk) -> None:
    """The older one is told, by ABORTED and a reason of its own, not to come back; the newer one gets the work."""
    session_id = str(uuid.uuid4())
    async with ScriptedExecutor(desk.address, session_id=session_id) as first:
        await until(lambda: first.welcomes)
        async with ScriptedExecutor(desk.address, session_id=session_id) as second:
            await until(lambda: second.welcomes and first.errors)
            await asyncio.sleep(0.5)
            failure = read_failure(first.errors[0])
            assert (failure.code, failure.reason) == (grpc.StatusCode.ABORTED, "STREAM_SUPERSEDED")
            assert (len(first.welcomes), len(second.welcomes), second.errors) == (1, 1, [])
            await desk.run("std.noop")
            await until(lambda: second.received)


async def test_slots_bound_what_a_session_runs_if_its_credit_is_larger(desk: Desk) -> None:
    """With credit for a thousand and three slots three run at once, and again after a reconnect that lists them; what
    ends makes room, though nobody sends Credit."""
    await desk.create(MANY)
    executor = Greedy(desk.address, lambda run: None, slots=3)
    async with executor:
        await until(lambda: executor.welcomes)
        execution = await desk.start("many")
        await until(lambda: len(executor.received) >= 3)
        await settles(lambda: len(executor.received))
        assert len(executor.held) == 3
        await executor.die()
    async with executor:
        await until(lambda: len(executor.welcomes) == 2)
        await settles(lambda: len(executor.received))
        assert len(executor.held) == 3
        while executor.held:
            run = next(iter(executor.held.values()))
            count = len(executor.received)
            await executor.finish(run, done(run))
            await until(lambda n=count: len(executor.received) >= min(12, n + 1))  # type: ignore[misc]
            await settles(lambda: len(executor.received), 0.1)
            assert len(executor.received) == min(12, count + 1)
            assert len(executor.held) <= 3
        assert (await desk.wait(execution.id)).state == "SUCCESS"


async def test_delegates_and_the_cancelled_hold_no_slot(desk: Desk) -> None:
    """An action that a third party completes, and one that is cancelled, makes room for the next."""
    executor = Greedy(desk.address, lambda run: None, slots=1)
    async with executor:
        await until(lambda: executor.welcomes)
        for _ in range(3):
            await desk.run("std.noop", request_id=str(uuid.uuid4()))
        await until(lambda: executor.received)
        await settles(lambda: len(executor.received))
        assert len(executor.received) == 1
        for count in (1, 2):
            run = executor.received[-1]
            await executor.finish(run, done(run, wire.TASK_OUTCOME_DELEGATED))
            await until(lambda n=count: len(executor.received) == n + 1)  # type: ignore[misc]


async def test_an_executor_with_two_addresses_of_one_engine_keeps_one_stream(desk: Desk) -> None:
    """The standard executor stands by with the other address, and takes it up when the first is of no use any more."""
    addresses = [desk.address, desk.address.replace("127.0.0.1", "localhost")]
    registry = load_registry(plugins=())
    session = Session("x", registry, addresses, slots=2, threads=1, labels={}, metrics=Metrics(CollectorRegistry()))
    channels = [open_channel(address) for address in addresses]
    connections = [Connection(session, *pair) for pair in zip(addresses, channels, strict=True)]
    tasks = [asyncio.create_task(connection.run()) for connection in connections]
    await until(lambda: any(connection.is_connected for connection in connections))
    await settles(lambda: [connection.is_connected for connection in connections], 1.0)
    before = [connection.is_connected for connection in connections]
    assert sorted(before) == [False, True]
    await settles(lambda: [connection.is_connected for connection in connections], 1.0)
    assert [connection.is_connected for connection in connections] == before
    assert not session.superseded.is_set()
    await desk.run("std.noop")
    await until(lambda: session.is_idle)
    index = before.index(True)
    tasks[index].cancel()
    await until(lambda: connections[1 - index].is_connected)
    tasks[1 - index].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for channel in channels:
        await channel.close()


class Greedy(ScriptedExecutor):
    """Takes a thousand more, beside what it has."""

    def _hello(self) -> wire.Hello:
        message = super()._hello()
        message.credit = 1_000
        return message

    async def finish(self, run: wire.RunAction, outcome: wire.TaskDone) -> None:
        self.held.pop((run.action_execution_id, run.delivery), None)
        await self.say(task_done=wire.TaskDoneBatch(outcomes=[outcome]))


async def settles(look: Callable[[], object], for_s: float = 0.3) -> None:
    """Return once what is looked at has not changed for so long."""
    before = None
    while (now := look()) != before:
        before = now
        await asyncio.sleep(for_s)
