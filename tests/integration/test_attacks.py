"""Attacks of callers that have a token, but not the right one, against real services. tests/attacks.md lists all."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from tests.gateways import JSON, PACKAGE, call, curl, enveloped, url_of, watch
from tests.integration.guarded_system import MARKS, GuardedSystem, Line, guarded_services
from tests.unit.api.guarded import Caller, refusal

from dalsegno.access.bearer import hash_of, id_of
from dalsegno.v1 import access_service_pb2 as access
from dalsegno.v1 import action_service_pb2 as actions
from dalsegno.v1 import environment_service_pb2 as environments
from dalsegno.v1 import execution_pb2, operation_pb2
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.v1 import system_service_pb2 as system_messages
from dalsegno.v1 import workflow_service_pb2 as workflows

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]

DENIED, UNAUTHENTICATED = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GuardedSystem]:
    """Provide the services; in the end every journal must equal the rows."""
    async with guarded_services(tmp_path_factory.mktemp("guarded")) as system:
        yield system


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def anna(guarded: GuardedSystem) -> Caller:
    """Provide a caller who may do everything in the namespace of the first team, and nothing elsewhere."""
    return await guarded.caller("anna", "admin@alpha")


async def serving(guarded: GuardedSystem, action: str, name: str) -> tuple[Line, str, Any]:
    """Return the stream of an executor with an action of the second team, the execution, and what it has to run."""
    line = Line(await guarded.caller(name, "executor"), name)
    await line.greet(action)
    execution_id = await guarded.begin("bravo_payroll", "bravo")
    while True:
        for run in (await line.next("run_action")).actions:
            if run.action_execution_id.startswith(execution_id):
                return line, execution_id, run


async def state_of(guarded: GuardedSystem, execution_id: str) -> str:
    """Return the state of an execution, once it rests, or as it is after a moment."""
    request = executions.WaitExecutionRequest(execution_id=execution_id)
    request.timeout.FromMilliseconds(300)
    found = (await guarded.admin.executions.WaitExecution(request)).execution.state
    return execution_pb2.ExecutionState.Name(found).removeprefix("EXECUTION_STATE_")


async def test_an_executor_reads_no_execution(guarded: GuardedSystem) -> None:
    """An executor of one team asks for what the other has: a token that serves actions reads and writes nothing."""
    executor = await guarded.caller("worker", "executor@alpha.*")
    for asked in (
        executor.executions.GetExecution(executions.GetExecutionRequest(execution_id=guarded.bravo)),
        executor.executions.ListExecutions(executions.ListExecutionsRequest()),
        executor.executions.StartExecution(executions.StartExecutionRequest(workflow="bravo_payroll")),
        executor.system.GetServerInfo(system_messages.GetServerInfoRequest()),
    ):
        assert (await refusal(asked))[0] is DENIED


async def test_an_executor_describes_no_action_of_another(guarded: GuardedSystem) -> None:
    """A Hello that describes another team's action, or one built in, to receive its inputs is refused by name."""
    worker = await guarded.caller("worker", "executor@alpha.*")
    for action in ("bravo.pay", "std.http", "alpha"):
        line = Line(worker, "worker")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await line.greet("alpha.pay", action)
        assert caught.value.code() is DENIED
        assert f"for the actions {action};" in str(caught.value.details())


