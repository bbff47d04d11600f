"""Rerun: from the beginning as a new execution, from tasks or from what failed within it; over the running services."""

from __future__ import annotations

import itertools
import json

import grpc
import pytest
from tests.integration.stage import LANGUAGES, Scene, Stage
from tests.processes import state_of

from dalsegno.v1 import execution_service_pb2 as messages
from dalsegno.v1 import operation_pb2

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("operations_rerun")]
both = pytest.mark.parametrize("language", LANGUAGES)
Task = operation_pb2.RerunTask


def runs_of(scene: Scene) -> list[str]:
    """The names of what was handed out, in order."""
    return [run.context.task_name for run in scene.runs]


# From the beginning


@both
async def test_from_the_beginning_is_a_new_execution(stage: Stage, language: str) -> None:
    """Rerun from the beginning makes a new execution with a new id and the same input; the original one is untouched,
    and the new one names it (O16, O17)."""
    scene = await stage.open("chain", language, {"word": "a"}, labels={"team": "red"})
    original = await stage.rests(scene)
    rows = await stage.system.tasks(scene.id), await stage.system.attempts(scene.id)
    again = await stage.repeat(scene, comment="once more")
    repeated = await stage.rests(again)
    assert again.id != scene.id
    assert (repeated.output, repeated.input, repeated.comment) == (original.output, original.input, "once more")
    assert dict(repeated.labels) == {"team": "red", "rerun-of": scene.id}
    assert await stage.system.get(scene.id) == original
    assert (await stage.system.tasks(scene.id), await stage.system.attempts(scene.id)) == rows
    (created,) = [each for each in await stage.system.journal(again.id) if each.HasField("execution_created")]
    assert created.execution_created.labels["rerun-of"] == scene.id


@both
async def test_from_the_beginning_with_changes(stage: Stage, language: str) -> None:
    """New inputs are merged into those it had, the new id may be chosen, and it may be asked of one that runs (O16)."""
    scene = await stage.open("chain", language, {"word": "a"}, held={"second"})
    await stage.has(scene, "second")
    scene.held.clear()
    chosen = "0193b5c2-7f3a-7e51-9d0c-" + scene.namespace[-12:]
    for _ in range(2):  # asked twice, made once: the id is taken by this very request
        again = await stage.repeat(scene, input='{"tail": "fin"}', new_execution_id=chosen)
    assert again.id == chosen
    assert json.loads((await stage.rests(again)).output) == {"said": "a!fin"}
    assert state_of(await stage.system.get(scene.id)) == "RUNNING"
    await stage.cancel(scene.id, terminate=operation_pb2.Terminate())


async def test_from_the_beginning_on_the_newest_version(stage: Stage) -> None:
    """It runs on the version it had, unless the newest one is asked for; inputs that this lacks are left out (O16)."""
    text = "version: '2.0'\nturns:\n  input: [word, {old: 1}]\n  tasks: {one: {action: test.act give=<% $.word %>}}\n"
    await stage.system.define(text.replace("turns", "mistral_turns"))
    scene = await stage.open("turns", "mistral", {"word": "a"})
    await stage.rests(scene)
    await stage.system.define(text.replace("turns", "mistral_turns").replace(", {old: 1}", "").replace("one:", "two:"))
    same = await stage.repeat(scene)
    newest = await stage.repeat(scene, latest_definition=True)
    assert [(await stage.rests(each)).workflow_version for each in (same, newest)] == [1, 2]
    assert await stage.states(newest) == {"two": "SUCCESS"}


# From tasks


@both
@pytest.mark.parametrize("end", ["SUCCESS", "ERROR", "CANCELLED"])
async def test_allowed_once_completed(stage: Stage, language: str, end: str) -> None:
    """A rerun from tasks takes an execution that succeeded, failed or was cancelled; it is the same execution with a
    new attempt of the task, and what came before is kept and used (O18, O20, O21, O22)."""
    broken = {"second"} if end == "ERROR" else set()
    held = {"second"} if end == "CANCELLED" else set()
    scene = await stage.open("chain", language, {"word": "a"}, broken=broken, held=held)
    if held:
        await stage.has(scene, "second")
        await stage.cancel(scene.id)
        await stage.release(scene, "second")
    await stage.rests(scene, end)
    scene.broken.clear()
    scene.held.clear()
    answer = await stage.rerun(scene.id, "second")
    assert (answer.execution.id, state_of(answer.execution)) == (scene.id, "RUNNING")
    assert json.loads((await stage.rests(scene)).output) == {"said": "a!end"}
    assert runs_of(scene).count("first") == 1
    assert [each.attempt for each in await stage.attempts(scene, "second")] == [1, 2]


