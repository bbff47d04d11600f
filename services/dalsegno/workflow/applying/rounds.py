"""How an execution keeps the rounds of attempts of a task. Part of `apply`.

A round runs the whole task again, or only some of its items. The present attempt of an item is that of the last round
that ran it: `rounds` says which one for items that were run again, and `base` for all others. So running one of ten
thousand items again leaves the others untouched.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from dalsegno.workflow.changes import AttemptsBegun, RoundPlanned
from dalsegno.workflow.records import Attempt, TaskExecution
from dalsegno.workflow.states import COMPLETED_ATTEMPT, AttemptState

# A lookup of a member in its class is slow, and every step needs these (see execution.py).
_ERROR, _CANCELLED = AttemptState.ERROR, AttemptState.CANCELLED


class Rounds(Protocol):
    """What these functions read of an execution. They write only to its tasks and attempts."""

    tasks: dict[int, TaskExecution]
    edit_count: int

    def current(self, task: TaskExecution, item: int = 0) -> Attempt | None:
        """Return the task's present attempt for this item, if it exists."""
        ...

    def current_attempts(self, task: TaskExecution) -> Iterable[Attempt]:
        """Return all present attempts of the task, in the order of the items."""
        ...


def plan(execution: Rounds, change: RoundPlanned) -> None:
    """Keep how an operation wants the next round to be."""
    execution.tasks[change.task].plan = change


def begin(execution: Rounds, change: AttemptsBegun) -> None:
    """Begin the next round: the attempts of what it runs again do not count any more."""
    task = execution.tasks[change.task]
    if change.only is None:
        _begin_all(execution, task, change)
    else:
        _begin_some(execution, task, change, change.only)
    task.attempt, task.retries, task.concurrency = change.attempt, change.retries, change.concurrency
    task.round = task.plan if task.plan is not None else task.round if change.retries else None
    task.plan = None
    task.begun_count, task.slice_due = 0, False
    task.result_dropped = False
    task.edits_seen = execution.edit_count


def _begin_all(execution: Rounds, task: TaskExecution, change: AttemptsBegun) -> None:
    if task.attempt:  # else there is no earlier round
        for attempt in execution.current_attempts(task):
            attempt.accepted = False
        task.rounds, task.failed_items, task.quiet_items = {}, {}, {}
        task.added_count = task.ended_count = task.failed_count = task.cancelled_count = 0
    task.base, task.items = change.attempt, change.items
    task.item_count = None if change.items is None else len(change.items.data)  # type: ignore[arg-type]
    task.pending = range(task.item_count) if task.item_count else ()


def _begin_some(execution: Rounds, task: TaskExecution, change: AttemptsBegun, only: tuple[int, ...]) -> None:
    """Begin these items again, followed by those that the round before had not begun."""
    rest = task.pending[task.begun_count :]
    if change.stands_in:
        task.pending = rest
        return
    for item in only:
        _set_aside(execution, task, item)
    chosen = set(only)
    task.pending = (*only, *(item for item in rest if item not in chosen))
    task.rounds = task.rounds or {}
    for item in task.pending:
        task.rounds[item] = change.attempt


def _set_aside(execution: Rounds, task: TaskExecution, item: int) -> None:
    attempt = execution.current(task, item)
    if attempt is None:
        return
    attempt.accepted = False
    task.added_count -= 1
    task.failed_items.pop(item, None)
    task.quiet_items.pop(item, None)
    if attempt.state in COMPLETED_ATTEMPT:
        task.ended_count -= 1
        task.failed_count -= attempt.state is AttemptState.ERROR
        task.cancelled_count -= attempt.state is AttemptState.CANCELLED


def add(task: TaskExecution, more: bool) -> None:
    """Count one more attempt of the round; `more`: a SliceDue begins those after it."""
    task.added_count += 1
    task.slice_due = more
    if task.item_count is not None:
        task.begun_count += 1


def end(task: TaskExecution, attempt: Attempt) -> None:
    """Count the end of a present attempt."""
    task.ended_count += 1
    if attempt.state is _ERROR:
        task.failed_count += 1
        task.failed_items[attempt.key[1]] = None
    elif attempt.state is _CANCELLED:
        task.cancelled_count += 1
        task.failed_items[attempt.key[1]] = None
