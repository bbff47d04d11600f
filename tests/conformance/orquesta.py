"""Orquesta's recorded cases, put through the front-end and the core in virtual time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.conformance.orquesta_views import View, run_differences
from tests.conformance.test_orquesta_validation import expected_places, inspect, part_of, variable_of
from tests.world import HOLD, Played, World, described, play_standard

from dalsegno.definitions.document import read
from dalsegno.expressions.compile import compile_template
from dalsegno.expressions.language import ORQUESTA
from dalsegno.workflow.events import TaskDone
from dalsegno.workflow.execution import Attempt, Execution, TaskExecution
from dalsegno.workflow.model import ActionDescription
from dalsegno.workflow.states import COMPLETED_ATTEMPT
from dalsegno.workflow.value import NULL, Value

OUTCOMES = {
    "succeeded": "succeeded",
    "failed": "failed",
    "timeout": "failed",
    "abandoned": "failed",
    "canceled": "cancelled",
    "pending": "delegated",
    "paused": "paused",
}
"""How an executor says it; what is not here is `running`."""

ENVIRONMENTS: dict[str, Mapping[str, object]] = {"system": {"st2kv_test": "foobar"}}
"""What StackStorm's datastore held: `system.st2kv_test`."""

Key = tuple[str, str, int, int | None]
"""Where an action runs: the path to its sub-workflow, its task, its route, its item."""


class AnyAction(dict[str, ActionDescription]):
    """An engine that knows every action, as the recordings' had to."""

    def get(self, name: str, default: Any = None) -> ActionDescription:
        """What is known of the action: that it exists."""
        return super().get(name) or described(name, accepts_any=True)


def world_of(case: dict[str, Any]) -> tuple[World, str]:
    """A world with the case's definitions and actions, in which nothing ends by itself but tasks without an action."""
    world = World(actions=AnyAction(), environments=ENVIRONMENTS)
    world.player = lambda execution, attempt: play_actionless(world, execution, attempt)
    for name, action in (case.get("actions") or {}).items():
        if "definition" in action:
            _define(world, name, action["definition"], action)
        else:
            world.actions[name] = _described(name, action.get("parameters") or {})
    name = case.get("ref") or "case"
    _define(world, name, case["definition"], case.get("action_metadata") or {})
    return world, name


def _define(world: World, name: str, text: str, metadata: dict[str, Any]) -> None:
    """Store a workflow. StackStorm has defaults for its input beside the text: they are laid over those within it."""
    member = read(text, name=name).members[0]
    assert member.workflow is not None
    defaults = {
        parameter: compile_template(about["default"], _no_problem, language=ORQUESTA)
        for parameter, about in (metadata.get("parameters") or {}).items()
        if "default" in about
    }
    parameters = tuple(replace(one, default=defaults.get(one.name, one.default)) for one in member.workflow.input)
    world.add(replace(member.workflow, input=parameters))


def _no_problem(problem: object) -> None:
    raise AssertionError(problem)


def _described(name: str, parameters: dict[str, Any]) -> ActionDescription:
    known = [parameter if one.get("required") else f"{parameter}=" for parameter, one in parameters.items()]
    return described(name, *known, accepts_any=True)


def play_actionless(world: World, execution: Execution, attempt: Attempt) -> Played:
    """A task without an action succeeds at once; for everything else somebody reports."""
    return play_standard(execution, attempt) if is_actionless(world, execution, attempt) else HOLD


def is_actionless(world: World, execution: Execution, attempt: Attempt) -> bool:
    """Whether the attempt belongs to a task that has no action: the recordings know of none then."""
    task = world.compiled[execution.created.definition_id].tasks[execution.tasks[attempt.key[0]].name]
    return task.action is None and task.workflow is None


def path_of(world: World, execution: Execution) -> str:
    """The tasks that lead from the root to this sub-workflow."""
    names: list[str] = []
    while (link := execution.created.parent) is not None:
        execution = world.executions[link.execution_id]
        names.insert(0, execution.tasks[link.key[0]].name)
    return "/".join(names)


def key_of(world: World, execution: Execution, attempt: Attempt) -> Key:
    """Where this attempt runs."""
    task = execution.tasks[attempt.key[0]]
    item = attempt.key[1] if task.item_count is not None else None
    return path_of(world, execution), task.name, task.route, item


class Recording:
    """The results of a case's actions, each given out once, in the order in which the recording's actions ended."""

    def __init__(self, recorded: list[dict[str, Any]], script: list[dict[str, Any]]) -> None:
        self._left: dict[Key, list[tuple[int, dict[str, Any]]]] = {}
        for place, one in enumerate(recorded):
            key = (one.get("path") or "", one["task"], one.get("route") or 0, one.get("item"))
            self._left.setdefault(key, []).append((place, one))
        self._script = list(script)

    def choose(self, running: list[Key]) -> tuple[int, dict[str, Any]] | None:
        """Which of these ends next, and with what; None when the recording knows of none of them."""
        known = [number for number, key in enumerate(running) if self._left.get(key)]
        for line in self._script:
            for number in known:
                if _is_meant(line, running[number]):
                    if not line.get("repeat"):
                        self._script.remove(line)
                    return number, self.take(running[number])
        number = min(known, key=lambda one: self._left[running[one]][0][0], default=-1)
        return None if number < 0 else (number, self.take(running[number]))

    def take(self, key: Key) -> dict[str, Any]:
        """The next result of what runs there. KeyError when there is none (left)."""
        if not self._left.get(key):
            raise KeyError(key)
        return self._left[key].pop(0)[1]


