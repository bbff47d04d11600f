"""The runner itself: what it takes for a difference, and what it must not. The cases are made up for this."""

from __future__ import annotations

from typing import Any

import pytest
from tests.conformance import mistral, mistral_operations, orquesta, orquesta_operations, run
from tests.conformance.comparing import agrees, has_same_shape, masked, task_differences
from tests.conformance.core_stage import CoreStage
from tests.conformance.orquesta_inspection import inspection_differences
from tests.conformance.orquesta_views import active_differences
from tests.conformance.stage import Refused

CHAIN = """
version: '2.0'
mill:
  output: {who: <% $.get(who) %>}
  tasks:
    corn: {action: std.noop, on-success: flour}
    flour: {action: std.echo output=<% env().get(who) %>, publish: {who: <% task().result %>}}
"""
HELD = {"mill/corn": [{"hold": True}]}
CORN = {"workflow": "mill", "task": "corn", "nth": 0, "index": 0}
MILL = {"workflow": "mill"}
GROUND = {"op": "result", "on": CORN, "result": {"data": None}}
PAUSE, RESUME = {"op": "pause", "on": MILL}, {"op": "resume", "on": MILL}


def done(name: str, published: Any = None, **more: Any) -> dict[str, Any]:
    accepted = [{"name": "std.noop", "state": "SUCCESS", "accepted": True}]
    return {"name": name, "state": "SUCCESS", "published": published or {}, "actions": accepted, **more}


async def operate(*steps: dict[str, Any], text: str = CHAIN, **expect: Any) -> list[str]:
    """The differences of an operation of Mistral's."""
    start = {"op": "start", "workflow": "mill", "input": {}, "params": {"env": {"who": "anna"}}}
    case = {"definition": text, "action_results": HELD, "steps": [start, *steps], "expect": expect}
    kind = run.KINDS["mistral-operations"]
    return await mistral_operations.differences(kind.core_stage(case), case)


async def start_mistral(**case: Any) -> list[str]:
    """The differences of a case of Mistral's."""
    whole = {"kind": "workflow", "workflow": "mill", "input": {}, "params": {}, "definition": CHAIN, **case}
    return await mistral.differences(run.KINDS["mistral-cases"].core_stage(whole), whole)


async def play_orquesta(text: str, recorded: list[dict[str, Any]], **expect: Any) -> list[str]:
    """The differences of a run of Orquesta's."""
    case = {
        "kind": "run",
        "definition": text,
        "input": {},
        "action_results": {"recorded": recorded},
        "expect": {"errors": [], "output": None, "tasks": [], "executions": [], **expect},
    }
    return await orquesta.differences(run.KINDS["orquesta-cases"].core_stage(case), case)


async def replay(text: str, steps: list[dict[str, Any]], expect: list[dict[str, Any]]) -> list[str]:
    """The differences of an operation of Orquesta's."""
    case = {"kind": "steps", "definition": text, "input": {}, "steps": steps, "expect": expect}
    return await orquesta_operations.differences(run.KINDS["orquesta-operations"].core_stage(case), case)


async def test_what_waits_for_a_resume_need_not_be_recorded() -> None:
    """Decision 6: a task that is selected while its execution is PAUSED is IDLE; Mistral stores none."""
    assert await operate(PAUSE, GROUND, state="PAUSED", tasks=[done("corn")]) == []
    came: list[dict[str, Any]] = [{"name": "flour", "state": state, "published": {}} for state in ("IDLE", "WAITING")]
    assert task_differences([], came, unrecorded={"IDLE"}) == ["came task flour WAITING published {} accepted []"]


async def test_a_resume_brings_an_environment() -> None:
    """R2: what is merged into the environment is seen by what begins after the resume."""
    resume = {**RESUME, "env": {"who": "berta"}}
    tasks = [done("corn"), done("flour", {"who": "berta"})]
    assert await operate(PAUSE, GROUND, resume, state="SUCCESS", output={"who": "berta"}, tasks=tasks) == []


@pytest.mark.parametrize("environment", [["anna"], 7, ""])
async def test_an_environment_is_an_object(environment: object) -> None:
    """The core's stage refuses what the api refuses."""
    stage = CoreStage(mistral.Script({}))
    await stage.define(CHAIN)
    with pytest.raises(Refused, match="must be an object"):
        await stage.start("mill", {}, params={"env": environment})
    assert await start_mistral(params={"env": environment}, expect={"rejected_at": "start"}) == []


async def test_an_environment_of_a_resume_is_an_object() -> None:
    """A refusal that is recorded is none that is told."""
    resume = {**RESUME, "env": ["berta"], "raises": "InputException"}
    assert await operate(PAUSE, GROUND, resume, state="PAUSED", tasks=[done("corn")]) == []


