"""A journal, read again: the changes that made an execution, or a Consolidated and those behind it (decision 24)."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import Any, TypeVar

import immutables
import msgspec

from dalsegno.workflow.applying import keeping
from dalsegno.workflow.changes import AnyChange, ExecutionCreated
from dalsegno.workflow.consolidated import Consolidated, Indexes, KeptEntry, KeptTask, KeptWrites, Standing
from dalsegno.workflow.contexts.portable import from_portable, to_portable
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.records import UNDONE_BY, Entry, TaskExecution, Writes, error_bytes, error_key

_TASK = tuple(name for name in KeptTask.__struct_fields__ if name != "base")
_STANDING = Standing.__struct_fields__
_INDEXES = Indexes.__struct_fields__

Record = TypeVar("Record", bound=msgspec.Struct)


def replay(changes: Iterable[AnyChange | Consolidated]) -> Execution:
    """Return the execution that these changes lead to; the first of them is ExecutionCreated or Consolidated."""
    stream = iter(changes)
    first = next(stream)
    created = first.created if isinstance(first, Consolidated) else first
    assert isinstance(created, ExecutionCreated), "a journal begins with ExecutionCreated, or with Consolidated"
    execution = Execution(created)
    execution.revision = created.sequence
    if isinstance(first, Consolidated):
        load(execution, first)
    for change in stream:
        if isinstance(change, Consolidated):
            load(execution, change)
        else:
            execution.apply(change)
    return execution


def written(execution: Execution, entry: Entry, at_s: float) -> Consolidated:
    """Return the execution, which stands at the entry and is reduced to what is kept."""
    contexts = [task.base for task in execution.tasks.values() if task.base is not None]
    places = iter(range(len(contexts)))
    end = execution.end_context
    return Consolidated(
        entry=_copied(KeptEntry, entry, KeptEntry.__struct_fields__),
        created=execution.created,
        standing=_copied(Standing, execution, _STANDING),
        tasks=tuple(
            _copied(KeptTask, task, _TASK, base=-1 if task.base is None else next(places))
            for task in execution.tasks.values()
        ),
        attempts=tuple(execution.attempts.values()),
        contexts=to_portable(contexts if end is None else [*contexts, end]),
        end_context=-1 if end is None else len(contexts),
        globals={name: KeptWrites(one.dropped, tuple(one.made)) for name, one in execution.global_writes.items()},
        routes=dict(execution.routes),
        branch_ends=tuple((*place, revision) for place, revision in execution.branch_ends.items()),
        errors=tuple(execution.errors),
        names=tuple(execution.by_name),
        indexes=Indexes(**{name: tuple(getattr(execution, name)) for name in _INDEXES}),
        lost=tuple(execution.lost),
        at_s=at_s,
    )


def _copied(kind: type[Record], record: object, names: Iterable[str], **more: object) -> Record:
    values: dict[str, Any] = {name: getattr(record, name) for name in names}
    return kind(**values, **more)


def load(execution: Execution, change: Consolidated) -> None:
    """Make the execution what it was at the entry. `execution` was just created."""
    for name in _STANDING:
        setattr(execution, name, getattr(change.standing, name))
    contexts = from_portable(change.contexts)
    for each in change.tasks:
        execution.tasks[each.number] = _task(each, contexts)
    execution.consolidated_size = change.size
    execution.attempts = {each.key: copy(each) for each in change.attempts}
    execution.active_count = sum(each.is_active for each in change.attempts)
    execution.end_context = None if change.end_context < 0 else contexts[change.end_context]
    _load_variables(execution, change)
    execution.routes = dict(change.routes)
    execution.route_numbers = {}
    for number, route in execution.routes.items():
        execution.route_numbers.setdefault(route, number)
    execution.branch_ends = {(task, branch): revision for task, branch, revision in change.branch_ends}
    execution.errors = [*change.errors]
    execution.error_keys = set(map(error_key, change.errors))
    execution.error_bytes = sum(map(error_bytes, change.errors))
    for name in _INDEXES:
        setattr(execution, name, dict.fromkeys(getattr(change.indexes, name)))
    execution.by_name = {name: [] for name in change.names}
    _load_names(execution)
    _load_entry(execution, change)


def _task(kept: KeptTask, contexts: list[Any]) -> TaskExecution:
    """Return a record of its own: a Consolidated may be loaded more than once."""
    values: dict[str, Any] = {name: getattr(kept, name) for name in _TASK}
    base = contexts[kept.base] if kept.base >= 0 else None
    task = TaskExecution(**values, base=base)
    found = keeping.copied(task)
    found.former = dict(kept.former)
    return found


def _load_variables(execution: Execution, change: Consolidated) -> None:
    values: dict[str, Any] = {}
    for name, kept in change.globals.items():
        execution.global_writes[name] = Writes(list(kept.made), kept.dropped)
        for task, _ in kept.made:
            if task:
                execution.globals_of.setdefault(task, set()).add(name)
        if kept.made and kept.made[-1][1] is not None:
            values[name] = kept.made[-1][1]
    execution.globals = immutables.Map(values)


def _load_names(execution: Execution) -> None:
    for number, task in execution.tasks.items():
        if task.superseded_by == UNDONE_BY:
            continue
        execution.by_name[task.name].append(number)
        if task.superseded_by:
            execution.trimmed[task.name] = execution.trimmed.get(task.name, 0) + 1
        else:
            execution.trimmed.pop(task.name, None)
            execution.by_route[task.name, task.route] = number


def _load_entry(execution: Execution, change: Consolidated) -> None:
    entry = Entry(**{name: getattr(change.entry, name) for name in KeptEntry.__struct_fields__})
    execution.entries = {entry.sequence: entry}
    execution.first_sequence = entry.sequence if change.created is not None else execution.created.sequence
    execution.lost = dict.fromkeys(change.lost)
    execution.start = None
    execution.kept = entry.kept = keeping.begin(execution, entry.at_s)
