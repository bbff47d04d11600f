"""PostgreSQL: what a batch writes is sent together, and what fails of it is told as if it had been sent alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from tests.store.scenes import Scene, add_task, save, start

from dalsegno.store.inspection import check
from dalsegno.store.opening import open_store
from dalsegno.store.servers import Session
from dalsegno.store.sql import SqlStore
from dalsegno.store.store import StoreConflict, Transaction
from dalsegno.store.transaction import SqlTransaction
from dalsegno.workflow.changes import ExecutionMoved
from dalsegno.workflow.states import ExecutionState

MANY = 200


@pytest.fixture
def store(empty_postgres: str) -> Iterator[SqlStore]:
    """A store on PostgreSQL, with its tables."""
    opened = open_store(empty_postgres)
    assert isinstance(opened, SqlStore)
    with closing(opened):
        opened.upgrade()
        yield opened


def _scenes(names: str) -> list[Scene]:
    """Many executions with a task each."""
    return [add_task(start(f"{names}{number}"), 1) for number in range(MANY)]


def _driver(transaction: Transaction) -> psycopg.Connection[tuple[object, ...]]:
    assert isinstance(transaction, SqlTransaction)
    driver = transaction._connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def _count_round_trips(trace: Path) -> int:
    """Count how often an answer of the server follows what was sent to it. F: to the server, B: from it."""
    sides = [line.split("\t")[0] for line in trace.read_text().splitlines() if line[:2] in ("F\t", "B\t")]
    return sum(pair == ("F", "B") for pair in itertools.pairwise(sides))


def test_executions_are_written_in_one_round_trip(store: SqlStore, tmp_path: Path) -> None:
    """All that a batch writes of new and of known executions takes one round trip, not one for each table: each takes
    as long as the database is away."""
    known = [start(name) for name in ("e1", "e2")]
    for scene in known:
        save(store, scene)
        scene.do(ExecutionMoved(state=ExecutionState.PAUSED, at_s=101.0))
    saved = [scene.saved() for scene in (*known, add_task(start("e3"), 1))]
    trace = tmp_path / "trace"
    with store.write() as transaction, trace.open("w") as file:
        connection = _driver(transaction).pgconn
        transaction.claim(["e1", "e2"])
        connection.trace(file.fileno())
        connection.set_trace_flags(psycopg.pq.Trace.SUPPRESS_TIMESTAMPS)
        transaction.save_all(saved)
        connection.untrace()
    assert _count_round_trips(trace) == 1
    assert list(check(store)) == []


def test_a_conflict_among_many_rows_is_a_conflict(store: SqlStore) -> None:
    """One execution of hundreds that exists already, or is at another revision, makes the batch a conflict, which is
    tried again, and no outage; nothing of it is kept."""
    stale = start("e1")
    stale.pending.clear()
    save(store, start("e1").do(ExecutionMoved(state=ExecutionState.PAUSED, at_s=101.0)))
    with pytest.raises(StoreConflict, match="another engine wrote this first"), store.write() as transaction:
        transaction.save_all([each.saved() for each in (start("e1"), *_scenes("a"))])
    stale.do(ExecutionMoved(state=ExecutionState.ERROR, at_s=102.0))
    with pytest.raises(StoreConflict), store.write() as transaction:
        transaction.save_all([each.saved() for each in (*_scenes("b"), stale)])
    with store.read() as queries:
        assert set(queries.executions_of(["e1", "a0", "b0"])) == {"e1"}
    with store.write() as transaction:
        transaction.save_all([each.saved() for each in _scenes("c")])
    assert list(check(store)) == []


def test_the_first_error_of_what_was_sent_together_counts(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the driver tells of a statement that was not carried out, because of one before it that failed, the error is
    that of the one before."""

    @contextmanager
    def sending(_: Session) -> Iterator[None]:
        yield
        try:
            raise psycopg.errors.UniqueViolation("it exists")
        finally:
            raise psycopg.errors.PipelineAborted("pipeline aborted")

    monkeypatch.setattr(Session, "pipeline", sending)
    with pytest.raises(StoreConflict, match="it exists"):
        save(store, start("e1"))
