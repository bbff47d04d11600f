"""The answer of every write equals a read at that revision."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from tests.integration.engines import ScriptedExecutor, done, until
from tests.unit.api.conftest import Front

from dalsegno.v1 import access_service_pb2 as access
from dalsegno.v1 import action_service_pb2 as actions
from dalsegno.v1 import engine_service_pb2, execution_pb2, operation_pb2
from dalsegno.v1 import environment_service_pb2 as environments
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.v1 import workflow_service_pb2 as workflows

TEXT = """
version: '2.0'
waits:
  description: Waits for somebody.
  input: [who, {greeting: Hello}]
  output: {said: <% $.greeting %>}
  tasks:
    ask: {action: std.noop, timeout: 600, on-success: [say]}
    say: {action: std.echo output=<% $.who %>}
fails:
  tasks:
    never: {action: std.fail}
"""
ADHOC = """
version: '2.0'
shout: {input: [word], base: std.echo, base-input: {output: <% $.word %>}}
"""


def delegated(run: wire.RunAction) -> wire.TaskDone:
    """Let another program complete it."""
    return done(run, wire.TASK_OUTCOME_DELEGATED)


Pair = tuple[Message, Message]
"""What a write has answered, and what is read."""


class Writer:
    """Makes writes, named as in SubmitRequest; each returns its answer and the read after it."""

    def __init__(self, front: Front) -> None:
        self.front = front
        self.made: set[str] = set()

    async def ask(self, name: str, method: Callable[[Any], Awaitable[Any]], request: Any) -> Any:
        self.made.add(name)
        return await method(request)

    async def started(self, **more: Any) -> executions.StartExecutionResponse:
        request = executions.StartExecutionRequest(
            workflow="waits",
            input='{"who": "Ada"}',
            labels={"team": "red"},
            comment="once",
            environment="stage",
            **more,
        )
        answer = await self.ask("start_execution", self.front.executions.StartExecution, request)
        assert isinstance(answer, executions.StartExecutionResponse)
        return answer

    async def execution(self, name: str, method: Any, request: Any) -> Pair:
        answer = await self.ask(name, method, request)
        return answer.execution, await self.front.get(answer.execution.id)

    async def action(self, name: str, method: Any, request: Any) -> Pair:
        answer = await self.ask(name, method, request)
        read = actions.GetActionExecutionRequest(action_execution_id=answer.action_execution.id)
        return answer.action_execution, (await self.front.actions.GetActionExecution(read)).action_execution

    async def delete(self, name: str, method: Any, request: Any) -> None:
        await self.ask(name, method, request)


@pytest_asyncio.fixture
async def writer(front: Front) -> AsyncIterator[Writer]:
    """Provide the workflows of this file, an environment, and no executor."""
    await front.environments.PutEnvironment(
        environments.PutEnvironmentRequest(name="stage", variables='{"city": "Eastmarch"}')
    )
    yield Writer(front)


async def test_every_write_answers_what_a_read_gives(writer: Writer) -> None:
    """Each write of the contract answers with the result of a read after it."""
    front = writer.front
    pairs = [*await _definitions(writer), *await _environments(writer), *await _controls(writer)]
    pairs += [*await _reruns(writer), *await _actions(writer), *await _tokens(writer)]
    for answered, read in pairs:
        assert answered == read
    asked = engine_service_pb2.SubmitRequest.DESCRIPTOR.oneofs_by_name["write"]
    assert writer.made == {field.name for field in asked.fields}
    listed = await front.executions.ListExecutions(executions.ListExecutionsRequest(full=True))
    singly = [await front.get(each.id) for each in listed.executions]
    assert sum(len(each.forks) for each in singly) == 1
    for each in singly:
        del each.forks[:]  # only a read of one execution tells them
    assert singly == list(listed.executions)


async def _definitions(writer: Writer) -> list[Pair]:
    front, pairs = writer.front, []
    method = front.workflows.CreateDefinitions
    request = workflows.CreateDefinitionsRequest(text=TEXT, comment="new")
    for workflow in (await writer.ask("create_definitions", method, request)).workflows:
        read = workflows.GetWorkflowRequest(definition_id=workflow.definition_id)
        found = (await front.workflows.GetWorkflow(read)).workflow
        assert found.text == TEXT
        found.text = ""
        pairs.append((workflow, found))
    (shout,) = (await method(workflows.CreateDefinitionsRequest(text=ADHOC))).actions
    found = (await front.actions.GetAdhocAction(actions.GetAdhocActionRequest(name="shout"))).action
    found.text = ""
    pairs.append((shout, found))
    await writer.delete(
        "delete_workflow", front.workflows.DeleteWorkflow, workflows.DeleteWorkflowRequest(name="fails", comment="old")
    )
    await writer.delete(
        "delete_adhoc_action", front.actions.DeleteAdhocAction, actions.DeleteAdhocActionRequest(name="shout")
    )
    return pairs


async def _environments(writer: Writer) -> list[Pair]:
    service = writer.front.environments
    request = environments.PutEnvironmentRequest(name="gone", variables='{"a": [1]}', description="d", comment="c")
    put = (await writer.ask("put_environment", service.PutEnvironment, request)).environment
    read = (await service.GetEnvironment(environments.GetEnvironmentRequest(name="gone"))).environment
    await writer.delete(
        "delete_environment", service.DeleteEnvironment, environments.DeleteEnvironmentRequest(name="gone")
    )
    return [(put, read)]


async def _tokens(writer: Writer) -> list[Pair]:
    service, pairs = writer.front.access, []
    created = access.CreateTokenRequest(
        name="anna", grants=[access.Grant(role=access.ROLE_VIEWER, pattern="shop-*")], sha256=bytes(32), comment="new"
    )
    for name, method, request in (
        ("create_token", service.CreateToken, created),
        ("revoke_token", service.RevokeToken, access.RevokeTokenRequest(token_id="0" * 16)),
    ):
        answer = await writer.ask(name, method, request)
        (listed,) = (await service.ListTokens(access.ListTokensRequest())).tokens
        pairs.append((answer.token, listed))
    return pairs


async def _controls(writer: Writer) -> list[Pair]:
    service = writer.front.executions
    started = (await writer.started()).execution
    assert list(started.waiting_for) == ["executor of std.noop"]
    assert started.environment == "stage"
    pairs: list[Pair] = [(started, await writer.front.get(started.id))]
    pairs.append(
        await writer.execution(
            "pause_execution",
            service.PauseExecution,
            executions.PauseExecutionRequest(execution_id=started.id, comment="stop", request_id="p"),
        )
    )
    again = await service.PauseExecution(
        executions.PauseExecutionRequest(execution_id=started.id, comment="stop", request_id="p")
    )
    pairs.append((again.execution, pairs[-1][1]))
    pairs.append(
        await writer.execution(
            "update_context",
            service.UpdateContext,
            executions.UpdateContextRequest(execution_id=started.id, set='{"greeting": "Hi"}'),
        )
    )
    pairs.append(
        await writer.execution(
            "resume_execution",
            service.ResumeExecution,
            executions.ResumeExecutionRequest(execution_id=started.id, environment_overlay='{"city": "Greyhaven"}'),
        )
    )
    pairs += await _checkpoints(writer)
    pairs.append(
        await writer.execution(
            "cancel_execution",
            service.CancelExecution,
            executions.CancelExecutionRequest(
                execution_id=started.id, terminate=operation_pb2.Terminate(message="enough", output="7")
            ),
        )
    )
    return pairs


async def _checkpoints(writer: Writer) -> list[Pair]:
    await writer.front.define(
        "version: '2.0'\nphases: {tasks: {only: {action: std.noop, checkpoint: {name: begin, when: before}}}}"
    )
    stopped = await writer.front.start("phases", stop_at=["begin"])
    assert (stopped.paused_at.name, list(stopped.stop_at)) == ("begin", ["begin"])
    service = writer.front.executions
    go_to = executions.GoToCheckpointRequest(execution_id=stopped.id, name="begin", comment="stay")
    pairs = [await writer.execution("go_to_checkpoint", service.GoToCheckpoint, go_to)]
    discard = executions.DiscardHistoryRequest(execution_id=stopped.id, name="begin", comment="old")
    pairs.append(await writer.execution("discard_history", service.DiscardHistory, discard))
    discarded = pairs[-1][0]
    assert isinstance(discarded, execution_pb2.Execution)
    assert discarded.first_sequence == stopped.paused_at.sequence
    fork = executions.RerunExecutionRequest(
        execution_id=stopped.id, start_from=operation_pb2.RERUN_FROM_CHECKPOINT, checkpoint="begin", stay=True
    )
    pairs.append(await writer.execution("rerun_execution", service.RerunExecution, fork))
    forked = pairs[-1][0]
    assert isinstance(forked, execution_pb2.Execution)
    assert forked.forked_from.execution_id == stopped.id
    return pairs


async def _reruns(writer: Writer) -> list[Pair]:
    service = writer.front.executions
    first = (await writer.started()).execution
    terminate = operation_pb2.Terminate(state=execution_pb2.EXECUTION_STATE_ERROR)
    await service.CancelExecution(executions.CancelExecutionRequest(execution_id=first.id, terminate=terminate))
    pairs = []
    for start_from in (operation_pb2.RERUN_FROM_FAILED, operation_pb2.RERUN_FROM_BEGINNING):
        request = executions.RerunExecutionRequest(execution_id=first.id, start_from=start_from, comment="again")
        pairs.append(await writer.execution("rerun_execution", service.RerunExecution, request))
    last = pairs[-1][0]
    assert isinstance(last, execution_pb2.Execution)
    await service.CancelExecution(executions.CancelExecutionRequest(execution_id=last.id, terminate=terminate))
    await writer.delete(
        "delete_execution", service.DeleteExecution, executions.DeleteExecutionRequest(execution_id=last.id)
    )
    return pairs


async def _actions(writer: Writer) -> list[Pair]:
    """Connect an executor whose actions other programs complete."""
    service = writer.front.actions
    request = actions.RunActionRequest(
        action="test.unsafe",
        comment="by hand",
        labels={"team": "red"},
        timeout=Duration(seconds=90),
    )
    async with ScriptedExecutor(f"127.0.0.1:{writer.front.engine.port}", script=delegated) as executor:
        await until(lambda: bool(executor.welcomes))
    ran, read = await writer.action("run_action", service.RunAction, request)
    assert isinstance(ran, execution_pb2.ActionExecution)
    assert (ran.comment, ran.labels["team"], ran.timeout.seconds) == ("by hand", "red", 90)
    assert ran.waiting_for.startswith("executor")
    pairs: list[Pair] = [(ran, read)]
    async with ScriptedExecutor(f"127.0.0.1:{writer.front.engine.port}", script=delegated):
        get = actions.GetActionExecutionRequest(action_execution_id=ran.id)
        while not (await service.GetActionExecution(get)).action_execution.delegated:
            pass
    for name in (execution_pb2.ACTION_STATE_PAUSED, execution_pb2.ACTION_STATE_RUNNING):
        update = actions.UpdateActionRequest(action_execution_id=ran.id, state=name)
        pairs.append(await writer.action("update_action", service.UpdateAction, update))
    assert pairs[-1][0].HasField("deadline")
    beat = actions.HeartbeatActionRequest(action_execution_id=ran.id)
    state = (await writer.ask("heartbeat_action", service.HeartbeatAction, beat)).state
    assert state == (await service.GetActionExecution(get)).action_execution.state
    complete = actions.CompleteActionRequest(
        action_execution_id=ran.id, outcome=actions.COMPLETION_OUTCOME_SUCCEEDED, result='{"a": 1}', comment="done"
    )
    pairs.append(await writer.action("complete_action", service.CompleteAction, complete))
    other = (await service.RunAction(actions.RunActionRequest(action="test.unsafe"))).action_execution
    cancel = actions.CancelActionRequest(action_execution_id=other.id, comment="not now")
    pairs.append(await writer.action("cancel_action", service.CancelAction, cancel))
    listed = await service.ListActionExecutions(actions.ListActionExecutionsRequest(full=True))
    assert all(pair[0] in list(listed.action_executions) for pair in pairs[-2:])
    return pairs
