"""Checks a store: `check` compares rows with journals, `diagnose` looks for what an operator should know."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import fields

import sqlalchemy as sa

from dalsegno.store.migrate import check_tables
from dalsegno.store.outages import is_outage
from dalsegno.store.records import AttemptRow, CheckpointRow, JournalChange, TaskRow
from dalsegno.store.rows import attempt_row, checkpoint_row, execution_row, task_row
from dalsegno.store.statements import NOW
from dalsegno.store.store import Queries, Store, StoreOutdated
from dalsegno.store.tables import ATTEMPTS, CLOCK, DISCARDS, ENGINES, EXECUTIONS, MESSAGES, METADATA, SESSIONS
from dalsegno.store.texts import Record, resolve
from dalsegno.workflow.changes import AnyChange, ExecutionCreated
from dalsegno.workflow.codec import Texts, encode_changes
from dalsegno.workflow.consolidated import Consolidated
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.journal import replay
from dalsegno.workflow.states import AttemptState

_UNTOLD = frozenset({"progress", "heard_s"})
"""Columns that the journal does not contain."""

_TABLES = {"messages": MESSAGES, "sessions": SESSIONS, "actions": ATTEMPTS, "ranges": DISCARDS}
"""What a finding counts, by its first word."""

_LATE_S = 60.0
"""How late something must be before `diagnose` reports it."""


def check(store: Store) -> Iterator[str]:
    """Yield what is wrong with the stored executions. Nothing is wrong if every journal replays to exactly the rows."""
    after = ""
    while True:
        with store.read() as queries:
            ids = queries.execution_ids(after)
        for execution_id in ids:
            with store.read() as queries:
                yield from check_execution(queries, execution_id)
        if not ids:
            return
        after = ids[-1]


def check_execution(queries: Queries, execution_id: str) -> list[str]:
    """Return what is wrong with one execution."""
    rows = queries.executions_of([execution_id], full=False)
    if not rows:
        return []  # deleted or discarded meanwhile
    try:
        journal = _whole_journal(queries, execution_id)
        first = rows[execution_id].first_sequence
        gaps = [each.sequence for number, each in enumerate(journal, first) if each.sequence != number]
        if gaps:
            return [f"execution {execution_id}: the journal has a gap before change {gaps[0]}"]
        if not journal or not _begins(journal[0].change):
            return [f"execution {execution_id}: the journal does not begin with its creation"]
        execution = replay(each.change for each in journal)
        texts = Texts()
        encode_changes([each.change for each in journal], texts)
        return list(_differences(queries, execution, journal[-1].at_s, texts))
    except Exception as error:  # a damaged journal may cause any error, and each one is reported
        if is_outage(error):
            raise
        return [f"execution {execution_id}: the journal does not replay: {type(error).__name__}: {error}"]


def _begins(change: AnyChange | Consolidated) -> bool:
    """Return whether a journal can begin with the change."""
    return isinstance(change, ExecutionCreated) or (isinstance(change, Consolidated) and change.created is not None)


def _whole_journal(queries: Queries, execution_id: str) -> list[JournalChange]:
    journal: list[JournalChange] = []
    while page := queries.journal(execution_id, journal[-1].sequence if journal else 0):
        journal += page
    return journal


def _differences(queries: Queries, execution: Execution, updated_s: float, texts: Texts) -> Iterator[str]:
    name = f"execution {execution.id}"
    row = queries.execution(execution.id)
    deaths = row.deaths if row is not None else 0  # the journal does not contain how engines died
    yield from _compare(name, row, resolve(execution_row(execution, updated_s, deaths), texts))
    tasks = dict(execution.tasks)
    for task in _all_tasks(queries, execution.id):
        known = tasks.pop(task.number, None)
        expected = resolve(task_row(execution.id, known), texts) if known is not None else None
        yield from _compare(f"task {execution.id}.{task.number}", task, expected)
    attempts = dict(execution.attempts)
    for attempt in _all_attempts(queries, execution.id):
        tried = attempts.pop(attempt.key, None)
        expected_attempt = resolve(attempt_row(execution.id, tried), texts) if tried is not None else None
        yield from _compare(f"attempt {execution.id}.{_dotted(attempt.key)}", attempt, expected_attempt)
    entries = dict(execution.entries)
    for reached in _all_checkpoints(queries, execution.id):
        entry = entries.pop(reached.sequence, None)
        expected_entry = resolve(checkpoint_row(execution.id, entry), texts) if entry is not None else None
        yield from _compare(f"checkpoint {reached.name} of {execution.id}", reached, expected_entry)
    yield from (f"checkpoint {entry.name} of {execution.id}: has no row" for entry in entries.values())
    yield from (f"task {execution.id}.{number}: has no row" for number in tasks)
    yield from (f"attempt {execution.id}.{_dotted(key)}: has no row" for key in attempts)


def _all_tasks(queries: Queries, execution_id: str) -> Iterator[TaskRow]:
    token = ""
    while True:
        page = queries.tasks(execution_id, size=1000, token=token, full=True)
        yield from page.rows
        token = page.next_token
        if not token:
            return


def _all_attempts(queries: Queries, execution_id: str) -> Iterator[AttemptRow]:
    token = ""
    while True:
        page = queries.attempts(execution_id, size=1000, token=token, full=True)
        yield from page.rows
        token = page.next_token
        if not token:
            return


def _all_checkpoints(queries: Queries, execution_id: str) -> Iterator[CheckpointRow]:
    token = ""
    while True:
        page = queries.checkpoints(execution_id, size=1000, token=token)
        yield from page.rows
        token = page.next_token
        if not token:
            return


def _compare(name: str, stored: Record | None, expected: Record | None) -> Iterable[str]:
    if stored == expected:
        return []
    if stored is None or expected is None:
        return [f"{name}: {'has no row' if stored is None else 'is not in the journal'}"]
    differing = [
        field.name
        for field in fields(expected)
        if not _agree(field.name, getattr(stored, field.name), getattr(expected, field.name))
    ]
    return [
        f"{name}: {column} is {getattr(stored, column)!r}, the journal gives {getattr(expected, column)!r}"
        for column in differing
    ]


def _agree(column: str, stored: object, expected: object) -> bool:
    """Return whether a column has the expected value, or need not have it: rows of tasks that ended before there was a
    column for it have no revision of their end."""
    return column in _UNTOLD or stored == expected or (column == "ended_at" and stored == 0)


def _dotted(key: tuple[int, int, int]) -> str:
    return ".".join(map(str, key))


def diagnose(connection: sa.Connection) -> Iterator[str]:
    """Yield what an operator should know, one line each. Lines that begin with `!` need attention."""
    try:
        if not check_tables(connection):
            yield "the tables are of a later version, which this one can use"
    except StoreOutdated as error:
        yield f"! {error}"
        return
    if connection.dialect.name == "sqlite":
        verdict = " ".join(str(connection.exec_driver_sql("PRAGMA quick_check").scalar()).split())
        if verdict != "ok":
            yield f"! the file is damaged: {verdict}"
            return
        yield "the file is sound"
    if connection.dialect.name == "postgresql":
        yield from _durability(connection)
    for table in METADATA.sorted_tables:
        count = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        yield f"{table.name}: {count:,} rows"
    living = connection.execute(sa.select(ENGINES.c.number).where(~ENGINES.c.ended).order_by(ENGINES.c.number))
    yield f"engines that have not ended: {', '.join(str(row.number) for row in living) or 'none'}"
    clock_s = time.time()
    if connection.dialect.name == "postgresql":
        clock_s = connection.exec_driver_sql(NOW).scalar_one()
    shift_s = connection.execute(sa.select(CLOCK.c.shift_s)).scalar_one()
    if shift_s:
        yield f"engines count a time that is {shift_s:+,.1f} s from the store's clock, which was set while they ran"
    late_s = clock_s + shift_s - _LATE_S
    yield from _attention(
        connection,
        {
            "messages are overdue by more than a minute: is an engine running?": MESSAGES.c.due_s < late_s,
            "sessions have an expired lease and were not ended: is an engine running?": sa.and_(
                ~SESSIONS.c.ended, SESSIONS.c.lease_until_s < late_s
            ),
            "actions have waited for an executor for more than a minute: is one running that serves them?": sa.and_(
                ATTEMPTS.c.state == AttemptState.READY.value, ATTEMPTS.c.created_s < late_s
            ),
            "messages are for executions that do not exist": ~sa.exists()
            .where(EXECUTIONS.c.id == MESSAGES.c.execution_id)
            .correlate(MESSAGES),
            "ranges of discarded tasks are not removed, and no message is there to remove them": ~sa.exists()
            .where(MESSAGES.c.execution_id == DISCARDS.c.execution_id, MESSAGES.c.event.contains("RemovalDue"))
            .correlate(DISCARDS),
        },
    )


def _durability(connection: sa.Connection) -> Iterator[str]:
    """Yield what PostgreSQL confirms before its disk and its standby have it."""
    row = connection.exec_driver_sql(
        "SELECT current_setting('synchronous_commit'), current_setting('synchronous_standby_names')"
    )
    commit, standbys = row.one()
    if commit in ("off", "local"):
        yield f"! synchronous_commit is {commit} for this user: ALTER ROLE ... SET synchronous_commit = on"
    yield f"synchronous standbys: {standbys or 'none: what is committed is on this server only'}"


def _attention(connection: sa.Connection, findings: dict[str, sa.ColumnElement[bool]]) -> Iterator[str]:
    for text, condition in findings.items():
        table = _TABLES[text.split()[0]]
        count = connection.execute(sa.select(sa.func.count()).select_from(table).where(condition)).scalar_one()
        if count:
            yield f"! {count:,} {text}"
