"""What was deleted: its name is free again, and what was answered about it before is not answered again."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status
from tests.integration.engines import ScriptedExecutor, done, until
from tests.unit.engine.conftest import Desk
from tests.unit.engine.test_requests import refused

from dalsegno.rpc.convert import REQUESTS_KEPT_S
from dalsegno.v1 import action_service_pb2 as actions
from dalsegno.v1 import environment_service_pb2 as environments
from dalsegno.v1 import execution_pb2, operation_pb2
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.v1 import workflow_service_pb2 as workflows

ONE = "version: '2.0'\none:\n  input: [{n: 0}]\n  tasks: {t: {action: std.noop}}\n"
CHOSEN = "01890a5d-ac96-774b-bcce-b302099a8057"


async def deleted_at(call: Any) -> float:
    """A call that must answer NOT_FOUND says when that was deleted."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND, caught.value.details()
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]
    assert status is not None
    info = ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    assert info.metadata["deleted_at"] in (caught.value.details() or "")
    return datetime.fromisoformat(info.metadata["deleted_at"]).timestamp()


async def delete(desk: Desk, execution_id: str, **more: Any) -> None:
    await desk.submit("delete_execution", executions.DeleteExecutionRequest(execution_id=execution_id, **more))


@pytest.mark.parametrize("namespace", ["", "harbour"])
async def test_id_of_a_deleted_execution_is_free_again(desk: Desk, namespace: str) -> None:
    """Another start takes the id; the first start, repeated, is told that its execution was deleted, and when."""
    await desk.create(ONE, namespace=namespace)
    chosen: dict[str, Any] = {"execution_id": CHOSEN, "namespace": namespace}
    async with ScriptedExecutor(desk.address):
        first = await desk.start("one", request_id="first", **chosen)
        await desk.wait(first.id)
        before_s = desk.execution(first.id).updated_s
        await delete(desk, CHOSEN, request_id="delete")
        told_s = await deleted_at(desk.start("one", request_id="first", **chosen))
        assert before_s - 0.001 <= told_s < before_s + 60
        second = await desk.start("one", request_id="second", **chosen)
        assert second.id == CHOSEN
        assert second.created_at != first.created_at
        assert await desk.start("one", request_id="second", **chosen) == second
        assert (await refused(desk.start("one", **chosen))).reason == "ALREADY_EXISTS"
        assert await deleted_at(desk.start("one", request_id="first", **chosen)) == told_s
        await delete(desk, CHOSEN, request_id="delete")
        assert desk.execution(CHOSEN).id == CHOSEN, "the first answer is given again, and nothing is deleted"
        await desk.wait(CHOSEN)
        await delete(desk, CHOSEN)
        third = await desk.start("one", **chosen)
        assert third.created_at != second.created_at
        for request_id in ("first", "second"):
            await deleted_at(desk.start("one", request_id=request_id, **chosen))


async def test_children_and_reruns_give_their_ids_back(desk: Desk) -> None:
    """The id that a rerun from the beginning was given is free again too, though the repeated execution is deleted."""
    await desk.create(ONE)
    await desk.create(ONE, namespace="harbour")
    rerun = executions.RerunExecutionRequest(
        start_from=operation_pb2.RERUN_FROM_BEGINNING, new_execution_id=CHOSEN, request_id="rerun"
    )
    async with ScriptedExecutor(desk.address):
        original = await desk.start("one", namespace="harbour")
        rerun.execution_id = original.id
        await desk.wait(original.id)
        first = (await desk.submit("rerun_execution", rerun)).execution
        await desk.wait(first.id)
        await delete(desk, original.id)
        assert (await desk.submit("rerun_execution", rerun)).execution == first, "what it made is still there"
        await delete(desk, CHOSEN)
        await deleted_at(desk.submit("rerun_execution", rerun))
        assert (await desk.start("one", execution_id=CHOSEN)).id == CHOSEN


Make = Callable[[str], tuple[str, Any]]
"""A request about an execution, by the name of its write."""

CONTROLS: dict[str, Make] = {
    "pause": lambda name: ("pause_execution", executions.PauseExecutionRequest(execution_id=name)),
    "resume": lambda name: ("resume_execution", executions.ResumeExecutionRequest(execution_id=name)),
    "update context": lambda name: (
        "update_context",
        executions.UpdateContextRequest(execution_id=name, set='{"a": 1}'),
    ),
    "report": lambda name: (
        "update_action",
        actions.UpdateActionRequest(action_execution_id=f"{name}.1.0.1", state=execution_pb2.ACTION_STATE_RUNNING),
    ),
    "complete": lambda name: (
        "complete_action",
        actions.CompleteActionRequest(
            action_execution_id=f"{name}.1.0.1", outcome=actions.COMPLETION_OUTCOME_SUCCEEDED
        ),
    ),
    "cancel": lambda name: (
        "cancel_execution",
        executions.CancelExecutionRequest(execution_id=name, terminate=operation_pb2.Terminate()),
    ),
}


