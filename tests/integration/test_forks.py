"""Forks over the running services (decision 21, C31, C32)."""

from __future__ import annotations

import json
import uuid
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status
from tests.integration.stage import LANGUAGES, Scene, Stage

from dalsegno.v1 import action_service_pb2, execution_pb2, operation_pb2, workflow_service_pb2
from dalsegno.v1 import execution_service_pb2 as messages

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("checkpoints")]
both = pytest.mark.parametrize("language", LANGUAGES)


async def fork(stage: Stage, scene: Scene, checkpoint: str = "", **more: Any) -> Scene:
    """Fork the execution at an entry. The fork is in the same namespace and scene."""
    if checkpoint:
        more["checkpoint"] = checkpoint
    answer = await stage.rerun(scene.id, start_from=operation_pb2.RERUN_FROM_CHECKPOINT, **more)
    return Scene(scene.broken, scene.held, scene.namespace, answer.execution.id, scene.language, scene.waiting)


def read_info(error: grpc.aio.AioRpcError) -> tuple[str, dict[str, str]]:
    """The reason and the metadata of an error."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    return info.reason, dict(info.metadata)


async def all_of(stage: Stage, execution_id: str) -> object:
    """Everything that is read of an execution, but for its forks."""
    execution = await stage.system.get(execution_id)
    del execution.forks[:]
    system = stage.system
    return (
        execution,
        await system.tasks(execution_id),
        await system.attempts(execution_id),
        await system.journal(execution_id),
    )


async def listed(stage: Stage, terms: str) -> list[str]:
    """The ids of the executions that a filter chooses."""
    request = messages.ListExecutionsRequest(filter=terms)
    return [each.id for each in (await stage.system.executions.ListExecutions(request)).executions]


@both
async def test_a_fork_goes_on_from_an_entry(stage: Stage, language: str) -> None:
    """Decision 21, C32: only what comes behind the entry runs in it, with other input; what came before is seen. The
    other execution does not change."""
    scene = await stage.open("phases", language, {"word": "a"}, labels={"of": "phases"})
    await stage.rests(scene)
    (entry,) = [each for each in await stage.entries(scene.id) if each.name == "to configure"]
    before = await all_of(stage, scene.id)
    other = await fork(stage, scene, "to configure", comment="once more", labels={"by": "ann"})
    execution = await stage.rests(other)
    assert await all_of(stage, scene.id) == before
    assert json.loads(execution.output) == {"said": "a!+"}
    assert execution.forked_from == execution_pb2.ForkOrigin(
        execution_id=scene.id, sequence=entry.sequence, checkpoint="to configure"
    )
    assert (dict(execution.labels), execution.comment) == ({"of": "phases", "by": "ann"}, "once more")
    assert (execution.first_sequence, execution.parent_execution_id) == (entry.sequence - 1, "")
    attempts = await stage.system.attempts(other.id)
    assert {each.task_name for each in attempts if not each.copied} == {"configure", "check"} | (
        {"sign"} if language == "mistral" else set()
    )
    copies = [each for each in attempts if each.copied]
    assert [(each.task_name, each.result, each.executor_id) for each in copies] == [("install", '"a"', "")]
    entries = (
        await stage.system.executions.ListCheckpoints(messages.ListCheckpointsRequest(execution_id=other.id))
    ).entries
    assert [each.name for each in reversed(entries)] == ["to configure", "configured", "checked"]
    assert entries[-1].sequence == entry.sequence


@both
async def test_forks_are_found(stage: Stage, language: str) -> None:
    """Decision 21: an execution tells its forks, a fork tells what it was forked from, and filters find both. A fork
    outlives the other execution."""
    scene = await stage.open("phases", language, {"word": "a"})
    await stage.rests(scene)
    other = await fork(stage, scene, "configured", stay=True)
    last = await fork(stage, scene, "checked")
    await stage.rests(last)
    origin = await stage.system.get(scene.id)
    assert (list(origin.forks), origin.further_forks) == ([last.id, other.id], 0)
    within = f"namespace={scene.namespace}"
    assert await listed(stage, f"{within} forked_from={scene.id}") == [last.id, other.id]
    assert await listed(stage, f"{within} forked_from=") == [scene.id]
    assert await listed(stage, f"{within} forks={other.id}") == [scene.id]
    await stage.system.executions.DeleteExecution(messages.DeleteExecutionRequest(execution_id=last.id))
    assert list((await stage.system.get(scene.id)).forks) == [other.id]
    await stage.system.executions.DeleteExecution(messages.DeleteExecutionRequest(execution_id=scene.id))
    assert (await stage.rests(other, "PAUSED")).forked_from.execution_id == scene.id
    await stage.resume(other.id)
    assert json.loads((await stage.rests(other)).output) == {"said": "a!+"}


@both
async def test_a_fork_stands_at_its_beginning_with_what_is_new(stage: Stage, language: str) -> None:
    """Decision 21: with `stay` it is PAUSED at the entry; new input, an edit and an overlay of the environment are in
    its journal with actor and comment."""
    scene = await stage.open("phases", language, {"word": "a"})
    await stage.rests(scene)
    more = {
        "input": '{"word": "b"}',
        "environment_overlay": '{"place": "here"}',
        "edit": messages.ContextEdit(task="install", set='{"said": "edited"}'),
        "comment": "with other words",
    }
    other = await fork(stage, scene, "to configure", stay=True, **more)
    execution = await stage.rests(other, "PAUSED")
    assert (execution.paused_at.name, json.loads(execution.input)) == ("to configure", {"word": "b"})
    journal = await stage.system.journal(other.id)
    kinds = [each.WhichOneof("kind") for each in journal]
    assert kinds[:2] == ["execution_created", "consolidated"]
    assert kinds.count("context_edited") == 2
    assert {each.comment for each in journal} == {"with other words"}
    assert journal[0].sequence == execution.first_sequence
    assert journal[0].execution_created.forked_from == execution.forked_from
    assert journal[1].consolidated.entry == execution_pb2.CheckpointReference(
        name="to configure", sequence=execution.forked_from.sequence
    )
    assert journal[1].consolidated.tasks == len(await stage.system.tasks(other.id))
    assert not journal[1].consolidated.HasField("created")
    await stage.resume(other.id)
    assert json.loads((await stage.rests(other)).output) == {"said": "edited!+"}


@both
async def test_what_was_open_at_the_entry_begins_again(stage: Stage, language: str) -> None:
    """Decision 21: a sub-workflow that was open at the entry is a fresh child of the fork, and the other one's child
    goes on."""
    scene = await stage.open("forked", language, held={"inner"})
    await stage.has(scene, "inner")
    await stage.system.until(scene.id, lambda change: change.checkpoint_reached.name == "left done")
    (first,) = (await stage.children(scene, 1)).values()
    scene.waiting.clear()
    other = await fork(stage, scene, "left done")
    await stage.has(other, "inner")
    (fresh,) = (await stage.children(other, 1)).values()
    assert first != fresh
    assert (await stage.system.get(fresh)).parent_execution_id == other.id
    scene.held.clear()
    await stage.release(other, "inner")
    await stage.rests(other)
    await stage.cancel(scene.id, terminate=operation_pb2.Terminate())


@both
async def test_a_fork_does_not_go_behind_its_beginning(stage: Stage, language: str) -> None:
    """Decision 21, C31: back to its beginning it reverts; before that, everything is HISTORY_DISCARDED: a go-to, a
    rerun, a fork."""
    scene = await stage.open("undoable", language, {"word": "a"})
    await stage.rests(scene)
    other = await fork(stage, scene, "configured")
    await stage.rests(other)
    await stage.go_to(other.id, "configured")
    await stage.rests(other, "PAUSED")
    undone = [each.task_name for each in await stage.system.attempts(other.id) if each.revert]
    assert undone == ["check"]
    first = (await stage.system.get(other.id)).first_sequence
    async with stage.unchanged(other):
        for call in (
            stage.go_to(other.id, "start"),
            stage.go_to(other.id, "installed"),
            stage.go_to(other.id, sequence=first - 1),
            fork(stage, other, "installed"),
        ):
            failure = await stage.refuses(call)
            assert failure.reason == "HISTORY_DISCARDED", failure
    await stage.resume(other.id)
    await stage.rests(other)
    failure = await stage.refuses(stage.rerun(other.id, "install"))
    assert failure.reason == "HISTORY_DISCARDED"


async def test_a_journal_that_begins_later(stage: Stage) -> None:
    """Decision 24: a list from before the first change is OUT_OF_RANGE and names the first one; a watcher from the
    first change on begins with the first that there is."""
    scene = await stage.open("phases", "mistral", {"word": "a"})
    await stage.rests(scene)
    other = await fork(stage, scene, "configured")
    execution = await stage.rests(other)
    request = messages.ListChangesRequest(execution_id=other.id, after_sequence=1)
    call = stage.system.executions.ListChanges(request)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE
    assert read_info(caught.value) == ("HISTORY_DISCARDED", {"first_sequence": str(execution.first_sequence)})
    request.after_sequence = execution.first_sequence - 1
    assert (await stage.system.executions.ListChanges(request)).changes[0].sequence == execution.first_sequence
    watch = messages.WatchExecutionRequest(execution_id=other.id, from_first_change=True)
    told = [change async for each in stage.system.executions.WatchExecution(watch) for change in each.changes.changes]
    assert told == await stage.system.journal(other.id)


@both
async def test_a_dry_fork_tells_what_would_start(stage: Stage, language: str) -> None:
    """O32: what would run at once and what would be there of the other execution; nothing is made."""
    scene = await stage.open("phases", language, {"word": "a"})
    await stage.rests(scene)
    request = messages.RerunExecutionRequest(
        execution_id=scene.id,
        start_from=operation_pb2.RERUN_FROM_CHECKPOINT,
        checkpoint="to configure",
        dry_run=True,
    )
    async with stage.unchanged(scene):
        told = (await stage.system.executions.RerunExecution(request)).dry_run
    assert [each.name for each in told.starts] == ["configure"]
    assert [each.name for each in told.kept] == ["install"]
    assert (told.state, told.revision) == (execution_pb2.EXECUTION_STATE_RUNNING, 0)


async def test_a_fork_with_an_id_of_ones_own(stage: Stage) -> None:
    """The same request gets the first answer; another one that wants the id is refused."""
    scene = await stage.open("phases", "mistral", {"word": "a"})
    await stage.rests(scene)
    chosen = str(uuid.uuid4())
    other = await fork(stage, scene, "configured", new_execution_id=chosen)
    assert other.id == chosen
    await stage.rests(other)
    again = await fork(stage, scene, "configured", new_execution_id=chosen)
    assert again.id == chosen
    call = fork(stage, scene, "checked", new_execution_id=chosen)
    await stage.refuses(call, grpc.StatusCode.ALREADY_EXISTS)


NEWER = {
    "mistral": """
