"""Discarded history over the running services (C8, C31, C32, decision 24)."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from tests.integration.stage import LANGUAGES, Scene, Stage
from tests.integration.test_forks import fork, read_info
from tests.processes import state_of

from dalsegno.v1 import action_service_pb2, execution_pb2
from dalsegno.v1 import execution_service_pb2 as messages

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("checkpoints")]
both = pytest.mark.parametrize("language", LANGUAGES)

ROUNDS = {
    "mistral": """
version: '2.0'
wf:
  input: [count]
  output: {count: <% $.count %>, first: <% task(begin).result %>, said: <% $.said %>}
  tasks:
    begin: {action: test.act give="began", on-success: [turn]}
    turn:
      action: test.act give=<% $.count %>
      publish: {count: <% $.count - 1 %>, said: <% task().result %>}
      checkpoint: {name: turned, data: {left: <% $.count %>}}
      on-success: [call]
    call: {workflow: sub, checkpoint: {name: called, when: before}, on-success: [turn: <% $.count > 0 %>]}
sub:
  tasks:
    inner: {action: test.act give=1}
""",
    "orquesta": """
version: 1.0
name: wf
input: [count]
output: [{count: <% ctx(count) %>}, {said: <% ctx(said) %>}]
tasks:
  begin: {action: test.act give="began", next: [{when: <% succeeded() %>, do: turn}]}
  turn:
    action: test.act give=<% ctx(count) %>
    checkpoint: {name: turned, data: {left: <% ctx(count) %>}}
    next: [{when: <% succeeded() %>, publish: [{count: <% ctx(count) - 1 %>}, {said: <% result() %>}], do: call}]
  call:
    action: sub
    checkpoint: {name: called, when: before}
    next: [{when: <% succeeded() and ctx(count) > 0 %>, do: turn}]
