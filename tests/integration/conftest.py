"""One system of real services for the tests of a module; after each test every journal must equal the rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import closing

import pytest
import pytest_asyncio
from tests.integration.stage import Stage, open_stage
from tests.processes import System

from dalsegno.store.inspection import check_execution
from dalsegno.store.opening import open_store
from dalsegno.store.records import ExecutionRow
from dalsegno.store.store import Store


class Checker:
    """Compares journals with rows after each test: all at once would take longer with each."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._known: dict[str, ExecutionRow] = {}
        self._left_out: frozenset[str] = frozenset()

    def check_changed(self) -> list[str]:
        """Return what is wrong with executions that are new or have changed since this was called before."""
        with closing(open_store(self._database, read_only=True)) as store:
            rows = _read_rows(store)
            self._left_out = frozenset(each for each, row in rows.items() if self._known.get(each) == row)
            self._known = rows
            return _check(store, rows.keys() - self._left_out)

    def check_others(self) -> list[str]:
        """Return what is wrong with the executions that the last call of `check_changed` has left out."""
        with closing(open_store(self._database, read_only=True)) as store:
            return _check(store, self._left_out)


def _read_rows(store: Store) -> dict[str, ExecutionRow]:
    rows: dict[str, ExecutionRow] = {}
    with store.read() as queries:
        while ids := queries.execution_ids(max(rows, default="")):
            rows |= queries.executions_of(ids, full=False)
    return rows


def _check(store: Store, ids: Collection[str]) -> list[str]:
    found: list[str] = []
    for execution_id in sorted(ids):
        with store.read() as queries:
            found += check_execution(queries, execution_id)
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """Provide an engine, an executor and an api for all tests of a module."""
    async with System(tmp_path_factory.mktemp("system")) as running:
        yield running


@pytest.fixture(scope="module")
def checker(shared_system: System) -> Iterator[Checker]:
    """Provide what compares its journals with its rows; in the end all must be equal still."""
    checking = Checker(shared_system.database)
    yield checking
    assert checking.check_others() == []


@pytest_asyncio.fixture(loop_scope="module")
async def system(shared_system: System, checker: Checker) -> AsyncIterator[System]:
    """Provide the same, with all three running; afterwards every journal must equal the rows."""
    await shared_system.start()
    yield shared_system
    shared_system.show_logs()
    assert checker.check_changed() == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_stage(shared_system: System) -> AsyncIterator[Stage]:
    """Provide the workflows and the executor of stage.py."""
    async with open_stage(shared_system) as stage:
        yield stage


@pytest_asyncio.fixture(loop_scope="module")
async def stage(system: System, shared_stage: Stage) -> Stage:
    """Provide the same for one test; afterwards every journal must equal the rows."""
    return shared_stage
