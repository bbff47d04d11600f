"""How an execution keeps its indexes of task executions by state. Part of `apply`."""

from __future__ import annotations

from typing import Any, Protocol

from dalsegno.workflow.records import TaskExecution
from dalsegno.workflow.states import COMPLETED_TASK, TaskState

# A lookup of a member in its class costs as much as the rest of keeping an index.
_IDLE, _WAITING, _ERROR, _CANCELLED = TaskState.IDLE, TaskState.WAITING, TaskState.ERROR, TaskState.CANCELLED


class Indexes(Protocol):
    """The indexes of an execution; the dicts serve as ordered sets."""

    cancelled: dict[int, None]
    ends: dict[int, None]
    idle: dict[int, None]
    incomplete: dict[int, None]
    unhandled: dict[int, None]
    unrouted: dict[int, None]
    waiting: dict[int, None]


def index(execution: Indexes, task: TaskExecution) -> None:
    """Put a task execution into the indexes of its state, and take it out of the others."""
    number, state = task.number, task.state
    if task.superseded_by:
        for each in (execution.unrouted, execution.ends, execution.unhandled, execution.cancelled):
            each.pop(number, None)
    elif state in COMPLETED_TASK:
        execution.incomplete.pop(number, None)
        execution.idle.pop(number, None)
        execution.waiting.pop(number, None)
        put(execution.unrouted, number, not task.routed)
        put(execution.ends, number, not (task.next or task.ends) or -1 in task.ends)
        put(execution.unhandled, number, state is _ERROR and not task.handled)
        put(execution.cancelled, number, state is _CANCELLED)
    else:
        execution.incomplete[number] = None
        put(execution.idle, number, state is _IDLE)
        put(execution.waiting, number, state is _WAITING)
        for each in (execution.unrouted, execution.ends, execution.unhandled, execution.cancelled):
            each.pop(number, None)


def put(index: dict[Any, None], key: object, member: bool) -> None:
    """Add a key to an index, or remove it."""
    if member:
        index[key] = None
    else:
        index.pop(key, None)
