"""Orquesta's recorded cases: one runner for the core alone and for the real services."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from tests.conformance.comparing import masked
from tests.conformance.orquesta_inspection import expected_places, inspection_differences
from tests.conformance.orquesta_views import View, run_differences
from tests.conformance.stage import Refused, Run, SeenExecution, SeenTask, Stage, find, finish, path_of
from tests.world import ABSENT, HOLD, Played

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

ACTIONLESS = "std.noop"
"""What runs a task that has no action: the recordings know of none then."""

Key = tuple[str, str, int, int | None]
"""Where an action runs: the path to its sub-workflow, its task, its route, its item."""


def player(run: Run) -> Played:
    """A task without an action ends at once; for everything else the runner reports."""
    return Played() if run.action == ACTIONLESS else HOLD


def actions_of(chosen: Iterable[dict[str, Any]]) -> set[str]:
    """All that an executor has to offer: what was run there, and what runs a task without an action."""
    names = {ACTIONLESS, "core.noop", "core.echo", "core.local", "core.ask"}
    workflows: set[str] = set()
    for case in chosen:
        if not is_run(case):
            continue
        workflows |= {name for name, each in (case.get("actions") or {}).items() if "definition" in each}
        texts = [case["definition"], *(each.get("definition", "") for each in (case.get("actions") or {}).values())]
        names |= {word for text in texts for word in re.findall(r"action: ([a-z_]+\.[\w.-]+)", text)}
        if isinstance(case["expect"], dict):
            names |= {each["action"] for each in case["expect"]["executions"]}
    return names - workflows


async def define(stage: Stage, case: dict[str, Any]) -> str:
    """Store what a case needs; the name of its workflow."""
    for name, variables in ENVIRONMENTS.items():
        await stage.put_environment(name, variables)
    for name, action in (case.get("actions") or {}).items():
        if "definition" in action:
            await stage.define(with_defaults(action["definition"], action), name=name)
    name = case.get("ref") or "case"
    await stage.define(with_defaults(case["definition"], case.get("action_metadata") or {}), name=name)
    return name


def with_defaults(text: str, metadata: dict[str, Any]) -> str:
    """The definition, with StackStorm's defaults for its input merged into its own."""
    defaults = {
        name: about["default"] for name, about in (metadata.get("parameters") or {}).items() if "default" in about
    }
    if not defaults:
        return text
    document = yaml.safe_load(text)
    names = [next(iter(one)) if isinstance(one, dict) else one for one in document.get("input") or ()]
    if not defaults.keys() & set(names):
        return text
    document["input"] = [
        {name: defaults[name]} if name in defaults else one for name, one in zip(names, document["input"], strict=True)
    ]
    return yaml.safe_dump(document, sort_keys=False)


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


def is_run(case: dict[str, Any]) -> bool:
    """Whether there is anything to be run: the original would not start what it found problems in."""
    return case["kind"] == "steps" or (case["kind"] == "run" and not expected_places(case))


async def differences(stage: Stage, case: dict[str, Any]) -> list[str]:
    """What came otherwise than expected; nothing when the case agrees."""
    told = await inspection_differences(stage, case)
    if not is_run(case):
        return told
    try:
        execution_id = await stage.start(await define(stage, case), case["input"])
        told += await play(stage, case["action_results"])
    except Refused as refused:
        return [*told, f"it was refused: {refused}"]
    return told + run_differences(masked(case["expect"]), view_of(find(stage, execution_id)), case)


async def play(stage: Stage, results: dict[str, Any]) -> list[str]:
    """Let everything run and end as recorded, to the end; what was never recorded."""
    recording = Recording(results["recorded"], results.get("script") or [])
    while True:
        await finish(stage)
        held = stage.held
        keys = [key_of(stage, run) for run in held]
        chosen = recording.choose(keys)
        if chosen is None:
            return [f"runs {key}, which was not recorded" for key in keys]
        number, one = chosen
        await stage.report(held[number].id, told_by(one["status"], one["result"]))


def key_of(stage: Stage, run: Run) -> Key:
    """Where this action runs."""
    execution = find(stage, run.execution_id)
    task = execution.tasks[run.number]
    return path_of(stage, execution), task.name, task.route, None if task.items is None else run.item


def told_by(status: str, result: object) -> Played:
    """What the action says of itself, from Orquesta's words."""
    outcome = OUTCOMES.get(status, "running")
    is_verdict = outcome in ("succeeded", "failed")
    return Played(outcome, result if is_verdict else ABSENT, f"the action has {status}" if outcome == "failed" else "")


def view_of(execution: SeenExecution) -> View:
    """What came, as the comparisons want it."""
    began = {attempt.task for attempt in execution.attempts}
    return {
        "state": execution.state,
        "info": execution.info,
        "output": execution.output,
        "errors": execution.errors,
        "tasks": [_task_view(task, task.number in began) for task in execution.tasks.values()],
        "executions": [
            {
                "task": execution.tasks[attempt.task].name,
                "route": execution.tasks[attempt.task].route,
                "item": None if execution.tasks[attempt.task].items is None else attempt.item,
                "state": attempt.state,
                "input": attempt.input,
                "delegated": attempt.delegated,
                "is_child": bool(attempt.child_id),
                "is_filled": attempt.is_filled,
            }
            for attempt in execution.attempts
            if attempt.action != ACTIONLESS
        ],
    }


def _task_view(task: SeenTask, began: bool) -> dict[str, Any]:
    return {
        "name": task.name,
        "route": task.route,
        "state": task.state,
        "info": task.info,
        "published": task.published,
        "items": task.items,
        "began": began,
    }
