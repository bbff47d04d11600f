"""Which engine hands out a READY attempt, and which one delivers a message: its keeper, until another adopts it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pytest
from tests.store.scenes import Scene, add_task, start

from dalsegno.store.inspection import check
from dalsegno.store.records import DueMessage, Keepers, NewMessage, ReadyAttempt, SessionRow
from dalsegno.store.sql import SqlStore
from dalsegno.store.store import Store, Transaction
from dalsegno.workflow.changes import ExecutionMoved
from dalsegno.workflow.events import NoticeDue, PauseRequested
from dalsegno.workflow.states import ExecutionState
from dalsegno.workflow.value import Value

ECHO = ["std.echo"]
MANY = 3_000
READ = "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables"
"""The rows that the transaction has read from tables."""


def _keep(store: Store, keeper: int, *scenes: Scene) -> None:
    """Store executions whose READY attempts this engine keeps."""
    with store.write() as transaction:
        transaction.save_all([scene.saved("start_requested") for scene in scenes], keeper=keeper)


def _ready(execution_id: str) -> ReadyAttempt:
    return ReadyAttempt(execution_id, (1, 0, 1), "std.echo", "")


def _post(store: Store, keeper: int, *due: tuple[str, float]) -> None:
    with store.write() as transaction:
        transaction.add_messages([NewMessage(name, "e1", PauseRequested(), due_s) for name, due_s in due], keeper)


def test_what_an_engine_has_written_it_keeps(store: Store) -> None:
    """Each engine finds its own READY attempts and due messages, and those of no other engine."""
    _keep(store, 1, add_task(start("e1"), 1))
    _keep(store, 2, add_task(start("e2"), 1))
    _post(store, 1, ("m1", 5.0))
    _post(store, 2, ("m2", 5.0))
    with store.write() as transaction:
        for keeper in (1, 2):
            assert transaction.ready_attempts(10, ECHO, keeper) == [_ready(f"e{keeper}")]
            assert transaction.due_messages(9.0, 10, keeper) == [DueMessage(f"m{keeper}", "e1", 5.0)]
        assert transaction.ready_attempts(10, ["std.noop"], 1) == []
        assert transaction.ready_attempts(10, ECHO) == []
        assert transaction.due_messages(9.0, 10) == []


def test_messages_are_adopted_once(store: Store) -> None:
    """An engine adopts due messages of engines that it names, bounded, by time and id; they are its own then."""
    _post(store, 1, ("m2", 7.0), ("m1", 7.0), ("m3", 9.5))
    _post(store, 3, ("m4", 5.0))
    _post(store, 4, ("m5", 5.0))
    with store.write() as transaction:
        found = transaction.adopt_messages(2, [0, 1, 3], 9.0, 10)
        assert found == [DueMessage("m4", "e1", 5.0), DueMessage("m1", "e1", 7.0), DueMessage("m2", "e1", 7.0)]
        assert transaction.adopt_messages(2, [0, 1, 3], 9.0, 10) == []
        assert transaction.due_messages(9.0, 10, 2) == found
        assert len(transaction.adopt_messages(5, [2], 9.0, 2)) == 2


def test_notices_are_adopted_before_their_lease_is_over(store: Store) -> None:
    """A notice that an ended engine was posting is adopted at once, and no timer that is due at the same time."""
    notice = NoticeDue(id="n1", url="http://localhost/", headers={}, payload=Value(data=1))
    with store.write() as transaction:
        transaction.add_messages([NewMessage("m1", "e1", notice, 20.0), NewMessage("m2", "e1", notice, 40.0)], 1)
    _post(store, 1, ("m3", 20.0))
    with store.write() as transaction:
        assert transaction.adopt_messages(2, [1], 9.0, 10) == []
        found = transaction.adopt_messages(2, [1], 9.0, 10, notice_lease_s=15.0)
        assert found == [DueMessage("m1", "e1", 20.0)]


def test_ready_attempts_are_adopted_once(store: Store) -> None:
    """An engine adopts READY attempts of engines that it names, which run certain actions and have waited, bounded, and
    none of executions that are quiet (O4, O14); they are its own then."""
    quiet = add_task(start("e3"), 1)
    quiet.do(ExecutionMoved(state=ExecutionState.PAUSED, at_s=101.0))
    _keep(store, 1, add_task(start("e1", at_s=100.0), 1), add_task(start("e2", at_s=200.0), 1), quiet)
    _keep(store, 3, add_task(start("e4", at_s=100.0), 1))
    with store.write() as transaction:
        assert transaction.adopt_attempts(2, [0, 3], ["std.noop"], math.inf, 10) == []
        assert transaction.adopt_attempts(2, [0, 1], ECHO, 150.0, 10) == [_ready("e1")]
        assert transaction.adopt_attempts(2, [0, 1, 3], ECHO, math.inf, 1) != []
        assert len(transaction.adopt_attempts(2, [0, 1, 3], ECHO, math.inf, 10)) == 1
        assert transaction.ready_attempts(10, ECHO, 2) == [_ready("e1"), _ready("e4"), _ready("e2")]
        assert transaction.ready_attempts(10, ECHO, 1) == []
    assert list(check(store)) == [] if isinstance(store, SqlStore) else True


def test_the_engine_that_writes_an_attempt_keeps_it(store: Store) -> None:
    """An attempt that another engine makes READY again is kept by that one."""
    scene = add_task(start("e1"), 1)
    _keep(store, 1, scene)
    _keep(store, 2, add_task(scene, 2))
    with store.write() as transaction:
        assert [each.key[0] for each in transaction.ready_attempts(10, ECHO, 1)] == [1]
        assert [each.key[0] for each in transaction.ready_attempts(10, ECHO, 2)] == [2]


def test_those_who_keep_something_are_found_without_rows_of_their_own(store: Store) -> None:
    """An older version removes the row of an ended engine that still keeps a READY attempt or a message: its number is
    known from what it keeps."""
    assert _keepers(store) == set()
    _keep(store, 7, add_task(start("e1"), 1), add_task(start("e2"), 1))
    _keep(store, 3, add_task(start("e3"), 1))
    _post(store, 9, ("m1", 1e9), ("m2", 2e9))
    _post(store, 0, ("m3", 1e9))
    assert _keepers(store) == {0, 3, 7, 9}
    with store.write() as transaction:
        transaction.adopt_attempts(4, [3, 7], ECHO, math.inf, 10)
        transaction.take_messages(["m3"])
    assert _keepers(store) == {4, 9}


def test_who_lives_is_told_with_those_who_keep_something(store: Store) -> None:
    """An engine that has ended lives no more, and keeps what it kept."""
    one, other = (store.register_engine(name, name, is_alone=False) for name in ("engine-1", "engine-2"))
    _keep(store, one, add_task(start("e1"), 1))
    _keep(store, other, add_task(start("e2"), 1))
    with store.write() as transaction:
        assert transaction.keepers() == Keepers(keeping=frozenset({one, other}), living=frozenset({one, other}))
    assert store.end_engine(one)
    with store.write() as transaction:
        assert transaction.keepers() == Keepers(keeping=frozenset({one, other}), living=frozenset({other}))


def _keepers(store: Store) -> frozenset[int]:
    with store.write() as transaction:
        return transaction.keepers().keeping


def test_attempts_with_targets_that_nobody_meets_are_left(store: Store) -> None:
    """An engine does not adopt what none of its executors may run."""
    _keep(store, 1, add_task(start("e1"), 1, target="gpu"), add_task(start("e2"), 1))
    with store.write() as transaction:
        assert transaction.adopt_attempts(2, [1], ECHO, math.inf, 10, ["gpu", "other"]) == [_ready("e2")]
        assert [each.target for each in transaction.adopt_attempts(2, [1], ECHO, math.inf, 10)] == ["gpu"]


@pytest.fixture
def engines(empty_postgres: str) -> Iterator[Sequence[SqlStore]]:
    """Two stores over one database, as two engines have them."""
    stores = [SqlStore(empty_postgres), SqlStore(empty_postgres)]
    stores[0].upgrade()
    yield stores
    for store in stores:
        store.close()


def test_two_engines_adopt_without_waiting_for_each_other(engines: Sequence[SqlStore]) -> None:
    """What one engine has locked the other one leaves, at once; each attempt and message is adopted by one of them."""
    one, other = engines
    _keep(one, 0, *(add_task(start(f"e{number}"), 1) for number in range(4)))
    _post(one, 0, *((f"m{number}", 1.0) for number in range(4)))
    with one.write() as mine, other.write() as theirs:
        theirs.claim(["e0"])
        found = mine.adopt_attempts(1, [0], ECHO, math.inf, 2) + theirs.adopt_attempts(2, [0], ECHO, math.inf, 10)
        assert sorted(each.execution_id for each in found) == ["e0", "e1", "e2", "e3"]
        posted = mine.adopt_messages(1, [0], 9.0, 2) + theirs.adopt_messages(2, [0], 9.0, 10)
        assert sorted(each.id for each in posted) == ["m0", "m1", "m2", "m3"]


def test_a_lease_that_another_engine_renews_is_left_to_it(engines: Sequence[SqlStore]) -> None:
    """Two engines that hear the same executor do not wait for each other's batches."""
    one, other = engines
    with one.write() as transaction:
        transaction.save_session(SessionRow("s1", "executor", "engine", 10.0))
    with one.write() as mine, other.write() as theirs:
        mine.renew_sessions(["s1"], 11.0, 20.0)
        mine.now_s()  # what was written before is sent before it
        theirs.renew_sessions(["s1"], 11.5, 20.5)
    with one.write() as transaction:
        found = transaction.session("s1")
    assert found is not None
    assert (found.heard_s, found.lease_until_s) == (11.0, 20.0)


