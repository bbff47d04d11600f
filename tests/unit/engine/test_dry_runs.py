"""What dry runs say, and what operations on the past of an execution do, at an engine alone."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

from tests.integration.engines import ScriptedExecutor, done, until
from tests.unit.engine.conftest import Desk
from tests.unit.engine.test_requests import refused

from dalsegno.engine.desk import dry_runs, going_back
from dalsegno.engine.desk.reruns import RERUN_OF
from dalsegno.rpc import sizes
from dalsegno.v1 import execution_pb2, operation_pb2
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.workflow.changes import CheckpointReached
from dalsegno.workflow.value import Value

FLOW = """
version: '2.0'
flow:
  input: [{n: 1}]
  vars: {said: nothing, kept: 1}
  tasks:
    first: {workflow: middle, checkpoint: begun, on-success: [second]}
    second: {action: std.noop, checkpoint: half, on-success: [third]}
    third: {action: std.echo output=1}
again:
  vars: {n: 0}
  tasks:
    begin: {action: std.noop, on-success: [poll]}
    poll:
      workflow: middle
      publish: {n: <% $.n + 1 %>}
      checkpoint: {name: polled, when: after}
      on-success: [{poll: <% $.n < 3 %>}]
middle:
  tasks:
    only: {workflow: inner}
inner:
  tasks:
    work: {action: std.noop}
"""
FAMILY = """
version: '2.0'
top:
  tasks:
    one: {workflow: below}
    two: {workflow: below}
below:
  tasks:
    sub: {workflow: lowest}
lowest:
  tasks:
    work: {action: std.noop}
