"""An engine dies before and after every commit of a discard: nothing is half gone, and nothing is shown twice (C8, C19,
decision 24)."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from tests.simulation.life import Died, FaultyStore
from tests.simulation.test_crashes import Simulation

from dalsegno.store import removal
from dalsegno.store.inspection import check
from dalsegno.store.opening import open_store
from dalsegno.store.store import Queries, Store, Transaction
from dalsegno.v1 import execution_service_pb2, operation_pb2

ROUNDS = """
version: '2.0'
child:
  tasks:
    only: {action: std.noop}
wf:
  output: {n: <% $.n %>}
  tasks:
    begin: {action: std.noop, publish: {n: 0}, on-success: round}
    round:
      workflow: child
      publish: {n: <% $.n + 1 %>}
      checkpoint: {name: roundKEEP}
      on-success:
        - round: <% $.n < MOST %>
"""
MANY = 40
SLICE_ROWS = 30
"""So few that a discard of so many rounds takes several slices."""


class Boundary(FaultyStore):
    """A store at one of whose commits the process dies: right before or right after it."""

    def __init__(self, inner: Store, number: int, moment: str) -> None:
        super().__init__(inner)
        self.left = number
        self.moment = moment

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        with self.inner.write() as transaction:
            yield transaction
            self.left -= 1
            if self.left == 0 and self.moment == "before":
                raise Died("before a commit")
        if self.left == 0 and self.moment == "after":
            raise Died("after a commit")


class Rounds(Simulation):
    """One engine after the other over the SQLite file of a folder, and everybody does what they can."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._opened: list[Store] = []
        super().__init__(self._open, 0)
        self.looks: list[Callable[[], None]] = []
        self.commits = 0

    def _open(self, now_s: Callable[[], float]) -> Store:
        self.close()
        self._opened.append(open_store(f"sqlite:///{self.folder / 'store.db'}"))
        self._opened[0].upgrade()
        return self._opened[0]

    def close(self) -> None:
        """Let go of the file."""
        while self._opened:
            self._opened.pop().close()

    def until_over(self, number: int = 0, moment: str = "") -> None:
        """Everything that is to happen happens; the process dies once, at a commit."""
        faulty: Any = Boundary(self.store, number, moment)
        self.life.store = self.life.conductor._store = faulty
        self._look_after_turns()
        try:
            self.clear()
        except Died as place:
            self.die(str(place))
            self.look()
            self._look_after_turns()
            self.clear()
        self.commits = -faulty.left

    def _look_after_turns(self) -> None:
        turn = self.life.turn

        def turn_and_look() -> bool:
            is_more = turn()
            self.look()
            return is_more

        self.life.turn = turn_and_look  # type: ignore[method-assign]

    def look(self) -> None:
        """What everybody looks at whenever something has happened."""
        for each in self.looks:
            each()

    def ask(self, name: str, request: Any) -> None:
        """The person wants something, until there is an answer."""
        self._ask(name, request)


def started(folder: Path, keep: str = "", most: int = MANY) -> Rounds:
    """A simulation in which an execution has been asked for."""
    folder.mkdir()
    here = Rounds(folder)
    here.define(ROUNDS.replace("KEEP", keep).replace("MOST", str(most)), "{}")
    here.start()
    return here


def shown(queries: Queries, execution_id: str) -> dict[str, Any]:
    """What people see of an execution."""
    row = queries.execution(execution_id)
    assert row is not None
    tasks = [(each.number, each.name, each.state) for each in queries.tasks(execution_id, size=1000).rows]
    attempts = [(each.key, each.state) for each in queries.attempts(execution_id, size=1000).rows]
    children = [(each.id, each.parent_task) for each in queries.children(execution_id)]
    entries = [each.sequence for each in queries.checkpoints(execution_id, size=1000).rows]
    return {
        "state": row.state,
        "first": row.first_sequence,
        "tasks": tasks,
        "attempts": attempts,
        "children": children,
        "entries": entries,
        "counts": len(queries.execution_ids()),
        "there": [queries.execution(each) is not None for each, _ in children],
    }


def rows_of(folder: Path) -> dict[str, int]:
    """How many rows each table has."""
    with closing(sqlite3.connect(folder / "store.db")) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}


