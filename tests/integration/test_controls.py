"""Pause, resume, cancel, outside completion, standalone actions and restarts, through the three services."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import pytest
import pytest_asyncio
from tests.endpoints import Endpoint
from tests.integration.engines import ScriptedExecutor, done
from tests.integration.engines import until as until_true
from tests.processes import System, state_of

from dalsegno.v1 import action_service_pb2, change_pb2, execution_pb2, execution_service_pb2, executor_service_pb2

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("controls")]

Complete = action_service_pb2.CompleteActionRequest
SUCCEEDED = action_service_pb2.COMPLETION_OUTCOME_SUCCEEDED
FAILED = action_service_pb2.COMPLETION_OUTCOME_FAILED

WORKFLOWS = """
version: '2.0'

held:
  input: [url]
  tasks:
    hold: {action: std.http, input: {url: <% $.url %>}, on-success: [then]}
    then: {action: std.noop}

above:
  tasks:
    below: {workflow: below, on-success: [last]}
    beside: {workflow: below}
    last: {action: std.noop}
below:
  tasks:
    wait: {action: std.async_noop, on-success: [then]}
    then: {action: std.noop}

asked:
  tasks:
    ask: {action: std.async_noop, publish: {answer: <% task().result %>}, on-success: [then], on-error: [otherwise]}
    then: {action: std.noop}
    otherwise: {action: std.noop}
  output: {answer: <% $.get(answer) %>}

paused_before:
  tasks:
    first: {action: std.noop, on-success: [second]}
    second: {pause-before: true, action: std.noop}

delegates:
  tasks:
    ask: {action: test.delegate, publish: {answer: <% task().result %>}, on-success: [then]}
    then: {action: std.noop}
  output: {answer: <% $.answer %>}

delayed:
  tasks:
    before: {wait-before: 2, action: std.noop}
    after: {wait-after: 2, action: std.noop}
    again: {action: std.fail, retry: {count: 1, delay: 2}, on-error: [mend]}
    mend: {action: std.noop}

limited:
  tasks:
    slow: {action: std.async_noop, timeout: 4, on-error: [mend]}
    mend: {action: std.noop}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def definitions(shared_system: System) -> None:
    """The workflows that these tests start, and the description of an action that only their executor serves."""
    await shared_system.define(WORKFLOWS)


async def pause(system: System, execution_id: str) -> execution_pb2.Execution:
    request = execution_service_pb2.PauseExecutionRequest(execution_id=execution_id, comment="wait a moment")
    return (await system.executions.PauseExecution(request)).execution


async def resume(system: System, execution_id: str) -> execution_pb2.Execution:
    request = execution_service_pb2.ResumeExecutionRequest(execution_id=execution_id)
    return (await system.executions.ResumeExecution(request)).execution


async def states(system: System, execution_id: str) -> dict[str, str]:
    return {task.name: state_of(task) for task in await system.tasks(execution_id)}


async def moved_to(system: System, execution_id: str, state: execution_pb2.ExecutionState.ValueType) -> None:
    """Return when the execution has come to this state."""
    await system.until(execution_id, lambda change: change.execution_moved.state == state)


def is_delegated(change: change_pb2.Change) -> bool:
    return change.attempt_moved.delegated


# Pause and resume


async def test_pause_is_quiet(system: System) -> None:
    """Pausing lets what runs end and starts nothing new; then the execution is PAUSED until it is resumed (O1-O5)."""
    async with Endpoint() as endpoint:
        execution_id = await system.begin("held", {"url": f"{endpoint.url}/held"})
        await endpoint.until_asked("/held")
        pausing = await pause(system, execution_id)
        assert state_of(pausing) == "PAUSING"
        waiting = await system.get(execution_id)
        assert list(waiting.waiting_for) == [f"{execution_id}.1.0.1"]
        endpoint.release.set()
        paused = await system.wait(execution_id)
    assert state_of(paused) == "PAUSED"
    assert paused.active_count == 0
    assert (await states(system, execution_id)).get("then", "IDLE") == "IDLE"
    moves = [change for change in await system.journal(execution_id) if change.HasField("execution_moved")]
    assert "wait a moment" in [change.comment for change in moves]
    await resume(system, execution_id)
    assert state_of(await system.wait(execution_id)) == "SUCCESS"
    assert await states(system, execution_id) == {"hold": "SUCCESS", "then": "SUCCESS"}


