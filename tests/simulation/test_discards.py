"""Endless workflows that keep little of their history, while engines die between any two lines (C8, C19-C24).

A slice has three rows here, so that most discards are removed by messages, in several transactions.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.simulation.test_crashes import EXAMPLES, Simulation, _often, run

from dalsegno.store import memory_discards, removal
from dalsegno.store.memory import MemoryStore
from dalsegno.store.opening import open_store
from dalsegno.store.sql import SqlStore
from dalsegno.store.store import Store

POLLER = """
version: '2.0'
round:
  tasks:
    fetch:
      action: std.noop
      on-success: [read]
    read: {action: std.noop}
wf:
  vars: {n: 0}
  tasks:
    begin: {action: std.noop, on-success: [poll]}
    poll:
      workflow: round
      publish:
        n: <% $.n + 1 %>
        text: <% range(500).select(str($)).join('-') + str($.n) %>
      checkpoint: {name: polled, when: after, keep: {count: COUNT}}
      on-success: [aside, next]
    aside: {action: std.noop}
    next:
      action: std.noop
      on-success:
        - poll: <% $.n < 8 %>
"""


def check_gone(simulation: Simulation, count: int) -> None:
    """Nothing that was discarded is left, and nothing of what is left is gone."""
    rows = {row.id: row for row in simulation.rows()}
    with simulation.store.read() as queries:
        for row in rows.values():
            entries = [entry for entry in queries.checkpoints(row.id, size=1000).rows if not entry.undone]
            assert len(entries) <= count
            if row.first_sequence > 1:
                assert entries[-1].sequence == row.first_sequence
            named = {attempt.child_id for attempt in queries.attempts(row.id, size=1000).rows if attempt.child_id}
            below = {child.id for child in rows.values() if child.parent_id == row.id}
            assert below == named, f"{row.id} has {below - named} too many, and lacks {named - below}"
    for table, stored in all_rows(simulation.store).items():
        assert set(stored) <= rows.keys(), f"{table} has rows of executions that are gone"
    assert all_rows(simulation.store)["discards"] == []


def all_rows(store: Store) -> dict[str, list[str]]:
    """The executions of all rows, by table, whether they are shown or not."""
    names = ("executions", "tasks", "attempts", "checkpoints", "journal", "texts", "discards")
    if isinstance(store, MemoryStore):
        return {name: list(getattr(store._tables, name)) for name in names}
    assert isinstance(store, SqlStore)
    with store.inspect() as connection:
        return {
            name: list(
                connection.exec_driver_sql(
                    f"SELECT DISTINCT {'id' if name == 'executions' else 'execution_id'} FROM {name}"
                ).scalars()
            )
            for name in names
        }


def live(open_again: Callable[[Callable[[], float]], Store], seed: int, count: int) -> None:
    """The poller in bad weather, then in good."""
    with patch.object(removal, "SLICE_ROWS", 3), patch.object(memory_discards, "SLICE_ROWS", 3):
        simulation = Simulation(open_again, seed)
        run(simulation, POLLER.replace("COUNT", str(count)), {}, steps=500)
        check_gone(simulation, count)


@pytest.mark.timeout(0 if EXAMPLES else 240, method="thread")
@_often(12)
@given(st.integers(0, 2**32), st.integers(1, 3))
def test_what_is_discarded_goes_once_whoever_dies(seed: int, count: int) -> None:
    """Over the in-memory twin: nothing half gone, nothing shown twice, and nothing left in the end (C24)."""
    opened: list[MemoryStore] = []

    def open_again(now_s: Callable[[], float]) -> Store:
        former = opened.pop() if opened else None
        opened.append(MemoryStore(now_s))
        if former is not None:
            opened[0]._tables = former._tables
        return opened[0]

    live(open_again, seed, count)


@pytest.mark.timeout(0 if EXAMPLES else 240, method="thread")
@_often(4)
@given(st.integers(0, 2**32), st.integers(1, 3))
def test_what_is_discarded_goes_once_on_disk(tmp_path_factory: pytest.TempPathFactory, seed: int, count: int) -> None:
    """The same over SQLite: each new engine opens the file that the dead one left."""
    path: Path = tmp_path_factory.mktemp("store") / "store.db"
    opened: list[Any] = []

    def open_again(now_s: Callable[[], float]) -> Store:
        if opened:
            opened.pop().close()
        opened.append(open_store(f"sqlite:///{path}"))
        opened[0].upgrade()
        found: Store = opened[0]
        return found

    try:
        live(open_again, seed, count)
    finally:
        opened.pop().close()
