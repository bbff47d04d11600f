"""The tables of the store in memory at one moment, and the read side over them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from immutables import Map

from dalsegno.store.discards import Gone
from dalsegno.store.filters import EVERYTHING, Filter, Term
from dalsegno.store.journals import JournalRow, changes_of, first_changes, number_changes
from dalsegno.store.pages import PAGE_BYTES_MAX, Key, page_size, read_token, write_token
from dalsegno.store.records import (
    AttemptRow,
    CheckpointRow,
    ClockRow,
    DefinitionKind,
    DefinitionRow,
    DescriptionRow,
    EngineRow,
    EnvironmentRow,
    ExecutionRow,
    JournalChange,
    Page,
    RequestRow,
    Resource,
    SessionRow,
    Standing,
    TaskResult,
    TaskRow,
    phase_of,
    standing_of,
)
from dalsegno.store.texts import (
    Record,
    bounded_result,
    dropped_result,
    referenced_digests,
    references,
    resolve,
    row_bytes,
    without_values,
)
from dalsegno.store.token_rows import TokenCounts, TokenRow
from dalsegno.workflow.changes import AnyChange
from dalsegno.workflow.codec import Texts, decode_changes
from dalsegno.workflow.consolidated import Consolidated
from dalsegno.workflow.graph import Phase
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.states import (
    COMPLETED_ATTEMPT,
    COMPLETED_EXECUTION,
    COMPLETED_TASK,
    AttemptState,
    ExecutionState,
    TaskState,
)


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it is stored."""

    id: str
    execution_id: str
    due_s: float
    event: str
    texts: Texts
    keeper: int = 0


class Tables(NamedTuple):
    """All tables at one moment. Everything of an execution is stored under its id."""

    executions: Map[str, ExecutionRow] = Map()
    tasks: Map[str, Map[int, TaskRow]] = Map()
    attempts: Map[str, Map[AttemptKey, AttemptRow]] = Map()
    checkpoints: Map[str, Map[int, CheckpointRow]] = Map()
    ready: Map[tuple[str, AttemptKey], tuple[float, int]] = Map()
    """READY attempts, with the time since which they are READY, and their keepers."""
    held: Map[str, Map[tuple[str, AttemptKey], tuple[int, int]]] = Map()
    """The attempts of each session, with their deliveries and the engines of these."""
    journal: Map[str, Map[int, tuple[int, str, str]]] = Map()
    """By the last sequence number of the row: the first number, the entries, the changes."""
    texts: Map[str, Map[str, str]] = Map()
    text_uses: Map[str, Map[str, int]] = Map()
    """The newest journal row that refers to each text, by its last sequence number."""
    discards: Map[str, Gone] = Map()
    """What was discarded and is not yet removed."""
    messages: Map[str, Message] = Map()
    sessions: Map[str, SessionRow] = Map()
    engines: Map[int, EngineRow] = Map()
    requests: Map[tuple[str, str], tuple[RequestRow, float]] = Map()
    deletions: Map[Resource, float] = Map()
    documents: Map[str, str] = Map()
    definitions: Map[str, DefinitionRow] = Map()
    environments: Map[tuple[str, str], EnvironmentRow] = Map()
    actions: Map[str, str] = Map()
    descriptions: Map[str, DescriptionRow] = Map()
    settings: Map[str, str] = Map()
    tokens: Map[str, TokenRow] = Map()
    clock: ClockRow = ClockRow()


def is_at_rest(row: ExecutionRow) -> bool:
    """Return whether the execution has ended and nothing of it is active."""
    return row.state in COMPLETED_EXECUTION and not row.active_count


def is_hidden(tables: Tables, row: ExecutionRow) -> bool:
    """Return whether the execution is at rest and discarded with a task above it, and so are all between."""
    above: ExecutionRow | None = row
    while tables.discards and above is not None and is_at_rest(above):
        gone = tables.discards.get(above.parent_id)
        if gone is not None and gone.has(above.parent_task):
            return True
        above = tables.executions.get(above.parent_id)
    return False


