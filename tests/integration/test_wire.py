"""What the services refuse, over the wire: the right code, everything that is wrong, and nothing created."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.integration.refusing import first_of, invalid, not_found, refused
from tests.processes import System, says_serving, state_of

from dalsegno.rpc.channel import open_channel
from dalsegno.v1 import (
    action_service_pb2,
    environment_service_pb2,
    execution_service_pb2,
    workflow_service_pb2,
    workflow_service_pb2_grpc,
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("wire")]

Start = execution_service_pb2.StartExecutionRequest
UNKNOWN_ID = "01890a5d-ac96-774b-bcce-b302099a8057"

GREETING = """
version: '2.0'
greeting:
  input:
    - name
    - word: Hello
  output: {said: <% $.said %>}
  tasks:
    greet:
      action: std.echo output="<% $.word %>, <% $.name %>"
      publish: {said: <% task().result %>}
waiting:
  tasks:
    wait:
      action: std.async_noop
"""

FIVE_MISTAKES = """version: '2.0'
broken:
  input: [count]
  outptu: <% $.count %>
  tasks:
    first:
      action: std.echo output=<% $.count + %>
      on-success: [nowhere]
    second:
      action: std.noop
      workflow: other
    third:
      action: std.noop
      retry:
        count: -1
        delay: 1