@pytest.mark.parametrize("stolen", ["executor", "session", "both"])
async def test_an_executor_is_not_taken_over(guarded: GuardedSystem, stolen: str) -> None:
    """A Hello with the id of a living executor, or with its session id, of a token with another name, is refused; the
    owner keeps its stream and ends its action. A new token of the owner's name goes on with it."""
    owner, execution_id, run = await serving(guarded, "bravo.pay", f"owner-{stolen}")
    executor_id = owner.executor_id if stolen != "session" else "thief"
    thief = Line(
        await guarded.caller("thief", "executor"), executor_id, owner.session_id if stolen != "executor" else ""
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await thief.greet("bravo.pay")
    assert caught.value.code() is DENIED
    assert "belongs to another caller than 'thief' until that session has ended" in str(caught.value.details())
    heir = Line(await guarded.caller(owner.executor_id, "executor"), owner.executor_id, owner.session_id)
    held = wire.DeliveryReference(action_execution_id=run.action_execution_id, delivery=run.delivery)
    assert (await heir.greet("bravo.pay", in_flight=[held])).superseded == []
    assert (await heir.report(run)).verdict == wire.ACK_VERDICT_ACCEPTED
    assert await state_of(guarded, execution_id) == "SUCCESS"
    heir.call.cancel()


async def test_an_executor_ends_nothing_that_another_caller_has(guarded: GuardedSystem) -> None:
    """An executor of the same role reports on an action that it has guessed, claims it in its Hello, and gets it
    neither ended nor told."""
    owner, execution_id, run = await serving(guarded, "bravo.pay", "owner-of-reports")
    forger = Line(await guarded.caller("forger", "executor"), "forger")
    claim = wire.DeliveryReference(action_execution_id=run.action_execution_id, delivery=run.delivery)
    assert (await forger.greet("other.action", in_flight=[claim])).superseded == [claim]
    ack = await forger.report(run, '"forged"')
    assert (ack.verdict, ack.reason) == (
        wire.ACK_VERDICT_REFUSED,
        "this delivery was handed to an executor of another caller",
    )
    assert await state_of(guarded, execution_id) == "RUNNING"
    assert (await owner.report(run)).verdict == wire.ACK_VERDICT_ACCEPTED
    for line in (owner, forger):
        line.call.cancel()


async def test_a_revoked_executor_does_not_come_back(guarded: GuardedSystem) -> None:
    """After its revocation the stream of an executor ends, and the same token says no further Hello."""
    token = guarded.token("leaver", "executor@alpha.*")
    caller = await guarded.holder(token)
    line = Line(caller, "leaver")
    await line.greet("alpha.pay")
    await guarded.admin.access.RevokeToken(access.RevokeTokenRequest(token_id=id_of(hash_of(token))))
    assert (await line.refusal())[0] is UNAUTHENTICATED
    again = Line(caller, "leaver")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await again.greet("alpha.pay")
    assert caught.value.code() is UNAUTHENTICATED


async def delegated(guarded: GuardedSystem) -> tuple[str, list[Any]]:
    """Return an execution of the second team with two actions that third parties complete, and what they got."""
    line = Line(await guarded.caller("asker", "executor"), "asker")
    await line.greet("std.async_noop")
    execution_id = await guarded.begin("bravo_payroll_asks", "bravo")
    runs: list[Any] = []
    while len(runs) < 2:
        runs += (await line.next("run_action")).actions
    for run in runs:
        done = wire.TaskDone(
            action_execution_id=run.action_execution_id, delivery=1, outcome=wire.TASK_OUTCOME_DELEGATED
        )
        await line.call.write(wire.ConnectRequest(task_done=wire.TaskDoneBatch(outcomes=[done])))
        await line.next("ack")
    line.call.cancel()
    return execution_id, sorted(runs, key=lambda run: str(run.action_execution_id))


def completion(**given: Any) -> actions.CompleteActionRequest:
    """Return the request that ends an action well."""
    return actions.CompleteActionRequest(outcome=actions.COMPLETION_OUTCOME_SUCCEEDED, result="1", **given)


async def test_a_task_token_is_for_its_own_action_only(guarded: GuardedSystem) -> None:
    """A task's token is used for its sibling, for another delivery, as a token of a caller, and again after its action
    has ended otherwise: it does only what it is for, once."""
    execution_id, (first, second) = await delegated(guarded)
    nobody = grpc.aio.insecure_channel(guarded.system.api.address)
    complete: Any = nobody.unary_unary(
        f"{PACKAGE}ActionService/CompleteAction",
        actions.CompleteActionRequest.SerializeToString,
        actions.CompleteActionResponse.FromString,
    )
    name, delivery, signature = first.task_token.split(":")
    sibling = second.action_execution_id
    for forged in (f"{sibling}:{delivery}:{signature}", f"{name}:2:{signature}", f"{name}:{delivery}:{'0' * 64}"):
        assert await refusal(complete(completion(task_token=forged))) == (DENIED, "the task token is not genuine")
    both = completion(task_token=first.task_token, action_execution_id=sibling)
    assert (await refusal(complete(both)))[0] is UNAUTHENTICATED
    as_caller = (("authorization", f"Bearer {first.task_token}"),)
    assert (await refusal(complete(completion(action_execution_id=sibling), metadata=as_caller)))[0] is UNAUTHENTICATED
    await complete(completion(task_token=first.task_token))
    other = actions.CompleteActionRequest(
        task_token=first.task_token, outcome=actions.COMPLETION_OUTCOME_FAILED, error="no"
    )
    assert (await refusal(complete(other)))[0] is not grpc.StatusCode.OK
    assert await state_of(guarded, execution_id) == "RUNNING"
    await complete(completion(task_token=second.task_token))
    assert await state_of(guarded, execution_id) == "SUCCESS"
    await nobody.close()


async def test_an_action_of_another_team_is_not_completed(guarded: GuardedSystem, anna: Caller) -> None:
    """An operator completes, updates, cancels and reads an action of another namespace, by its id or an alias."""
    execution_id, (first, _) = await delegated(guarded)
    name = first.action_execution_id
    for asked in (
        anna.actions.CompleteAction(completion(action_execution_id=name)),
        anna.actions.CompleteAction(completion(alias="order-1", namespace="bravo")),
        anna.actions.UpdateAction(
            actions.UpdateActionRequest(action_execution_id=name, state=execution_pb2.ACTION_STATE_PAUSED)
        ),
        anna.actions.HeartbeatAction(actions.HeartbeatActionRequest(action_execution_id=name)),
        anna.actions.CancelAction(actions.CancelActionRequest(action_execution_id=name)),
        anna.actions.WaitAction(actions.WaitActionRequest(action_execution_id=name)),
        anna.actions.GetActionExecution(actions.GetActionExecutionRequest(action_execution_id=name)),
    ):
        assert (await refusal(asked))[0] is DENIED
    assert await state_of(guarded, execution_id) == "RUNNING"


async def test_lists_and_counts_leak_no_foreign_names(guarded: GuardedSystem, anna: Caller) -> None:
    """No list, count or page of a list has anything of another namespace, whatever its filter asks for."""
    for asked in ("", "namespace=bravo", "workflow=bravo*", "label.team=bravo-label", f"id={guarded.bravo}"):
        for answer in (
            await anna.executions.ListExecutions(executions.ListExecutionsRequest(filter=asked, full=True)),
            await anna.executions.CountExecutions(executions.CountExecutionsRequest(filter=asked)),
        ):
            assert not any(mark in str(answer) for mark in (*MARKS, guarded.bravo))
    for answer in (
        await anna.workflows.ListWorkflows(workflows.ListWorkflowsRequest(full=True)),
        await anna.environments.ListEnvironments(environments.ListEnvironmentsRequest(full=True)),
        await anna.actions.ListActions(actions.ListActionsRequest(full=True)),
        await anna.actions.ListActionExecutions(actions.ListActionExecutionsRequest(full=True)),
    ):
        assert not any(mark in str(answer) for mark in MARKS)
    running = await guarded.begin("bravo_payroll_asks", "bravo")
    many = executions.CancelExecutionsRequest(filter="namespace=bravo", each=executions.CancelExecutionRequest())
    assert [outcome async for outcome in anna.executions.CancelExecutions(many)] == []
    assert await state_of(guarded, running) == "RUNNING"


async def test_a_page_token_opens_no_list_of_another(guarded: GuardedSystem, anna: Caller) -> None:
    """A page token, or a resume token of a watch, that an admin got shows a caller nothing that it may not see."""
    await guarded.begin("bravo_payroll", "bravo")
    page = await guarded.admin.executions.ListExecutions(executions.ListExecutionsRequest(page_size=1))
    assert page.next_page_token
    request = executions.ListExecutionsRequest(page_size=1, page_token=page.next_page_token)
    try:
        told = str(await anna.executions.ListExecutions(request))
    except grpc.aio.AioRpcError as error:
        told = str(error)
    assert not any(mark in told for mark in MARKS)
    watching = guarded.admin.executions.WatchExecution(executions.WatchExecutionRequest(execution_id=guarded.bravo))
    resume = executions.WatchExecutionRequest(
        execution_id=guarded.bravo, resume_token=(await watching.read()).resume_token
    )
    watching.cancel()
    assert (await refusal(anna.executions.WatchExecution(resume)))[0] is DENIED


async def test_refusals_name_nothing_foreign(guarded: GuardedSystem, anna: Caller) -> None:
    """Who asks for an execution, a value or a definition of another namespace is told its own words, and no name."""
    execution_id = guarded.bravo
    found = await guarded.admin.workflows.GetWorkflow(
        workflows.GetWorkflowRequest(namespace="bravo", name="bravo_payroll")
    )
    for asked in (
        anna.executions.GetExecution(executions.GetExecutionRequest(execution_id=execution_id)),
        anna.executions.ListTasks(executions.ListTasksRequest(execution_id=execution_id)),
        anna.executions.ListChanges(executions.ListChangesRequest(execution_id=execution_id)),
        anna.executions.ReadValue(executions.ReadValueRequest(execution_id=execution_id, field="input")),
        anna.executions.DeleteExecution(executions.DeleteExecutionRequest(execution_id=execution_id)),
        anna.workflows.GetWorkflow(workflows.GetWorkflowRequest(definition_id=found.workflow.definition_id)),
        anna.executions.StartExecution(
            executions.StartExecutionRequest(namespace="alpha", definition_id=found.workflow.definition_id)
        ),
    ):
        code, told = await refusal(asked)
        assert code is DENIED
        assert not any(mark in told for mark in (*MARKS, "'bravo'"))
    vault = executions.ReadValueRequest(field="variables")
    vault.environment.namespace, vault.environment.name = "bravo", "bravo_vault"
    assert (await refusal(anna.executions.ReadValue(vault)))[0] is DENIED


async def test_a_taken_id_reveals_nothing(guarded: GuardedSystem, anna: Caller) -> None:
    """Who starts an execution with an id that another namespace has, and asks for the existing one, learns only that
    the id is taken."""
    start = executions.StartExecutionRequest(
        namespace="alpha",
        workflow="alpha_payroll",
        execution_id=guarded.bravo,
        on_conflict=executions.ON_CONFLICT_USE_EXISTING,
    )
    code, told = await refusal(anna.executions.StartExecution(start))
    assert code is grpc.StatusCode.ALREADY_EXISTS
    assert not any(mark in told for mark in MARKS)


async def test_a_workflow_reaches_no_other_namespace(guarded: GuardedSystem, anna: Caller) -> None:
    """An author calls another team's workflow as a sub-workflow, and names its environment: neither is found."""
    text = "version: '2.0'\nreach: {tasks: {call: {workflow: bravo_payroll}}}"
    await anna.workflows.CreateDefinitions(workflows.CreateDefinitionsRequest(namespace="alpha", text=text))
    started = await anna.executions.StartExecution(
        executions.StartExecutionRequest(namespace="alpha", workflow="reach")
    )
    assert await state_of(guarded, started.execution.id) == "ERROR"
    named = executions.StartExecutionRequest(namespace="alpha", workflow="alpha_payroll", environment="bravo_vault")
    assert (await refusal(anna.executions.StartExecution(named)))[0] is grpc.StatusCode.NOT_FOUND
    for namespace in ("", "bravo"):
        define = workflows.CreateDefinitionsRequest(namespace=namespace, text=text)
        assert (await refusal(anna.workflows.CreateDefinitions(define)))[0] is DENIED


async def test_a_dry_run_needs_the_role(guarded: GuardedSystem) -> None:
    """A viewer asks what an operation, or an edit of the context, would do: that shows what it changes, so it needs
    the role of the operation."""
    viewer = await guarded.caller("vera", "viewer@bravo")
    update = executions.UpdateContextRequest(execution_id=guarded.bravo, set='{"a": 1}', dry_run=True)
    rerun = executions.RerunExecutionRequest(
        execution_id=guarded.bravo, dry_run=True, start_from=operation_pb2.RERUN_FROM_BEGINNING
    )
    for asked in (viewer.executions.UpdateContext(update), viewer.executions.RerunExecution(rerun)):
        code, told = await refusal(asked)
        assert (code, "lacks the role operator for the namespace 'bravo'" in told) == (DENIED, True)


async def test_nobody_raises_itself(guarded: GuardedSystem, anna: Caller) -> None:
    """An admin of one namespace makes, lists and revokes no tokens, not even for its own namespace."""
    grants = [access.Grant(role=access.ROLE_ADMIN, pattern="alpha")]
    create = access.CreateTokenRequest(name="anna-2", grants=grants, sha256=hash_of("x"))
    for asked in (
        anna.access.CreateToken(create),
        anna.access.ListTokens(access.ListTokensRequest()),
        anna.access.RevokeToken(access.RevokeTokenRequest(token_id="0123456789abcdef")),
    ):
        assert (await refusal(asked))[0] is DENIED


async def test_a_request_id_brings_no_answer_of_another(guarded: GuardedSystem, anna: Caller) -> None:
    """Who knows the request id of a start in another namespace gets neither its answer nor a conflict that tells."""
    start = executions.StartExecutionRequest(namespace="bravo", workflow="bravo_payroll", request_id="monday")
    begun = await guarded.admin.executions.StartExecution(start)
    assert (await refusal(anna.executions.StartExecution(start)))[0] is DENIED
    own = executions.StartExecutionRequest(namespace="alpha", workflow="alpha_payroll", request_id="monday")
    assert (await anna.executions.StartExecution(own)).execution.id != begun.execution.id


async def test_a_forged_actor_does_not_count(guarded: GuardedSystem, anna: Caller) -> None:
    """Who says that it is somebody else, over gRPC or HTTP, is in the history under the name of its token."""
    put = environments.PutEnvironmentRequest(namespace="alpha", name="stage")
    stored = await anna.environments.PutEnvironment(put, metadata=(("x-dalsegno-actor", "root"),))
    assert stored.environment.actor == "anna"
    token = guarded.token("bert", "author@alpha")
    header = ("-H", f"authorization: Bearer {token}", "-H", "x-dalsegno-actor: root")
    message = {"namespace": "alpha", "name": "stage"}
    reply = await call(guarded.gateway, "EnvironmentService/PutEnvironment", message, *header)
    assert (reply.status, reply.json["environment"]["actor"]) == (200, "bert")


async def test_a_watch_by_http_ends_with_its_token(guarded: GuardedSystem) -> None:
    """A watch through the gateway does not go on after its token was revoked."""
    token = guarded.token("carl", "viewer@bravo")
    header = ("-H", f"authorization: Bearer {token}")
    running = await guarded.begin("bravo_payroll_asks", "bravo")
    watching = asyncio.create_task(watch(guarded.gateway, running, *header, seconds=15))
    while (await call(guarded.gateway, "SystemService/GetServerInfo", {}, *header)).status != 200:
        pass
    await guarded.admin.access.RevokeToken(access.RevokeTokenRequest(token_id=id_of(hash_of(token))))
    flags, last = (await watching).frames[-1]
    assert (flags & 2, json.loads(last)["error"]["code"]) == (2, "unauthenticated")


async def test_the_gateway_opens_nothing(guarded: GuardedSystem) -> None:
    """Without a token, with one in the query, of another scheme, or in a body, a call by HTTP is refused; a path of the
    engine's own services is not there."""
    token = guarded.token("dora", "viewer")
    info = f"{url_of(guarded.gateway)}{PACKAGE}SystemService/GetServerInfo"
    basic = base64.b64encode(f"dora:{token}".encode()).decode()
    for place, headers in (
        (info, ()),
        (f"{info}?access_token={token}&authorization=Bearer%20{token}", ()),
        (info, ("-H", f"authorization: Basic {basic}")),
        (info, ("-H", f"cookie: authorization={token}")),
    ):
        assert (await curl(place, *JSON, *headers, body=b"{}")).status == 401, (place, headers)
    for method in ("EngineService/Submit", "ExecutorService/Connect"):
        reply = await curl(
            f"{url_of(guarded.gateway)}{PACKAGE}{method}",
            *JSON,
            *("-H", f"authorization: Bearer {token}"),
            body=enveloped({}),
        )
        assert reply.status == 404
