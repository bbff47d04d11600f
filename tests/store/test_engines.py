"""The exam for the rows of engines: their numbers, and that an engine that has ended writes nothing more."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from tests.store.scenes import add_task, save, start

from dalsegno.store.records import EngineRow, HeldAttempt
from dalsegno.store.sql import SqlStore
from dalsegno.store.store import Store, StoreUnreachable
from dalsegno.workflow.changes import AttemptMoved
from dalsegno.workflow.states import AttemptState


def test_every_engine_gets_a_number_of_its_own(store: Store) -> None:
    """Numbers go up by one, and are not used again, even when the engine has ended and its row is deleted."""
    assert [store.register_engine(f"id-{each}", "p", is_alone=False) for each in (1, 2, 3)] == [1, 2, 3]
    assert store.end_engine(1)
    assert store.end_engine(3)
    with store.write() as transaction:
        assert transaction.prune_engines() == 1
        assert list(transaction.queries.engines()) == [2, 3]
    assert store.end_engine(1)
    assert store.register_engine("id-4", "p", is_alone=False) == 4


def test_an_engine_that_is_alone_ends_all_others(store: Store) -> None:
    """Who holds the store alone knows that the engines before it are gone."""
    store.register_engine("a", "p1", is_alone=True)
    store.register_engine("b", "p2", is_alone=True)
    with store.read() as queries:
        assert queries.engines() == {1: EngineRow(1, "a", "p1", ended=True), 2: EngineRow(2, "b", "p2")}


def test_an_engine_that_was_ended_can_neither_write_nor_renew_itself(store: Store) -> None:
    """Each transaction finds whether its engine still writes; a renewed row shows how patient others must be."""
    number = store.register_engine("a", "p", is_alone=False)
    assert store.renew_engine(number, 3.0)
    assert store.renew_engine(number, 4.5)
    with store.write() as transaction:
        assert transaction.claim_for(number, []).shift_s is not None
        assert transaction.queries.engines() == {number: EngineRow(number, "a", "p", beats=2, patience_s=4.5)}
    assert store.end_engine(number)
    assert store.end_engine(number)
    assert not store.renew_engine(number, 3.0)
    with store.write() as transaction:
        assert transaction.claim_for(number, []).shift_s is None
        assert transaction.claim_for(99, []).shift_s is None
        assert transaction.queries.engines()[number].beats == 2


def test_a_delivery_belongs_to_the_engine_that_handed_it_out(store: Store) -> None:
    """What a session holds names the engine of its last hand-out; the row of the engine stays as long as that."""
    scene = add_task(start("e1"), 1, AttemptState.READY)
    moved = AttemptMoved(
        key=(1, 0, 1), state=AttemptState.RUNNING, delivery=1, session_id="s1", executor_id="x", engine=1
    )
    save(store, scene.do(moved))
    for name in ("a", "b"):
        store.register_engine(name, "p", is_alone=True)
    with store.write() as transaction:
        assert transaction.held_attempts(["s1"]) == [HeldAttempt("e1", (1, 0, 1), 1, "s1", 1)]
        assert transaction.abandoned_attempts(10) == [HeldAttempt("e1", (1, 0, 1), 1, "s1", 1)]
        row = transaction.queries.attempt("e1", (1, 0, 1))
        assert row is not None
        assert row.engine == 1
        assert transaction.prune_engines() == 0
    save(store, scene.do(AttemptMoved(key=(1, 0, 1), state=AttemptState.SUCCESS)))
    with store.write() as transaction:
        assert transaction.prune_engines() == 1


@pytest.fixture
def pair(empty_postgres: str) -> Iterator[tuple[SqlStore, SqlStore]]:
    """Two stores of one PostgreSQL, as two engines have them."""
    stores = SqlStore(empty_postgres), SqlStore(empty_postgres)
    stores[0].upgrade()
    yield stores
    for each in stores:
        each.close()


def test_engines_that_start_together_get_different_numbers(pair: tuple[SqlStore, SqlStore]) -> None:
    """When several take the next number at the same moment, each gets another one."""
    numbers: list[int] = []

    def begin(store: SqlStore) -> None:
        numbers.extend(store.register_engine("x", "p", is_alone=False) for _ in range(5))

    threads = [threading.Thread(target=begin, args=(each,)) for each in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 11))


def test_an_engine_renews_its_row_during_a_long_transaction(pair: tuple[SqlStore, SqlStore]) -> None:
    """A batch that takes long does not make its engine look silent."""
    number = pair[0].register_engine("a", "p", is_alone=False)
    with pair[0].write() as transaction:
        assert transaction.claim_for(number, []).shift_s is not None
        assert pair[0].renew_engine(number, 3.0)


def test_the_open_transaction_of_a_silent_engine_is_broken_off(pair: tuple[SqlStore, SqlStore]) -> None:
    """An engine that stands still in the middle of a batch keeps no locks: nothing of the batch is stored, and
    afterwards the engine finds that it has ended."""
    frozen, other = pair
    number = frozen.register_engine("a", "p", is_alone=False)
    other.register_engine("b", "q", is_alone=False)
    with pytest.raises(StoreUnreachable), frozen.write() as transaction:  # noqa: PT012 -- it fails at any statement
        assert transaction.claim_for(number, []).shift_s is not None
        transaction.settle("colour", "red")
        assert not other.end_engine(number)
        ended = False
        give_up_at = time.monotonic() + 30
        while not ended and time.monotonic() < give_up_at:  # until the server has ended the connection
            ended = other.end_engine(number)
            time.sleep(0.01)
        assert ended
        transaction.settle("colour", "red")
    with frozen.write() as transaction:
        assert transaction.claim_for(number, []).shift_s is None
        assert transaction.queries.setting("colour") is None
