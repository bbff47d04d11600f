"""The read side over SQL: what api reads, and what a step looks up outside its own execution."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any, TypeVar

import sqlalchemy as sa

from dalsegno.store.filters import EVERYTHING, Filter
from dalsegno.store.hidden import SHOWN_EXECUTIONS, first_sequence, shown_entries, shown_tasks
from dalsegno.store.journals import JournalRow, changes_of, first_changes, number_changes
from dalsegno.store.listing import Listing, Order, columns, conditions, one_row, read_record
from dalsegno.store.pages import PAGE_BYTES_MAX
from dalsegno.store.places import ByPlace
from dalsegno.store.prepared import Prepared, parameter
from dalsegno.store.records import (
    AttemptRow,
    CheckpointRow,
    DefinitionKind,
    DefinitionRow,
    DescriptionRow,
    EngineRow,
    EnvironmentRow,
    ExecutionRow,
    JournalChange,
    Page,
    SessionRow,
    Standing,
    TaskResult,
    TaskRow,
    phase_of,
    standing_of,
)
from dalsegno.store.tables import (
    ACTIONS,
    ATTEMPTS,
    CHECKPOINTS,
    DEFINITIONS,
    DESCRIPTIONS,
    DOCUMENTS,
    ENGINES,
    ENVIRONMENTS,
    EXECUTIONS,
    JOURNAL,
    SESSIONS,
    SETTINGS,
    TASKS,
)
from dalsegno.store.texts import (
    bounded_result,
    dropped_result,
    fetch_texts,
    fill,
    referenced_digests,
    row_bytes,
)
from dalsegno.store.tokens import TokenReads
from dalsegno.workflow.changes import AnyChange
from dalsegno.workflow.codec import decode_changes
from dalsegno.workflow.consolidated import Consolidated
from dalsegno.workflow.graph import Phase
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.states import COMPLETED_ATTEMPT, COMPLETED_TASK, AttemptState, ExecutionState, TaskState

Place = TypeVar("Place")

_JOURNAL_ROWS = 20
"""How many rows of a journal are read at once."""

_BY_AGE = Order((EXECUTIONS.c.created_s, EXECUTIONS.c.id), (float, str), descending=True)
_NEWEST_ENTRY = Order((CHECKPOINTS.c.sequence,), (int,), descending=True)
_BY_NUMBER = Order((TASKS.c.number,), (int,))
_ATTEMPT_KEY = (ATTEMPTS.c.task, ATTEMPTS.c.item, ATTEMPTS.c.attempt)
_BY_KEY = Order(_ATTEMPT_KEY, (int, int, int))
_NEWEST_ATTEMPT = Order((ATTEMPTS.c.execution_id, *_ATTEMPT_KEY), (str, int, int, int), descending=True)
_BY_VERSION = Order((DEFINITIONS.c.namespace, DEFINITIONS.c.name, DEFINITIONS.c.version), (str, str, int))
_BY_NAME = Order((ENVIRONMENTS.c.namespace, ENVIRONMENTS.c.name), (str, str))

_WITH_TEXT = DEFINITIONS.join(DOCUMENTS, DOCUMENTS.c.id == DEFINITIONS.c.document_id)

# Statements that clients need all the time are built once: to build one takes several times as long as to execute it.
_ID = parameter("id")
_TASK = parameter("task")
_IDS: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
_EXECUTION = one_row(ExecutionRow, EXECUTIONS, EXECUTIONS.c.id == _ID, SHOWN_EXECUTIONS)
_EXECUTIONS_OF = {
    (full, discarded): sa.select(*columns(ExecutionRow, EXECUTIONS, full)).where(
        EXECUTIONS.c.id.in_(_IDS), *(() if discarded else (SHOWN_EXECUTIONS,))
    )
    for full in (True, False)
    for discarded in (True, False)
}
_IS_FORK = (EXECUTIONS.c.forked_from == _ID, sa.text("executions.forked_from <> ''"))
_NEWEST_FORKS = Prepared(
    sa.select(EXECUTIONS.c.id)
    .where(*_IS_FORK)
    .order_by(EXECUTIONS.c.created_s.desc(), EXECUTIONS.c.id.desc())
    .limit(parameter("limit", sa.Integer))
)
_FORK_COUNT = Prepared(sa.select(sa.func.count()).select_from(EXECUTIONS).where(*_IS_FORK))
_STANDINGS = sa.select(EXECUTIONS.c.id, EXECUTIONS.c.state, EXECUTIONS.c.active_count, EXECUTIONS.c.revision).where(
    EXECUTIONS.c.id.in_(_IDS), SHOWN_EXECUTIONS
)
# The condition on the parent is that of the index.
_PAUSED_BELOW = (
    sa.select(EXECUTIONS.c.id)
    .where(
        EXECUTIONS.c.root_id == sa.bindparam("root_id"),
        EXECUTIONS.c.parent_id != "",
        EXECUTIONS.c.state.in_([ExecutionState.PAUSED.value, ExecutionState.PAUSING.value]),
    )
    .order_by(EXECUTIONS.c.id)
    .limit(1000)
)
_SHOWN_TASKS = shown_tasks(TASKS.c.execution_id, TASKS.c.number)
_SHOWN_ATTEMPTS = shown_tasks(ATTEMPTS.c.execution_id, ATTEMPTS.c.task)
_TASK_ROW = one_row(TaskRow, TASKS, TASKS.c.execution_id == _ID, TASKS.c.number == _TASK, _SHOWN_TASKS)
_ATTEMPT_ROW = one_row(
    AttemptRow,
    ATTEMPTS,
    *(ATTEMPTS.c.execution_id == _ID, ATTEMPTS.c.task == _TASK),
    *(ATTEMPTS.c.item == parameter("item"), ATTEMPTS.c.attempt == parameter("attempt"), _SHOWN_ATTEMPTS),
)
_TASKS_OF = ByPlace(
    sa.select(*columns(TaskRow, TASKS, False)).where(_SHOWN_TASKS), TASKS.c.execution_id, TASKS.c.number
)
_ATTEMPTS_OF = ByPlace(
    sa.select(*columns(AttemptRow, ATTEMPTS, True)).where(_SHOWN_ATTEMPTS), ATTEMPTS.c.execution_id, *_ATTEMPT_KEY
)
_TASK_COUNTS = (
    sa.select(TASKS.c.execution_id, TASKS.c.state, sa.func.count())
    .where(TASKS.c.execution_id.in_(_IDS), TASKS.c.superseded_by == "", _SHOWN_TASKS)
    .group_by(TASKS.c.execution_id, TASKS.c.state)
    .order_by(TASKS.c.state)
)

_ENTRY_OF_TASK = sa.select(CHECKPOINTS.c.sequence).where(
    CHECKPOINTS.c.execution_id == TASKS.c.execution_id, CHECKPOINTS.c.task == TASKS.c.number, ~CHECKPOINTS.c.undone
)
_DEFINITION = one_row(DefinitionRow, DEFINITIONS, DEFINITIONS.c.definition_id == _ID, source=_WITH_TEXT)
_NAME, _NAMESPACE = parameter("name"), parameter("namespace")
_NAMED_DEFINITION = {
    (has_version, full): one_row(
        DefinitionRow,
        DEFINITIONS,
        *(DEFINITIONS.c.kind == parameter("kind"), DEFINITIONS.c.name == _NAME),
        *(DEFINITIONS.c.namespace == _NAMESPACE, ~DEFINITIONS.c.deleted),
        *((DEFINITIONS.c.version == parameter("version"),) if has_version else ()),
        source=_WITH_TEXT if full else None,
        order=DEFINITIONS.c.version.desc(),
        full=full,
    )
    for has_version in (True, False)
    for full in (True, False)
}
_ENVIRONMENT = one_row(
    EnvironmentRow, ENVIRONMENTS, ENVIRONMENTS.c.namespace == _NAMESPACE, ENVIRONMENTS.c.name == _NAME
)
_JOURNAL = Prepared(
    sa.select(JOURNAL.c.first, JOURNAL.c.entries, JOURNAL.c.changes, JOURNAL.c.last)
    .where(JOURNAL.c.execution_id == _ID, JOURNAL.c.last > parameter("after"), JOURNAL.c.last >= first_sequence(_ID))
    .order_by(JOURNAL.c.last)
    .limit(_JOURNAL_ROWS)
)
_OPEN_TASKS = (
    sa.select(TASKS.c.name, TASKS.c.state, TASKS.c.attempt > 0, _ENTRY_OF_TASK.exists())
    .where(
        TASKS.c.execution_id == parameter("id"),
        TASKS.c.superseded_by == "",
        TASKS.c.state != TaskState.REVERTED.value,
        sa.or_(~TASKS.c.routed, TASKS.c.state.not_in(sorted(COMPLETED_TASK))),
    )
    .distinct()
)


def _of_same_task(function: Callable[[Any], Any], name: str, by: str) -> sa.ScalarSelect[Any]:
    """Return the least or greatest number among the attempts of the same task and the same item or round, without those
    that are undone and those that undo."""
    other = ATTEMPTS.alias()
    same = [other.c[each] == ATTEMPTS.c[each] for each in ("execution_id", "task", by)]
    same += [other.c.reverts == 0, ~other.c.undone]
    return sa.select(function(other.c[name])).where(*same).correlate(ATTEMPTS).scalar_subquery()


# An item's result is that of its newest attempt, and null if that was ended by force.
_NEWEST_OF_ITEM = ATTEMPTS.c.attempt == _of_same_task(sa.func.max, "attempt", "item")
_COUNTS = sa.or_(ATTEMPTS.c.accepted, ATTEMPTS.c.state == AttemptState.CANCELLED.value)


def _attempts_of_execution(
    chosen: Filter, of_one_task: bool, full: bool, execution_id: sa.ColumnElement[str] = _ID
) -> sa.Select[Any]:
    """Return the statement for the first attempts of one execution, or of one task of it."""
    where = [ATTEMPTS.c.execution_id == execution_id, _SHOWN_ATTEMPTS]
    where += conditions(chosen, ATTEMPTS, ATTEMPTS.c.execution_id)
    if of_one_task:
        where.append(ATTEMPTS.c.task == _TASK)
    return Listing(AttemptRow, ATTEMPTS, "", _BY_KEY).statement(where, full)


@lru_cache(maxsize=100)
def _kept_attempts(chosen: Filter, of_one_task: bool, full: bool) -> Prepared:
    """Return the same for a filter that is used again and again."""
    return Prepared(_attempts_of_execution(chosen, of_one_task, full))


@lru_cache(maxsize=100)
def _attempts_of_each(chosen: Filter) -> sa.Select[Any]:
    """Return the statement for the first attempts of each of several executions."""
    first = _attempts_of_execution(chosen, False, False, EXECUTIONS.c.id).correlate(EXECUTIONS).lateral()
    return sa.select(first).select_from(EXECUTIONS.join(first, sa.true())).where(EXECUTIONS.c.id.in_(_IDS))


class SqlQueries(TokenReads):
    """See store.Queries."""

    def execution(self, execution_id: str) -> ExecutionRow | None:
        row = read_record(self._connection, ExecutionRow, _EXECUTION, {"id": execution_id})
        return fill(self._connection, row) if row is not None else None

    def executions(
        self, chosen: Filter = EVERYTHING, size: int = 0, token: str = "", full: bool = False
    ) -> Page[ExecutionRow]:
        where = [EXECUTIONS.c.workflow != "", SHOWN_EXECUTIONS, *conditions(chosen, EXECUTIONS, EXECUTIONS.c.id)]
        listing = Listing(ExecutionRow, EXECUTIONS, "executions", _BY_AGE)
        return listing.page(self._connection, where, chosen, size, token, full)

    def count_executions(self, chosen: Filter = EVERYTHING) -> dict[str, int]:
        where = [EXECUTIONS.c.workflow != "", SHOWN_EXECUTIONS, *conditions(chosen, EXECUTIONS, EXECUTIONS.c.id)]
        counts = sa.select(EXECUTIONS.c.state, sa.func.count()).where(*where)
        rows = self._connection.execute(counts.group_by(EXECUTIONS.c.state).order_by(EXECUTIONS.c.state))
        return {state: count for state, count in rows}

    def execution_ids(self, after: str = "", limit: int = 1000) -> list[str]:
        column = EXECUTIONS.c.id
        statement = sa.select(column).where(column > after, SHOWN_EXECUTIONS).order_by(column).limit(limit)
        return list(self._connection.execute(statement).scalars())

    def executions_of(
        self, execution_ids: Collection[str], full: bool = True, discarded: bool = False
    ) -> dict[str, ExecutionRow]:
        rows: list[ExecutionRow] = []
        statement = _EXECUTIONS_OF[full, discarded]
        for ids in _chunks(list(execution_ids)):
            rows += (ExecutionRow(*row) for row in self._connection.execute(statement, {"ids": ids}).all())
        return {row.id: fill(self._connection, row) if full else row for row in rows}

    def standings(self, execution_ids: Collection[str]) -> dict[str, Standing]:
        found: dict[str, Standing] = {}
        for ids in _chunks(list(execution_ids)):
            rows = self._connection.execute(_STANDINGS, {"ids": ids})
            found.update((row[0], standing_of(*row[1:])) for row in rows)
        return found

    def children(self, execution_id: str, task: int = 0, limit: int = 1000) -> list[ExecutionRow]:
        table = EXECUTIONS
        where = [table.c.parent_id == execution_id, table.c.parent_id != "", SHOWN_EXECUTIONS]
        if task:
            where.append(table.c.parent_task == task)
        listing = Listing(ExecutionRow, table, "children", Order((table.c.created_s, table.c.id), (float, str)))
        return listing.rows(self._connection, where, limit)

    def forks(self, execution_id: str, limit: int) -> tuple[list[str], int]:
        ids = [row[0] for row in _NEWEST_FORKS.rows(self._connection, {"id": execution_id, "limit": limit})]
        if len(ids) < limit:
            return ids, len(ids)
        return ids, int(_FORK_COUNT.rows(self._connection, {"id": execution_id})[0][0])

    def descendants(self, execution_id: str) -> list[str]:
        found: list[str] = []
        parents = [execution_id]
        while parents:
            table = EXECUTIONS
            children: list[str] = []
            for ids in _chunks(parents):
                where = (table.c.parent_id.in_(ids), table.c.parent_id != "", SHOWN_EXECUTIONS)
                statement = sa.select(table.c.id).where(*where)
                children += self._connection.execute(statement.order_by(table.c.id)).scalars()
            found += children
            parents = children
        return found

    def paused_descendants(self, root_id: str) -> list[ExecutionRow]:
        found = self._connection.execute(_PAUSED_BELOW, {"root_id": root_id}).scalars()
        return sorted(self.executions_of(list(found)).values(), key=lambda row: row.id)

    def task_counts(self, execution_ids: Collection[str]) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {execution_id: {} for execution_id in execution_ids}
        for ids in _chunks(list(execution_ids)):
            for execution_id, state, count in self._connection.execute(_TASK_COUNTS, {"ids": ids}):
                found[execution_id][state] = count
        return found

    def tasks(
        self, execution_id: str, chosen: Filter = EVERYTHING, size: int = 0, token: str = "", full: bool = False
    ) -> Page[TaskRow]:
        where = [TASKS.c.execution_id == execution_id, _SHOWN_TASKS]
        where += conditions(chosen, TASKS, TASKS.c.execution_id)
        listing = Listing(TaskRow, TASKS, f"tasks {execution_id}", _BY_NUMBER)
        return listing.page(self._connection, where, chosen, size, token, full)

    def task(self, execution_id: str, number: int) -> TaskRow | None:
        row = self._task(execution_id, number)
        return fill(self._connection, row) if row is not None else None

    def _task(self, execution_id: str, number: int) -> TaskRow | None:
        return read_record(self._connection, TaskRow, _TASK_ROW, {"id": execution_id, "task": number})

    def tasks_across(self, execution_ids: Collection[str], chosen: Filter, limit: int) -> list[TaskRow]:
        found: list[TaskRow] = []
        size = 0
        for some in _chunks(sorted(execution_ids, reverse=True)):
            where = [TASKS.c.execution_id.in_(some), _SHOWN_TASKS]
            where += conditions(chosen, TASKS, TASKS.c.execution_id)
            statement = sa.select(*columns(TaskRow, TASKS, True)).where(*where).limit(limit - len(found))
            with self._connection.execute(statement.order_by(TASKS.c.execution_id.desc(), TASKS.c.number)) as rows:
                for row in rows:
                    task = fill(self._connection, TaskRow(*row))
                    size += row_bytes(task)
                    if found and size > PAGE_BYTES_MAX:
                        return found
                    found.append(task)
            if len(found) == limit:
                break
        return found

    def tasks_of(self, places: Collection[tuple[str, int]]) -> dict[tuple[str, int], TaskRow]:
        rows = (TaskRow(*row) for row in _TASKS_OF.rows(self._connection, places))
        return {(row.execution_id, row.number): row for row in rows}

    def leading_attempts(self, execution_id: str, numbers: Collection[int]) -> dict[int, AttemptRow]:
        source = ATTEMPTS.join(
            TASKS,
            sa.and_(
                TASKS.c.execution_id == ATTEMPTS.c.execution_id,
                TASKS.c.number == ATTEMPTS.c.task,
                TASKS.c.attempt == ATTEMPTS.c.attempt,
            ),
        )
        where = [
            ATTEMPTS.c.execution_id == execution_id,
            _SHOWN_ATTEMPTS,
            ATTEMPTS.c.task.in_(list(numbers)),
            ATTEMPTS.c.item == _of_same_task(sa.func.min, "item", "attempt"),
        ]
        rows = Listing(AttemptRow, ATTEMPTS, "", _BY_KEY, source).rows(self._connection, where, len(numbers))
        return {row.task: row for row in rows}

    def task_result(self, execution_id: str, number: int, bytes_max: int = PAGE_BYTES_MAX) -> TaskResult:
        task = self._task(execution_id, number)
        if task is None or task.result_dropped:
            return TaskResult(dropped_result(task))
        where = [ATTEMPTS.c.execution_id == execution_id, ATTEMPTS.c.task == number]
        if task.item_count is None:
            where.append(ATTEMPTS.c.attempt == task.attempt)
        else:
            where += [ATTEMPTS.c.item < task.item_count, _COUNTS, _NEWEST_OF_ITEM]
        statement = sa.select(ATTEMPTS.c.result).where(*where).order_by(ATTEMPTS.c.item)
        cells = list(self._connection.execute(statement).scalars())
        texts = fetch_texts(self._connection, execution_id, referenced_digests(cells), bytes_max)
        if texts is None:
            return TaskResult(None, is_too_large=True)
        results = [texts[cell[1:]] if cell and cell.startswith("$") else cell for cell in cells]
        if task.item_count is not None:
            return bounded_result(f"[{','.join(each if each is not None else 'null' for each in results)}]", bytes_max)
        return bounded_result(results[0] if results else None, bytes_max)

    def attempts(
        self,
        execution_id: str,
        task: int = 0,
        chosen: Filter = EVERYTHING,
        size: int = 0,
        token: str = "",
        full: bool = False,
    ) -> Page[AttemptRow]:
        if not execution_id:
            return self._standalone_attempts(chosen, size, token, full)
        listing = Listing(AttemptRow, ATTEMPTS, f"attempts {execution_id} {task}", _BY_KEY)
        build = _kept_attempts if chosen.recurs else _attempts_of_execution
        given = {"id": execution_id, "task": task}
        return listing.page_of(self._connection, build(chosen, bool(task), full), given, chosen, size, token, full)

    def _standalone_attempts(self, chosen: Filter, size: int, token: str, full: bool) -> Page[AttemptRow]:
        source = ATTEMPTS.join(EXECUTIONS, EXECUTIONS.c.id == ATTEMPTS.c.execution_id)
        where = [EXECUTIONS.c.workflow == "", *conditions(chosen, ATTEMPTS, ATTEMPTS.c.execution_id, EXECUTIONS)]
        listing = Listing(AttemptRow, ATTEMPTS, "standalone attempts", _NEWEST_ATTEMPT, source)
        return listing.page(self._connection, where, chosen, size, token, full)

    def attempt(self, execution_id: str, key: AttemptKey) -> AttemptRow | None:
        task, item, attempt = key
        given = {"id": execution_id, "task": task, "item": item, "attempt": attempt}
        row = read_record(self._connection, AttemptRow, _ATTEMPT_ROW, given)
        return fill(self._connection, row) if row is not None else None

    def attempts_of(self, places: Collection[tuple[str, AttemptKey]]) -> list[AttemptRow]:
        rows = _ATTEMPTS_OF.rows(self._connection, ((execution_id, *key) for execution_id, key in places))
        return [fill(self._connection, AttemptRow(*row)) for row in list(rows)]

    def first_attempts(self, execution_ids: Collection[str], chosen: Filter, size: int) -> dict[str, list[AttemptRow]]:
        found: dict[str, list[AttemptRow]] = {}
        for cells in self._first_attempts(execution_ids, chosen, size):
            row = AttemptRow(*cells)
            found.setdefault(row.execution_id, []).append(row)
        for rows in found.values():
            rows.sort(key=lambda row: row.key)
        return found

    def _first_attempts(self, execution_ids: Collection[str], chosen: Filter, size: int) -> Iterator[Sequence[Any]]:
        if self._connection.dialect.name == "sqlite":  # it has no LATERAL, and a query is no round trip there
            for each in execution_ids:
                yield from _kept_attempts(chosen, False, False).rows(self._connection, {"id": each, "limit": size})
            return
        for ids in _chunks(list(execution_ids)):
            yield from self._connection.execute(_attempts_of_each(chosen), {"ids": ids, "limit": size})

    def attempt_count(self, execution_id: str, chosen: Filter) -> int:
        where = [ATTEMPTS.c.execution_id == execution_id, _SHOWN_ATTEMPTS]
        where += conditions(chosen, ATTEMPTS, ATTEMPTS.c.execution_id)
        count = sa.select(sa.func.count()).select_from(ATTEMPTS).where(*where)
        return int(self._connection.execute(count).scalar_one())

    def attempts_with_progress(self, execution_ids: Collection[str], limit: int = 100) -> dict[str, list[AttemptRow]]:
        found: dict[str, list[AttemptRow]] = {}
        for some in _chunks(list(execution_ids)):
            has_progress = sa.text("progress <> '' AND ended_s IS NULL")
            statement = (
                sa.select(ATTEMPTS.c.execution_id).where(ATTEMPTS.c.execution_id.in_(some), has_progress).distinct()
            )
            for execution_id in self._connection.execute(statement).scalars():
                rows = (
                    sa.select(*columns(AttemptRow, ATTEMPTS, False))
                    .where(ATTEMPTS.c.execution_id == execution_id, has_progress)
                    .order_by(*_ATTEMPT_KEY)
                    .limit(limit)
                )
                found[execution_id] = [AttemptRow(*row) for row in self._connection.execute(rows)]
        return found

    def heard_s(self, execution_id: str, key: AttemptKey) -> float:
        statement = sa.select(ATTEMPTS.c.heard_s).where(
            ATTEMPTS.c.execution_id == execution_id,
            *(column == value for column, value in zip(_ATTEMPT_KEY, key, strict=True)),
        )
        return float(self._connection.execute(statement).scalar() or 0.0)

    def aliased_attempts(self, alias: str, namespace: str) -> list[AttemptRow]:
        table = ATTEMPTS
        ended = sa.case((table.c.state.in_([each.value for each in COMPLETED_ATTEMPT]), 1), else_=0)
        statement = (
            sa.select(*columns(AttemptRow, table, False))
            .select_from(table.join(EXECUTIONS, EXECUTIONS.c.id == table.c.execution_id))
            .where(table.c.alias == alias, sa.text("attempts.alias <> ''"), EXECUTIONS.c.namespace == namespace)
            .where(_SHOWN_ATTEMPTS, SHOWN_EXECUTIONS)
            .order_by(ended, table.c.created_s.desc(), table.c.execution_id.desc())
            .limit(2)
        )
        return [AttemptRow(*row) for row in self._connection.execute(statement)]

    def checkpoints(self, execution_id: str, size: int = 0, token: str = "") -> Page[CheckpointRow]:
        where = shown_entries(execution_id)
        listing = Listing(CheckpointRow, CHECKPOINTS, f"checkpoints {execution_id}", _NEWEST_ENTRY)
        return listing.page(self._connection, where, EVERYTHING, size, token, full=True)

    def checkpoint_name(self, execution_id: str, sequence: int) -> str:
        where = (*shown_entries(execution_id), CHECKPOINTS.c.sequence == sequence)
        return self._connection.execute(sa.select(CHECKPOINTS.c.name).where(*where)).scalar() or ""

    def open_tasks(self, execution_id: str) -> list[tuple[str, Phase]]:
        rows = self._connection.execute(_OPEN_TASKS, {"id": execution_id})
        found = {(row[0], phase_of(row[1], has_begun=bool(row[2]), has_entry=bool(row[3]))) for row in rows}
        return sorted(found, key=lambda each: (each[0], each[1].value))

    def tasks_ended_after(self, execution_id: str, sequence: int) -> list[int]:
        where = [TASKS.c.execution_id == execution_id, TASKS.c.ended_at > sequence]
        where += [TASKS.c.state != TaskState.REVERTED.value, _SHOWN_TASKS]
        return list(self._connection.execute(sa.select(TASKS.c.ended_at).where(*where).order_by("ended_at")).scalars())

    def changes_after(
        self, execution_id: str, revision: int, until: int | None = None
    ) -> list[AnyChange | Consolidated]:
        """Return all changes after this revision, up to the one with the number `until`."""
        return changes_of(self._journal_rows(execution_id, revision), until)

    def journal(self, execution_id: str, after: int = 0, limit: int = 1000) -> list[JournalChange]:
        return first_changes(self._journal_rows(execution_id, after), limit, PAGE_BYTES_MAX)

    def _journal_rows(self, execution_id: str, after: int) -> Iterator[JournalRow]:
        """Yield the rows of a journal one by one, each with its changes after this number."""
        last = after
        while True:
            rows = _JOURNAL.rows(self._connection, {"id": execution_id, "after": last})
            for first, entries, written, last in rows:  # noqa: B007 -- the last one says where the next query begins
                texts = fetch_texts(self._connection, execution_id, referenced_digests([written]))
                changes = number_changes(first, entries, decode_changes(written, texts))
                yield JournalRow(written, texts, [each for each in changes if each.sequence > after])
            if len(rows) < _JOURNAL_ROWS:
                return

    def definitions(
        self,
        kind: DefinitionKind,
        chosen: Filter = EVERYTHING,
        size: int = 0,
        token: str = "",
        full: bool = False,
        all_versions: bool = False,
    ) -> Page[DefinitionRow]:
        table = DEFINITIONS
        where = [table.c.kind == kind, ~table.c.deleted, *conditions(chosen, table, table.c.definition_id)]
        if not all_versions:
            newer = table.alias()
            same = (newer.c.kind == table.c.kind, newer.c.namespace == table.c.namespace, newer.c.name == table.c.name)
            later = sa.select(newer.c.version).where(*same, ~newer.c.deleted, newer.c.version > table.c.version)
            where.append(~later.exists())
        listing = Listing(DefinitionRow, table, f"definitions {kind} {all_versions}", _BY_VERSION, _WITH_TEXT)
        return listing.page(self._connection, where, chosen, size, token, full)

    def definition(self, definition_id: str) -> DefinitionRow | None:
        return read_record(self._connection, DefinitionRow, _DEFINITION, {"id": definition_id})

    def find_definition(
        self, kind: DefinitionKind, name: str, namespace: str, version: int = 0, full: bool = True
    ) -> DefinitionRow | None:
        given = {"kind": kind, "name": name, "namespace": namespace, "version": version}
        return read_record(self._connection, DefinitionRow, _NAMED_DEFINITION[bool(version), full], given)

    def environment(self, namespace: str, name: str) -> EnvironmentRow | None:
        return read_record(self._connection, EnvironmentRow, _ENVIRONMENT, {"namespace": namespace, "name": name})

    def environments(
        self, chosen: Filter = EVERYTHING, size: int = 0, token: str = "", full: bool = False
    ) -> Page[EnvironmentRow]:
        where = conditions(chosen, ENVIRONMENTS, ENVIRONMENTS.c.name)
        listing = Listing(EnvironmentRow, ENVIRONMENTS, "environments", _BY_NAME)
        return listing.page(self._connection, where, chosen, size, token, full)

    def actions(self) -> dict[str, str]:
        rows = self._connection.execute(sa.select(ACTIONS.c.name, ACTIONS.c.description).order_by(ACTIONS.c.name))
        return {row[0]: row[1] for row in rows}

    def descriptions(self, names: Collection[str]) -> list[DescriptionRow]:
        table, found = DESCRIPTIONS, []
        for some in _chunks(list(names)):
            statement = sa.select(table).where(table.c.name.in_(some))
            found += [DescriptionRow(**row._mapping) for row in self._connection.execute(statement)]
        return sorted(found, key=lambda row: (-row.described_s, row.digest))

    def sessions(self) -> list[SessionRow]:
        statement = sa.select(SESSIONS).where(~SESSIONS.c.ended).order_by(SESSIONS.c.session_id)
        return [session_row(row) for row in self._connection.execute(statement)]

    def engines(self) -> dict[int, EngineRow]:
        found = self._connection.execute(sa.select(ENGINES).order_by(ENGINES.c.number))
        return {row.number: EngineRow(**row._mapping) for row in found}

    def held_counts(self) -> dict[str, int]:
        held = sa.text("state = 'RUNNING' AND session_id <> ''")  # in the form of the index
        counts = sa.select(ATTEMPTS.c.session_id, sa.func.count()).where(held, ~ATTEMPTS.c.delegated)
        statement = counts.group_by(ATTEMPTS.c.session_id)
        return {session_id: count for session_id, count in self._connection.execute(statement)}

    def setting(self, key: str) -> str | None:
        found: str | None = self._connection.execute(sa.select(SETTINGS.c.value).where(SETTINGS.c.key == key)).scalar()
        return found


def session_row(row: sa.Row[Any]) -> SessionRow:
    """Return the record of a row of the table of sessions."""
    cells = row._mapping
    values = {field.name: cells[field.name] for field in fields(SessionRow)}
    return SessionRow(**{**values, "labels": json.loads(cells["labels"]), "actions": json.loads(cells["actions"])})


def _chunks(members: Sequence[Place], size: int = 1000) -> Iterable[Sequence[Place]]:
    return (members[start : start + size] for start in range(0, len(members), size))