async def test_items_that_never_began() -> None:
    """Orquesta has no entry of a task whose items cannot be told."""
    text = """
version: 1.0
vars: [{sheep: 3}]
tasks: {count: {action: core.noop, with: <% ctx(sheep) %>}}
"""
    assert await play_orquesta(text, [], status="failed", errors=[{"type": "error", "task_id": "count"}]) == []


def test_delayed_items_are_counted_one_by_one() -> None:
    """Here the task is delayed, there each item is; in a PAUSED execution nothing delayed is active."""
    wanted = [{"task": "wash", "route": 0, "item": item, "status": "delayed"} for item in range(2)]
    task = {"name": "wash", "route": 0, "state": "RUNNING_DELAYED", "items": None}
    view = {"state": "RUNNING", "tasks": [task], "executions": []}
    assert active_differences(wanted, view) == []
    assert active_differences(wanted[:1], {**view, "tasks": [{**task, "items": 2}]}) == []
    assert active_differences(wanted, {**view, "tasks": [{**task, "items": 1}]}) == [
        "expected action of wash~0[1] delayed input None"
    ]
    assert active_differences([], view) == ["came action of wash~0 RUNNING input None"]
    assert active_differences([], {**view, "state": "PAUSED"}) == []


async def test_a_failure_may_have_null_as_its_result() -> None:
    """A result that is null is one; where there is none, the error stands in its place."""
    text = """
version: 1.0
output: [{told: <% ctx(told) %>}]
tasks: {ask: {action: core.noop, next: [{publish: [{told: <% result() %>}], do: noop}]}}
"""
    recorded = [{"task": "ask", "status": "failed", "result": None}]
    entry = {"task": "ask", "route": 0, "action": "core.noop", "status": "failed"}
    errors = [{"type": "error", "task_id": "ask"}]
    expect = {"status": "succeeded", "output": {"told": None}, "executions": [entry], "errors": errors}
    tasks = [{"id": "ask", "route": 0, "status": "failed"}]
    assert await play_orquesta(text, recorded, tasks=tasks, **expect) == []
    assert mistral.played({"error": None}).value is not None


UNREGISTERED = 'The action "pack.gone" is not registered in the database.'


@pytest.mark.parametrize(
    ("action", "message", "agrees"),
    [
        ("pack.gone", UNREGISTERED, True),
        ("pack.there", UNREGISTERED, False),
        ("core.echo", 'Action "core.echo" is missing required input "message".', True),
        ("core.echo", 'Action "core.echo" is missing required input "text".', False),
        ("pack.there needed=1", "", True),
        ("pack.there", 'Action "pack.there" is missing required input "needed".', True),
    ],
)
async def test_the_registry_is_that_of_the_case(action: str, message: str, agrees: bool) -> None:
    """Which actions were registered is said by the case, and what is found about them is compared."""
    parameters = {"needed": {"required": True}, "rest": {"required": True, "default": 1}}
    errors = [{"type": "content", "message": message, "spec_path": "tasks.call.action"}] if message else []
    case = {
        "kind": "validate",
        "st2": True,
        "definition": f"{{version: 1.0, tasks: {{call: {{action: {action}}}}}}}",
        "actions": {"pack.there": {"parameters": parameters}},
        "expect": {"valid": not errors, "errors": errors},
    }
    assert (await inspection_differences(CoreStage(orquesta.player), case) == []) == agrees


async def test_an_application_gives_variables() -> None:
    """They are there before the input; without them a reference is a problem."""
    text = "{version: 1.0, tasks: {call: {action: core.noop, input: {who: <% ctx(farmer) %>}}}}"
    case = {"kind": "validate", "definition": text, "app_ctx": {"farmer": "anna"}, "expect": {"errors": []}}
    assert await inspection_differences(CoreStage(orquesta.player), case) == []
    assert await inspection_differences(CoreStage(orquesta.player), {**case, "app_ctx": {}})


async def test_what_the_context_says_of_its_execution() -> None:
    """The language is that of the definition; ids and addresses are another's."""
    text = "{version: 1.0, output: [{st2: <% ctx(st2) %>}], tasks: {rest: {next: [{do: noop}]}}}"
    told = {
        "action_execution_id": "64b0c8f3a1d2e3f405162738",
        "workflow_execution_id": "64b0c8f3a1d2e3f405162739",
        "api_url": "http://127.0.0.1/api/v1",
        "user": "",
        "pack": "",
        "action": "case",
        "runner": "orquesta",
    }
    tasks = [{"id": "rest", "route": 0, "status": "succeeded"}]
    assert await play_orquesta(text, [], status="succeeded", output={"st2": told}, tasks=tasks) == []
    runner = {**told, "runner": "mistral"}
    assert await play_orquesta(text, [], status="succeeded", output={"st2": runner}, tasks=tasks)


