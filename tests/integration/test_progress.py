"""How far an action has come, as readers and watchers see it: over all services."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from tests.integration.engines import done, until
from tests.integration.stage import Stage

from dalsegno.v1 import action_service_pb2, execution_pb2, execution_service_pb2
from dalsegno.v1 import executor_service_pb2 as wire

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("progress")]


async def watch(stage: Stage, execution_id: str, found: list[Any]) -> None:
    request = execution_service_pb2.WatchExecutionRequest(execution_id=execution_id)
    async for message in stage.system.executions.WatchExecution(request, timeout=60):
        found.append(message)


async def tell(stage: Stage, run: wire.RunAction, text: str, fraction: float) -> None:
    progress = execution_pb2.ActionProgress(text=text, fraction=fraction, details="[1]")
    told = done(run, wire.TASK_OUTCOME_RUNNING, progress=progress)
    await stage.executor.say(task_done=wire.TaskDoneBatch(outcomes=[told]))


async def test_progress_is_seen_by_readers_and_watchers(stage: Stage) -> None:
    """GetActionExecution has all of it, the task and the stream have the text and the fraction; each is told once, with
    the resume token of the changes before it; and the journal gives exactly the rows all the same."""
    scene = await stage.open("items", "mistral", {"list": ["a", "b"]}, held={"many", "after"})
    messages: list[Any] = []
    watching = asyncio.create_task(watch(stage, scene.id, messages))
    second = await stage.has(scene, "many", 1)
    await tell(stage, second, "copying", 0.25)
    told = await told_progress(messages, 1)
    assert (told[0].task_number, told[0].item, told[0].HasField("item")) == (1, 1, True)
    assert (told[0].action_execution_id, told[0].progress.text) == (second.action_execution_id, "copying")
    assert (told[0].progress.fraction, told[0].progress.details) == (0.25, "")
    get = action_service_pb2.GetActionExecutionRequest(action_execution_id=second.action_execution_id)
    action = (await stage.system.actions.GetActionExecution(get)).action_execution
    assert (action.progress.text, action.progress.fraction, action.progress.details) == ("copying", 0.25, "[1]")
    assert not (await stage.tasks(scene))["many"].HasField("progress")  # which of its items?

    for item in (0, 1):
        await stage.release(scene, "many", item)
    run = await stage.has(scene, "after")
    await tell(stage, run, "mending", 0.5)
    told = await told_progress(messages, 2)
    assert (told[1].progress.text, told[1].HasField("item")) == ("mending", False)
    assert (await stage.tasks(scene))["after"].progress.text == "mending"
    await stage.release(scene, "after")
    await stage.rests(scene)
    await watching
    assert len(progress_of(messages)) == 2
    assert not (await stage.tasks(scene))["after"].HasField("progress")
    for before, message in itertools.pairwise(messages):
        if message.HasField("action_progress"):
            assert message.resume_token == before.resume_token


def progress_of(messages: list[Any]) -> list[Any]:
    return [task for message in messages for task in message.action_progress.tasks]


async def told_progress(messages: list[Any], count: int) -> list[Any]:
    await until(lambda: len(progress_of(messages)) >= count, timeout_s=20)
    return progress_of(messages)
