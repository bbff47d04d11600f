"""The write side over SQL: one transaction of the conductor."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from dalsegno.store.answers import AnsweredRequests
from dalsegno.store.discards import Removal
from dalsegno.store.journals import WrittenChanges
from dalsegno.store.library import Library
from dalsegno.store.queries import SqlQueries, session_row
from dalsegno.store.records import (
    Begun,
    Claimed,
    ClockRow,
    DefinitionPlace,
    DueMessage,
    HeldAttempt,
    Keepers,
    NewMessage,
    NewProgress,
    ReadyAttempt,
    Saved,
    SessionRow,
)
from dalsegno.store.removal import Discards
from dalsegno.store.row_batch import RowBatch, gather
from dalsegno.store.rows import Cells
from dalsegno.store.statements import OWNED, Statements
from dalsegno.store.store import Queries
from dalsegno.store.tables import EXECUTIONS, METADATA, SESSIONS
from dalsegno.store.texts import referenced_digests
from dalsegno.store.tokens import TokenWrites
from dalsegno.store.unsent import Unsent
from dalsegno.workflow.changes import AnyChange
from dalsegno.workflow.codec import Texts, decode_event, encode_event
from dalsegno.workflow.consolidated import Consolidated
from dalsegno.workflow.events import AnyEvent
from dalsegno.workflow.identity import AttemptKey


class SqlTransaction(Library, AnsweredRequests, Discards, TokenWrites):
    """See store.Transaction."""

    def __init__(self, unsent: Unsent, statements: Statements, clock: Callable[[], float] | None = None) -> None:
        """`clock`: see SqlStore."""
        super().__init__(unsent, statements)
        self._clock = clock
        self._queries = SqlQueries(lambda: unsent.connection)
        self._claimed: dict[str, int] = {}
        """The revisions of the executions that this transaction has locked."""

    @property
    def queries(self) -> Queries:
        return self._queries

    def now_s(self) -> float:
        if self._clock is not None:
            return self._clock()
        if self._statements.now is None:
            return time.time()
        ((now_s,),) = self._ask(self._statements.now)
        return float(now_s)

    def clock_row(self, *, locks: bool = False) -> ClockRow:
        (row,) = self._ask(self._statements.lock_clock if locks else self._statements.clock)
        return ClockRow(*row)

    def shift_clock(self, shift_s: float) -> None:
        self._cursor.execute(self._statements.shift_clock, (shift_s,))

    def note_time(self, at_s: float) -> None:
        self._write(self._statements.note_time, [(at_s, at_s)])

    def claim(self, execution_ids: Collection[str]) -> dict[str, Claimed]:
        return self._note_claimed(self._ask(self._statements.claim, self._statements.list_of(execution_ids)))

    def claim_for(self, engine: int, execution_ids: Collection[str], places: Sequence[DefinitionPlace] = ()) -> Begun:
        statements = self._statements
        claiming, finding = self._unsent.new_cursor(), self._unsent.new_cursor()
        with self._unsent.together() as holding:
            holding.execute(statements.hold_engine, (engine,))
            if execution_ids:
                claiming.execute(statements.claim, (statements.list_of(execution_ids),))
            if places:
                finding.execute(statements.find_definitions, tuple(map(statements.list_of, zip(*places, strict=True))))
        row = holding.fetchone()
        return Begun(
            None if row is None else float(row[0] or 0.0),
            self._note_claimed(claiming.fetchall()) if execution_ids else {},
            [found for _, found in finding.fetchall()] if places else [],
        )

    def _note_claimed(self, rows: Iterable[tuple[Any, ...]]) -> dict[str, Claimed]:
        claimed = {row[0]: Claimed(*row[1:]) for row in rows}
        self._claimed.update((execution_id, row.revision) for execution_id, row in claimed.items())
        return claimed

    def set_deaths(self, execution_id: str, deaths: int) -> None:
        self._write(self._statements.set_deaths, [(deaths, execution_id)])

    def changes_after(
        self, execution_id: str, revision: int, until: int | None = None
    ) -> list[AnyChange | Consolidated]:
        return self._queries.changes_after(execution_id, revision, until)

    def written_changes(self, after: Mapping[str, int], texts_max: int) -> dict[str, WrittenChanges]:
        rows: dict[str, list[str]] = {}
        for execution_id, changes in self._ask(self._statements.changes_after, json.dumps(after)):
            rows.setdefault(execution_id, []).append(changes)
        wanted = {execution_id: found for execution_id, each in rows.items() if (found := referenced_digests(each))}
        texts = self._texts_of(wanted, texts_max) if wanted else {}
        return {
            execution_id: WrittenChanges(each, texts.get(execution_id, Texts()))
            for execution_id, each in rows.items()
            if texts.get(execution_id, {}).keys() >= {*wanted.get(execution_id, ())}
        }

    def _texts_of(self, wanted: Mapping[str, Collection[str]], texts_max: int) -> dict[str, Texts]:
        """Return the texts with these digests by execution, as many as have `texts_max` characters together."""
        list_of = self._statements.list_of
        all_digests = {digest for each in wanted.values() for digest in each}
        found: dict[str, Texts] = {}
        for execution_id, digest, text in self._ask(
            self._statements.texts_of, list_of(wanted), list_of(all_digests), texts_max
        ):
            found.setdefault(execution_id, Texts())[digest] = text
        return found

    def save_all(self, batch: Sequence[Saved], busy: Collection[str] = (), keeper: int = 0) -> dict[str, Removal]:
        rows, statements = gather(batch), self._statements
        self._write(statements.insert_execution, rows.added_executions)
        # The revision of what is locked cannot have changed. That of others is compared before the commit.
        is_counted = any(self._claimed.get(str(each)) != before for *_, each, before in rows.altered_executions)
        self._unsent.add(statements.update_execution, rows.altered_executions, is_counted=is_counted)
        self._save_parts(rows, keeper)
        self._claimed.update((each.execution.id, each.execution.revision) for each in batch)
        return {
            saved.execution.id: self.discard(saved, saved.discarded, busy)
            for saved in batch
            if saved.discarded is not None
        }

    def _save_parts(self, rows: RowBatch, keeper: int) -> None:
        statements = self._statements
        parts: tuple[tuple[str, Sequence[Cells]], ...] = (
            (statements.insert_label, rows.labels),
            (statements.insert_task, rows.added_tasks),
            (statements.update_task, rows.altered_tasks),
            (statements.supersede_attempts, rows.begun),
            (statements.supersede_items, rows.begun_items),
            (statements.insert_attempt, [(*cells, keeper) for cells in rows.added_attempts]),
            (statements.update_attempt, [(keeper, *cells) for cells in rows.altered_attempts]),
            (statements.insert_checkpoint, rows.added_checkpoints),
            (statements.undo_checkpoints, rows.undone_checkpoints),
            (statements.insert_text, rows.texts),
            (statements.insert_journal, rows.journal),
        )
        for statement, cells_of in parts:
            if cells_of:  # most batches have few of these
                self._write(statement, cells_of)

    def delete_execution(self, execution_id: str) -> None:
        for table in (METADATA.tables[name] for name in OWNED):
            self._connection.execute(sa.delete(table).where(table.c.execution_id == execution_id))
        self._connection.execute(sa.delete(EXECUTIONS).where(EXECUTIONS.c.id == execution_id))

    def add_messages(self, messages: Sequence[NewMessage], keeper: int = 0) -> None:
        rows: list[Cells] = []
        for message in messages:
            aside = Texts()
            text = encode_event(message.event, aside)
            texts = json.dumps(aside) if aside else None
            rows.append((message.id, message.execution_id, message.due_s, text, texts, keeper))
        self._write(self._statements.insert_message, rows)

    def take_messages(self, message_ids: Collection[str]) -> dict[str, AnyEvent]:
        rows = self._ask(self._statements.take_messages, self._statements.list_of(message_ids))
        found = {
            message_id: decode_event(text, Texts(json.loads(texts) if texts else {}))
            for message_id, text, texts in rows
        }
        return {message_id: found[message_id] for message_id in message_ids if message_id in found}

    def due_messages(self, now_s: float, limit: int, keeper: int = 0) -> list[DueMessage]:
        return [DueMessage(*row) for row in self._ask(self._statements.due_messages, keeper, now_s, limit)]

    def adopt_messages(
        self, keeper: int, former: Collection[int], now_s: float, limit: int, notice_lease_s: float = 0.0
    ) -> list[DueMessage]:
        statements, until_s = self._statements, now_s + notice_lease_s
        rows = self._ask(statements.adopt_messages, keeper, statements.list_of(former), until_s, now_s, limit)
        return sorted((DueMessage(*row) for row in rows), key=lambda each: (each.due_s, each.id))

    def save_progress(self, progress: Sequence[NewProgress]) -> None:
        rows = [
            (msgspec.json.encode(each.progress).decode(), each.execution_id, *each.key, each.progress.delivery)
            for each in progress
        ]
        self._write(self._statements.save_progress, rows)

    def save_heartbeat(self, execution_id: str, key: AttemptKey, at_s: float) -> None:
        self._write(self._statements.save_heartbeat, [(at_s, execution_id, *key)])

    def ready_attempts(self, limit: int, actions: Collection[str], keeper: int = 0) -> list[ReadyAttempt]:
        statements = self._statements
        rows = self._ask(statements.ready_attempts, keeper, statements.list_of(actions), limit)
        return [ReadyAttempt(row[0], row[1:4], *row[4:]) for row in rows]

    def adopt_attempts(
        self,
        keeper: int,
        former: Collection[int],
        actions: Collection[str],
        before_s: float,
        limit: int,
        unmet: Collection[str] = (),
    ) -> list[ReadyAttempt]:
        list_of = self._statements.list_of
        lists = list_of(former), list_of(actions), list_of(unmet)
        rows = self._ask(self._statements.adopt_attempts, *lists, before_s, limit, keeper)
        found = [ReadyAttempt(row[0], row[1:4], *row[4:]) for row in rows]
        return sorted(found, key=lambda each: (each.execution_id, each.key))

    def held_attempts(self, session_ids: Collection[str]) -> list[HeldAttempt]:
        rows = self._ask(self._statements.held_attempts, self._statements.list_of(session_ids))
        return [HeldAttempt(row[0], row[1:4], *row[4:]) for row in rows]

    def abandoned_attempts(self, limit: int) -> list[HeldAttempt]:
        return [
            HeldAttempt(row[0], row[1:4], *row[4:]) for row in self._ask(self._statements.abandoned_attempts, limit)
        ]

    def keepers(self) -> Keepers:
        finding = self._unsent.new_cursor()
        with self._unsent.together() as cursor:
            cursor.execute(self._statements.keepers)
            finding.execute(self._statements.living_engines)
        return Keepers(*(frozenset(row[0] for row in found.fetchall()) for found in (cursor, finding)))

    def prune_engines(self) -> int:
        self._cursor.execute(self._statements.prune_engines)
        return int(self._cursor.rowcount)

    def save_session(self, session: SessionRow) -> None:
        values = {
            "session_id": session.session_id,
            "executor_id": session.executor_id,
            "engine_id": session.engine_id,
            "lease_until_s": session.lease_until_s,
            "ended": session.ended,
            "labels": json.dumps(dict(session.labels), ensure_ascii=False),
            "slots": session.slots,
            "peer": session.peer,
            "actions": json.dumps(dict(session.actions)),
            "connected_s": session.connected_s,
            "heard_s": session.heard_s,
            "principal": session.principal,
        }
        self._upsert(SESSIONS, values)

    def renew_sessions(self, session_ids: Collection[str], heard_s: float, lease_until_s: float) -> None:
        statements = self._statements
        row = (lease_until_s, heard_s, statements.list_of(session_ids), lease_until_s)
        self._write(statements.renew_sessions, [row])

    def session(self, session_id: str) -> SessionRow | None:
        return next(iter(self._sessions(SESSIONS.c.session_id == session_id)), None)

    def sessions_of(self, executor_id: str) -> list[SessionRow]:
        return self._sessions(~SESSIONS.c.ended, SESSIONS.c.executor_id == executor_id)

    def _sessions(self, *conditions: sa.ColumnElement[bool]) -> list[SessionRow]:
        statement = sa.select(SESSIONS).where(*conditions).order_by(SESSIONS.c.session_id)
        return [session_row(row) for row in self._connection.execute(statement)]

    def end_sessions(self, session_ids: Collection[str]) -> None:
        self._connection.execute(sa.update(SESSIONS).where(SESSIONS.c.session_id.in_(session_ids)).values(ended=True))

    def prune_sessions(self, before_s: float) -> int:
        statement = sa.delete(SESSIONS).where(SESSIONS.c.ended, SESSIONS.c.lease_until_s < before_s)
        return self._connection.execute(statement).rowcount
