"""Every write, over the wire: what it does, how it is refused, and what happens when it is repeated."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.status_pb2 import Status
from tests.integration.engines import ScriptedExecutor, done, until
from tests.unit.engine.conftest import Desk

from dalsegno.rpc import views
from dalsegno.rpc.failure import Failure, read_failure
from dalsegno.rpc.sizes import MESSAGE_BYTES_MAX
from dalsegno.store.snapshot import Snapshot
from dalsegno.v1 import action_service_pb2 as actions
from dalsegno.v1 import engine_service_pb2, execution_pb2, operation_pb2
from dalsegno.v1 import environment_service_pb2 as environments
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.v1 import workflow_service_pb2 as workflows

ONE = """
version: '2.0'
one:
  description: A task.
  tags: [small]
  input: [name, {greeting: Hello}]
  output: {said: <% $.said %>}
  tasks:
    say:
      action: std.echo output="<% $.greeting %>, <% $.name %>"
      publish: {said: <% task().result %>}
"""

TREE = """
version: '2.0'
parent:
  tasks:
    call:
      workflow: child
      on-success: [after]
    after:
      action: std.noop
child:
  tasks:
    work:
      action: std.noop
"""


async def refused(call: Any) -> Failure:
    """What a call that must fail says."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return read_failure(caught.value)


async def test_start_answers_with_the_execution(desk: Desk) -> None:
    """When StartExecution answers, the execution is stored and its first tasks are decided (P2, S1-S3)."""
    await desk.create(ONE)
    execution = await desk.start("one", input='{"name": "Ada"}', labels={"team": "red"}, comment="why not")
    assert execution.state == execution_pb2.EXECUTION_STATE_RUNNING
    assert execution.input == '{"name":"Ada","greeting":"Hello"}'
    assert (execution.actor, execution.comment, execution.labels["team"]) == ("tester", "why not", "red")
    assert [(each.state, each.count) for each in execution.task_counts] == [(execution_pb2.TASK_STATE_RUNNING, 1)]
    assert desk.execution(execution.id).revision >= execution.revision > 0


async def test_every_wrong_field_of_a_start_is_named(desk: Desk) -> None:
    """A start with several mistakes is refused for all of them, and nothing is created."""
    failure = await refused(desk.start("", input="[1]", params="{", execution_id="x", labels={"a b": ""}, version=-1))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    told = {violation.subject for violation in failure.violations}
    assert {"workflow", "input", "params", "execution_id", "version"} <= told
    assert desk.read(lambda queries: queries.executions().rows) == []


async def test_missing_and_unknown_inputs_are_refused(desk: Desk) -> None:
    """A missing and an unknown input are INVALID_ARGUMENT, each named; nothing is created."""
    await desk.create(ONE)
    failure = await refused(desk.start("one", input='{"nmae": 1}'))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.subject for violation in failure.violations] == ["input.name", "input.nmae"]
    assert desk.read(lambda queries: queries.executions().rows) == []


@pytest.mark.parametrize("more", [{"workflow": "two"}, {"workflow": "one", "version": 9}])
async def test_unknown_workflow_or_version_is_not_found(desk: Desk, more: dict[str, Any]) -> None:
    """There is no such workflow, or not in that version: NOT_FOUND."""
    await desk.create(ONE)
    assert (await refused(desk.start(**more))).code is grpc.StatusCode.NOT_FOUND


async def test_past_deadline_and_unknown_environment_are_refused(desk: Desk) -> None:
    """A deadline that has passed is INVALID_ARGUMENT, an environment that is not there NOT_FOUND."""
    await desk.create(ONE)
    given = {"input": '{"name": "Ada"}'}
    late = await refused(desk.start("one", deadline=Timestamp(seconds=1), **given))
    assert late.code is grpc.StatusCode.INVALID_ARGUMENT
    nowhere = await refused(desk.start("one", environment="nowhere", **given))
    assert nowhere.code is grpc.StatusCode.NOT_FOUND


async def test_too_large_input_is_refused(desk: Desk) -> None:
    """An input over 4,000,000 bytes is RESOURCE_EXHAUSTED."""
    await desk.create(ONE)
    failure = await refused(desk.start("one", input='{"name": "%s"}' % ("x" * (5 << 20))))
    assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_LARGE")