async def test_pause_before(system: System) -> None:
    """A task with pause-before pauses its workflow; resumed, it runs."""
    execution_id = await system.begin("paused_before")
    assert state_of(await system.wait(execution_id)) == "PAUSED"
    assert (await states(system, execution_id))["second"] == "IDLE"
    request = execution_service_pb2.WaitExecutionRequest(execution_id=execution_id)
    answer = await system.executions.WaitExecution(request)
    assert (answer.at_rest, answer.reason) == (False, execution_service_pb2.WAIT_REASON_PAUSED)
    request.through_pauses = True
    waiting = asyncio.ensure_future(system.executions.WaitExecution(request, timeout=30))
    await resume(system, execution_id)
    assert state_of((await waiting).execution) == "SUCCESS"


async def children_of(system: System, execution_id: str) -> dict[str, str]:
    """The child of each task, once there are two."""
    seen: dict[str, str] = {}

    def notes(change: change_pb2.Change) -> bool:
        added = change.attempt_added
        if added.child_execution_id:
            seen[added.task_name] = added.child_execution_id
        return len(seen) == 2

    await system.until(execution_id, notes)
    for child in seen.values():
        await system.until(child, is_delegated)
    return seen


async def test_pause_and_resume_cascade_down(system: System) -> None:
    """Pause and resume of a parent reach its sub-workflows (O6, O7)."""
    execution_id = await system.begin("above")
    children = await children_of(system, execution_id)
    await pause(system, execution_id)
    for child in children.values():
        await moved_to(system, child, execution_pb2.EXECUTION_STATE_PAUSED)
    assert state_of(await system.wait(execution_id)) == "PAUSED"
    await resume(system, execution_id)
    for child in children.values():
        await system.complete(f"{child}.1.0.1")
    assert state_of(await system.wait(execution_id)) == "SUCCESS"


async def test_pause_of_a_child_stays_there(system: System) -> None:
    """Pausing a sub-workflow pauses neither parent nor peers; the parent does not end before it is resumed (O8-O12)."""
    execution_id = await system.begin("above")
    children = await children_of(system, execution_id)
    await pause(system, children["below"])
    await system.complete(f"{children['below']}.1.0.1")
    await system.complete(f"{children['beside']}.1.0.1")
    assert state_of(await system.wait(children["beside"])) == "SUCCESS"
    assert state_of(await system.wait(children["below"])) == "PAUSED"
    assert state_of(await system.get(execution_id)) == "RUNNING"
    await resume(system, children["below"])
    assert state_of(await system.wait(execution_id)) == "SUCCESS"


# Cancel


async def test_cancel_lets_what_runs_end(system: System) -> None:
    """Cancelling lets running actions end and starts nothing new: CANCELLING, then CANCELLED (O13, O14, O15)."""
    async with Endpoint() as endpoint:
        execution_id = await system.begin("held", {"url": f"{endpoint.url}/held"})
        await endpoint.until_asked("/held")
        await system.cancel(execution_id)
        assert state_of(await system.get(execution_id)) == "CANCELLING"
        endpoint.release.set()
        cancelled = await system.wait(execution_id)
    assert state_of(cancelled) == "CANCELLED"
    (attempt,) = await system.attempts(execution_id)
    assert state_of(attempt) == "SUCCESS"
    assert "then" not in await states(system, execution_id)


async def test_cancel_cascades_down(system: System) -> None:
    """Cancelling a parent cancels its sub-workflows."""
    execution_id = await system.begin("above")
    children = await children_of(system, execution_id)
    await system.cancel(execution_id)
    for child in children.values():
        assert state_of(await system.wait(child)) == "CANCELLED"
    assert state_of(await system.wait(execution_id)) == "CANCELLED"