"""
MISTAKEN_LINES = [4, 7, 8, 11, 15]


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def definitions(shared_system: System) -> None:
    """The workflows that these tests start."""
    await shared_system.define(GREETING)


@dataclass(frozen=True)
class Count:
    """How many things there are."""

    executions: int
    actions: int
    workflows: int


async def count(system: System) -> Count:
    executions = await system.executions.ListExecutions(execution_service_pb2.ListExecutionsRequest(page_size=1000))
    actions = await system.actions.ListActionExecutions(action_service_pb2.ListActionExecutionsRequest(page_size=1000))
    workflows = await system.workflows.ListWorkflows(
        workflow_service_pb2.ListWorkflowsRequest(page_size=1000, all_versions=True)
    )
    return Count(len(executions.executions), len(actions.action_executions), len(workflows.workflows))


@pytest_asyncio.fixture(loop_scope="module")
async def nothing_created(system: System) -> AsyncIterator[None]:
    """Whatever the test asks for, afterwards there is no more than before."""
    before = await count(system)
    yield
    assert await count(system) == before


# Definitions


@pytest.mark.usefixtures("nothing_created")
async def test_five_mistakes_are_five_problems(system: System) -> None:
    """A YAML with five mistakes gets five problems, each with its line, and is not stored."""
    request = workflow_service_pb2.CreateDefinitionsRequest(text=FIVE_MISTAKES)
    failure = await refused(
        system.workflows.CreateDefinitions(request), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_DEFINITION"
    )
    assert [problem.line for problem in failure.problems] == MISTAKEN_LINES
    assert all(problem.path.startswith("broken") and problem.message for problem in failure.problems)
    answer = await system.workflows.ValidateDefinitions(
        workflow_service_pb2.ValidateDefinitionsRequest(text=FIVE_MISTAKES)
    )
    assert list(answer.problems) == list(failure.problems)
    assert list(answer.workflows) == ["broken"]


@pytest.mark.usefixtures("nothing_created")
async def test_any_client_gets_the_details(system: System) -> None:
    """A client without our channel options gets the problems too, in metadata of the usual size, and how many more."""
    tasks = "".join(f"    task{n}: {{action: std.noop, on-success: [nowhere{n}]}}\n" for n in range(300))
    text = f"version: '2.0'\nbroken:\n  tasks:\n{tasks}"
    async with grpc.aio.insecure_channel(system.api.address) as channel:
        stub = workflow_service_pb2_grpc.WorkflowServiceStub(channel)
        failure = await refused(
            stub.CreateDefinitions(workflow_service_pb2.CreateDefinitionsRequest(text=text)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_DEFINITION",
        )
    assert failure.problems
    assert len(failure.problems) + failure.left_out == 300
    assert [problem.line for problem in failure.problems] == list(range(4, 4 + len(failure.problems)))


@pytest.mark.usefixtures("nothing_created")
async def test_definitions_that_are_no_text(system: System) -> None:
    """An empty text is refused by its field, one too large with the limit; an unknown workflow is not found."""
    create, validate = system.workflows.CreateDefinitions, system.workflows.ValidateDefinitions
    await invalid(create(workflow_service_pb2.CreateDefinitionsRequest()), "text")
    await invalid(validate(workflow_service_pb2.ValidateDefinitionsRequest()), "text")
    long = workflow_service_pb2.CreateDefinitionsRequest(text="#" * (5 << 20))
    failure = await refused(create(long), grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_LARGE")
    assert "4,000,000 bytes" in failure.message
    get = system.workflows.GetWorkflow
    await not_found(get(workflow_service_pb2.GetWorkflowRequest(name="nowhere")), "nowhere")
    await invalid(get(workflow_service_pb2.GetWorkflowRequest(name="greeting", version=-1)), "version")
    delete = system.workflows.DeleteWorkflow
    await not_found(delete(workflow_service_pb2.DeleteWorkflowRequest(name="nowhere")), "nowhere")


# Starts


@pytest.mark.usefixtures("nothing_created")
@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", ["input.name"]),
        ('{"word": "Bye"}', ["input.name"]),
        ('{"name": 1, "nmae": 2, "wrod": 3}', ["input.nmae", "input.wrod"]),
        ('{"nmae": 2}', ["input.nmae", "input.name"]),
        ("{nonsense", ["input"]),
        ('["a list"]', ["input"]),
        ('{"name": NaN}', ["input"]),
        ('{"name": -Infinity}', ["input"]),
        ('{"name": "\\ud800"}', ["input"]),
        ('{"name": "\\u0000"}', ["input"]),
    ],
)
async def test_unfit_input(system: System, text: str, fields: list[str]) -> None:
    """An input that is missing, unknown or no JSON is refused with all that is wrong with it."""
    await invalid(system.executions.StartExecution(Start(workflow="greeting", input=text)), *fields)


@pytest.mark.usefixtures("nothing_created")
async def test_everything_wrong_is_named_at_once(system: System) -> None:
    """A request with several wrong fields is answered with each of them, not with the first."""
    request = Start(
        version=-1,
        input="[",
        params="3",
        labels={"a b": ""},
        execution_id="nonsense",
        comment="x" * 5000,
        deadline=Timestamp(seconds=-5),
    )
    await invalid(
        system.executions.StartExecution(request),
        "workflow",
        "version",
        "input",
        "params",
        "labels['a b']",
        "execution_id",
        "comment",
        "deadline",
    )


@pytest.mark.usefixtures("nothing_created")
async def test_starts_of_what_is_not_there(system: System) -> None:
    """An unknown workflow, version, definition, environment or namespace's workflow is NOT_FOUND and named."""
    start = system.executions.StartExecution
    await not_found(start(Start(workflow="greeting", version=9)), "greeting version 9")
    await not_found(start(Start(workflow="greeting", namespace="nowhere", input='{"name": 1}')), "greeting")
    await not_found(start(Start(definition_id=UNKNOWN_ID)), UNKNOWN_ID)
    await not_found(start(Start(workflow="greeting", input='{"name": 1}', environment="nowhere")), "nowhere")


@pytest.mark.usefixtures("nothing_created")
async def test_too_large(system: System) -> None:
    """A message of 20 MB and an input of 5 MB are RESOURCE_EXHAUSTED, and the error names size and limit."""
    start = system.executions.StartExecution
    text = '{"name": "' + "x" * 20_000_000 + '"}'
    failure = await refused(
        start(Start(workflow="greeting", input=text)), grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_LARGE"
    )
    assert "16 MiB" in failure.message
    assert "20000027 bytes" in failure.message
    text = '{"name": "' + "x" * 5_000_000 + '"}'
    failure = await refused(
        start(Start(workflow="greeting", input=text)), grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_LARGE"
    )
    assert "4,000,000 bytes" in failure.message
    assert "input" in failure.message


@pytest.mark.usefixtures("nothing_created")
async def test_start_dry_run(system: System) -> None:
    """A dry run tells what would start and follow, and creates nothing."""
    answer = await system.executions.StartExecution(Start(workflow="greeting", input='{"name": 1}', dry_run=True))
    assert [task.name for task in answer.dry_run.starts] == ["greet"]
    assert not answer.HasField("execution")
    await invalid(system.executions.StartExecution(Start(workflow="greeting", dry_run=True)), "input.name")


