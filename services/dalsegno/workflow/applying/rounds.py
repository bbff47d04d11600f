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
    execution.tasks[change.task].progress.plan = change


def begin(execution: Rounds, change: AttemptsBegun) -> None:
    """Begin the next round: the attempts of what it runs again do not count any more."""
    task = execution.tasks[change.task]
    progress = task.progress
    if change.only is None:
        _begin_all(execution, task, change)
    else:
        _begin_some(execution, task, change, change.only)
    progress.attempt, progress.retries, progress.concurrency = change.attempt, change.retries, change.concurrency
    task.last_round = task.last_attempt = change.attempt
    progress.round = progress.plan if progress.plan is not None else progress.round if change.retries else None
    progress.plan = None
    progress.begun_count, progress.slice_due = 0, False
    progress.result_dropped = False
    progress.edits_seen = execution.edit_count


def _begin_all(execution: Rounds, task: TaskExecution, change: AttemptsBegun) -> None:
    progress = task.progress
    if progress.attempt:  # else there is no earlier round
        is_retry = bool(change.retries) or change.after_revert
        for attempt in execution.current_attempts(task):
            attempt.accepted, attempt.is_retried = False, is_retry
        progress.rounds, progress.failed_items, progress.quiet_items, progress.awaiting = {}, {}, {}, {}
        progress.added_count = progress.ended_count = progress.failed_count = progress.cancelled_count = 0
    progress.base, progress.items = change.attempt, change.items
    progress.item_count = None if change.items is None else len(change.items.data)  # type: ignore[arg-type]
    progress.pending = range(progress.item_count) if progress.item_count else ()


def _begin_some(execution: Rounds, task: TaskExecution, change: AttemptsBegun, only: tuple[int, ...]) -> None:
    """Begin these items again, followed by those that the round before had not begun."""
    progress = task.progress
    rest = progress.pending[progress.begun_count :]
    if change.stands_in:
        progress.pending = rest
        return
    for item in only:
        _set_aside(execution, task, item, bool(change.retries) or change.after_revert)
    chosen = set(only)
    progress.pending = (*only, *(item for item in rest if item not in chosen))
    progress.rounds = progress.rounds or {}
    for item in progress.pending:
        progress.rounds[item] = change.attempt


def _set_aside(execution: Rounds, task: TaskExecution, item: int, is_retry: bool) -> None:
    progress = task.progress
    attempt = execution.current(task, item)
    if attempt is None:
        return
    attempt.accepted, attempt.is_retried = False, is_retry
    progress.added_count -= 1
    progress.failed_items.pop(item, None)
    progress.quiet_items.pop(item, None)
    progress.awaiting.pop(item, None)
    if attempt.state in COMPLETED_ATTEMPT:
        progress.ended_count -= 1
        progress.failed_count -= attempt.state is AttemptState.ERROR
        progress.cancelled_count -= attempt.state is AttemptState.CANCELLED


def add(task: TaskExecution, more: bool) -> None:
    """Count one more attempt of the round; `more`: a SliceDue begins those after it."""
    progress = task.progress
    progress.added_count += 1
    progress.slice_due = more
    if progress.item_count is not None:
        progress.begun_count += 1


def end(task: TaskExecution, attempt: Attempt) -> None:
    """Count the end of a present attempt."""
    progress = task.progress
    progress.ended_count += 1
    if attempt.state is _ERROR:
        progress.failed_count += 1
        progress.failed_items[attempt.key[1]] = None
    elif attempt.state is _CANCELLED:
        progress.cancelled_count += 1
        progress.failed_items[attempt.key[1]] = None
