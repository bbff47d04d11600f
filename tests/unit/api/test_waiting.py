"""Executions and tasks show what they wait for; attempts show their time limits."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.integration.engines import ScriptedExecutor, done, until
from tests.unit.api.conftest import Front

from dalsegno.v1 import action_service_pb2 as actions
from dalsegno.v1 import execution_pb2
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.v1 import executor_service_pb2 as wire

BRANCHES = 25
TEXT = """
version: '2.0'
meets:
  tasks:
    begin:
      action: std.noop
      tags: [first, quick]
      timeout: 600
      on-success: [BRANCHES]
    last: {action: std.noop, join: all}
BODIES
wide:
  tasks:
    each: {with-items: 'i in <% range(130).toList() %>', action: std.echo output=<% $.i %>}
"""
NAMES = [f"b{number}" for number in range(BRANCHES)]
TEXT = TEXT.replace("BRANCHES", ", ".join(NAMES)).replace(
    "BODIES", "\n".join(f"    {name}: {{action: std.noop, on-success: [last]}}" for name in NAMES)
)


async def task(front: Front, execution_id: str, name: str) -> execution_pb2.TaskExecution:
    """Return the only task execution of this name."""
    request = executions.ListTasksRequest(execution_id=execution_id, filter=f"name={name}")
    (found,) = (await front.executions.ListTasks(request)).tasks
    assert isinstance(found, execution_pb2.TaskExecution)
    return found


async def test_a_waiting_join_names_the_tasks_that_it_waits_for(front: Front) -> None:
    """Of 25 tasks before a join 2 have arrived: it names the first 20 of the others and counts the rest."""
    await front.define(TEXT)
    allowed = {"begin", "b0", "b7"}

    def script(run: wire.RunAction) -> wire.TaskDone | None:
        return done(run) if run.context.task_name in allowed else None

    async with ScriptedExecutor(f"127.0.0.1:{front.engine.port}", script=script) as executor:
        started = await front.start("meets")
        await until(lambda: len(executor.acks) == 3)
        join = await task(front, started.id, "last")
        begin = await task(front, started.id, "begin")

    others = [name for name in NAMES if name not in allowed]
    assert join.state == execution_pb2.TASK_STATE_WAITING
    assert join.waiting_for == f"tasks {', '.join(others[:20])} and 3 more"
    assert list(begin.tags) == ["first", "quick"]
    assert list((await front.get(started.id)).waiting_for) == []


async def test_an_attempt_tells_how_long_it_may_take(front: Front) -> None:
    """With a timeout an attempt and its task show the limit and the deadline; without one neither does."""
    await front.define(TEXT)
    started = await front.start("meets")

    request = actions.GetActionExecutionRequest(action_execution_id=f"{started.id}.1.0.1")
    attempt = (await front.actions.GetActionExecution(request)).action_execution
    begun = await task(front, started.id, "begin")

    assert attempt.timeout.ToMilliseconds() == 600_000
    assert attempt.deadline.ToMilliseconds() - attempt.ready_at.ToMilliseconds() == 600_000
    assert begun.deadline == attempt.deadline
    wide = await front.start("wide")
    request = actions.GetActionExecutionRequest(action_execution_id=f"{wide.id}.1.0.1")
    attempt = (await front.actions.GetActionExecution(request)).action_execution
    assert not attempt.HasField("timeout")
    assert (attempt.HasField("item"), attempt.item) == (True, 0)


async def test_what_is_awaited_is_cut_with_the_count(front: Front) -> None:
    """While an execution is PAUSING 130 actions run: each answer names 100 and counts 30 more."""
    await front.define(TEXT)
    held: list[Any] = []
    async with ScriptedExecutor(
        f"127.0.0.1:{front.engine.port}", script=lambda run: held.append(run), slots=200
    ) as executor:
        started = await front.start("wide")
        await until(lambda: len(executor.received) == 130)
        request = executions.PauseExecutionRequest(execution_id=started.id)
        paused = (await front.executions.PauseExecution(request)).execution

        assert (len(paused.waiting_for), paused.further_waiting_for) == (100, 30)
        assert await front.get(started.id) == paused
        listed = await front.executions.ListExecutions(executions.ListExecutionsRequest(full=True))
        assert list(listed.executions) == [paused]
        watch = executions.WatchExecutionRequest(execution_id=started.id, from_first_change=True)
        stream = front.executions.WatchExecution(watch)
        changes = (await asyncio.wait_for(anext(aiter(stream)), 10)).changes
        stream.cancel()
        assert list(changes.waiting_for) == list(paused.waiting_for)
        assert changes.further_waiting_for == 30