# Repeated requests


async def test_repeated_request_id(system: System) -> None:
    """The same request id and body get the first answer again, another body ALREADY_EXISTS; one execution is made."""
    request_id = str(uuid.uuid4())
    start, before = system.executions.StartExecution, await count(system)
    first = await start(Start(workflow="greeting", input='{"name": 1}', request_id=request_id))
    await system.wait(first.execution.id)
    again = await start(Start(workflow="greeting", input='{"name": 1}', request_id=request_id))
    assert again == first
    other = start(Start(workflow="greeting", input='{"name": 2}', request_id=request_id))
    await refused(other, grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert (await count(system)).executions == before.executions + 1
    elsewhere = Start(definition_id=first.execution.definition_id, input='{"name": 2}', request_id=request_id)
    elsewhere.namespace = "elsewhere"
    assert (await start(elsewhere)).execution.id != first.execution.id


async def test_refused_request_may_be_repeated(system: System) -> None:
    """A request that was refused has left nothing behind: its id may be used by the corrected one."""
    request_id = str(uuid.uuid4())
    await invalid(system.executions.StartExecution(Start(workflow="greeting", request_id=request_id)), "input.name")
    execution_id = await system.begin("greeting", {"name": 1}, request_id=request_id)
    assert state_of(await system.wait(execution_id)) == "SUCCESS"


async def test_chosen_execution_id(system: System) -> None:
    """A caller may choose the id; the same request again gets the same answer, another one is ALREADY_EXISTS."""
    chosen = str(uuid.uuid4())
    first = await system.executions.StartExecution(Start(workflow="greeting", input='{"name": 1}', execution_id=chosen))
    assert first.execution.id == chosen
    again = await system.executions.StartExecution(Start(workflow="greeting", input='{"name": 1}', execution_id=chosen))
    assert again.execution.id == chosen
    other = system.executions.StartExecution(Start(workflow="greeting", input='{"name": 2}', execution_id=chosen))
    await refused(other, grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS")


async def test_repeated_requests_of_the_other_services(system: System) -> None:
    """Definitions, environments, actions and controls take a request id in the same way."""
    text, request_id = "version: '2.0'\nrepeated: {tasks: {a: {action: std.noop}}}", str(uuid.uuid4())
    create = workflow_service_pb2.CreateDefinitionsRequest(text=text, request_id=request_id)
    assert await system.workflows.CreateDefinitions(create) == await system.workflows.CreateDefinitions(create)
    put = environment_service_pb2.PutEnvironmentRequest(name="repeated", variables="{}", request_id=str(uuid.uuid4()))
    assert await system.environments.PutEnvironment(put) == await system.environments.PutEnvironment(put)
    put.variables = '{"a": 1}'
    await refused(system.environments.PutEnvironment(put), grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    run = action_service_pb2.RunActionRequest(action="std.noop", request_id=str(uuid.uuid4()))
    assert await system.actions.RunAction(run) == await system.actions.RunAction(run)
    execution_id = await system.begin("waiting")
    pause = execution_service_pb2.PauseExecutionRequest(execution_id=execution_id, request_id=str(uuid.uuid4()))
    assert await system.executions.PauseExecution(pause) == await system.executions.PauseExecution(pause)
    await system.executions.CancelExecution(execution_service_pb2.CancelExecutionRequest(execution_id=execution_id))


# Controls


async def test_expected_revision(system: System) -> None:
    """A control that expects another revision is ABORTED and changes nothing; with the right one it is carried out."""
    execution_id = await system.begin("waiting")
    execution = await settled(system, execution_id)
    for control, request in controls(execution_id):
        request.expected_revision = execution.revision + 1
        await refused(control(system)(request), grpc.StatusCode.ABORTED, "REVISION_MOVED")
    assert await system.get(execution_id) == execution
    cancel = execution_service_pb2.CancelExecutionRequest(
        execution_id=execution_id, expected_revision=execution.revision
    )
    await system.executions.CancelExecution(cancel)
    assert state_of(await system.wait(execution_id)) == "CANCELLED"


async def test_dry_run_changes_nothing(system: System) -> None:
    """A control with dry_run tells the state that would follow, and the execution stays at its revision."""
    execution_id = await system.begin("waiting")
    execution = await settled(system, execution_id)
    pause = execution_service_pb2.PauseExecutionRequest(execution_id=execution_id, dry_run=True)
    answer = await system.executions.PauseExecution(pause)
    assert answer.dry_run.revision == execution.revision
    assert not answer.HasField("execution")
    cancel = execution_service_pb2.CancelExecutionRequest(execution_id=execution_id, dry_run=True)
    assert (await system.executions.CancelExecution(cancel)).dry_run.state
    assert await system.get(execution_id) == execution
    cancel.dry_run = False
    await system.executions.CancelExecution(cancel)
    delete = execution_service_pb2.DeleteExecutionRequest(execution_id=execution_id, dry_run=True)
    await system.wait(execution_id)
    await system.executions.DeleteExecution(delete)
    assert state_of(await system.get(execution_id)) == "CANCELLED"


async def test_controls_in_the_wrong_state(system: System) -> None:
    """What is completed can be neither paused, resumed nor cancelled, what runs cannot be deleted: each obstacle is
    named."""
    done = await system.run("greeting", {"name": 1})
    for control, request in controls(done.id):
        if not isinstance(request, execution_service_pb2.DeleteExecutionRequest):
            failure = await refused(control(system)(request), grpc.StatusCode.FAILED_PRECONDITION, "REFUSED")
            assert failure.violations
    running = await system.begin("waiting")
    delete = execution_service_pb2.DeleteExecutionRequest(execution_id=running)
    failure = await refused(system.executions.DeleteExecution(delete), grpc.StatusCode.FAILED_PRECONDITION, "REFUSED")
    assert [violation.subject for violation in failure.violations] == [f"execution {running}"]
    await system.executions.CancelExecution(execution_service_pb2.CancelExecutionRequest(execution_id=running))


@pytest.mark.usefixtures("nothing_created")
async def test_unknown_ids(system: System) -> None:
    """Every call on an unknown execution is NOT_FOUND, on an id that is none INVALID_ARGUMENT by its field."""
    e, a = execution_service_pb2, action_service_pb2
    for unknown in (UNKNOWN_ID, "nonsense", ""):
        calls: list[Awaitable[object]] = [
            system.executions.GetExecution(e.GetExecutionRequest(execution_id=unknown)),
            system.executions.WaitExecution(e.WaitExecutionRequest(execution_id=unknown)),
            system.executions.ListTasks(e.ListTasksRequest(execution_id=unknown)),
            system.executions.ListChanges(e.ListChangesRequest(execution_id=unknown)),
            first_of(system.executions.WatchExecution(e.WatchExecutionRequest(execution_id=unknown))),
            *(control(system)(request) for control, request in controls(unknown)),
        ]
        for call in calls:
            if unknown == UNKNOWN_ID:
                await not_found(call, unknown)
            else:
                await invalid(call, "execution_id")
    for text in ("nonsense", UNKNOWN_ID, f"{UNKNOWN_ID}.x"):
        await invalid(system.executions.GetTask(e.GetTaskRequest(task_execution_id=text)), "task_execution_id")
        await invalid(
            system.actions.GetActionExecution(a.GetActionExecutionRequest(action_execution_id=text)),
            "action_execution_id",
        )
    task, attempt = f"{UNKNOWN_ID}.1", f"{UNKNOWN_ID}.1.0.1"
    await not_found(system.executions.GetTask(e.GetTaskRequest(task_execution_id=task)), task)
    get = a.GetActionExecutionRequest(action_execution_id=attempt)
    await not_found(system.actions.GetActionExecution(get), attempt)
    listed = a.ListActionExecutionsRequest(execution_id=UNKNOWN_ID)
    await not_found(system.actions.ListActionExecutions(listed), UNKNOWN_ID)


# Lists


LISTS = ("executions", "workflows", "actions", "standalone", "environments")


def listing(system: System, name: str, **more: Any) -> Awaitable[Any]:
    """One page of one of the lists."""
    if name == "executions":
        return system.executions.ListExecutions(execution_service_pb2.ListExecutionsRequest(**more))
    if name == "workflows":
        return system.workflows.ListWorkflows(workflow_service_pb2.ListWorkflowsRequest(**more))
    if name == "actions":
        return system.actions.ListActions(action_service_pb2.ListActionsRequest(**more))
    if name == "standalone":
        return system.actions.ListActionExecutions(action_service_pb2.ListActionExecutionsRequest(**more))
    return system.environments.ListEnvironments(environment_service_pb2.ListEnvironmentsRequest(**more))


@pytest.mark.parametrize("name", LISTS)
async def test_lists_refuse(system: System, name: str) -> None:
    """A page token that is not from the list, a filter that cannot be read and a negative size are refused by field."""
    await invalid(listing(system, name, page_token="nonsense"), "page_token", reason="INVALID_PAGE_TOKEN")
    await invalid(listing(system, name, page_size=-1), "page_size")
    for text in ("nonsense", "colour=red", 'namespace="open', "state~x"):
        await invalid(listing(system, name, filter=text), "filter")


async def test_page_tokens(system: System) -> None:
    """Pages follow each other without gap or repeat; a token holds for the list and the filter that it came from."""
    ids = [await system.begin("greeting", {"name": n}, labels={"of": "pages"}) for n in range(7)]
    found: list[str] = []
    request = execution_service_pb2.ListExecutionsRequest(page_size=3, filter="label.of=pages")
    sizes = []
    while True:
        page = await system.executions.ListExecutions(request)
        found += [execution.id for execution in page.executions]
        sizes.append(len(page.executions))
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert found == ids[::-1]
    assert sizes == [3, 3, 1]
    token = request.page_token
    await invalid(listing(system, "executions", page_token=token), "page_token", reason="INVALID_PAGE_TOKEN")
    await invalid(listing(system, "workflows", page_token=token), "page_token", reason="INVALID_PAGE_TOKEN")


# Actions, environments, watching


@pytest.mark.usefixtures("nothing_created")
async def test_actions_refuse(system: System) -> None:
    """RunAction and CompleteAction name what is missing, unknown or not genuine."""
    a = action_service_pb2
    run, complete = system.actions.RunAction, system.actions.CompleteAction
    await not_found(run(a.RunActionRequest(action="std.nothing")), "std.nothing")
    await invalid(run(a.RunActionRequest(action="std.echo")), "input.output")
    await invalid(run(a.RunActionRequest(action="std.noop", input='{"a": 1}')), "input.a")
    await invalid(run(a.RunActionRequest(input="[", timeout=Duration())), "action", "input", "timeout")
    await invalid(complete(a.CompleteActionRequest()), "task_token", "outcome")
    succeeded = a.COMPLETION_OUTCOME_SUCCEEDED
    await refused(
        complete(a.CompleteActionRequest(task_token="made:up:token", outcome=succeeded)),
        grpc.StatusCode.PERMISSION_DENIED,
        "PERMISSION_DENIED",
    )
    attempt = f"{UNKNOWN_ID}.1.0.1"
    await not_found(complete(a.CompleteActionRequest(action_execution_id=attempt, outcome=succeeded)), attempt)
    unfit = a.CompleteActionRequest(action_execution_id=attempt, outcome=succeeded, result="{nonsense", error="no")
    await invalid(complete(unfit), "result", "error")


async def test_environments_refuse(system: System) -> None:
    """An environment needs a name and an object, and is ABORTED at another revision than expected."""
    w = environment_service_pb2
    put, get, delete = (
        system.environments.PutEnvironment,
        system.environments.GetEnvironment,
        system.environments.DeleteEnvironment,
    )
    await invalid(put(w.PutEnvironmentRequest(variables="[1]")), "name", "variables")
    await invalid(get(w.GetEnvironmentRequest()), "name")
    await not_found(get(w.GetEnvironmentRequest(name="nowhere")), "nowhere")
    await not_found(delete(w.DeleteEnvironmentRequest(name="nowhere")), "nowhere")
    stored = await put(w.PutEnvironmentRequest(name="moving", variables='{"a": 1}'))
    late = w.PutEnvironmentRequest(name="moving", expected_revision=stored.environment.revision + 1)
    await refused(put(late), grpc.StatusCode.ABORTED, "REVISION_MOVED")
    gone = w.DeleteEnvironmentRequest(name="moving", expected_revision=stored.environment.revision + 1)
    await refused(delete(gone), grpc.StatusCode.ABORTED, "REVISION_MOVED")
    assert (await get(w.GetEnvironmentRequest(name="moving"))).environment == stored.environment


async def test_wait_ends_before_its_deadline(system: System) -> None:
    """WaitExecution answers shortly before the call's deadline, or after its timeout, and says that it is not over."""
    execution_id = await system.begin("waiting")
    request = execution_service_pb2.WaitExecutionRequest(execution_id=execution_id)
    answer = await system.executions.WaitExecution(request, timeout=0.6)
    assert (answer.at_rest, answer.reason) == (False, execution_service_pb2.WAIT_REASON_TIME_OVER)
    assert state_of(answer.execution) == "RUNNING"
    request.timeout.FromMilliseconds(50)
    assert not (await system.executions.WaitExecution(request)).at_rest
    request.timeout.FromMilliseconds(-50)
    await invalid(system.executions.WaitExecution(request), "timeout")
    await system.executions.CancelExecution(execution_service_pb2.CancelExecutionRequest(execution_id=execution_id))


async def test_deadline_and_the_same_request_again(system: System) -> None:
    """A write whose deadline passes may have been made: the same request again gets its answer, and it is made once."""
    before = await count(system)
    request = Start(workflow="greeting", input='{"name": 1}', request_id=str(uuid.uuid4()))
    os.kill(system.engine.pid, signal.SIGSTOP)
    try:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await system.executions.StartExecution(request, timeout=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    finally:
        os.kill(system.engine.pid, signal.SIGCONT)
    answer = await system.executions.StartExecution(request)
    assert state_of(await system.wait(answer.execution.id)) == "SUCCESS"
    assert (await count(system)).executions == before.executions + 1


# Every server


async def test_health_and_reflection(system: System) -> None:
    """Every server tells its health, for itself and each service, and reflects what it serves."""
    expected = {
        system.engine.address: {"dalsegno.v1.EngineService", "dalsegno.v1.ExecutorService"},
        system.executor.address: set(),
        system.api.address: {
            "dalsegno.v1.WorkflowService",
            "dalsegno.v1.ExecutionService",
            "dalsegno.v1.ActionService",
            "dalsegno.v1.EnvironmentService",
            "dalsegno.v1.SystemService",
            "dalsegno.v1.AccessService",
        },
    }
    for address, services in expected.items():
        async with open_channel(address) as channel:
            for service in ("", *services):
                assert await says_serving(channel, service), (address, service)
            stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]
            asked: Any = reflection_pb2.ServerReflectionRequest(list_services="")
            answer = await first_of(stub.ServerReflectionInfo(iter([asked])))
            told = {each.name for each in answer.list_services_response.service}
        assert {name for name in told if name.startswith("dalsegno")} == services


async def test_request_id_of_the_call_is_kept(system: System) -> None:
    """A caller's x-request-id comes back with the refusal, so that it can be found in the logs of all services."""
    call = system.executions.StartExecution(Start(workflow="nowhere"), metadata=(("x-request-id", "tell-me-42"),))
    failure = await refused(call, grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
    assert failure.request_id == "tell-me-42"
    assert "tell-me-42" in system.api.log.read_text()
    assert "tell-me-42" in system.engine.log.read_text()


def controls(execution_id: str) -> list[tuple[Any, Any]]:
    """Every control of an execution: its stub method, its request."""
    e = execution_service_pb2
    return [
        (lambda system: system.executions.PauseExecution, e.PauseExecutionRequest(execution_id=execution_id)),
        (lambda system: system.executions.ResumeExecution, e.ResumeExecutionRequest(execution_id=execution_id)),
        (lambda system: system.executions.CancelExecution, e.CancelExecutionRequest(execution_id=execution_id)),
        (lambda system: system.executions.DeleteExecution, e.DeleteExecutionRequest(execution_id=execution_id)),
    ]


async def settled(system: System, execution_id: str) -> Any:
    """A `waiting` execution once its action is delegated: nothing moves it any more but us."""
    watch = execution_service_pb2.WatchExecutionRequest(execution_id=execution_id, from_first_change=True)
    stream = system.executions.WatchExecution(watch)
    async for message in stream:
        if any(change.attempt_moved.delegated for change in message.changes.changes):
            stream.cancel()
            return await system.get(execution_id)
    raise AssertionError("it was not delegated")
