"""What failures set off, over the running services: revert, retry, wait (C9-C13, C25, C26, C30)."""

from __future__ import annotations

import pytest
from tests.integration.stage import LANGUAGES, Scene, Stage
from tests.processes import state_of

from dalsegno.v1 import execution_service_pb2 as messages

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("strategies")]
both = pytest.mark.parametrize("language", LANGUAGES)


def done_by(scene: Scene) -> list[str]:
    """What ran, in order: the tasks, and the reverts of tasks as `undo TASK`."""
    return [("undo " if run.action == "test.undo" else "") + run.context.task_name for run in scene.runs]


@both
async def test_a_failure_reverts_the_whole_flow(stage: Stage, language: str) -> None:
    """`on-failure: revert`: everything is undone, the newest end first, and the execution ends as REVERTED, as if it
    had never run (C9, C12, C13)."""
    scene = await stage.open("gives_up", language, broken={"check"})
    execution = await stage.rests(scene, "REVERTED")
    assert done_by(scene) == ["install", "configure", "check", "undo configure", "undo install"]
    assert execution.HasField("ended_at")
    assert {state_of(task) for task in await stage.system.tasks(scene.id)} == {"IDLE", "REVERTED"}
    async with stage.unchanged(scene):
        await stage.refuses(stage.resume(scene.id))
    scene.broken.clear()
    await stage.go_to(scene.id, "start", then=messages.ON_ARRIVAL_RESUME)
    await stage.rests(scene)


@both
async def test_a_failure_reverts_and_tries_again_at_once(stage: Stage, language: str) -> None:
    """With `retry` and a count of 2 what follows the checkpoint is tried three times, each time reverted before; then
    the failure counts (C6, C10, C30)."""
    scene = await stage.open("tries_again", language, broken={"check"})
    await stage.rests(scene, "ERROR")
    again = ["configure", "check", "undo configure"]
    assert done_by(scene) == ["install", *again, *again, "configure", "check"]
    cured = await stage.open("tries_again", language, broken={"check"}, held={"undo configure"})
    await stage.has(cured, "undo configure")
    cured.broken.clear()
    cured.held.clear()
    await stage.release(cured, "undo configure")
    await stage.rests(cured)
    assert done_by(cured) == ["install", *again, "configure", "check"]


@both
async def test_a_failure_reverts_and_waits_for_an_operator(stage: Stage, language: str) -> None:
    """With `pause` the execution is PAUSED at the entry; once things are corrected, a resume tries again (C11)."""
    scene = await stage.open("waits", language, broken={"check"})
    execution = await stage.rests(scene, "PAUSED")
    assert execution.paused_at.name == "installed"
    assert "it broke" in execution.state_info
    scene.broken.clear()
    await stage.resume(scene.id)
    await stage.rests(scene)
    assert done_by(scene) == ["install", "configure", "check", "undo configure", "configure", "check"]


@both
async def test_a_strategy_waits_before_it_tries_again(stage: Stage, language: str) -> None:
    """With a delay the execution is PAUSED at the entry and says until when; a wait lasts through that (C10)."""
    scene = await stage.open("waits_and_tries", language, broken={"check"})
    moved = (
        await stage.system.until(scene.id, lambda change: change.execution_moved.HasField("next_at"))
    ).execution_moved
    execution = await stage.system.get(scene.id)
    assert (state_of(execution), execution.paused_at.name) == ("PAUSED", "installed")
    assert execution.next_at == moved.next_at
    scene.broken.clear()
    execution = await stage.rests(scene)
    assert (execution.HasField("next_at"), execution.ended_at.ToSeconds() >= moved.next_at.ToSeconds()) == (False, True)
    assert done_by(scene) == ["install", "check", "check"]


@both
async def test_the_retries_of_a_checkpoint_come_before_the_outer_strategy(stage: Stage, language: str) -> None:
    """A checkpoint with `retry: 2` is gone back to twice; when these are used up, `on-failure` applies (C30)."""
    scene = await stage.open("insists", language, broken={"check"})
    await stage.rests(scene, "REVERTED")
    again = ["configure", "check", "undo configure"]
    assert done_by(scene) == ["install", *again, *again, *again, "undo install"]


@both
async def test_a_sub_flow_is_reverted_and_tried_again(stage: Stage, language: str) -> None:
    """If the last task of a sub-flow with `retry: 2` fails, its earlier task is reverted and both are attempted again,
    in a fresh sub-workflow, up to that number (C25, C26)."""
    scene = await stage.open("sub_flow", language, broken={"outer"})
    await stage.rests(scene, "ERROR")
    again = ["inner", "outer", "undo inner"]
    assert done_by(scene) == ["before", *again, *again, "inner", "outer"]
    listed = await stage.system.executions.ListExecutions(messages.ListExecutionsRequest(filter=f"parent={scene.id}"))
    assert sorted(state_of(each) for each in listed.executions) == ["ERROR", "REVERTED", "REVERTED"]
