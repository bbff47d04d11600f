"""Executions that are forked and that discard their history on request, while engines die between any two lines (C8,
decision 21)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.simulation.random_checkpoints import marked_mistral
from tests.simulation.test_crashes import EXAMPLES, Simulation, _often, run

from dalsegno.store.memory import MemoryStore
from dalsegno.store.opening import open_store
from dalsegno.store.store import Store
from dalsegno.v1 import execution_service_pb2, operation_pb2

NAMES = [*(f"wft{number}" for number in range(6)), "childt0"]


class Forking(Simulation):
    """Bad weather in which people fork executions and discard history as well."""

    def control(self) -> None:
        """The person wants something of any execution, now and then a fork of it, or less of its history."""
        rows = self.rows()
        wish = self.chance.choice(["fork", "fork", "discard", "discard", "other"])
        if not rows or wish == "other":
            super().control()
            return
        row = self.chance.choice(rows)
        with self.store.read() as queries:
            reached = [entry.name for entry in queries.checkpoints(row.id, size=1000).rows]
        name = self.chance.choice([*reached * 3, *NAMES])
        if wish == "discard":
            self._ask("discard_history", execution_service_pb2.DiscardHistoryRequest(execution_id=row.id, name=name))
        elif len(rows) < 30:
            request = execution_service_pb2.RerunExecutionRequest(
                execution_id=row.id,
                start_from=operation_pb2.RERUN_FROM_CHECKPOINT,
                checkpoint=name,
                stay=self.chance.random() < 0.2,
            )
            self._ask("rerun_execution", request)

    def happen(self) -> None:
        """One thing; the person wants more than usual."""
        if self.chance.random() < 0.1:
            self.control()
        super().happen()

    def check(self) -> None:
        """Everything has happened, and once; each fork tells where it begins."""
        super().check()
        for row in self.rows():
            assert (row.first_sequence == 1) or row.forked_from or self._begins_at_an_entry(row.id, row.first_sequence)

    def _begins_at_an_entry(self, execution_id: str, sequence: int) -> bool:
        with self.store.read() as queries:
            return any(entry.sequence == sequence for entry in queries.checkpoints(execution_id, size=1000).rows)


@pytest.mark.timeout(0 if EXAMPLES else 240, method="thread")
@_often(50)
@given(marked_mistral(), st.integers(0, 2**32))
def test_forks_are_made_once_whoever_dies(document: tuple[list[str], dict[str, Any]], seed: int) -> None:
    """Over the in-memory twin: each request makes one fork or none, and every execution comes to its end."""
    opened: list[MemoryStore] = []

    def open_again(now_s: Callable[[], float]) -> Store:
        former = opened.pop() if opened else None
        opened.append(MemoryStore(now_s))
        if former is not None:
            opened[0]._tables = former._tables
        return opened[0]

    run(Forking(open_again, seed), document[0][0], document[1])


@pytest.mark.timeout(0 if EXAMPLES else 240, method="thread")
@_often(8)
@given(marked_mistral(), st.integers(0, 2**32))
def test_forks_are_made_once_on_disk(
    tmp_path_factory: pytest.TempPathFactory, document: tuple[list[str], dict[str, Any]], seed: int
) -> None:
    """The same over SQLite: each new engine opens the file that the dead one left."""
    path: Path = tmp_path_factory.mktemp("store") / "store.db"
    opened: list[Store] = []

    def open_again(now_s: Callable[[], float]) -> Store:
        if opened:
            opened.pop().close()
        opened.append(open_store(f"sqlite:///{path}"))
        opened[0].upgrade()
        return opened[0]

    try:
        run(Forking(open_again, seed), document[0][0], document[1])
    finally:
        opened.pop().close()
