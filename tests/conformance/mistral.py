"""Mistral's recorded cases, put through the front-end and the core in virtual time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.conformance.cases import agrees, task_differences
from tests.world import HOLD, Played, World, play_standard

from dalsegno.definitions.document import read
from dalsegno.expressions.environment import evaluate_environment
from dalsegno.workflow.execution import Attempt, Execution
from dalsegno.workflow.refusals import NotFound, Refusal


class Script:
    """The recorded results of a case's actions; where there are none the standard actions run."""

    def __init__(self, recorded: dict[str, list[dict[str, Any]]] | None) -> None:
        self._left = {name: list(results) for name, results in (recorded or {}).items()}

    def __call__(self, execution: Execution, attempt: Attempt) -> Played:
        task = execution.tasks[attempt.key[0]]
        full = f"{execution.created.workflow}/{task.name}"
        for name in (f"{full}#{attempt.key[1]}", full, f"{task.name}#{attempt.key[1]}", task.name):
            if self._left.get(name):
                return _played(self._left[name].pop(0))
        return play_standard(execution, attempt)


def _played(recorded: dict[str, Any]) -> Played:
    if recorded.get("hold"):
        return HOLD
    if recorded.get("cancel"):
        return Played("cancelled")
    if "error" in recorded:
        error = recorded["error"]
        return Played("failed", error, error if isinstance(error, str) else "failed")
    return Played(result=recorded.get("data"))


def differences(case: dict[str, Any]) -> list[str]:
    """What came otherwise than expected; nothing when the case agrees."""
    if case["kind"] == "validate":
        return _validation(case)
    world = World(player=Script(case.get("action_results")))
    expect = case["expect"]
    problems = list(define(world, case))
    if problems or expect.get("rejected_at") == "definition":
        wanted = expect.get("rejected_at") == "definition"
        return [] if wanted and problems else [f"definition: expected rejected={wanted}, came {problems}"]
    params = dict(case["params"])
    environment = params.pop("env", None)
    try:
        if isinstance(environment, str):
            stored = case.get("environments") or {}
            if environment not in stored:
                raise NotFound("environment", environment)
            environment = stored[environment]
        if environment and params.pop("evaluate_env", True):
            environment = evaluate_environment(environment, world.now_s, case["id"])
        execution = world.start(
            case["workflow"],
            case["input"],
            params=params,
            environment=environment,
            namespace=case.get("namespace") or "",
        )
    except Refusal as refusal:
        return [] if expect.get("rejected_at") == "start" else [f"start refused: {refusal}"]
    if expect.get("rejected_at") == "start":
        return [f"start: expected to be refused, came {execution.state}"]
    world.run()
    world.check_journals()
    return compare(world, execution, expect)


def define(world: World, case: dict[str, Any]) -> Iterator[str]:
    """Store the case's documents; what is wrong with them."""
    texts = [(extra["definition"], extra.get("namespace") or "") for extra in case.get("extra") or ()]
    for text, namespace in [*texts, (case["definition"], case.get("namespace") or "")]:
        document = read(text)
        if document.problems:
            yield from map(str, document.problems)
        else:
            world.define(text, namespace)


def _validation(case: dict[str, Any]) -> list[str]:
    document = read(case["definition"])
    valid = not document.problems
    if valid == case["expect"]["valid"]:
        return []
    told = "; ".join(map(str, document.problems)) or "no problems"
    return [f"expected {'valid' if case['expect']['valid'] else 'rejected'}, came {told}"]


def compare(
    world: World, execution: Execution, expect: dict[str, Any], states: Mapping[str, str] | None = None
) -> list[str]:
    """State, output and tasks, and the same for sub-workflows. `states` are words for other words that are as good."""
    told = []
    state = str(execution.state)
    if (states or {}).get(state, state) != expect["state"]:
        told.append(f"expected state {expect['state']}, came {execution.state}: {execution.info}")
    output = None if execution.output is None else execution.output.data
    wanted = expect.get("output")
    if execution.state == "ERROR":
        wanted, output = _without_result(wanted), _without_result(output)
    if execution.is_completed and not agrees(wanted or {}, output or {}):
        told.append(f"expected output {wanted}, came {output}")
    told += task_differences(expect.get("tasks", []), [_record(execution, task) for task in execution.tasks.values()])
    for task in expect.get("tasks", []):
        for child in task.get("subworkflows") or ():
            told += _child_differences(world, execution, task, child, states)
    return told


def _without_result(output: object) -> object:
    return {key: value for key, value in output.items() if key != "result"} if isinstance(output, dict) else output


def _record(execution: Execution, task: Any) -> dict[str, Any]:
    attempts = [attempt for attempt in execution.attempts.values() if attempt.key[0] == task.number]
    return {
        "name": task.name,
        "state": str(task.state),
        "published": {name: value.data for name, value in task.published.items()},
        "accepted": [str(attempt.state) for attempt in attempts if attempt.accepted and not attempt.child_id],
    }


def _child_differences(
    world: World,
    execution: Execution,
    task: dict[str, Any],
    expect: dict[str, Any],
    states: Mapping[str, str] | None,
) -> list[str]:
    told: list[str] = []
    for child in world.children(execution):
        link = child.created.parent
        assert link is not None
        if execution.tasks[link.key[0]].name == task["name"]:
            told = compare(world, child, expect, states)
            if not told:
                return []
    return [f"sub-workflow of {task['name']}: {each}" for each in told or ["is missing"]]
