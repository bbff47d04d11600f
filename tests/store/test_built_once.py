"""Statements that clients need all the time are built once, for each kind of question."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from tests.store.scenes import live_through_everything, save_each

from dalsegno.rpc import views
from dalsegno.store import queries as queries_module
from dalsegno.store.filters import ATTEMPT_FIELDS, parse_filter
from dalsegno.store.store import Queries, Store

NAMES = ("first", "second")


def look(queries: Queries, execution_id: str) -> None:
    """Read what clients ask for of one execution."""
    views.read_execution(queries, execution_id)
    queries.forks(execution_id, 100)
    queries.task(execution_id, 1)
    page = queries.attempts(execution_id)
    queries.attempt(execution_id, page.rows[0].key)
    queries.attempts(execution_id, page.rows[0].task, full=True)
    queries.journal(execution_id)


@pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)
def test_reading_another_execution_builds_no_statement(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read of one execution is read of another one with the same statements: to build them takes several times
    as long as to execute them."""
    for name in NAMES:
        save_each(store, live_through_everything(name))
    built: list[tuple[Any, ...]] = []
    select = sa.select

    def build(*columns: Any) -> Any:
        built.append(columns)
        return select(*columns)

    with store.read() as queries:
        look(queries, NAMES[0])
        monkeypatch.setattr(sa, "select", build)
        look(queries, NAMES[1])
    assert built == []


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_nothing_is_kept_of_the_filters_of_people(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of statements does not grow with the texts in filters."""
    save_each(store, live_through_everything(NAMES[0]))
    prepared: list[object] = []
    monkeypatch.setattr(queries_module, "Prepared", prepared.append)
    with store.read() as queries:
        for text in ("alias=one", "alias=two", "action=pack.a,pack.b", "state=READY,RUNNING,PAUSED"):
            queries.attempts(NAMES[0], chosen=parse_filter(text, ATTEMPT_FIELDS))
    assert prepared == []
