"""What the passive engine, its runners and its executions are, seen over the wire."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from tests.integration.engines import ScriptedExecutor, done, until
from tests.integration.stage import LANGUAGES, Scene, Stage
from tests.processes import System, state_of

from dalsegno.actions.action import action
from dalsegno.v1 import change_pb2, execution_pb2
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.worker.worker import Worker

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("behaviours")]

EVERY = pytest.mark.parametrize("language", LANGUAGES)
TICKS = os.sysconf("SC_CLK_TCK")

CALLED: list[dict[str, object]] = []
"""What the actions below were called with."""


@action("passive.async")
async def run_async(give: int, more: str = "default") -> int:
    """Run on the event loop."""
    CALLED.append({"give": give, "more": more})
    return give


@action("passive.sync")
def run_sync(give: int, more: str = "default") -> int:
    """Run in a thread."""
    CALLED.append({"give": give, "more": more})
    return give


@asynccontextmanager
async def worker(system: System) -> AsyncIterator[None]:
    """Connect an executor in Python that serves these two."""
    running = Worker(run_async, run_sync, engine=system.engine.address, id="passive", slots=10)
    serving = asyncio.create_task(running.serve())
    try:
        await until(lambda: running.is_connected)
        yield
    finally:
        running.stop()
        await asyncio.wait_for(serving, 20)


async def define(system: System, name: str, action: str, given: str = "give=7") -> str:
    await system.define(
        f"version: '2.0'\n{name}:\n  tasks:\n    only: {{action: {action} {given}, on-success: [after]}}\n"
        "    after: {action: std.noop}\n"
    )
    return name


def shape(change: change_pb2.Change) -> tuple[str, str]:
    """What kind of change it is and what caused it, without names, times and numbers."""
    return str(change.WhichOneof("kind")), change.cause


# The engine and the runner.


async def test_the_runner_calls_the_action_with_its_input(system: System) -> None:
    """P3: for each action execution the runner calls `run(input)` of the action, once, with the input of the task."""
    CALLED.clear()
    await define(system, "calls", "passive.async", "give=3 more='given'")
    async with worker(system):
        assert state_of(await system.run("calls")) == "SUCCESS"
        await define(system, "calls_bare", "passive.sync", "give=4")
        assert state_of(await system.run("calls_bare")) == "SUCCESS"
    assert CALLED == [{"give": 3, "more": "given"}, {"give": 4, "more": "default"}]


@EVERY
async def test_a_report_names_execution_task_status_and_result(stage: Stage, language: str) -> None:
    """P5: the outcome names execution, task and delivery, the status and the result; each comes to its own task, in
    whatever order the reports come."""
    one, two = [await stage.open("chain", language, {"word": word}, held={"first"}) for word in ("a", "b")]
    runs = [await stage.has(scene, "first") for scene in (one, two)]
    for scene, run in zip((one, two), runs, strict=True):
        assert run.action_execution_id == f"{scene.id}.{run.context.task_number}.0.1"
        assert (run.context.execution_id, run.context.task_name) == (scene.id, "first")
    for run, result in ((runs[1], '"of two"'), (runs[0], '"of one"')):
        await stage.executor.finish(run, done(run, wire.TASK_OUTCOME_SUCCEEDED, result=result))
    for scene, result in ((one, "of one"), (two, "of two")):
        await stage.rests(scene)
        assert json.loads((await stage.tasks(scene))["first"].result) == result


async def test_sync_async_and_delegated_actions_are_the_same_to_the_engine(system: System) -> None:
    """P17: the same workflow over an action in a thread, on the event loop, or of a third party has the same journal,
    but for the one report that it waits; and the engine has no code of any of them."""
    journals = {}
    async with worker(system):
        for name in ("passive.sync", "passive.async"):
            workflow = await define(system, f"same_{name[8:]}", name)
            execution = await system.run(workflow)
            assert state_of(execution) == "SUCCESS"
            journals[name] = [shape(each) for each in await system.journal(execution.id)]
    workflow = await define(system, "same_delegated", "std.async_noop", "")
    id = await system.begin(workflow)
    await system.until(id, lambda change: change.attempt_moved.delegated)
    await system.complete(f"{id}.1.0.1", 7)
    assert state_of(await system.wait(id)) == "SUCCESS"
    delegated = [(each, shape(each)) for each in await system.journal(id)]
    assert journals["passive.sync"] == journals["passive.async"]
    assert [it for change, it in delegated if not change.attempt_moved.delegated] == journals["passive.sync"]
    assert len(delegated) == len(journals["passive.sync"]) + 1


@EVERY
async def test_the_engine_only_reacts_to_completions(stage: Stage, language: str) -> None:
    """P18: without a completion nothing changes; one completion stores the result, updates the state and queues the
    next task, all by itself."""
    scene = await stage.open("chain", language, {"word": "w"}, held={"first", "second"})
    await stage.has(scene, "first")
    before = (await stage.system.get(scene.id)).revision
    await asyncio.sleep(1.5)  # longer than the ticks of the engine
    assert (await stage.system.get(scene.id)).revision == before
    assert [run.context.task_name for run in scene.runs] == ["first"]
    await stage.release(scene, "first")
    await stage.has(scene, "second")
    made = [each for each in await stage.system.journal(scene.id) if each.sequence > before]
    kinds = [str(each.WhichOneof("kind")) for each in made if each.cause == "task_done"]
    assert made[0].attempt_moved.result == '"w"'
    assert {"attempt_moved", "task_moved", "task_added", "attempt_added"} <= set(kinds)
    assert {each.cause for each in made} <= {"task_done", "handed_out"}
    await stage.release(scene, "second")
    await stage.rests(scene)


def processor_s(pid: int) -> float:
    """The processor time that the process has used, in seconds."""
    used = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(used[11]) + int(used[12])) / TICKS


async def test_the_engine_is_passive(stage: Stage) -> None:
    """P19: what happens comes from its two operations, start and task done, and from handing out; while a hundred
    executions wait it uses next to no processor time, for it has no loop over them."""
    held = [await stage.open("chain", "mistral", {"word": "w"}, held={"second"}) for _ in range(100)]
    for scene in held:
        await stage.has(scene, "second")
    await asyncio.sleep(1.0)
    began_s = processor_s(stage.system.engine.pid)
    await asyncio.sleep(2.0)
    assert processor_s(stage.system.engine.pid) - began_s < 0.5
    for scene in held:
        await stage.release(scene, "second")
    for scene in held:
        await stage.rests(scene)
    causes = {each.cause for scene in held for each in await stage.system.journal(scene.id)}
    assert causes == {"start_requested", "handed_out", "task_done"}


async def test_engine_and_runner_speak_through_queues(system: System) -> None:
    """P21: the engine hands out what the runner has room for and waits for no answer; what finds no room waits in the
    store, also while there is no runner; reports come in any order, many at once."""
    await system.define("version: '2.0'\nqueued:\n  tasks:\n    only: {action: test.queued}\n")
    first = ScriptedExecutor(
        system.engine.address, lambda run: None, executor_id="queues", actions=(("test.queued", True),), slots=3
    )
    async with first:
        await until(lambda: first.welcomes)
        ids = [await system.begin("queued") for _ in range(8)]  # each is answered while all others wait
        await until(lambda: len(first.received) == 3)
        for run in reversed(first.received[:3]):
            await first.finish(run, done(run))
        await until(lambda: len(first.received) == 6)
    assert {state_of(await system.get(id)) for id in ids} == {"RUNNING", "SUCCESS"}
    later = ScriptedExecutor(
        system.engine.address, done, executor_id="queues", actions=(("test.queued", True),), slots=3
    )
    async with later:
        assert [state_of(await system.wait(id)) for id in ids] == ["SUCCESS"] * 8
    assert len(later.received) == 5


async def test_the_engine_owns_executions_and_the_runner_only_runs_actions(stage: Stage) -> None:
    """P22: an order has an action and its input, and nothing of the workflow's text or context; without any runner the
    execution is read, paused and resumed; another runner goes on with it."""
    scene = await stage.open("chain", "mistral", {"word": "w"}, held={"first"})
    run = await stage.has(scene, "first")
    assert (run.action, json.loads(run.input)) == ("test.act", {"give": "w"})
    assert {field.name for field, _ in run.ListFields()} <= {
        "action_execution_id",
        "delivery",
        "action",
        "input",
        "task_token",
        "context",
        "signing_key",
        "trace_context",
    }
    await stage.executor.die()
    try:
        assert state_of(await stage.system.get(scene.id)) == "RUNNING"
        await stage.pause(scene.id)
        await stage.resume(scene.id)
        assert (await stage.tasks(scene))["first"].state == execution_pb2.TASK_STATE_RUNNING
    finally:
        scene.held.clear()
        stage.executor.held.clear()
        await stage.executor.__aenter__()
    await stage.rests(scene)
    assert [each.delivery for each in await stage.attempts(scene, "first")] == [2]


# Executions and tasks.


@EVERY
async def test_an_execution_holds_information_progress_state_input_and_output(stage: Stage, language: str) -> None:
    """S2: what it runs, with what, how far it is and what came of it, at each time."""
    scene = await stage.open("chain", language, {"word": "w"}, held={"second"})
    await stage.has(scene, "second")
    now = await stage.system.get(scene.id)
    assert (now.workflow, now.workflow_version, now.namespace) == (f"{language}_chain", 1, scene.namespace)
    assert (state_of(now), now.output) == ("RUNNING", "")
    assert json.loads(now.input)["word"] == "w"
    assert counts(now) == {"SUCCESS": 1, "RUNNING": 1}
    await stage.release(scene, "second")
    end = await stage.rests(scene)
    assert json.loads(end.output) == {"said": "w!end"}
    assert counts(end) == {"SUCCESS": 3}
    assert end.ended_at.ToNanoseconds() >= end.started_at.ToNanoseconds() >= end.created_at.ToNanoseconds() > 0


def counts(execution: execution_pb2.Execution) -> dict[str, int]:
    """How many tasks are in which state."""
    return {
        execution_pb2.TaskState.Name(each.state).removeprefix("TASK_STATE_"): each.count
        for each in execution.task_counts
    }


@EVERY
async def test_a_task_has_a_state_and_a_result(stage: Stage, language: str) -> None:
    """S5, S11: RUNNING without a result, then SUCCESS with one, or ERROR with the failure."""
    scene = await stage.open("chain", language, {"word": "w"}, held={"first"}, broken={"second"})
    await stage.has(scene, "first")
    task = (await stage.tasks(scene))["first"]
    assert (state_of(task), task.result) == ("RUNNING", "")
    await stage.release(scene, "first")
    await stage.rests(scene, "ERROR")
    tasks = await stage.tasks(scene)
    assert {name: state_of(each) for name, each in tasks.items()} == {"first": "SUCCESS", "second": "ERROR"}
    assert (json.loads(tasks["first"].result), "it broke" in tasks["second"].result) == ("w", True)


@EVERY
async def test_a_task_that_may_not_begin_is_idle(stage: Stage, language: str) -> None:
    """S6: chosen while its execution is PAUSED it exists, is IDLE and has no attempt; the resume begins it."""
    scene = await stage.open("chain", language, {"word": "w"}, held={"first"})
    await stage.has(scene, "first")
    await stage.pause(scene.id)
    await stage.release(scene, "first")
    await stage.reaches(scene.id, "PAUSED")
    assert await stage.states(scene) == {"first": "SUCCESS", "second": "IDLE"}
    assert await stage.attempts(scene, "second") == []
    await stage.resume(scene.id)
    await stage.rests(scene)
    assert set((await stage.states(scene)).values()) == {"SUCCESS"}


@EVERY
async def test_executions_tasks_and_actions_are_read_at_run_time(stage: Stage, language: str) -> None:
    """S18: what is read of an execution, a task and an action moves with each item that ends."""
    scene = await stage.open("items", language, {"list": ["a", "b", "c"]}, held={"many"})
    revisions = []
    for done_count in range(3):
        await stage.has(scene, "many", done_count)
        task = (await stage.tasks(scene))["many"]
        assert (task.items.total, task.items.succeeded, state_of(task)) == (3, done_count, "RUNNING")
        attempts = await stage.attempts(scene, "many")
        ended = [json.loads(each.result) for each in attempts if each.state == execution_pb2.ACTION_STATE_SUCCESS]
        assert ended == ["a", "b", "c"][:done_count]
        execution = await stage.system.get(scene.id)
        assert (state_of(execution), execution.active_count) == ("RUNNING", 3 - done_count)
        revisions.append(execution.revision)
        await stage.release(scene, "many", done_count)
        await until_more(stage, scene, execution.revision)
    assert revisions == sorted(set(revisions))
    assert json.loads((await stage.rests(scene)).output) == {"all": ["a", "b", "c"]}


async def until_more(stage: Stage, scene: Scene, revision: int) -> None:
    """Return when the execution has a later revision."""
    async with asyncio.timeout(20):
        while True:
            if (await stage.system.get(scene.id)).revision > revision:
                return
            await asyncio.sleep(0.02)


@EVERY
async def test_what_is_submitted_is_in_the_database(stage: Stage, language: str) -> None:
    """S1, S3, S12, S14: the execution, at least one task execution and its action execution are rows once the start is
    answered; every state that readers see is stored, so a kill of everything changes none."""
    scene = await stage.open("chain", language, {"word": "w"}, held={"second"})
    rows = stored(stage, "SELECT state FROM executions WHERE id = ?", scene.id)
    assert rows == [("RUNNING",)]
    assert len(stored(stage, "SELECT name FROM tasks WHERE execution_id = ?", scene.id)) >= 1
    assert len(stored(stage, "SELECT action FROM attempts WHERE execution_id = ?", scene.id)) >= 1
    await stage.has(scene, "second")
    shown = await stage.states(scene)
    assert shown == {"first": "SUCCESS", "second": "RUNNING"}
    assert dict(stored(stage, "SELECT name, state FROM tasks WHERE execution_id = ?", scene.id)) == shown
    for service in (stage.system.engine, stage.system.api):
        service.kill()
    await stage.system.start()
    assert await stage.states(scene) == shown
    await stage.release(scene, "second")
    await stage.rests(scene)


def stored(stage: Stage, statement: str, execution_id: str) -> list[Any]:
    """Read rows of the store past all services."""
    with closing(sqlite3.connect(f"file:{stage.system.database.removeprefix('sqlite:///')}?mode=ro", uri=True)) as rows:
        return rows.execute(statement, (execution_id,)).fetchall()


@EVERY
async def test_a_join_waits_and_may_never_run(stage: Stage, language: str) -> None:
    """S7, S8: a join exists and is WAITING while a branch is missing; where the branch fails it never runs, and the
    execution ends all the same."""
    scene = await stage.open("join", language, held={"right"})
    await stage.has(scene, "right")
    async with asyncio.timeout(20):
        while True:
            if (await stage.states(scene)).get("meet") == "WAITING":
                break
            await asyncio.sleep(0.02)
    assert await stage.attempts(scene, "meet") == []
    assert (await stage.tasks(scene))["meet"].waiting_for
    await stage.release(scene, "right", fails=True)
    await stage.rests(scene, "ERROR")
    assert await stage.attempts(scene, "meet") == []
    assert (await stage.states(scene))["meet"] in ("WAITING", "ERROR")
    other = await stage.open("join", language, held={"right"})
    await stage.release(other, "right")
    await stage.rests(other)


@EVERY
async def test_a_task_with_a_sub_workflow_has_a_workflow_execution(stage: Stage, language: str) -> None:
    """S15 as decision 18 has it: it has no action execution but at least one execution of a workflow; what undoes it is
    the only action execution that it gets."""
    scene = await stage.open("branches", language)
    await stage.rests(scene)
    task = (await stage.tasks(scene))["right"]
    assert (len(task.child_execution_ids), await stage.attempts(scene, "right")) == (1, [])
    assert (await stage.system.get(task.child_execution_ids[0])).parent_execution_id == scene.id
    await stage.go_to(scene.id, "begun")
    await stage.reaches(scene.id, "PAUSED")
    (undone,) = [each for each in await stage.attempts(scene, "right") if each.action == "test.undo"]
    assert (undone.revert, undone.state) == (True, execution_pb2.ACTION_STATE_SUCCESS)
    assert len(await stage.attempts(scene, "right")) == 1
