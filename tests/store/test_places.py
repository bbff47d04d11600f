"""Rows that are looked up by keys of several columns, over SQLite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dalsegno.store.queries import SqlQueries
from dalsegno.store.sql import SqlStore


def test_rows_at_several_places_are_found_by_an_index(tmp_path: Path) -> None:
    """Completing an action takes no longer when 100,000 others wait: no statement reads a whole table."""
    store = SqlStore(f"sqlite:///{tmp_path}/store.db")
    store.upgrade()
    made: list[str] = []
    with store.inspect() as connection:
        driver: Any = connection.connection.driver_connection
        queries = SqlQueries(lambda: connection)
        driver.set_trace_callback(made.append)
        queries.attempts_of([("a", (1, 0, 1)), ("b", (1, 0, 1))])
        queries.tasks_of([("a", 1), ("b", 1)])
        driver.set_trace_callback(None)
        for statement in made:
            plan = [row[3] for row in driver.execute(f"EXPLAIN QUERY PLAN {statement}")]
            assert not [step for step in plan if step in ("SCAN attempts", "SCAN tasks")], plan
    store.close()
    assert len(made) == 2
