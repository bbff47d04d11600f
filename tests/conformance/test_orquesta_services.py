"""A sample of Orquesta's recorded cases through the real services: an executor of our own plays the results."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.conformance import cases
from tests.conformance.orquesta import ENVIRONMENTS, OUTCOMES, Key, Recording
from tests.conformance.orquesta_views import View, run_differences
from tests.conformance.run import listed
from tests.conformance.test_orquesta_validation import expected_places, inspect
from tests.integration.engines import ScriptedExecutor, done, until
from tests.processes import CALL_S, System, state_of

from dalsegno.actions.registry import builtin_descriptions
from dalsegno.v1 import environment_service_pb2, execution_pb2, execution_service_pb2, executor_service_pb2
from dalsegno.workflow.model import ActionDescription
from dalsegno.workflow.scope import Constant

CASES_MIN = 100
CASES_MAX = 130
AT_ONCE = 8
CASE_S = 60.0
LOOK_S = 0.02

SLOW = re.compile(r"delay")
"""What takes longer than its steps."""

WIRE_OUTCOMES = {
    "succeeded": executor_service_pb2.TASK_OUTCOME_SUCCEEDED,
    "failed": executor_service_pb2.TASK_OUTCOME_FAILED,
    "cancelled": executor_service_pb2.TASK_OUTCOME_CANCELLED,
    "delegated": executor_service_pb2.TASK_OUTCOME_DELEGATED,
}


def sample() -> list[dict[str, Any]]:
    """Cases that agree and take no longer than their steps, evenly from all sources."""
    known = listed("orquesta")
    builtin = {action.name: action for action in builtin_descriptions()}
    found = [
        case
        for case in cases.load("orquesta/cases.jsonl")
        if case["kind"] == "run" and case["id"] not in known and not SLOW.search(case["definition"])
        if not _has_defaults_aside(case) and not expected_places(case) and not inspect(case)
        if all(_is_taken(each, builtin) for each in case["expect"]["executions"])
    ]
    every = max(1.0, len(found) / CASES_MAX)
    return [found[int(place * every)] for place in range(min(len(found), CASES_MAX))]


def _has_defaults_aside(case: dict[str, Any]) -> bool:
    """Whether a workflow of the case has defaults that only StackStorm's metadata knows of."""
    described = [case.get("action_metadata") or {}, *(case.get("actions") or {}).values()]
    return any("default" in about for each in described for about in (each.get("parameters") or {}).values())


def _is_taken(ran: dict[str, Any], builtin: Mapping[str, ActionDescription]) -> bool:
    """Whether the action takes that input as it is: the original's unit tests gave theirs whatever they liked."""
    action = builtin.get(ran["action"])
    given = ran.get("input")
    if action is None or given is None:
        return True
    names = {each.name for each in action.parameters}
    filled_in = {each.name for each in action.parameters if each.default not in (None, Constant(None))} - given.keys()
    missing = {each.name for each in action.parameters if each.required} - given.keys()
    return (action.accepts_any or given.keys() <= names) and not filled_in and not missing


def actions_of(chosen: Iterable[dict[str, Any]]) -> tuple[tuple[str, bool], ...]:
    """All that the executor has to offer: what was run there, and what runs a task without an action."""
    workflows = {name for case in chosen for name, each in (case.get("actions") or {}).items() if "definition" in each}
    names = {each["action"] for case in chosen for each in case["expect"]["executions"]} - workflows
    named = {word for case in chosen for word in re.findall(r"action: ([a-z_]+\.[\w.-]+)", case["definition"])}
    return tuple((name, True) for name in sorted({"std.noop", *names, *(named - workflows)}))


class Tree:
    """An execution and its sub-workflows, as the api tells of them now."""

    def __init__(self, system: System, root_id: str) -> None:
        self.system = system
        self.root_id = root_id
        self.executions: dict[str, execution_pb2.Execution] = {}
        self.tasks: dict[tuple[str, int], execution_pb2.TaskExecution] = {}

    async def look(self) -> None:
        """Read all of it."""
        self.executions = {self.root_id: await self.system.get(self.root_id)}
        listing = execution_service_pb2.ListExecutionsRequest(filter=f"root={self.root_id}", full=True)
        for each in (await self.system.executions.ListExecutions(listing, timeout=CALL_S)).executions:
            self.executions.setdefault(each.id, each)
        for name in self.executions:
            self.tasks |= {(name, task.number): task for task in await self.system.tasks(name)}

    @property
    def root(self) -> execution_pb2.Execution:
        return self.executions[self.root_id]

    @property
    def working(self) -> int:
        """How many actions are with executors, or about to be; a child counts there only by what it does itself."""
        children = [each for each in self.executions.values() if each.parent_execution_id]
        active = sum(each.active_count for each in self.executions.values())
        return active - sum(not each.HasField("ended_at") and state_of(each) != "PAUSED" for each in children)

    def knows(self, run: executor_service_pb2.RunAction) -> bool:
        """Whether the task was there already when this looked."""
        return (run.context.execution_id, run.context.task_number) in self.tasks

    def key(self, run: executor_service_pb2.RunAction) -> Key:
        """Where it runs."""
        task = self.tasks[run.context.execution_id, run.context.task_number]
        item = run.context.item if task.HasField("items") else None
        return self.path(run.context.execution_id), task.name, task.route, item

    def path(self, execution_id: str) -> str:
        """The tasks that lead to a sub-workflow."""
        names: list[str] = []
        while parent := self.executions[execution_id].parent_execution_id:
            names.insert(0, self.tasks[parent, self.executions[execution_id].parent_task_number].name)
            execution_id = parent
        return "/".join(names)


