"""Actions without a workflow, over the wire: run, tried again, bound to executors, waited for, completed, cancelled."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from tests.integration.engines import Script, ScriptedExecutor, done, until
from tests.processes import CALL_S, System

from dalsegno.rpc.failure import read_failure
from dalsegno.v1 import action_service_pb2 as actions
from dalsegno.v1 import execution_pb2
from dalsegno.v1 import executor_service_pb2 as wire

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("standalone")]

_names = itertools.count()


@asynccontextmanager
async def executing(system: System, script: Script, **more: Any) -> AsyncIterator[tuple[ScriptedExecutor, str]]:
    """Connect an executor that serves one action of its own, and yield both."""
    number = next(_names)
    name, safe = f"test.alone_{number}", more.pop("safe", False)
    executor = ScriptedExecutor(
        system.engine.address, script, executor_id=f"alone-{number}", actions=((name, safe),), **more
    )
    async with executor:
        await until(lambda: executor.welcomes)
        yield executor, name


async def run(system: System, action: str, **more: Any) -> execution_pb2.ActionExecution:
    request = actions.RunActionRequest(action=action, **more)
    return (await system.actions.RunAction(request, timeout=CALL_S)).action_execution


async def wait(system: System, id: str, **more: Any) -> actions.WaitActionResponse:
    request = actions.WaitActionRequest(action_execution_id=id, **more)
    return await system.actions.WaitAction(request, timeout=CALL_S)


async def get(system: System, id: str) -> execution_pb2.ActionExecution:
    request = actions.GetActionExecutionRequest(action_execution_id=id)
    return (await system.actions.GetActionExecution(request, timeout=CALL_S)).action_execution


async def listed(system: System, filter: str) -> list[execution_pb2.ActionExecution]:
    request = actions.ListActionExecutionsRequest(filter=filter)
    return list((await system.actions.ListActionExecutions(request, timeout=CALL_S)).action_executions)


async def test_an_action_runs_without_a_workflow(system: System) -> None:
    """It has state, input and output, no task and no execution; it is found by its labels (S16, S17)."""
    ran = await run(system, "std.echo", input='{"output": [1]}', labels={"kind": "alone"}, comment="by hand")
    ended = await wait(system, ran.id)
    action = ended.action_execution
    assert ended.ended
    assert (action.state, action.input, action.result) == (
        execution_pb2.ACTION_STATE_SUCCESS,
        '{"output":[1]}',
        "[1]",
    )
    assert (action.execution_id, action.task_name, action.task_number) == ("", "", 0)
    assert action == await get(system, ran.id)
    assert [each.id for each in await listed(system, "label.kind=alone state=SUCCESS")] == [ran.id]


async def test_it_is_tried_again_after_a_failure(system: System) -> None:
    """Each attempt is an action execution of its own; a wait on the first returns the last; the retries run out."""
    outcomes = iter([wire.TASK_OUTCOME_FAILED, wire.TASK_OUTCOME_FAILED, wire.TASK_OUTCOME_SUCCEEDED])
    async with executing(system, lambda order: done(order, next(outcomes, wire.TASK_OUTCOME_FAILED))) as (found, name):
        retry = actions.RetryPolicy(count=2, delay=Duration(nanos=50_000_000))
        ran = await run(system, name, retry=retry, labels={"kind": "again"})
        ended = await wait(system, ran.id)
        assert (ended.ended, ended.action_execution.attempt) == (True, 3)
        assert ended.action_execution.state == execution_pb2.ACTION_STATE_SUCCESS
        assert [each.context.attempt for each in found.received] == [1, 2, 3]
        states = {each.attempt: (each.state, each.accepted) for each in await listed(system, "label.kind=again")}
        error = execution_pb2.ACTION_STATE_ERROR
        assert states == {1: (error, False), 2: (error, False), 3: (execution_pb2.ACTION_STATE_SUCCESS, True)}
        exhausted = (await wait(system, (await run(system, name, retry=retry)).id)).action_execution
        assert (exhausted.attempt, exhausted.state) == (3, error)


async def test_its_timeout_holds_for_each_attempt(system: System) -> None:
    """An attempt that takes too long is stopped at its executor and tried again."""

    def answer(order: wire.RunAction) -> wire.TaskDone | None:
        return done(order) if order.context.attempt == 2 else None

    async with executing(system, answer) as (found, name):
        ran = await run(system, name, timeout=Duration(seconds=3), retry=actions.RetryPolicy(count=1))
        ended = (await wait(system, ran.id)).action_execution
        assert (ended.attempt, ended.state) == (2, execution_pb2.ACTION_STATE_SUCCESS)
        assert [each.HasField("deadline") for each in found.received] == [True, True]
        await until(lambda: [each.action_execution_id for each in found.cancelled] == [ran.id])


async def test_it_runs_where_its_target_says(system: System) -> None:
    """Only an executor with the label gets it; until there is one it waits."""
    async with executing(system, done) as (found, name):
        ran = await run(system, name, target="zone=north")
        early = await wait(system, ran.id, timeout=Duration(nanos=300_000_000))
        assert not early.ended
        assert "at zone=north" in early.action_execution.waiting_for
        other = ScriptedExecutor(
            system.engine.address, done, executor_id="north", actions=((name, False),), labels={"zone": "north"}
        )
        async with other:
            assert (await wait(system, ran.id)).ended
        assert (len(found.received), len(other.received)) == (0, 1)


@pytest.mark.parametrize("safe", [True, False])
async def test_whether_it_may_run_twice_is_its_callers_choice(system: System, safe: bool) -> None:
    """`safe_to_rerun` overrides what the action declares when its executor is lost."""
    async with executing(system, lambda order: None if order.delivery == 1 else done(order), safe=not safe) as (
        found,
        name,
    ):
        ran = await run(system, name, safe_to_rerun=safe)
        await until(lambda: found.received)
        assert found.received[0].context.safe_to_rerun is safe
        await found.say(goodbye=wire.Goodbye(release=True))
        ended = (await wait(system, ran.id)).action_execution
        expected = execution_pb2.ACTION_STATE_SUCCESS if safe else execution_pb2.ACTION_STATE_ERROR
        assert (ended.state, ended.delivery) == (expected, 2 if safe else 1)


async def test_it_is_completed_from_outside(system: System) -> None:
    """As a delegate with its token, and while it runs by its id."""
    async with executing(system, lambda order: done(order, wire.TASK_OUTCOME_DELEGATED)) as (found, name):
        ran = await run(system, name)
        await until(lambda: found.acks)
        complete = actions.CompleteActionRequest(
            task_token=found.received[0].task_token, outcome=actions.COMPLETION_OUTCOME_SUCCEEDED, result="7"
        )
        waiting = asyncio.create_task(wait(system, ran.id))
        await system.actions.CompleteAction(complete, timeout=CALL_S)
        assert (await waiting).action_execution.result == "7"


async def test_it_is_cancelled(system: System) -> None:
    """The executor is told to stop it, its late outcome is superseded, and a second cancel gets the same answer; one
    that waits for its next attempt is cancelled too; one that has ended otherwise is refused."""
    async with executing(system, lambda order: None) as (found, name):
        ran = await run(system, name, retry=actions.RetryPolicy(count=5))
        await until(lambda: found.received)
        request = actions.CancelActionRequest(action_execution_id=ran.id, comment="no longer needed")
        cancelled = (await system.actions.CancelAction(request, timeout=CALL_S)).action_execution
        assert (cancelled.state, cancelled.error) == (execution_pb2.ACTION_STATE_CANCELLED, "no longer needed")
        await until(lambda: found.cancelled)
        assert (found.cancelled[0].action_execution_id, found.cancelled[0].delivery) == (ran.id, 1)
        await found.finish(found.received[0], done(found.received[0]))
        await until(lambda: found.acks)
        assert found.acks[-1].verdict == wire.ACK_VERDICT_SUPERSEDED
        assert (await system.actions.CancelAction(request, timeout=CALL_S)).action_execution == cancelled
        assert (await wait(system, ran.id)).action_execution == cancelled
    async with executing(system, lambda order: done(order, wire.TASK_OUTCOME_FAILED)) as (found, name):
        delayed = await run(system, name, retry=actions.RetryPolicy(count=5, delay=Duration(seconds=3600)))
        await until(lambda: found.acks)
        assert not (await wait(system, delayed.id, timeout=Duration(nanos=200_000_000))).ended
        request = actions.CancelActionRequest(action_execution_id=delayed.id)
        await system.actions.CancelAction(request, timeout=CALL_S)
        assert (await wait(system, delayed.id)).ended
        assert len(found.received) == 1
        failed = await run(system, name)
        await wait(system, failed.id)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await system.actions.CancelAction(actions.CancelActionRequest(action_execution_id=failed.id))
        assert read_failure(caught.value).code is grpc.StatusCode.FAILED_PRECONDITION


async def test_an_action_of_a_workflow_is_cancelled_and_waited_for(system: System) -> None:
    """Its executor stops it, and the workflow goes on as if it had reported CANCELLED."""
    async with executing(system, lambda order: None) as (found, name):
        await system.define(f"version: '2.0'\ncancels_{name[-1]}:\n  tasks:\n    one: {{action: {name}}}\n")
        execution_id = await system.begin(f"cancels_{name[-1]}")
        await until(lambda: found.received)
        id = found.received[0].action_execution_id
        waiting = asyncio.create_task(wait(system, id))
        await system.actions.CancelAction(actions.CancelActionRequest(action_execution_id=id), timeout=CALL_S)
        assert (await waiting).action_execution.state == execution_pb2.ACTION_STATE_CANCELLED
        await until(lambda: found.cancelled)
        assert (await system.wait(execution_id)).state == execution_pb2.EXECUTION_STATE_CANCELLED


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"retry": actions.RetryPolicy(count=1001)}, ["retry.count"]),
        ({"retry": actions.RetryPolicy(count=-1, delay=Duration(seconds=-1))}, ["retry.count", "retry.delay"]),
        ({"target": "x" * 1025, "timeout": Duration()}, ["target", "timeout"]),
    ],
)
async def test_what_makes_no_sense_is_refused_with_its_fields(
    system: System, fields: dict[str, Any], names: list[str]
) -> None:
    """RunAction names every wrong field, and runs nothing."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await run(system, "std.noop", **fields)
    failure = read_failure(caught.value)
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert sorted(each.subject for each in failure.violations) == names


async def test_a_wait_for_nothing_is_refused(system: System) -> None:
    """An unknown action is NOT_FOUND, an id that is none INVALID_ARGUMENT."""
    for id, code in (
        ("01890a5d-ac96-774b-bcce-b302099a8057.1.0.1", grpc.StatusCode.NOT_FOUND),
        ("x", grpc.StatusCode.INVALID_ARGUMENT),
    ):
        for call in (
            wait(system, id),
            system.actions.CancelAction(actions.CancelActionRequest(action_execution_id=id)),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is code