async def test_repeated_request_gets_the_first_answer(desk: Desk) -> None:
    """The same request id and body give the first answer again; another body is ALREADY_EXISTS."""
    await desk.create(ONE)
    request = {"input": '{"name": "Ada"}', "request_id": "r1"}
    first = await desk.start("one", **request)
    assert await desk.start("one", **request) == first
    failure = await refused(desk.start("one", input='{"name": "Bob"}', request_id="r1"))
    assert (failure.code, failure.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert len(desk.read(lambda queries: queries.executions().rows)) == 1
    await desk.create(ONE, namespace="elsewhere")
    other = await desk.start("one", namespace="elsewhere", **request)
    assert other.id != first.id, "request ids are unique per namespace"


async def test_request_repeated_at_once_is_done_once(desk: Desk) -> None:
    """Ten calls with one request id in one batch create one execution."""
    await desk.create(ONE)
    request = {"input": '{"name": "Ada"}', "request_id": "r1"}
    answers = await asyncio.gather(*(desk.start("one", **request) for _ in range(10)))
    assert len({answer.id for answer in answers}) == 1
    assert len(desk.read(lambda queries: queries.executions().rows)) == 1


async def test_execution_id_of_the_callers_choice(desk: Desk) -> None:
    """The chosen id is taken; the same start again gets the same answer; another one is ALREADY_EXISTS."""
    await desk.create(ONE)
    chosen = str(uuid.uuid4())
    first = await desk.start("one", execution_id=chosen, input='{"name": "Ada"}')
    assert first.id == chosen
    assert await desk.start("one", execution_id=chosen, input='{"name": "Ada"}') == first
    failure = await refused(desk.start("one", execution_id=chosen, input='{"name": "Bob"}'))
    assert (failure.code, failure.reason) == (grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS")


@pytest.mark.parametrize(("took", "asks"), [("r1", ""), ("", "r1"), ("r1", "r2")])
async def test_a_taken_id_is_given_to_the_request_that_took_it_only(desk: Desk, took: str, asks: str) -> None:
    """The same body with another request id, with one or without, is another request: ALREADY_EXISTS."""
    await desk.create(ONE)
    chosen, given = str(uuid.uuid4()), '{"name": "Ada"}'
    first = await desk.start("one", execution_id=chosen, input=given, request_id=took)
    assert await desk.start("one", execution_id=chosen, input=given, request_id=took) == first
    failure = await refused(desk.start("one", execution_id=chosen, input=given, request_id=asks))
    assert (failure.code, failure.reason) == (grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS")
    again = await desk.start("one", execution_id=chosen, input=given, request_id=took)
    assert again == first, "the refused request has not taken the place of the first"


@pytest.mark.parametrize(("took", "asks"), [("", "x"), ("x", ""), ("x", "y")])
async def test_a_taken_id_of_a_rerun_is_given_to_the_request_that_took_it_only(
    desk: Desk, took: str, asks: str
) -> None:
    """A rerun from the beginning takes an id as a start does: the same request gets the first answer again, another
    request id, another body or a start none, and a rerun none that a start has taken."""
    await desk.create(ONE)
    original = await desk.start("one", input='{"name": "Ada"}', execution_id=str(uuid.UUID(int=8)))
    chosen = str(uuid.UUID(int=7))
    rerun = executions.RerunExecutionRequest(
        execution_id=original.id,
        start_from=operation_pb2.RERUN_FROM_BEGINNING,
        new_execution_id=chosen,
        request_id=took,
    )

    def other(**fields: Any) -> executions.RerunExecutionRequest:
        return executions.RerunExecutionRequest(**{name.name: value for name, value in rerun.ListFields()} | fields)

    first, at_once = await asyncio.gather(*(desk.submit("rerun_execution", rerun) for _ in range(2)))
    assert first.execution.id == chosen
    assert at_once == first
    assert await desk.submit("rerun_execution", rerun) == first
    for taken in (
        desk.submit("rerun_execution", other(request_id=asks)),
        desk.submit("rerun_execution", other(request_id=f"{asks}z", comment="another body")),
        desk.submit("rerun_execution", other(request_id="", dry_run=True)),
        desk.start("one", input='{"name": "Ada"}', execution_id=chosen),
        desk.submit("rerun_execution", other(execution_id=chosen, new_execution_id=original.id, request_id="")),
    ):
        failure = await refused(taken)
        assert (failure.code, failure.reason) == (grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS")
    assert desk.read(lambda queries: [row.id for row in queries.executions().rows]) in (
        [chosen, original.id],
        [original.id, chosen],
    )


async def test_use_existing_answers_with_the_execution_as_it_is_now(desk: Desk) -> None:
    """The answer is the execution as it is now, also if it was started with other input, and `created: false`."""
    await desk.create(ONE)
    use = executions.ON_CONFLICT_USE_EXISTING
    request = executions.StartExecutionRequest(
        workflow="one", execution_id=str(uuid.uuid4()), input='{"name": "Ada"}', on_conflict=use
    )
    first = await desk.submit("start_execution", request)
    assert first.created
    await desk.wait(request.execution_id, "RUNNING")
    cancel = executions.CancelExecutionRequest(
        execution_id=request.execution_id, terminate=operation_pb2.Terminate(message="enough")
    )
    await desk.submit("cancel_execution", cancel)
    for given in ('{"name": "Ada"}', '{"name": "Bob"}'):
        request.input = given
        again = await desk.submit("start_execution", request)
        assert not again.created
        assert again.execution.state == execution_pb2.EXECUTION_STATE_CANCELLED
        assert again.execution.input == first.execution.input
    request.dry_run = True
    dry = await desk.submit("start_execution", request)
    assert (dry.created, dry.dry_run.state, dry.dry_run.revision) == (
        False,
        execution_pb2.EXECUTION_STATE_CANCELLED,
        again.execution.revision,
    )
    assert len(desk.read(lambda queries: queries.executions().rows)) == 1


async def test_use_existing_needs_an_id_of_the_same_namespace(desk: Desk) -> None:
    """Without an id nothing can be in conflict; an id of another namespace is taken, and tells nothing."""
    await desk.create(ONE)
    await desk.create(ONE, namespace="other")
    use, given = executions.ON_CONFLICT_USE_EXISTING, '{"name": "Ada"}'
    failure = await refused(desk.start("one", input=given, on_conflict=use))
    assert [violation.subject for violation in failure.violations] == ["on_conflict"]
    chosen = (await desk.start("one", input=given)).id
    failure = await refused(desk.start("one", input=given, execution_id=chosen, on_conflict=use, namespace="other"))
    assert failure.code is grpc.StatusCode.ALREADY_EXISTS


async def test_a_start_repeated_by_its_request_id_was_created(desk: Desk) -> None:
    """With a request id the first answer comes again, `created` included, also with USE_EXISTING."""
    await desk.create(ONE)
    request = executions.StartExecutionRequest(
        workflow="one",
        execution_id=str(uuid.uuid4()),
        input='{"name": "Ada"}',
        request_id="r1",
        on_conflict=executions.ON_CONFLICT_USE_EXISTING,
    )
    first = await desk.submit("start_execution", request)
    assert first.created
    assert await desk.submit("start_execution", request) == first


async def test_dry_start_changes_nothing(desk: Desk) -> None:
    """A dry run tells what would start and what may follow; no execution is there afterwards."""
    await desk.create(TREE)
    request = executions.StartExecutionRequest(workflow="parent", dry_run=True)
    told = (await desk.submit("start_execution", request)).dry_run
    assert [each.name for each in told.starts] == ["call"]
    assert list(told.may_follow) == ["after"]
    assert desk.read(lambda queries: queries.executions().rows) == []


async def test_pause_resume_and_cancel(desk: Desk) -> None:
    """Pause is refused unless RUNNING (O1) and waits for work (O2, O3); resume continues (R2); cancel ends (O15)."""
    await desk.create(TREE)
    held = ScriptedExecutor(desk.address, lambda run: None)
    async with held:
        await until(lambda: held.welcomes)
        execution = await desk.start("child")
        await until(lambda: held.received)
        pause = executions.PauseExecutionRequest(execution_id=execution.id, comment="wait")
        answer = (await desk.submit("pause_execution", pause)).execution
        assert answer.state == execution_pb2.EXECUTION_STATE_PAUSING
        assert list(answer.waiting_for) == [f"{execution.id}.1.0.1"]
        run = held.received[0]
        await held.finish(run, done(run))
        await desk.wait(execution.id, "PAUSED")
        resume = executions.ResumeExecutionRequest(execution_id=execution.id)
        await desk.submit("resume_execution", resume)
        await desk.wait(execution.id, "SUCCESS")
        failure = await refused(desk.submit("pause_execution", pause))
        assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REFUSED")
        other = await desk.start("child")
        cancel = executions.CancelExecutionRequest(execution_id=other.id)
        await desk.submit("cancel_execution", cancel)
        await until(lambda: len(held.received) == 2)
        await held.finish(held.received[1], done(held.received[1]))
        await desk.wait(other.id, "CANCELLED")


async def test_expected_revision_and_dry_run_of_a_control(desk: Desk) -> None:
    """Another revision than expected is ABORTED; a dry run answers for the present revision and changes nothing."""
    await desk.create(TREE)
    execution = await desk.start("child")
    stale = executions.PauseExecutionRequest(execution_id=execution.id, expected_revision=1)
    failure = await refused(desk.submit("pause_execution", stale))
    assert (failure.code, failure.reason) == (grpc.StatusCode.ABORTED, "REVISION_MOVED")
    before = desk.execution(execution.id)
    dry = executions.PauseExecutionRequest(execution_id=execution.id, dry_run=True)
    told = (await desk.submit("pause_execution", dry)).dry_run
    assert told.state == execution_pb2.EXECUTION_STATE_PAUSED
    assert told.revision == before.revision
    assert desk.execution(execution.id) == before


async def test_control_of_what_is_not_there(desk: Desk) -> None:
    """An unknown execution is NOT_FOUND, an id that is none INVALID_ARGUMENT."""
    unknown = executions.PauseExecutionRequest(execution_id=str(uuid.uuid4()))
    assert (await refused(desk.submit("pause_execution", unknown))).code is grpc.StatusCode.NOT_FOUND
    none = executions.PauseExecutionRequest(execution_id="x")
    assert (await refused(desk.submit("pause_execution", none))).code is grpc.StatusCode.INVALID_ARGUMENT


async def test_delete_takes_the_whole_family(desk: Desk) -> None:
    """Only what is at rest is deleted, with its descendants and never a child alone; a repeat is answered again."""
    await desk.create(TREE)
    execution = await desk.start("parent")
    await until(lambda: desk.read(lambda queries: queries.children(execution.id)))
    child = desk.read(lambda queries: queries.children(execution.id))[0]
    delete = executions.DeleteExecutionRequest(execution_id=execution.id, request_id="gone")
    failure = await refused(desk.submit("delete_execution", delete))
    assert failure.code is grpc.StatusCode.FAILED_PRECONDITION
    async with ScriptedExecutor(desk.address):
        await desk.wait(execution.id, "SUCCESS")
    alone = executions.DeleteExecutionRequest(execution_id=child.id)
    assert (await refused(desk.submit("delete_execution", alone))).violations[0].kind == "HAS_PARENT"
    dry = executions.DeleteExecutionRequest(execution_id=execution.id, dry_run=True)
    told = (await desk.submit("delete_execution", dry)).dry_run
    assert [each.execution_id for each in told.children] == [child.id]
    await desk.submit("delete_execution", delete)
    await desk.submit("delete_execution", delete)
    assert desk.read(lambda queries: queries.execution(execution.id)) is None
    assert desk.read(lambda queries: queries.execution(child.id)) is None


async def test_definitions_are_versioned_and_kept_once(desk: Desk) -> None:
    """A new text is the next version; the same text again is not stored; an execution stays on its version."""
    first = (await desk.create(ONE)).workflows[0]
    assert (first.name, first.version, first.tags) == ("one", 1, ["small"])
    assert [(each.name, each.required, each.default) for each in first.parameters] == [
        ("name", True, ""),
        ("greeting", False, '"Hello"'),
    ]
    assert (await desk.create(ONE)).workflows[0] == first
    execution = await desk.start("one", input='{"name": "Ada"}')
    second = (await desk.create(ONE.replace("Hello", "Hi"))).workflows[0]
    assert second.version == 2
    newer = await desk.start("one", input='{"name": "Ada"}')
    assert (execution.workflow_version, newer.workflow_version) == (1, 2)
    assert newer.input == '{"name":"Ada","greeting":"Hi"}'


async def test_invalid_definition_lists_all_problems(desk: Desk) -> None:
    """Two mistakes are two problems with their lines, and nothing is stored."""
    text = ONE.replace("input:", "inptu:").replace("tasks:", "taks:")
    failure = await refused(desk.create(text))
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_DEFINITION")
    assert len(failure.problems) >= 2
    assert all(problem.line for problem in failure.problems)
    assert desk.read(lambda queries: queries.definitions("workflow").rows) == []


async def test_deleted_workflow_is_gone_but_its_executions_run_on(desk: Desk) -> None:
    """DeleteWorkflow says which versions are gone; an execution keeps what it runs; a start is NOT_FOUND."""
    await desk.create(ONE)
    await desk.create(ONE.replace("Hello", "Hi"))
    execution = await desk.start("one", version=1, input='{"name": "Ada"}')
    request = workflows.DeleteWorkflowRequest(name="one")
    assert list((await desk.submit("delete_workflow", request)).versions) == [1, 2]
    assert (await refused(desk.start("one"))).code is grpc.StatusCode.NOT_FOUND
    assert (await refused(desk.submit("delete_workflow", request))).code is grpc.StatusCode.NOT_FOUND
    async with ScriptedExecutor(desk.address, lambda run: done(run, result='"Hello, Ada"')):
        assert (await desk.wait(execution.id)).output == '{"said":"Hello, Ada"}'


async def test_environment_is_read_once_at_the_start(desk: Desk) -> None:
    """The environment counts as it was at the start, with `params.env` on top; a later change does not reach it."""
    text = "version: '2.0'\nshow:\n  output: {all: <% env() %>}\n  tasks: {t: {action: std.noop}}"
    await desk.create(text)
    put = environments.PutEnvironmentRequest(name="stage", variables='{"a": 1, "b": 2}')
    stored = (await desk.submit("put_environment", put)).environment
    assert (stored.revision, stored.variables) == (1, '{"a": 1, "b": 2}')
    named = await desk.start("show", environment="stage")
    mixed = await desk.start("show", environment="stage", params='{"env": {"b": 3}}')
    put.variables = "{}"
    assert (await desk.submit("put_environment", put)).environment.revision == 2
    async with ScriptedExecutor(desk.address):
        assert (await desk.wait(named.id)).output == '{"all":{"a":1,"b":2}}'
        assert (await desk.wait(mixed.id)).output == '{"all":{"a":1,"b":3}}'
    assert named.environment == "stage"
    stale = environments.DeleteEnvironmentRequest(name="stage", expected_revision=1)
    assert (await refused(desk.submit("delete_environment", stale))).code is grpc.StatusCode.ABORTED
    await desk.submit("delete_environment", environments.DeleteEnvironmentRequest(name="stage"))
    assert desk.read(lambda queries: queries.environment("", "stage")) is None


async def test_standalone_action(desk: Desk) -> None:
    """An action runs on its own (S17): with its result readable, its execution hidden from lists."""
    async with ScriptedExecutor(desk.address, lambda run: done(run, result="42")) as executor:
        action = await desk.run("std.echo", input='{"output": 42}', labels={"k": "v"})
        execution_id = action.id.partition(".")[0]
        await desk.wait(execution_id, "SUCCESS")
    assert action.state in (execution_pb2.ACTION_STATE_READY, execution_pb2.ACTION_STATE_RUNNING)
    assert (action.execution_id, action.task_name, action.labels["k"]) == ("", "", "v")
    assert executor.received[0].context.execution_id == ""
    attempt = desk.read(lambda queries: queries.attempt(execution_id, (1, 0, 1)))
    assert (attempt.state, attempt.result) == ("SUCCESS", "42")
    assert desk.read(lambda queries: queries.executions().rows) == []


async def test_standalone_action_is_checked(desk: Desk) -> None:
    """An unknown action is NOT_FOUND; missing and unknown inputs are INVALID_ARGUMENT, each named."""
    assert (await refused(desk.run("no.such"))).code is grpc.StatusCode.NOT_FOUND
    failure = await refused(desk.run("std.echo", input='{"wrong": 1}'))
    assert [violation.subject for violation in failure.violations] == ["input.output", "input.wrong"]


async def test_standalone_action_times_out(desk: Desk) -> None:
    """A standalone action that takes longer than its timeout is ended, and its executor told."""
    async with ScriptedExecutor(desk.address, lambda run: None) as executor:
        await until(lambda: executor.welcomes)
        action = await desk.run("std.noop", timeout=Duration(seconds=2))
        row = await desk.wait(action.id.partition(".")[0])
        assert row.state == "ERROR"
        await until(lambda: executor.cancelled)
        assert executor.cancelled[0].action_execution_id == action.id


async def test_delegate_is_completed_by_token_or_id(desk: Desk) -> None:
    """A delegate stays RUNNING until anyone with its token or id completes it (P9, P13-P16, P23, P24)."""
    async with ScriptedExecutor(desk.address, lambda run: done(run, wire.TASK_OUTCOME_DELEGATED)) as executor:
        first, second = await desk.run("std.noop"), await desk.run("std.noop")
        await until(lambda: len(executor.acks) == 2)
        tokens = {run.action_execution_id: run.task_token for run in executor.received}
    forged = actions.CompleteActionRequest(
        task_token=tokens[first.id][:-1] + ("0" if tokens[first.id][-1] != "0" else "1"),
        outcome=actions.COMPLETION_OUTCOME_SUCCEEDED,
    )
    assert (await refused(desk.submit("complete_action", forged))).code is grpc.StatusCode.PERMISSION_DENIED
    request = actions.CompleteActionRequest(
        task_token=tokens[first.id], outcome=actions.COMPLETION_OUTCOME_SUCCEEDED, result='{"x": 1}'
    )
    answer = (await desk.submit("complete_action", request)).action_execution
    assert (answer.state, answer.result) == (execution_pb2.ACTION_STATE_SUCCESS, '{"x": 1}')
    assert (await desk.submit("complete_action", request)).action_execution == answer
    other = actions.CompleteActionRequest(
        action_execution_id=second.id, outcome=actions.COMPLETION_OUTCOME_FAILED, error="no"
    )
    failed = (await desk.submit("complete_action", other)).action_execution
    assert (failed.state, failed.error) == (execution_pb2.ACTION_STATE_ERROR, "no")
    late = actions.CompleteActionRequest(action_execution_id=second.id, outcome=actions.COMPLETION_OUTCOME_SUCCEEDED)
    assert (await refused(desk.submit("complete_action", late))).code is grpc.StatusCode.FAILED_PRECONDITION
    unknown = actions.CompleteActionRequest(
        action_execution_id=f"{uuid.uuid4()}.1.0.1", outcome=actions.COMPLETION_OUTCOME_SUCCEEDED
    )
    assert (await refused(desk.submit("complete_action", unknown))).code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("is_standalone", [True, False])
async def test_the_answer_to_a_completion_is_what_a_read_shows(
    desk: Desk, is_standalone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the namespace, labels, comment and task of the action, and needs no further look into the store."""
    more = {"namespace": "n", "comment": "because"}
    await desk.create("version: '2.0'\none:\n  tasks: {t: {with-items: 'i in <% [1] %>', action: std.noop}}\n", **more)
    async with ScriptedExecutor(desk.address, lambda run: done(run, wire.TASK_OUTCOME_DELEGATED)) as executor:
        await (desk.run("std.noop", labels={"k": "v"}, **more) if is_standalone else desk.start("one", **more))
        await until(lambda: executor.acks)
    id = executor.received[0].action_execution_id
    request = actions.CompleteActionRequest(action_execution_id=id, outcome=actions.COMPLETION_OUTCOME_SUCCEEDED)

    def find_nothing(snapshot: Snapshot, asked: Collection[object], **more: object) -> dict[object, object]:
        assert not asked
        return {}

    with monkeypatch.context() as patched:
        for name in ("executions_of", "tasks_of"):
            patched.setattr(Snapshot, name, find_nothing)
        answer = (await desk.submit("complete_action", request)).action_execution
    row = desk.read(lambda queries: queries.attempt(id.partition(".")[0], (1, 0, 1)))
    assert [answer] == desk.read(lambda queries: views.action_messages(queries, [row]))
    assert (answer.namespace, answer.task_name) == ("n", "" if is_standalone else "t")


async def test_write_that_says_nothing_is_refused(desk: Desk) -> None:
    """A Submit without a write is INVALID_ARGUMENT."""
    failure = await refused(desk.stub.Submit(engine_service_pb2.SubmitRequest()))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_refusals_that_are_gathered_are_cut_by_their_size_as_answers_are(desk: Desk) -> None:
    """40 refusals of 128 KiB each are more than a message: each comes whole, some of them when they are asked for."""
    labels = {f"wrong label {number:04} {'x' * 50}": "" for number in range(2_000)}
    write = engine_service_pb2.SubmitRequest(takes_later=True, run_action=actions.RunActionRequest(labels=labels))

    request = engine_service_pb2.SubmitManyRequest(writes=[write] * 40)
    response = await desk.stub.SubmitMany(request, timeout=60)

    assert response.ByteSize() <= MESSAGE_BYTES_MAX
    later = [result.answer.later for result in response.results if result.HasField("answer")]
    at_once = {result.refusal for result in response.results if result.HasField("refusal")}
    assert min(len(later), 40 - len(later)) > 5
    statuses = [Status.FromString(refusal) for refusal in at_once]
    assert {status.code for status in statuses} == {grpc.StatusCode.INVALID_ARGUMENT.value[0]}
    assert min(status.ByteSize() for status in statuses) > 100_000
    for name in later:
        failure = await refused(desk.stub.Await(engine_service_pb2.AwaitRequest(later=name), timeout=60))
        assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
        assert len(failure.violations) > 500


async def test_follow_tells_who_has_moved(desk: Desk) -> None:
    """Hints name executions with their revisions, and a deleted one with 0."""
    await desk.create(TREE)
    stream = desk.stub.Follow(engine_service_pb2.FollowRequest())
    hints: dict[str, int] = {}

    async def follow() -> None:
        async for message in stream:
            hints.update({hint.execution_id: hint.revision for hint in message.hints})

    following = asyncio.create_task(follow())
    await asyncio.sleep(0.05)
    async with ScriptedExecutor(desk.address):
        execution = await desk.start("child")
        row = await desk.wait(execution.id, "SUCCESS")
    await until(lambda: hints.get(execution.id) == row.revision)
    await desk.submit("delete_execution", executions.DeleteExecutionRequest(execution_id=execution.id))
    await until(lambda: hints.get(execution.id) == 0)
    stream.cancel()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_what_is_stored_comes_with_warnings(desk: Desk) -> None:
    """A definition is stored and answered with its warnings, each time it is sent; strictly taken they are problems
    like any other, and nothing is stored."""
    text = "version: '2.0'\nw:\n  output: {o: <% nosuch() %>}\n  tasks: {t: {action: std.noop}}\n"
    strict = await refused(desk.create(text, strict=True))
    assert (strict.code, strict.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_DEFINITION")
    assert [(problem.line, problem.path) for problem in strict.problems] == [(3, "w.output.o")]
    assert desk.read(lambda queries: queries.definitions("workflow").rows) == []
    first, again = await desk.create(text), await desk.create(text)
    assert [each.version for each in (*first.workflows, *again.workflows)] == [1, 1]
    assert [(each.line, each.path, each.message) for each in first.warnings] == [
        (3, "w.output.o", "there is no function `nosuch` in YAQL")
    ]
    assert again == first
    assert not (await desk.create(ONE, strict=True)).warnings