class Player:
    """Holds back what the engine hands out, until a case's turn comes to say how it ends."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.held: dict[str, list[executor_service_pb2.RunAction]] = {}
        self.executor: ScriptedExecutor | None = None

    def __call__(self, run: executor_service_pb2.RunAction) -> executor_service_pb2.TaskDone | None:
        """A task without an action ends at once."""
        if run.action == "std.noop":
            return done(run)
        self.held.setdefault(run.context.namespace, []).append(run)
        return None

    async def play(self, namespace: str, root_id: str, results: dict[str, Any]) -> list[str]:
        """Let actions end as recorded until nothing runs any more; what was never recorded."""
        recording = Recording(results["recorded"], results.get("script") or [])
        tree = Tree(self.system, root_id)
        held = self.held.setdefault(namespace, [])
        while True:
            await tree.look()
            if not held and (tree.root.HasField("ended_at") or state_of(tree.root) == "PAUSED") and not tree.working:
                return []
            if not held or tree.working != len(held) or not all(tree.knows(run) for run in held):
                await asyncio.sleep(LOOK_S)
                continue
            chosen = recording.choose([tree.key(run) for run in held])
            if chosen is None:
                return [f"runs {tree.key(run)}, which was not recorded" for run in held]
            await self._end(held.pop(chosen[0]), chosen[1])

    async def _end(self, run: executor_service_pb2.RunAction, recorded: dict[str, Any]) -> None:
        outcome = OUTCOMES[recorded["status"]]
        result = "" if outcome == "delegated" else json.dumps(recorded["result"])
        error = f"the action has {recorded['status']}" if outcome == "failed" else ""
        assert self.executor is not None
        await self.executor.finish(run, done(run, WIRE_OUTCOMES[outcome], result=result, error=error))


async def differences(player: Player, namespace: str, case: dict[str, Any]) -> list[str]:
    """What came otherwise than expected; nothing when the case agrees."""
    system = player.system
    for name, variables in ENVIRONMENTS.items():
        put = environment_service_pb2.PutEnvironmentRequest(
            namespace=namespace, name=name, variables=json.dumps(variables)
        )
        await system.environments.PutEnvironment(put, timeout=CALL_S)
    for name, action in (case.get("actions") or {}).items():
        if "definition" in action:
            await system.define(action["definition"], namespace, name=name)
    name = case.get("ref") or "case"
    await system.define(case["definition"], namespace, name=name)
    root_id = await system.begin(name, case["input"], namespace=namespace)
    told = await asyncio.wait_for(player.play(namespace, root_id, case["action_results"]), CASE_S)
    return told + run_differences(case["expect"], await view_of(system, await system.get(root_id)), case)


async def view_of(system: System, execution: execution_pb2.Execution) -> View:
    """What came, as the comparisons want it."""
    tasks = {task.number: task for task in await system.tasks(execution.id)}
    attempts = [each for each in await system.attempts(execution.id) if each.action != "std.noop"]
    listing = execution_service_pb2.ListExecutionsRequest(filter=f"parent={execution.id}", full=True)
    children = (await system.executions.ListExecutions(listing, timeout=CALL_S)).executions
    began = {each.task_number for each in attempts} | {each.parent_task_number for each in children}
    ran = [_ran(tasks[each.task_number], each.item, each) for each in attempts]
    ran += [_ran(tasks[each.parent_task_number], 0, each) for each in children]
    return {
        "state": state_of(execution),
        "info": execution.state_info,
        "output": json.loads(execution.output or "null"),
        "errors": [error.get("task_id") or "" for error in json.loads(execution.errors or "[]")],
        "tasks": [_task_view(task, task.number in began) for task in tasks.values()],
        "executions": ran,
    }


def _task_view(task: execution_pb2.TaskExecution, began: bool) -> dict[str, Any]:
    return {
        "name": task.name,
        "route": task.route,
        "state": state_of(task),
        "info": task.state_info,
        "published": json.loads(task.published or "{}"),
        "began": began or task.HasField("items"),
    }


def _ran(
    task: execution_pb2.TaskExecution, item: int, each: execution_pb2.ActionExecution | execution_pb2.Execution
) -> dict[str, Any]:
    return {
        "task": task.name,
        "route": task.route,
        "item": item if task.HasField("items") else None,
        "state": state_of(each),
        "input": json.loads(each.input),
        "delegated": isinstance(each, execution_pb2.ActionExecution) and each.delegated,
        "is_child": isinstance(each, execution_pb2.Execution),
    }


@pytest.mark.xdist_group("orquesta services")
@pytest.mark.timeout(300)
# Jinja reads "\\w" in a text of an expression as Python does, which says that one day it will not any more.
@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
async def test_orquesta_cases_through_the_services(tmp_path: Path) -> None:
    """A hundred of Orquesta's recorded cases end over gRPC as they did there, and every journal gives its rows."""
    chosen = {f"case-{number}": case for number, case in enumerate(sample())}
    if not chosen:
        pytest.skip("no conformance cases here")
    told: list[str] = []
    turn = asyncio.Semaphore(AT_ONCE)

    async def run(player: Player, namespace: str, case: dict[str, Any]) -> None:
        async with turn:
            try:
                found = await differences(player, namespace, case)
            except Exception as error:
                found = [f"{type(error).__name__}: {error}"]
            told.extend(f"{case['id']}: {each}" for each in found)

    async with System(tmp_path, with_executor=False) as system:
        player = Player(system)
        actions = actions_of(chosen.values())
        async with ScriptedExecutor(system.engine.address, player, actions=actions, slots=1000) as executor:
            player.executor = executor
            await until(lambda: executor.welcomes)
            await asyncio.gather(*(run(player, namespace, case) for namespace, case in chosen.items()))
            assert not executor.errors
        assert system.findings() == []
    assert not told, "\n".join(told)
    assert len(chosen) >= CASES_MIN
