"""Resume: continue, run failed tasks again, whole or by item, or continue after them; over the running services."""

from __future__ import annotations

import json

import grpc
import pytest
from tests.integration.stage import LANGUAGES, Stage
from tests.processes import state_of

from dalsegno.v1 import operation_pb2

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("operations_resume"),
]
both = pytest.mark.parametrize("language", LANGUAGES)
Task = operation_pb2.ResumeTask


@both
async def test_resume_alone_continues(stage: Stage, language: str) -> None:
    """Resume by id, without anything else, takes the execution as paused by hand: it is RUNNING again (R1, R2, O5)."""
    scene = await stage.open("chain", language, {"word": "a"}, held={"first"})
    await stage.has(scene, "first")
    await stage.pause(scene.id)
    await stage.release(scene, "first")
    await stage.rests(scene, "PAUSED")
    answer = await stage.resume(scene.id)
    assert state_of(answer.execution) == "RUNNING"
    assert json.loads((await stage.rests(scene)).output) == {"said": "a!end"}


@both
async def test_resume_alone_is_refused_when_tasks_have_failed(stage: Stage, language: str) -> None:
    """Without a choice it is refused while tasks are in error, names each, and changes nothing (R3, R4)."""
    scene = await stage.open("apart", language, broken={"one", "two"})
    await stage.rests(scene, "ERROR")
    async with stage.unchanged(scene):
        failure = await stage.refuses(stage.resume(scene.id))
    assert {"task one", "task two"} <= {each.subject for each in failure.violations}


@both
async def test_a_failed_task_runs_again(stage: Stage, language: str) -> None:
    """A failed task runs again with the same input: a new attempt under the same task execution; ERROR becomes
    RUNNING, and it continues to its normal end (R5, R6, R7, R25)."""
    scene = await stage.open("chain", language, {"word": "a"}, broken={"second"})
    await stage.rests(scene, "ERROR")
    before = (await stage.tasks(scene))["second"]
    scene.broken.clear()
    answer = await stage.resume(scene.id, "second")
    assert state_of(answer.execution) == "RUNNING"
    assert json.loads((await stage.rests(scene)).output) == {"said": "a!end"}
    after = (await stage.tasks(scene))["second"]
    assert (after.id, after.attempts) == (before.id, before.attempts + 1)
    first, second = await stage.attempts(scene, "second")
    assert [state_of(first), state_of(second)] == ["ERROR", "SUCCESS"]
    assert first.input == second.input


@both
async def test_a_failed_task_runs_again_with_new_input(stage: Stage, language: str) -> None:
    """With new input the new attempt runs with that; what failed keeps its input and its error (R8, R9)."""
    scene = await stage.open("chain", language, {"word": "a"}, broken={"second"})
    await stage.rests(scene, "ERROR")
    (failed,) = await stage.attempts(scene, "second")
    scene.broken.clear()
    await stage.resume(scene.id, Task(task="second", input='{"give": "new"}'))
    assert json.loads((await stage.rests(scene)).output) == {"said": "newend"}
    kept, again = await stage.attempts(scene, "second")
    assert json.loads(again.input)["give"] == "new"
    for name in ("id", "input", "error", "ready_at", "started_at", "ended_at", "state", "actor"):
        assert getattr(kept, name) == getattr(failed, name), name
    assert (json.loads(kept.input)["give"], kept.error) == ("a!", "it broke")


@both
async def test_items_run_again_whole(stage: Stage, language: str) -> None:
    """A failed with-items task runs again with all of its items, with new input if that is given (R10)."""
    scene = await stage.open("items", language, {"list": [5, 6, 7]}, broken={("many", 1)})
    await stage.rests(scene, "ERROR")
    scene.broken.clear()
    await stage.resume(scene.id, Task(task="many", input='{"give": 9}'))
    assert json.loads((await stage.rests(scene)).output) == {"all": [9, 9, 9]}
    attempts = await stage.attempts(scene, "many")
    assert [(each.item, each.attempt) for each in attempts] == [(n, m) for n in range(3) for m in (1, 2)]


@both
async def test_one_item_runs_again(stage: Stage, language: str) -> None:
    """One item runs again by its index, with new input; the others keep their results, in their order (R11, R13)."""
    scene = await stage.open("items", language, {"list": [5, 6, 7]}, broken={("many", 1)})
    await stage.rests(scene, "ERROR")
    scene.broken.clear()
    await stage.resume(scene.id, Task(task="many", items=[1], item_inputs={1: '{"give": 60}'}))
    assert json.loads((await stage.rests(scene)).output) == {"all": [5, 60, 7]}
    attempts = await stage.attempts(scene, "many")
    assert [(each.item, each.attempt) for each in attempts] == [(0, 1), (1, 1), (1, 2), (2, 1)]
    task = (await stage.tasks(scene))["many"]
    assert (task.items.total, task.items.succeeded, task.items.failed) == (3, 3, 0)
    assert json.loads(task.result) == [5, 60, 7]


