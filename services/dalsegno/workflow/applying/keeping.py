"""What an execution keeps, so that it can go back to an entry of a checkpoint (decision 19). Part of `apply`.

From its first entry of a named checkpoint on, an execution keeps each record as it was at the newest entry when a
change alters it for the first time after that entry. The cost is one copy for each entry and record, so going back
costs what has happened since. An execution without such an entry keeps nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from typing import Any, Protocol

from dalsegno.workflow.applying import undoing
from dalsegno.workflow.applying.undoing import Course
from dalsegno.workflow.changes import (
    AttemptAdded,
    AttemptMoved,
    AttemptsBegun,
    CheckpointReached,
    ContextEdited,
    EnvironmentChanged,
    GlobalsPublished,
    JoinReached,
    Published,
    ResultDropped,
    RoundPlanned,
    SubflowReverted,
    TaskAdded,
    TaskMoved,
    TaskRouted,
    TaskSuperseded,
    TaskTimed,
)
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.records import (
    Attempt,
    Entry,
    Kept,
    Reverting,
    Start,
    TaskExecution,
    Writes,
)
from dalsegno.workflow.states import ExecutionState
from dalsegno.workflow.value import Value


class Keeping(Course, Protocol):
    """What an entry keeps of an execution."""

    attempts: dict[AttemptKey, Attempt]
    entries: dict[int, Entry]
    environment: Value
    kept: Kept | None
    revert: Reverting | None
    route_count: int
    routes: dict[int, tuple[str, ...]]
    start: Start | None
    state: ExecutionState

    def current(self, task: TaskExecution, item: int = 0) -> Attempt | None:
        """Return the task's present attempt for this item, if it exists."""
        ...

    def current_attempts(self, task: TaskExecution) -> Any:
        """Return all present attempts of the task."""
        ...


def begin(execution: Keeping, at_s: float) -> Kept:
    """Begin to keep: return what the execution is now, before anything is altered."""
    return Kept(
        at_s=at_s,
        task_count=execution.task_count,
        route_count=execution.route_count,
        globals=execution.globals,
        input=execution.input,
        environment=execution.environment,
        edit_count=execution.edit_count,
        generation=execution.generation,
        errors=execution.errors,
        error_count=len(execution.errors),
    )


def reach(execution: Keeping, change: CheckpointReached) -> None:
    """Add an entry, and begin to keep what is altered after it."""
    sequence = execution.revision + 1
    entry = Entry(sequence, change.name, change.task, change.route, change.data, change.at_s)
    execution.entries[sequence], execution.tasks[change.task].entry = entry, sequence
    execution.kept = entry.kept = begin(execution, change.at_s)


def keep(execution: Keeping, kept: Kept, change: object) -> None:
    """Keep the records that the change is about to alter for the first time since the newest entry.

    What is changed between the restoring of an entry and going on from there belongs to that entry, and so do edits
    that are made there: then the entry before it keeps the records.
    """
    keeper = _KEEPERS.get(type(change))
    if keeper is None:
        return
    is_arriving = execution.revert is None and execution.state is ExecutionState.REVERTING
    if is_arriving or (isinstance(change, ContextEdited) and change.entry):
        kept = _before_newest(execution) or begin(execution, 0.0)  # else nobody keeps them
    keeper(execution, kept, change)


def _before_newest(execution: Keeping) -> Kept | None:
    """Return what is kept by the entry that stands before the newest one."""
    standing = (entry.kept for entry in reversed(execution.entries.values()) if entry.kept is not None)
    next(standing, None)
    return next(standing, None)


def _keep_task(execution: Keeping, kept: Kept, number: int) -> None:
    task = execution.tasks.get(number)
    if task is None:
        return
    task.altered = execution.revision + 1
    if number > kept.task_count or number in kept.tasks:
        return
    kept.tasks[number] = copied(task)
    for branch in task.ends:
        if branch >= 0:
            kept.branch_ends[number, branch] = execution.branch_ends[number, branch]


def include(execution: Keeping, change: ContextEdited | EnvironmentChanged) -> None:
    """Have an edit that is made while the execution stands at an entry belong to the entry."""
    entry = execution.entries.get(change.entry)
    at: Kept | Start | None = execution.start if entry is None else entry.kept
    assert at is not None
    if isinstance(change, EnvironmentChanged):
        at.environment = change.environment
    elif change.task:
        record = None if isinstance(at, Start) else at.tasks.get(change.task)
        if record is not None:  # it has been altered since
            undoing.edit_task(record, change, execution.revision)
    else:
        at.input, writes = undoing.edited_variables(at.input, at.globals, change)
        at.globals = undoing.written(at.globals, writes)
        if isinstance(at, Kept):
            _include_writes(at, writes)
    if isinstance(at, Kept):
        at.edit_count = execution.edit_count


