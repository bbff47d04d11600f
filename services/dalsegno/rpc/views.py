"""Executions, tasks and action executions as messages, from the rows of one snapshot.

This module makes every answer: the answers of writes, which the engine reads within its transaction, and the answers of
reads, lists and watchers.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson

from dalsegno.rpc import messages, sizes
from dalsegno.rpc.messages import NO_RESULT, NOTHING, Awaited
from dalsegno.store.descriptions import Serving, Wanted
from dalsegno.store.filters import ATTEMPT_FIELDS, Filter, parse_filter
from dalsegno.store.records import AttemptRow, ExecutionFacts, ExecutionRow, TaskFacts, TaskRow
from dalsegno.store.rows import execution_facts, task_facts
from dalsegno.store.store import Queries
from dalsegno.v1 import execution_pb2, execution_service_pb2
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import AttemptKey, attempt_id
from dalsegno.workflow.refusals import NotFound
from dalsegno.workflow.states import AttemptState

WAITING_MAX = 100
"""How many names an execution shows of what it waits for."""
NAMED_TOGETHER = 20
"""For so many executions these names are read by one query. More at once would take memory: each may have all names."""

ATTEMPTS_READ = 1_000
"""The number of attempts that are looked at: of a task to find its children, of which 100 are listed, and of an
execution in memory to find what it waits for."""

Place = tuple[str, AttemptKey]
"""An attempt: its execution and its key there."""

_NONE_KNOWN: Mapping[str, Execution] = {}
_COMING_TO_REST = ("PAUSING", "CANCELLING")
_GOING = ("RUNNING", "REVERTING")
_RUNNING = parse_filter("state=RUNNING delegated=false", ATTEMPT_FIELDS)
_WITH_OTHERS = (AttemptState.RUNNING, AttemptState.PAUSED)
_DELEGATED = parse_filter("state=RUNNING,PAUSED delegated=true", ATTEMPT_FIELDS)
_READY = parse_filter("state=READY", ATTEMPT_FIELDS)
_NO_REVERT = parse_filter("revert=false", ATTEMPT_FIELDS)
_PAUSED = parse_filter("state=PAUSED delegated=false", ATTEMPT_FIELDS)


def found(row: ExecutionRow | None, execution_id: str) -> ExecutionRow:
    """Return the row. Raises NotFound if it is None, or the hidden execution of a standalone action."""
    if row is None or row.is_standalone_action:
        raise NotFound("execution", execution_id)
    return row


# Executions


def read_execution(queries: Queries, execution_id: str) -> execution_pb2.Execution:
    """Return an execution. Raises NotFound."""
    row = found(queries.execution(execution_id), execution_id)
    return execution_messages(queries, [row])[0]


@dataclass(frozen=True, slots=True)
class Known:
    """What a read would give of an execution that is in memory as it is stored."""

    row: ExecutionRow
    task_counts: Mapping[str, int]
    execution: Execution


def read_executions(
    queries: Queries, execution_ids: Collection[str], known: Mapping[str, Known], *, discarded: bool = False
) -> dict[str, execution_pb2.Execution]:
    """Return those of these executions that exist. Those that are `known` are not read. `discarded`: see
    Queries.executions_of."""
    unknown = [each for each in execution_ids if each not in known]
    rows = queries.executions_of(unknown, discarded=discarded) if unknown else {}
    rows.update((each, known[each].row) for each in execution_ids if each in known)
    counts = queries.task_counts(unknown) if unknown else {}
    counts.update((each, dict(known[each].task_counts)) for each in execution_ids if each in known)
    executions = {each: known[each].execution for each in execution_ids if each in known}
    return dict(zip(rows, _execution_messages(queries, list(rows.values()), counts, executions), strict=True))


def execution_messages(queries: Queries, rows: Sequence[ExecutionRow]) -> list[execution_pb2.Execution]:
    """Return the messages of executions, in their order."""
    return _execution_messages(queries, rows, queries.task_counts([row.id for row in rows]))


def _execution_messages(
    queries: Queries,
    rows: Sequence[ExecutionRow],
    counts: Mapping[str, Mapping[str, int]],
    known: Mapping[str, Execution] = _NONE_KNOWN,
) -> list[execution_pb2.Execution]:
    awaited = read_awaited(queries, rows, known)
    return [messages.execution_message(row, counts[row.id], awaited.get(row.id, NOTHING)) for row in rows]


def read_awaited(
    queries: Queries, rows: Iterable[ExecutionRow], known: Mapping[str, Execution] = _NONE_KNOWN
) -> dict[str, Awaited]:
    """Return what these executions wait for. One that is PAUSING, CANCELLING or REVERTING: its running attempts. One
    that runs or is REVERTING without running attempts: an executor if it needs one, else its delegated attempts.

    `known`: executions in memory, as they are stored. An engine creates hundreds in a batch: it does not read for each
    what it waits for.
    """
    awaited: dict[str, Awaited] = {}
    idle: list[str] = []
    asked: dict[str, list[Filter]] = {}
    serving = Serving(queries)
    for row in rows:
        if row.state in _GOING and not row.active_count:
            execution = known.get(row.id)
            if execution is None or len(execution.attempts) > ATTEMPTS_READ:
                idle.append(row.id)
            else:
                awaited[row.id] = _awaited_by(execution, serving)
        elif row.state in _COMING_TO_REST or row.state == "REVERTING":
            asked[row.id] = _at_work(row)
    ready = queries.first_attempts(idle, _READY, 1) if idle else {}
    for each in idle:
        if each in ready:
            awaited[each] = Awaited((serving.awaited(ready[each][0]),))
        else:
            asked[each] = [_DELEGATED]
    for start in range(0, len(asked), NAMED_TOGETHER):
        awaited.update(_named(queries, dict(itertools.islice(asked.items(), start, start + NAMED_TOGETHER))))
    return awaited


def _awaited_by(execution: Execution, serving: Serving) -> Awaited:
    """Return what an execution in memory without running attempts waits for."""
    if execution.ready:
        first = execution.attempts[min(execution.ready)]
        ready = Wanted(execution.id, first.key, first.action, first.target, first.digest, first.input.text)
        return Awaited((serving.awaited(ready),))
    keys = sorted(each.key for each in execution.attempts.values() if each.delegated and each.state in _WITH_OTHERS)
    names = [execution.attempts[key].child_id or attempt_id(execution.id, key) for key in keys[:WAITING_MAX]]
    return Awaited(names, len(keys) - len(names))


def _at_work(row: ExecutionRow) -> list[Filter]:
    """Return which attempts an execution waits for that comes to rest or reverts."""
    filters = [_RUNNING]
    if row.waits_for_delegates:
        filters.append(_DELEGATED)
    if row.state == "CANCELLING":  # a PAUSED sub-workflow must end, too
        filters.append(_PAUSED)
    return filters


def _named(queries: Queries, asked: Mapping[str, Sequence[Filter]]) -> dict[str, Awaited]:
    """Return the attempts and children that these filters choose, by execution: the first ones, and how many more there
    are."""
    found = {
        chosen: queries.first_attempts([each for each in asked if chosen in asked[each]], chosen, WAITING_MAX + 1)
        for chosen in dict.fromkeys(itertools.chain.from_iterable(asked.values()))
    }
    awaited: dict[str, Awaited] = {}
    for execution_id, filters in asked.items():
        names: list[str] = []
        further = 0
        for chosen in filters:
            rows = found[chosen].get(execution_id, [])
            count = len(rows) if len(rows) <= WAITING_MAX else queries.attempt_count(execution_id, chosen)
            told = rows[: WAITING_MAX - len(names)]
            names += (attempt.child_id or attempt_id(execution_id, attempt.key) for attempt in told)
            further += count - len(told)
        awaited[execution_id] = Awaited(names, further)
    return awaited


# Action executions


def read_action_executions(
    queries: Queries, places: Collection[Place], known: Mapping[str, Execution]
) -> dict[Place, execution_pb2.ActionExecution]:
    """Return those of these action executions that exist. `known`: see action_messages."""
    rows = queries.attempts_of(places)
    told = action_messages(queries, rows, known)
    return {(row.execution_id, row.key): message for row, message in zip(rows, told, strict=True)}


def action_messages(
    queries: Queries, rows: Sequence[AttemptRow], known: Mapping[str, Execution] = _NONE_KNOWN
) -> list[execution_pb2.ActionExecution]:
    """Return the messages of action executions, in their order. `known`: executions in memory, as they are stored."""
    executions: dict[str, ExecutionRow | ExecutionFacts] = {}
    tasks: dict[tuple[str, int], TaskRow | TaskFacts] = {}
    asked: set[tuple[str, int]] = set()
    for row in rows:
        execution = known.get(row.execution_id)
        task = execution.tasks.get(row.task) if execution is not None else None
        if execution is None or task is None:
            asked.add((row.execution_id, row.task))
        else:
            executions[row.execution_id] = execution_facts(execution)
            tasks[row.execution_id, row.task] = task_facts(task)
    if asked:
        executions.update(queries.executions_of({each for each, _ in asked}, full=False, discarded=True))
        tasks.update(queries.tasks_of(asked))
    serving = Serving(queries)
    return [
        messages.action_message(
            row,
            executions[row.execution_id],
            tasks[row.execution_id, row.task],
            serving.awaited(row) if row.state == "READY" else "",
        )
        for row in rows
    ]


def progress_messages(
    queries: Queries, rows: Sequence[AttemptRow]
) -> list[execution_service_pb2.WatchExecutionResponse.TaskProgress]:
    """Return the progress of action executions, in their order, without details; that of earlier deliveries is
    excluded."""
    tasks = queries.tasks_of({(row.execution_id, row.task) for row in rows})
    found = []
    for row in rows:
        progress, task = messages.progress_message(row), tasks.get((row.execution_id, row.task))
        if progress is not None and task is not None:
            told = execution_service_pb2.WatchExecutionResponse.TaskProgress(
                action_execution_id=attempt_id(row.execution_id, row.key),
                task_number=row.task,
                item=None if task.item_count is None else row.item,
                progress=progress,
            )
            found.append(told)
    return found


# Tasks


def task_messages(
    queries: Queries, rows: Sequence[TaskRow], *, full: bool = False
) -> Iterator[execution_pb2.TaskExecution]:
    """Yield the task executions of one execution in their order; `full`: with their results."""
    if rows:
        execution_id = rows[0].execution_id
        leading = queries.leading_attempts(execution_id, [row.number for row in rows])
        serving = Serving(queries)
        for row in rows:
            yield _task_message(queries, row, leading.get(row.number), serving, full=full)


def _task_message(
    queries: Queries, row: TaskRow, leading: AttemptRow | None, serving: Serving, *, full: bool
) -> execution_pb2.TaskExecution:
    children = _children(queries, row) if leading is not None and leading.child_id else []
    result = queries.task_result(row.execution_id, row.number, sizes.ALONE_BYTES_MAX) if full else NO_RESULT
    return messages.task_message(row, leading, result, children, _task_waits_for(row, leading, serving))


def _task_waits_for(row: TaskRow, leading: AttemptRow | None, serving: Serving) -> str:
    if row.state == "WAITING":
        return _tasks_before(row)
    if leading is None:
        return ""
    if leading.state == "READY":
        return serving.awaited(leading)
    if leading.state != "RUNNING":
        return ""
    if leading.child_id:
        return f"execution {leading.child_id}"
    return f"action {attempt_id(row.execution_id, leading.key)}" if leading.delegated else ""


def _tasks_before(join: TaskRow) -> str:
    """Return the tasks that a join waits for: the first ones, and how many more there are."""
    names = orjson.loads(join.awaits)
    if not names:
        return ""
    further = join.awaits_count - len(names)
    return f"tasks {', '.join(names)}" + (f" and {further} more" if further else "")


def _children(queries: Queries, row: TaskRow) -> list[str]:
    """Return the children of the task: the newest of each item, because a round may run only some items."""
    attempts = queries.attempts(row.execution_id, row.number, _NO_REVERT, ATTEMPTS_READ).rows
    newest = {attempt.item: attempt.child_id for attempt in attempts}
    return [child_id for child_id in newest.values() if child_id]
