"""The store in memory, with immutable maps: for tests, simulations and trials.

A transaction works on its own version of the tables, and replaces the common version when it commits. So a rollback
drops its version, and a reader keeps the version with which it began.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import msgspec
from immutables import Map

from dalsegno.store.discards import Removal
from dalsegno.store.journals import WrittenChanges
from dalsegno.store.library import definition_row, document_digest
from dalsegno.store.memory_discards import MemoryDiscards, put_cell, set_inner, without
from dalsegno.store.records import (
    AttemptRow,
    Begun,
    CheckpointRow,
    Claimed,
    ClockRow,
    DefinitionKind,
    DefinitionPlace,
    DefinitionRow,
    Deletion,
    DescriptionRow,
    DueMessage,
    EngineRow,
    EnvironmentRow,
    ExecutionRow,
    HeldAttempt,
    Keepers,
    NewMessage,
    NewProgress,
    ReadyAttempt,
    RequestRow,
    ResourceKind,
    Saved,
    SessionRow,
    StoredDocument,
    StoredMember,
    TaskRow,
)
from dalsegno.store.row_batch import gather
from dalsegno.store.rows import (
    ATTEMPT_COLUMNS,
    ATTEMPT_FIXED,
    EXECUTION_COLUMNS,
    EXECUTION_FIXED,
    TASK_COLUMNS,
    TASK_FIXED,
)
from dalsegno.store.snapshot import Message, Snapshot, Tables, is_hidden
from dalsegno.store.stalls import NO_STALL, Stall
from dalsegno.store.statements import NOTICE
from dalsegno.store.store import Queries, StoreConflict, Transaction
from dalsegno.store.token_rows import TokenRow
from dalsegno.workflow.changes import AnyChange
from dalsegno.workflow.codec import Texts, decode_event, encode_changes, encode_event
from dalsegno.workflow.consolidated import Consolidated
from dalsegno.workflow.events import AnyEvent
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.states import QUIET_EXECUTION, AttemptState


class MemoryStore:
    """See store.Store."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        """`clock` gives the store's time, in seconds since 1970; None: this machine's clock."""
        self._clock = clock or time.time
        self._tables = Tables()
        self._writing = threading.Lock()

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        with self._transaction() as transaction:
            yield transaction

    @contextmanager
    def _transaction(self) -> Iterator[MemoryTransaction]:
        with self._writing:
            transaction = MemoryTransaction(self._tables, self._clock)
            yield transaction
            self._tables = transaction.tables

    @contextmanager
    def read(self) -> Iterator[Queries]:
        tables = self._tables
        yield Snapshot(lambda: tables)

    def upgrade(self) -> bool:
        return True

    def check_version(self) -> None:
        pass

    def hold_engine_lock(self) -> None:
        pass

    def register_engine(self, engine_id: str, process: str, *, is_alone: bool) -> int:
        with self._transaction() as transaction:
            known = transaction.tables.engines
            for row in known.values() if is_alone else ():
                transaction.put_engine(replace(row, ended=True))
            number = max(known, default=0) + 1
            transaction.put_engine(EngineRow(number, engine_id, process))
        return number

    def renew_engine(self, number: int, patience_s: float) -> bool:
        with self._transaction() as transaction:
            row = transaction.tables.engines.get(number)
            if row is None or row.ended:
                return False
            transaction.put_engine(replace(row, beats=row.beats + 1, patience_s=patience_s))
        return True

    def end_engine(self, number: int) -> bool:
        with self._transaction() as transaction:
            row = transaction.tables.engines.get(number)
            if row is not None:
                transaction.put_engine(replace(row, ended=True))
        return True

    def stall(self) -> Stall:
        return NO_STALL

    def is_available(self) -> bool:
        return True

    def close(self) -> None:
        pass


class MemoryTransaction(MemoryDiscards):
    """See store.Transaction."""

    def __init__(self, tables: Tables, clock: Callable[[], float]) -> None:
        self.tables = tables
        """The tables as they will be after the commit."""
        self._clock = clock
        self._snapshot = Snapshot(lambda: self.tables)

    @property
    def queries(self) -> Queries:
        return self._snapshot

    def now_s(self) -> float:
        return self._clock()

    def clock_row(self, *, locks: bool = False) -> ClockRow:
        return self.tables.clock

    def shift_clock(self, shift_s: float) -> None:
        self.tables = self.tables._replace(clock=replace(self.tables.clock, shift_s=shift_s))

    def note_time(self, at_s: float) -> None:
        if at_s > self.tables.clock.latest_s:
            self.tables = self.tables._replace(clock=replace(self.tables.clock, latest_s=at_s))

    def claim(self, execution_ids: Collection[str]) -> dict[str, Claimed]:
        executions = self.tables.executions
        found = (executions[each] for each in execution_ids if each in executions)
        return {
            row.id: Claimed(row.revision, row.deaths, row.first_sequence)
            for row in found
            if not is_hidden(self.tables, row)
        }

    def claim_for(self, engine: int, execution_ids: Collection[str], places: Sequence[DefinitionPlace] = ()) -> Begun:
        row = self.tables.engines.get(engine)
        shift_s = None if row is None or row.ended else self.tables.clock.shift_s
        found = (self._snapshot.find_definition(*place, full=False) for place in places)
        return Begun(shift_s, self.claim(execution_ids), [None if row is None else row.definition_id for row in found])

    def set_deaths(self, execution_id: str, deaths: int) -> None:
        row = self.tables.executions.get(execution_id)
        if row is not None:
            self.tables = self.tables._replace(
                executions=self.tables.executions.set(execution_id, replace(row, deaths=deaths))
            )

    def changes_after(
        self, execution_id: str, revision: int, until: int | None = None
    ) -> list[AnyChange | Consolidated]:
        return self._snapshot.changes_after(execution_id, revision, until)

    def written_changes(self, after: Mapping[str, int], texts_max: int) -> dict[str, WrittenChanges]:
        found: dict[str, WrittenChanges] = {}
        for execution_id, revision in after.items():
            texts = Texts()
            if changes := self.changes_after(execution_id, revision):
                written = encode_changes(changes, texts)
                texts_max -= sum(map(len, texts.values()))
                if texts_max >= 0 or not texts:
                    found[execution_id] = WrittenChanges([written], texts)
        return found

    def save_all(self, batch: Sequence[Saved], busy: Collection[str] = (), keeper: int = 0) -> dict[str, Removal]:
        rows: Any = gather(batch)
        for cells in rows.added_executions:
            self._add_execution(ExecutionRow(*cells))
        for *state, execution_id, before in rows.altered_executions:
            self._alter_execution(execution_id, before, state)
        for cells in rows.added_tasks:
            self._put_task(TaskRow(*cells))
        for *state, execution_id, number in rows.altered_tasks:
            old = self.tables.tasks[execution_id][number]
            self._put_task(TaskRow(*_fixed_cells(old, TASK_COLUMNS[:TASK_FIXED]), *state))
        for execution_id, number, round_number in rows.begun:
            self._supersede(execution_id, number, round_number)
        for execution_id, number, item, round_number in rows.begun_items:
            self._supersede(execution_id, number, round_number, item)
        for cells in rows.added_attempts:
            self._put_attempt(AttemptRow(*cells), keeper)
        for *state, execution_id, task, item, attempt in rows.altered_attempts:
            former = self.tables.attempts[execution_id][(task, item, attempt)]
            moved = AttemptRow(*_fixed_cells(former, ATTEMPT_COLUMNS[:ATTEMPT_FIXED]), *state)
            self._put_attempt(replace(moved, progress=former.progress, heard_s=former.heard_s), keeper)
        for cells in rows.added_checkpoints:
            self._put_checkpoint(CheckpointRow(*cells))
        for execution_id, entry, revision in rows.undone_checkpoints:
            self._undo_checkpoints(execution_id, entry, revision)
        for execution_id, digest, text, last in rows.texts:
            self.put_text(execution_id, digest, text, last)
        for execution_id, last, first, entries, changes in rows.journal:
            self.tables = self.tables._replace(
                journal=put_cell(self.tables.journal, execution_id, last, (first, entries, changes))
            )
        return {
            saved.execution.id: self.discard(saved.execution, saved.discarded, busy)
            for saved in batch
            if saved.discarded is not None
        }

    def _add_execution(self, row: ExecutionRow) -> None:
        if row.id in self.tables.executions:
            raise StoreConflict(f"execution {row.id} exists already")
        self.tables = self.tables._replace(executions=self.tables.executions.set(row.id, row))

    def _alter_execution(self, execution_id: str, before: int, state: list[Any]) -> None:
        old = self.tables.executions.get(execution_id)
        if old is None or old.revision != before:
            raise StoreConflict("an execution is not at the revision from which its changes start")
        row = ExecutionRow(*_fixed_cells(old, EXECUTION_COLUMNS[:EXECUTION_FIXED]), *state)
        self.tables = self.tables._replace(executions=self.tables.executions.set(execution_id, row))

    def _put_task(self, row: TaskRow) -> None:
        self.tables = self.tables._replace(tasks=put_cell(self.tables.tasks, row.execution_id, row.number, row))

    def _put_checkpoint(self, row: CheckpointRow) -> None:
        self.tables = self.tables._replace(
            checkpoints=put_cell(self.tables.checkpoints, row.execution_id, row.sequence, row)
        )

    def _undo_checkpoints(self, execution_id: str, entry: int, revision: int) -> None:
        for sequence, row in self.tables.checkpoints.get(execution_id, Map()).items():
            if entry < sequence < revision:
                self._put_checkpoint(replace(row, undone=True))

    def _put_attempt(self, row: AttemptRow, keeper: int = 0) -> None:
        self.unlist(row)
        self.tables = self.tables._replace(attempts=put_cell(self.tables.attempts, row.execution_id, row.key, row))
        name = (row.execution_id, row.key)
        if row.state == AttemptState.READY:
            self.tables = self.tables._replace(ready=self.tables.ready.set(name, (row.created_s, keeper)))
        elif row.state == AttemptState.RUNNING and row.session_id and not row.delegated:
            cell = (row.delivery, row.engine)
            self.tables = self.tables._replace(held=put_cell(self.tables.held, row.session_id, name, cell))

    def unlist(self, row: AttemptRow) -> None:
        """Remove the former version of an attempt from the READY and the held ones."""
        name = (row.execution_id, row.key)
        former = self.tables.attempts.get(row.execution_id, Map()).get(row.key)
        if former is None:
            return
        if name in self.tables.ready:
            self.tables = self.tables._replace(ready=self.tables.ready.delete(name))
        held = self.tables.held.get(former.session_id, Map())
        if name in held:
            self.tables = self.tables._replace(held=set_inner(self.tables.held, former.session_id, held.delete(name)))

    def _supersede(self, execution_id: str, task: int, round_number: int, item: int | None = None) -> None:
        for key, row in self.tables.attempts.get(execution_id, Map()).items():
            if key[0] == task and item in (None, key[1]) and key[2] < round_number and row.accepted:
                _, keeper = self.tables.ready.get((execution_id, key), (0.0, 0))
                self._put_attempt(replace(row, accepted=False), keeper)

    def delete_execution(self, execution_id: str) -> None:
        for row in self.tables.attempts.get(execution_id, Map()).values():
            self.unlist(row)
        tables = self.tables
        self.tables = tables._replace(
            executions=without(tables.executions, execution_id),
            tasks=without(tables.tasks, execution_id),
            attempts=without(tables.attempts, execution_id),
            checkpoints=without(tables.checkpoints, execution_id),
            journal=without(tables.journal, execution_id),
            texts=without(tables.texts, execution_id),
            text_uses=without(tables.text_uses, execution_id),
            discards=without(tables.discards, execution_id),
        )
        for message in list(self.tables.messages.values()):
            if message.execution_id == execution_id:
                self.tables = self.tables._replace(messages=self.tables.messages.delete(message.id))

    def add_messages(self, messages: Sequence[NewMessage], keeper: int = 0) -> None:
        for message in messages:
            aside = Texts()
            text = encode_event(message.event, aside)
            kept = Message(message.id, message.execution_id, message.due_s, text, aside, keeper)
            if message.id in self.tables.messages:
                raise StoreConflict(f"message {message.id} exists already")
            self.tables = self.tables._replace(messages=self.tables.messages.set(message.id, kept))

    def take_messages(self, message_ids: Collection[str]) -> dict[str, AnyEvent]:
        found = {}
        for message_id in message_ids:
            message = self.tables.messages.get(message_id)
            if message is not None:
                found[message_id] = decode_event(message.event, message.texts)
                self.tables = self.tables._replace(messages=self.tables.messages.delete(message_id))
        return found

    def due_messages(self, now_s: float, limit: int, keeper: int = 0) -> list[DueMessage]:
        return self._due({keeper}, now_s, limit)

    def adopt_messages(
        self, keeper: int, former: Collection[int], now_s: float, limit: int, notice_lease_s: float = 0.0
    ) -> list[DueMessage]:
        found = self._due(former, now_s, limit, notice_lease_s)
        for each in found:
            kept = replace(self.tables.messages[each.id], keeper=keeper)
            self.tables = self.tables._replace(messages=self.tables.messages.set(each.id, kept))
        return found

    def _due(self, keepers: Collection[int], now_s: float, limit: int, notice_lease_s: float = 0.0) -> list[DueMessage]:
        due = [
            each
            for each in self.tables.messages.values()
            if each.keeper in keepers
            and each.due_s <= now_s + (notice_lease_s if each.event.startswith(NOTICE) else 0.0)
        ]
        due.sort(key=lambda message: (message.due_s, message.id))
        return [DueMessage(message.id, message.execution_id, message.due_s) for message in due[:limit]]

    def save_progress(self, progress: Sequence[NewProgress]) -> None:
        for each in progress:
            row = self.tables.attempts.get(each.execution_id, Map()).get(each.key)
            if row is not None and row.delivery == each.progress.delivery and row.ended_s is None:
                changed = replace(row, progress=msgspec.json.encode(each.progress).decode())
                self.tables = self.tables._replace(
                    attempts=put_cell(self.tables.attempts, each.execution_id, each.key, changed)
                )

    def save_heartbeat(self, execution_id: str, key: AttemptKey, at_s: float) -> None:
        row = self.tables.attempts.get(execution_id, Map()).get(key)
        if row is not None:
            changed = replace(row, heard_s=at_s)
            self.tables = self.tables._replace(attempts=put_cell(self.tables.attempts, execution_id, key, changed))

    def ready_attempts(self, limit: int, actions: Collection[str], keeper: int = 0) -> list[ReadyAttempt]:
        return self._ready({keeper}, actions, math.inf, limit)

    def adopt_attempts(
        self,
        keeper: int,
        former: Collection[int],
        actions: Collection[str],
        before_s: float,
        limit: int,
        unmet: Collection[str] = (),
    ) -> list[ReadyAttempt]:
        waiting = self._ready(former, actions, before_s, len(self.tables.ready))
        found = [each for each in waiting if each.target not in unmet][:limit]
        for each in found:
            self._put_attempt(self.tables.attempts[each.execution_id][each.key], keeper)
        return found

    def _ready(
        self, keepers: Collection[int], actions: Collection[str], before_s: float, limit: int
    ) -> list[ReadyAttempt]:
        found: list[ReadyAttempt] = []
        oldest = sorted((created_s, *name, keeper) for name, (created_s, keeper) in self.tables.ready.items())
        for created_s, execution_id, key, keeper in oldest:
            if keeper not in keepers or created_s >= before_s or len(found) >= limit:
                continue
            row = self.tables.attempts[execution_id][key]
            if row.action in actions and self.tables.executions[execution_id].state not in QUIET_EXECUTION:
                found.append(ReadyAttempt(execution_id, key, row.action, row.target, row.digest))
        return found

    def held_attempts(self, session_ids: Collection[str]) -> list[HeldAttempt]:
        held = [
            HeldAttempt(execution_id, key, delivery, session_id, engine)
            for session_id in session_ids
            for (execution_id, key), (delivery, engine) in self.tables.held.get(session_id, Map()).items()
        ]
        return sorted(held, key=lambda each: (each.execution_id, each.key))

    def abandoned_attempts(self, limit: int) -> list[HeldAttempt]:
        alive = {row.session_id for row in self._snapshot.sessions()}
        return self.held_attempts([each for each in self.tables.held if each not in alive])[:limit]

    def put_engine(self, row: EngineRow) -> None:
        """Store the row of an engine."""
        self.tables = self.tables._replace(engines=self.tables.engines.set(row.number, row))

    def keepers(self) -> Keepers:
        ready = {keeper for _, keeper in self.tables.ready.values()}
        keeping = frozenset(ready.union(message.keeper for message in self.tables.messages.values()))
        return Keepers(keeping, frozenset(row.number for row in self.tables.engines.values() if not row.ended))

    def prune_engines(self) -> int:
        held = {engine for cells in self.tables.held.values() for _, engine in cells.values()}
        newest = max(self.tables.engines, default=0)
        gone = [row.number for row in self.tables.engines.values() if row.ended and row.number < newest]
        gone = [number for number in gone if number not in held]
        for number in gone:
            self.tables = self.tables._replace(engines=self.tables.engines.delete(number))
        return len(gone)

    def save_session(self, session: SessionRow) -> None:
        kept = replace(session, labels=dict(session.labels), actions=dict(session.actions))
        self.tables = self.tables._replace(sessions=self.tables.sessions.set(session.session_id, kept))

    def renew_sessions(self, session_ids: Collection[str], heard_s: float, lease_until_s: float) -> None:
        for session_id in session_ids:
            row = self.tables.sessions.get(session_id)
            if row is not None and not row.ended and row.lease_until_s < lease_until_s:
                self.save_session(replace(row, heard_s=heard_s, lease_until_s=lease_until_s))

    def session(self, session_id: str) -> SessionRow | None:
        return self.tables.sessions.get(session_id)

    def sessions_of(self, executor_id: str) -> list[SessionRow]:
        return [row for row in self._snapshot.sessions() if row.executor_id == executor_id]

    def end_sessions(self, session_ids: Collection[str]) -> None:
        for session_id in session_ids:
            row = self.tables.sessions.get(session_id)
            if row is not None:
                self.save_session(replace(row, ended=True))

    def prune_sessions(self, before_s: float) -> int:
        old = [row for row in self.tables.sessions.values() if row.ended and row.lease_until_s < before_s]
        for row in old:
            self.tables = self.tables._replace(sessions=self.tables.sessions.delete(row.session_id))
        return len(old)

    def find_request(self, namespace: str, request_id: str) -> RequestRow | None:
        found = self.tables.requests.get((namespace, request_id))
        return found[0] if found is not None else None

    def save_request(self, namespace: str, request_id: str, row: RequestRow, at_s: float) -> None:
        if (namespace, request_id) in self.tables.requests:
            raise StoreConflict(f"request {request_id!r} was answered by another engine")
        self.tables = self.tables._replace(requests=self.tables.requests.set((namespace, request_id), (row, at_s)))

    def forget_requests(self, namespace: str, request_ids: Collection[str]) -> None:
        for key in [(namespace, request_id) for request_id in request_ids]:
            if key in self.tables.requests:
                self.tables = self.tables._replace(requests=self.tables.requests.delete(key))

    def save_deletions(self, deletions: Sequence[Deletion]) -> None:
        self.tables = self.tables._replace(
            deletions=self.tables.deletions.update({each.resource: each.deleted_s for each in deletions})
        )

    def deletions(self, kind: ResourceKind, name: str) -> list[Deletion]:
        found = [Deletion(*item) for item in self.tables.deletions.items() if item[0][:2] == (kind, name)]
        return sorted(found, key=lambda each: (each.deleted_s, each.resource))

    def prune_requests(self, before_s: float) -> int:
        for resource in [resource for resource, deleted_s in self.tables.deletions.items() if deleted_s < before_s]:
            self.tables = self.tables._replace(deletions=self.tables.deletions.delete(resource))
        old = [key for key, (_, at_s) in self.tables.requests.items() if at_s < before_s]
        for key in old:
            self.tables = self.tables._replace(requests=self.tables.requests.delete(key))
        return len(old)

    def save_document(self, document: StoredDocument, members: Sequence[StoredMember]) -> list[DefinitionRow]:
        document_id = document_digest(document.text)
        self.tables = self.tables._replace(documents=self.tables.documents.set(document_id, document.text))
        rows = []
        for member in members:
            versions = (
                row.version
                for row in self.tables.definitions.values()
                if (row.kind, row.namespace, row.name) == (member.kind, document.namespace, member.name)
            )
            row = definition_row(document, member, document_id, max(versions, default=0) + 1)
            self.tables = self.tables._replace(definitions=self.tables.definitions.set(row.definition_id, row))
            rows.append(row)
        return rows

    def delete_definitions(self, kind: DefinitionKind, name: str, namespace: str, version: int = 0) -> int:
        chosen = [
            row
            for row in self.tables.definitions.values()
            if (row.kind, row.name, row.namespace) == (kind, name, namespace)
            and not row.deleted
            and version in (0, row.version)
        ]
        for row in chosen:
            self.tables = self.tables._replace(
                definitions=self.tables.definitions.set(row.definition_id, replace(row, deleted=True))
            )
        return len(chosen)

    def put_environment(
        self,
        namespace: str,
        name: str,
        value: str,
        at_s: float,
        *,
        description: str = "",
        actor: str = "",
        comment: str = "",
    ) -> EnvironmentRow:
        old = self.tables.environments.get((namespace, name))
        revision, created_s = (old.revision + 1, old.created_s) if old is not None else (1, at_s)
        row = EnvironmentRow(namespace, name, description, value, revision, created_s, at_s, actor, comment)
        self.tables = self.tables._replace(environments=self.tables.environments.set((namespace, name), row))
        return row

    def delete_environment(self, namespace: str, name: str) -> bool:
        if (namespace, name) not in self.tables.environments:
            return False
        self.tables = self.tables._replace(environments=self.tables.environments.delete((namespace, name)))
        return True

    def save_descriptions(self, descriptions: Sequence[DescriptionRow]) -> None:
        for row in descriptions:
            if row.digest not in self.tables.descriptions:
                self.tables = self.tables._replace(descriptions=self.tables.descriptions.set(row.digest, row))

    def save_actions(self, descriptions: Mapping[str, str]) -> None:
        self.tables = self.tables._replace(actions=self.tables.actions.update(descriptions))

    def add_token(self, row: TokenRow) -> None:
        if row.token_id in self.tables.tokens:
            raise StoreConflict(f"token {row.token_id} exists already")
        self._put_token(row)

    def revoke_token(self, token_id: str, at_s: float) -> None:
        row = self.tables.tokens.get(token_id)
        if row is not None and row.revoked_s is None:
            self._put_token(replace(row, revoked_s=at_s))

    def _put_token(self, row: TokenRow) -> None:
        self.tables = self.tables._replace(tokens=self.tables.tokens.set(row.token_id, row))

    def settle(self, key: str, value: str) -> str:
        if key not in self.tables.settings:
            self.tables = self.tables._replace(settings=self.tables.settings.set(key, value))
        return self.tables.settings[key]

    def replace_setting(self, key: str, value: str) -> None:
        self.tables = self.tables._replace(settings=self.tables.settings.set(key, value))


def _fixed_cells(row: object, columns: Sequence[str]) -> list[Any]:
    return [getattr(row, column) for column in columns]