@both
async def test_some_items_run_again(stage: Stage, language: str) -> None:
    """Several items run again, each with its own new input or the one it had (R12, R13)."""
    scene = await stage.open("items", language, {"list": [5, 6, 7, 8]}, broken={("many", 1), ("many", 3)})
    await stage.rests(scene, "ERROR")
    scene.broken.clear()
    await stage.resume(scene.id, Task(task="many", items=[3, 1], item_inputs={3: '{"give": 80}'}))
    assert json.loads((await stage.rests(scene)).output) == {"all": [5, 6, 7, 80]}


@both
@pytest.mark.parametrize(
    ("choice", "fields"),
    [
        (Task(task="many", items=[3]), {"tasks[0].items"}),
        (Task(task="many", items=[1], item_inputs={2: "{}"}), {"tasks[0].item_inputs[2]"}),
        (Task(task="many", items=[1, 1]), {"tasks[0].items[1]"}),
        (Task(task="many", items=[-1]), {"tasks[0].items[0]"}),
        (Task(task="many", items=[1], item_inputs={1: "[]"}), {"tasks[0].item_inputs[1]"}),
        (Task(task="many", items=[1], input="{}"), {"tasks[0].input"}),
        (
            Task(task="many", items=[1, 1], item_inputs={2: "{", 4: "{}"}),
            {"tasks[0].items[1]", "tasks[0].item_inputs[2]", "tasks[0].item_inputs[4]"},
        ),
        (Task(task="many", items=[1], child=9), {"tasks[0].child"}),  # type: ignore[arg-type]
    ],
)
async def test_items_that_are_not_there(stage: Stage, language: str, choice: Task, fields: set[str]) -> None:
    """An index out of range or twice, or input for an item that is not named: all are named, nothing runs (R14)."""
    scene = await stage.open("items", language, {"list": [5, 6, 7]}, broken={("many", 1)})
    await stage.rests(scene, "ERROR")
    async with stage.unchanged(scene):
        failure = await stage.refuses(stage.resume(scene.id, choice), grpc.StatusCode.INVALID_ARGUMENT)
    assert {each.subject for each in failure.violations} == fields


@both
async def test_a_skip_goes_on_after_the_task(stage: Stage, language: str) -> None:
    """A skip takes the id, the task, an output and the flag; the output is published and read as its result, and the
    failed attempt stays in ERROR beside a std.noop that has it (R15, R17, R20, R21)."""
    scene = await stage.open("chain", language, {"word": "a"}, broken={"second"})
    await stage.rests(scene, "ERROR")
    await stage.resume(scene.id, Task(task="second", skip=True, output='"given"'), comment="by hand")
    assert json.loads((await stage.rests(scene)).output) == {"said": "givenend"}
    failed, noop = await stage.attempts(scene, "second")
    assert [state_of(failed), state_of(noop)] == ["ERROR", "SUCCESS"]
    assert (noop.action, noop.result) == ("std.noop", '"given"')
    assert "by hand" in noop.comment
    assert state_of((await stage.tasks(scene))["second"]) == "SKIPPED"
    assert len(await stage.attempts(scene, "second")) == 2


@both
async def test_a_skip_follows_the_conditions_of_the_task(stage: Stage, language: str) -> None:
    """The conditions of the skipped task decide what follows, with the output for its result; several branches may
    start (R18, R19)."""
    scene = await stage.open("forks", language, broken={"choose"})
    await stage.rests(scene, "ERROR")
    await stage.resume(scene.id, Task(task="choose", skip=True, output='"odd"'))
    assert json.loads((await stage.rests(scene)).output) == {"seen": "odd"}
    assert await stage.states(scene) == {"choose": "SKIPPED", "left": "SUCCESS", "right": "SUCCESS"}


async def test_publish_on_skip_and_on_skip(stage: Stage) -> None:
    """Mistral's own publish-on-skip and on-skip apply to a skip (decision 4, R19)."""
    scene = await stage.open("skips", "mistral", broken={"risky"})
    await stage.rests(scene, "ERROR")
    await stage.resume(scene.id, Task(task="risky", skip=True, output="null"))
    assert json.loads((await stage.rests(scene)).output) == {"how": "skipped"}
    assert await stage.states(scene) == {"risky": "SKIPPED", "instead": "SUCCESS"}


