"""How an execution keeps a task's rounds of attempts. Part of `apply`, called by nobody else.

A round runs the whole task, or only some items of it anew. In between, each item's present attempt is the one of the
round that ran it last: `base` for most, and what `rounds` says for those that were run anew since. So running one item
of ten thousand again leaves all others where they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from dalsegno.workflow.changes import AttemptsBegun, RoundPlanned
from dalsegno.workflow.records import Attempt, TaskExecution
from dalsegno.workflow.states import COMPLETED_ATTEMPT, AttemptState

# Looking a member up in its class is slow, and these are asked for in every step (see execution.py).
_ERROR, _CANCELLED = AttemptState.ERROR, AttemptState.CANCELLED


class Rounds(Protocol):
    """What these functions read of an execution. They write to its tasks and attempts alone."""

    tasks: dict[int, TaskExecution]
    edit_count: int

    def current(self, task: TaskExecution, item: int = 0) -> Attempt | None:
        """The task's present attempt for this item, if it has been created."""
        ...

    def current_attempts(self, task: TaskExecution) -> Iterable[Attempt]:
        """All present attempts of the task, in the order of the items."""
        ...


def plan(execution: Rounds, change: RoundPlanned) -> None:
    """The next round will be as an operation wants it."""
    execution.tasks[change.task].plan = change


def begin(execution: Rounds, change: AttemptsBegun) -> None:
    """The next round: nothing of what begins anew counts any more."""
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
    if task.attempt:  # else there is nothing of an earlier round yet
        for attempt in execution.current_attempts(task):
            attempt.accepted = False
        task.rounds, task.failed_items, task.quiet_items = {}, {}, {}
        task.added_count = task.ended_count = task.failed_count = task.cancelled_count = 0
    task.base, task.items = change.attempt, change.items
    task.item_count = None if change.items is None else len(change.items.data)  # type: ignore[arg-type]
    task.pending = range(task.item_count) if task.item_count else ()


def _begin_some(execution: Rounds, task: TaskExecution, change: AttemptsBegun, only: tuple[int, ...]) -> None:
    """These items, and then what the round before had not come to."""
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
    """One more of the round's attempts exists; `more`: a SliceDue begins those after it."""
    task.added_count += 1
    task.slice_due = more
    if task.item_count is not None:
        task.begun_count += 1


def end(task: TaskExecution, attempt: Attempt) -> None:
    """A present attempt has ended."""
    task.ended_count += 1
    if attempt.state is _ERROR:
        task.failed_count += 1
        task.failed_items[attempt.key[1]] = None
    elif attempt.state is _CANCELLED:
        task.cancelled_count += 1
        task.failed_items[attempt.key[1]] = None
