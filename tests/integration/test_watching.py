"""WatchExecution and WaitExecution: everything in sequence, without gaps and repeats, across whatever breaks."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
import pytest_asyncio
from tests.processes import System, state_of

from dalsegno.v1 import execution_pb2, execution_service_pb2

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("watching")]

Watch = execution_service_pb2.WatchExecutionRequest

WORKFLOWS = """
version: '2.0'
steps:
  input: [count]
  tasks:
    begin:
      publish: {n: 0}
      on-success: [step]
    step:
      action: std.echo
      input: {output: <% $.n + 1 %>, delay: 0.005}
      publish: {n: <% task().result %>}
      on-success:
        - step: <% $.n < $.count %>
stands:
  tasks:
    wait: {action: std.async_noop, on-success: [then]}
    then: {action: std.noop}
"""
WIDE = "version: '2.0'\nwide:\n  tasks:\n" + "".join(
    f"    t{n}: {{action: std.{'async_noop' if n == 0 else 'noop'}}}\n" for n in range(1100)
)


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def definitions(shared_system: System) -> None:
    """The workflows that these tests start."""
    await shared_system.define(WORKFLOWS)


async def follow(system: System, request: Watch, until_changes: int = 0) -> list[Any]:
    """The messages of one stream: all until it ends, or until so many changes have come."""
    stream = system.executions.WatchExecution(request, timeout=60)
    messages, changes = [], 0
    async for message in stream:
        messages.append(message)
        changes += len(message.changes.changes)
        if until_changes and changes >= until_changes:
            stream.cancel()
            break
    return messages


async def read_on(stream: Any, messages: list[Any]) -> None:
    """Add what still comes."""
    while (message := await stream.read()) is not grpc.aio.EOF:
        messages.append(message)


def sequences(messages: list[Any]) -> list[int]:
    return [change.sequence for message in messages for change in message.changes.changes]


async def test_snapshot_then_every_change(system: System) -> None:
    """A watcher gets a snapshot, then each later change once and in sequence, and the stream ends at rest."""
    execution_id = await system.begin("stands")
    messages: list[Any] = []
    stream = system.executions.WatchExecution(Watch(execution_id=execution_id), timeout=60)
    async for message in stream:
        messages.append(message)
        if len(messages) == 1:
            await system.until(execution_id, lambda change: change.attempt_moved.delegated)
            await system.complete(f"{execution_id}.1.0.1")
    snapshot = messages[0].snapshot
    assert snapshot.last
    assert snapshot.execution.id == execution_id
    assert [task.name for task in snapshot.tasks] == ["wait"]
    final = await system.get(execution_id)
    assert state_of(final) == "SUCCESS"
    assert sequences(messages) == list(range(snapshot.revision + 1, final.revision + 1))
    last = [change for message in messages for change in message.changes.changes][-1]
    assert last.execution_moved.state == execution_pb2.EXECUTION_STATE_SUCCESS


async def test_from_the_first_change(system: System) -> None:
    """The whole journal can be watched from its beginning, and is what ListChanges gives."""
    execution_id = await system.begin("steps", {"count": 30})
    messages = await follow(system, Watch(execution_id=execution_id, from_first_change=True))
    assert all(message.HasField("changes") for message in messages)
    changes = [change for message in messages for change in message.changes.changes]
    assert changes == await system.journal(execution_id)
    assert [change.sequence for change in changes] == list(range(1, len(changes) + 1))
    times = [change.at.ToNanoseconds() for change in changes]
    assert times == sorted(times)


async def test_resume_after_a_broken_stream(system: System) -> None:
    """A watcher that comes back again and again with its last token gets each change exactly once."""
    execution_id = await system.begin("steps", {"count": 150})
    request = Watch(execution_id=execution_id)
    parts: list[list[Any]] = []
    while not parts or len(sequences(parts[-1])) >= 20:  # a shorter one has ended by itself
        parts.append(await follow(system, request, until_changes=20))
        if parts[-1]:  # one that begins at the end has nothing
            request.resume_token = parts[-1][-1].resume_token
    assert len(parts) > 3
    messages = [message for part in parts for message in part]
    start = messages[0].snapshot.revision
    assert sum(message.HasField("snapshot") for message in messages) == 1
    assert sequences(messages) == list(range(start + 1, start + 1 + len(sequences(messages))))
    assert state_of(await system.get(execution_id)) == "SUCCESS"


async def test_resume_after_the_end(system: System) -> None:
    """The last token of an execution at rest gives a stream that ends at once, without anything new."""
    execution = await system.run("steps", {"count": 2})
    messages = await follow(system, Watch(execution_id=execution.id))
    again = await follow(system, Watch(execution_id=execution.id, resume_token=messages[-1].resume_token))
    assert [message.WhichOneof("content") for message in again] == []


async def test_resume_across_restarts(system: System) -> None:
    """An api and an engine that are killed break the stream; with its token it continues without a gap."""
    execution_id = await system.begin("steps", {"count": 250})
    messages = await follow(system, Watch(execution_id=execution_id, from_first_change=True), until_changes=50)
    broken = Watch(execution_id=execution_id, resume_token=messages[-1].resume_token)
    stream = system.executions.WatchExecution(broken, timeout=60)
    messages.append(await stream.read())
    system.api.kill()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read_on(stream, messages)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    system.engine.kill()
    await system.start()
    token = next(message.resume_token for message in reversed(messages) if message.resume_token)
    messages += await follow(system, Watch(execution_id=execution_id, resume_token=token))
    execution = await system.get(execution_id)
    assert state_of(execution) == "SUCCESS"
    assert sequences(messages) == list(range(1, execution.revision + 1))


async def test_stream_survives_the_engine(system: System) -> None:
    """A stream at an api that stays continues by itself when the engine is killed and comes back."""
    execution_id = await system.begin("steps", {"count": 200})
    watching = asyncio.ensure_future(follow(system, Watch(execution_id=execution_id, from_first_change=True)))
    await system.until(execution_id, lambda change: change.sequence > 100)
    await system.engine.kill_and_restart()
    messages = await watching
    assert sequences(messages) == list(range(1, (await system.get(execution_id)).revision + 1))


async def test_snapshot_in_pages(system: System) -> None:
    """A snapshot of more than 1,000 tasks comes in pages; a token from within it gives a new snapshot."""
    await system.define(WIDE)
    execution_id = await system.begin("wide")
    await system.until(execution_id, lambda change: change.attempt_moved.delegated)
    pages: list[Any] = []
    stream = system.executions.WatchExecution(Watch(execution_id=execution_id), timeout=60)
    while not pages or not pages[-1].snapshot.last:
        pages.append(await stream.read())
    stream.cancel()
    assert [len(page.snapshot.tasks) for page in pages] == [1000, 100]
    assert [task.number for page in pages for task in page.snapshot.tasks] == list(range(1, 1101))
    assert pages[0].snapshot.HasField("execution")
    resumed: Any = system.executions.WatchExecution(
        Watch(execution_id=execution_id, resume_token=pages[0].resume_token), timeout=60
    )
    first = await resumed.read()
    resumed.cancel()
    assert len(first.snapshot.tasks) == 1000
    await system.cancel(execution_id)


async def test_keep_open_until_deleted(system: System) -> None:
    """With keep_open the stream stays after the end; it ends with NOT_FOUND when the execution is deleted."""
    execution = await system.run("steps", {"count": 2})
    stream: Any = system.executions.WatchExecution(Watch(execution_id=execution.id, keep_open=True), timeout=30)
    assert (await stream.read()).snapshot.last
    await system.executions.DeleteExecution(execution_service_pb2.DeleteExecutionRequest(execution_id=execution.id))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_many_watchers(system: System) -> None:
    """Fifty watchers of one execution all get the same."""
    execution_id = await system.begin("steps", {"count": 40})
    request = Watch(execution_id=execution_id, from_first_change=True)
    streams = await asyncio.gather(*(follow(system, request) for _ in range(50)))
    revision = (await system.get(execution_id)).revision
    assert {tuple(sequences(messages)) for messages in streams} == {tuple(range(1, revision + 1))}


async def test_wait_through_a_restart_of_the_engine(system: System) -> None:
    """Who waits at the api is answered at the end, also when the engine was killed meanwhile."""
    execution_id = await system.begin("steps", {"count": 150})
    request = execution_service_pb2.WaitExecutionRequest(execution_id=execution_id)
    waiting = asyncio.ensure_future(system.executions.WaitExecution(request, timeout=60))
    await system.until(execution_id, lambda change: change.sequence > 50)
    await system.engine.kill_and_restart()
    answer = await waiting
    assert (answer.at_rest, answer.reason) == (True, execution_service_pb2.WAIT_REASON_AT_REST)
    assert answer.execution == await system.get(execution_id)