""",
}
SUB = "version: '2.0'\nsub: {tasks: {inner: {action: test.act give=1}}}\n"


async def rounds(stage: Stage, language: str, count: int = 4, **more: Any) -> Scene:
    """Start a loop of so many rounds, each with two entries and a sub-workflow."""
    scene = Scene(language=language)
    stage.scenes[scene.namespace] = scene
    if language == "orquesta":
        await stage.system.define(SUB, scene.namespace)
    await stage.system.define(ROUNDS[language], scene.namespace)
    scene.id = await stage.system.begin("wf", {"count": count}, namespace=scene.namespace, **more)
    return scene


async def discard(stage: Stage, execution_id: str, name: str = "", **more: Any) -> messages.DiscardHistoryResponse:
    """Discard what came before an entry, named by its checkpoint unless `more` has its sequence number."""
    request = messages.DiscardHistoryRequest(execution_id=execution_id, **more)
    if name:
        request.name = name
    return await stage.system.executions.DiscardHistory(request, timeout=30)


async def entries(stage: Stage, execution_id: str) -> list[execution_pb2.CheckpointEntry]:
    """All entries that are listed, the oldest first."""
    request = messages.ListCheckpointsRequest(execution_id=execution_id)
    return list(reversed((await stage.system.executions.ListCheckpoints(request)).entries))


async def children(stage: Stage, scene: Scene) -> list[str]:
    """The executions of sub-workflows that are listed."""
    request = messages.ListExecutionsRequest(filter=f"parent={scene.id}")
    return [each.id for each in (await stage.system.executions.ListExecutions(request)).executions]


async def stands_in_the_middle(stage: Stage, language: str) -> Scene:
    """A loop of four rounds that is PAUSED at the third entry `turned`."""
    scene = await rounds(stage, language, 4, stop_at=["turned"])
    for _ in range(2):
        await stage.rests(scene, "PAUSED")
        await stage.resume(scene.id, stop_at=["turned"])
    await stage.rests(scene, "PAUSED")
    return scene


async def left(stage: Stage, scene: Scene, language: str) -> None:
    """Check that the execution ends as it does when nothing is discarded."""
    await stage.resume(scene.id)
    execution = await stage.rests(scene)
    output = json.loads(execution.output)
    assert (output["count"], output["said"]) == (0, 1)
    if language == "mistral":
        assert output["first"] == "began"


@both
@pytest.mark.parametrize("state", ["PAUSED", "RUNNING", "SUCCESS"])
async def test_history_is_discarded_on_request(stage: Stage, state: str, language: str) -> None:
    """C8, decision 24: everything before the entry is gone when this answers: changes, entries, tasks, actions and
    ended sub-workflows. The execution goes on, and what it still needs of the past is there (C32)."""
    scene = await stands_in_the_middle(stage, language)
    sequence = (await stage.system.get(scene.id)).paused_at.sequence
    gone = [*await stage.system.tasks(scene.id)]
    if state == "RUNNING":
        scene.held.add("inner")
        await stage.resume(scene.id)
        await stage.has(scene, "inner")
    elif state == "SUCCESS":
        await left(stage, scene, language)
    before = await children(stage, scene)
    answer = await discard(stage, scene.id, sequence=sequence, comment="too long")
    assert (answer.execution.first_sequence, state_of(answer.execution)) == (sequence, state)
    assert answer.execution == await stage.system.get(scene.id)
    listed = await entries(stage, scene.id)
    assert (listed[0].sequence, listed[0].name) == (sequence, "turned")
    assert "start" not in {each.name for each in listed}
    names = [each.name for each in await stage.system.tasks(scene.id) if each.number <= len(gone)]
    assert sorted(names) == sorted(["begin", "turn", "call"]), "of each name the newest"
    assert len(await children(stage, scene)) < len(before)
    journal = await stage.system.journal(scene.id)
    assert [journal[0].sequence, journal[0].WhichOneof("kind")] == [sequence, "consolidated"]
    told = journal[0].consolidated
    assert (told.entry.name, told.created.workflow, json.loads(told.created.input)) == ("turned", "wf", {"count": 4})
    assert [each.sequence for each in journal] == list(range(sequence, answer.execution.revision + 1))
    (last,) = [each for each in journal if each.WhichOneof("kind") == "history_discarded"]
    assert (last.comment, last.cause, last.history_discarded.before.name) == ("too long", "discard_requested", "turned")
    await reads_nothing_of(stage, gone[1])
    if state == "RUNNING":
        scene.held.clear()
        await stage.release(scene, "inner")
        await stage.rests(scene)
    elif state == "PAUSED":
        await left(stage, scene, language)


async def reads_nothing_of(stage: Stage, task: execution_pb2.TaskExecution) -> None:
    """Check that a task that was discarded, its action and their values are NOT_FOUND."""
    system, action = stage.system, f"{task.id}.0.1"
    calls = (
        system.executions.GetTask(messages.GetTaskRequest(task_execution_id=task.id)),
        system.actions.GetActionExecution(action_service_pb2.GetActionExecutionRequest(action_execution_id=action)),
        read_value(stage, task_execution_id=task.id, field="result"),
        read_value(stage, action_execution_id=action, field="input"),
    )
    for call in calls:
        await stage.refuses(call, grpc.StatusCode.NOT_FOUND)


async def read_value(stage: Stage, **fields: Any) -> list[messages.ReadValueResponse]:
    return [each async for each in stage.system.executions.ReadValue(messages.ReadValueRequest(**fields))]


@both
async def test_a_dry_discard_tells_how_much_would_go(stage: Stage, language: str) -> None:
    """C8: how many changes, entries, tasks, actions and sub-workflows, and before which entry. Nothing changes."""
    scene = await stands_in_the_middle(stage, language)
    execution = await stage.system.get(scene.id)
    counts = (
        len(await stage.system.journal(scene.id)),
        len(await entries(stage, scene.id)),
        len(await stage.system.tasks(scene.id)),
        len(await stage.system.attempts(scene.id)),
        len(await children(stage, scene)),
    )
    async with stage.unchanged(scene):
        told = (await discard(stage, scene.id, "turned", dry_run=True)).dry_run
    assert told.discards.before == execution.paused_at
    assert (told.state, told.revision) == (execution.state, execution.revision)
    await discard(stage, scene.id, "turned")
    after = (
        len([each for each in await stage.system.journal(scene.id) if each.sequence <= execution.revision]),
        len(await entries(stage, scene.id)),
        len(await stage.system.tasks(scene.id)),
        len(await stage.system.attempts(scene.id)),
        len(await children(stage, scene)),
    )
    gone = told.discards
    assert [gone.changes, gone.entries, gone.tasks, gone.actions, gone.children] == [
        had - has for had, has in zip(counts, after, strict=True)
    ]
    assert min(gone.changes, gone.entries, gone.tasks, gone.actions) > 0
    await left(stage, scene, language)


@both
async def test_nothing_to_discard(stage: Stage, language: str) -> None:
    """Before `start`, and before the entry at which the history begins already, there is nothing: the execution is
    returned as it is."""
    scene = await stands_in_the_middle(stage, language)
    async with stage.unchanged(scene):
        await discard(stage, scene.id, "start")
    await discard(stage, scene.id, "turned")
    async with stage.unchanged(scene):
        answer = await discard(stage, scene.id, "turned")
        told = (await discard(stage, scene.id, "turned", dry_run=True)).dry_run.discards
    assert answer.execution.first_sequence == told.before.sequence
    assert (told.changes, told.entries, told.tasks, told.actions, told.children) == (0, 0, 0, 0, 0)
    await left(stage, scene, language)


@both
async def test_what_is_discarded_cannot_be_gone_to(stage: Stage, language: str) -> None:
    """C31, decision 10: a go-to, a fork and another discard of what is gone are HISTORY_DISCARDED, an unknown
    checkpoint NO_SUCH_CHECKPOINT; nothing is undone."""
    scene = await stands_in_the_middle(stage, language)
    first = (await entries(stage, scene.id))[1].sequence
    await discard(stage, scene.id, "turned")
    async with stage.unchanged(scene):
        for call in (
            stage.go_to(scene.id, "start"),
            stage.go_to(scene.id, sequence=first),
            fork(stage, scene, checkpoint_sequence=first),
            discard(stage, scene.id, sequence=first),
            discard(stage, scene.id, "start"),
            discard(stage, scene.id, "called"),
        ):
            failure = await stage.refuses(call)
            assert failure.reason == "HISTORY_DISCARDED", failure
        failure = await stage.refuses(discard(stage, scene.id, "elsewhere"))
        assert failure.reason == "NO_SUCH_CHECKPOINT"
    await left(stage, scene, language)
    failure = await stage.refuses(stage.rerun(scene.id, "begin"))
    assert failure.reason == "HISTORY_DISCARDED", failure


async def test_changes_that_are_gone_are_out_of_range(stage: Stage) -> None:
    """Decision 24: a list after a change that is gone, and the next page of a list from before, are OUT_OF_RANGE and
    name the first change; after 0 means from the first that there is."""
    scene = await stands_in_the_middle(stage, "mistral")
    system = stage.system
    request = messages.ListChangesRequest(execution_id=scene.id, page_size=3)
    page = await system.executions.ListChanges(request)
    answer = await discard(stage, scene.id, "turned")
    first = answer.execution.first_sequence
    for more in ({"page_token": page.next_page_token, "page_size": 3}, {"after_sequence": 2}):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await system.executions.ListChanges(messages.ListChangesRequest(execution_id=scene.id, **more))
        assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE
        assert read_info(caught.value) == ("HISTORY_DISCARDED", {"first_sequence": str(first)})
    for after in (0, first - 1):
        request = messages.ListChangesRequest(execution_id=scene.id, after_sequence=after)
        assert (await system.executions.ListChanges(request)).changes[0].sequence == first
    await left(stage, scene, "mistral")


@both
async def test_watchers_of_what_is_discarded(stage: Stage, language: str) -> None:
    """Decision 24: with a token from before it a watcher gets a new snapshot; from the first change on it begins with
    Consolidated; one who has followed sees that the history was discarded."""
    scene = await stands_in_the_middle(stage, language)
    system = stage.system
    watch = messages.WatchExecutionRequest(execution_id=scene.id, from_first_change=True, keep_open=True)
    early = ""
    stream = system.executions.WatchExecution(watch)
    async for message in stream:
        early = message.resume_token
        break
    first_sent = message.changes.changes[-1].sequence
    answer = await discard(stage, scene.id, "turned")
    live = await anext(aiter(stream))
    assert live.changes.changes[-1].WhichOneof("kind") == "history_discarded"
    stream.cancel()
    if first_sent < answer.execution.first_sequence - 1:  # the first message had some of the changes only
        resumed: Any = await system.executions.WatchExecution(
            messages.WatchExecutionRequest(execution_id=scene.id, resume_token=early)
        ).read()
        assert resumed.WhichOneof("content") == "snapshot"
    fresh: Any = await system.executions.WatchExecution(watch).read()
    assert fresh.changes.changes[0].WhichOneof("kind") == "consolidated"
    await left(stage, scene, language)


async def test_a_token_from_before_gives_a_new_snapshot(stage: Stage) -> None:
    """Decision 24: the stream goes on with a whole snapshot of what there is, and then with changes."""
    scene = await rounds(stage, "mistral", 4, stop_at=["turned"])
    await stage.rests(scene, "PAUSED")
    system = stage.system
    stream = system.executions.WatchExecution(messages.WatchExecutionRequest(execution_id=scene.id))
    token = ""
    async for message in stream:
        token = message.resume_token
        if message.snapshot.last:
            break
    stream.cancel()
    for _ in range(2):
        await stage.resume(scene.id, stop_at=["turned"])
        await stage.rests(scene, "PAUSED")
    answer = await discard(stage, scene.id, "turned")
    watch = messages.WatchExecutionRequest(execution_id=scene.id, resume_token=token)
    stream = system.executions.WatchExecution(watch)
    page: Any = await stream.read()
    assert page.snapshot.execution == answer.execution
    assert [each.id for each in page.snapshot.tasks] == [each.id for each in await system.tasks(scene.id)]
    await stage.resume(scene.id)
    page = await stream.read()
    assert page.changes.changes[0].sequence == answer.execution.revision + 1
    stream.cancel()
    await stage.rests(scene)


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ({}, {"name"}),
        ({"sequence": -4}, {"sequence"}),
        ({"sequence": 4, "expected_revision": -1}, {"expected_revision"}),
    ],
)
async def test_discards_that_make_no_sense(stage: Stage, more: dict[str, Any], fields: set[str]) -> None:
    """Each field that is wrong is named."""
    scene = await rounds(stage, "mistral", 1)
    await stage.rests(scene)
    async with stage.unchanged(scene):
        failure = await stage.refuses(discard(stage, scene.id, **more), grpc.StatusCode.INVALID_ARGUMENT)
    assert {each.subject for each in failure.violations} == fields


@both
async def test_a_fork_outlives_the_discard_of_its_origin(stage: Stage, language: str) -> None:
    """Decision 21: what was forked stands alone; from what is kept more is forked, and comes to the same end."""
    scene = await stands_in_the_middle(stage, language)
    early = (await entries(stage, scene.id))[1].sequence
    other = await fork(stage, scene, checkpoint_sequence=early, stay=True)
    await discard(stage, scene.id, "turned")
    late = await fork(stage, scene, "turned")
    await stage.rests(late)
    await stage.resume(other.id)
    await stage.rests(other)
    await left(stage, scene, language)
    outputs = {(await stage.system.get(each.id)).output for each in (scene, other, late)}
    assert len(outputs) == 1


LOOP = """
version: '2.0'
loop:
  input: [count]
  output: {count: <% $.count %>}
  tasks:
    begin: {action: std.noop, on-success: [turn]}
    turn:
      action: std.noop
      publish: {count: <% $.count - 1 %>}
      checkpoint: {name: turned, keep: {count: 1}}
      on-success: [turn: <% $.count > 0 %>]
