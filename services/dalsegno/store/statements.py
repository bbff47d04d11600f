"""The SQL that the engine uses in every batch, for each database.

The driver's cursor executes it unchanged: SQLAlchemy's statements would cost half as much again per row.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from dalsegno.store.hidden import IS_SHOWN, at_rest
from dalsegno.store.rows import (
    ATTEMPT_COLUMNS,
    ATTEMPT_FIXED,
    CHECKPOINT_COLUMNS,
    EXECUTION_COLUMNS,
    EXECUTION_FIXED,
    TASK_COLUMNS,
    TASK_FIXED,
)
from dalsegno.workflow.states import QUIET_EXECUTION

OWNED = ("attempts", "tasks", "checkpoints", "journal", "texts", "messages", "labels", "discards")
"""The tables with rows of an execution, beside its own."""

NOTICE = '{"type":"NoticeDue"'
"""How a notice begins as it is stored."""

NOW = "SELECT extract(epoch FROM clock_timestamp())::double precision"
"""PostgreSQL's time, in seconds since 1970."""


class Statements:
    """The statements for one kind of database."""

    def __init__(self, dialect: str) -> None:
        self._is_sqlite = dialect == "sqlite"
        self._mark = "?" if self._is_sqlite else "%s"
        mark, among = self._mark, self._among
        self.now = None if self._is_sqlite else NOW
        lock = "" if self._is_sqlite else " FOR UPDATE"
        self.claim = (
            f"SELECT id, revision, deaths, first_sequence FROM executions WHERE {among('id')} AND {IS_SHOWN}"
            f" ORDER BY id{lock}"
        )
        self.insert_execution = self._insert("executions", EXECUTION_COLUMNS)
        self.update_execution = self._update("executions", EXECUTION_COLUMNS[EXECUTION_FIXED:], ("id", "revision"))
        self.set_deaths = self._update("executions", ("deaths",), ("id",))
        self.insert_task = self._insert("tasks", TASK_COLUMNS)
        self.update_task = self._update("tasks", TASK_COLUMNS[TASK_FIXED:], ("execution_id", "number"))
        self.insert_attempt = self._insert("attempts", (*ATTEMPT_COLUMNS, "keeper"))
        self.update_attempt = self._update(
            "attempts", ("keeper", *ATTEMPT_COLUMNS[ATTEMPT_FIXED:]), ("execution_id", "task", "item", "attempt")
        )
        self.save_progress = (
            f"UPDATE attempts SET progress = {mark} WHERE execution_id = {mark} AND task = {mark} AND item = {mark}"
            f" AND attempt = {mark} AND delivery = {mark} AND ended_s IS NULL"
        )
        self.save_heartbeat = self._update("attempts", ("heard_s",), ("execution_id", "task", "item", "attempt"))
        self.supersede_attempts = (
            f"UPDATE attempts SET accepted = false WHERE execution_id = {mark} AND task = {mark} AND attempt < {mark}"
            " AND accepted"
        )
        self.supersede_items = (
            f"UPDATE attempts SET accepted = false WHERE execution_id = {mark} AND task = {mark} AND item = {mark}"
            f" AND attempt < {mark} AND accepted"
        )
        self.insert_checkpoint = self._insert("checkpoints", CHECKPOINT_COLUMNS)
        self.undo_checkpoints = (
            f"UPDATE checkpoints SET undone = true WHERE execution_id = {mark} AND sequence > {mark}"
            f" AND sequence < {mark} AND NOT undone"
        )
        self.insert_label = self._insert("labels", ("execution_id", "key", "value"))
        self.insert_journal = self._insert("journal", ("execution_id", "last", "first", "entries", "changes"))
        self.insert_text = (
            self._insert("texts", ("execution_id", "digest", "text", "last"))
            + " ON CONFLICT (execution_id, digest) DO UPDATE SET last = excluded.last"
        )
        self.insert_request = self._insert(
            "requests", ("namespace", "request_id", "body_hash", "answer", "created_s", "about")
        )
        # Which engine renews a lease is all the same: none waits for another one that does.
        skip = "" if self._is_sqlite else " FOR UPDATE SKIP LOCKED"
        self.renew_sessions = (
            f"UPDATE sessions SET lease_until_s = {mark}, heard_s = {mark} WHERE session_id IN (SELECT session_id"
            f" FROM sessions WHERE {among('session_id')} AND NOT ended AND lease_until_s < {mark}{skip})"
        )
        self._write_clock(lock)
        self._write_engines()
        self._write_definitions()
        self._write_messages()
        self._write_attempts()
        self._write_journals()
        self._write_discards()

    def _write_clock(self, lock: str) -> None:
        mark = self._mark
        self.clock = "SELECT shift_s, latest_s FROM clock"
        self.shift_clock = f"UPDATE clock SET shift_s = {mark}"
        # The row stays locked until a commit has ended, which may take seconds: an engine whose time another one is
        # about to note does not wait for that.
        skip = "" if self._is_sqlite else f"{lock} SKIP LOCKED"
        self.note_time = (
            f"UPDATE clock SET latest_s = {mark} WHERE id = (SELECT id FROM clock WHERE latest_s < {mark}{skip})"
        )
        self.lock_clock = self.clock + lock

    def _write_engines(self) -> None:
        mark = self._mark
        self.insert_engine = (
            "INSERT INTO engines (number, id, process, beats, patience_s, ended)"
            f" SELECT coalesce(max(number), 0) + 1, {mark}, {mark}, 0, 0, false FROM engines RETURNING number"
        )
        self.end_all_engines = "UPDATE engines SET ended = true WHERE NOT ended"
        # The weakest lock that excludes `lock_engine`: whoever ends an engine waits for its transaction, and the next
        # one finds that it has ended. The engine may renew its row meanwhile.
        share = "" if self._is_sqlite else " FOR KEY SHARE"
        self.hold_engine = f"SELECT (SELECT shift_s FROM clock) FROM engines WHERE number = {mark} AND NOT ended{share}"
        self.renew_engine = (
            f"UPDATE engines SET beats = beats + 1, patience_s = {mark} WHERE number = {mark} AND NOT ended"
        )
        skip = "" if self._is_sqlite else " FOR UPDATE SKIP LOCKED"
        self.lock_engine = f"SELECT number FROM engines WHERE number = {mark}{skip}"
        self.living_engines = "SELECT number FROM engines WHERE NOT ended"
        self.has_engine = f"SELECT number FROM engines WHERE number = {mark}"
        self.end_engine = f"UPDATE engines SET ended = true WHERE number = {mark}"
        # Not while it waits for a synchronous standby: it would report a commit that the standby lacks.
        self.cut_off = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = %s AND wait_event IS DISTINCT FROM 'SyncRep'"
        )
        self.prune_engines = (
            "DELETE FROM engines WHERE ended AND number < (SELECT max(number) FROM engines) AND NOT EXISTS"
            " (SELECT 1 FROM attempts WHERE state = 'RUNNING' AND session_id <> '' AND engine = engines.number)"
        )
        # From each keeper to the next one by the index: what they keep costs nothing.
        self.keepers = " UNION ".join(
            f"SELECT keeper FROM (WITH RECURSIVE found AS (SELECT min(keeper) AS keeper FROM {table} WHERE {where}"
            f" UNION ALL SELECT (SELECT min(keeper) FROM {table} WHERE {where} AND {table}.keeper > found.keeper)"
            " FROM found WHERE keeper IS NOT NULL) SELECT keeper FROM found) AS each WHERE keeper IS NOT NULL"
            for table, where in (("attempts", "state = 'READY'"), ("messages", "keeper >= 0"))
        )

    def _write_definitions(self) -> None:
        columns = "kind", "name", "namespace", "version"
        if self._is_sqlite:
            lists = " JOIN ".join(
                f"(SELECT key AS place, value AS {each} FROM json_each(?))" + (" USING (place)" if number else "")
                for number, each in enumerate(columns)
            )
            given = f"SELECT * FROM {lists}"
        else:
            given = (
                'SELECT place, kind COLLATE "C" AS kind, name COLLATE "C" AS name, namespace COLLATE "C" AS namespace,'
                " version FROM unnest(%s::text[], %s::text[], %s::text[], %s::integer[])"
                f" WITH ORDINALITY AS lists({', '.join(columns)}, place)"
            )
        self.find_definitions = (
            "SELECT place, (SELECT definition_id FROM definitions WHERE definitions.kind = given.kind"
            " AND definitions.namespace = given.namespace AND definitions.name = given.name AND NOT definitions.deleted"
            " AND (given.version = 0 OR definitions.version = given.version) ORDER BY definitions.version DESC LIMIT 1)"
            f" FROM ({given}) AS given ORDER BY place"
        )

    def _write_messages(self) -> None:
        mark = self._mark
        self.insert_message = self._insert("messages", ("id", "execution_id", "due_s", "event", "texts", "keeper"))
        self.take_messages = f"DELETE FROM messages WHERE {self._among('id')} RETURNING id, event, texts"
        self.due_messages = (
            f"SELECT id, execution_id, due_s FROM messages WHERE keeper = {mark} AND due_s <= {mark}"
            f" ORDER BY due_s, id LIMIT {mark}"
        )
        # Two engines never wait for each other here: each takes what the other one has not locked.
        skip = "" if self._is_sqlite else " FOR UPDATE SKIP LOCKED"
        is_notice = f"substr(event, 1, {len(NOTICE)}) = '{NOTICE}'"
        self.adopt_messages = (
            f"UPDATE messages SET keeper = {mark} WHERE id IN (SELECT id FROM messages"
            f" WHERE {self._among('keeper')} AND due_s <= {mark} AND (due_s <= {mark} OR {is_notice})"
            f" LIMIT {mark}{skip}) RETURNING id, execution_id, due_s"
        )

    def _write_attempts(self) -> None:
        quiet = ", ".join(f"'{state}'" for state in sorted(QUIET_EXECUTION))
        columns = "attempts.execution_id, attempts.task, attempts.item, attempts.attempt"
        self.ready_attempts = (
            f"SELECT {columns}, attempts.action, attempts.target, attempts.digest FROM attempts"
            " JOIN executions ON executions.id = attempts.execution_id"
            f" WHERE attempts.state = 'READY' AND attempts.keeper = {self._mark} AND {self._among('attempts.action')}"
            f" AND executions.state NOT IN ({quiet}) ORDER BY attempts.created_s, {columns} LIMIT {self._mark}"
        )
        # Whoever writes an attempt has locked its execution: what another engine is busy with is left to it.
        skip = "" if self._is_sqlite else " FOR UPDATE OF executions SKIP LOCKED"
        self.adopt_attempts = (
            f"WITH found AS (SELECT {columns} FROM attempts JOIN executions ON executions.id = attempts.execution_id"
            f" WHERE attempts.state = 'READY' AND {self._among('attempts.keeper')}"
            f" AND {self._among('attempts.action')} AND NOT {self._among('attempts.target')}"
            f" AND attempts.created_s < {self._mark}"
            f" AND executions.state NOT IN ({quiet}) LIMIT {self._mark}{skip})"
            f" UPDATE attempts SET keeper = {self._mark} FROM found WHERE attempts.execution_id = found.execution_id"
            " AND attempts.task = found.task AND attempts.item = found.item AND attempts.attempt = found.attempt"
            f" AND attempts.state = 'READY' RETURNING {columns}, attempts.action, attempts.target, attempts.digest"
        )
        self.held_attempts = (
            f"SELECT {columns}, delivery, session_id, engine FROM attempts"
            f" WHERE state = 'RUNNING' AND session_id <> '' AND {self._among('session_id')} AND NOT delegated"
            f" ORDER BY {columns}"
        )
        self.abandoned_attempts = (
            f"SELECT {columns}, delivery, session_id, engine FROM attempts"
            " WHERE state = 'RUNNING' AND session_id <> '' AND NOT delegated AND NOT EXISTS"
            " (SELECT 1 FROM sessions WHERE sessions.session_id = attempts.session_id AND NOT sessions.ended)"
            f" ORDER BY {columns} LIMIT {self._mark}"
        )

    def _write_journals(self) -> None:
        among, mark = self._among, self._mark
        if self._is_sqlite:
            revisions = "SELECT key AS id, value AS after FROM json_each(?)"
        else:
            revisions = 'SELECT key COLLATE "C" AS id, value::integer AS after FROM json_each_text(%s::json)'
        self.changes_after = (
            f"SELECT execution_id, changes FROM ({revisions}) AS known JOIN journal"
            " ON execution_id = known.id AND last > known.after ORDER BY execution_id, last"
        )
        self.texts_of = (
            "SELECT execution_id, digest, text FROM (SELECT execution_id, digest, text,"
            " sum(length(text)) OVER (ORDER BY execution_id, digest) AS so_far FROM texts"
            f" WHERE {among('execution_id')} AND {among('digest')}) AS each WHERE so_far <= {mark}"
        )

    def _write_discards(self) -> None:
        mark, among = self._mark, self._among
        gone = f"{{}} <= {mark} AND NOT ({among('{}')})"
        self.journal_row_at = (
            f"SELECT last, first, entries, changes FROM journal WHERE execution_id = {mark} AND last >= {mark}"
            " ORDER BY last LIMIT 1"
        )
        self.update_journal = self._update("journal", ("first", "entries", "changes"), ("execution_id", "last"))
        self.forget_texts = (
            f"UPDATE texts SET last = {mark} WHERE execution_id = {mark} AND last = {mark} AND {among('digest')}"
        )
        self.attempt_keys = f"SELECT task, item, attempt FROM attempts WHERE execution_id = {mark} AND {among('task')}"
        self.delete_attempt = (
            f"DELETE FROM attempts WHERE execution_id = {mark} AND task = {mark} AND item = {mark} AND attempt = {mark}"
        )
        self.children_of = (
            "SELECT id, parent_task, parent_item, parent_attempt FROM executions"
            f" WHERE parent_id = {mark} AND parent_id <> '' AND {among('parent_task')}"
        )
        self.detach = f"UPDATE executions SET parent_task = 0 WHERE {among('id')}"
        self.insert_discard = self._insert("discards", ("execution_id", "root_id", "first", "last"))
        self.delete_discards = f"DELETE FROM discards WHERE execution_id = {mark}"
        self.discards_of = (
            "SELECT discards.root_id, executions.first_sequence, discards.first, discards.last FROM discards"
            f" JOIN executions ON executions.id = discards.execution_id WHERE discards.execution_id = {mark}"
            " ORDER BY discards.first"
        )
        self.remove_behind = {
            "journal": self._delete_some("journal", f"execution_id = {mark} AND last < {mark}"),
            "checkpoints": self._delete_some("checkpoints", f"execution_id = {mark} AND sequence < {mark}"),
            "texts": self._delete_some("texts", f"execution_id = {mark} AND last < {mark}"),
        }
        """The rows before a sequence number."""
        self.remove_gone = {
            "attempts": self._delete_some("attempts", f"execution_id = {mark} AND {gone.format('task', 'task')}"),
            "tasks": self._delete_some("tasks", f"execution_id = {mark} AND {gone.format('number', 'number')}"),
        }
        """The rows of discarded tasks."""
        self.gone_children = (
            f"SELECT id, {at_rest('executions')} FROM executions WHERE parent_id = {mark} AND parent_id <> ''"
            f" AND {gone.format('parent_task', 'parent_task')} LIMIT {mark}"
        )
        self.children_of_all = (
            f"SELECT id, parent_id, {at_rest('executions')} FROM executions"
            f" WHERE {among('parent_id')} AND parent_id <> '' LIMIT {mark}"
        )
        skip = "" if self._is_sqlite else " FOR UPDATE SKIP LOCKED"
        self.lock_leaves = (
            f"SELECT id FROM executions WHERE {among('id')} AND {at_rest('executions')} AND NOT EXISTS"
            " (SELECT 1 FROM executions AS child WHERE child.parent_id = executions.id AND child.parent_id <> '')"
            f" LIMIT {mark}{skip}"
        )
        self.remove_of_all = [self._delete_some(table, among("execution_id")) for table in OWNED]
        self.remove_executions = self._delete_some("executions", among("id"))

    def _delete_some(self, table: str, condition: str) -> str:
        """Return the statement that deletes at most so many of the rows."""
        row = "rowid" if self._is_sqlite else "ctid"
        some = f"SELECT {row} FROM {table} WHERE {condition} LIMIT {self._mark}"
        return f"DELETE FROM {table} WHERE {row} " + (f"IN ({some})" if self._is_sqlite else f"= ANY(ARRAY({some}))")

    def list_of(self, members: Collection[object]) -> object:
        """Return the one parameter of a statement that looks for any of these."""
        return json.dumps(list(members)) if self._is_sqlite else list(members)

    def _among(self, column: str) -> str:
        return f"{column} IN (SELECT value FROM json_each(?))" if self._is_sqlite else f"{column} = ANY(%s)"

    def _insert(self, table: str, columns: Sequence[str]) -> str:
        marks = ", ".join([self._mark] * len(columns))
        return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"

    def _update(self, table: str, columns: Sequence[str], keys: Sequence[str]) -> str:
        cells = ", ".join(f"{column} = {self._mark}" for column in columns)
        return f"UPDATE {table} SET {cells} WHERE {' AND '.join(f'{key} = {self._mark}' for key in keys)}"
