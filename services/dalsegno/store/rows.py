"""The rows of an execution in memory. These functions are pure, and the only place that knows both forms.

In a row, a value over 1 KiB is `$` and its digest; its text is in the table of texts, where the journal put it. (JSON
text never begins with `$`, so there is no ambiguity.) An object of published values is written as in the journal: each
value is a string with its text, or `{"$": digest}`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import msgspec

from dalsegno.store.records import AttemptRow, CheckpointRow, ExecutionFacts, ExecutionRow, TaskFacts, TaskRow
from dalsegno.workflow.changes import (
    AnyChange,
    AttemptAdded,
    AttemptMoved,
    AttemptsBegun,
    CheckpointReached,
    ErrorNoted,
    ExecutionCreated,
    Fork,
    GlobalsPublished,
    Restored,
    RouteOpened,
    TaskAdded,
)
from dalsegno.workflow.consolidated import Consolidated, Discarded
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.model import START
from dalsegno.workflow.records import Attempt, Entry, TaskExecution
from dalsegno.workflow.states import TaskState
from dalsegno.workflow.value import Value

Cells = tuple[object, ...]
_WAITING = TaskState.WAITING


def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


EXECUTION_COLUMNS = _names(ExecutionRow)
TASK_COLUMNS = _names(TaskRow)
CHECKPOINT_COLUMNS = _names(CheckpointRow)
ATTEMPT_COLUMNS = _names(AttemptRow)[:-2]
"""All but `progress` and `heard_s`, which are not part of an execution and are written separately."""

EXECUTION_FIXED = EXECUTION_COLUMNS.index("state")
"""How many columns, from the first, never change. The `*_state` functions return the others."""
TASK_FIXED = TASK_COLUMNS.index("state")
ATTEMPT_FIXED = ATTEMPT_COLUMNS.index("state")


def execution_origin(execution: Execution) -> Cells:
    """Return the columns of an execution that never change."""
    created = execution.created
    parent = created.parent
    task, item, attempt = parent.key if parent else (0, 0, 0)
    return (
        execution.id,
        created.namespace,
        created.workflow,
        created.version,
        created.definition_id,
        created.language,
        cell_of(created.input),
        cell_of(created.params),
        _labels(created),
        clean(created.description),
        execution.root_id,
        parent.execution_id if parent else "",
        task,
        item,
        attempt,
        created.deadline_s,
        created.at_s,
        clean(created.actor),
        clean(created.comment),
        *_origin(created.forked_from),
    )


def _labels(created: ExecutionCreated) -> str:
    return json.dumps(dict(created.labels), ensure_ascii=False, separators=(",", ":")) if created.labels else "{}"


def _origin(fork: Fork | None) -> Cells:
    """Return which execution a fork came from, and at which entry."""
    return ("", 0, "") if fork is None else (fork.execution_id, fork.sequence, fork.checkpoint)


def execution_state(execution: Execution, updated_s: float, deaths: int = 0) -> Cells:
    """Return the columns of an execution that change."""
    return (
        execution.state._value_,
        clean(execution.info),
        cell_of(execution.output),
        cell_of(execution.reported_errors),
        execution.revision,
        execution.active_count,
        execution.waits_for_delegates,
        execution.started_s,
        execution.ended_s,
        execution.moved_s,
        updated_s,
        *_stops(execution),
        execution.first_sequence,
        deaths,
    )


def _stops(execution: Execution) -> Cells:
    """Return at which checkpoint an execution stands, which ones it did not reach, at which ones it is to stop, to
    which one it goes back, and when it continues by itself."""
    stands_at, goes_to = execution.paused_at, execution.revert.to if execution.revert is not None else 0
    stops = clean(execution.not_reached), _texts(execution.stop_at)
    going_back = _entry_name(execution, goes_to), goes_to
    return _entry_name(execution, stands_at), stands_at, *stops, *going_back, execution.goes_on_s


def _entry_name(execution: Execution, sequence: int) -> str:
    if not sequence:
        return ""
    entry = execution.entries.get(sequence)
    return START if entry is None else entry.name


def task_origin(execution_id: str, task: TaskExecution) -> Cells:
    """Return the columns of a task execution that never change."""
    return (execution_id, task.number, task.name, task.route, task.created_s, _texts(task.tags))


def task_state(task: TaskExecution) -> Cells:
    """Return the columns of a task execution that change."""
    return (
        task.state._value_,
        task.generation,
        clean(task.info),
        task.timing.timer._value_,
        task.timing.due_s,
        task.timing.timeout_due_s,
        task.timing.verdict._value_ if task.timing.verdict is not None else "",
        task.progress.attempt,
        task.progress.retries,
        task.progress.item_count,
        task.progress.added_count,
        task.progress.ended_count,
        task.progress.failed_count,
        task.progress.cancelled_count,
        _stored_object(task.published),
        len(task.arrivals.sources),
        _numbers(task.next),
        task.routed,
        task.handled,
        task.progress.result_dropped,
        task.superseded_by,
        *_awaited(task),
        task.started_s,
        task.ended_s,
        task.ended_at,
    )


def checkpoint_cells(execution_id: str, entry: Entry) -> Cells:
    """Return the columns of an entry of a checkpoint."""
    return (
        execution_id,
        entry.sequence,
        entry.name,
        entry.task,
        entry.route,
        cell_of(entry.data),
        entry.at_s,
        entry.is_undone,
    )


def attempt_origin(execution_id: str, attempt: Attempt) -> Cells:
    """Return the columns of an attempt that never change."""
    task, item, number = attempt.key
    return (
        execution_id,
        task,
        item,
        number,
        attempt.action,
        attempt.child_id,
        attempt.safe,
        attempt.adhoc,
        attempt.target,
        attempt.digest,
        attempt.timeout_s,
        cell_of(attempt.input),
        clean(attempt.comment),
        clean(attempt.actor),
        attempt.created_s,
        attempt.reverts,
        attempt.copied,
        attempt.was_workflow,
    )


def attempt_state(attempt: Attempt) -> Cells:
    """Return the columns of an attempt that change."""
    return (
        attempt.state._value_,
        attempt.is_undone,
        attempt.accepted,
        cell_of(attempt.result),
        clean(attempt.error),
        attempt.delivery,
        attempt.session_id,
        attempt.executor_id,
        attempt.delegated,
        attempt.started_s,
        attempt.ended_s,
        clean(attempt.alias),
        attempt.deadline_s,
        attempt.engine,
    )


def execution_row(execution: Execution, updated_s: float, deaths: int = 0) -> ExecutionRow:
    """Return the whole row of an execution. Large values are references."""
    return ExecutionRow(*execution_origin(execution), *execution_state(execution, updated_s, deaths))  # type: ignore[arg-type]


def execution_record(execution: Execution, updated_s: float) -> ExecutionRow:
    """Return what a read gives of an execution that is stored as it is: its row, with all values."""
    created = execution.created
    row = execution_row(execution, updated_s)
    values = created.input, created.params, execution.output, execution.reported_errors
    if not any(value is not None and value.is_large for value in values):
        return row  # it has them all: to replace nothing takes three times as long as to make it
    given, params, output, errors = (None if value is None else value.text for value in values)
    return replace(row, input=given, params=params, output=output, errors=errors)


def task_counts(execution: Execution) -> dict[str, int]:
    """Return how many tasks are in each state, without those that others have taken the place of."""
    return Counter(task.state.value for task in execution.tasks.values() if not task.superseded_by)


def task_row(execution_id: str, task: TaskExecution) -> TaskRow:
    """Return the whole row of a task execution. Large values are references."""
    return TaskRow(*task_origin(execution_id, task), *task_state(task))  # type: ignore[arg-type]


def execution_facts(execution: Execution) -> ExecutionFacts:
    """Return what the row of an execution has of these facts."""
    created = execution.created
    labels, actor, comment = _labels(created), clean(created.actor), clean(created.comment)
    return ExecutionFacts(created.namespace, created.workflow, labels, actor, comment)


def task_facts(task: TaskExecution) -> TaskFacts:
    """Return what the row of a task execution has of these facts."""
    return TaskFacts(task.name, task.progress.item_count, task.timing.timeout_due_s)


def checkpoint_row(execution_id: str, entry: Entry) -> CheckpointRow:
    """Return the row of an entry of a checkpoint. Large values are references."""
    return CheckpointRow(*checkpoint_cells(execution_id, entry))  # type: ignore[arg-type]


def attempt_row(execution_id: str, attempt: Attempt) -> AttemptRow:
    """Return the whole row of an attempt. Large values are references."""
    return AttemptRow(*attempt_origin(execution_id, attempt), *attempt_state(attempt))  # type: ignore[arg-type]


class TouchedRows:
    """The rows of an execution that changes altered."""

    __slots__ = ("added_attempts", "added_tasks", "attempts", "begun", "begun_items", "tasks")

    def __init__(self, changes: Iterable[AnyChange | Consolidated]) -> None:
        self.added_tasks: dict[int, None] = {}
        self.tasks: dict[int, None] = {}
        """Altered, and existed before."""
        self.added_attempts: dict[AttemptKey, None] = {}
        self.attempts: dict[AttemptKey, None] = {}
        """Altered, and existed before."""
        self.begun: list[tuple[int, int]] = []
        """Task and round: attempts of earlier rounds are no longer accepted."""
        self.begun_items: list[tuple[int, int, int]] = []
        """Task, item and round: attempts of earlier rounds of this item are no longer accepted."""
        for change in changes:
            _TOUCH.get(type(change), _touch_task)(self, change)

    def reduce(self, discarded: Discarded, tasks: Collection[int], attempts: Collection[AttemptKey]) -> None:
        """Leave out what a later change has discarded, and add the tasks that it has reduced."""
        self.tasks.update(dict.fromkeys(each for each in discarded.reduced if each not in self.added_tasks))
        for numbers in (self.added_tasks, self.tasks):
            for number in [each for each in numbers if each not in tasks]:
                del numbers[number]
        for keys in (self.added_attempts, self.attempts):
            for key in [each for each in keys if each not in attempts]:
                del keys[key]


def _touch_nothing(touched: TouchedRows, change: object) -> None:
    pass


def _touch_task(touched: TouchedRows, change: AnyChange) -> None:
    task: int | None = getattr(change, "task", None)
    if task and task not in touched.added_tasks:
        touched.tasks[task] = None


def _add_task(touched: TouchedRows, change: TaskAdded) -> None:
    touched.added_tasks[change.task] = None


def _begin(touched: TouchedRows, change: AttemptsBegun) -> None:
    _touch_task(touched, change)
    if change.only is not None:
        touched.begun_items += ((change.task, item, change.attempt) for item in change.only)
    elif change.attempt > 1:
        touched.begun.append((change.task, change.attempt))


def _add_attempt(touched: TouchedRows, change: AttemptAdded) -> None:
    touched.added_attempts[change.key] = None
    if change.key[0] not in touched.added_tasks:
        touched.tasks[change.key[0]] = None


def _move_attempt(touched: TouchedRows, change: AttemptMoved) -> None:
    if change.key not in touched.added_attempts:
        touched.attempts[change.key] = None
    if change.key[0] not in touched.added_tasks:
        touched.tasks[change.key[0]] = None


def _load(touched: TouchedRows, change: Consolidated) -> None:
    """A fork begins with it: all its rows are new."""
    touched.added_tasks.update((task.number, None) for task in change.tasks)
    touched.added_attempts.update((attempt.key, None) for attempt in change.attempts)


def _restore(touched: TouchedRows, change: Restored) -> None:
    touched.tasks.update((task, None) for task in change.tasks if task not in touched.added_tasks)
    touched.attempts.update((key, None) for key in change.attempts if key not in touched.added_attempts)


_TOUCH: dict[type, Callable[[TouchedRows, Any], None]] = {
    GlobalsPublished: _touch_nothing,
    ErrorNoted: _touch_nothing,
    CheckpointReached: _touch_nothing,
    RouteOpened: _touch_nothing,
    TaskAdded: _add_task,
    AttemptsBegun: _begin,
    AttemptAdded: _add_attempt,
    AttemptMoved: _move_attempt,
    Restored: _restore,
    Consolidated: _load,
}


def clean(text: str) -> str:
    """Replace NUL in texts of people and programs, which PostgreSQL's text cannot contain. (The journal keeps it,
    escaped.)"""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in text else text


def cell_of(value: Value | None) -> str | None:
    """Return the cell of a value."""
    if value is None:
        return None
    inline = value.inline
    return f"${value.digest}" if inline is None else inline


def _stored_object(values: Mapping[str, Value]) -> str:
    if not values:
        return "{}"
    return msgspec.json.encode(
        {name: {"$": value.digest} if value.is_large else value.text for name, value in values.items()}
    ).decode()


AWAITS_MAX = 20
"""How many of the tasks that a join waits for are named in its row, which is written with each arrival."""


def _awaited(task: TaskExecution) -> tuple[str, int]:
    """Return the first tasks that a join waits for, and how many it waits for."""
    if task.state is not _WAITING:
        return "[]", 0
    absent = [name for name in task.arrivals.awaits if name not in task.arrivals.arrived]
    return _texts(absent[:AWAITS_MAX]), len(absent)


def _texts(texts: Sequence[str]) -> str:
    return msgspec.json.encode(texts).decode() if texts else "[]"


def _numbers(numbers: Sequence[int]) -> str:
    return f"[{','.join(map(str, numbers))}]"


_REFERENCE_BEGINS = '{"$":"'
_REFERENCE = re.compile(r'\{"\$":"([0-9a-f]{32})"\}')


def digests(cell: str) -> list[str]:
    """Return the digests of the large values that a cell or a journal text refers to. Rarely it contains others."""
    if cell.startswith("$"):
        return [cell[1:]]
    return _REFERENCE.findall(cell) if _REFERENCE_BEGINS in cell else []  # most have none, and the pattern is slow


def full(cell: str | None, texts: Mapping[str, str]) -> str | None:
    """Return the JSON text of a value's cell. Raises KeyError when a large one is not in `texts`."""
    return texts[cell[1:]] if cell is not None and cell.startswith("$") else cell


def full_object(cell: str, texts: Mapping[str, str]) -> str:
    """Return the JSON text of the object in a cell of published values."""
    members: dict[str, str | dict[str, str]] = msgspec.json.decode(cell)
    written = (
        f"{json.dumps(name, ensure_ascii=False)}:{text if isinstance(text, str) else texts[text['$']]}"
        for name, text in members.items()
    )
    return f"{{{','.join(written)}}}"