"""


@pytest.mark.parametrize("from_first", [False, True])
async def test_whoever_follows_a_loop_that_keeps_little_misses_nothing(stage: Stage, from_first: bool) -> None:
    """Decision 24: changes come in sequence; where some were discarded before they could be sent, a whole snapshot
    stands for them."""
    await stage.system.define(LOOP)
    execution_id = await stage.system.begin("loop", {"count": 150})
    request = messages.WatchExecutionRequest(execution_id=execution_id, from_first_change=from_first)
    known, is_whole = 0, True
    async for message in stage.system.executions.WatchExecution(request, timeout=60):
        if message.HasField("snapshot"):
            assert message.snapshot.revision >= known
            known, is_whole = message.snapshot.revision, message.snapshot.last
        elif message.HasField("changes"):
            assert is_whole
            for change in message.changes.changes:
                assert change.sequence == known + 1 or (from_first and known == 0)
                known = change.sequence
    execution = await stage.system.get(execution_id)
    assert (known, state_of(execution)) == (execution.revision, "SUCCESS")
    assert len(await stage.system.tasks(execution_id)) <= 3


CALLS = {
    "mistral": """
version: '2.0'
wf:
  tasks:
    begin: {action: test.act give=1, checkpoint: begun, on-success: [call]}
    call: {workflow: CALLED, input: {word: a}, on-success: [end]}
    end: {action: test.act give=2, revert: test.undo give=2}
