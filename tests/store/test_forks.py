"""Forks in all stores: where they come from, what came from an execution, and the filters for both."""

from __future__ import annotations

import pytest
from tests.store.scenes import save, start

from dalsegno.store.filters import EXECUTION_FIELDS, parse_filter
from dalsegno.store.inspection import check
from dalsegno.store.store import Store
from dalsegno.workflow.changes import Fork

ORIGIN, OTHER, OLDER, NEWER = (f"01890a5d-ac96-774b-bcce-b302099a80{number:02}" for number in range(4))


@pytest.fixture
def family(store: Store) -> Store:
    """An execution with two forks, and another execution."""
    fork = Fork(ORIGIN, 7, "built")
    save(store, start(ORIGIN, at_s=1.0), start(OTHER, at_s=2.0))
    save(store, start(OLDER, at_s=3.0, forked_from=fork), start(NEWER, at_s=4.0, forked_from=fork))
    return store


def test_a_fork_says_where_it_comes_from(family: Store) -> None:
    """The row of a fork names the execution, the entry and its checkpoint; that of another execution names none."""
    with family.read() as queries:
        row, other = queries.execution(NEWER), queries.execution(OTHER)
        assert row is not None
        assert other is not None
        assert (row.forked_from, row.forked_from_sequence, row.forked_from_checkpoint) == (ORIGIN, 7, "built")
        assert (other.forked_from, other.forked_from_sequence, other.forked_from_checkpoint) == ("", 0, "")
    assert list(check(family)) == []


def test_an_execution_knows_its_forks(family: Store) -> None:
    """The newest come first, the list is bounded, and the count is whole."""
    with family.read() as queries:
        assert queries.forks(ORIGIN, 100) == ([NEWER, OLDER], 2)
        assert queries.forks(ORIGIN, 1) == ([NEWER], 2)
        assert queries.forks(OTHER, 100) == ([], 0)
        assert queries.forks("", 100) == ([], 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"forked_from={ORIGIN}", [NEWER, OLDER]),
        (f"forked_from={OTHER}", []),
        ("forked_from=", [OTHER, ORIGIN]),
        (f"forked_from!={ORIGIN}", [OTHER, ORIGIN]),
        (f"forks={NEWER}", [ORIGIN]),
        (f"forks={NEWER},{OLDER}", [ORIGIN]),
        (f"forks={OTHER}", []),
        (f"forks!={NEWER}", [NEWER, OLDER, OTHER]),
    ],
)
def test_filters_name_forks(family: Store, text: str, expected: list[str]) -> None:
    """Lists and counts choose executions by what they were forked from, and by what was forked from them."""
    chosen = parse_filter(text, EXECUTION_FIELDS)
    with family.read() as queries:
        assert [row.id for row in queries.executions(chosen).rows] == expected
        assert sum(queries.count_executions(chosen).values()) == len(expected)
