"""What holds for every operation: repeatable, conditional, tried without effect, signed; edits of the context; on many
executions at once; from the command line. Over the running services."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import grpc
import pytest
from tests.integration.engines import done, until
from tests.integration.stage import LANGUAGES, Scene, Stage
from tests.processes import SOURCES, state_of
from tests.tied import tied

from dalsegno.v1 import execution_pb2, operation_pb2
from dalsegno.v1 import execution_service_pb2 as messages

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("operations_contract")]
both = pytest.mark.parametrize("language", LANGUAGES)
OPERATIONS = ("pause", "resume", "cancel", "rerun", "go_to", "discard", "context")
ACTOR = (("x-dalsegno-actor", "ada"),)


async def ready_for(stage: Stage, operation: str) -> tuple[Scene, Any, Any]:
    """An execution that the operation can be asked of, the request, and the method."""
    if operation == "go_to":
        scene = await stage.open("phases", "mistral", {"word": "a"}, held={"configure"}, stop_at=["installed"])
        await stage.rests(scene, "PAUSED")
        request = messages.GoToCheckpointRequest(execution_id=scene.id, name="configured")
        return scene, request, stage.system.executions.GoToCheckpoint
    if operation == "discard":
        scene = await stage.open("phases", "mistral", {"word": "a"}, held={"configure"})
        await stage.has(scene, "configure")
        discard = messages.DiscardHistoryRequest(execution_id=scene.id, name="to configure")
        return scene, discard, stage.system.executions.DiscardHistory
    broken = {"second"} if operation in ("resume", "rerun") else set()
    scene = await stage.open("chain", "mistral", {"word": "a"}, broken=broken, held=() if broken else {"second"})
    if broken:
        await stage.rests(scene, "ERROR")
        scene.held, scene.broken = {"second"}, set()
    else:
        await stage.has(scene, "second")
    calls = stage.system.executions
    if operation == "pause":
        return scene, messages.PauseExecutionRequest(execution_id=scene.id), calls.PauseExecution
    if operation == "cancel":
        return scene, messages.CancelExecutionRequest(execution_id=scene.id), calls.CancelExecution
    if operation == "resume":
        tasks = [operation_pb2.ResumeTask(task="second")]
        return scene, messages.ResumeExecutionRequest(execution_id=scene.id, tasks=tasks), calls.ResumeExecution
    if operation == "rerun":
        start = operation_pb2.RERUN_FROM_FAILED
        return scene, messages.RerunExecutionRequest(execution_id=scene.id, start_from=start), calls.RerunExecution
    await stage.pause(scene.id)
    await stage.release(scene, "second")
    await stage.rests(scene, "PAUSED")
    return (
        scene,
        messages.UpdateContextRequest(execution_id=scene.id, task="second", set='{"n": 1}'),
        calls.UpdateContext,
    )


async def end(stage: Stage, scene: Scene) -> None:
    """Leave nothing running behind."""
    execution = await stage.system.get(scene.id)
    if state_of(execution) in ("RUNNING", "PAUSING", "PAUSED", "CANCELLING"):
        await stage.cancel(scene.id, terminate=operation_pb2.Terminate())


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_repeated_by_its_request_id(stage: Stage, operation: str) -> None:
    """The same request id and body give the first answer again and change nothing more; another body is refused."""
    scene, request, method = await ready_for(stage, operation)
    request.request_id = f"{scene.namespace}-1"
    first = await method(request)
    async with stage.unchanged(scene):
        assert await method(request) == first
        request.comment = "another body"
        await stage.refuses(method(request), grpc.StatusCode.ALREADY_EXISTS)
    await end(stage, scene)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_only_at_the_expected_revision(stage: Stage, operation: str) -> None:
    """At another revision than expected an operation is ABORTED and changes nothing; at the expected one it is done."""
    scene, request, method = await ready_for(stage, operation)
    revision = (await stage.system.get(scene.id)).revision
    async with stage.unchanged(scene):
        request.expected_revision = revision - 1
        await stage.refuses(method(request), grpc.StatusCode.ABORTED)
    request.expected_revision = revision
    await method(request)
    await end(stage, scene)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_dry_run_changes_nothing(stage: Stage, operation: str) -> None:
    """A dry run says the state that would be and the revision that it holds for, and changes nothing; nor is its
    request id taken."""
    scene, request, method = await ready_for(stage, operation)
    revision = (await stage.system.get(scene.id)).revision
    request.request_id, request.dry_run = f"{scene.namespace}-2", True
    async with stage.unchanged(scene):
        told = await method(request)
    assert not told.HasField("execution")
    assert told.dry_run.revision == revision
    request.dry_run = False
    answer = await method(request)
    assert told.dry_run.state == answer.execution.state
    await end(stage, scene)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_signed_in_the_journal(stage: Stage, operation: str) -> None:
    """Who asked and why stands in the journal with every change of the operation, and with each attempt that it
    launched (R22, R23)."""
    scene, request, method = await ready_for(stage, operation)
    request.comment = "because"
    await method(request, metadata=ACTOR)
    causes = {each.cause for each in await stage.system.journal(scene.id) if each.comment == "because"}
    signed = {each.cause for each in await stage.system.journal(scene.id) if each.actor == "ada"}
    name = "context_updated" if operation == "context" else f"{operation}_requested"
    assert causes == signed == {name}
    launched = [each for each in await stage.system.attempts(scene.id) if each.actor == "ada"]
    repeated = [f"launched by workflow-{operation}: because"] if operation in ("resume", "rerun") else []
    # A go-to begins what follows the checkpoint at which the execution stood; it repeats nothing.
    assert [each.comment for each in launched] == ([""] if operation == "go_to" else repeated)
    await end(stage, scene)


# What a dry run tells


@both
async def test_a_dry_rerun_tells_it_all(stage: Stage, language: str) -> None:
    """A dry rerun names what starts, what may follow, what is kept and what is superseded (O22, O28, O36)."""
    scene = await stage.open("join", language)
    await stage.rests(scene)
    async with stage.unchanged(scene):
        told = (await stage.rerun(scene.id, "left", "end", dry_run=True)).dry_run
    assert [each.name for each in told.starts] == ["left"]
    assert list(told.may_follow) == ["meet", "end"]
    assert sorted(each.name for each in told.kept) == ["right", "start"]
    assert sorted(each.name for each in told.superseded) == ["end", "meet"]
    assert [each.name for each in told.subsumed] == ["end"]
    assert [each.name for each in told.joins_waiting] == ["meet"]
    assert told.state == execution_pb2.EXECUTION_STATE_RUNNING


@both
async def test_a_dry_resume_of_items(stage: Stage, language: str) -> None:
    """A dry resume of items names those that start and those that keep their results (R11, R13)."""
    scene = await stage.open("items", language, {"list": [5, 6, 7]}, broken={("many", 1)})
    await stage.rests(scene, "ERROR")
    choice = operation_pb2.ResumeTask(task="many", items=[1])
    async with stage.unchanged(scene):
        told = (await stage.resume(scene.id, choice, dry_run=True)).dry_run
    assert [(each.name, list(each.items)) for each in told.starts] == [("many", [1])]
    assert [(each.name, list(each.items)) for each in told.kept] == [("many", [0, 2])]


@both
async def test_a_dry_pause_reaches_children(stage: Stage, language: str) -> None:
    """A dry pause of a parent tells what would happen in its sub-workflows, and changes nothing in them (O6)."""
    scene = await stage.open("calls", language, held={"inner", "free"})
    children = await stage.children(scene)
    await until(lambda: len(scene.runs) == 3)
    async with stage.unchanged(scene):
        told = (await stage.pause(scene.id, dry_run=True)).dry_run
    assert {each.task_name: each.execution_id for each in told.children} == children
    assert {each.effect.state for each in told.children} <= {
        execution_pb2.EXECUTION_STATE_PAUSING,
        execution_pb2.EXECUTION_STATE_PAUSED,
    }
    await end(stage, scene)


@both
async def test_a_dry_end_by_force_reaches_children(stage: Stage, language: str) -> None:
    """A dry run of a termination tells what would happen in sub-workflows too, down to the last (decision 7)."""
    scene = await stage.open("calls", language, held={"inner", "free"})
    children = await stage.children(scene)
    await until(lambda: len(scene.runs) == 3)
    async with stage.unchanged(scene):
        told = (await stage.cancel(scene.id, terminate=operation_pb2.Terminate(), dry_run=True)).dry_run
    assert {each.task_name: each.execution_id for each in told.children} == children
    assert {each.effect.state for each in told.children} == {execution_pb2.EXECUTION_STATE_CANCELLED}
    await end(stage, scene)


DEEP = """
version: '2.0'
dry.deep:
  input: [left]
  tasks:
    more:
      workflow: <% switch($.left > 0 => 'dry.deep', true => 'dry.end') %>
      input: {left: <% $.left - 1 %>}
