"""Mistral's recorded cases: one runner for the core alone and for the real services."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from tests.conformance.cases import agrees, task_differences
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


class Script:
    """The recorded results of a case's actions; where there are none the standard actions run."""

    def __init__(self, recorded: dict[str, list[dict[str, Any]]] | None) -> None:
        self._left = {name: list(results) for name, results in (recorded or {}).items()}

    def __call__(self, run: Run) -> Played:
        full = f"{run.workflow}/{run.task}"
        for name in (f"{full}#{run.item}", full, f"{run.task}#{run.item}", run.task):
            if self._left.get(name):
                return _played(self._left[name].pop(0))
        attempt: Any = SimpleNamespace(action=run.action, input=SimpleNamespace(data=run.input))
        return play_standard(attempt, attempt)


def _played(recorded: dict[str, Any]) -> Played:
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
    wanted, output = expect.get("output"), execution.output
    if execution.state == "ERROR":
        wanted, output = _without_result(wanted), _without_result(output)
    if execution.state in COMPLETED_EXECUTION and not agrees(wanted or {}, output or {}):
        told.append(f"expected output {wanted}, came {output}")
    told += task_differences(expect.get("tasks", []), [_record(execution, task) for task in execution.tasks.values()])
    for task in expect.get("tasks", []):
        for child in task.get("subworkflows") or ():
            told += _child_differences(stage, execution, task["name"], child, states)
    return told


def _without_result(output: object) -> object:
    return {key: value for key, value in output.items() if key != "result"} if isinstance(output, dict) else output


def _record(execution: SeenExecution, task: SeenTask) -> dict[str, Any]:
    attempts = [attempt for attempt in execution.attempts if attempt.task == task.number]
    return {
        "name": task.name,
        "state": task.state,
        "published": task.published,
        "accepted": [attempt.state for attempt in attempts if attempt.accepted and not attempt.child_id],
    }


def _child_differences(
    stage: Stage, execution: SeenExecution, task: str, expect: dict[str, Any], states: Mapping[str, str] | None
) -> list[str]:
    """Nothing when one of the task's children is as expected."""
    told = ["is missing"]
    for child in children(stage, execution):
        if execution.tasks[child.parent_task].name == task:
            told = compare(stage, child, expect, states)
            if not told:
                return []
    return [f"sub-workflow of {task}: {each}" for each in told]
