"""Mistral's recorded cases: one runner for the core alone and for the real services."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from tests.conformance.comparing import agrees, has_same_shape, task_differences
from tests.conformance.stage import (
    COMPLETED_EXECUTION,
    Refused,
    Run,
    SeenExecution,
    SeenTask,
    Stage,
    children,
    find,
    finish,
)
from tests.world import HOLD, Played, play_standard

PAUSED = {"PAUSING", "PAUSED"}

TOLD_BY_RESULT = {"ERROR", "CANCELLED"}
"""Of these the `result` of an output tells why."""


class Script:
    """The recorded results of a case's actions; where there are none the standard actions run."""

    def __init__(self, recorded: dict[str, list[dict[str, Any]]] | None) -> None:
        self._left = {name: list(results) for name, results in (recorded or {}).items()}

    def __call__(self, run: Run) -> Played:
        full = f"{run.workflow}/{run.task}"
        for name in (f"{full}#{run.item}", full, f"{run.task}#{run.item}", run.task):
            if self._left.get(name):
                return played(self._left[name].pop(0))
        attempt: Any = SimpleNamespace(action=run.action, input=SimpleNamespace(data=run.input))
        return play_standard(attempt, attempt)


def played(recorded: dict[str, Any]) -> Played:
    """How an action ends of which this was recorded."""
    if recorded.get("hold"):
        return HOLD
    if recorded.get("cancel"):
        return Played("cancelled")
    if "error" in recorded:
        error = recorded["error"]
        return Played("failed", error, error if isinstance(error, str) else "failed")
    return Played(result=recorded.get("data"))


async def differences(stage: Stage, case: dict[str, Any]) -> list[str]:
    """What came otherwise than expected; nothing when the case agrees."""
    if case["kind"] == "validate":
        return await _validation(stage, case)
    expect = case["expect"]
    reached = "definition"
    try:
        await define(stage, case)
        reached = "start"
        started = await stage.start(
            case["workflow"], case["input"], params=case["params"], namespace=case.get("namespace") or ""
        )
    except Refused as refused:
        return [] if expect.get("rejected_at") == reached else [f"{reached} refused: {refused}"]
    if "rejected_at" in expect:
        return [f"expected to be refused at {expect['rejected_at']}"]
    await finish(stage)
    return compare(stage, find(stage, started), expect)


async def define(stage: Stage, case: dict[str, Any]) -> None:
    """Store the case's documents and environments. Raises Refused."""
    for name, variables in (case.get("environments") or {}).items():
        await stage.put_environment(name, variables)
    texts = [(extra["definition"], extra.get("namespace") or "") for extra in case.get("extra") or ()]
    for text, namespace in [*texts, (case["definition"], case.get("namespace") or "")]:
        await stage.define(text, namespace=namespace)


async def _validation(stage: Stage, case: dict[str, Any]) -> list[str]:
    problems = await stage.validate(case["definition"])
    if (not problems) == case["expect"]["valid"]:
        return []
    told = "; ".join(f"{each.path}: {each.message}" for each in problems) or "no problems"
    return [f"expected {'valid' if case['expect']['valid'] else 'rejected'}, came {told}"]


def compare(
    stage: Stage, execution: SeenExecution, expect: dict[str, Any], states: Mapping[str, str] | None = None
) -> list[str]:
    """State, output and tasks, and the same for sub-workflows. `states` are words for other words that are as good."""
    told = []
    if (states or {}).get(execution.state, execution.state) != expect["state"]:
        told.append(f"expected state {expect['state']}, came {execution.state}: {execution.info}")
    told += _output_differences(execution, expect)
    came = [_record(execution, task) for task in execution.tasks.values()]
    # What is selected while an execution is paused is IDLE here (decision 6); Mistral stores no task before the resume.
    told += task_differences(expect.get("tasks", []), came, {"IDLE"} if execution.state in PAUSED else ())
    for task in expect.get("tasks", []):
        told += _children_differences(stage, execution, task, states)
    return told


def _output_differences(execution: SeenExecution, expect: dict[str, Any]) -> list[str]:
    """Of an execution that has not ended there is no output to compare."""
    if execution.state not in COMPLETED_EXECUTION:
        return []
    wanted, output = expect.get("output") or {}, execution.output or {}
    told = [f"expected output {wanted}, came {output}"]
    if execution.state not in TOLD_BY_RESULT or not isinstance(wanted, dict) or not isinstance(output, dict):
        return [] if agrees(wanted, output) else told
    if not agrees(_without_result(wanted), _without_result(output)):
        return told
    names = {task["name"] for task in expect.get("tasks", ())}
    has_result = ("result" in wanted, "result" in output)
    same = has_result[0] == has_result[1] and has_same_shape(wanted.get("result"), output.get("result"), names)
    return [] if same else told


def _without_result(output: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in output.items() if key != "result"}


def _record(execution: SeenExecution, task: SeenTask) -> dict[str, Any]:
    attempts = [attempt for attempt in execution.attempts if attempt.task == task.number]
    return {
        "name": task.name,
        "state": task.state,
        "published": task.published,
        "accepted": [attempt.state for attempt in attempts if attempt.accepted and not attempt.child_id],
    }


def _children_differences(
    stage: Stage, execution: SeenExecution, task: dict[str, Any], states: Mapping[str, str] | None
) -> list[str]:
    """Each of the task's sub-workflows is as expected in one of its children, and each child stands for one."""
    left = [each for each in children(stage, execution) if execution.tasks[each.parent_task].name == task["name"]]
    told = []
    for expect in task.get("subworkflows") or ():
        found = [(child, compare(stage, child, expect, states)) for child in left]
        child, differing = min(found, key=lambda each: len(each[1]), default=(None, ["is missing"]))
        if child is not None:
            left.remove(child)
        told += [f"sub-workflow of {task['name']}: {each}" for each in differing]
    return told