version: '2.0'
wf:
  input: [word, {{more: "{more}"}}]
  output: {{said: "<% $.said %><% $.more %>"}}
  tasks:
    first: {{action: test.act give=<% $.word %>, publish: {{said: <% task().result %>}}, checkpoint: here,
            on-success: [{name}]}}
    {name}: {{action: test.act give="<% $.said %>{mark}", publish: {{said: <% task().result %>}}}}
""",
    "orquesta": """
version: 1.0
name: wf
input: [word, more: "{more}"]
output: [{{said: "<% ctx(said) %><% ctx(more) %>"}}]
tasks:
  first: {{action: test.act give=<% ctx(word) %>, checkpoint: here,
          next: [{{when: <% succeeded() %>, publish: [{{said: <% result() %>}}], do: {name}}}]}}
  {name}: {{action: test.act give="<% ctx(said) %>{mark}",
           next: [{{when: <% succeeded() %>, publish: [{{said: <% result() %>}}]}}]}}
""",
}


@both
async def test_the_newest_version_is_run_if_it_has_what_is_open(stage: Stage, language: str) -> None:
    """Decision 21, LATEST: the rest runs as the newest version says. When a task that is open at the entry is not there
    any more, or when the language is another one, the fork is refused and says so."""
    scene = Scene(language=language)
    stage.scenes[scene.namespace] = scene
    await stage.system.define(NEWER[language].format(name="second", mark="1", more="-"), scene.namespace)
    scene.id = await stage.system.begin("wf", {"word": "a"}, namespace=scene.namespace)
    await stage.rests(scene)
    await stage.system.define(NEWER[language].format(name="renamed", mark="2", more="="), scene.namespace)
    same = await fork(stage, scene, "here")
    assert json.loads((await stage.rests(same)).output) == {"said": "a1-"}
    newest = await fork(stage, scene, "here", latest_definition=True)
    execution = await stage.rests(newest)
    assert (json.loads(execution.output), execution.workflow_version) == ({"said": "a2-"}, 2)
    renamed = NEWER[language].replace("first:", "other:").replace("installed", "x")
    await stage.system.define(renamed.format(name="second", mark="3", more=""), scene.namespace)
    async with stage.unchanged(scene):
        failure = await stage.refuses(fork(stage, scene, "here", latest_definition=True))
        assert [each.subject for each in failure.violations] == ["task first"]
    elsewhere = next(each for each in LANGUAGES if each != language)
    await stage.system.define(NEWER[elsewhere].format(name="second", mark="4", more=""), scene.namespace)
    async with stage.unchanged(scene):
        failure = await stage.refuses(fork(stage, scene, "here", latest_definition=True))
        assert elsewhere in str(failure)


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ({}, {"checkpoint"}),
        ({"checkpoint_sequence": -1}, {"checkpoint_sequence"}),
        ({"checkpoint": "start"}, {"checkpoint"}),
        ({"checkpoint": "configured", "input": "[]"}, {"input"}),
        ({"checkpoint": "configured", "tasks": [operation_pb2.RerunTask(task="check")]}, {"tasks"}),
        ({"checkpoint": "configured", "labels": {"a b": "c"}}, {"labels['a b']"}),
        ({"checkpoint": "configured", "stop_at": ["nowhere"]}, {"stop_at[0]"}),
        ({"checkpoint": "configured", "edit": messages.ContextEdit()}, {"edit.set"}),
        (
            {
                "start_from": operation_pb2.RERUN_FROM_BEGINNING,
                "checkpoint": "configured",
                "stay": True,
                "edit": messages.ContextEdit(set='{"a": 1}'),
            },
            {"checkpoint", "stay", "edit"},
        ),
        ({"start_from": operation_pb2.RERUN_FROM_FAILED, "labels": {"a": "b"}}, {"labels"}),
    ],
)
async def test_forks_that_make_no_sense(stage: Stage, more: dict[str, Any], fields: set[str]) -> None:
    """Each field that is wrong is named, and nothing is made."""
    scene = await stage.open("phases", "mistral", {"word": "a"})
    await stage.rests(scene)
    request = messages.RerunExecutionRequest(
        **{"execution_id": scene.id, "start_from": operation_pb2.RERUN_FROM_CHECKPOINT, **more}
    )
    async with stage.unchanged(scene):
        call = stage.system.executions.RerunExecution(request)
        failure = await stage.refuses(call, grpc.StatusCode.INVALID_ARGUMENT)
    assert {each.subject for each in failure.violations} == fields


@both
async def test_entries_that_nothing_is_forked_from(stage: Stage, language: str) -> None:
    """C31: an unknown checkpoint, an entry that is not there, and one that was gone back behind."""
    scene = await stage.open("undoable", language, {"word": "a"})
    await stage.rests(scene)
    last = (await stage.entries(scene.id))[-1].sequence
    await stage.go_to(scene.id, "installed")
    await stage.rests(scene, "PAUSED")
    async with stage.unchanged(scene):
        for more, reason in (
            ({"checkpoint": "elsewhere"}, "NO_SUCH_CHECKPOINT"),
            ({"checkpoint": "checked"}, "NO_SUCH_CHECKPOINT"),
            ({"checkpoint_sequence": 2}, "NO_SUCH_CHECKPOINT"),
            ({"checkpoint_sequence": last}, "UNDONE"),
        ):
            assert (await stage.refuses(fork(stage, scene, **more))).reason == reason


async def test_a_sub_workflow_is_forked_by_itself(stage: Stage) -> None:
    """Decision 21: a fork of a child has no parent."""
    await stage.system.define(
        "version: '2.0'\nouter: {tasks: {call: {workflow: mistral_phases, input: {word: x}}}}", "", ""
    )
    scene = Scene(language="mistral")
    stage.scenes[scene.namespace] = scene
    wanted = workflow_service_pb2.GetWorkflowRequest(name="outer")
    outer = (await stage.system.workflows.GetWorkflow(wanted)).workflow.definition_id
    scene.id = await stage.system.begin("", {}, definition_id=outer, namespace=scene.namespace)
    await stage.rests(scene)
    (child,) = (await stage.children(scene, 1)).values()
    inner = Scene(scene.broken, scene.held, scene.namespace, child, "mistral", scene.waiting)
    other = await fork(stage, inner, "configured")
    execution = await stage.rests(other)
    assert (execution.parent_execution_id, execution.root_id) == ("", other.id)
    assert json.loads(execution.output) == {"said": "x!+"}


@both
async def test_a_copy_of_a_sub_workflow_is_no_action(stage: Stage, language: str) -> None:
    """Decision 21, S15: a task whose sub-workflow had ended at the entry shows its workflow and its result, and neither
    a child nor an action."""
    scene = await stage.open("forked", language)
    await stage.rests(scene)
    other = await fork(stage, scene, "met")
    await stage.rests(other)
    task = (await stage.tasks(other))["right"]
    assert (task.workflow, task.action) == (f"{language}_called", "")
    assert list(task.child_execution_ids) == []
    assert task.result == (await stage.tasks(scene))["right"].result
    assert not [each for each in await stage.system.attempts(other.id) if each.task_name == "right"]
    action = f"{task.id}.0.1"
    calls = (
        stage.system.actions.GetActionExecution(
            action_service_pb2.GetActionExecutionRequest(action_execution_id=action)
        ),
        stage.system.executions.ReadValue(messages.ReadValueRequest(action_execution_id=action, field="result")).read(),
    )
    for call in calls:
        await stage.refuses(call, grpc.StatusCode.NOT_FOUND)


async def test_many_are_forked_at_once(stage: Stage) -> None:
    """Every execution that a filter chooses is forked at its newest entry; one that has none is refused, and the others
    are forked."""
    first = await stage.open("rounds", "mistral", {"count": 2}, labels={"many": "yes"})
    await stage.rests(first)
    second = Scene(namespace=first.namespace, language="mistral")
    wanted = workflow_service_pb2.GetWorkflowRequest(name="mistral_chain")
    chain = (await stage.system.workflows.GetWorkflow(wanted)).workflow.definition_id
    second.id = await stage.system.begin("", {"word": "a"}, definition_id=chain, namespace=first.namespace)
    await stage.rests(second)
    each = messages.RerunExecutionRequest(
        start_from=operation_pb2.RERUN_FROM_CHECKPOINT, checkpoint="turned", labels={"again": "yes"}
    )
    request = messages.RerunExecutionsRequest(filter=f"namespace={first.namespace}", each=each)
    outcomes = [told.outcome async for told in stage.system.executions.RerunExecutions(request)]
    assert [each.execution_id for each in outcomes] == [second.id, first.id]
    assert outcomes[0].refusal.code == "FAILED_PRECONDITION"
    made = outcomes[1].execution
    assert (made.forked_from.execution_id, dict(made.labels)) == (first.id, {"many": "yes", "again": "yes"})
    await stage.system.wait(made.id)
