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
from dalsegno.store.records import Begun, Claimed, DefinitionPlace, NewMessage, RequestRow
from dalsegno.store.servers import Session
from dalsegno.store.sql import SqlStore
from dalsegno.store.store import StoreConflict, Transaction
from dalsegno.store.transaction import SqlTransaction
from dalsegno.workflow.changes import ExecutionMoved
from dalsegno.workflow.events import PauseRequested
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
    driver = transaction._unsent._connection.connection.driver_connection  # as it is: nothing is sent for this
    assert isinstance(driver, psycopg.Connection)
    return driver


def _count_round_trips(trace: Path) -> int:
    """Count how often an answer of the server follows what was sent to it. F: to the server, B: from it."""
    sides = [line.split("\t")[0] for line in trace.read_text().splitlines() if line[:2] in ("F\t", "B\t")]
    return sum(pair == ("F", "B") for pair in itertools.pairwise(sides))


@contextmanager
def _traced(store: SqlStore, trace: Path) -> Iterator[Transaction]:
    """A transaction, with its commit, of which libpq writes down what it sends and receives."""
    with trace.open("w") as file:
        with store.write() as transaction:
            connection = _driver(transaction).pgconn
            connection.trace(file.fileno())
            connection.set_trace_flags(psycopg.pq.Trace.SUPPRESS_TIMESTAMPS)
            yield transaction
        connection.untrace()


def test_a_batch_takes_two_round_trips(store: SqlStore, tmp_path: Path) -> None:
    """A batch begins, finds that its engine has not ended and claims in one round trip; all that it writes of new and
    of known executions and of messages takes one more, with the commit: each takes as long as the database is away."""
    engine = store.register_engine("engine-1", "", is_alone=True)
    known = [start(name) for name in ("e1", "e2")]
    for scene in known:
        save(store, scene)
        scene.do(ExecutionMoved(state=ExecutionState.PAUSED, at_s=101.0))
    saved = [scene.saved() for scene in (*known, add_task(start("e3"), 1))]
    trace = tmp_path / "trace"
    with _traced(store, trace) as transaction:
        places = [DefinitionPlace("workflow", "flow", "ns"), DefinitionPlace("action", "std.noop", "")]
        begun = transaction.claim_for(engine, ["e1", "e2", "e3"], places)
        assert begun == Begun(0.0, {"e1": Claimed(2, 0), "e2": Claimed(2, 0)}, [None, None])
        transaction.save_all(saved)
        transaction.add_messages([NewMessage("m1", "e1", PauseRequested(), 5.0)])
        transaction.note_time(100.0)
    assert _count_round_trips(trace) == 2
    with store.read() as queries:
        assert {each: row.state for each, row in queries.executions_of(["e1", "e3"]).items()} == {
            "e1": "PAUSED",
            "e3": "RUNNING",
        }
    assert list(check(store)) == []


def test_a_question_takes_along_what_was_written_before_it(store: SqlStore, tmp_path: Path) -> None:
    """The first question begins the transaction, a later one sends the rows before it: one round trip each, and one for
    the commit."""
    trace = tmp_path / "trace"
    with _traced(store, trace) as transaction:
        assert transaction.due_messages(9.0, 10) == []
        transaction.add_messages([NewMessage("m1", "e1", PauseRequested(), 5.0)])
        assert [each.id for each in transaction.due_messages(9.0, 10)] == ["m1"]
        transaction.add_messages([NewMessage("m2", "e1", PauseRequested(), 6.0)])
        assert transaction.keepers().keeping == {0}
    assert _count_round_trips(trace) == 4


def test_a_conflict_of_rows_that_a_question_takes_along_is_a_conflict(store: SqlStore) -> None:
    """Rows that exist already, and an execution at another revision; nothing of the transaction is kept."""
    stale = start("e1")
    stale.pending.clear()
    save(store, start("e1").do(ExecutionMoved(state=ExecutionState.PAUSED, at_s=101.0)))
    stale.do(ExecutionMoved(state=ExecutionState.ERROR, at_s=102.0))

    def write(scene: Scene) -> None:
        with store.write() as transaction:
            transaction.add_messages([NewMessage("m1", "e1", PauseRequested(), 5.0)])
            transaction.save_all([scene.saved()])
            transaction.due_messages(9.0, 10)

    for scene in (start("e1"), stale):
        with pytest.raises(StoreConflict):
            write(scene)
    with store.write() as transaction:
        assert transaction.due_messages(9.0, 10) == []
    assert list(check(store)) == []


def test_what_is_written_is_seen_by_what_is_read_after_it(store: SqlStore) -> None:
    """What a transaction has not sent yet is sent before anything that it reads, however it reads it."""
    scene = start("e1")
    with store.write() as transaction:
        queries = transaction.queries
        transaction.save_all([scene.saved()])
        assert set(queries.executions_of(["e1"])) == {"e1"}
        transaction.set_deaths("e1", 2)
        assert transaction.claim(["e1"]) == {"e1": Claimed(2, 2)}
        transaction.save_request("ns", "r1", RequestRow("hash", b"answer", ()), 100.0)
        assert transaction.find_request("ns", "r1") == RequestRow("hash", b"answer", ())


def test_a_failure_before_the_commit_that_is_sent_along_commits_nothing(store: SqlStore) -> None:
    """The commit travels with the rows, but the database carries it out only if all of them were written: else the
    batch is a conflict, and the next one finds nothing of it."""
    with store.write() as transaction:
        transaction.save_request("ns", "r1", RequestRow("hash", b"first", ()), 100.0)
    writing = store.write()
    transaction = writing.__enter__()
    transaction.save_all([start("e1").saved()])
    transaction.save_request("ns", "r1", RequestRow("hash", b"second", ()), 100.0)
    with pytest.raises(StoreConflict, match="another engine wrote this first"):
        writing.__exit__(None, None, None)
    with store.write() as transaction:
        assert transaction.claim(["e1"]) == {}
        assert transaction.find_request("ns", "r1") == RequestRow("hash", b"first", ())


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