# Completion from outside


async def test_completed_by_id(system: System) -> None:
    """std.async_noop waits until somebody completes it by its id, with a result that the workflow reads (P7, P14)."""
    execution_id = await system.begin("asked")
    await system.until(execution_id, is_delegated)
    await system.complete(f"{execution_id}.1.0.1", {"yes": [1, 2]})
    execution = await system.wait(execution_id)
    assert json.loads(execution.output) == {"answer": {"yes": [1, 2]}}


async def test_completed_as_failed(system: System) -> None:
    """A delegate may be completed as failed: its error transitions run (P16)."""
    execution_id = await system.begin("asked")
    await system.until(execution_id, is_delegated)
    failed = Complete(action_execution_id=f"{execution_id}.1.0.1", outcome=FAILED, error="refused at the door")
    answer = await system.actions.CompleteAction(failed)
    assert (state_of(answer.action_execution), answer.action_execution.error) == ("ERROR", "refused at the door")
    assert state_of(await system.wait(execution_id)) == "SUCCESS"
    assert await states(system, execution_id) == {"ask": "ERROR", "otherwise": "SUCCESS"}


async def test_completed_twice(system: System) -> None:
    """The same completion again gets the same answer, another one is refused; the workflow continues once (P24)."""
    execution_id = await system.begin("asked")
    await system.until(execution_id, is_delegated)
    request = Complete(action_execution_id=f"{execution_id}.1.0.1", outcome=SUCCEEDED, result="1")
    first = await system.actions.CompleteAction(request)
    await system.wait(execution_id)
    revision = (await system.get(execution_id)).revision
    again = await system.actions.CompleteAction(request)
    assert again.action_execution == first.action_execution
    other = Complete(action_execution_id=request.action_execution_id, outcome=FAILED, error="no")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await system.actions.CompleteAction(other)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert (await system.get(execution_id)).revision == revision
    assert await states(system, execution_id) == {"ask": "SUCCESS", "then": "SUCCESS"}


def delegating(system: System, script: Any) -> ScriptedExecutor:
    """An executor of our own on the public contract, whose action hands its work to somebody else."""
    return ScriptedExecutor(
        system.engine.address, script, executor_id="delegating", actions=(("test.delegate", False),)
    )


async def test_completed_by_token(system: System) -> None:
    """Who was given the task token completes the action with it, once; a token that was altered is refused (P23)."""
    async with delegating(system, lambda run: done(run, executor_service_pb2.TASK_OUTCOME_DELEGATED)) as executor:
        await until_true(lambda: executor.welcomes)
        execution_id = await system.begin("delegates")
        await system.until(execution_id, is_delegated)
        token = executor.received[0].task_token
        forged = token[:-1] + ("0" if token[-1] != "0" else "1")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await system.actions.CompleteAction(Complete(task_token=forged, outcome=SUCCEEDED))
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        for _ in range(2):
            await system.actions.CompleteAction(Complete(task_token=token, outcome=SUCCEEDED, result='"signed"'))
        execution = await system.wait(execution_id)
    assert json.loads(execution.output) == {"answer": "signed"}
    assert await states(system, execution_id) == {"ask": "SUCCESS", "then": "SUCCESS"}


async def test_callback_before_the_executor_reports(system: System) -> None:
    """A completion that arrives before the executor said "delegated" counts, and what it says later does not (P26)."""
    async with delegating(system, lambda run: None) as executor:
        await until_true(lambda: executor.welcomes)
        execution_id = await system.begin("delegates")
        await until_true(lambda: executor.received)
        run = executor.received[0]
        await system.actions.CompleteAction(Complete(task_token=run.task_token, outcome=SUCCEEDED, result="7"))
        await executor.finish(run, done(run, executor_service_pb2.TASK_OUTCOME_DELEGATED))
        await until_true(lambda: executor.acks)
        assert executor.acks[0].verdict == executor_service_pb2.ACK_VERDICT_SUPERSEDED
        execution = await system.wait(execution_id)
    assert json.loads(execution.output) == {"answer": 7}


