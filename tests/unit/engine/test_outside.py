"""What a step may look up outside of its execution: in the store, as it was before the batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import pytest
from tests.integration.engines import ScriptedExecutor, done, until
from tests.unit.engine.conftest import Desk

from dalsegno.engine.batches import outside as outsides
from dalsegno.engine.batches.cache import CompiledWorkflows
from dalsegno.engine.batches.compiling import compile_row
from dalsegno.engine.batches.outside import Lookups, TransactionOutside
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.v1 import operation_pb2
from dalsegno.workflow.outside import PausedBelow

FAMILY = """
version: '2.0'
top:
  tasks:
    one: {workflow: middle}
    two: {workflow: middle}
middle:
  tasks:
    sub: {workflow: lowest}
lowest:
  tasks:
    bad: {action: std.noop}
    caught: {action: std.noop, on-error: [after]}
    after: {action: std.noop}
    work: {action: std.echo output=1}
"""
AGAIN = """
version: '2.0'
again:
  vars: {n: 0}
  tasks:
    begin: {action: std.noop, on-success: [call]}
    call: {workflow: inner, on-success: [end]}
    end: {action: std.noop, checkpoint: end}
inner:
  tasks:
    work: {action: std.noop, checkpoint: half, on-success: [more]}
    more: {with-items: i in <% range(3) %>, action: std.echo output=<% $.i %>}
"""


def ask(desk: Desk, look: Callable[[TransactionOutside], Any], hearing_since_s: float = 0.0) -> Any:
    """Return what is seen from within a batch."""
    lookups = Lookups(CompiledWorkflows(compile_row), (), lasting=False)
    lookups.hearing_since_s = lambda: hearing_since_s
    with desk.store.read() as queries:
        return look(TransactionOutside(lookups, queries, lambda *_: ()))


async def test_sub_workflows_that_stay_paused_are_found(desk: Desk) -> None:
    """With the way down to them, and the tasks that failed and that nothing handles; those elsewhere are not."""
    await desk.create(FAMILY)

    def script(run: wire.RunAction) -> wire.TaskDone | None:
        if run.action == "std.echo":
            return None
        fails = run.context.task_name in ("bad", "caught")
        return done(run, wire.TASK_OUTCOME_FAILED if fails else wire.TASK_OUTCOME_SUCCEEDED)

    async with ScriptedExecutor(desk.address, script) as executor:
        top = await desk.start("top")
        other = await desk.start("top")
        await until(lambda: len(executor.held) == 4 and len(executor.acks) == 12)
        below = desk.read(lambda queries: queries.executions_of(queries.descendants(top.id)))
        rows = sorted((row for row in below.values() if row.workflow == "lowest"), key=lambda row: row.created_s)
        lowest = rows[0]
        for each in (lowest.id, other.id):
            await desk.submit("pause_execution", {"execution_id": each})
    expected = PausedBelow(lowest.id, "lowest", (lowest.parent_id, lowest.id), ("bad",))
    assert ask(desk, lambda outside: outside.paused_below(top.id)) == [expected]
    (nearer,) = ask(desk, lambda outside: outside.paused_below(lowest.parent_id))
    assert nearer.path == (lowest.id,)
    nobody = (lowest.id, rows[1].parent_id, "nobody")
    assert ask(desk, lambda outside: [list(outside.paused_below(each)) for each in nobody]) == [[], [], []]


async def test_what_has_discarded_its_beginning_is_found(desk: Desk) -> None:
    """Among executions and all below them; a fork, whose journal begins later too, has discarded nothing."""
    await desk.create(AGAIN)
    async with ScriptedExecutor(desk.address):
        execution = await desk.start("again")
        await desk.wait(execution.id, "SUCCESS")
        fork = {"execution_id": execution.id, "start_from": operation_pb2.RERUN_FROM_CHECKPOINT, "checkpoint": "end"}
        forked = (await desk.submit("rerun_execution", fork)).execution
        await desk.wait(forked.id, "SUCCESS")
    (inner,) = desk.read(lambda queries: queries.descendants(execution.id))

    def discarded(*ids: str) -> Sequence[str]:
        found: Sequence[str] = ask(desk, lambda outside: outside.discarded_below(ids))
        return found

    assert discarded(execution.id, forked.id) == ()
    await desk.submit("discard_history", {"execution_id": inner, "name": "half"})
    assert discarded(execution.id, forked.id) == (inner,)
    await desk.submit("discard_history", {"execution_id": execution.id, "name": "end"})
    assert sorted(discarded(execution.id)) == sorted([execution.id, inner])
    with patch.object(outsides, "DISCARDED_MAX", 1):
        assert len(discarded(execution.id)) == 1


async def test_an_environment_of_the_namespace_goes_before_the_default_one(desk: Desk) -> None:
    """Only where the namespace has none of that name, that of the default namespace is taken; where neither has, there
    are no variables."""
    for namespace, name in (("", "both"), ("n", "both"), ("", "default")):
        variables = json.dumps({"of": namespace or "default"})
        await desk.submit("put_environment", {"namespace": namespace, "name": name, "variables": variables})
    found = ask(desk, lambda outside: [outside.environment(name, "n") for name in ("both", "default", "no")])
    assert found == [{"of": "n"}, {"of": "default"}, {}]


async def test_executions_and_tasks_are_looked_up_by_criteria(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Executions by id, root and state; the result of a task with items is that of all; a page ends before the result
    that is too much."""
    await desk.create(AGAIN)
    async with ScriptedExecutor(desk.address, lambda run: done(run, result="1")):
        execution = await desk.start("again")
        await desk.wait(execution.id, "SUCCESS")
    (inner,) = desk.read(lambda queries: queries.descendants(execution.id))

    def ids(**criteria: object) -> list[object]:
        return sorted(each["id"] for each in ask(desk, lambda outside: outside.executions("", criteria)))

    assert ids() == ids(root_execution_id=execution.id) == ids(state="SUCCESS") == sorted([execution.id, inner])
    assert ids(id=inner, state="SUCCESS") == [inner]
    assert ids(state="ERROR") == ids(id=execution.id, root_execution_id=inner) == []
    monkeypatch.setattr(outsides, "RESULTS_AT_ONCE", 1)
    found = ask(desk, lambda outside: outside.tasks(execution.id, "", True, None, False))
    assert [(each["name"], each["type"], each["result"]) for each in found] == [
        ("begin", "ACTION", 1),
        ("call", "WORKFLOW", {}),
        ("end", "ACTION", 1),
        ("work", "ACTION", 1),
        ("more", "ACTION", [1, 1, 1]),
    ]


async def test_a_third_party_is_heard_no_later_than_it_can_be(desk: Desk) -> None:
    """Who was never heard counts as heard when third parties could be heard again."""
    execution = await desk.run("std.noop")
    assert ask(desk, lambda outside: outside.heard_s(execution.id.partition(".")[0], (1, 0, 1)), 7.0) == 7.0