@both
@pytest.mark.parametrize(
    ("choice", "fields"),
    [
        (Task(task="second", skip=True), {"tasks[0].output"}),
        (Task(task="second", output="1"), {"tasks[0].skip"}),
        (Task(task="second", skip=True, output="{"), {"tasks[0].output"}),
        (Task(task="second", skip=True, output="1", leave=True), {"tasks[0].leave"}),
        (
            Task(task="", skip=True, input="{}", items=[1], reset=True),
            {"tasks[0].task", "tasks[0].output", "tasks[0].input", "tasks[0].items", "tasks[0].reset"},
        ),
    ],
)
async def test_a_skip_needs_output_and_flag(stage: Stage, language: str, choice: Task, fields: set[str]) -> None:
    """Without the output or without the flag a skip is refused, and changes nothing (R16)."""
    scene = await stage.open("chain", language, {"word": "a"}, broken={"second"})
    await stage.rests(scene, "ERROR")
    async with stage.unchanged(scene):
        failure = await stage.refuses(stage.resume(scene.id, choice), grpc.StatusCode.INVALID_ARGUMENT)
    assert {each.subject for each in failure.violations} == fields


@both
async def test_what_a_resume_launched_says_so(stage: Stage, language: str) -> None:
    """What resume launched carries "launched by workflow-resume", the comment and who asked; nothing else does
    (R22, R23)."""
    scene = await stage.open("chain", language, {"word": "a"}, broken={"second"})
    await stage.rests(scene, "ERROR")
    scene.broken.clear()
    request = {"comment": "try again"}
    await stage.resume(scene.id, "second", **request)
    await stage.rests(scene)
    comments = {(each.task_name, each.attempt): each.comment for each in await stage.system.attempts(scene.id)}
    assert comments.pop(("second", 2)) == "launched by workflow-resume: try again"
    assert set(comments.values()) == {""}
    assert (await stage.tasks(scene))["second"].comment == "launched by workflow-resume: try again"
    changes = [each for each in await stage.system.journal(scene.id) if each.comment == "try again"]
    assert {each.cause for each in changes} == {"resume_requested"}


@both
async def test_both_ways_are_open_for_one_failure(stage: Stage, language: str) -> None:
    """The same failure may be run again, and when that fails too be skipped (R24)."""
    scene = await stage.open("chain", language, {"word": "a"}, broken={"second"})
    await stage.rests(scene, "ERROR")
    await stage.resume(scene.id, "second")
    await stage.rests(scene, "ERROR")
    await stage.resume(scene.id, Task(task="second", skip=True, output='"given"'))
    assert json.loads((await stage.rests(scene)).output) == {"said": "givenend"}
    assert [state_of(each) for each in await stage.attempts(scene, "second")] == ["ERROR", "ERROR", "SUCCESS"]


@both
@pytest.mark.parametrize("names", [["nowhere"], ["first"], ["third"], ["second", "first", "nowhere"]])
async def test_what_did_not_fail_is_refused(stage: Stage, language: str, names: list[str]) -> None:
    """A task that does not exist, did not fail or never ran is refused by name, and the others with it (R26)."""
    scene = await stage.open("chain", language, {"word": "a"}, broken={"second"})
    await stage.rests(scene, "ERROR")
    async with stage.unchanged(scene):
        failure = await stage.refuses(stage.resume(scene.id, *names))
    assert {each.subject for each in failure.violations} == {f"task {name}" for name in names if name != "second"}


@both
async def test_each_failed_branch_is_resumed(stage: Stage, language: str) -> None:
    """Of two failed branches one is resumed, and the execution does not succeed while the other is failed; then the
    other (R27)."""
    scene = await stage.open("apart", language, broken={"one", "two"})
    await stage.rests(scene, "ERROR")
    scene.broken.clear()
    if language == "orquesta" and "two" not in await stage.states(scene):
        pytest.fail("both must have run")
    await stage.resume(scene.id, "one")
    await stage.rests(scene, "ERROR")
    await stage.resume(scene.id, "two")
    await stage.rests(scene)
    assert set((await stage.states(scene)).values()) == {"SUCCESS"}


@both
async def test_several_tasks_each_in_its_own_way(stage: Stage, language: str) -> None:
    """One request runs one failed task again and skips the other (R27)."""
    scene = await stage.open("apart", language, broken={"one", "two"})
    await stage.rests(scene, "ERROR")
    scene.broken.clear()
    await stage.resume(scene.id, "one", Task(task="two", skip=True, output="0"))
    await stage.rests(scene)
    assert await stage.states(scene) == {
        "one": "SUCCESS",
        "two": "SKIPPED",
        "after_one": "SUCCESS",
        "after_two": "SUCCESS",
    }