async def test_delegate_survives_restarts(system: System) -> None:
    """A waiting delegate survives kill -9 of all three services and holds no slot meanwhile (P11, P12)."""
    async with delegating(system, lambda run: done(run, executor_service_pb2.TASK_OUTCOME_DELEGATED)) as executor:
        await until_true(lambda: executor.welcomes)
        execution_id = await system.begin("delegates")
        await system.until(execution_id, is_delegated)
        token = executor.received[0].task_token
    for service in system.services:
        service.kill()
    await system.start()
    assert (await system.get(execution_id)).active_count == 0
    await system.actions.CompleteAction(Complete(task_token=token, outcome=SUCCEEDED, result='"late"'), timeout=30)
    assert json.loads((await system.wait(execution_id)).output) == {"answer": "late"}


# Standalone actions


async def test_standalone_action(system: System) -> None:
    """An action runs on its own, belonging to no task; its result and its failure can be read (S16, S17)."""
    request = action_service_pb2.RunActionRequest(action="std.echo", input='{"output": [1]}', labels={"of": "mine"})
    echo = (await system.actions.RunAction(request)).action_execution
    fail = (await system.actions.RunAction(action_service_pb2.RunActionRequest(action="std.fail"))).action_execution
    ended = [await attempt_ended(system, each.id) for each in (echo, fail)]
    assert [state_of(each) for each in ended] == ["SUCCESS", "ERROR"]
    assert (ended[0].result, ended[0].execution_id, ended[0].task_number) == ("[1]", "", 0)
    assert "Fail action" in ended[1].error
    listed = await system.actions.ListActionExecutions(
        action_service_pb2.ListActionExecutionsRequest(filter="label.of=mine")
    )
    assert [each.id for each in listed.action_executions] == [echo.id]


async def test_standalone_action_ends_at_its_deadline(system: System) -> None:
    """An action that takes longer than its timeout is stopped."""
    request = action_service_pb2.RunActionRequest(action="std.sleep", input='{"seconds": 60}')
    request.timeout.FromMilliseconds(200)
    started = (await system.actions.RunAction(request)).action_execution
    ended = await attempt_ended(system, started.id)
    assert state_of(ended) in ("CANCELLED", "ERROR")
    assert ended.ended_at.ToNanoseconds() - ended.ready_at.ToNanoseconds() < 10e9


async def test_the_executor_and_all_reads_have_the_same_deadline(system: System) -> None:
    """RunAction's timeout counts from the hand-out, a task's from its beginning; reads, lists and watchers
    show the deadline that the executor was sent, while the action runs and afterwards (decision 8)."""
    await system.define("version: '2.0'\ntimed:\n  tasks:\n    t: {action: test.timed, timeout: 90}\n")
    actions = (("test.timed", True),)
    async with ScriptedExecutor(
        system.engine.address, lambda run: None, executor_id="timed", actions=actions, slots=1
    ) as executor:
        await until_true(lambda: executor.welcomes)
        execution_id = await system.begin("timed")
        request = action_service_pb2.RunActionRequest(action="test.timed", labels={"of": "deadlines"})
        request.timeout.FromSeconds(60)
        ready = (await system.actions.RunAction(request)).action_execution
        assert not ready.HasField("deadline")
        await until_true(lambda: executor.received)
        await asyncio.sleep(0.5)  # the executor takes one at a time
        first = executor.received[0]
        await executor.finish(first, done(first))
        await executor.say(credit=executor_service_pb2.Credit(more=1))
        await until_true(lambda: len(executor.received) == 2)
        second = executor.received[1]
        for run, length_s in ((first, 90), (second, 60)):
            assert length_s - 5 < run.time_left.ToNanoseconds() / 1e9 <= length_s
        await same_deadline(system, second, "", "label.of=deadlines", length_s=60)
        await executor.finish(second, done(second))
        await attempt_ended(system, ready.id)
        await same_deadline(system, second, "", "label.of=deadlines", length_s=60)
        await same_deadline(system, first, execution_id, "", length_s=90)
        change = await system.until(execution_id, lambda change: change.attempt_moved.delivery)
        assert change.attempt_moved.deadline == first.deadline


