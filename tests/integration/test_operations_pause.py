"""Pause and cancel: quiet, down to sub-workflows, never up, with delegates, by terminate; over the services."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import pytest
from tests.integration.engines import done, until
from tests.integration.stage import LANGUAGES, Scene, Stage
from tests.processes import state_of

from dalsegno.v1 import action_service_pb2, change_pb2, execution_pb2, executor_service_pb2, operation_pb2
from dalsegno.v1 import execution_service_pb2 as messages

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("operations_pause")]
both = pytest.mark.parametrize("language", LANGUAGES)
WAIT, LEAVE, CANCEL = (operation_pb2.Delegates.Value(f"DELEGATES_{name}") for name in ("WAIT", "LEAVE", "CANCEL"))
SUCCEEDED = action_service_pb2.COMPLETION_OUTCOME_SUCCEEDED


def end_states(changes: list[change_pb2.Change]) -> list[str]:
    """The states that an execution came to, in order."""
    moves = [each.execution_moved for each in changes if each.HasField("execution_moved")]
    return [execution_pb2.ExecutionState.Name(each.state).removeprefix("EXECUTION_STATE_") for each in moves]


# Pause


@both
@pytest.mark.parametrize("state", ["SUCCESS", "ERROR", "CANCELLED", "CANCELLING"])
async def test_only_what_runs_is_paused(stage: Stage, language: str, state: str) -> None:
    """Pause by id is refused unless the execution is RUNNING, or on its way to PAUSED already (O1)."""
    scene = await stage.open("chain", language, {"word": "a"}, held={"second"})
    await stage.has(scene, "second")
    if state.startswith("CANCEL"):
        await stage.cancel(scene.id)
    if state != "CANCELLING":
        await stage.release(scene, "second", fails=state == "ERROR")
        await stage.rests(scene, state)
    async with stage.unchanged(scene):
        failure = await stage.refuses(stage.pause(scene.id))
    assert state in failure.message
    if state == "CANCELLING":
        await stage.release(scene, "second")
        await stage.rests(scene, "CANCELLED")


@both
async def test_pause_is_quiet(stage: Stage, language: str) -> None:
    """PAUSING first, PAUSED only when no task is active; meanwhile what is awaited is on the watch, and nothing new
    starts, however much ends (O2, O3, O4)."""
    scene = await stage.open("join", language, held={"left", "right"})
    await stage.has(scene, "left")
    await stage.has(scene, "right")
    answer = await stage.pause(scene.id, comment="quiet")
    assert state_of(answer.execution) == "PAUSING"
    assert await watched_waits(stage, scene) == {f"{scene.id}.2.0.1", f"{scene.id}.3.0.1"}
    again = await stage.pause(scene.id)
    assert again.execution.revision == answer.execution.revision
    await stage.release(scene, "left")
    await stage.system.until(scene.id, lambda change: change.attempt_moved.result == '"l"')
    assert state_of(await stage.system.get(scene.id)) == "PAUSING"
    await stage.release(scene, "right")
    paused = await stage.rests(scene, "PAUSED")
    assert paused.active_count == 0
    await asyncio.sleep(0.3)
    assert [run.context.task_name for run in scene.runs] == ["start", "left", "right"]
    await stage.resume(scene.id)
    assert json.loads((await stage.rests(scene)).output) == {"met": "lr"}
    assert end_states(await stage.system.journal(scene.id)) == ["RUNNING", "PAUSING", "PAUSED", "RUNNING", "SUCCESS"]


async def watched_waits(stage: Stage, scene: Scene) -> set[str]:
    """What a watcher is told that is awaited."""
    stream = stage.system.executions.WatchExecution(messages.WatchExecutionRequest(execution_id=scene.id))
    async for message in stream:
        stream.cancel()
        return set(message.snapshot.execution.waiting_for)
    raise AssertionError("the stream has ended")


@both
async def test_pause_and_resume_go_down(stage: Stage, language: str) -> None:
    """Pause and resume cascade down to sub-workflows (O6, O7)."""
    scene = await stage.open("calls", language, held={"inner"})
    children = await stage.children(scene)
    await held_by(stage, scene, 2)
    await stage.system.until(scene.id, lambda change: has_succeeded(change, "freed"))  # else that is awaited, too
    await stage.pause(scene.id)
    for child in children.values():
        await stage.reaches(child, "PAUSING")
    assert set((await stage.system.get(scene.id)).waiting_for) == set(children.values())
    await finish_all(stage, scene)
    await stage.rests(scene, "PAUSED")
    for child in children.values():
        assert state_of(await stage.system.get(child)) == "PAUSED"
    assert "outer" not in {run.context.task_name for run in scene.runs}
    await stage.resume(scene.id)
    await stage.rests(scene)


def has_succeeded(change: change_pb2.Change, task: str) -> bool:
    """Whether it says that the task has succeeded."""
    moved = change.task_moved
    return moved.task_name == task and moved.state == execution_pb2.TASK_STATE_SUCCESS


async def held_by(stage: Stage, scene: Scene, count: int) -> list[executor_service_pb2.RunAction]:
    """What the executor holds of `inner`, once it has so many of them, of different children."""
    async with asyncio.timeout(20):
        while True:
            found = [run for run in scene.runs if run.context.task_name == "inner"]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)


async def finish_all(stage: Stage, scene: Scene, *execution_ids: str) -> None:
    """End what is held, of these executions or of all."""
    for run in await held_by(stage, scene, 2):
        if not execution_ids or run.context.execution_id in execution_ids:
            await stage.executor.finish(run, done(run, result="1"))
            scene.runs.remove(run)


@both
async def test_pause_of_a_child_stays_in_it(stage: Stage, language: str) -> None:
    """A pause asked of a sub-workflow goes neither up to its parent nor sideways to its peers; the rest continues, the
    parent does not end before it is resumed, and that resume stays in it likewise (O8, O9, O10, O11, O12)."""
    scene = await stage.open("calls", language, held={"inner", "free"})
    children = await stage.children(scene)
    await held_by(stage, scene, 2)
    await stage.pause(children["call"])
    await finish_all(stage, scene)
    await stage.reaches(children["call"], "PAUSED")
    await stage.reaches(children["beside"], "SUCCESS")
    await stage.release(scene, "free")
    wanted = {"freed": "SUCCESS", "call": "PAUSED"}  # a message tells the parent that its child is paused
    async with asyncio.timeout(20):
        while not wanted.items() <= (await stage.states(scene)).items():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert state_of(await stage.system.get(scene.id)) == "RUNNING"
    await stage.resume(children["call"])
    await stage.rests(scene)
    moved = {child: end_states(await stage.system.journal(child)) for child in children.values()}
    assert "PAUSING" not in moved[children["beside"]]
    assert end_states(await stage.system.journal(scene.id)) == ["RUNNING", "SUCCESS"]


# Cancel


@both
async def test_cancel_lets_what_runs_end(stage: Stage, language: str) -> None:
    """Tasks that run may end, nothing new is scheduled, and it stays CANCELLING until none is active (O13-O15, O14)."""
    scene = await stage.open("join", language, held={"left", "right"})
    await stage.has(scene, "left")
    await stage.has(scene, "right")
    answer = await stage.cancel(scene.id, comment="not needed")
    assert state_of(answer.execution) == "CANCELLING"
    await stage.release(scene, "left")
    await stage.system.until(scene.id, lambda change: change.attempt_moved.result == '"l"')
    assert set((await stage.system.get(scene.id)).waiting_for) == {f"{scene.id}.3.0.1"}
    await stage.release(scene, "right")
    ended = await stage.rests(scene, "CANCELLED")
    assert "not needed" in ended.state_info
    assert [state_of(each) for each in await stage.attempts(scene, "left")] == ["SUCCESS"]
    assert "meet" not in {run.context.task_name for run in scene.runs}
    assert end_states(await stage.system.journal(scene.id)) == ["RUNNING", "CANCELLING", "CANCELLED"]


@both
async def test_cancel_goes_down_and_not_up(stage: Stage, language: str) -> None:
    """A cancel goes down to sub-workflows; one asked of a child does not cancel its peers (O6, O9, O13)."""
    scene = await stage.open("calls", language, held={"inner"})
    children = await stage.children(scene)
    await held_by(stage, scene, 2)
    await stage.cancel(children["beside"])
    await finish_all(stage, scene, children["beside"])
    await stage.reaches(children["beside"], "CANCELLED")
    assert state_of(await stage.system.get(children["call"])) == "RUNNING"
    await stage.cancel(children["call"])
    (run,) = [run for run in scene.runs if run.context.task_name == "inner"]
    await stage.executor.finish(run, done(run, result="1"))
    await stage.reaches(children["call"], "CANCELLED")
    assert state_of(await stage.system.wait(scene.id)) in ("CANCELLED", "ERROR")


@both
@pytest.mark.parametrize("end", ["CANCELLED", "SUCCESS", "ERROR"])
async def test_ended_by_force(stage: Stage, language: str, end: str) -> None:
    """Terminate ends at once with state, message and output; running actions become CANCELLED and are told, and a late
    result is refused (decision 7, R27)."""
    scene = await stage.open("chain", language, {"word": "a"}, held={"second"})
    run = await stage.has(scene, "second")
    state = execution_pb2.ExecutionState.Value(f"EXECUTION_STATE_{end}")
    terminate = operation_pb2.Terminate(state=state, message="enough", output='{"by": "hand"}')
    answer = await stage.cancel(scene.id, terminate=terminate, comment="why")
    assert (state_of(answer.execution), answer.execution.state_info) == (end, "enough")
    assert json.loads(answer.execution.output) == {"by": "hand"}
    assert answer.execution.active_count == 0
    (attempt,) = await stage.attempts(scene, "second")
    assert state_of(attempt) == "CANCELLED"
    assert (await stage.states(scene))["second"] == "CANCELLED"
    await until(lambda: run.action_execution_id in {each.action_execution_id for each in stage.executor.cancelled})
    async with stage.unchanged(scene):
        await stage.release(scene, "second")
        request = action_service_pb2.CompleteActionRequest(
            action_execution_id=run.action_execution_id, outcome=SUCCEEDED, result="1"
        )
        await stage.refuses(stage.system.actions.CompleteAction(request))
        await asyncio.sleep(0.2)


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ({"delegates": LEAVE}, {"delegates"}),
        (
            {
                "terminate": operation_pb2.Terminate(state=execution_pb2.EXECUTION_STATE_PAUSED, output="{"),
                "delegates": WAIT,
            },
            {"terminate.state", "terminate.output", "delegates"},
        ),
        ({"terminate": operation_pb2.Terminate(message="x" * 5000)}, {"terminate.message"}),
        ({"terminate": operation_pb2.Terminate(), "delegates": CANCEL}, {"delegates"}),
    ],
)
async def test_ends_that_make_no_sense(stage: Stage, more: dict[str, Any], fields: set[str]) -> None:
    """A cancel that leaves delegates, or terminates without an end state, is refused with all fields (decision 7)."""
    scene = await stage.open("chain", "mistral", {"word": "a"}, held={"second"})
    await stage.has(scene, "second")
    async with stage.unchanged(scene):
        failure = await stage.refuses(stage.cancel(scene.id, **more), grpc.StatusCode.INVALID_ARGUMENT)
        assert {each.subject for each in failure.violations} == fields
        failure = await stage.refuses(stage.pause(scene.id, delegates=CANCEL), grpc.StatusCode.INVALID_ARGUMENT)
        assert {each.subject for each in failure.violations} == {"delegates"}
    await stage.cancel(scene.id, terminate=operation_pb2.Terminate())


# Delegates


async def asking(stage: Stage) -> Scene:
    """An execution whose only task is handed to a third party."""
    scene = await stage.open("asks", "mistral")
    await stage.system.until(scene.id, lambda change: change.attempt_moved.delegated)
    return scene


async def test_a_delegate_is_left_or_waited_for(stage: Stage) -> None:
    """A pause leaves delegates, and takes a result that comes while PAUSED; with WAIT it is PAUSING until they are
    completed, says so, and a second pause with LEAVE ends that (decision 6, O3)."""
    scene = await asking(stage)
    assert state_of((await stage.pause(scene.id, delegates=WAIT)).execution) == "PAUSING"
    assert list((await stage.system.get(scene.id)).waiting_for) == [f"{scene.id}.1.0.1"]
    assert state_of((await stage.pause(scene.id)).execution) == "PAUSED"
    await stage.system.complete(f"{scene.id}.1.0.1", "yes")
    assert (await stage.states(scene)) == {"ask": "SUCCESS", "after": "IDLE"}
    await stage.resume(scene.id)
    assert json.loads((await stage.rests(scene)).output) == {"answer": "yes"}
    other = await asking(stage)
    await stage.pause(other.id, delegates=WAIT)
    await stage.system.complete(f"{other.id}.1.0.1", "no")
    await stage.rests(other, "PAUSED")
    await stage.cancel(other.id)


async def test_a_cancel_cancels_delegates_or_waits(stage: Stage) -> None:
    """A cancel cancels delegates; with WAIT it is CANCELLING until they are completed (decision 6, O15)."""
    scene = await asking(stage)
    assert state_of((await stage.cancel(scene.id)).execution) == "CANCELLED"
    await stage.refuses(stage.system.complete(f"{scene.id}.1.0.1", "late"))
    other = await asking(stage)
    assert state_of((await stage.cancel(other.id, delegates=WAIT)).execution) == "CANCELLING"
    assert list((await stage.system.get(other.id)).waiting_for) == [f"{other.id}.1.0.1"]
    await stage.system.complete(f"{other.id}.1.0.1", "in time")
    await stage.rests(other, "CANCELLED")
    assert [state_of(each) for each in await stage.attempts(other, "ask")] == ["SUCCESS"]


async def test_an_action_is_paused_and_runs_again(stage: Stage) -> None:
    """UpdateAction tells that an action is paused, or runs again, by id or token; its task shows it, and what has ended
    cannot be told so any more (O3)."""
    scene = await stage.open("chain", "mistral", {"word": "a"}, held={"second"})
    run = await stage.has(scene, "second")
    Update = action_service_pb2.UpdateActionRequest
    by_id = Update(action_execution_id=run.action_execution_id, state=execution_pb2.ACTION_STATE_PAUSED, comment="why")
    answer = await stage.system.actions.UpdateAction(by_id)
    assert state_of(answer.action_execution) == "PAUSED"
    assert (await stage.states(scene))["second"] == "PAUSED"
    by_token = Update(task_token=run.task_token, state=execution_pb2.ACTION_STATE_RUNNING)
    assert state_of((await stage.system.actions.UpdateAction(by_token)).action_execution) == "RUNNING"
    await stage.release(scene, "second")
    await stage.rests(scene)
    await stage.refuses(stage.system.actions.UpdateAction(by_id))
    wrong = Update(state=execution_pb2.ACTION_STATE_SUCCESS)
    failure = await stage.refuses(stage.system.actions.UpdateAction(wrong), grpc.StatusCode.INVALID_ARGUMENT)
    assert {each.subject for each in failure.violations} == {"state", "task_token"}
    assert "why" in {change.comment for change in await stage.system.journal(scene.id)}
