"""Values that older versions stored, larger than may be stored now: left out and named wherever they would be, and
read in pieces. Every client here has gRPC's default limit of 4 MiB."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
import pytest_asyncio
from tests.integration.engines import ScriptedExecutor, done
from tests.unit.api.conftest import Front

from dalsegno.api.values import PIECE_BYTES
from dalsegno.engine.batches import batch
from dalsegno.engine.executors import reports
from dalsegno.rpc import convert, reading
from dalsegno.rpc.sizes import MESSAGE_BYTES_MAX
from dalsegno.v1 import action_service_pb2 as actions
from dalsegno.v1 import environment_service_pb2 as environments
from dalsegno.v1 import execution_pb2
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.v1 import workflow_service_pb2 as workflows
from dalsegno.workflow import value
from dalsegno.workflow.value import VALUE_BYTES_MAX

pytestmark = pytest.mark.long("values of megabytes")

TEXT = """
version: '2.0'
one:
  input: [word]
  output: {said: <% task(say).result %>}
  tasks:
    say: {action: std.echo output=<% $.word %>, publish: {heard: <% task(say).result %>}}
"""
LONG = "ä" * 2_600_000
RESULT = json.dumps(LONG, ensure_ascii=False)
GIVEN = json.dumps({"word": LONG}, ensure_ascii=False, separators=(",", ":"))
DEFINITION = f"{TEXT}# {'ä' * 2_096_900}\n"
"""As long as definitions could be."""

assert min(len(each.encode()) for each in (RESULT, GIVEN, DEFINITION)) > 4_190_000 > VALUE_BYTES_MAX


@contextmanager
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Provide an engine and an api that accept larger values, as older versions did."""
    with monkeypatch.context() as patched:
        for module in (batch, convert, reading, reports, value):
            patched.setattr(module, "VALUE_BYTES_MAX", 8_000_000)
        patched.setattr(value.checked, "__defaults__", (8_000_000,))
        yield


@pytest_asyncio.fixture
async def old(front: Front, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Provide an execution with values that are all larger than the present limit."""

    def echo(run: wire.RunAction) -> wire.TaskDone:
        return done(run, result=RESULT)

    with as_before(monkeypatch):
        await front.define(DEFINITION)
        put = environments.PutEnvironmentRequest(name="stage", variables=GIVEN)
        await front.environments.PutEnvironment(put)
        started = await front.start("one", input=GIVEN)
        async with ScriptedExecutor(f"127.0.0.1:{front.engine.port}", script=echo):
            wait = executions.WaitExecutionRequest(execution_id=started.id)
            ended = (await front.executions.WaitExecution(wait)).execution
    assert ended.state == execution_pb2.EXECUTION_STATE_SUCCESS, ended.state_info
    return ended


async def test_they_are_left_out_and_named_wherever_they_would_be(front: Front, old: Any) -> None:
    """Single reads, pages, snapshots and changes leave them out and name them."""
    task_id = f"{old.id}.1"
    task = await front.executions.GetTask(executions.GetTaskRequest(task_execution_id=task_id))
    action = await front.actions.GetActionExecution(
        actions.GetActionExecutionRequest(action_execution_id=f"{task_id}.0.1")
    )
    workflow = await front.workflows.GetWorkflow(workflows.GetWorkflowRequest(name="one"))
    environment = await front.environments.GetEnvironment(environments.GetEnvironmentRequest(name="stage"))

    assert (old.input, old.output, list(old.left_out)) == ("", "", ["input", "output"])
    assert await front.get(old.id) == old
    assert (task.task.result, list(task.task.left_out)) == ("", ["result", "published"])
    assert list(action.action_execution.left_out) == ["input", "result"]
    assert (workflow.workflow.text, list(workflow.workflow.left_out)) == ("", ["text"])
    assert (environment.environment.variables, list(environment.environment.left_out)) == ("", ["variables"])
    for page, found in (
        (await front.executions.ListExecutions(executions.ListExecutionsRequest(full=True)), old),
        (await front.executions.ListTasks(executions.ListTasksRequest(execution_id=old.id, full=True)), task.task),
        (
            await front.actions.ListActionExecutions(
                actions.ListActionExecutionsRequest(execution_id=old.id, full=True)
            ),
            action.action_execution,
        ),
        (await front.workflows.ListWorkflows(workflows.ListWorkflowsRequest(full=True)), workflow.workflow),
        (
            await front.environments.ListEnvironments(environments.ListEnvironmentsRequest(full=True)),
            environment.environment,
        ),
    ):
        ((field, listed),) = page.ListFields()
        assert list(listed) == [found], field.name


async def test_a_watcher_gets_none_of_them(front: Front, old: Any) -> None:
    """Snapshots and changes keep to the limit; the journal has all changes."""
    for from_first in (False, True):
        watch = executions.WatchExecutionRequest(execution_id=old.id, from_first_change=from_first)
        messages = [message async for message in front.executions.WatchExecution(watch)]
        assert max(message.ByteSize() for message in messages) <= MESSAGE_BYTES_MAX
    listed: list[int] = []
    token = ""
    while not listed or token:
        request = executions.ListChangesRequest(execution_id=old.id, page_token=token)
        page = await front.executions.ListChanges(request)
        assert page.ByteSize() <= MESSAGE_BYTES_MAX
        listed += [change.sequence for change in page.changes]
        token = page.next_page_token
    assert listed == list(range(1, old.revision + 1))


async def test_they_are_read_in_pieces(front: Front, old: Any) -> None:
    """Pieces of at most 1 MiB make the stored value."""
    stream = front.executions.ReadValue(executions.ReadValueRequest(execution_id=old.id, field="input"))
    read = [message async for message in stream]
    assert max(len(message.piece.encode()) for message in read) <= PIECE_BYTES
    assert "".join(message.piece for message in read) == GIVEN
    assert {message.size_bytes for message in read} == {len(GIVEN.encode())}

    task_id, attempt_id = f"{old.id}.1", f"{old.id}.1.0.1"
    assert json.loads(await front.value(execution_id=old.id, field="output")) == {"said": LONG}
    assert await front.value(task_execution_id=task_id, field="result") == RESULT
    assert json.loads(await front.value(task_execution_id=task_id, field="published")) == {"heard": LONG}
    assert json.loads(await front.value(action_execution_id=attempt_id, field="input")) == {"output": LONG}
    assert await front.value(action_execution_id=attempt_id, field="result") == RESULT
    workflow = (await front.workflows.GetWorkflow(workflows.GetWorkflowRequest(name="one"))).workflow
    assert await front.value(definition_id=workflow.definition_id, field="text") == DEFINITION
    stage = executions.ReadValueRequest.EnvironmentName(name="stage")
    assert await front.value(environment=stage, field="variables") == GIVEN


async def test_no_more_of_them_are_stored(front: Front, old: Any) -> None:
    """A value of this size is refused now."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await front.start("one", input=GIVEN)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