async def same_deadline(
    system: System, run: executor_service_pb2.RunAction, execution_id: str, chosen: str, *, length_s: int
) -> None:
    """What the reads show of an action's deadline is what its executor was sent: so long after it began."""
    request = action_service_pb2.GetActionExecutionRequest(action_execution_id=run.action_execution_id)
    read = (await system.actions.GetActionExecution(request)).action_execution
    listing = action_service_pb2.ListActionExecutionsRequest(execution_id=execution_id, filter=chosen)
    (listed,) = (await system.actions.ListActionExecutions(listing)).action_executions
    assert read.deadline == listed.deadline == run.deadline
    began = read.ready_at if execution_id else read.started_at
    assert run.deadline.ToNanoseconds() - began.ToNanoseconds() == pytest.approx(length_s * 1e9, abs=2e6)


async def attempt_ended(system: System, action_execution_id: str) -> execution_pb2.ActionExecution:
    """A standalone action execution once it has ended: there is no stream of those, so it is read again and again."""
    request = action_service_pb2.GetActionExecutionRequest(action_execution_id=action_execution_id)
    async with asyncio.timeout(20):
        while True:
            found = (await system.actions.GetActionExecution(request)).action_execution
            if found.HasField("ended_at"):
                return found
            await asyncio.sleep(0.02)


# Time


async def test_delays_survive_a_restart(system: System) -> None:
    """wait-before, wait-after and a retry's delay continue after the engine was killed, and last as long (S9, S10)."""
    execution_id = await system.begin("delayed")
    waiting = {task.name: task for task in await system.tasks(execution_id)}
    assert state_of(waiting["before"]) == "RUNNING_DELAYED"
    await system.until(execution_id, lambda change: is_delay(change, "again"))
    await system.engine.kill_and_restart()
    assert state_of(await system.wait(execution_id)) == "SUCCESS"
    tasks = {task.name: task for task in await system.tasks(execution_id)}
    assert {name: state_of(task) for name, task in tasks.items()} == {
        "before": "SUCCESS",
        "after": "SUCCESS",
        "again": "ERROR",
        "mend": "SUCCESS",
    }
    for name in ("before", "after", "again"):
        took_s = (tasks[name].ended_at.ToNanoseconds() - tasks[name].created_at.ToNanoseconds()) / 1e9
        assert took_s >= 2, name
    assert len([each for each in await system.attempts(execution_id) if each.action == "std.fail"]) == 2


def is_delay(change: change_pb2.Change, name: str) -> bool:
    moved = change.task_moved
    return moved.task_name == name and moved.state == execution_pb2.TASK_STATE_RUNNING_DELAYED


async def test_timeout_while_the_engine_is_down(system: System) -> None:
    """A timeout that falls due while no engine runs takes effect as soon as one does (S10)."""
    execution_id = await system.begin("limited")
    await system.until(execution_id, is_delegated)
    system.engine.kill()
    await asyncio.sleep(4.0)  # the timeout passes
    await system.engine.start()
    assert state_of(await system.wait(execution_id)) == "SUCCESS"
    found = await states(system, execution_id)
    assert found["mend"] == "SUCCESS"


async def test_graceful_stop(system: System) -> None:
    """Each service ends with exit code 0 when it is asked to, and executions continue when it is back."""
    execution_id = await system.begin("asked")
    await system.until(execution_id, is_delegated)
    for service in (system.api, system.executor, system.engine):
        assert service.terminate() == 0, service.name
    await system.start()
    await system.complete(f"{execution_id}.1.0.1", "still here")
    assert json.loads((await system.wait(execution_id)).output) == {"answer": "still here"}