"""


async def flow(desk: Desk, name: str = "flow") -> Any:
    """Return an execution of this workflow that has ended."""
    await desk.create(FLOW)
    async with ScriptedExecutor(desk.address):
        execution = await desk.start(name)
        await desk.wait(execution.id, "SUCCESS")
    return execution


async def dry(desk: Desk, operation: str, execution: Any, /, **more: Any) -> execution_pb2.DryRun:
    """Return what a dry run of this operation says."""
    told: execution_pb2.DryRun = (
        await desk.submit(operation, {"execution_id": execution.id, "dry_run": True, **more})
    ).dry_run
    return told


async def test_a_discard_says_how_much_would_go(desk: Desk) -> None:
    """Changes, entries, tasks, actions, and sub-workflows with all that is below them; nothing goes."""
    execution = await flow(desk, "again")
    before = desk.journal(execution.id)
    told = await dry(desk, "discard_history", execution, name="polled")
    gone = told.discards
    assert (gone.before.name, gone.entries, gone.tasks, gone.actions, gone.children) == ("polled", 3, 2, 0, 4)
    assert (told.revision, gone.changes) == (len(before), gone.before.sequence - 1)
    first = next(each.sequence for each in before if isinstance(each.change, CheckpointReached))
    told = await dry(desk, "discard_history", execution, sequence=first)
    assert (told.discards.entries, told.discards.tasks, told.discards.children) == (1, 0, 0)
    assert desk.journal(execution.id) == before
    stale = {"execution_id": execution.id, "name": "polled", "dry_run": True, "expected_revision": 1}
    assert (await refused(desk.submit("discard_history", stale))).reason == "REVISION_MOVED"


async def test_going_back_says_which_edits_are_lost(desk: Desk) -> None:
    """Those behind the entry, with the names of their variables, as many as fit."""
    execution = await flow(desk)
    edit = {"execution_id": execution.id, "set": '{"a": 1, "b": 2}', "unset": ["kept"]}
    await desk.submit("update_context", edit)
    await desk.submit("update_context", {**edit, "task": "second", "unset": []})
    with patch.object(going_back, "NAMES_MAX", 2):
        told = await dry(desk, "go_to_checkpoint", execution, name="half")
    assert [(each.task, list(each.names), each.further_names) for each in told.undone_edits] == [
        ("", ["a", "b"], 1),
        ("second", ["a", "b"], 0),
    ]
    assert [each.name for each in told.superseded] == ["third"]
    with patch.object(going_back, "LIST_MAX", 1):
        told = await dry(desk, "go_to_checkpoint", execution, name="start")
    assert (len(told.undone_edits), told.further["undone_edits"]) == (1, 1)
    assert (len(told.superseded), told.further["superseded"]) == (1, 1)


async def test_a_fork_begins_at_an_entry(desk: Desk) -> None:
    """A dry run says what the new execution has of the first one, and what would start; then it does that. With
    another environment and input it has these."""
    execution = await flow(desk)
    fork = {"start_from": operation_pb2.RERUN_FROM_CHECKPOINT, "checkpoint": "half"}
    told = await dry(desk, "rerun_execution", execution, **fork)
    assert (told.revision, [each.name for each in told.starts]) == (0, ["third"])
    assert [each.name for each in told.kept] == ["first", "second"]
    again = {"execution_id": execution.id, **fork, "labels": {"a": "b"}, "environment_overlay": '{"x": 1}'}
    async with ScriptedExecutor(desk.address):
        forked = (await desk.submit("rerun_execution", again)).execution
        row = await desk.wait(forked.id, "SUCCESS")
    assert (row.forked_from, row.labels) == (execution.id, '{"a":"b"}')
    assert any(getattr(each.change, "environment", None) == Value(data={"x": 1}) for each in desk.journal(forked.id))
    begun = {"execution_id": execution.id, "start_from": operation_pb2.RERUN_FROM_BEGINNING, "input": '{"n": 2}'}
    row = desk.execution((await desk.submit("rerun_execution", begun)).execution.id)
    assert (row.input, json.loads(row.labels)) == ('{"n":2}', {RERUN_OF: execution.id})


async def test_what_children_do_is_tried_as_far_as_it_is_told(desk: Desk) -> None:
    """The effect on sub-workflows is told for so many, and for so many levels; of the others only that they get the
    event."""
    await desk.create(FAMILY)
    async with ScriptedExecutor(desk.address, lambda run: None) as executor:
        execution = await desk.start("top")
        await until(lambda: len(executor.held) == 2)
        told = await dry(desk, "pause_execution", execution)
        assert [(each.task_name, len(each.effect.children)) for each in told.children] == [("one", 1), ("two", 1)]
        assert all(each.effect.children[0].HasField("effect") for each in told.children)
        with patch.object(dry_runs, "LEVELS_MAX", 1):
            told = await dry(desk, "pause_execution", execution)
        assert not any(each.effect.children[0].HasField("effect") for each in told.children)
        with patch.object(dry_runs, "LIST_MAX", 1):
            told = await dry(desk, "pause_execution", execution)
        assert (len(told.children), told.further["children"]) == (1, 1)


async def test_a_go_to_of_what_its_parent_has_passed_is_refused(desk: Desk) -> None:
    """The task that runs the sub-workflow has ended: the parent is to be sent back instead."""
    execution = await flow(desk)
    (child, *_) = desk.read(lambda queries: queries.descendants(execution.id))
    failure = await refused(desk.submit("go_to_checkpoint", {"execution_id": child, "name": "start"}))
    assert "which runs this one, has ended: send that execution back instead" in str(failure)


async def test_a_large_dry_run_is_cut(desk: Desk) -> None:
    """The longest list is halved until the message fits, and what is left out is counted."""
    execution = await flow(desk)
    again = {"start_from": operation_pb2.RERUN_FROM_TASKS, "tasks": [{"task": "first"}, {"task": "second"}]}
    told = await dry(desk, "rerun_execution", execution, **again)
    assert [each.name for each in told.starts] == ["first"]
    assert [(each.name, each.reason) for each in told.subsumed] == [
        ("second", "comes after another task of the request")
    ]
    assert list(told.may_follow) == ["second", "third"]
    assert ([each.name for each in told.superseded], list(told.kept)) == (["second", "third"], [])
    size = told.ByteSize()
    with patch.object(sizes, "CONTENT_BYTES_MAX", size - 1):
        cut = await dry(desk, "rerun_execution", execution, **again)
    assert sum(cut.further.values()) == 1
    assert cut.ByteSize() < size


ITEMS = """
version: '2.0'
items:
  tasks:
    many: {with-items: i in <% range(4) %>, action: std.echo output=<% $.i %>, on-success: [after]}
    after: {action: std.noop}
"""


async def test_items_that_would_run_again_are_named(desk: Desk) -> None:
    """Of a task that runs partly again, which items run and which are kept, as many as fit."""
    await desk.create(ITEMS)

    def fail(run: wire.RunAction) -> wire.TaskDone:
        return done(run, wire.TASK_OUTCOME_FAILED if run.context.item % 2 else wire.TASK_OUTCOME_SUCCEEDED)

    async with ScriptedExecutor(desk.address, fail):
        execution = await desk.start("items")
        await desk.wait(execution.id, "ERROR")
    again = {"start_from": operation_pb2.RERUN_FROM_FAILED}
    told = await dry(desk, "rerun_execution", execution, **again)
    assert [(each.name, list(each.items)) for each in told.starts] == [("many", [1, 3])]
    assert [(each.name, list(each.items)) for each in told.kept] == [("many", [0, 2])]
    with patch.object(dry_runs, "LIST_MAX", 1):
        told = await dry(desk, "rerun_execution", execution, **again)
    assert [(list(each.items), each.further_items) for each in (*told.starts, *told.kept)] == [([1], 1), ([0], 1)]
    skip = {"tasks": [{"task": "many", "skip": True, "output": "null"}]}
    told = await dry(desk, "resume_execution", execution, **skip)
    assert [(each.name, each.reason) for each in told.starts if each.name == "many"] == [
        ("many", "is skipped: what follows it starts")
    ]