def _include_writes(kept: Kept, writes: Mapping[str, Value | None]) -> None:
    for name, value in writes.items():
        if name in kept.writes:  # it has been altered since
            former, count = kept.writes[name]
            kept.writes[name] = Writes([*former.first(count), (0, value)], former.dropped), count + 1


def copied(task: TaskExecution) -> TaskExecution:
    """Return a copy of the record that no change to the task alters."""
    found = copy(task)
    arrivals = found.arrivals = copy(task.arrivals)
    arrivals.sources, arrivals.by_branches = [*arrivals.sources], [*arrivals.by_branches]
    arrivals.arrived, arrivals.editions, arrivals.late = {*arrivals.arrived}, {**arrivals.editions}, {**arrivals.late}
    found.timing = copy(task.timing)
    progress = found.progress = copy(task.progress)
    progress.rounds, progress.failed_items = {**progress.rounds}, {**progress.failed_items}
    progress.quiet_items, progress.awaiting = {**progress.quiet_items}, {**progress.awaiting}
    publication = found.publication = copy(task.publication)
    publication.values, publication.branches = {**publication.values}, {**publication.branches}
    if publication.unedited is not None:
        publication.unedited = {**publication.unedited}
    found.context_in = found.context_out = None
    found.branch_contexts = {}
    return found


def _keep_attempt(execution: Keeping, kept: Kept, key: AttemptKey) -> None:
    if key[0] <= kept.task_count and key not in kept.attempts:
        attempt = execution.attempts.get(key)
        kept.attempts[key] = None if attempt is None else copy(attempt)


def _keep_writes(execution: Keeping, kept: Kept, name: str) -> None:
    if name not in kept.writes:
        writes = execution.global_writes.get(name) or Writes()
        kept.writes[name] = writes, len(writes)


def _of_task(execution: Keeping, kept: Kept, change: Any) -> None:
    _keep_task(execution, kept, change.task)


def _of_attempt(execution: Keeping, kept: Kept, change: Any) -> None:
    _keep_task(execution, kept, change.key[0])
    _keep_attempt(execution, kept, change.key)


def _of_added(execution: Keeping, kept: Kept, change: TaskAdded) -> None:
    _keep_route(execution, kept, change.name, change.route)


def _keep_route(execution: Keeping, kept: Kept, name: str, route: int) -> None:
    kept.by_route.setdefault((name, route), execution.by_route.get((name, route)))


def _of_moved(execution: Keeping, kept: Kept, change: TaskMoved) -> None:
    _keep_task(execution, kept, change.task)
    if change.generation:
        _keep_led(execution, kept, execution.tasks[change.task])


def _of_superseded(execution: Keeping, kept: Kept, change: TaskSuperseded) -> None:
    task = execution.tasks[change.task]
    _keep_task(execution, kept, change.task)
    _keep_led(execution, kept, task)
    _keep_route(execution, kept, task.name, task.route)


def _keep_led(execution: Keeping, kept: Kept, task: TaskExecution) -> None:
    """Keep what is taken back with the task: its arrivals at joins, and its writes of variables."""
    for number in task.next:
        _keep_task(execution, kept, number)
    for name in execution.globals_of.get(task.number, ()):
        _keep_writes(execution, kept, name)


def _of_round(execution: Keeping, kept: Kept, change: AttemptsBegun) -> None:
    task = execution.tasks[change.task]
    _keep_task(execution, kept, change.task)
    if not task.progress.attempt:
        return
    if change.only is None:
        for attempt in execution.current_attempts(task):
            _keep_attempt(execution, kept, attempt.key)
    elif not change.stands_in:
        for item in change.only:
            current = execution.current(task, item)
            if current is not None:
                _keep_attempt(execution, kept, current.key)


def _of_globals(execution: Keeping, kept: Kept, change: GlobalsPublished) -> None:
    for name in change.values:
        _keep_writes(execution, kept, name)


def _of_edit(execution: Keeping, kept: Kept, change: ContextEdited) -> None:
    if change.task:
        _keep_task(execution, kept, change.task)
    else:
        for name in (*change.values, *change.removed):
            _keep_writes(execution, kept, name)


_KEEPERS: dict[type, Callable[[Keeping, Kept, Any], None]] = {
    TaskAdded: _of_added,
    TaskMoved: _of_moved,
    TaskSuperseded: _of_superseded,
    TaskTimed: _of_task,
    JoinReached: _of_task,
    TaskRouted: _of_task,
    RoundPlanned: _of_task,
    AttemptsBegun: _of_round,
    AttemptAdded: _of_attempt,
    AttemptMoved: _of_attempt,
    SubflowReverted: _of_attempt,
    Published: _of_task,
    ResultDropped: _of_task,
    CheckpointReached: _of_task,
    GlobalsPublished: _of_globals,
    ContextEdited: _of_edit,
}
