"""Details of writes, over the wire: what a dry run says, and what is refused for one field."""

from __future__ import annotations

import uuid
from typing import Any
from unittest.mock import patch

import grpc
import pytest
from tests.integration.engines import ScriptedExecutor, done, until
from tests.signing import standard
from tests.unit.engine.conftest import Desk
from tests.unit.engine.test_requests import refused

from dalsegno.engine.desk import going_back
from dalsegno.v1 import action_service_pb2 as actions
from dalsegno.v1 import engine_service_pb2 as engine
from dalsegno.v1 import execution_pb2
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.workflow.changes import CheckpointReached
from dalsegno.workflow.secrets import MARK

JOIN = """
version: '2.0'
meet:
  tasks:
    left: {action: std.noop, on-success: [both]}
    right: {action: std.echo output=1, on-success: [both]}
    both: {action: std.noop, join: all}
"""
PHASES = """
version: '2.0'
phases:
  input: [lists]
  tasks:
    ready: {action: std.noop, checkpoint: ready, on-success: [single, many, plain, other]}
    plain: {action: std.noop, revert: std.noop}
    other: {action: std.noop, revert: std.noop}
    single: {action: std.echo output=1}
    many: {with-items: "i in <% $.lists %>", action: std.echo output=<% $.i %>}
"""
MARKED = f"""
version: '2.0'
marked:
  tasks:
    t: {{action: std.echo, input: {{output: "{MARK}abc"}}}}
"""


async def test_a_dry_run_says_how_many_have_arrived_at_a_join(desk: Desk) -> None:
    """Of two tasks that lead to it, one has ended."""
    await desk.create(JOIN)
    async with ScriptedExecutor(desk.address, lambda run: done(run) if run.action == "std.noop" else None) as executor:
        execution = await desk.start("meet")
        await until(lambda: executor.acks)
    dry = executions.PauseExecutionRequest(execution_id=execution.id, dry_run=True)
    told = (await desk.submit("pause_execution", dry)).dry_run
    assert [(each.name, each.reason) for each in told.joins_waiting] == [("both", "1 of 2 have arrived")]


async def test_a_dry_run_of_going_back_says_what_is_undone(desk: Desk) -> None:
    """The entry, what is reverted, and which delegates are cancelled, with the number of their items. What does not
    fit in a list is counted."""
    await desk.create(PHASES)

    def delegate(run: wire.RunAction) -> wire.TaskDone:
        return done(run) if run.action == "std.noop" else done(run, wire.TASK_OUTCOME_DELEGATED)

    async with ScriptedExecutor(desk.address, delegate) as executor:
        execution = await desk.start("phases", input='{"lists": [7, 8]}')
        await until(lambda: len(executor.acks) == 6)
    sequence = next(each.sequence for each in desk.journal(execution.id) if isinstance(each.change, CheckpointReached))
    for target in ({"name": "ready"}, {"sequence": sequence}):
        go_to = executions.GoToCheckpointRequest(execution_id=execution.id, dry_run=True, **target)
        told = (await desk.submit("go_to_checkpoint", go_to)).dry_run
        assert (told.back_to.name, told.back_to.sequence) == ("ready", sequence)
        assert [(each.name, list(each.items)) for each in told.cancelled_delegates] == [
            ("single", []),
            ("many", [0]),
            ("many", [1]),
        ]
        assert sorted(each.name for each in told.reverts) == ["other", "plain"]
    with patch.object(going_back, "LIST_MAX", 1):
        told = (await desk.submit("go_to_checkpoint", go_to)).dry_run
    assert (len(told.reverts), told.further["reverts"]) == (1, 1)


@pytest.mark.parametrize(
    ("more", "subjects"),
    [
        ({"name": "ready", "edit": {"set": '{"a": 1}', "unset": ["a"]}}, ["edit.unset[0]"]),
        ({"name": "ready", "edit": {"set": '{"a": 1}', "unset": ["b", "a"]}}, ["edit.unset[1]"]),
        ({"sequence": -1}, ["sequence"]),
        ({}, ["name"]),
    ],
)
async def test_a_go_to_is_refused_for_its_fields(desk: Desk, more: dict[str, Any], subjects: list[str]) -> None:
    """A variable that is set and removed, and an entry that cannot be, are named before the execution is looked for."""
    request = executions.GoToCheckpointRequest(execution_id=str(uuid.uuid4()), **more)
    failure = await refused(desk.submit("go_to_checkpoint", request))
    assert (failure.code, [each.subject for each in failure.violations]) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        subjects,
    )