class Snapshot:
    """See store.Queries. It reads the tables as they are at each call."""

    def __init__(self, tables: Callable[[], Tables]) -> None:
        self._tables = tables

    def execution(self, execution_id: str) -> ExecutionRow | None:
        row = self._tables().executions.get(execution_id)
        return self._fill(row) if row is not None and self._is_shown(row) else None

    def _executions(self) -> Iterator[ExecutionRow]:
        """Yield all executions, in no order, without those that are discarded."""
        return filter(self._is_shown, self._tables().executions.values())

    def _is_shown(self, row: ExecutionRow) -> bool:
        return not is_hidden(self._tables(), row)

    def _tasks_of(self, execution_id: str) -> Mapping[int, TaskRow]:
        rows, gone = self._tables().tasks.get(execution_id, Map()), self._tables().discards.get(execution_id)
        return rows if gone is None else {number: row for number, row in rows.items() if not gone.has(number)}

    def _attempts_of(self, execution_id: str) -> Mapping[AttemptKey, AttemptRow]:
        rows, gone = self._tables().attempts.get(execution_id, Map()), self._tables().discards.get(execution_id)
        return rows if gone is None else {key: row for key, row in rows.items() if not gone.has(key[0])}

    def _entries_of(self, execution_id: str) -> Mapping[int, CheckpointRow]:
        rows = self._tables().checkpoints.get(execution_id, Map())
        if execution_id not in self._tables().discards:
            return rows
        first = self._tables().executions[execution_id].first_sequence
        return {sequence: row for sequence, row in rows.items() if sequence >= first}

    def executions(
        self, chosen: Filter = EVERYTHING, size: int = 0, token: str = "", full: bool = False
    ) -> Page[ExecutionRow]:
        rows = (row for row in self._executions() if row.workflow and self._chooses(chosen, row))
        key = lambda row: (float(row.created_s), row.id)  # noqa: E731
        return self._page(rows, "executions", key, (float, str), chosen, size, token, full, descending=True)

    def count_executions(self, chosen: Filter = EVERYTHING) -> dict[str, int]:
        rows = self._executions()
        states = [row.state for row in rows if row.workflow and self._chooses(chosen, row)]
        return dict(sorted(Counter(states).items()))

    def _chooses(self, chosen: Filter, row: ExecutionRow) -> bool:
        entries = self._entries_of(row.id).values()
        cells: dict[str, Collection[str]] = {"checkpoint": [entry.name for entry in entries if not entry.undone]}
        if any(term.column == "forks" for term in chosen.terms):
            cells["forks"] = self._forks(row.id)
        return _matches(chosen, row, cells=cells)

    def _forks(self, execution_id: str) -> list[str]:
        rows = [row for row in self._executions() if row.forked_from == execution_id != ""]
        return [row.id for row in sorted(rows, key=lambda row: (row.created_s, row.id), reverse=True)]

    def forks(self, execution_id: str, limit: int) -> tuple[list[str], int]:
        found = self._forks(execution_id)
        return found[:limit], len(found)

    def execution_ids(self, after: str = "", limit: int = 1000) -> list[str]:
        return sorted(row.id for row in self._executions() if row.id > after)[:limit]

    def executions_of(
        self, execution_ids: Collection[str], full: bool = True, discarded: bool = False
    ) -> dict[str, ExecutionRow]:
        executions = self._tables().executions
        found = [executions[each] for each in execution_ids if each in executions]
        shown = found if discarded else filter(self._is_shown, found)
        return {row.id: self._fill(row) if full else without_values(row) for row in shown}

    def standings(self, execution_ids: Collection[str]) -> dict[str, Standing]:
        executions = self._tables().executions
        found = (executions[each] for each in execution_ids if each in executions)
        return {row.id: standing_of(row.state, row.active_count, row.revision) for row in found if self._is_shown(row)}

    def children(self, execution_id: str, task: int = 0, limit: int = 1000) -> list[ExecutionRow]:
        rows = [
            row
            for row in self._executions()
            if execution_id and row.parent_id == execution_id and task in (0, row.parent_task)
        ]
        return [without_values(row) for row in sorted(rows, key=lambda row: (row.created_s, row.id))[:limit]]

    def descendants(self, execution_id: str) -> list[str]:
        below: dict[str, list[str]] = {}
        for row in self._executions():
            if row.parent_id:
                below.setdefault(row.parent_id, []).append(row.id)
        found: list[str] = []
        parents = [execution_id]
        while parents:
            parents = sorted(child for parent in parents for child in below.get(parent, []))
            found += parents
        return found

    def paused_descendants(self, root_id: str) -> list[ExecutionRow]:
        states = (ExecutionState.PAUSED, ExecutionState.PAUSING)
        rows = self._executions()
        found = sorted(row.id for row in rows if row.parent_id and row.root_id == root_id and row.state in states)
        return list(self.executions_of(found[:1000]).values())

    def task_counts(self, execution_ids: Collection[str]) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for execution_id in execution_ids:
            counts: dict[str, int] = {}
            for row in self._tasks_of(execution_id).values():
                if not row.superseded_by:
                    counts[row.state] = counts.get(row.state, 0) + 1
            found[execution_id] = dict(sorted(counts.items()))
        return found

    def tasks(
        self, execution_id: str, chosen: Filter = EVERYTHING, size: int = 0, token: str = "", full: bool = False
    ) -> Page[TaskRow]:
        rows = (row for row in self._tasks_of(execution_id).values() if _matches(chosen, row))
        subject = f"tasks {execution_id}"
        return self._page(rows, subject, lambda row: (row.number,), (int,), chosen, size, token, full)

    def task(self, execution_id: str, number: int) -> TaskRow | None:
        row = self._tasks_of(execution_id).get(number)
        return self._fill(row) if row is not None else None

    def tasks_across(self, execution_ids: Collection[str], chosen: Filter, limit: int) -> list[TaskRow]:
        found: list[TaskRow] = []
        size = 0
        for execution_id in sorted(execution_ids, reverse=True):
            for _, row in sorted(self._tasks_of(execution_id).items()):
                if not _matches(chosen, row):
                    continue
                task = self._fill(row)
                size += row_bytes(task)
                if len(found) == limit or (found and size > PAGE_BYTES_MAX):
                    return found
                found.append(task)
        return found

    def tasks_of(self, places: Collection[tuple[str, int]]) -> dict[tuple[str, int], TaskRow]:
        found = ((place, self._tasks_of(place[0]).get(place[1])) for place in places)
        return {place: without_values(row) for place, row in found if row is not None}

    def leading_attempts(self, execution_id: str, numbers: Collection[int]) -> dict[int, AttemptRow]:
        tasks = self._tasks_of(execution_id)
        attempts = self._attempts_of(execution_id)
        found = {}
        for number in sorted(numbers):
            rounds = (row for key, row in attempts.items() if number in tasks and key[0] == number)
            present = [row for row in rounds if row.attempt == tasks[number].attempt]
            if present:
                found[number] = without_values(min(present, key=lambda row: row.item))
        return found

    def task_result(self, execution_id: str, number: int, bytes_max: int = PAGE_BYTES_MAX) -> TaskResult:
        task = self._tasks_of(execution_id).get(number)
        if task is None or task.result_dropped:
            return TaskResult(dropped_result(task))
        attempts = sorted(self._attempts_of(execution_id).items())
        newest = {row.item: row for key, row in attempts if key[0] == number and not row.reverts and not row.undone}
        rows = [
            self._fill(row)
            for item, row in newest.items()
            if (row.attempt == task.attempt if task.item_count is None else item < task.item_count and _counts(row))
        ]
        if task.item_count is None:
            result = rows[0].result if rows else None
        else:
            result = f"[{','.join(row.result if row.result is not None else 'null' for row in rows)}]"
        return bounded_result(result, bytes_max)

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
        rows = (
            row for row in self._attempts_of(execution_id).values() if task in (0, row.task) and _matches(chosen, row)
        )
        subject = f"attempts {execution_id} {task}"
        return self._page(rows, subject, lambda row: row.key, (int, int, int), chosen, size, token, full)

    def _standalone_attempts(self, chosen: Filter, size: int, token: str, full: bool) -> Page[AttemptRow]:
        executions = self._tables().executions
        rows = (
            row
            for execution_id, attempts in self._tables().attempts.items()
            if executions[execution_id].is_standalone_action
            for row in attempts.values()
            if _matches(chosen, row, executions[execution_id])
        )
        key = lambda row: (row.execution_id, *row.key)  # noqa: E731
        shape = (str, int, int, int)
        return self._page(rows, "standalone attempts", key, shape, chosen, size, token, full, descending=True)

    def attempt(self, execution_id: str, key: AttemptKey) -> AttemptRow | None:
        row = self._attempts_of(execution_id).get(key)
        return self._fill(row) if row is not None else None

    def first_attempts(self, execution_ids: Collection[str], chosen: Filter, size: int) -> dict[str, list[AttemptRow]]:
        found = ((each, self.attempts(each, chosen=chosen, size=size).rows) for each in execution_ids)
        return {each: list(rows) for each, rows in found if rows}

    def attempts_of(self, places: Collection[tuple[str, AttemptKey]]) -> list[AttemptRow]:
        found = (self.attempt(*place) for place in places)
        return [row for row in found if row is not None]

    def attempt_count(self, execution_id: str, chosen: Filter) -> int:
        return sum(_matches(chosen, row) for row in self._attempts_of(execution_id).values())

    def attempts_with_progress(self, execution_ids: Collection[str], limit: int = 100) -> dict[str, list[AttemptRow]]:
        found: dict[str, list[AttemptRow]] = {}
        for execution_id in execution_ids:
            attempts = sorted(self._attempts_of(execution_id).items())
            rows = [row for _, row in attempts if row.progress and row.ended_s is None]
            if rows:
                found[execution_id] = [without_values(row) for row in rows[:limit]]
        return found

    def heard_s(self, execution_id: str, key: AttemptKey) -> float:
        row = self._attempts_of(execution_id).get(key)
        return 0.0 if row is None else row.heard_s

    def aliased_attempts(self, alias: str, namespace: str) -> list[AttemptRow]:
        tables = self._tables()
        found = [
            row
            for execution_id in tables.attempts
            if tables.executions[execution_id].namespace == namespace
            and self._is_shown(tables.executions[execution_id])
            for row in self._attempts_of(execution_id).values()
            if row.alias == alias != ""
        ]
        found.sort(key=lambda row: (row.state not in COMPLETED_ATTEMPT, row.created_s, row.execution_id), reverse=True)
        return [replace(row, input=None, result=None) for row in found[:2]]

    def checkpoints(self, execution_id: str, size: int = 0, token: str = "") -> Page[CheckpointRow]:
        rows = self._entries_of(execution_id).values()
        subject = f"checkpoints {execution_id}"
        key = lambda row: (row.sequence,)  # noqa: E731
        return self._page(rows, subject, key, (int,), EVERYTHING, size, token, full=True, descending=True)

    def checkpoint_name(self, execution_id: str, sequence: int) -> str:
        row = self._entries_of(execution_id).get(sequence)
        return row.name if row is not None else ""

    def open_tasks(self, execution_id: str) -> list[tuple[str, Phase]]:
        entries = self._entries_of(execution_id).values()
        reached = {entry.task for entry in entries if not entry.undone}
        found = {
            (row.name, phase_of(row.state, has_begun=row.attempt > 0, has_entry=row.number in reached))
            for row in self._tasks_of(execution_id).values()
            if not row.superseded_by and row.state != TaskState.REVERTED
            if not row.routed or row.state not in COMPLETED_TASK
        }
        return sorted(found, key=lambda each: (each[0], each[1].value))

    def tasks_ended_after(self, execution_id: str, sequence: int) -> list[int]:
        rows = self._tasks_of(execution_id).values()
        return sorted(row.ended_at for row in rows if row.ended_at > sequence and row.state != TaskState.REVERTED)

    def changes_after(
        self, execution_id: str, revision: int, until: int | None = None
    ) -> list[AnyChange | Consolidated]:
        """Return all changes after this revision, up to the one with the number `until`."""
        return changes_of(self._journal_rows(execution_id, revision), until)

    def journal(self, execution_id: str, after: int = 0, limit: int = 1000) -> list[JournalChange]:
        return first_changes(self._journal_rows(execution_id, after), limit, PAGE_BYTES_MAX)

    def _journal_rows(self, execution_id: str, after: int) -> Iterator[JournalRow]:
        texts = self._tables().texts.get(execution_id, Map())
        row = self._tables().executions.get(execution_id)
        begins = 0 if row is None else row.first_sequence
        for last, (first, entries, written) in sorted(self._tables().journal.get(execution_id, Map()).items()):
            if last > after and last >= begins:
                wanted = Texts({digest: texts[digest] for digest in referenced_digests([written]) if digest in texts})
                changes = number_changes(first, entries, decode_changes(written, wanted))
                yield JournalRow(written, wanted, [each for each in changes if each.sequence > after])

    def definitions(
        self,
        kind: DefinitionKind,
        chosen: Filter = EVERYTHING,
        size: int = 0,
        token: str = "",
        full: bool = False,
        all_versions: bool = False,
    ) -> Page[DefinitionRow]:
        rows = [row for row in self._tables().definitions.values() if row.kind == kind and not row.deleted]
        if not all_versions:
            newest: dict[tuple[str, str], int] = {}
            for row in rows:
                newest[row.namespace, row.name] = max(row.version, newest.get((row.namespace, row.name), 0))
            rows = [row for row in rows if row.version == newest[row.namespace, row.name]]
        chosen_rows = (self._with_text(row) for row in rows if _matches(chosen, row))
        key = lambda row: (row.namespace, row.name, row.version)  # noqa: E731
        subject = f"definitions {kind} {all_versions}"
        return self._page(chosen_rows, subject, key, (str, str, int), chosen, size, token, full)

    def definition(self, definition_id: str) -> DefinitionRow | None:
        row = self._tables().definitions.get(definition_id)
        return self._with_text(row) if row is not None else None

    def _with_text(self, row: DefinitionRow) -> DefinitionRow:
        return replace(row, text=self._tables().documents[row.document_id])

    def find_definition(
        self, kind: DefinitionKind, name: str, namespace: str, version: int = 0, full: bool = True
    ) -> DefinitionRow | None:
        rows = [
            row
            for row in self._tables().definitions.values()
            if row.name == name
            and row.namespace == namespace
            and row.kind == kind
            and not row.deleted
            and version in (0, row.version)
        ]
        newest = max(rows, key=lambda row: row.version, default=None)
        return self._with_text(newest) if full and newest is not None else newest

    def environment(self, namespace: str, name: str) -> EnvironmentRow | None:
        return self._tables().environments.get((namespace, name))

    def environments(
        self, chosen: Filter = EVERYTHING, size: int = 0, token: str = "", full: bool = False
    ) -> Page[EnvironmentRow]:
        rows = (row for row in self._tables().environments.values() if _matches(chosen, row))
        key = lambda row: (row.namespace, row.name)  # noqa: E731
        return self._page(rows, "environments", key, (str, str), chosen, size, token, full)

    def actions(self) -> dict[str, str]:
        return dict(sorted(self._tables().actions.items()))

    def descriptions(self, names: Collection[str]) -> list[DescriptionRow]:
        rows = (row for row in self._tables().descriptions.values() if row.name in names)
        return sorted(rows, key=lambda row: (-row.described_s, row.digest))

    def sessions(self) -> list[SessionRow]:
        rows = (row for row in self._tables().sessions.values() if not row.ended)
        return sorted(rows, key=lambda row: row.session_id)

    def engines(self) -> dict[int, EngineRow]:
        return dict(sorted(self._tables().engines.items()))

    def held_counts(self) -> dict[str, int]:
        return {session_id: len(held) for session_id, held in self._tables().held.items()}

    def setting(self, key: str) -> str | None:
        return self._tables().settings.get(key)

    def tokens(self) -> list[TokenRow]:
        return sorted(self._tables().tokens.values(), key=lambda row: (row.created_s, row.token_id))

    def token_counts(self) -> TokenCounts:
        rows = self._tables().tokens.values()
        return len(rows), sum(row.revoked_s is not None for row in rows)

    def _page(
        self,
        rows: Iterable[Record],
        subject: str,
        key: Callable[[Record], Key],
        shape: tuple[type, ...],
        chosen: Filter,
        size: int,
        token: str,
        full: bool,
        descending: bool = False,
    ) -> Page[Record]:
        after = read_token(token, subject, chosen, shape)
        ordered = sorted(rows, key=key, reverse=descending)
        if after is not None:
            ordered = [row for row in ordered if (key(row) < after if descending else key(row) > after)]
        shown: list[Record] = []
        total = 0
        for row in ordered[: page_size(size)]:
            written = self._fill(row) if full else without_values(row)
            total += row_bytes(written)
            if shown and total > PAGE_BYTES_MAX:
                break
            shown.append(written)

        def token_after(row: Record) -> str:
            return write_token(subject, chosen, key(row))

        return Page(shown, token_after(shown[-1]) if len(ordered) > len(shown) else "", token_after)

    def _fill(self, row: Record) -> Record:
        wanted = references(row)
        texts = self._tables().texts[_owner(row)] if wanted else Map[str, str]()
        return resolve(row, Texts({digest: texts[digest] for digest in wanted if digest in texts}))


