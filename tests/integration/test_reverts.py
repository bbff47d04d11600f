"""Going back over the running services: reverts and restored states (C5, C6, C15, C16, C28, C29, C31)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.integration.stage import LANGUAGES, Scene, Stage
from tests.processes import state_of

from dalsegno.v1 import action_service_pb2, execution_pb2, operation_pb2
from dalsegno.v1 import execution_service_pb2 as messages

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("reverts")]
both = pytest.mark.parametrize("language", LANGUAGES)


async def stands_at(stage: Stage, scene: Scene, name: str) -> execution_pb2.Execution:
    """The execution, which must be PAUSED at an entry of this checkpoint."""
    execution = await stage.rests(scene, "PAUSED")
    assert execution.paused_at.name == name
    return execution


def done_by(scene: Scene) -> list[str]:
    """What ran, in order: the tasks, and the reverts of tasks as `undo TASK`."""
    return [("undo " if run.action == "test.undo" else "") + run.context.task_name for run in scene.runs]


def undone(scene: Scene) -> list[Any]:
    """What the reverts were given, in order."""
    return [json.loads(run.input)["give"] for run in scene.runs if run.action == "test.undo"]


async def changes_of(stage: Stage, scene: Scene, kind: str) -> list[Any]:
    """The changes of one kind, from the journal."""
    journal = await stage.system.journal(scene.id)
    return [getattr(each, kind) for each in journal if each.WhichOneof("kind") == kind]


async def entries_of(stage: Stage, scene: Scene) -> dict[str, execution_pb2.CheckpointEntry]:
    """The newest entry of each checkpoint."""
    return {each.name: each for each in await stage.entries(scene.id)}


# Back


@both
async def test_an_execution_goes_back_to_an_entry(stage: Stage, language: str) -> None:
    """What ended after the entry is reverted, the newest end first, by the revert action of its task with the result of
    that end; then the execution is PAUSED at the entry as it was then (C5, C15, C16, C28)."""
    scene = await stage.open("undoable", language, {"word": "a"})
    assert json.loads((await stage.rests(scene)).output) == {"said": "a!+"}
    answer = (await stage.go_to(scene.id, "installed")).execution
    assert state_of(answer) in ("REVERTING", "PAUSED")
    execution = await stands_at(stage, scene, "installed")
    assert (execution.output, execution.HasField("reverting_to")) == ("", False)
    assert done_by(scene)[4:] == ["undo check", "undo configure"]
    assert undone(scene) == ["a!+", "a!"]
    entries = await entries_of(stage, scene)
    assert {name: each.stands for name, each in entries.items()} == {
        "installed": True,
        "configured": False,
        "checked": False,
    }
    assert entries["installed"].tasks_since == 0
    tasks = {task.name: task for task in await stage.system.tasks(scene.id)}
    assert [state_of(tasks[name]) for name in ("install", "configure", "check", "plain")] == [
        "SUCCESS",
        "REVERTED",
        "REVERTED",
        "REVERTED",
    ]
    assert {task.superseded_by for task in tasks.values()} == {"", "workflow-revert"}


@both
async def test_forward_again_gives_the_same_end(stage: Stage, language: str) -> None:
    """From the entry the execution goes on as it did the first time, in new task executions (C6, C17)."""
    scene = await stage.open("undoable", language, {"word": "a"})
    first = await stage.rests(scene)
    await stage.go_to(scene.id, "installed", then=messages.ON_ARRIVAL_RESUME)
    await stage.system.until(scene.id, lambda change: change.HasField("restored"))
    second = await stage.rests(scene)
    assert second.output == first.output
    assert second.revision > first.revision
    assert done_by(scene).count("install") == 1
    assert [done_by(scene).count(name) for name in ("configure", "check", "plain")] == [2, 2, 2]
    numbers = [task.number for task in await stage.system.tasks(scene.id)]
    assert numbers == list(range(1, len(numbers) + 1)) == list(range(1, 8))


@both
async def test_an_edit_is_made_when_the_execution_has_gone_back(stage: Stage, language: str) -> None:
    """What runs after the entry sees the edit that the go-to asked for (C15, decision 20)."""
    scene = await stage.open("phases", language, {"word": "a"})
    assert json.loads((await stage.rests(scene)).output) == {"said": "a!+"}
    edit = messages.ContextEdit(task="install", set='{"said": "b"}')
    await stage.go_to(scene.id, "to configure", then=messages.ON_ARRIVAL_RESUME, edit=edit)
    await stage.system.until(scene.id, lambda change: change.HasField("restored"))
    assert json.loads((await stage.rests(scene)).output) == {"said": "b!+"}


@both
async def test_branches_items_and_a_child_are_reverted(stage: Stage, language: str) -> None:
    """In a graph with two branches, a with-items task and a sub-workflow, everything that ended after the entry is
    reverted: items one by one, and the child to its own start before the revert of its task (C5, C28)."""
    scene = await stage.open("branches", language)
    await stage.rests(scene)
    await stage.go_to(scene.id, "begun")
    await stands_at(stage, scene, "begun")
    assert sorted(undone(scene)) == [1, 2, 3, 4, 5, 6, 7, 8]
    order = undone(scene)
    assert order[0] == 6
    assert order.index(8) < order.index(7) < order.index(2)
    children = await stage.system.executions.ListExecutions(messages.ListExecutionsRequest(filter=f"parent={scene.id}"))
    assert [state_of(each) for each in children.executions] == ["REVERTED"]
    await stage.resume(scene.id)
    await stage.rests(scene)
    assert [done_by(scene).count(name) for name in ("left", "many", "inner", "meet")] == [2, 6, 2, 2]


@both
async def test_start_is_an_entry_to_go_back_to(stage: Stage, language: str) -> None:
    """Every execution can be sent back to its start, by name, and does all again from there (C5)."""
    scene = await stage.open("undoable", language, {"word": "a"})
    await stage.rests(scene)
    await stage.go_to(scene.id, "start")
    await stands_at(stage, scene, "start")
    assert undone(scene) == ["a!+", "a!", "a"]
    await stage.resume(scene.id)
    assert json.loads((await stage.rests(scene)).output) == {"said": "a!+"}


@both
async def test_an_edit_made_at_an_entry_survives_going_back_to_it(stage: Stage, language: str) -> None:
    """Edits made while the execution stood at the entry belong to it; later ones are undone (decision 19)."""
    scene = await stage.open("phases", language, {"word": "a"}, stop_at=["to configure"])
    await stands_at(stage, scene, "to configure")
    kept = messages.UpdateContextRequest(execution_id=scene.id, task="install", set='{"said": "kept"}')
    await stage.system.executions.UpdateContext(kept)
    await stage.go_to(scene.id, "configured")
    await stands_at(stage, scene, "configured")
    later = messages.UpdateContextRequest(execution_id=scene.id, task="configure", set='{"said": "later"}')
    await stage.system.executions.UpdateContext(later)
    told = (await stage.go_to(scene.id, "to configure", dry_run=True)).dry_run
    assert [(each.task, list(each.names)) for each in told.undone_edits] == [("configure", ["said"])]
    await stage.go_to(scene.id, "to configure", then=messages.ON_ARRIVAL_RESUME)
    await stage.system.until(scene.id, lambda change: change.HasField("restored"))
    assert json.loads((await stage.rests(scene)).output) == {"said": "kept!+"}


@both
async def test_what_runs_comes_to_rest_before_anything_is_reverted(stage: Stage, language: str) -> None:
    """A go-to back of a RUNNING execution waits for what runs, hands out reverts only, and what was active at the entry
    begins again on resume (C16, decision 19)."""
    scene = await stage.open("undoable", language, {"word": "a"}, held={"check"})
    await stage.has(scene, "check")
    await stage.go_to(scene.id, "installed")
    await stage.reaches(scene.id, "PAUSING", "REVERTING")
    execution = await stage.system.get(scene.id)
    assert (execution.reverting_to.name, undone(scene)) == ("installed", [])
    await stage.release(scene, "check")
    await stands_at(stage, scene, "installed")
    assert undone(scene) == ["a!+", "a!"]
    scene.held.clear()
    await stage.resume(scene.id)
    await stage.rests(scene)


@both
async def test_back_and_then_forward_in_one_order(stage: Stage, language: str) -> None:
    """A checkpoint that nothing open leads to any more is reached by going back first, then forward (C15)."""
    scene = await stage.open("undoable", language, {"word": "a"}, stop_at=["checked"])
    await stands_at(stage, scene, "checked")
    await stage.go_to(scene.id, "configured", next=True)
    await stage.system.until(scene.id, lambda change: change.HasField("restored"))
    execution = await stands_at(stage, scene, "configured")
    entries = [each for each in await stage.entries(scene.id) if each.name == "configured"]
    assert [each.stands for each in entries] == [False, True]
    assert execution.paused_at.sequence == entries[1].sequence
    assert done_by(scene) == ["install", "configure", "check", "undo check", "undo configure", "configure"]
    await stage.cancel(scene.id)


@both
async def test_an_undone_entry_is_refused(stage: Stage, language: str) -> None:
    """An entry that a revert went back behind cannot be gone to any more (C31)."""
    scene = await stage.open("undoable", language, {"word": "a"})
    await stage.rests(scene)
    checked = (await entries_of(stage, scene))["checked"]
    await stage.go_to(scene.id, "installed")
    await stands_at(stage, scene, "installed")
    async with stage.unchanged(scene):
        failure = await stage.refuses(stage.go_to(scene.id, sequence=checked.sequence))
    assert failure.reason == "UNDONE"
    await stage.cancel(scene.id)


@both
async def test_a_child_whose_parent_went_on_is_refused(stage: Stage, language: str) -> None:
    """A sub-workflow goes back by itself only while the task that runs it has not ended (decision 23)."""
    scene = await stage.open("branches", language)
    await stage.rests(scene)
    children = await stage.system.executions.ListExecutions(messages.ListExecutionsRequest(filter=f"parent={scene.id}"))
    async with stage.unchanged(scene):
        failure = await stage.refuses(stage.go_to(children.executions[0].id, "start"))
    assert failure.reason == "PARENT_WENT_ON"


# Failing reverts


@both
async def test_a_failing_revert_is_a_state_of_its_own(stage: Stage, language: str) -> None:
    """The execution and the task are REVERT_ERROR; a resume runs the failed revert again and goes on (C29)."""
    scene = await stage.open("undoable", language, {"word": "a"}, broken={"undo configure"})
    await stage.rests(scene)
    await stage.go_to(scene.id, "installed")
    execution = await stage.rests(scene, "REVERT_ERROR")
    assert execution.reverting_to.name == "installed"
    assert "configure" in execution.state_info
    tasks = await stage.system.tasks(scene.id)
    assert {task.name: state_of(task) for task in tasks if task.name in ("install", "configure")} == {
        "install": "SUCCESS",
        "configure": "REVERT_ERROR",
    }
    async with stage.unchanged(scene):
        await stage.refuses(stage.rerun(scene.id, "check"))
    scene.broken.clear()
    await stage.resume(scene.id)
    await stands_at(stage, scene, "installed")
    assert done_by(scene)[4:] == ["undo check", "undo configure", "undo configure"]
    await stage.cancel(scene.id)


@both
async def test_a_failing_revert_is_skipped(stage: Stage, language: str) -> None:
    """An operator who has undone it by hand skips the revert; it counts as reverted (C29, decision 23)."""
    scene = await stage.open("undoable", language, {"word": "a"}, broken={"undo configure"})
    await stage.rests(scene)
    await stage.go_to(scene.id, "installed")
    await stage.rests(scene, "REVERT_ERROR")
    skip = operation_pb2.ResumeTask(task="configure", skip=True, output="null")
    await stage.resume(scene.id, skip, comment="done by hand")
    await stands_at(stage, scene, "installed")
    await stage.cancel(scene.id)


@both
async def test_the_attempts_of_a_task_show_its_reverts(stage: Stage, language: str) -> None:
    """A revert is an action execution of its task, numbered with its attempts and marked (decision 18)."""
    scene = await stage.open("undoable", language, {"word": "a"})
    await stage.rests(scene)
    await stage.go_to(scene.id, "installed")
    await stands_at(stage, scene, "installed")
    attempts = await stage.attempts(scene, "configure")
    assert [(each.attempt, each.action, each.revert, state_of(each)) for each in attempts] == [
        (1, "test.act", False, "SUCCESS"),
        (2, "test.undo", True, "SUCCESS"),
    ]
    request = action_service_pb2.ListActionExecutionsRequest(execution_id=scene.id, filter="revert=true")
    listed = await stage.system.actions.ListActionExecutions(request)
    assert [each.task_name for each in listed.action_executions] == ["configure", "check"]
    await stage.cancel(scene.id)


@both
async def test_a_revert_is_paused_and_resumed(stage: Stage, language: str) -> None:
    """A revert that is under way is paused with `reverting_to`, and a resume goes on with it (decision 23)."""
    scene = await stage.open("undoable", language, {"word": "a"}, held={"undo check"})
    await stage.rests(scene)
    await stage.go_to(scene.id, "installed")
    await stage.has(scene, "undo check")
    assert state_of(await stage.system.get(scene.id)) == "REVERTING"
    await stage.pause(scene.id)
    await stage.release(scene, "undo check")
    execution = await stage.rests(scene, "PAUSED")
    assert (execution.reverting_to.name, execution.HasField("paused_at")) == ("installed", False)
    assert undone(scene) == ["a!+"]
    await stage.resume(scene.id)
    await stands_at(stage, scene, "installed")
    assert undone(scene) == ["a!+", "a!"]
    await stage.cancel(scene.id)


@both
async def test_a_revert_is_cancelled(stage: Stage, language: str) -> None:
    """Cancelled, running reverts end, and the execution says what is left: REVERT_ERROR (decision 23)."""
    scene = await stage.open("undoable", language, {"word": "a"}, held={"undo check"})
    await stage.rests(scene)
    await stage.go_to(scene.id, "installed")
    await stage.has(scene, "undo check")
    await stage.cancel(scene.id)
    await stage.release(scene, "undo check")
    execution = await stage.rests(scene, "REVERT_ERROR")
    assert execution.reverting_to.name == "installed"
    await stage.resume(scene.id)
    await stands_at(stage, scene, "installed")
    assert undone(scene) == ["a!+", "a!"]
    await stage.cancel(scene.id)


# What it would do


@both
async def test_a_dry_go_to_back_tells_what_would_be_reverted(stage: Stage, language: str) -> None:
    """It names, in order, each end that would be reverted with its action and input, and those that have none (C15)."""
    scene = await stage.open("undoable", language, {"word": "a"})
    await stage.rests(scene)
    async with stage.unchanged(scene):
        told = (await stage.go_to(scene.id, "installed", dry_run=True)).dry_run
    assert told.back_to.name == "installed"
    assert [each.name for each in told.starts] == [], "a revert is listed as one, not as what would start"
    assert [(each.name, each.action, each.input) for each in told.reverts] == [
        ("plain", "", ""),
        ("check", "test.undo", '{"give":"a!+"}'),
        ("configure", "test.undo", '{"give":"a!"}'),
    ]
    assert [each.name for each in told.kept] == ["install"]


@both
async def test_a_dry_go_to_back_tells_of_sub_workflows(stage: Stage, language: str) -> None:
    """What would be reverted in a sub-workflow is told as its effect, in order; items are told one by one (C15)."""
    scene = await stage.open("branches", language)
    await stage.rests(scene)
    async with stage.unchanged(scene):
        told = (await stage.go_to(scene.id, "begun", dry_run=True)).dry_run
    (child,) = told.children
    assert (child.task_name, child.effect.back_to.name) == ("right", "start")
    assert [(each.name, each.action) for each in child.effect.reverts] == [
        ("outer", "test.undo"),
        ("inner", "test.undo"),
    ]
    (right,) = [each for each in told.reverts if each.name == "right"]
    assert (right.action, right.reason) == ("test.undo", f"its sub-workflow {child.execution_id} is reverted first")
    many = [each for each in told.reverts if each.name == "many"]
    assert sorted((list(each.items), each.input) for each in many) == [
        ([0], '{"give":3}'),
        ([1], '{"give":4}'),
        ([2], '{"give":5}'),
    ]


async def test_a_dry_go_to_back_tells_which_delegates_would_be_cancelled(stage: Stage) -> None:
    """A delegate that began after the entry would be cancelled; when the order is given, it is (decision 19)."""
    scene = await stage.open("asks", "mistral")
    await stage.system.until(scene.id, lambda change: change.attempt_moved.delegated)
    async with stage.unchanged(scene):
        told = (await stage.go_to(scene.id, "start", dry_run=True)).dry_run
    assert [each.name for each in told.cancelled_delegates] == ["ask"]
    await stage.go_to(scene.id, "start")
    await stands_at(stage, scene, "start")
    assert [state_of(each) for each in await stage.attempts(scene, "ask")] == ["CANCELLED"]
    await stage.cancel(scene.id)


# Watchers


@both
async def test_watchers_see_how_it_goes_back(stage: Stage, language: str) -> None:
    """The stream has the beginning of the revert, its attempts, marked, and what was restored (C5)."""
    scene = await stage.open("undoable", language, {"word": "a"})
    await stage.rests(scene)
    await stage.go_to(scene.id, "installed")
    await stands_at(stage, scene, "installed")
    entry = (await entries_of(stage, scene))["installed"].sequence
    (begun,) = await changes_of(stage, scene, "revert_begun")
    (restored,) = await changes_of(stage, scene, "restored")
    for told in (begun, restored):
        assert (told.to.name, told.to.sequence) == ("installed", entry)
    assert restored.tasks >= 3
    added = [each for each in await changes_of(stage, scene, "attempt_added") if each.revert]
    assert [each.task_name for each in added] == ["check", "configure"]
    await stage.cancel(scene.id)