""",
    "orquesta": """
version: 1.0
name: wf
tasks:
  begin: {action: test.act give=1, checkpoint: begun, next: [{when: <% succeeded() %>, do: call}]}
  call: {action: CALLED, input: {word: a}, next: [{when: <% succeeded() %>, do: end}]}
  end: {action: test.act give=2, revert: test.undo give=2}
""",
}


@both
async def test_nothing_is_undone_when_a_sub_workflow_cannot_be(stage: Stage, language: str) -> None:
    """Decision 10: a parent does not go back behind a sub-workflow that has discarded its beginning: it is refused and
    names it, before anything is undone; a fork from the entry is possible, for it has a fresh one."""
    scene = Scene(language=language)
    stage.scenes[scene.namespace] = scene
    await stage.system.define(CALLS[language].replace("CALLED", f"{language}_undoable"), scene.namespace)
    scene.id = await stage.system.begin("wf", {}, namespace=scene.namespace)
    await stage.rests(scene)
    (child,) = (await stage.children(scene, 1)).values()
    answer = await discard(stage, child, "configured")
    assert answer.execution.first_sequence > 1
    async with stage.unchanged(scene):
        for dry_run in (True, False):
            failure = await stage.refuses(stage.go_to(scene.id, "begun", dry_run=dry_run))
            assert failure.reason == "HISTORY_DISCARDED"
            assert child in str(failure)
    other = await fork(stage, scene, "begun")
    await stage.rests(other)
    assert (await stage.children(other, 1))["call"] != child