def _is_meant(line: dict[str, Any], key: Key) -> bool:
    path, task, route, item = key
    if line["task"] != task or (line.get("path") or "") != path:
        return False
    return line.get("route") in (None, route) and line.get("item") in (None, item)


def differences(case: dict[str, Any]) -> list[str]:
    """What came otherwise than expected; nothing when the case agrees."""
    problems = {
        (problem.category, part_of(problem.path), variable_of(problem.message, problem.category))
        for problem in inspect(case)
    }
    expected = expected_places(case)
    if case["kind"] == "validate" or problems or expected:
        told = [] if problems == expected else [f"expected problems {sorted(expected)}, came {sorted(problems)}"]
        return told + _verdict(case["definition"], {category for category, _, _ in expected} - {"content"})
    world, name = world_of(case)
    execution = world.start(name, case["input"])
    told = play(world, case["action_results"])
    world.check_journals()
    return run_differences(case["expect"], view_of(world, execution), case) + told


def _verdict(text: str, expected: set[str]) -> list[str]:
    problems = read(text, name="case").problems
    if bool(problems) == bool(expected):
        return []
    return [f"expected {'rejected' if expected else 'valid'}, came {'; '.join(map(str, problems)) or 'no problems'}"]


def play(world: World, results: dict[str, Any]) -> list[str]:
    """Let everything run and end as recorded, to the end; what was never recorded."""
    recording = Recording(results["recorded"], results.get("script") or [])
    while True:
        world.run()
        held = [(world.executions[execution_id], attempt) for (execution_id, _), attempt in world.held.items()]
        keys = [key_of(world, execution, attempt) for execution, attempt in held]
        chosen = recording.choose(keys)
        if chosen is None:
            return [f"runs {key}, which was not recorded" for key in keys]
        number, one = chosen
        report(world, *held[number], one["status"], one["result"])


def report(world: World, execution: Execution, attempt: Attempt, status: str, result: object) -> None:
    """What the action says of itself, in Orquesta's words."""
    outcome = OUTCOMES.get(status, "running")
    is_verdict = outcome in ("succeeded", "failed", "cancelled")
    value = Value(data=result) if is_verdict and result is not None else None
    event = TaskDone(
        at_s=world.now_s,
        key=attempt.key,
        outcome=outcome,
        delivery=None if attempt.delegated else attempt.delivery,
        result=NULL if outcome == "succeeded" and value is None else value,
        error=f"the action has {status}" if outcome == "failed" else "",
    )
    world.tell(execution.id, event)
    if is_verdict or outcome == "delegated":
        world.held.pop((execution.id, attempt.key), None)


def view_of(world: World, execution: Execution) -> View:
    """What came, as the comparisons want it."""
    began = {key[0] for key in execution.attempts}
    return {
        "state": str(execution.state),
        "info": execution.info,
        "output": None if execution.output is None else execution.output.data,
        "errors": _error_names(execution),
        "tasks": [_task_view(task, task.number in began) for task in execution.tasks.values()],
        "executions": [
            _attempt_view(execution, attempt)
            for attempt in execution.attempts.values()
            if not is_actionless(world, execution, attempt)
        ],
    }


def _error_names(execution: Execution) -> list[str]:
    """The tasks that the list of errors names, as it is told once the execution has ended."""
    told = execution.told_errors.data if execution.told_errors is not None else []
    assert isinstance(told, list)
    return [error.get("task_id") or "" for error in told]


def _task_view(task: TaskExecution, began: bool) -> dict[str, Any]:
    return {
        "name": task.name,
        "route": task.route,
        "state": str(task.state),
        "info": task.info,
        "published": {name: value.data for name, value in task.published.items()},
        "began": began or task.item_count is not None,
    }


def _attempt_view(execution: Execution, attempt: Attempt) -> dict[str, Any]:
    task = execution.tasks[attempt.key[0]]
    return {
        "task": task.name,
        "route": task.route,
        "item": attempt.key[1] if task.item_count is not None else None,
        "state": str(attempt.state),
        "input": attempt.input.data,
        "delegated": attempt.delegated,
        "is_child": bool(attempt.child_id),
    }


def open_attempts(execution: Execution) -> list[Attempt]:
    """Those that somebody may still report on."""
    return [attempt for attempt in execution.attempts.values() if attempt.state not in COMPLETED_ATTEMPT]