def test_ids_and_addresses_are_masked() -> None:
    """Also within a text; other addresses are not."""
    recorded = {
        "said": "see http://127.0.0.1:9101/v1/executions/64b0c8f3a1d2e3f405162738 now",
        "url": "http://example.com",
    }
    assert masked(recorded) == {"said": "see <id> now", "url": "http://example.com"}


async def test_a_replay_tells_all_differences() -> None:
    """What comes after a difference is looked at too, and so is a refusal."""
    text = "{version: 1.0, tasks: {sow: {action: core.noop, next: [{do: reap}]}, reap: {action: core.noop}}}"
    sow = {"op": "complete", "task": "sow", "status": "succeeded", "result": None}
    steps: list[dict[str, Any]] = [{"op": "start"}, {"op": "resume"}, sow, {**sow, "task": "reap"}]
    active = [{"task": "sow", "route": 0, "status": "running"}]
    first = {"status": "running", "tasks": [{"id": "sow", "route": 0, "status": "running"}], "active": active}
    last = {"status": "succeeded", "tasks": [], "active": []}
    expect: list[dict[str, Any]] = [first | {"status": "paused"}, first, last | {"status": "running"}, last]
    told = await replay(text, steps, expect)
    assert any(line.startswith("step 0 start: expected status paused") for line in told)
    assert any(line.startswith("step 1 resume was refused: ") for line in told)
    assert any(line.startswith("step 3 complete") and "came task reap" in line for line in told)


async def test_a_refusal_that_is_not_expected_is_a_difference() -> None:
    """So is a step about what is not there, and a step that is not refused and should be."""
    expect: dict[str, Any] = {
        "state": "SUCCESS",
        "output": {"who": "anna"},
        "tasks": [done("corn"), done("flour", {"who": "anna"})],
    }
    told = await operate(GROUND, RESUME, **expect)
    assert len(told) == 1
    assert "was refused" in told[0]
    assert "was refused" in (await operate(GROUND, {"op": "pause", "on": {"workflow": "barn"}}, **expect))[0]
    assert "expected to be refused" in (await operate({**GROUND, "raises": "ValueError"}, **expect))[0]
    assert await operate(GROUND, {**RESUME, "raises": "WorkflowException"}, **expect) == []


async def test_a_start_that_is_refused_is_a_difference() -> None:
    """There is nothing to be compared with the end then."""
    told = await operate(text=CHAIN.replace("mill:", "barn:"), state="SUCCESS")
    assert len(told) == 1
    assert "was refused" in told[0]


async def test_the_words_that_expressions_see_are_compared() -> None:
    """Only what the runner itself reads of a task has two words; within a value each counts, beside a mark too."""
    wanted = {"name": "nap", "state": "DELAYED", "published": {"said": "DELAYED"}, "actions": []}
    came = {"name": "nap", "state": "RUNNING_DELAYED", "published": {"said": "DELAYED"}}
    assert task_differences([wanted], [came]) == []
    assert task_differences([wanted], [{**came, "published": {"said": "RUNNING_DELAYED"}}])
    assert agrees("task <id> is DELAYED", "task 7 is DELAYED")
    assert not agrees("task <id> is DELAYED", "task 7 is RUNNING_DELAYED")
    assert not agrees("<message>", None)
    assert not agrees(1, True)


async def test_results_are_compared_by_their_shape() -> None:
    """Which tasks a text names counts, not how it is said; that there is none counts too. Of what failed, and of what
    was cancelled."""
    assert has_same_shape("Failure caused by error in tasks: corn", "corn: it rained", {"corn", "flour"})
    assert not has_same_shape("Failure caused by error in tasks: corn", "flour: it rained", {"corn", "flour"})
    assert has_same_shape("<message>", "flour: it rained", {"corn", "flour"})
    assert not has_same_shape(None, "flour: it rained", {"corn", "flour"})
    stop = {"op": "stop", "on": MILL, "state": "CANCELLED", "message": "it rains"}
    tasks = [{"name": "corn", "state": "CANCELLED", "published": {}, "actions": []}]
    for output, agreed in ({"result": "Cancelled by user."}, True), ({"result": None}, False), ({}, False):
        assert (await operate(stop, state="CANCELLED", output=output, tasks=tasks) == []) == agreed
