"""How an execution takes back what a task had led to, and how it is edited. Part of `apply`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import immutables

from dalsegno.workflow.changes import ContextEdited, ErrorNoted, RepeatedBy, TaskMoved
from dalsegno.workflow.records import Publication, TaskExecution, Writes, error_bytes, error_key
from dalsegno.workflow.states import COMPLETED_TASK, TaskState
from dalsegno.workflow.value import Value


class Errors(Protocol):
    """The list of errors of an execution."""

    errors: list[ErrorNoted]
    error_keys: set[tuple[object, ...]]
    error_bytes: int


class Variables(Protocol):
    """The variables of a whole execution, and who wrote them."""

    globals: immutables.Map[str, Value]
    global_writes: dict[str, Writes]
    globals_of: dict[int, set[str]]


class Course(Errors, Variables, Protocol):
    """What an operation takes back or edits of an execution: tasks, where they had led to, and variables."""

    tasks: dict[int, TaskExecution]
    task_count: int
    by_name: dict[str, list[int]]
    trimmed: dict[str, int]
    by_route: dict[tuple[str, int], int]
    branch_ends: dict[tuple[int, int], int]
    input: Value
    generation: int
    edit_count: int
    revision: int


def reopen(execution: Course, task: TaskExecution, change: TaskMoved) -> None:
    """Reopen a task that had ended, as its next edition: it has led nowhere yet.

    Tasks that have seen its variables keep seeing them. If it runs again, it has published nothing yet.
    """
    _withdraw(execution, task)
    execution.generation = task.generation = max(change.generation, execution.generation)
    task.former = {**task.former, task.edition: task.publication.copy()}
    task.edition += 1
    task.next, task.ends, task.routed, task.handled = (), (), False, False
    if change.state not in COMPLETED_TASK:
        task.publication = Publication()
        task.ended_s = None
        _unwrite_globals(execution, task)
    task.context_out = None
    task.branch_contexts = {}
    # Errors of what followed it stay in the list, as in Orquesta.
    forget_errors(execution, lambda error: (error.task, error.name) == (task.number, task.name))


def supersede(execution: Course, task: TaskExecution, by: RepeatedBy) -> None:
    """Mark a task that has ended as superseded, and take back its arrivals at joins that wait."""
    _withdraw(execution, task)
    _unwrite_globals(execution, task)
    task.superseded_by = by.value
    trim(execution, task.name, execution.trimmed.get(task.name, 0))
    if execution.by_route.get((task.name, task.route)) == task.number:
        _index_route(execution, task)


def trim(execution: Course, name: str, trimmed: int = 0) -> None:
    """Count how many of the newest task executions of this name are superseded. `trimmed`: so many are."""
    numbers = execution.by_name.get(name, [])
    while trimmed < len(numbers) and execution.tasks[numbers[-1 - trimmed]].superseded_by:
        trimmed += 1
    if trimmed:
        execution.trimmed[name] = trimmed
    else:
        execution.trimmed.pop(name, None)


def write_globals(execution: Variables, task: int, values: Mapping[str, Value | None]) -> None:
    """Set variables of the whole execution, or (None) remove them. `task`: the task that does it; 0: none."""
    for name, value in values.items():
        execution.global_writes.setdefault(name, Writes()).made.append((task, value))
    execution.globals = written(execution.globals, values)
    if task:
        execution.globals_of.setdefault(task, set()).update(values)


def written(variables: immutables.Map[str, Value], values: Mapping[str, Value | None]) -> immutables.Map[str, Value]:
    """Return the variables after they are set or (None) removed."""
    draft = variables.mutate()
    for name, value in values.items():
        if value is None:
            draft.pop(name, None)
        else:
            draft[name] = value
    return draft.finish()


def _unwrite_globals(execution: Variables, task: TaskExecution) -> None:
    """Take back the variables of the whole execution that the task wrote: earlier values count again."""
    names = execution.globals_of.pop(task.number, None)
    if not names:
        return
    draft = execution.globals.mutate()
    for name in sorted(names):
        before = execution.global_writes[name]
        writes = [write for write in before.made if write[0] != task.number]
        execution.global_writes[name] = Writes(writes, before.dropped)
        value = writes[-1][1] if writes else None
        if value is None:
            draft.pop(name, None)
        else:
            draft[name] = value
    execution.globals = draft.finish()


def _index_route(execution: Course, task: TaskExecution) -> None:
    numbers = execution.by_name[task.name]
    for number in numbers[len(numbers) - 1 - execution.trimmed.get(task.name, 0) :: -1]:
        other = execution.tasks[number]
        if other.route == task.route and not other.superseded_by:
            execution.by_route[task.name, task.route] = number
            return
    del execution.by_route[task.name, task.route]


def _withdraw(execution: Course, task: TaskExecution) -> None:
    for number in task.next:
        join = execution.tasks.get(number)
        if join is None:
            continue  # discarded
        arrivals = join.arrivals
        arrivals.late.pop(task.number, None)
        if join.state is not TaskState.WAITING or task.number not in arrivals.sources:
            continue
        kept = [each for each in zip(arrivals.sources, arrivals.by_branches, strict=True) if each[0] != task.number]
        arrivals.sources = [source for source, _ in kept]
        arrivals.by_branches = [branch for _, branch in kept]
        arrivals.arrived = {execution.tasks[source].name for source in arrivals.sources}
        arrivals.editions.pop(task.number, None)
        join.context_in = join.context_out = None
    for branch in task.ends:
        execution.branch_ends.pop((task.number, branch), None)


def forget_errors(execution: Errors, is_over: Callable[[ErrorNoted], bool]) -> None:
    """Remove errors from the list that are not true any more."""
    kept = [error for error in execution.errors if not is_over(error)]
    if len(kept) < len(execution.errors):
        execution.errors = kept
        execution.error_keys = {error_key(error) for error in kept}
        execution.error_bytes = sum(map(error_bytes, kept))


def edit(execution: Course, change: ContextEdited) -> None:
    """Set and remove variables; tasks that have not begun yet see the new values."""
    execution.edit_count += 1
    _forget_contexts(execution)
    if change.task:
        edit_task(execution.tasks[change.task], change, execution.revision)
    else:
        execution.input, writes = edited_variables(execution.input, execution.globals, change)
        write_globals(execution, 0, writes)


def edited_variables(
    input: Value, variables: immutables.Map[str, Value], change: ContextEdited
) -> tuple[Value, dict[str, Value | None]]:
    """Return the input after an edit, and the variables of the whole execution that it sets or (None) removes."""
    declared = input.data
    assert isinstance(declared, dict)
    given = dict(declared)
    writes: dict[str, Value | None] = {name: None for name in change.removed if name in variables}
    for name in change.removed:
        given.pop(name, None)
    for name, value in change.values.items():
        if name in given and (name not in variables or name in writes):
            given[name] = value.data
        else:
            writes[name] = value
    return (input if given == declared else Value(data=given)), writes


def edit_task(task: TaskExecution, change: ContextEdited, revision: int) -> None:
    """Edit what the task has published."""
    publication = task.publication
    if publication.unedited is None:
        publication.unedited = dict(publication.values)
    for name in change.removed:
        publication.values.pop(name, None)
        publication.unedited.pop(name, None)
        publication.branches = {
            branch: (number, {each: value for each, value in values.items() if each != name})
            for branch, (number, values) in publication.branches.items()
        }
        publication.edits = [
            (number, {each: value for each, value in values.items() if each != name})
            for number, values in publication.edits
        ]
    if change.values:
        publication.values.update(change.values)
        publication.edits = [*publication.edits, (revision, dict(change.values))]


def _forget_contexts(execution: Course) -> None:
    """Drop the contexts that were computed from the variables; they are computed again on demand."""
    for task in execution.tasks.values():
        task.context_in = task.context_out = None
        task.branch_contexts = {}