def test_what_others_keep_costs_an_engine_nothing(engines: Sequence[SqlStore]) -> None:
    """An engine's look into the store reads none of the thousands of rows that a living engine keeps."""
    one, other = engines
    scene = add_task(start("e1"), 1)
    _keep(one, 1, scene)
    _post(one, 1, ("m0", 1.0))
    with one.write() as transaction:
        _multiply(transaction)
    with one.inspect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM attempts WHERE keeper = 1").scalar_one() == MANY + 1
    with other.write() as transaction:
        assert transaction.due_messages(9.0, 1_000, 2) == []
        assert transaction.ready_attempts(1_000, ECHO, 2) == []
        assert transaction.adopt_messages(2, [0, 3], 9.0, 1_000) == []
        assert transaction.adopt_attempts(2, [0, 3], ECHO, math.inf, 500) == []
        assert transaction.keepers().keeping == {1}
        assert _rows_read(transaction) < 10
        assert len(transaction.adopt_attempts(2, [1], ECHO, math.inf, 10)) == 10
        assert _rows_read(transaction) <= 10 * 5


def _multiply(transaction: Transaction) -> None:
    """Make thousands of the one attempt and the one message."""
    cursor = transaction._cursor  # type: ignore[attr-defined]
    for table, changed in (("attempts", "task"), ("messages", "id")):
        cursor.execute("SELECT column_name FROM information_schema.columns WHERE table_name = %s", (table,))
        names = [row[0] for row in cursor.fetchall()]
        given = ", ".join(f"{changed} || '-' || n" if name == changed == "id" else name for name in names)
        given = given.replace("task", "task + n") if changed == "task" else given
        cursor.execute(
            f"INSERT INTO {table} ({', '.join(names)}) SELECT {given} FROM {table}, generate_series(1, {MANY}) AS n"
        )
        cursor.execute(f"ANALYZE {table}")


def _rows_read(transaction: Transaction) -> int:
    cursor = transaction._cursor  # type: ignore[attr-defined]
    cursor.execute(READ)
    return int(cursor.fetchone()[0])