@both
@pytest.mark.parametrize("state", ["RUNNING", "PAUSING", "PAUSED", "CANCELLING"])
async def test_refused_in_any_other_state(stage: Stage, language: str, state: str) -> None:
    """While it is RUNNING, PAUSING, PAUSED or CANCELLING a rerun is refused, and changes nothing (O19)."""
    scene = await stage.open("chain", language, {"word": "a"}, held={"second"})
    await stage.has(scene, "second")
    if state == "CANCELLING":
        await stage.cancel(scene.id)
    elif state != "RUNNING":
        await stage.pause(scene.id)
    if state == "PAUSED":
        await stage.release(scene, "second")
        await stage.rests(scene, "PAUSED")
    async with stage.unchanged(scene):
        failure = await stage.refuses(stage.rerun(scene.id, "first"))
    assert state in failure.message
    if state != "PAUSED":
        await stage.cancel(scene.id, terminate=operation_pb2.Terminate())
    else:
        await stage.cancel(scene.id)


@both
async def test_what_succeeded_is_rerun(stage: Stage, language: str) -> None:
    """Any executed task can be the start, also one that succeeded: what follows it is superseded but stays readable,
    and runs again as new task executions beside it (O21, O36)."""
    scene = await stage.open("chain", language, {"word": "a"})
    await stage.rests(scene)
    before = {task.number: task for task in await stage.system.tasks(scene.id)}
    attempts = await stage.system.attempts(scene.id)
    await stage.rerun(scene.id, Task(task="second", input='{"give": "b"}'))
    assert json.loads((await stage.rests(scene)).output) == {"said": "bend"}
    tasks = await stage.system.tasks(scene.id)
    assert [(task.name, task.superseded) for task in tasks] == [
        ("first", False),
        ("second", False),
        ("third", True),
        ("third", False),
    ]
    gone = tasks[2]
    assert gone.superseded_by == "workflow-rerun"
    assert (gone.result, state_of(gone)) == (before[gone.number].result, "SUCCESS")
    assert tasks[3].generation == 1
    kept = {each.id: each for each in await stage.system.attempts(scene.id)}
    for each in attempts:  # nothing of an earlier attempt is lost: input, result, times, who
        now = kept[each.id]
        now.accepted = each.accepted
        assert now == each
    request = messages.ListTasksRequest(execution_id=scene.id, filter="superseded=true")
    assert [task.number for task in (await stage.system.executions.ListTasks(request)).tasks] == [gone.number]


@both
async def test_a_rerun_is_no_retry(stage: Stage, language: str) -> None:
    """Retries come by themselves, as the definition says; a rerun comes by hand, says so, and has retries of its own,
    which nobody launched (O23, R23)."""
    scene = await stage.open("retries", language, broken={"again"})
    await stage.rests(scene, "ERROR")
    assert len(await stage.attempts(scene, "again")) == 3
    await stage.rerun(scene.id, "again")
    await stage.rests(scene, "ERROR")
    attempts = await stage.attempts(scene, "again")
    assert [each.comment for each in attempts] == ["", "", "", "launched by workflow-rerun", "", ""]


@both
async def test_items_are_reset_by_default(stage: Stage, language: str) -> None:
    """All items of a with-items task run again by default; without reset only those that failed (O24, O25)."""
    scene = await stage.open("items", language, {"list": [5, 6, 7]}, broken={("many", 1)})
    await stage.rests(scene, "ERROR")
    await stage.rerun(scene.id, Task(task="many", reset=False))
    await stage.rests(scene, "ERROR")
    assert [(run.context.item, run.context.attempt) for run in scene.runs] == [(0, 1), (1, 1), (2, 1), (1, 2)]
    scene.broken.clear()
    await stage.rerun(scene.id, "many")
    assert json.loads((await stage.rests(scene)).output) == {"all": [5, 6, 7]}
    items = sorted((run.context.item, run.context.attempt) for run in scene.runs if run.context.task_name == "many")
    assert items == [(0, 1), (0, 3), (1, 1), (1, 2), (1, 3), (2, 1), (2, 3)]


@both
async def test_named_items_are_rerun(stage: Stage, language: str) -> None:
    """Items are rerun by index too, with new input, and all others keep their results (O25, R13)."""
    scene = await stage.open("items", language, {"list": [5, 6, 7]})
    await stage.rests(scene)
    await stage.rerun(scene.id, Task(task="many", items=[2], item_inputs={2: '{"give": 70}'}))
    assert json.loads((await stage.rests(scene)).output) == {"all": [5, 6, 70]}


TWO_FANS = {
    "mistral": """
version: '2.0'
mistral_fans:
  tasks:
    a: {with-items: "n in <% [1, 2] %>", action: test.act give=<% $.n %>}
    b: {with-items: "n in <% [1, 2] %>", action: test.act give=<% $.n %>}
""",
    "orquesta": """
version: 1.0
name: orquesta_fans
vars: [{list: [1, 2]}]
tasks:
  a: {with: n in <% ctx().list %>, action: test.act give=<% item(n) %>}
  b: {with: n in <% ctx().list %>, action: test.act give=<% item(n) %>}
""",
}


