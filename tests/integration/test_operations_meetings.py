"""Operations where two things meet, over the running services: restarts, delegates of children, skips."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.stage import LANGUAGES, Stage
from tests.processes import System, state_of

from dalsegno.v1 import execution_pb2, operation_pb2
from dalsegno.v1 import execution_service_pb2 as messages

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("operations_meetings")]
both = pytest.mark.parametrize("language", LANGUAGES)

TREES = """
version: '2.0'
meetings_asks:
  tasks:
    ask: {action: std.async_noop, on-success: [after]}
    after: {action: std.noop}
meetings_tree:
  tasks:
    call: {workflow: meetings_asks}
"""


async def test_a_cancelled_child_is_awaited_although_it_was_paused(system: System) -> None:
    """Decision 6, O15: its delegate is waited for, and so is the child by its parent; WatchExecution and the answer
    name it."""
    await system.define(TREES)
    parent = await system.begin("meetings_tree")
    await system.until(parent, lambda change: change.attempt_added.child_execution_id)
    child = (await system.tasks(parent))[0].child_execution_ids[0]
    await system.until(child, lambda change: change.attempt_moved.delegated)
    await system.executions.PauseExecution(messages.PauseExecutionRequest(execution_id=parent))
    await system.wait(parent)
    cancel = messages.CancelExecutionRequest(execution_id=parent, delegates=operation_pb2.DELEGATES_WAIT)
    answer = (await system.executions.CancelExecution(cancel)).execution
    assert (state_of(answer), list(answer.waiting_for)) == ("CANCELLING", [child])
    assert list((await system.get(parent)).waiting_for) == [child]
    (asked,) = await system.attempts(child)
    await system.complete(asked.id, "answer")
    assert state_of(await system.wait(parent)) == "CANCELLED"
    assert [state_of(each) for each in await system.tasks(child)] == ["SUCCESS"]


@pytest.mark.parametrize("operation", ["Pause", "Resume", "Rerun", "Cancel"])
async def test_a_request_is_known_after_a_restart(stage: Stage, operation: str) -> None:
    """The same request id and body give the first answer again after kill -9 of the engine, and nothing runs twice."""
    broken = operation in ("Resume", "Rerun")
    scene = await stage.open("chain", "mistral", {"word": "a"}, broken={"second"} if broken else ())
    await stage.rests(scene, "ERROR" if broken else "SUCCESS")
    more: dict[str, Any] = {"execution_id": scene.id, "request_id": scene.namespace}
    if operation == "Resume":
        more["tasks"] = [operation_pb2.ResumeTask(task="second")]
    elif operation == "Rerun":
        more["start_from"] = operation_pb2.RERUN_FROM_FAILED
    else:
        scene.held = {"third"}
        await stage.rerun(scene.id, "third")
        await stage.has(scene, "third")
    scene.broken = set()
    method = getattr(stage.system.executions, f"{operation}Execution")
    request = getattr(messages, f"{operation}ExecutionRequest")(**more)
    first = await method(request)
    if not broken:
        await stage.release(scene, "third")
    rested = await stage.system.wait(scene.id)
    await stage.system.engine.kill_and_restart()
    assert await method(request, timeout=30, wait_for_ready=True) == first
    assert await stage.system.get(scene.id) == rested


@both
async def test_skipped_tasks_are_counted_filtered_and_watched(stage: Stage, language: str) -> None:
    """S4, R17, R21, decision 4: SKIPPED is in the counts, in the filter and on the watch; both attempts stay."""
    scene = await stage.open("chain", language, {"word": "a"}, broken={"second"})
    await stage.rests(scene, "ERROR")
    choice = operation_pb2.ResumeTask(task="second", skip=True, output='"b"')
    await stage.resume(scene.id, choice, comment="not needed")
    execution = await stage.rests(scene)
    counts = {word_of(each.state): each.count for each in execution.task_counts}
    assert counts == {"SUCCESS": 2, "SKIPPED": 1}
    request = messages.ListTasksRequest(execution_id=scene.id, filter="state=SKIPPED", full=True)
    (found,) = (await stage.system.executions.ListTasks(request)).tasks
    assert (found.name, found.state_info, found.result) == ("second", "skipped: not needed", '"b"')
    moves = [each.task_moved for each in await stage.system.journal(scene.id) if each.HasField("task_moved")]
    assert "SKIPPED" in {word_of(each.state) for each in moves}
    failed, stands_in = await stage.attempts(scene, "second")
    assert (state_of(failed), state_of(stands_in), stands_in.action) == ("ERROR", "SUCCESS", "std.noop")
    assert stands_in.comment == "launched by workflow-resume: not needed"


def word_of(state: int) -> str:
    """The word of a task's state."""
    return execution_pb2.TaskState.Name(state).removeprefix("TASK_STATE_")  # type: ignore[arg-type]


ON_FAILURE = {
    "mistral": """
version: '2.0'
mistral_pausing:
  on-failure: pause
  tasks:
    first: {action: test.act give=1, on-success: [second]}
    second: {action: test.act give=2}
    beside: {action: test.act give=3, on-success: [later]}
    later: {action: test.act give=4}
""",
    "orquesta": """
version: 1.0
name: orquesta_pausing
on-failure: pause
tasks:
  first: {action: test.act give=1, next: [{when: <% succeeded() %>, do: second}]}
  second: {action: test.act give=2}
  beside: {action: test.act give=3, next: [{when: <% succeeded() %>, do: later}]}
  later: {action: test.act give=4}
""",
}


@both
async def test_a_failure_pauses(stage: Stage, language: str) -> None:
    """Decision 13, R3, R4: with `on-failure: pause` a failure pauses, with its reason; a plain resume names the task
    and changes nothing; once it is skipped, all that was open continues."""
    await stage.system.define(ON_FAILURE[language])
    scene = await stage.open("pausing", language, broken={"first"}, held={"beside"})
    await stage.reaches(scene.id, "PAUSING")
    await stage.release(scene, "beside")
    paused = await stage.rests(scene, "PAUSED")
    assert "first: it broke" in paused.state_info
    async with stage.unchanged(scene):
        failure = await stage.refuses(stage.resume(scene.id))
    assert [(each.subject, each.kind) for each in failure.violations] == [("task first", "TASK_FAILED")]
    await stage.resume(scene.id, operation_pb2.ResumeTask(task="first", skip=True, output="null"))
    await stage.rests(scene)
    assert await stage.states(scene) == {
        "first": "SKIPPED",
        "second": "SUCCESS",
        "beside": "SUCCESS",
        "later": "SUCCESS",
    }
