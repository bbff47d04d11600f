"""What the api tells of the executions of one case, as plain data; what has not moved is not read again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from tests.conformance.stage import COMPLETED_EXECUTION, SeenAttempt, SeenExecution, SeenTask
from tests.processes import CALL_S, System, state_of

from dalsegno.v1 import execution_pb2, execution_service_pb2

CHILD_STATES = {"IDLE": "READY", "PAUSING": "RUNNING", "CANCELLING": "RUNNING"}
"""Of a child as the work of its parent's task, where an action has another word."""

Revisions = dict[str, int]


class Sight:
    """The executions that began with these roots."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.roots: list[str] = []
        self.executions: list[SeenExecution] = []
        """In the order in which they were made."""
        self.due_s: dict[tuple[str, int], float] = {}
        """When delayed tasks continue, by execution and task."""
        self._known: dict[str, tuple[SeenExecution, list[execution_pb2.TaskExecution]]] = {}

    async def _list(self, full: bool = True) -> list[execution_pb2.Execution]:
        """All of them, as far as the list tells."""
        request = execution_service_pb2.ListExecutionsRequest(
            filter=f"root={','.join(self.roots)}", full=full, page_size=1000
        )
        found: list[execution_pb2.Execution] = []
        while self.roots:
            page = await self.system.executions.ListExecutions(request, timeout=CALL_S)
            found += page.executions
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
        return found

    async def revisions(self) -> Revisions:
        """How far each of them has come."""
        return {each.id: each.revision for each in await self._list(full=False)}

    async def look(self) -> Revisions:
        """See all that has moved since; how far each of them has come."""
        listed = await self._list()
        moved = [
            each for each in listed if each.id not in self._known or self._known[each.id][0].revision != each.revision
        ]
        await asyncio.gather(*(self._read(each) for each in moved))
        self.executions = self._in_order(listed)
        for execution in self.executions:
            _see_children(
                execution, [each for each in listed if each.parent_execution_id == execution.id], self._places()
            )
        return {each.id: each.revision for each in listed}

    async def _read(self, execution: execution_pb2.Execution) -> None:
        tasks, attempts = await asyncio.gather(self.system.tasks(execution.id), self.system.attempts(execution.id))
        self._known[execution.id] = (_see(execution, tasks, attempts), tasks)
        for task in tasks:
            self.due_s.pop((execution.id, task.number), None)
            if state_of(task) == "RUNNING_DELAYED" and task.HasField("next_at"):
                self.due_s[execution.id, task.number] = task.next_at.ToNanoseconds() / 1e9

    def _places(self) -> dict[str, int]:
        """The item of each child that represents its parent's task."""
        return {
            child: place
            for _, tasks in self._known.values()
            for task in tasks
            for place, child in enumerate(task.child_execution_ids)
        }

    def _in_order(self, listed: Sequence[execution_pb2.Execution]) -> list[SeenExecution]:
        places = self._places()
        listed = sorted(
            listed,
            key=lambda each: (each.created_at.ToNanoseconds(), each.parent_task_number, places.get(each.id, 0)),
        )
        return [self._known[each.id][0] for each in listed]


def _see(
    execution: execution_pb2.Execution,
    tasks: Sequence[execution_pb2.TaskExecution],
    attempts: Sequence[execution_pb2.ActionExecution],
) -> SeenExecution:
    return SeenExecution(
        id=execution.id,
        workflow=execution.workflow,
        state=state_of(execution),
        info=execution.state_info,
        output=json.loads(execution.output or "null"),
        errors=[error.get("task_id") or "" for error in json.loads(execution.errors or "[]")],
        revision=execution.revision,
        parent_id=execution.parent_execution_id,
        parent_task=execution.parent_task_number,
        tasks={task.number: _see_task(task) for task in tasks},
        attempts=[_see_attempt(each) for each in attempts],
    )


def _see_task(task: execution_pb2.TaskExecution) -> SeenTask:
    return SeenTask(
        number=task.number,
        name=task.name,
        route=task.route,
        state=state_of(task),
        info=task.state_info,
        published=json.loads(task.published or "{}"),
        items=task.items.total if task.HasField("items") else None,
    )


def _see_attempt(attempt: execution_pb2.ActionExecution) -> SeenAttempt:
    return SeenAttempt(
        id=attempt.id,
        task=attempt.task_number,
        item=attempt.item,
        attempt=attempt.attempt,
        action=attempt.action,
        state=state_of(attempt),
        accepted=attempt.accepted,
        input=json.loads(attempt.input or "null"),
        delegated=attempt.delegated,
        is_filled=True,
    )


def _see_children(execution: SeenExecution, listed: Sequence[execution_pb2.Execution], places: dict[str, int]) -> None:
    """Children as the work of their parent's tasks: the list of action executions does not have them."""
    own = [each for each in execution.attempts if not each.child_id]
    for child in listed:
        state = state_of(child)
        own.append(
            SeenAttempt(
                id=child.id,
                task=child.parent_task_number,
                item=places.get(child.id, 0),
                attempt=1,
                action=child.workflow,
                state=CHILD_STATES.get(state, state),
                accepted=state in COMPLETED_EXECUTION,
                input=json.loads(child.input or "null"),
                delegated=False,
                child_id=child.id,
                is_filled=True,
            )
        )
    execution.attempts = sorted(own, key=lambda each: (each.task, each.attempt, each.item))