@both
async def test_each_task_is_reset_or_not(stage: Stage, language: str) -> None:
    """Of several tasks rerun together each can be reset or not (O26)."""
    await stage.system.define(TWO_FANS[language])
    scene = await stage.open("fans", language, broken={("a", 1), ("b", 1)})
    await stage.rests(scene, "ERROR")
    await stage.system.wait(scene.id)
    scene.broken.clear()
    scene.runs.clear()
    await stage.rerun(scene.id, "a", Task(task="b", reset=False))
    await stage.rests(scene)
    assert sorted((run.context.task_name, run.context.item) for run in scene.runs) == [("a", 0), ("a", 1), ("b", 1)]


@both
async def test_named_twice_counts_once(stage: Stage, language: str) -> None:
    """A task that is named twice runs once; twice with different choices is refused (O27)."""
    scene = await stage.open("chain", language, {"word": "a"})
    await stage.rests(scene)
    scene.runs.clear()
    await stage.rerun(scene.id, "second", "second")
    await stage.rests(scene)
    assert runs_of(scene) == ["second", "third"]
    call = stage.rerun(scene.id, "second", Task(task="second", reset=False))
    failure = await stage.refuses(call, grpc.StatusCode.INVALID_ARGUMENT)
    assert [each.subject for each in failure.violations] == ["tasks[1].task"]


@both
@pytest.mark.parametrize("names", list(itertools.permutations(["left", "meet", "end"])))
async def test_what_comes_after_another_is_subsumed(stage: Stage, language: str, names: tuple[str, ...]) -> None:
    """A task downstream of another one of the request is left out, along the whole path and in whatever order they are
    named: each runs once, and no branch doubles (O28, O29, O35)."""
    scene = await stage.open("join", language)
    await stage.rests(scene)
    scene.runs.clear()
    dry = (await stage.rerun(scene.id, *names, dry_run=True)).dry_run
    assert sorted(each.name for each in dry.subsumed) == ["end", "meet"]
    assert [each.name for each in dry.starts] == ["left"]
    await stage.rerun(scene.id, *names)
    assert json.loads((await stage.rests(scene)).output) == {"met": "lr"}
    assert runs_of(scene) == ["left", "meet", "end"]


@both
@pytest.mark.parametrize("names", [["third"], ["second", "third"], ["nowhere"], ["nowhere", "third", "second"]])
async def test_one_invalid_task_refuses_all(stage: Stage, language: str, names: list[str]) -> None:
    """A task that was never executed is an error; it refuses the whole request, every such task is named, and nothing
    runs (O30, O31)."""
    scene = await stage.open("chain", language, {"word": "a"}, broken={"second"})
    await stage.rests(scene, "ERROR")
    async with stage.unchanged(scene):
        failure = await stage.refuses(stage.rerun(scene.id, *names))
    assert {each.subject for each in failure.violations} == {f"task {name}" for name in names if name != "second"}


@both
async def test_two_failed_branches_join_once(stage: Stage, language: str) -> None:
    """Two failed parallel tasks rerun together meet once at the join (O32)."""
    scene = await stage.open("join", language, broken={"left", "right"})
    await stage.rests(scene, "ERROR")
    scene.broken.clear()
    scene.runs.clear()
    await stage.rerun(scene.id, "right", "left")
    assert json.loads((await stage.rests(scene)).output) == {"met": "lr"}
    assert sorted(runs_of(scene)[:2]) == ["left", "right"]
    assert runs_of(scene)[2:] == ["meet", "end"]


@both
async def test_one_failed_branch_joins_with_what_was_kept(stage: Stage, language: str) -> None:
    """One failed branch rerun meets the kept arrival of the other, which does not run again (O22, O32)."""
    scene = await stage.open("join", language, broken={"left"})
    await stage.rests(scene, "ERROR")
    scene.broken.clear()
    await stage.rerun(scene.id, "left")
    assert json.loads((await stage.rests(scene)).output) == {"met": "lr"}
    assert runs_of(scene).count("right") == 1
    assert runs_of(scene).count("meet") == 1


@both
async def test_from_the_ancestor_of_both(stage: Stage, language: str) -> None:
    """Rerun from their common ancestor alone runs the rest by the definition (O33)."""
    scene = await stage.open("join", language, broken={"left", "right"})
    await stage.rests(scene, "ERROR")
    scene.broken.clear()
    scene.runs.clear()
    await stage.rerun(scene.id, "start")
    assert json.loads((await stage.rests(scene)).output) == {"met": "lr"}
    assert sorted(runs_of(scene)) == ["end", "left", "meet", "right", "start"]