def _owner(row: ExecutionRow | TaskRow | AttemptRow | CheckpointRow | DefinitionRow | EnvironmentRow) -> str:
    assert isinstance(row, ExecutionRow | TaskRow | AttemptRow | CheckpointRow)
    return row.id if isinstance(row, ExecutionRow) else row.execution_id


def _counts(row: AttemptRow) -> bool:
    """Return whether an item's newest attempt has ended. The result of one that was ended by force is null."""
    return row.accepted or row.state == AttemptState.CANCELLED


def _matches(chosen: Filter, row: Any, other: Any = None, cells: Mapping[str, Collection[str]] | None = None) -> bool:
    """Return whether the filter selects a row. `other`: the row with the columns that it lacks; `cells`: what other
    tables have of it, by column."""
    return all(_holds(term, row, other, cells or {}) for term in chosen.terms)


def _holds(term: Term, row: Any, other: Any, cells: Mapping[str, Collection[str]]) -> bool:
    if term.column in cells:
        return term.admits(cells[term.column])
    if term.column == "label":
        labels = json.loads((row if other is None else other).labels)
        return term.admits([labels[term.label]] if term.label in labels else [])
    if term.column == "tag":
        return term.admits(json.loads(row.tags))
    if term.column == "revert":
        return term.admits([bool(row.reverts)])
    if term.column == "superseded":
        return term.admits([bool(row.superseded_by)])
    cell = getattr(row if hasattr(row, term.column) else other, term.column)
    return term.admits([] if cell is None else [cell])
