"""A commit that is answered by an error may have happened all the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.unit.engine.test_conductor import Rig, Start

from dalsegno.engine.batches.results import StoreLost
from dalsegno.store.memory import MemoryStore
from dalsegno.store.store import Transaction


class DeafStore(MemoryStore):
    """A store whose commits happen, or not, without anybody hearing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.failure = ""

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        failure, self.failure = self.failure, ""
        with super().write() as transaction:
            yield transaction
            if failure == "before":
                raise sqlite3.OperationalError("the connection was lost before the commit")
        if failure == "after":
            raise sqlite3.OperationalError("the connection was lost after the commit")


@pytest.mark.parametrize(("failure", "delivery"), [("before", 1), ("after", 2)])
def test_what_was_handed_out_in_doubt_is_taken_back_and_sent_once(failure: str, delivery: int) -> None:
    """Store first, then act: when the commit has happened unheard, nothing was sent, and the session cannot answer."""
    store = DeafStore()
    rig = Rig(store, credit=0)
    rig.define()
    start = Start(1)
    rig.carry_out(start)
    rig.dispatcher.give_credit(rig.stream, 1)
    store.failure = failure
    with pytest.raises(StoreLost):
        rig.carry_out()
    rig.carry_out()
    rig.deliver()
    assert [(run.action_execution_id, run.delivery) for run in rig.sent] == [(f"{start.execution_id}.1.0.1", delivery)]
    rig.finish_all()
    assert rig.state(start.execution_id) == "SUCCESS"