AHEAD = {
    "mistral": """
version: '2.0'
mistral_ahead:
  tasks:
    before: {action: test.act give=1, on-success: [many]}
    many: {with-items: "n in <% [1, 2] %>", action: test.act give=<% $.n %>}
""",
    "orquesta": """
version: 1.0
name: orquesta_ahead
vars: [{list: [1, 2]}]
tasks:
  before: {action: test.act give=1, next: [{when: <% succeeded() %>, do: many}]}
  many: {with: n in <% ctx().list %>, action: test.act give=<% item(n) %>}
""",
}


@both
async def test_an_ancestor_resets_items_after_it(stage: Stage, language: str) -> None:
    """Rerun from an ancestor resets with-items tasks after it, whatever was said of them (O34)."""
    await stage.system.define(AHEAD[language])
    scene = await stage.open("ahead", language, broken={("many", 1)})
    await stage.rests(scene, "ERROR")
    scene.broken.clear()
    scene.runs.clear()
    await stage.rerun(scene.id, "before", Task(task="many", reset=False))
    await stage.rests(scene)
    assert sorted((run.context.task_name, run.context.item) for run in scene.runs) == [
        ("before", 0),
        ("many", 0),
        ("many", 1),
    ]


@both
async def test_from_what_failed(stage: Stage, language: str) -> None:
    """Rerun from what failed runs all failed tasks, and is refused when none failed (decision 1, O18)."""
    scene = await stage.open("apart", language, broken={"one", "two"})
    await stage.rests(scene, "ERROR")
    scene.broken.clear()
    await stage.rerun(scene.id)
    await stage.rests(scene)
    assert set((await stage.states(scene)).values()) == {"SUCCESS"}
    await stage.refuses(stage.rerun(scene.id))


# Requests that contradict themselves


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ({"start_from": 0}, {"start_from"}),
        ({"start_from": operation_pb2.RERUN_FROM_TASKS}, {"tasks"}),
        ({"tasks": [Task(task="a")]}, {"tasks"}),
        (
            {"input": "{}", "latest_definition": True, "new_execution_id": "x"},
            {"input", "latest_definition", "new_execution_id"},
        ),
        (
            {"start_from": operation_pb2.RERUN_FROM_TASKS, "tasks": [Task(items=[1], reset=True)]},
            {"tasks[0].task", "tasks[0].reset"},
        ),
        ({"environment_overlay": "[]"}, {"environment_overlay"}),
    ],
)
async def test_contradictions_are_named(stage: Stage, more: dict[str, object], fields: set[str]) -> None:
    """A rerun that contradicts itself is refused, each field by its name, and nothing changes (O31)."""
    scene = await stage.open("chain", "mistral", {"word": "a"})
    await stage.rests(scene)
    given = {"start_from": operation_pb2.RERUN_FROM_FAILED, **more}
    request = messages.RerunExecutionRequest(execution_id=scene.id, **given)  # type: ignore[arg-type]
    async with stage.unchanged(scene):
        call = stage.system.executions.RerunExecution(request)
        failure = await stage.refuses(call, grpc.StatusCode.INVALID_ARGUMENT)
    assert {each.subject for each in failure.violations} - {"new_execution_id"} == fields - {"new_execution_id"}


# Sub-workflows


@both
async def test_a_sub_workflow_runs_afresh_or_inside(stage: Stage, language: str) -> None:
    """Rerunning a task that runs a sub-workflow starts a fresh child; with RERUN_FAILED what failed inside the existing
    child is rerun instead (decision 11)."""
    scene = await stage.open("calls", language, broken={"outer"})
    children = await stage.children(scene)
    await stage.rests(scene, "ERROR")
    inside = Task(task="beside", child=operation_pb2.CHILD_RERUN_FAILED)
    scene.broken.clear()
    scene.runs.clear()
    await stage.rerun(scene.id, "call", inside)
    await stage.rests(scene)
    now = await stage.children(scene)
    assert now["call"] != children["call"]
    assert now["beside"] == children["beside"]
    assert sorted(runs_of(scene)) == ["inner", "last", "outer", "outer"]
    tasks = {task.name: task for task in await stage.system.tasks(children["beside"])}
    assert (tasks["inner"].attempts, tasks["outer"].attempts) == (1, 2)


@both
async def test_a_rerun_in_a_child_reaches_its_ancestors(stage: Stage, language: str) -> None:
    """Rerunning in the current child makes its ended parent RUNNING, and the parent continues with what comes of it
    (decision 11, O20)."""
    scene = await stage.open("calls", language, broken={"outer"})
    children = await stage.children(scene)
    await stage.rests(scene, "ERROR")
    scene.broken.clear()
    for child in children.values():
        await stage.rerun(child, "outer")
    await stage.reaches(scene.id, "SUCCESS")
    assert (await stage.states(scene))["last"] == "SUCCESS"
