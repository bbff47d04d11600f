"""What answers show of an execution: it comes from memory, and is what a read gives."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.integration.engines import ScriptedExecutor, done, until
from tests.unit.engine.conftest import Desk

from dalsegno.rpc import views
from dalsegno.store.snapshot import Snapshot
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.v1 import operation_pb2 as operations

WORKFLOW = """
version: '2.0'
shown:
  input: [text]
  output: {said: <% $.text %>}
  tasks:
    first: {action: std.echo, input: {output: <% $.text %>}, on-success: second}
    second: {action: std.noop}
    beside: {action: std.noop}
    fails: {action: std.fail}
"""

STARTED = """
version: '2.0'
asks: {tasks: {only: {action: std.echo, input: {output: x}}}}
waits: {tasks: {only: {action: std.noop, wait-before: 60}}}
"""


def _read(desk: Desk, execution_id: str) -> Any:
    return desk.read(lambda queries: views.read_executions(queries, [execution_id], {})[execution_id])


async def test_an_answer_shows_what_a_read_gives(desk: Desk) -> None:
    """Large values, counts of tasks, times and what it waits for are those of the rows, after each operation; no
    executor is there, so that nothing changes between an answer and the read after it."""
    await desk.create(WORKFLOW)
    given = json.dumps({"text": "x" * 5_000})
    shown = await desk.start("shown", input=given, labels={"of": "x"}, description="why", comment="now")
    execution_id = shown.id
    assert shown == _read(desk, execution_id)
    assert json.loads(shown.input) == json.loads(given)
    assert sum(each.count for each in shown.task_counts) == 3

    async def ask(name: str, request: Any) -> None:
        answer = (await desk.submit(name, request)).execution
        assert answer == _read(desk, execution_id)

    await ask("pause_execution", executions.PauseExecutionRequest(execution_id=execution_id))
    await ask("resume_execution", executions.ResumeExecutionRequest(execution_id=execution_id))
    await ask("cancel_execution", executions.CancelExecutionRequest(execution_id=execution_id, comment="enough"))
    rerun = executions.RerunExecutionRequest(
        execution_id=execution_id,
        start_from=operations.RERUN_FROM_TASKS,
        tasks=[operations.RerunTask(task="beside")],
    )
    await ask("rerun_execution", rerun)
    await ask("cancel_execution", executions.CancelExecutionRequest(execution_id=execution_id))


async def test_an_answer_that_changes_nothing_is_read(desk: Desk) -> None:
    """An operation that finds what it asks for has nothing in memory to show: it reads."""
    await desk.create(WORKFLOW)
    execution_id = (await desk.start("shown", input='{"text": "x"}')).id
    pause = executions.PauseExecutionRequest(execution_id=execution_id)
    first = (await desk.submit("pause_execution", pause)).execution
    again = (await desk.submit("pause_execution", pause)).execution
    assert again == first == _read(desk, execution_id)


async def test_the_answers_to_many_starts_read_nothing_of_each(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """They show what each execution waits for. Hundreds may be started together, each query is a round trip to the
    database, and all that the batch has locked waits for it."""
    await desk.create(STARTED)
    read: list[str] = []
    attempts = Snapshot.attempts

    def note(snapshot: Snapshot, execution_id: str, *rest: Any, **more: Any) -> Any:
        read.append(execution_id)
        return attempts(snapshot, execution_id, *rest, **more)

    monkeypatch.setattr(Snapshot, "attempts", note)
    names = ["asks", "waits"] * 3
    shown = await asyncio.gather(*(desk.start(name) for name in names))
    assert read == []
    assert [len(each.waiting_for) for each in shown] == [1, 0] * 3
    assert list(shown) == [_read(desk, each.id) for each in shown]
    assert read


async def test_a_list_reads_few_executions_at_a_time(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows of each what a read of it alone shows. What many wait for is read by few queries, and a query reads the
    names of some executions only, because each may have many."""
    await desk.create(STARTED)
    shown = await asyncio.gather(*(desk.start("waits") for _ in range(views.NAMED_TOGETHER + 5)))
    asked: list[tuple[int, int]] = []
    first_attempts = Snapshot.first_attempts

    def note(snapshot: Snapshot, execution_ids: Any, chosen: Any, size: int) -> Any:
        asked.append((len(execution_ids), size))
        return first_attempts(snapshot, execution_ids, chosen, size)

    monkeypatch.setattr(Snapshot, "first_attempts", note)
    ids = [each.id for each in shown]
    listed = desk.read(lambda queries: views.read_executions(queries, ids, {}))
    assert asked == [(len(ids), 1), (views.NAMED_TOGETHER, views.WAITING_MAX + 1), (5, views.WAITING_MAX + 1)]
    assert [listed[each] for each in ids] == [_read(desk, each) for each in ids]


async def test_an_answer_names_the_delegates_that_an_execution_waits_for(desk: Desk) -> None:
    """They are known from memory, and are those that a read names."""
    await desk.create(STARTED)
    async with ScriptedExecutor(desk.address, lambda run: done(run, wire.TASK_OUTCOME_DELEGATED)):
        execution_id = (await desk.start("asks")).id
        await until(lambda: list(_read(desk, execution_id).waiting_for) == [f"{execution_id}.1.0.1"])
        await desk.submit("pause_execution", executions.PauseExecutionRequest(execution_id=execution_id))
        resume = executions.ResumeExecutionRequest(execution_id=execution_id)
        shown = (await desk.submit("resume_execution", resume)).execution
        assert list(shown.waiting_for) == [f"{execution_id}.1.0.1"]
        assert shown == _read(desk, execution_id)