class Seen:
    """Looks at one execution after everything that happens: it is as before, and then as afterwards."""

    def __init__(self, here: Rounds, execution_id: str, before: Any = None, after: Any = None) -> None:
        self.here, self.execution_id = here, execution_id
        self.expected = [each for each in (before, after) if each is not None]
        here.looks.append(self.look)

    def look(self) -> None:
        with self.here.store.read() as queries:
            found = shown(queries, self.execution_id)
        assert found in self.expected
        self.expected = self.expected[self.expected.index(found) :]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with an execution that has gone round often and ended."""
    folder = tmp_path_factory.mktemp("many") / "store"
    here = started(folder)
    here.until_over()
    here.close()
    return folder


def reopened(many: Path, folder: Path) -> tuple[Rounds, str]:
    """A simulation over a copy of the store, and the execution that went round."""
    shutil.copytree(many, folder)
    here = Rounds(folder)
    here._asked = 100  # ids of requests are used once
    with here.store.read() as queries:
        (root,) = [each.id for each in here.rows() if not each.parent_id]
        here.person.started["before"] = root
        assert queries.execution(root) is not None
    return here, root


def discard(here: Rounds, root: str) -> None:
    """Ask for the discard of nearly all."""
    with here.store.read() as queries:
        newest = queries.checkpoints(root, size=3).rows
    here.ask(
        "discard_history",
        execution_service_pb2.DiscardHistoryRequest(execution_id=root, sequence=newest[-1].sequence),
    )


@pytest.mark.timeout(300)
def test_a_large_discard_is_whole_whenever_the_engine_dies(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its commit everything is there, after it all that is discarded is gone for everybody, however much of it
    still has to be removed; and in the end nothing of it is left, however often it was interrupted."""
    monkeypatch.setattr(removal, "SLICE_ROWS", SLICE_ROWS)
    here, root = reopened(many, tmp_path / "reference")
    with here.store.read() as queries:
        before = shown(queries, root)
    discard(here, root)
    here.until_over()
    with here.store.read() as queries:
        after = shown(queries, root)
    here.check()
    commits = here.commits
    here.close()
    left = rows_of(tmp_path / "reference")
    assert len(before["tasks"]) == MANY + 1
    assert [name for _, name, _ in after["tasks"]] == ["begin", *["round"] * 4]
    assert (len(before["children"]), len(after["children"])) == (MANY, 4)
    assert commits >= 6, "it was not removed in slices"
    for number, moment in product(range(1, commits + 1), ("before", "after")):
        folder = tmp_path / f"{moment} {number}"
        here, root = reopened(many, folder)
        Seen(here, root, before, after)
        discard(here, root)
        here.until_over(number, moment)
        assert here.deaths == [f"{moment} a commit"] or number == commits, "the last ones only renew leases"
        here.check()
        here.close()
        assert rows_of(folder) == left, (number, moment)
        shutil.rmtree(folder)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_execution_that_keeps_little_survives_a_death_at_every_commit(tmp_path: Path, moment: str) -> None:
    """It goes round to its end, and leaves what it leaves when nobody dies."""
    keep = ", keep: {count: 1}"
    here = started(tmp_path / "reference", keep, 4)
    here.until_over()
    root = here.person.started["request 2"]
    with here.store.read() as queries:
        expected = shown(queries, root)
    commits = here.commits
    here.close()
    left = rows_of(tmp_path / "reference")
    assert [name for _, name, _ in expected["tasks"]] == ["begin", *["round"] * 2]
    for number in range(1, commits + 1):
        folder = tmp_path / f"{moment} {number}"
        here = started(folder, keep, 4)
        looks = Sound(here)
        here.until_over(number, moment)
        assert here.deaths == [f"{moment} a commit"] or number > commits - 3, "the last ones only renew leases"
        assert looks.count or not here.deaths
        root = here.person.started["request 2"]
        with here.store.read() as queries:
            found = shown(queries, root)
        assert [found[name] for name in ("state", "tasks")] == [expected[name] for name in ("state", "tasks")]
        here.check()
        here.close()
        assert {name: rows_of(folder)[name] for name in TABLES} == {name: left[name] for name in TABLES}
        shutil.rmtree(folder)


TABLES = ("executions", "tasks", "attempts", "checkpoints", "texts")


class Sound:
    """Looks at the whole store after everything that happens behind a death: nothing is half gone, or there twice."""

    def __init__(self, here: Rounds) -> None:
        self.here, self.count = here, 0
        here.looks.append(self.look)

    def look(self) -> None:
        if not self.here.deaths:
            return
        self.count += 1
        assert list(check(self.here.store)) == []
        for row in self.here.rows():
            with self.here.store.read() as queries:
                found = shown(queries, row.id)
            numbers = [number for number, _, _ in found["tasks"]]
            assert numbers == sorted(set(numbers))
            assert {key[0] for key, _ in found["attempts"]} <= set(numbers)
            assert {number for _, number in found["children"]} <= set(numbers)
            assert all(sequence >= found["first"] for sequence in found["entries"])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_fork_is_made_once_whenever_the_engine_dies(many: Path, tmp_path: Path, moment: str) -> None:
    """Decision 21: it is there as a whole or not at all, its origin stays as it is, and who asks again gets it."""
    commits, number = 1, 0
    while number <= commits:
        folder = tmp_path / f"{number}"
        here, root = reopened(many, folder)
        with here.store.read() as queries:
            origin = shown(queries, root)
        request = execution_service_pb2.RerunExecutionRequest(
            execution_id=root, start_from=operation_pb2.RERUN_FROM_CHECKPOINT, checkpoint="round"
        )
        here.ask("rerun_execution", request)
        here.until_over(number, moment)
        commits = commits if number else here.commits
        here.check()
        forks = [row for row in here.rows() if row.forked_from]
        assert [(row.forked_from, row.state, row.output) for row in forks] == [(root, "SUCCESS", f'{{"n":{MANY}}}')]
        with here.store.read() as queries:
            now = shown(queries, root)
        assert {**now, "counts": 0} == {**origin, "counts": 0}
        here.close()
        shutil.rmtree(folder)
        number += 1