dry.end:
  input: [left]
  tasks:
    stay: {action: std.async_noop}
"""


async def test_a_dry_run_ends_some_levels_below(stage: Stage) -> None:
    """A dry cancel of 60 nested sub-workflows: a message cannot be nested so deep, so of those below the 20th level it
    is only said that the event reaches them. (Found by scripts/fuzz: it was INTERNAL.)"""
    system = stage.system
    await system.define(DEEP)
    execution_id = await system.begin("dry.deep", {"left": 60})
    below = messages.CountExecutionsRequest(filter=f"root={execution_id}")

    for _ in range(600):
        if (await system.executions.CountExecutions(below, timeout=30)).total >= 62:
            break
        await asyncio.sleep(0.1)
    request = messages.CancelExecutionRequest(execution_id=execution_id, dry_run=True)
    told = (await system.executions.CancelExecution(request, timeout=30)).dry_run
    levels = 0
    while told.children:
        (child,) = told.children
        levels += 1
        if not child.HasField("effect"):
            break
        told = child.effect
    assert (levels, told.children[0].HasField("effect")) == (21, False)
    await system.cancel(execution_id)
    assert state_of(await system.wait(execution_id)) == "CANCELLED"


@both
async def test_a_dry_skip(stage: Stage, language: str) -> None:
    """A dry skip says that the task is skipped and what starts; that joins wait again is not called kept (R15, R19)."""
    scene = await stage.open("chain", language, {"word": "a"}, broken={"second"})
    await stage.rests(scene, "ERROR")
    choice = operation_pb2.ResumeTask(task="second", skip=True, output='"b"')
    async with stage.unchanged(scene):
        told = (await stage.resume(scene.id, choice, dry_run=True)).dry_run
    assert [(each.name, each.reason) for each in told.starts] == [
        ("second", "is skipped: what follows it starts"),
        ("third", ""),
    ]
    assert list(told.may_follow) == []
    assert [each.name for each in told.kept] == ["first"]
    scene = await stage.open("join", language, broken={"left"})
    await stage.rests(scene, "ERROR")
    async with stage.unchanged(scene):
        told = (await stage.resume(scene.id, "left", dry_run=True)).dry_run
    assert [each.name for each in told.starts] == ["left"]
    assert [each.name for each in told.joins_waiting] == ["meet"]
    assert sorted(each.name for each in told.kept) == ["right", "start"]


# Late results


@both
async def test_a_late_result_never_counts(stage: Stage, language: str) -> None:
    """The result of an attempt whose place another one took is refused, and does not count for that one (R9, O36)."""
    scene = await stage.open("chain", language, {"word": "a"}, held={"second"})
    late = await stage.has(scene, "second")
    await stage.cancel(scene.id, terminate=operation_pb2.Terminate())
    scene.waiting.clear()
    await stage.rerun(scene.id, "second")
    await stage.has(scene, "second")
    async with stage.unchanged(scene):
        await stage.executor.finish(late, done(late, result='"late"'))
        await asyncio.sleep(0.3)
    await stage.release(scene, "second")
    assert json.loads((await stage.rests(scene)).output) == {"said": "a!end"}
    assert [state_of(each) for each in await stage.attempts(scene, "second")] == ["CANCELLED", "SUCCESS"]


# Contexts


@both
async def test_what_a_task_published_is_edited(stage: Stage, language: str) -> None:
    """What an ended task published is edited while the execution is PAUSED; what follows sees that (decision 14)."""
    scene = await stage.open("chain", language, {"word": "a"}, held={"second"})
    await stage.has(scene, "second")
    async with stage.unchanged(scene):
        update = messages.UpdateContextRequest(execution_id=scene.id, task="first", set='{"word": "b"}')
        await stage.refuses(stage.system.executions.UpdateContext(update))
    await stage.pause(scene.id)
    await stage.release(scene, "second")
    await stage.rests(scene, "PAUSED")
    update = messages.UpdateContextRequest(execution_id=scene.id, task="second", set='{"said": "b"}', comment="mended")
    await stage.system.executions.UpdateContext(update)
    await stage.resume(scene.id)
    assert json.loads((await stage.rests(scene)).output) == {"said": "bend"}
    (edited,) = [each for each in await stage.system.journal(scene.id) if each.HasField("context_edited")]
    assert (edited.comment, edited.context_edited.task_name, edited.context_edited.set) == (
        "mended",
        "second",
        '{"said":"b"}',
    )


@both
async def test_what_the_execution_was_given_is_edited(stage: Stage, language: str) -> None:
    """Input and variables of a completed execution are edited, and a rerun sees them (decision 14)."""
    scene = await stage.open("chain", language, {"word": "a"})
    await stage.rests(scene)
    update = messages.UpdateContextRequest(execution_id=scene.id, set='{"tail": "fin"}')
    await stage.system.executions.UpdateContext(update)
    await stage.rerun(scene.id, "third")
    assert json.loads((await stage.rests(scene)).output) == {"said": "a!fin"}


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ({}, {"set"}),
        ({"set": "[]"}, {"set"}),
        ({"set": '{"a": 1}', "unset": ["a", ""]}, {"unset[0]", "unset[1]"}),
        ({"task_number": 2, "set": '{"a": 1}'}, {"task"}),
        ({"task_number": -1, "task": "a", "set": '{"a": 1}'}, {"task_number"}),
    ],
)
async def test_edits_that_make_no_sense(stage: Stage, more: dict[str, Any], fields: set[str]) -> None:
    """An edit of nothing, of no object, or of a name both ways is refused with all its fields (decision 14)."""
    scene = await stage.open("chain", "mistral", {"word": "a"})
    await stage.rests(scene)
    request = messages.UpdateContextRequest(execution_id=scene.id, **more)
    async with stage.unchanged(scene):
        call = stage.system.executions.UpdateContext(request)
        failure = await stage.refuses(call, grpc.StatusCode.INVALID_ARGUMENT)
    assert {each.subject for each in failure.violations} == fields


# On many


async def test_many_are_paused_resumed_and_cancelled(stage: Stage) -> None:
    """What the filter chooses is paused, the newest first, each with its outcome; then resumed; then cancelled (O1)."""
    scenes = [await stage.open("asks", "mistral", labels={"of": "many"}) for _ in range(3)]
    for scene in scenes:
        await stage.system.until(scene.id, lambda change: change.attempt_moved.delegated)
    calls = stage.system.executions
    chosen = "label.of=many"
    ids = [scene.id for scene in reversed(scenes)]
    paused = [each async for each in calls.PauseExecutions(messages.PauseExecutionsRequest(filter=chosen))]
    assert [each.outcome.execution_id for each in paused] == ids
    assert {state_of(each.outcome.execution) for each in paused} == {"PAUSED"}
    assert {each.outcome.execution.input for each in paused} == {""}
    await stage.resume(ids[1])
    resumed = [each.outcome async for each in calls.ResumeExecutions(messages.ResumeExecutionsRequest(filter=chosen))]
    assert [each.WhichOneof("result") for each in resumed] == ["execution", "refusal", "execution"]
    assert resumed[1].refusal.code == "FAILED_PRECONDITION"
    assert [each.subject for each in resumed[1].refusal.obstacles] == [f"execution {ids[1]}"]
    cancel = messages.CancelExecutionsRequest(filter=chosen, each=messages.CancelExecutionRequest(comment="all of it"))
    cancelled = [each.outcome.execution async for each in calls.CancelExecutions(cancel)]
    assert {(state_of(each), each.state_info) for each in cancelled} == {("CANCELLED", "all of it")}


async def test_many_are_taken_up_where_the_stream_broke(stage: Stage) -> None:
    """A resume token continues after the one it came with; with a request id what was done is not done twice, and
    executions that come into being meanwhile are not among them (O16)."""
    scenes = [await stage.open("apart", "mistral", labels={"of": "again"}) for _ in range(4)]
    for scene in scenes:
        await stage.rests(scene)
    each = messages.RerunExecutionRequest(start_from=operation_pb2.RERUN_FROM_BEGINNING, request_id="again")
    request = messages.RerunExecutionsRequest(filter="label.of=again", each=each, rate=2)
    calls = stage.system.executions
    stream: Any = calls.RerunExecutions(request)
    first = await stream.read()
    stream.cancel()
    request.resume_token, request.rate = first.resume_token, 0
    rest = [each.outcome async for each in calls.RerunExecutions(request)]
    outcomes = [first.outcome, *rest]
    assert [each.execution_id for each in outcomes] == [scene.id for scene in reversed(scenes)]
    listed = messages.ListExecutionsRequest(filter="label.of=again", page_size=100)
    found = {each.id: each.labels["rerun-of"] for each in (await calls.ListExecutions(listed)).executions}
    assert {found[each.execution.id] for each in outcomes} == {scene.id for scene in scenes}
    assert len(found) == 8, "each was repeated once"
    for outcome in outcomes:
        await stage.system.wait(outcome.execution.id)


async def test_many_in_a_dry_run(stage: Stage) -> None:
    """A dry run on many tells what would become of each, and changes nothing."""
    scene = await stage.open("apart", "mistral", labels={"of": "dry"}, broken={"one"})
    await stage.rests(scene, "ERROR")
    each = messages.RerunExecutionRequest(start_from=operation_pb2.RERUN_FROM_FAILED, dry_run=True)
    request = messages.RerunExecutionsRequest(filter="label.of=dry", each=each)
    async with stage.unchanged(scene):
        (outcome,) = [each.outcome async for each in stage.system.executions.RerunExecutions(request)]
    assert [task.name for task in outcome.dry_run.starts] == ["one"]


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ({}, {"filter"}),
        ({"filter": "of=x"}, {"filter"}),
        ({"filter": "state=ERROR", "rate": 1001}, {"rate"}),
        ({"filter": "state=ERROR", "resume_token": "x"}, {"resume_token"}),
        (
            {
                "rate": -1,
                "each": messages.RerunExecutionRequest(
                    execution_id="x", expected_revision=1, new_execution_id="y", request_id="r" * 250
                ),
            },
            {
                "filter",
                "rate",
                "each.execution_id",
                "each.expected_revision",
                "each.new_execution_id",
                "each.request_id",
            },
        ),
    ],
)
async def test_many_that_make_no_sense(stage: Stage, more: dict[str, Any], fields: set[str]) -> None:
    """Without a filter, or with what names single executions, an operation on many is refused with all its fields."""
    call = stage.system.executions.RerunExecutions(messages.RerunExecutionsRequest(**more))
    failure = await stage.refuses(call.read(), grpc.StatusCode.INVALID_ARGUMENT)
    assert {each.subject for each in failure.violations} == fields


# The command line


async def typed(stage: Stage, *words: str) -> tuple[int, str]:
    """What a command at this server says."""
    command = [sys.executable, "-m", "dalsegno.cli.main", *words, "--server", stage.system.api.address]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DALSEGNO_")}
    process = await asyncio.create_subprocess_exec(
        *tied(*command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**environment, "PYTHONPATH": str(SOURCES)},
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


async def test_the_command_line_is_a_client(stage: Stage) -> None:
    """What the command line does are the operations of the public contract, as the journal shows: resume by item, skip,
    rerun and an edited context (R28, R1)."""
    scene = await stage.open("items", "mistral", {"list": [5, 6]}, broken={("many", 1)})
    await stage.rests(scene, "ERROR")
    scene.broken.clear()
    code, told = await typed(stage, "resume", scene.id, "--task", "many", "--item", "1", "--dry-run")
    assert (code, "many (1) items 1" in told) == (0, True), told
    item = ("--item", "1", "--item-input", '{"give": 60}')
    code, told = await typed(stage, "resume", scene.id, "--task", "many", *item, "--wait", "-m", "typed")
    assert code == 0, told
    code, told = await typed(stage, "context", scene.id, "--task", "many", "--set", "all=edited")
    assert code == 0, told
    code, told = await typed(stage, "rerun", scene.id, "--tasks", "after", "--wait")
    assert code == 0, told
    causes = list(dict.fromkeys(each.cause for each in await stage.system.journal(scene.id)))
    assert [each for each in causes if each.endswith(("_requested", "_updated"))] == [
        "start_requested",
        "resume_requested",
        "context_updated",
        "rerun_requested",
    ]
    assert [json.loads(each.input)["give"] for each in await stage.attempts(scene, "after")] == [[5, 60], "edited"]
    code, told = await typed(stage, "resume", scene.id, "--skip", "nowhere", "--result", "1")
    assert (code, "task nowhere" in told) == (2, True), told