@pytest.mark.parametrize("namespace", ["", "harbour"])
@pytest.mark.parametrize("asked", [["pause", "update context", "resume", "cancel"], ["report", "complete"]])
async def test_whatever_was_asked_of_it_is_not_answered_again(desk: Desk, asked: list[str], namespace: str) -> None:
    """Every request about an execution, repeated after it was deleted, says so, and leaves the next of its id alone."""
    for each in (namespace, "elsewhere"):
        await desk.create(ONE, namespace=each)
    made = [CONTROLS[each](CHOSEN) for each in asked]
    for write, request in made:
        request.request_id = write
    async with ScriptedExecutor(desk.address, lambda run: done(run, wire.TASK_OUTCOME_DELEGATED)) as executor:
        await desk.start("one", execution_id=CHOSEN, namespace=namespace)
        await until(lambda: executor.acks)
        for write, request in made:
            first = await desk.submit(write, request)
            assert await desk.submit(write, request) == first
        await desk.wait(CHOSEN)
        await delete(desk, CHOSEN)
        times = {await deleted_at(desk.submit(write, request)) for write, request in made}
        assert len(times) == 1
        await desk.start("one", execution_id=CHOSEN, namespace="elsewhere")
        await until(lambda: len(executor.acks) > 1)
        before = desk.execution(CHOSEN)
        for write, request in made:
            assert await deleted_at(desk.submit(write, request)) in times
        assert desk.execution(CHOSEN) == before


async def test_standalone_action_is_not_answered_again(desk: Desk) -> None:
    """An action that was run on its own goes with the execution that carries it."""
    request = actions.RunActionRequest(action="std.noop", request_id="run")
    async with ScriptedExecutor(desk.address):
        action = (await desk.submit("run_action", request)).action_execution
        execution_id = action.id.partition(".")[0]
        await desk.wait(execution_id)
    assert (await desk.submit("run_action", request)).action_execution.id == action.id
    await delete(desk, execution_id)
    await deleted_at(desk.submit("run_action", request))


async def test_environment_is_not_answered_again(desk: Desk) -> None:
    """What put an environment, repeated after it was deleted, says so; one that was put later is another."""
    put = environments.PutEnvironmentRequest(name="stage", variables="{}", request_id="put")
    first = await desk.submit("put_environment", put)
    away = environments.DeleteEnvironmentRequest(name="stage", request_id="delete")
    await desk.submit("delete_environment", away)
    await deleted_at(desk.submit("put_environment", put))
    again = environments.PutEnvironmentRequest(name="stage", variables="{}", request_id="again")
    second = await desk.submit("put_environment", again)
    assert first.environment.revision == second.environment.revision == 1
    assert await desk.submit("put_environment", again) == second
    await deleted_at(desk.submit("put_environment", put))
    await desk.submit("delete_environment", away)
    assert desk.read(lambda queries: queries.environment("", "stage")) is not None


async def test_definition_is_not_answered_again(desk: Desk) -> None:
    """What stored workflows, repeated after a version of one was deleted, says so; other versions are other ones."""
    two = f"{ONE}two:\n  tasks: {{t: {{action: std.noop}}}}\n"
    first = await desk.create(two, request_id="r1", namespace="harbour")
    assert await desk.create(two, request_id="r1", namespace="harbour") == first
    newer = await desk.create(two.replace("n: 0", "n: 1"), request_id="r2", namespace="harbour")
    away = workflows.DeleteWorkflowRequest(name="two", version=1, namespace="harbour", request_id="delete")
    gone = await desk.submit("delete_workflow", away)
    await deleted_at(desk.create(two, request_id="r1", namespace="harbour"))
    assert await desk.create(two.replace("n: 0", "n: 1"), request_id="r2", namespace="harbour") == newer
    assert await desk.submit("delete_workflow", away) == gone


async def test_a_day_later_all_is_forgotten(desk: Desk) -> None:
    """A deletion is remembered as long as a request that might be repeated."""
    with desk.store.write() as transaction:
        transaction.put_environment("", "stage", "{}", 1.0)
    await desk.submit("delete_environment", environments.DeleteEnvironmentRequest(name="stage"))
    with desk.store.write() as transaction:
        (deletion,) = transaction.deletions("environment", "stage")
        transaction.prune_requests(deletion.deleted_s - 1)
        assert transaction.deletions("environment", "stage") == [deletion]
        transaction.prune_requests(deletion.deleted_s + REQUESTS_KEPT_S)
        assert transaction.deletions("environment", "stage") == []


async def test_unknown_execution_has_no_time_of_deletion(desk: Desk) -> None:
    """An execution that never was is NOT_FOUND without a time."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await delete(desk, str(uuid.uuid4()), request_id="none")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "deleted at" not in (caught.value.details() or "")
