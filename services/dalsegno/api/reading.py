"""Executions and tasks as messages, put together from the rows of one snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dalsegno.rpc import convert, journal, messages
from dalsegno.rpc.journal import Named
from dalsegno.store.filters import ATTEMPT_FIELDS, Filter, parse_filter
from dalsegno.store.pages import PAGE_BYTES_MAX, write_token
from dalsegno.store.records import ExecutionRow, JournalChange, TaskRow
from dalsegno.store.store import Queries
from dalsegno.v1 import execution_pb2
from dalsegno.workflow.changes import AttemptsBegun
from dalsegno.workflow.identity import attempt_id
from dalsegno.workflow.refusals import NotFound

WAITING_MAX = 100
ATTEMPTS_READ = 1_000
"""So many attempts of a task are looked at for its children, of which 100 are told."""

_COMING_TO_REST = ("PAUSING", "CANCELLING")
_RUNNING = parse_filter("state=RUNNING delegated=false", ATTEMPT_FIELDS)
_DELEGATED = parse_filter("state=RUNNING,PAUSED delegated=true", ATTEMPT_FIELDS)
_PAUSED = parse_filter("state=PAUSED delegated=false", ATTEMPT_FIELDS)
_READY = parse_filter("state=READY", ATTEMPT_FIELDS)


def execution_id_of(text: str) -> str:
    """An execution's id from a request. Raises InvalidRequest."""
    fields = convert.Fields()
    execution_id = fields.uuid("execution_id", text)
    fields.done()
    return execution_id


def found(row: ExecutionRow | None, execution_id: str) -> ExecutionRow:
    """The row, which must be there. Raises NotFound; a standalone action's execution is nobody's business."""
    if row is None or not row.workflow:
        raise NotFound("execution", execution_id)
    return row


def read_execution(queries: Queries, execution_id: str) -> execution_pb2.Execution:
    """An execution with all its values. Raises NotFound."""
    row = found(queries.execution(execution_id), execution_id)
    counts = queries.task_counts([execution_id])[execution_id]
    return messages.execution_message(row, counts, waiting_for(queries, row))


def waiting_for(queries: Queries, row: ExecutionRow) -> list[str]:
    """What it waits for: while it comes to rest, those at work; while it runs, an executor if it needs one."""
    if row.state in _COMING_TO_REST:
        active = queries.attempts(row.id, chosen=_RUNNING, size=WAITING_MAX).rows
        if row.waits_for_delegates:
            active = [*active, *queries.attempts(row.id, chosen=_DELEGATED, size=WAITING_MAX).rows]
        if row.state == "CANCELLING":  # a sub-workflow that was PAUSED must come to its end as well
            active = [*active, *queries.attempts(row.id, chosen=_PAUSED, size=WAITING_MAX).rows]
        return [attempt.child_id or attempt_id(row.id, attempt.key) for attempt in active][:WAITING_MAX]
    if row.state == "RUNNING" and not row.active_count and queries.attempts(row.id, chosen=_READY, size=1).rows:
        return ["executor"]
    return []


def read_tasks(queries: Queries, rows: list[TaskRow], *, full: bool = False) -> list[execution_pb2.TaskExecution]:
    """Task executions of one execution, with their results when asked for: so many of these as go into one message."""
    if not rows:
        return []
    execution_id = rows[0].execution_id
    leading = queries.leading_attempts(execution_id, [row.number for row in rows])
    told: list[execution_pb2.TaskExecution] = []
    size = 0
    for row in rows:
        first = leading.get(row.number)
        waits = "executor" if first is not None and first.state == "READY" else ""
        if not waits and first is not None and first.child_id and first.state == "RUNNING":
            waits = f"execution {first.child_id}"
        elif not waits and first is not None and first.delegated and first.state == "RUNNING":
            waits = f"action {attempt_id(execution_id, first.key)}"
        children = _children(queries, row) if first is not None and first.child_id else []
        result = queries.task_result(execution_id, row.number) if full else None
        message = messages.task_message(row, first, result, children, waits)
        size += message.ByteSize()
        if told and size > PAGE_BYTES_MAX:
            break
        told.append(message)
    return told


def tasks_token(execution_id: str, chosen: Filter, number: int) -> str:
    """The token of the page of tasks after this one."""
    return write_token(f"tasks {execution_id}", chosen, (number,))


def _children(queries: Queries, row: TaskRow) -> list[str]:
    """The children that speak for the task: of each item the newest, for rounds may have run some items only."""
    attempts = queries.attempts(row.execution_id, row.number, size=ATTEMPTS_READ).rows
    newest = {attempt.item: attempt.child_id for attempt in attempts}
    return [child_id for child_id in newest.values() if child_id]


class ChangeNames:
    """What the changes of one execution say of its tasks, read as it is needed."""

    def __init__(self, execution_id: str) -> None:
        self._execution_id = execution_id
        self._named: dict[int, Named] = {}

    def of(self, queries: Queries, rows: Iterable[JournalChange]) -> Mapping[int, Named]:
        """The names of the tasks that these changes are about, and whether they have items."""
        wanted: dict[int, None] = {}
        for row in rows:
            for number in journal.task_numbers(row.change):
                if number not in self._named or isinstance(row.change, AttemptsBegun):
                    wanted[number] = None  # only its first round of attempts tells whether a task has items
        for number in wanted:
            task = queries.task(self._execution_id, number)
            if task is not None:
                self._named[number] = Named(task.name, task.item_count is not None)
        return self._named