async def test_a_cancel_names_an_action_that_there_is(desk: Desk) -> None:
    """An execution that is not there, an attempt that it does not have, and one that runs a workflow are NOT_FOUND."""
    await desk.create(
        "version: '2.0'\nouter: {tasks: {call: {workflow: inner}}}\ninner: {tasks: {only: {action: std.noop}}}"
    )
    outer = await desk.start("outer")
    for name in (f"{uuid.uuid4()}.1.0.1", f"{outer.id}.9.0.1", f"{outer.id}.1.0.1"):
        failure = await refused(desk.submit("cancel_action", actions.CancelActionRequest(action_execution_id=name)))
        assert failure.code is grpc.StatusCode.NOT_FOUND, name


async def test_a_success_has_no_error(desk: Desk) -> None:
    """The error of a completion goes with a failure."""
    request = actions.CompleteActionRequest(
        action_execution_id=f"{uuid.uuid4()}.1.0.1", outcome=actions.COMPLETION_OUTCOME_SUCCEEDED, error="no"
    )
    failure = await refused(desk.submit("complete_action", request))
    assert [each.subject for each in failure.violations] == ["error"]


async def test_a_signed_completion_is_taken(desk: Desk) -> None:
    """The signature of the callback is read from the request; without one it is refused."""

    def delegate(run: wire.RunAction) -> wire.TaskDone:
        return done(run, wire.TASK_OUTCOME_DELEGATED, signature=execution_pb2.SIGNATURE_SCHEME_STANDARD_WEBHOOKS)

    async with ScriptedExecutor(desk.address, delegate) as executor:
        await desk.run("std.noop")
        await until(lambda: executor.acks)
    (run,) = executor.received
    request = actions.CompleteActionRequest(task_token=run.task_token, outcome=actions.COMPLETION_OUTCOME_SUCCEEDED)
    assert (await refused(desk.submit("complete_action", request))).code is grpc.StatusCode.PERMISSION_DENIED
    request.signed.CopyFrom(standard(b"x", run.signing_key))
    answer = (await desk.submit("complete_action", request)).action_execution
    assert answer.state == execution_pb2.ACTION_STATE_SUCCESS


async def test_a_request_that_is_twice_in_a_batch_has_one_answer(desk: Desk) -> None:
    """Both writes of one call get the answer of the first."""
    await desk.create(JOIN)
    start = executions.StartExecutionRequest(workflow="meet", request_id="r1")
    write = engine.SubmitRequest(actor="tester", start_execution=start)
    results = (await desk.stub.SubmitMany(engine.SubmitManyRequest(writes=[write, write]))).results
    assert len({each.answer.start_execution.execution.id for each in results}) == 1
    assert results[1].answer.start_execution.execution.id != ""


async def test_a_misspelt_name_of_a_secret_is_refused(desk: Desk) -> None:
    """A name for which a start, or an action, has no value: the value meant would be stored in clear."""
    await desk.create(PHASES)
    env = '{"env": {"token": "t"}, "other": 1}'
    for names, fault in (
        (["lists", "token"], "no key for secrets"),
        (["lists", "tokn"], "'tokn'"),
        (["other"], "'other'"),
    ):
        told = await refused(desk.start("phases", input='{"lists": []}', params=env, secrets=names))
        assert told.code is grpc.StatusCode.INVALID_ARGUMENT
        assert fault in str(told)
    assert "'outpt'" in str(await refused(desk.run("std.echo", input='{"output": "x"}', secrets=["outpt"])))


async def test_an_engine_without_a_key_hands_out_no_encrypted_text(desk: Desk) -> None:
    """The secret comes from an engine with a key: the action fails, and its executor sends the text nowhere."""
    await desk.create(MARKED)
    async with ScriptedExecutor(desk.address, done) as executor:
        execution = await desk.start("marked")
        await until(lambda: desk.execution(execution.id).state == "ERROR")
        assert executor.received == []
    assert "no key for secrets" in desk.execution(execution.id).info
