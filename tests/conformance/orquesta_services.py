"""Orquesta's recorded cases through the real services: an executor of our own holds back what it is given, and what
the api tells decides what ends next."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from tests.conformance.orquesta import ENVIRONMENTS, OUTCOMES, Key
from tests.conformance.orquesta_views import View
from tests.integration.engines import ScriptedExecutor, done
from tests.processes import CALL_S, System, state_of

from dalsegno.v1 import environment_service_pb2, execution_pb2, execution_service_pb2, executor_service_pb2

LOOK_S = 0.02

WIRE_OUTCOMES = {
    "succeeded": executor_service_pb2.TASK_OUTCOME_SUCCEEDED,
    "failed": executor_service_pb2.TASK_OUTCOME_FAILED,
    "cancelled": executor_service_pb2.TASK_OUTCOME_CANCELLED,
    "delegated": executor_service_pb2.TASK_OUTCOME_DELEGATED,
}

Chosen = tuple[int, str, object]
"""Which of the actions that are held back ends, its status in Orquesta's words, and its result."""


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

    async def play(
        self,
        namespace: str,
        root_id: str,
        choose: Callable[[list[executor_service_pb2.RunAction], Tree], Chosen | None],
    ) -> list[str]:
        """Let actions end, one after the other, until nothing runs any more; what was not chosen."""
        tree = Tree(self.system, root_id)
        held = self.held.setdefault(namespace, [])
        while True:
            await tree.look()
            if not held and (tree.root.HasField("ended_at") or state_of(tree.root) == "PAUSED") and not tree.working:
                return []
            if not held or tree.working != len(held) or not all(tree.knows(run) for run in held):
                await asyncio.sleep(LOOK_S)
                continue
            chosen = choose(held, tree)
            if chosen is None:
                return [f"runs {tree.key(run)}, which was not recorded" for run in held]
            number, status, result = chosen
            await self.end(held.pop(number), status, result)

    async def end(self, run: executor_service_pb2.RunAction, status: str, result: object) -> None:
        """Report on an action, in Orquesta's words."""
        outcome = OUTCOMES[status]
        text = "" if outcome == "delegated" else json.dumps(result)
        error = f"the action has {status}" if outcome == "failed" else ""
        assert self.executor is not None
        await self.executor.finish(run, done(run, WIRE_OUTCOMES[outcome], result=text, error=error))


async def define(system: System, namespace: str, case: dict[str, Any]) -> str:
    """Store all that the case needs; the name of its workflow."""
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
    return name


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
