"""How an execution goes back to an entry (decision 19). Part of `apply`.

`restore` puts back what was kept since the entry. Its cost depends on what was altered since, not on the size of the
execution. Numbers do not go back: what did not exist at the entry is REVERTED, readable, and counts for nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Protocol

from dalsegno.workflow.applying import keeping, rounds, undoing
from dalsegno.workflow.applying.indexes import Indexes
from dalsegno.workflow.applying.keeping import Keeping
from dalsegno.workflow.changes import Restored
from dalsegno.workflow.records import (
    UNDONE_BY,
    End,
    Entry,
    Kept,
    Reverting,
    Start,
    TaskExecution,
    Timing,
    Writes,
    error_bytes,
    error_key,
)
from dalsegno.workflow.states import COMPLETED_ATTEMPT, TaskState
from dalsegno.workflow.value import Value


class Restoring(Keeping, Indexes, Protocol):
    """What `restore` alters of an execution."""

    ended: list[End]
    output: Value | None
    revert: Reverting | None
    route_numbers: dict[tuple[str, ...], int]
    start: Start | None


def restore(execution: Restoring, change: Restored, index: Callable[[TaskExecution], None]) -> None:
    """Put back the state at the entry. `index` puts a task execution into the indexes of its state."""
    found = gathered(execution, change.sequence)
    is_edited = execution.edit_count != found.edit_count
    undone = added_since(execution, found)
    for task in undone:
        _undo(execution, task)
    _put_back_names(execution, found, undone)
    for task in [execution.tasks[number] for number in found.tasks]:
        _unindex_ends(execution, task)
    execution.branch_ends.update(found.branch_ends)
    _put_back_tasks(execution, found, index)
    _put_back_attempts(execution, found)
    _put_back_variables(execution, found)
    if is_edited:
        for task in execution.tasks.values():
            task.context_in = task.context_out = None
            task.branch_contexts = {}
    _end_revert(execution, change.sequence, change.at_s)


def gathered(execution: Restoring, sequence: int) -> Kept:
    """Return what has to be put back to go back to the entry: of each record, what the oldest entry since has kept."""
    if execution.start is not None and sequence == execution.start.sequence:
        return _from_start(execution, execution.start)
    found: Kept | None = None
    for entry in reversed(execution.entries.values()):
        if entry.is_undone:
            continue
        assert entry.kept is not None
        found = entry.kept if found is None else _before(found, entry.kept)
        if entry.sequence == sequence:
            return found
    raise KeyError(sequence)


def added_since(execution: Restoring, kept: Kept) -> list[TaskExecution]:
    """Return the task executions that did not exist at the entry, without those that are discarded."""
    numbers = range(kept.task_count + 1, execution.task_count + 1)
    return [execution.tasks[number] for number in numbers if number in execution.tasks]


def _before(newer: Kept, older: Kept) -> Kept:
    """Return what the older entry has kept, with what it left to the newer one."""
    left = {number for number in newer.tasks if number <= older.task_count and number not in older.tasks}
    return Kept(
        at_s=older.at_s,
        task_count=older.task_count,
        route_count=older.route_count,
        globals=older.globals,
        input=older.input,
        environment=older.environment,
        edit_count=older.edit_count,
        generation=older.generation,
        errors=older.errors,
        error_count=older.error_count,
        tasks={number: newer.tasks[number] for number in sorted(left)} | older.tasks,
        attempts={key: one for key, one in newer.attempts.items() if key[0] <= older.task_count} | older.attempts,
        writes=newer.writes | older.writes,
        by_route=newer.by_route | older.by_route,
        branch_ends={place: at for place, at in newer.branch_ends.items() if place[0] in left} | older.branch_ends,
    )


def _from_start(execution: Restoring, start: Start) -> Kept:
    """Return the state behind the creation of the first tasks. It is made from them, as nothing was kept."""
    first = [execution.tasks[number] for number in range(1, start.task_count + 1)]
    tasks = {
        task.number: TaskExecution(
            task.number, task.name, TaskState.IDLE, tags=task.tags, added_at=task.added_at, created_s=task.created_s
        )
        for task in first
    }
    names = {name: Writes() for name in execution.global_writes}
    names.update((name, Writes([(0, value)])) for name, value in sorted(start.globals.items()))
    routes: dict[tuple[str, int], int | None] = dict.fromkeys(execution.by_route)
    return Kept(
        at_s=0.0,
        task_count=start.task_count,
        route_count=1,
        globals=start.globals,
        input=start.input,
        environment=start.environment,
        edit_count=execution.edit_count,
        generation=0,
        errors=[],
        error_count=0,
        tasks=tasks,
        attempts={key: None for key in execution.attempts if key[0] <= start.task_count},
        writes={name: (found, len(found)) for name, found in names.items()},
        by_route=routes | {(task.name, 0): task.number for task in first},
    )


def _undo(execution: Restoring, task: TaskExecution) -> None:
    """Take a task execution that did not exist at the entry out of everything that counts."""
    _unindex_ends(execution, task)
    for index in _indexes(execution):
        index.pop(task.number, None)
    task.state, task.superseded_by = TaskState.REVERTED, UNDONE_BY
    task.timing, task.progress.plan = Timing(), None
    task.context_in = task.context_out = None
    task.branch_contexts = {}


def _indexes(execution: Restoring) -> tuple[dict[int, None], ...]:
    return (
        execution.incomplete,
        execution.idle,
        execution.waiting,
        execution.unrouted,
        execution.ends,
        execution.unhandled,
        execution.cancelled,
    )


def _unindex_ends(execution: Restoring, task: TaskExecution) -> None:
    for branch in task.ends:
        execution.branch_ends.pop((task.number, branch), None)


def _put_back_names(execution: Restoring, kept: Kept, undone: Iterable[TaskExecution]) -> None:
    """Put back by which names and routes the task executions are found."""
    for task in undone:
        numbers = execution.by_name.get(task.name, [])
        while numbers and numbers[-1] > kept.task_count:
            numbers.pop()
        if not numbers:
            execution.by_name.pop(task.name, None)
            execution.trimmed.pop(task.name, None)
    for place, number in kept.by_route.items():
        if number is None:
            execution.by_route.pop(place, None)
        else:
            execution.by_route[place] = number
    for number in range(kept.route_count, execution.route_count):
        route = execution.routes.get(number)
        if route is not None and execution.route_numbers.get(route, 0) >= kept.route_count:
            del execution.route_numbers[route]


def _put_back_tasks(execution: Restoring, kept: Kept, index: Callable[[TaskExecution], None]) -> None:
    before = [one.keys() & kept.tasks.keys() for one in _indexes(execution)]
    for number, record in kept.tasks.items():
        task = execution.tasks[number]
        numbers = task.last_round, task.last_attempt, task.last_item
        for name in TaskExecution.__struct_fields__:
            setattr(task, name, getattr(record, name))
        task.last_round, task.last_attempt, task.last_item = numbers
        task.altered = execution.revision + 1
        index(task)
    for one, had in zip(_indexes(execution), before, strict=True):
        if (one.keys() & kept.tasks.keys()) - had:
            _sort(execution, one)
    for name in {task.name for task in kept.tasks.values()} | execution.trimmed.keys():
        undoing.trim(execution, name)


def _sort(execution: Restoring, index: dict[int, None]) -> None:
    """Bring an index into the order in which its task executions came to it: of their ends, then of their creation."""
    order = sorted((execution.tasks[number] for number in index), key=attrgetter("ended_at", "number"))
    index.clear()
    index.update((task.number, None) for task in order)


def _put_back_attempts(execution: Restoring, kept: Kept) -> None:
    """Attempts stay as they are, but for whether their results count: what ran at the entry has to run again."""
    for key, record in kept.attempts.items():
        attempt = execution.attempts[key]
        if record is None:
            attempt.is_undone, attempt.accepted = True, False
        elif record.state in COMPLETED_ATTEMPT:
            attempt.accepted, attempt.is_retried = record.accepted, record.is_retried
        elif attempt.state in COMPLETED_ATTEMPT:
            attempt.accepted = False
            task = execution.tasks[key[0]]
            if key[2] == task.progress.round_of(key[1]):  # it has ended since
                task.progress.quiet_items.pop(key[1], None)
                rounds.end(task, attempt)


def _put_back_variables(execution: Restoring, kept: Kept) -> None:
    for name, (writes, count) in kept.writes.items():
        for task, _ in execution.global_writes.pop(name, Writes()).made:
            names = execution.globals_of.get(task)
            if names is not None:
                names.discard(name)
                if not names:
                    del execution.globals_of[task]
        if count:
            execution.global_writes[name] = Writes(writes.first(count), writes.dropped)
            for task, _ in writes.first(count):
                if task:
                    execution.globals_of.setdefault(task, set()).add(name)
    execution.globals, execution.input, execution.environment = kept.globals, kept.input, kept.environment
    execution.edit_count, execution.generation = kept.edit_count, kept.generation
    execution.errors = kept.errors[: kept.error_count]
    execution.error_keys = {error_key(error) for error in execution.errors}
    execution.error_bytes = sum(map(error_bytes, execution.errors))
    execution.output = None


def _end_revert(execution: Restoring, sequence: int, at_s: float) -> None:
    """Undo the entries after this one, and begin to keep anew what is altered after it."""
    revert, execution.revert = execution.revert, None
    by_failure = revert is not None and bool(revert.aim.failure)
    for entry in reversed(execution.entries.values()):
        if entry.sequence <= sequence:
            break
        entry.is_undone, entry.kept = True, None
    del execution.ended[bisect_right(execution.ended, sequence, key=attrgetter("sequence")) :]
    standing: Entry | Start | None = execution.entries.get(sequence) or execution.start
    assert standing is not None
    standing.retries = standing.retries + 1 if by_failure else 0
    execution.kept = None
    if isinstance(standing, Entry):
        execution.kept = standing.kept = keeping.begin(execution, at_s)
