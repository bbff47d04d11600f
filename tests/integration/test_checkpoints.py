"""Checkpoints over the running services: where they stand, stops, and go-to forward (C1-C4, C7, C14-C18, C27, C31)."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from tests.integration.stage import LANGUAGES, Scene, Stage
from tests.processes import state_of

from dalsegno.v1 import change_pb2, execution_pb2, operation_pb2
from dalsegno.v1 import execution_service_pb2 as messages

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("checkpoints")]
both = pytest.mark.parametrize("language", LANGUAGES)
NAMES = ["installed", "to configure", "configured", "checked"]


async def stands_at(stage: Stage, scene: Scene, name: str) -> execution_pb2.Execution:
    """The execution, which must be PAUSED at the newest entry of this checkpoint."""
    execution = await stage.rests(scene, "PAUSED")
    assert execution.paused_at.name == name
    entries = [each for each in await stage.entries(scene.id) if each.name == name]
    assert execution.paused_at.sequence == entries[-1].sequence
    return execution


async def changes_of(stage: Stage, scene: Scene, kind: str) -> list[change_pb2.Change]:
    """The changes of one kind, from the journal."""
    return [each for each in await stage.system.journal(scene.id) if each.WhichOneof("kind") == kind]


async def list_ids(stage: Stage, scene: Scene, terms: str) -> list[str]:
    """The executions of the scene that these terms choose."""
    request = messages.ListExecutionsRequest(filter=f"namespace={scene.namespace} {terms}")
    return [each.id for each in (await stage.system.executions.ListExecutions(request)).executions]


# Entries


@both
async def test_each_checkpoint_on_the_way_is_an_entry(stage: Stage, language: str) -> None:
    """A run reaches the checkpoints after, before and between its tasks in order, and does not stop (C1, C2, C3, C27).
    Each entry has its data, its task, its time, and how many tasks have ended since (C7)."""
    scene = await stage.open("phases", language, {"word": "a"})
    execution = await stage.rests(scene)
    assert json.loads(execution.output) == {"said": "a!+"}
    assert (execution.HasField("paused_at"), execution.not_reached, list(execution.stop_at)) == (False, "", [])
    entries = await stage.entries(scene.id)
    assert [each.name for each in entries] == NAMES
    assert [each.task_name for each in entries] == ["install", "configure", "sign", "check"]
    assert [each.data for each in entries] == ['{"got":"a"}', "", "", ""]
    assert [each.tasks_since for each in entries] == [3, 3, 1, 0]
    assert {each.stands for each in entries} == {True}
    assert {each.reachable for each in entries} == {False}
    reached = await changes_of(stage, scene, "checkpoint_reached")
    assert [each.sequence for each in reached] == [each.sequence for each in entries]
    assert [each.at for each in reached] == [each.at for each in entries]
    told = reached[0].checkpoint_reached
    assert (told.name, told.task_number, told.task_name, told.data) == ("installed", 1, "install", '{"got":"a"}')


@both
async def test_a_checkpoint_in_a_loop_has_an_entry_for_each_round(stage: Stage, language: str) -> None:
    """Reached again, it is another entry, with the data of then (C1, C7)."""
    scene = await stage.open("rounds", language, {"count": 3})
    await stage.rests(scene)
    entries = await stage.entries(scene.id)
    assert [each.name for each in entries] == ["turned"] * 3
    lefts = [json.loads(each.data)["left"] for each in entries]
    assert lefts == ([2, 1, 0] if language == "mistral" else [3, 2, 1])
    assert len({each.task_number for each in entries}) == 3


@both
async def test_entries_are_listed_in_pages_with_start_at_the_end(stage: Stage, language: str) -> None:
    """The list begins with the newest entry and ends with `start`, which every execution has."""
    scene = await stage.open("rounds", language, {"count": 3})
    await stage.rests(scene)
    pages, token = [], ""
    while True:
        request = messages.ListCheckpointsRequest(execution_id=scene.id, page_size=2, page_token=token)
        page = await stage.system.executions.ListCheckpoints(request)
        pages.append([each.name for each in page.entries])
        token = page.next_page_token
        if not token:
            break
    assert pages == [["turned", "turned"], ["turned", "start"]]
    plain = await stage.open("chain", language, {"word": "a"})
    await stage.rests(plain)
    (start,) = (
        await stage.system.executions.ListCheckpoints(messages.ListCheckpointsRequest(execution_id=plain.id))
    ).entries
    assert (start.name, start.task_number, start.tasks_since, start.stands) == ("start", 0, 3, True)
    first = next(each for each in await stage.system.journal(plain.id) if each.WhichOneof("kind") == "task_added")
    assert start.sequence == first.sequence


@both
async def test_a_page_that_is_full_leaves_start_to_the_next(stage: Stage, language: str) -> None:
    """A page never has more entries than were asked for."""
    scene = await stage.open("rounds", language, {"count": 2})
    await stage.rests(scene)
    request = messages.ListCheckpointsRequest(execution_id=scene.id, page_size=2)
    page = await stage.system.executions.ListCheckpoints(request)
    assert [each.name for each in page.entries] == ["turned", "turned"]
    request.page_token = page.next_page_token
    rest = await stage.system.executions.ListCheckpoints(request)
    assert ([each.name for each in rest.entries], rest.next_page_token, list(rest.ahead)) == (["start"], "", [])


@both
async def test_parallel_branches_and_sub_flows_have_their_own_entries(stage: Stage, language: str) -> None:
    """Each branch reaches its own checkpoints; that of a sub-flow stands before it (C2, C25)."""
    scene = await stage.open("forked", language, held={"inner"})
    await stage.has(scene, "inner")
    await stage.system.until(scene.id, lambda change: change.checkpoint_reached.name == "left done")
    entries = {each.name: each for each in await stage.entries(scene.id)}
    assert set(entries) == {"left done", "right begins"}
    assert entries["right begins"].task_name == "right"
    listed = await stage.system.executions.ListCheckpoints(messages.ListCheckpointsRequest(execution_id=scene.id))
    assert list(listed.ahead) == ["met"]
    await stage.release(scene, "inner")
    await stage.rests(scene)
    assert [each.name for each in await stage.entries(scene.id)][-1] == "met"


# Stops


@both
async def test_a_start_stops_at_a_checkpoint(stage: Stage, language: str) -> None:
    """Told so at its start, an execution stops where the checkpoint stands, PAUSED, and nothing after it has begun; a
    resume goes on to the end (C4, C16, C17)."""
    scene = await stage.open("phases", language, {"word": "a"}, stop_at=["to configure"])
    execution = await stands_at(stage, scene, "to configure")
    assert list(execution.stop_at) == ["to configure"]
    assert [run.context.task_name for run in scene.runs] == ["install"]
    listed = await stage.system.executions.ListCheckpoints(messages.ListCheckpointsRequest(execution_id=scene.id))
    assert list(listed.ahead) == ["configured", "checked"]
    answer = (await stage.resume(scene.id)).execution
    assert (answer.HasField("paused_at"), list(answer.stop_at)) == (False, [])
    assert json.loads((await stage.rests(scene)).output) == {"said": "a!+"}
    assert [each.name for each in await stage.entries(scene.id)] == NAMES


@both
async def test_a_start_stops_at_the_first_of_several(stage: Stage, language: str) -> None:
    """Of several checkpoints it stops at the one that it reaches first; a resume names where it stops next (C4)."""
    scene = await stage.open("phases", language, {"word": "a"}, stop_at=["checked", "installed"])
    await stands_at(stage, scene, "installed")
    await stage.resume(scene.id, stop_at=["configured"])
    await stands_at(stage, scene, "configured")
    assert [run.context.task_name for run in scene.runs] == ["install", "configure"]
    await stage.resume(scene.id)
    await stage.rests(scene)


@both
async def test_a_rerun_stops_at_a_checkpoint(stage: Stage, language: str) -> None:
    """A rerun from tasks, and one from the beginning, stop where they are told (C4)."""
    scene = await stage.open("phases", language, {"word": "a"})
    await stage.rests(scene)
    await stage.rerun(scene.id, "configure", stop_at=["configured"])
    await stands_at(stage, scene, "configured")
    repeated = await stage.repeat(scene, stop_at=["installed"])
    await stands_at(stage, repeated, "installed")
    for each in (scene, repeated):
        await stage.cancel(each.id)


@both
async def test_data_edited_at_a_stop_is_what_the_transitions_see(stage: Stage, language: str) -> None:
    """Stopped after a task, its transitions are not evaluated yet: what is edited then counts for them (C17)."""
    scene = await stage.open("phases", language, {"word": "a"}, stop_at=["to configure"])
    await stands_at(stage, scene, "to configure")
    update = messages.UpdateContextRequest(execution_id=scene.id, task="install", set='{"said": "b"}')
    await stage.system.executions.UpdateContext(update)
    await stage.resume(scene.id)
    assert json.loads((await stage.rests(scene)).output) == {"said": "b!+"}


@both
async def test_an_execution_that_ends_first_names_what_it_did_not_reach(stage: Stage, language: str) -> None:
    """A checkpoint that is not reached before the end is named by waits, reads and watchers (C4, decision 20)."""
    scene = await stage.open("phases", language, {"word": "a"}, broken={"configure"}, stop_at=["checked"])
    execution = await stage.rests(scene, "ERROR")
    assert (execution.not_reached, execution.HasField("paused_at")) == ("checked", False)
    assert await stage.system.get(scene.id) == execution
    moved = (await changes_of(stage, scene, "execution_moved"))[-1].execution_moved
    assert moved.not_reached == "checked"


# Go-to


@both
async def test_the_phases_of_a_flow_are_driven_from_outside(stage: Stage, language: str) -> None:
    """A program sends an execution from checkpoint to checkpoint; it runs what is between them and stops, interrupted
    (C14, C15, C16, C18). In the end it is resumed (C17)."""
    scene = await stage.open("phases", language, {"word": "a"}, stop_at=["installed"])
    done = ["install"]
    for name, runs in (("to configure", []), ("configured", ["configure"]), ("checked", ["check"])):
        await stands_at(stage, scene, NAMES[NAMES.index(name) - 1])
        answer = await stage.go_to(scene.id, name)
        assert answer.execution.id == scene.id
        await stands_at(stage, scene, name)
        done += runs
        assert [run.context.task_name for run in scene.runs] == done
    await stage.resume(scene.id)
    assert json.loads((await stage.rests(scene)).output) == {"said": "a!+"}
    moved = [each.execution_moved for each in await changes_of(stage, scene, "execution_moved")]
    paused = [each for each in moved if each.state == execution_pb2.EXECUTION_STATE_PAUSED]
    assert [each.paused_at.name for each in paused] == NAMES


@both
async def test_a_running_execution_is_sent_to_a_checkpoint(stage: Stage, language: str) -> None:
    """It goes on from where it is and stops there; until then `stop_at` names it (C14, C15)."""
    scene = await stage.open("phases", language, {"word": "a"}, held={"install"})
    await stage.has(scene, "install")
    answer = (await stage.go_to(scene.id, "configured")).execution
    assert (state_of(answer), list(answer.stop_at)) == ("RUNNING", ["configured"])
    await stage.release(scene, "install")
    await stands_at(stage, scene, "configured")
    await stage.cancel(scene.id)


@both
async def test_a_go_to_that_resumes_passes_the_checkpoint(stage: Stage, language: str) -> None:
    """With RESUME the execution goes on on arrival, after the edit that was asked for (C17, decision 20)."""
    scene = await stage.open("phases", language, {"word": "a"}, stop_at=["installed"])
    await stands_at(stage, scene, "installed")
    edit = messages.ContextEdit(task="configure", set='{"said": "edited"}')
    await stage.go_to(scene.id, "configured", then=messages.ON_ARRIVAL_RESUME, edit=edit)
    assert json.loads((await stage.rests(scene)).output) == {"said": "edited+"}
    (edited,) = await changes_of(stage, scene, "context_edited")
    (reached,) = [
        each
        for each in await changes_of(stage, scene, "checkpoint_reached")
        if each.checkpoint_reached.name == NAMES[2]
    ]
    assert edited.sequence > reached.sequence


@both
async def test_standing_there_already_only_the_rest_is_done(stage: Stage, language: str) -> None:
    """Sent to where it stands, it is answered as it is; an edit is made, and with RESUME it goes on (decision 20)."""
    scene = await stage.open("phases", language, {"word": "a"}, stop_at=["to configure"])
    before = await stands_at(stage, scene, "to configure")
    async with stage.unchanged(scene):
        assert (await stage.go_to(scene.id, "to configure")).execution == before
        assert (await stage.go_to(scene.id, sequence=before.paused_at.sequence)).execution == before
    edit = messages.ContextEdit(task="install", set='{"said": "b"}')
    edited = (await stage.go_to(scene.id, "to configure", edit=edit)).execution
    assert (state_of(edited), edited.paused_at.name) == ("PAUSED", "to configure")
    assert edited.revision > before.revision
    await stage.go_to(scene.id, "to configure", then=messages.ON_ARRIVAL_RESUME)
    assert json.loads((await stage.rests(scene)).output) == {"said": "b!+"}


@both
async def test_the_next_time_is_waited_for(stage: Stage, language: str) -> None:
    """With `next` an entry that stands does not count: the execution stops when the checkpoint is reached again."""
    scene = await stage.open("rounds", language, {"count": 3}, stop_at=["turned"])
    first = await stands_at(stage, scene, "turned")
    await stage.go_to(scene.id, "turned", next=True)
    second = await stands_at(stage, scene, "turned")
    assert second.paused_at.sequence > first.paused_at.sequence
    await stage.resume(scene.id)
    await stage.rests(scene)
    assert len(await stage.entries(scene.id)) == 3


@both
async def test_an_execution_on_its_way_that_ends_first_says_so(stage: Stage, language: str) -> None:
    """A go-to whose checkpoint is not reached before the end leaves its name in `not_reached` (decision 20)."""
    scene = await stage.open("phases", language, {"word": "a"}, broken={"configure"}, stop_at=["installed"])
    await stands_at(stage, scene, "installed")
    await stage.go_to(scene.id, "checked")
    assert (await stage.rests(scene, "ERROR")).not_reached == "checked"


@both
async def test_parallel_work_comes_to_rest_at_a_stop(stage: Stage, language: str) -> None:
    """When one branch reaches the checkpoint the others come to rest as by a pause, and go on with the resume (C16)."""
    scene = await stage.open("forked", language, held={"inner", "left"})
    await stage.has(scene, "left")
    await stage.has(scene, "inner")
    await stage.go_to(scene.id, "left done")
    await stage.release(scene, "left")
    await stage.reaches(scene.id, "PAUSING")
    assert "left done" in [each.name for each in await stage.entries(scene.id)]
    await stage.release(scene, "inner")
    await stands_at(stage, scene, "left done")
    assert "outer" not in [run.context.task_name for run in scene.runs]
    await stage.resume(scene.id)
    await stage.rests(scene)


# Refusals


@both
async def test_an_unknown_checkpoint_is_refused(stage: Stage, language: str) -> None:
    """No workflow goes to what it does not name, nor to an entry that it does not have (C31)."""
    scene = await stage.open("phases", language, {"word": "a"}, stop_at=["installed"])
    await stands_at(stage, scene, "installed")
    async with stage.unchanged(scene):
        for target in ({"name": "instaled"}, {"sequence": 1}, {"sequence": 1_000_000}):
            failure = await stage.refuses(stage.go_to(scene.id, **target))
            assert failure.reason == "NO_SUCH_CHECKPOINT", failure
        failure = await stage.refuses(stage.resume(scene.id, stop_at=["instaled"]), grpc.StatusCode.INVALID_ARGUMENT)
        assert [each.subject for each in failure.violations] == ["stop_at[0]"]
    await stage.cancel(scene.id)
    start = stage.open("phases", language, {"word": "a"}, stop_at=["installed", "nowhere"])
    failure = await stage.refuses(start, grpc.StatusCode.INVALID_ARGUMENT)
    assert [each.subject for each in failure.violations] == ["stop_at[1]"]


async def test_a_checkpoint_to_which_nothing_leads_is_refused(stage: Stage) -> None:
    """What is not on the way to the target of a reverse workflow cannot be reached, neither forward nor by going back
    (C31)."""
    scene = await stage.open("backwards", "mistral", held={"needed"}, params='{"task_name": "wanted"}')
    await stage.has(scene, "needed")
    async with stage.unchanged(scene):
        failure = await stage.refuses(stage.go_to(scene.id, "beside"))
    assert failure.reason == "UNREACHABLE"
    await stage.release(scene, "needed")
    await stage.rests(scene)


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ({}, {"name"}),
        ({"sequence": -1}, {"sequence"}),
        ({"sequence": 5, "next": True}, {"next"}),
        ({"name": "installed", "delegates": operation_pb2.DELEGATES_CANCEL}, {"delegates"}),
        ({"name": "installed", "edit": messages.ContextEdit()}, {"edit.set"}),
        (
            {"name": "installed", "edit": messages.ContextEdit(task_number=1, set="[]", unset=[""])},
            {"edit.task", "edit.set", "edit.unset[0]"},
        ),
        ({"name": "i" * 300}, {"name"}),
    ],
)
async def test_go_tos_that_make_no_sense(stage: Stage, more: dict[str, Any], fields: set[str]) -> None:
    """A request that contradicts itself is refused with all its fields."""
    scene = await stage.open("phases", "mistral", {"word": "a"}, stop_at=["installed"])
    await stands_at(stage, scene, "installed")
    async with stage.unchanged(scene):
        failure = await stage.refuses(stage.go_to(scene.id, **more), grpc.StatusCode.INVALID_ARGUMENT)
    assert {each.subject for each in failure.violations} == fields
    await stage.cancel(scene.id)


# What it would do


@both
async def test_a_dry_go_to_tells_what_would_run(stage: Stage, language: str) -> None:
    """A dry run evaluates the transitions that wait and names what would start, and what may follow (C15)."""
    scene = await stage.open("phases", language, {"word": "a"}, stop_at=["installed"])
    await stands_at(stage, scene, "installed")
    async with stage.unchanged(scene):
        told = (await stage.go_to(scene.id, "checked", dry_run=True)).dry_run
    assert [each.name for each in told.starts] == ["configure"]
    assert list(told.may_follow) == ["sign", "check"]
    assert [each.name for each in told.kept] == ["install"]
    assert told.state == execution_pb2.EXECUTION_STATE_RUNNING
    await stage.cancel(scene.id)


# Lists, filters and watchers


@both
async def test_executions_are_found_by_their_checkpoints(stage: Stage, language: str) -> None:
    """Lists and bulk operations choose by where executions stand, and by what they have reached (C18)."""
    scene = await stage.open("phases", language, {"word": "a"}, stop_at=["to configure"])
    await stands_at(stage, scene, "to configure")
    assert await list_ids(stage, scene, 'paused_at="to configure"') == [scene.id]
    assert await list_ids(stage, scene, "checkpoint=installed paused_at!=installed") == [scene.id]
    assert await list_ids(stage, scene, "paused_at=installed") == []
    assert await list_ids(stage, scene, "paused_at=") == []
    assert await list_ids(stage, scene, "checkpoint=checked") == []
    chosen = f'namespace={scene.namespace} paused_at="to configure"'
    request = messages.ResumeExecutionsRequest(filter=chosen)
    resumed = [each.outcome async for each in stage.system.executions.ResumeExecutions(request)]
    assert [each.execution_id for each in resumed] == [scene.id]
    await stage.rests(scene)
    assert await list_ids(stage, scene, "checkpoint=checked") == [scene.id]


@both
async def test_watchers_see_entries_and_stops(stage: Stage, language: str) -> None:
    """A stream from the first change has each entry, each stop that was set and where it paused, once and in order."""
    scene = await stage.open("phases", language, {"word": "a"}, stop_at=["installed"])
    await stands_at(stage, scene, "installed")
    await stage.go_to(scene.id, "configured")
    await stands_at(stage, scene, "configured")
    await stage.resume(scene.id)
    await stage.rests(scene)
    request = messages.WatchExecutionRequest(execution_id=scene.id, from_first_change=True)
    seen = [
        change
        async for message in stage.system.executions.WatchExecution(request)
        for change in message.changes.changes
    ]
    assert seen == await stage.system.journal(scene.id)
    assert list(seen[0].execution_created.stop_at) == ["installed"]
    assert [each.checkpoint_reached.name for each in seen if each.HasField("checkpoint_reached")] == NAMES
    stops = [list(each.stops_set.names) for each in seen if each.HasField("stops_set")]
    assert ["configured"] in stops
    paused = [each.execution_moved.paused_at.name for each in seen if each.execution_moved.HasField("paused_at")]
    assert list(dict.fromkeys(paused)) == ["installed", "configured"]
