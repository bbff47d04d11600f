"""Who may do what, over the wire: tokens, roles, namespaces, lists, revocation."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from tests.unit.api.conftest import stubs
from tests.unit.api.guarded import Guarded, add_token, guarded_system, refusal

from dalsegno.access.bearer import hash_of, id_of, new_token
from dalsegno.rpc.failure import read_failure
from dalsegno.v1 import access_service_pb2 as access
from dalsegno.v1 import action_service_pb2 as actions
from dalsegno.v1 import environment_service_pb2 as environments
from dalsegno.v1 import execution_pb2, system_service_pb2, workflow_service_pb2
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.v1 import executor_service_pb2 as executor

UNAUTHENTICATED, DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
WAITS_S = 40.0
SOON_S = 5.0
"""Within this time open calls end whose caller counts no more."""
ONE = """
version: '2.0'
one:
  tasks:
    say:
      action: std.noop
"""


@pytest_asyncio.fixture
async def system(tmp_path: Path) -> AsyncIterator[Guarded]:
    """Provide a system that asks for tokens."""
    async with guarded_system(tmp_path) as started:
        yield started


async def start_one(system: Guarded, namespace: str, channel: grpc.aio.Channel | None = None) -> str:
    """Start an execution that waits for an executor, as an admin, who may have a channel of its own. Return its id."""
    services = stubs(channel) if channel else vars(await system.granted("admin", name="root"))
    request = workflow_service_pb2.CreateDefinitionsRequest(namespace=namespace, text=ONE)
    await services["workflows"].CreateDefinitions(request)
    started = await services["executions"].StartExecution(
        executions.StartExecutionRequest(namespace=namespace, workflow="one")
    )
    found: str = started.execution.id
    return found


async def test_a_call_needs_a_token(system: Guarded) -> None:
    """Without a token, with a wrong, an expired or a revoked one, or with something else, a call is UNAUTHENTICATED,
    and is told what to do; health and reflection need none."""
    nobody = await system.caller("")
    info = system_service_pb2.GetServerInfoRequest()
    code, told = await refusal(nobody.system.GetServerInfo(info))
    assert (code, "asks for a token" in told, "--token-file" in told) == (UNAUTHENTICATED, True, True)
    expired = add_token(system.store, "late", "admin", expires_s=time.time() - 1)
    revoked = add_token(system.store, "gone", "admin")
    with system.store.write() as transaction:
        transaction.revoke_token(id_of(hash_of(revoked)), time.time())
    for token, said in ((new_token(), "is unknown"), (expired, "has expired"), (revoked, "was revoked")):
        caller = await system.caller(token)
        code, told = await refusal(caller.system.GetServerInfo(info))
        assert code is UNAUTHENTICATED
        assert said in told
        assert token not in told
    code, told = await refusal(nobody.system.GetServerInfo(info, metadata=(("authorization", "Basic eDp5"),)))
    assert (code, "form of a token" in told) == (UNAUTHENTICATED, True)


async def test_roles_are_for_their_namespaces(system: Guarded) -> None:
    """A viewer reads and does nothing else; an operator of one namespace does nothing in another; a refusal names the
    role and the namespace, but not one that its caller may not see."""
    there, elsewhere = await start_one(system, "team-a"), await start_one(system, "other")
    viewer = await system.granted("viewer@team-*")
    assert (await viewer.executions.GetExecution(executions.GetExecutionRequest(execution_id=there))).execution.id
    code, told = await refusal(viewer.executions.PauseExecution(executions.PauseExecutionRequest(execution_id=there)))
    assert code is DENIED
    assert told.startswith("'anna' lacks the role operator for the namespace 'team-a'")
    operator = await system.granted("operator@team-a")
    pause = executions.PauseExecutionRequest(execution_id=there, dry_run=True)
    await operator.executions.PauseExecution(pause)
    for request in (
        operator.executions.GetExecution(executions.GetExecutionRequest(execution_id=elsewhere)),
        operator.executions.CancelExecution(executions.CancelExecutionRequest(execution_id=elsewhere, dry_run=True)),
        operator.executions.WatchExecution(executions.WatchExecutionRequest(execution_id=elsewhere)),
        operator.executions.GetTask(executions.GetTaskRequest(task_execution_id=f"{elsewhere}.1")),
        operator.actions.ListActionExecutions(actions.ListActionExecutionsRequest(execution_id=elsewhere)),
        operator.executions.ReadValue(executions.ReadValueRequest(execution_id=elsewhere, field="input")),
    ):
        code, told = await refusal(request)
        assert code is DENIED
        assert f"the namespace of execution {elsewhere}" in told
        assert "other" not in told
    code, told = await refusal(
        operator.executions.StartExecution(executions.StartExecutionRequest(namespace="team-b", workflow="one"))
    )
    assert (code, "operator for the namespace 'team-b'" in told) == (DENIED, True)
    code, told = await refusal(
        operator.environments.PutEnvironment(environments.PutEnvironmentRequest(namespace="team-a", name="e"))
    )
    assert (code, "author for the namespace 'team-a'" in told) == (DENIED, True)


async def test_a_definition_is_read_by_its_id_in_its_namespace_only(system: Guarded) -> None:
    """The id of a definition of another namespace gives neither its text nor an execution of it."""
    await start_one(system, "secret")
    admin = await system.granted("admin")
    get = workflow_service_pb2.GetWorkflowRequest
    found = (await admin.workflows.GetWorkflow(get(namespace="secret", name="one"))).workflow
    operator = await system.granted("operator@team-a", "viewer@team-a")
    start = executions.StartExecutionRequest(namespace="team-a", definition_id=found.definition_id)
    for call in (
        operator.workflows.GetWorkflow(get(definition_id=found.definition_id)),
        operator.executions.StartExecution(start),
        operator.executions.ReadValue(executions.ReadValueRequest(definition_id=found.definition_id, field="text")),
    ):
        code, told = await refusal(call)
        assert (code, "role viewer for the namespace of definition" in told) == (DENIED, True)
    reader = await system.granted("operator@team-a", "viewer@secret")
    assert (await reader.executions.StartExecution(start)).execution.namespace == "team-a"


async def test_lists_have_only_what_may_be_seen(system: Guarded) -> None:
    """Lists, counts and operations on many leave out what is in other namespaces, whatever their filter says."""
    ids = {namespace: await start_one(system, namespace) for namespace in ("team-a", "team-b", "other", "")}
    caller = await system.granted("operator@team-*", "viewer@")

    async def listed(filter: str = "") -> set[str]:
        answer = await caller.executions.ListExecutions(executions.ListExecutionsRequest(filter=filter))
        return {each.namespace for each in answer.executions}

    assert await listed() == {"team-a", "team-b", ""}
    assert await listed("namespace=other") == set()
    assert await listed("namespace=other,team-a") == {"team-a"}
    swallowing = executions.ListExecutionsRequest(filter='workflow!="x')
    code, told = await refusal(caller.executions.ListExecutions(swallowing))
    assert (code, "a quotation mark is not closed" in told) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    counts = await caller.executions.CountExecutions(executions.CountExecutionsRequest())
    assert sum(each.count for each in counts.counts) == 3
    many = executions.CancelExecutionsRequest(
        filter="state=RUNNING", each=executions.CancelExecutionRequest(dry_run=True)
    )
    found = {response.outcome.execution_id async for response in caller.executions.CancelExecutions(many)}
    assert found == {ids["team-a"], ids["team-b"]}
    code, told = await refusal(caller.executions.CancelExecutions(executions.CancelExecutionsRequest()))
    assert (code, "filter: is missing" in told) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    workflows = await caller.workflows.ListWorkflows(workflow_service_pb2.ListWorkflowsRequest())
    assert {each.namespace for each in workflows.workflows} == {"team-a", "team-b", ""}
    code, told = await refusal(caller.system.ListExecutors(system_service_pb2.ListExecutorsRequest()))
    assert (code, "viewer for all namespaces" in told) == (DENIED, True)
    nothing = await system.granted("executor@math.*")
    code, told = await refusal(nothing.executions.ListExecutions(executions.ListExecutionsRequest()))
    assert (code, "viewer for any namespace" in told) == (DENIED, True)


async def test_admins_make_tokens_that_the_history_names(system: Guarded) -> None:
    """A token that was created works at once, is listed without its secret, and is the actor of what it does; the
    metadata for services does not change that; a repeated request gets the first answer."""
    admin = await system.granted("admin", name="root")
    token = new_token()
    request = access.CreateTokenRequest(
        name="bert",
        grants=[access.Grant(role=access.ROLE_AUTHOR, pattern="team-a")],
        sha256=hash_of(token),
        request_id="first",
        comment="for tests",
    )
    created = (await admin.access.CreateToken(request)).token
    assert (created.token_id, created.actor) == (id_of(hash_of(token)), "root")
    assert (await admin.access.CreateToken(request)).token == created
    bert = await system.caller(token)
    put = environments.PutEnvironmentRequest(namespace="team-a", name="stage")
    stored = (await bert.environments.PutEnvironment(put, metadata=(("x-dalsegno-actor", "root"),))).environment
    assert stored.actor == "bert"
    service = await system.granted("service", name="gateway")
    stored = (await service.environments.PutEnvironment(put, metadata=(("x-dalsegno-actor", "carl"),))).environment
    assert stored.actor == "carl"
    listed = (await admin.access.ListTokens(access.ListTokensRequest(page_size=1))).tokens
    assert len(listed) == 1
    for call in (
        bert.access.CreateToken(request),
        bert.access.ListTokens(access.ListTokensRequest()),
        bert.access.RevokeToken(access.RevokeTokenRequest(token_id=created.token_id)),
    ):
        assert await refusal(call) == (
            DENIED,
            "'bert' lacks the role admin for all namespaces (*); an admin makes a token with it by `dalsegno token"
            " create`",
        )
    code, told = await refusal(
        admin.access.CreateToken(
            access.CreateTokenRequest(grants=[access.Grant(role=access.ROLE_VIEWER, pattern="a*b")], sha256=b"x")
        )
    )
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert all(each in told for each in ("name: is missing", "sha256: has 1 bytes", "grants[0].pattern"))


async def test_a_task_token_is_a_permission_of_its_own(system: Guarded) -> None:
    """A call with nothing but a task token needs no role; beside an id or an alias it gives no permission."""
    there = await start_one(system, "team-a")
    nobody = await system.caller("")
    request: Any = partial(actions.CompleteActionRequest, outcome=actions.COMPLETION_OUTCOME_SUCCEEDED)
    code, told = await refusal(nobody.actions.CompleteAction(request(task_token="forged")))
    assert (code, "task token" in told) == (DENIED, True)
    for given in (
        {"action_execution_id": f"{there}.1.0.1"},
        {"action_execution_id": f"{there}.1.0.1", "task_token": "forged"},
        {"alias": "a", "task_token": "forged"},
    ):
        code, _ = await refusal(nobody.actions.CompleteAction(request(**given)))
        assert code is UNAUTHENTICATED
        other = await system.granted("operator@team-b")
        code, _ = await refusal(other.actions.CompleteAction(request(**given)))
        assert code is DENIED


def hello(*names: str, name: str = "worker") -> executor.ConnectRequest:
    """Return the Hello of an executor that serves these actions."""
    described = [executor.ActionDescription(name=each) for each in names]
    return executor.ConnectRequest(
        hello=executor.Hello(executor_id=name, session_id=str(uuid.uuid4()), actions=described, slots=1, credit=1)
    )


async def test_an_executor_serves_the_actions_of_its_patterns(system: Guarded) -> None:
    """A Hello with an action beyond the patterns is refused, with its name; an operator is no executor; an executor
    calls nothing else."""
    worker = await system.granted("executor@math.*", name="worker")
    call = worker.executor.Connect(iter([hello("math.add", "std.http")]))
    assert await refusal(call) == (
        DENIED,
        "'worker' lacks the role executor for the actions std.http; an admin makes a token with it by `dalsegno token"
        " create`",
    )
    operator = await system.granted("admin")
    code, told = await refusal(operator.executor.Connect())
    assert (code, "lacks the role executor" in told) == (DENIED, True)
    stream = worker.executor.Connect()
    await stream.write(hello("math.add"))
    assert (await stream.read()).WhichOneof("message") == "welcome"
    stream.cancel()


async def ends(stream: Any) -> tuple[grpc.StatusCode, str]:
    """Return how a stream ends."""
    async with asyncio.timeout(WAITS_S):
        return await stream.code(), await stream.details()


async def test_revocation_ends_open_streams_and_waits(system: Guarded) -> None:
    """Within 5 s of its revocation a token opens nothing, and the watch, the wait and the executor stream that it has
    open end with UNAUTHENTICATED; others go on."""
    there = await start_one(system, "team-a")
    token = add_token(system.store, "anna", "viewer@team-a", "executor")
    anna, other = await system.caller(token), await system.granted("viewer")
    watch = executions.WatchExecutionRequest(execution_id=there)
    watching, unaffected = anna.executions.WatchExecution(watch), other.executions.WatchExecution(watch)
    serving = anna.executor.Connect()
    await serving.write(hello("math.add"))
    for each in (watching, unaffected, serving):
        assert await each.read() is not grpc.aio.EOF
    waiting = asyncio.ensure_future(
        refusal(anna.executions.WaitExecution(executions.WaitExecutionRequest(execution_id=there)))
    )
    admin = await system.granted("admin")
    await admin.access.RevokeToken(access.RevokeTokenRequest(token_id=id_of(hash_of(token))))
    began_s = time.monotonic()
    ended = [await ends(watching), await ends(serving), await waiting]
    assert time.monotonic() - began_s < SOON_S
    assert {code for code, _ in ended} == {UNAUTHENTICATED}
    assert all("the token of 'anna' was revoked" in told for _, told in ended)
    code, _ = await refusal(anna.executions.GetExecution(executions.GetExecutionRequest(execution_id=there)))
    assert code is UNAUTHENTICATED
    assert not unaffected.done()
    unaffected.cancel()


async def test_a_caller_has_limits_of_its_own(tmp_path: Path) -> None:
    """Beyond its calls a second, or its open streams, a caller is refused with the time of the next try; others are
    served, and it is served again."""
    async with guarded_system(tmp_path, is_started=False) as system:
        await system.start_engine()
        own = system.file(add_token(system.store, "api", "service"))
        await system.start_api(token=own, caller_calls=2, caller_streams=2)
        there = await start_one(system, "team-a")
        anna = await system.granted("viewer")
        get = executions.GetExecutionRequest(execution_id=there)
        answers = await asyncio.gather(*(anna.executions.GetExecution(get) for _ in range(60)), return_exceptions=True)
        refused = [read_failure(each) for each in answers if isinstance(each, grpc.aio.AioRpcError)]
        assert refused
        assert len(answers) > len(refused)
        assert {(each.code, each.message) for each in refused} == {
            (grpc.StatusCode.RESOURCE_EXHAUSTED, "'anna' makes more than 2 calls a second")
        }
        assert all(each.retry_s is not None and 0 < each.retry_s <= 0.5 for each in refused)
        await asyncio.sleep(0.6)  # the time after which there is a call left
        await anna.executions.GetExecution(get)
        watch = executions.WatchExecutionRequest(execution_id=there)
        carl = [await system.granted("viewer", name="carl") for _ in range(3)]
        dora = await system.granted("viewer", name="dora")
        streams = [dora.executions.WatchExecution(watch), dora.executions.WatchExecution(watch)]
        for each in streams:
            await each.read()
        await asyncio.sleep(0.6)
        code, told = await refusal(dora.executions.WatchExecution(watch))
        assert (code, "has 2 streams and waits open" in told) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
        for each in carl:
            await each.executions.GetExecution(get)
        streams.pop().cancel()
        async with asyncio.timeout(WAITS_S):
            while len(streams) < 2:  # the server hears of the cancel a little later
                await asyncio.sleep(0.6)
                stream = dora.executions.WatchExecution(watch)
                with suppress(grpc.aio.AioRpcError):
                    await stream.read()
                    streams.append(stream)
        for each in streams:
            each.cancel()


async def test_writes_and_refused_calls_are_audited(system: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    """The audit log has who wrote what with which token, and each refused call; reads that are permitted are not in
    it, and no token ever is."""
    there = await start_one(system, "team-a")
    token = add_token(system.store, "anna", "operator@team-a")
    anna, nobody = await system.caller(token), await system.caller("")
    get, pause = (
        kind(execution_id=there) for kind in (executions.GetExecutionRequest, executions.PauseExecutionRequest)
    )
    with caplog.at_level(logging.INFO, "dalsegno.audit"):
        caplog.clear()
        await anna.executions.GetExecution(get)
        await anna.executions.PauseExecution(pause)
        await refusal(anna.workflows.DeleteWorkflow(workflow_service_pb2.DeleteWorkflowRequest(name="one")))
        await refusal(nobody.executions.GetExecution(get))
    lines = [vars(each) for each in caplog.records if each.name == "dalsegno.audit"]
    own = id_of(hash_of(token))
    assert [(each["message"], each["caller"], each["token"], each["code"], each["execution"]) for each in lines] == [
        ("ExecutionService/PauseExecution", "anna", own, "OK", there),
        ("WorkflowService/DeleteWorkflow", "anna", own, "PERMISSION_DENIED", ""),
        ("ExecutionService/GetExecution", "", "", "UNAUTHENTICATED", ""),  # its request was not looked at
    ]
    assert all(each["request_id"] for each in lines)
    assert token not in caplog.text + str(lines)


async def _next(stream: Any, kind: str) -> Any:
    """Return the next message of this kind."""
    async with asyncio.timeout(WAITS_S):
        while (message := await stream.read()).WhichOneof("message") != kind:
            assert message is not grpc.aio.EOF
        return getattr(message, kind)


async def test_an_executor_ends_no_action_of_another(system: Guarded) -> None:
    """Who knows an action that others run reports nothing for it, not even with an outcome that is unfit or an id that
    is written in another way: its executor ends it."""
    owner, forger = await system.granted("executor@std.*"), await system.granted("executor@math.*")
    owning, forging = owner.executor.Connect(), forger.executor.Connect()
    for stream, action in ((owning, "std.noop"), (forging, "math.add")):
        await stream.write(hello(action, name=action))
        await _next(stream, "welcome")
    there = await start_one(system, "team-a")
    run = (await _next(owning, "run_action")).actions[0]

    def report(action_id: str, result: str = "1") -> executor.ConnectRequest:
        done = executor.TaskDone(
            action_execution_id=action_id,
            delivery=run.delivery,
            outcome=executor.TASK_OUTCOME_SUCCEEDED,
            result=result,
        )
        return executor.ConnectRequest(task_done=executor.TaskDoneBatch(outcomes=[done]))

    for action_id, result in (
        (run.action_execution_id, "1"),
        (run.action_execution_id, "not JSON"),
        (f"{there}.01.00.01", "1"),
    ):
        await forging.write(report(action_id, result))
        ack = (await _next(forging, "ack")).acks[0]
        assert (ack.verdict, ack.reason) == (
            executor.ACK_VERDICT_REFUSED,
            "the token of this executor has no role for this action",
        )
    viewer = await system.granted("viewer")
    get = executions.GetExecutionRequest(execution_id=there)
    assert (await viewer.executions.GetExecution(get)).execution.state == execution_pb2.EXECUTION_STATE_RUNNING
    await owning.write(report(run.action_execution_id))
    assert (await _next(owning, "ack")).acks[0].verdict == executor.ACK_VERDICT_ACCEPTED
    for stream in (owning, forging):
        stream.cancel()
