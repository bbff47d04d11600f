"""Discards in all stores: what is left of an execution, what goes at once and what in slices, and what is shown
meanwhile (C8, C19-C24, decision 24)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.store.discarding import discard, loop, reach
from tests.store.scenes import LARGE, Scene, add_task, create, finish_task, save, start

from dalsegno.store.discards import SLICE_ROWS, Left
from dalsegno.store.filters import EXECUTION_FIELDS, parse_filter
from dalsegno.store.inspection import check
from dalsegno.store.memory import MemoryStore
from dalsegno.store.sql import SqlStore
from dalsegno.store.store import Queries, Store
from dalsegno.workflow.changes import (
    AttemptAdded,
    AttemptMoved,
    AttemptsBegun,
    ExecutionMoved,
    Link,
    TaskAdded,
    TaskMoved,
)
from dalsegno.workflow.consolidated import Consolidated
from dalsegno.workflow.journal import replay
from dalsegno.workflow.states import AttemptState, ExecutionState, TaskState
from dalsegno.workflow.value import EMPTY, Value

TABLES = ("executions", "tasks", "attempts", "checkpoints", "journal", "texts", "labels", "discards")


def counts(store: Store) -> dict[str, int]:
    """How many rows each table has, whether they are shown or not."""
    if isinstance(store, MemoryStore):
        tables = store._tables
        inner = (tables.tasks, tables.attempts, tables.checkpoints, tables.journal, tables.texts)
        numbers = [len(tables.executions), *(sum(map(len, each.values())) for each in inner)]
        labels = sum(row.labels.count('":"') for row in tables.executions.values())
        return dict(zip(TABLES, [*numbers, labels, len(tables.discards)], strict=True))
    assert isinstance(store, SqlStore)
    with store.inspect() as connection:
        found = {each: connection.exec_driver_sql(f"SELECT count(*) FROM {each}").scalar_one() for each in TABLES}
    return {**found, "discards": min(1, found["discards"])}


def add_child(scene: Scene, number: int, child_id: str) -> Scene:
    """A task runs a sub-workflow. Returns the child, not stored yet."""
    running = AttemptState.RUNNING
    scene.do(TaskAdded(task=number, name=f"step_{number}", state=TaskState.RUNNING, at_s=scene.now_s))
    scene.do(AttemptsBegun(task=number, attempt=1, at_s=scene.now_s))
    key = (number, 0, 1)
    scene.do(AttemptAdded(key=key, action="sub", input=EMPTY, state=running, child_id=child_id, at_s=scene.now_s))
    parent = Link(scene.execution.id, key)
    child = create(child_id, parent=parent, root_id=scene.execution.root_id, labels={"of": "child"}, given=LARGE)
    return child.do(ExecutionMoved(state=ExecutionState.RUNNING, at_s=scene.now_s))


def end(scene: Scene) -> Scene:
    """An execution succeeds."""
    return scene.do(ExecutionMoved(state=ExecutionState.SUCCESS, at_s=scene.now_s))


def shown(queries: Queries, execution_id: str) -> dict[str, object]:
    """What the lists show of an execution."""
    return {
        "tasks": [row.number for row in queries.tasks(execution_id, size=1000).rows],
        "counts": sum(queries.task_counts([execution_id])[execution_id].values()),
        "attempts": [row.task for row in queries.attempts(execution_id, size=1000).rows],
        "entries": [row.sequence for row in queries.checkpoints(execution_id).rows],
        "first": queries.journal(execution_id, limit=1)[0].sequence,
    }


def test_a_small_discard_leaves_nothing_behind(store: Store) -> None:
    """What came before the entry is gone in the same transaction; the kept task has its result; the journal begins
    with Consolidated at the sequence of the entry and replays to exactly the rows (C8, C20, C32)."""
    scene = loop("e1", 3)
    first = reach(scene, 3)
    save(store, scene)
    finish_task(add_task(scene, 4), 4, LARGE)
    removal = discard(store, scene, first, kept=[3])
    assert (list(removal.executions), removal.left) == ([], Left.NOTHING)
    with store.read() as queries:
        row = queries.execution("e1")
        assert row is not None
        assert row.first_sequence == first
        assert shown(queries, "e1") == {
            "tasks": [3, 4],
            "counts": 2,
            "attempts": [3, 4],
            "entries": [first],
            "first": first,
        }
        assert (queries.task("e1", 1), queries.attempt("e1", (1, 0, 1))) == (None, None)
        assert queries.task_result("e1", 3).text == "3"
        assert isinstance(queries.journal("e1")[0].change, Consolidated)
        assert [each.sequence for each in queries.journal("e1")] == list(range(first, row.revision + 1))
        assert queries.journal("e1", after=first)[0].sequence == first + 1
    assert counts(store)["discards"] == 0
    assert list(check(store)) == []
    with store.write() as transaction:
        loaded = replay(transaction.changes_after("e1", 0))
        assert (loaded.revision, loaded.first_sequence) == (row.revision, first)
        assert loaded.tasks.keys() == {3, 4}


def test_an_entry_in_the_middle_of_a_row_begins_it(store: Store) -> None:
    """Of the journal row with the entry, the steps behind it stay with their authors and comments, in order; the texts
    that only its beginning referred to go with a later discard."""
    scene = loop("e1", 1, result=LARGE)
    with store.write() as transaction:
        transaction.save_all([scene.saved("start_requested")])
        add_task(scene, 2)
        early = scene.saved(actor="ada", comment="early")
        finish_task(scene, 2, Value(data="x" * 2000))
        entry = reach(scene, 2)
        add_task(scene, 3)
        middle = scene.saved(actor="bob", comment="middle")
        finish_task(scene, 3, Value(data=3))
        late = scene.saved(actor="cy", comment="late")
        entries = [*early.entries, *middle.entries, *late.entries]
        changes = [*early.changes, *middle.changes, *late.changes]
        transaction.save_all([replace(late, changes=changes, entries=entries)])
    discard(store, scene, entry, kept=[2])
    with store.read() as queries:
        told = [(each.sequence, each.actor, each.comment) for each in queries.journal("e1")]
    assert told[0] == (entry, "bob", "middle")
    assert [each[0] for each in told] == list(range(entry, entry + len(told)))
    assert {each[1:] for each in told[1:]} == {("bob", "middle"), ("cy", "late"), ("", "")}
    assert list(check(store)) == []
    assert counts(store)["texts"] == 1  # the result of task 2


def test_discards_follow_each_other_and_leave_the_same(store: Store) -> None:
    """Each round of a loop that keeps one entry leaves as many rows and texts as the one before (C19, C22, C24)."""
    scene, sizes = loop("e1", 1), []
    save(store, scene)
    for number in range(2, 30):
        child = add_child(scene, number, f"child-{number}")
        finish_task(add_task(child, 1), 1, Value(data=f"{number}" * 2000))
        save(store, scene, end(child))
        finish_task(scene, number, Value(data=f"{number}" * 1500))
        entry = reach(scene, number, data=Value(data=number))
        save(store, scene)
        discard(store, scene, entry, kept=[number])
        sizes.append(counts(store))
    assert sizes[-1] == sizes[3]
    assert sizes[-1]["executions"] == 2  # the child of the newest result is kept with it
    assert sizes[-1]["tasks"] == 2
    assert sizes[-1]["journal"] < 5
    assert list(check(store)) == []


def test_an_entry_of_the_same_batch_is_discarded_to(store: Store) -> None:
    """What an execution added and discarded again before it was stored is never written (decision 24)."""
    scene = loop("e1", 5)
    entry = reach(scene, 5)
    add_task(scene, 6)
    discard(store, scene, entry, kept=[5])
    with store.read() as queries:
        assert shown(queries, "e1")["tasks"] == [5, 6]
    assert list(check(store)) == []


def test_ended_children_go_with_all_below_them(store: Store) -> None:
    """The children of discarded tasks are removed with their descendants and all of their rows, and are named."""
    scene = loop("e1", 1)
    child = add_child(scene, 2, "child")
    grandchild = add_child(child, 1, "grandchild")
    finish_task(add_task(grandchild, 1), 1, LARGE)
    finish_task(child, 1, LARGE)
    finish_task(scene, 2, LARGE)
    save(store, scene, end(child), end(grandchild))
    finish_task(add_task(scene, 3), 3, EMPTY)
    removal = discard(store, scene, reach(scene, 3), kept=[3])
    assert (sorted(removal.executions), removal.left) == (["child", "grandchild"], Left.NOTHING)
    left = counts(store)
    assert (left["executions"], left["labels"], left["tasks"], left["texts"]) == (1, 0, 1, 0)
    assert list(check(store)) == []


def test_a_replaced_child_of_a_kept_task_goes(store: Store) -> None:
    """A kept task keeps the child of its present attempt; that of the attempt before is removed with that attempt."""
    scene = start("e1")
    old = add_child(scene, 1, "old")
    scene.do(AttemptMoved(key=(1, 0, 1), state=AttemptState.ERROR, at_s=100.0))
    scene.do(AttemptsBegun(task=1, attempt=2, at_s=100.0))
    running = AttemptState.RUNNING
    scene.do(AttemptAdded(key=(1, 0, 2), action="sub", input=EMPTY, state=running, child_id="new", at_s=100.0))
    new = create("new", parent=Link("e1", (1, 0, 2)), root_id="e1")
    scene.do(AttemptMoved(key=(1, 0, 2), state=AttemptState.SUCCESS, result=LARGE, at_s=100.0))
    scene.do(TaskMoved(task=1, state=TaskState.SUCCESS, at_s=100.0))
    new.do(ExecutionMoved(state=ExecutionState.RUNNING, at_s=100.0))
    save(store, scene, end(old), end(new))
    removal = discard(store, scene, reach(scene, 1), kept=[1])
    assert (list(removal.executions), removal.left) == (["old"], Left.NOTHING)
    with store.read() as queries:
        assert [row.id for row in queries.children("e1")] == ["new"]
        assert [row.key for row in queries.attempts("e1").rows] == [(1, 0, 2)]
    assert list(check(store)) == []


@pytest.fixture
def large(store: Store) -> tuple[Store, Scene]:
    """An execution that has discarded more than one slice: tasks with a result each, and children."""
    scene = loop("e1", SLICE_ROWS)
    save(store, scene)
    children = [add_child(scene, SLICE_ROWS + number, f"child-{number}") for number in range(1, 6)]
    for number, child in enumerate(children, SLICE_ROWS + 1):
        finish_task(scene, number, LARGE)
        finish_task(add_task(child, 1), 1, LARGE)
        end(child)
    save(store, scene, *children)
    last = SLICE_ROWS + 6
    finish_task(add_task(scene, last), last, LARGE)
    removal = discard(store, scene, reach(scene, last), kept=[last])
    assert (list(removal.executions), removal.left) == ([], Left.MORE)
    return store, scene


def test_a_large_discard_is_not_shown_while_it_is_removed(large: tuple[Store, Scene]) -> None:
    """After each slice the lists, the counts and the reads by id show exactly what is left in the end, and ended
    children cannot be claimed; at last every row is gone."""
    store, scene = large
    last = SLICE_ROWS + 6
    entry = scene.execution.first_sequence
    before, slices = sum(counts(store).values()), 0
    while True:
        assert list(check(store)) == []
        with store.write() as transaction:
            assert transaction.claim(["child-1", "e1"]).keys() == {"e1"}
        with store.read() as queries:
            assert shown(queries, "e1") == {
                "tasks": [last],
                "counts": 1,
                "attempts": [last],
                "entries": [entry],
                "first": entry,
            }
            assert queries.task("e1", 1) is None
            assert queries.attempt("e1", (1, 0, 1)) is None
            assert queries.tasks_of([("e1", 1), ("e1", last)]).keys() == {("e1", last)}
            assert [row.task for row in queries.attempts_of([("e1", (1, 0, 1)), ("e1", (last, 0, 1))])] == [last]
            assert queries.task_result("e1", 1).text is None
            assert [row.number for row in queries.tasks_across(["e1"], parse_filter("", {}), 10)] == [last]
            assert queries.leading_attempts("e1", [1, last]).keys() == {last}
            assert queries.attempt_count("e1", parse_filter("", {})) == 1
            assert [row.id for row in queries.executions().rows] == ["e1"]
            assert queries.count_executions() == {"RUNNING": 1}
            assert queries.executions(parse_filter("parent=", EXECUTION_FIELDS)).rows[0].id == "e1"
            assert (queries.execution("child-1"), queries.executions_of(["child-1"])) == (None, {})
            assert queries.standings(["child-1", "e1"]).keys() == {"e1"}
            assert (queries.children("e1"), queries.descendants("e1"), queries.execution_ids()) == ([], [], ["e1"])
        with store.write() as transaction:
            removal = transaction.remove_discarded("e1")
        slices += 1
        rows = sum(counts(store).values())
        assert rows >= before - SLICE_ROWS * (1 if isinstance(store, SqlStore) else 2)
        before = rows
        if removal.left is Left.NOTHING:
            break
        assert removal.left is Left.MORE
    assert slices > 1
    left = counts(store)
    assert (left["executions"], left["tasks"], left["attempts"], left["texts"], left["discards"]) == (1, 1, 1, 1, 0)
    with store.write() as transaction:
        assert transaction.remove_discarded("e1").left is Left.NOTHING


def test_a_discard_meets_one_that_is_being_removed(large: tuple[Store, Scene]) -> None:
    """What a later discard adds is hidden at once, and the message of the former one removes it too."""
    store, scene = large
    newer = SLICE_ROWS + 7
    finish_task(add_task(scene, newer), newer, EMPTY)
    save(store, scene)
    removal = discard(store, scene, reach(scene, newer), kept=[newer])
    assert removal.left is Left.NOTHING  # no second message
    with store.read() as queries:
        assert shown(queries, "e1")["tasks"] == [newer]
    assert list(check(store)) == []
    for _ in range(10):
        with store.write() as transaction:
            removal = transaction.remove_discarded("e1")
        if removal.left is Left.NOTHING:
            break
    assert (counts(store)["tasks"], counts(store)["executions"], counts(store)["discards"]) == (1, 1, 0)


def test_a_deleted_execution_leaves_nothing_of_what_it_discards(large: tuple[Store, Scene]) -> None:
    """Who deletes an execution while its discard is removed deletes the children that are hidden, too."""
    store, _ = large
    with store.write() as transaction:
        hidden = transaction.hidden_below("e1")
        assert sorted(hidden) == [f"child-{number}" for number in range(1, 6)]
        for each in (*hidden, "e1"):
            transaction.delete_execution(each)
    assert set(counts(store).values()) == {0}


def test_a_child_that_is_not_at_rest_is_removed_later(store: Store) -> None:
    """A child of a discarded task that has a running action stays, is shown and can be claimed; at rest it is hidden,
    and removed by the next slice, with what is below it."""
    scene = start("e1")
    child = add_child(scene, 1, "child")
    grandchild = add_child(child, 1, "grandchild")
    add_task(finish_task(child, 1, EMPTY), 2, AttemptState.RUNNING)
    scene.do(AttemptMoved(key=(1, 0, 1), state=AttemptState.ERROR, at_s=100.0))
    scene.do(TaskMoved(task=1, state=TaskState.ERROR, at_s=100.0))
    child.do(ExecutionMoved(state=ExecutionState.ERROR, at_s=100.0))
    save(store, scene, child, end(grandchild))
    finish_task(add_task(scene, 2), 2, EMPTY)
    removal = discard(store, scene, reach(scene, 2), kept=[2])
    assert (list(removal.executions), removal.left) == ([], Left.WAITING)
    with store.write() as transaction:
        assert transaction.claim(["child"]).keys() == {"child"}
        assert transaction.remove_discarded("e1").left is Left.WAITING
        assert transaction.queries.descendants("e1") == ["child", "grandchild"]
    child.do(AttemptMoved(key=(2, 0, 1), state=AttemptState.SUCCESS, at_s=101.0))
    save(store, child)
    with store.read() as queries:
        assert queries.descendants("e1") == []
        assert (queries.execution("child"), queries.execution("grandchild")) == (None, None)
    with store.write() as transaction:
        assert transaction.claim(["child"]) == {}
        assert transaction.remove_discarded("e1", busy=["grandchild"]).left is Left.WAITING
        removal = transaction.remove_discarded("e1")
    assert (list(removal.executions), removal.left) == (["grandchild", "child"], Left.NOTHING)
    assert counts(store)["executions"] == 1
    assert list(check(store)) == []


def test_a_rolled_back_discard_never_happened(store: Store) -> None:
    """If its transaction fails, an execution has all of its past."""
    scene = loop("e1", 3)
    child = add_child(scene, 4, "child")
    finish_task(scene, 4, LARGE)
    save(store, scene, end(child))
    before = counts(store)
    with pytest.raises(ConnectionError):
        discard(store, scene, reach(scene, 3), kept=[3], fault=ConnectionError())
    assert counts(store) == before
    assert list(check(store)) == []


def test_a_child_that_another_engine_uses_is_left_to_the_next_slice(empty_postgres: str) -> None:
    """A removal waits for nobody: a child that another transaction has claimed is left, and what that one made of it
    stands; once it is at rest again, it is removed."""
    mine, other = SqlStore(empty_postgres), SqlStore(empty_postgres)
    mine.upgrade()
    scene = loop("e1", 1)
    child = add_child(scene, 2, "child")
    finish_task(scene, 2, LARGE)
    save(mine, scene, end(child))
    finish_task(add_task(scene, 3), 3, EMPTY)
    entry = reach(scene, 3)
    with other.write() as theirs:
        assert theirs.claim(["child"]).keys() == {"child"}
        removal = discard(mine, scene, entry, kept=[3])
        assert (list(removal.executions), removal.left) == ([], Left.WAITING)
        child.do(ExecutionMoved(state=ExecutionState.RUNNING, at_s=101.0))
        theirs.save_all([child.saved()])
    with mine.write() as transaction:
        assert transaction.claim(["child"]).keys() == {"child"}
        assert transaction.remove_discarded("e1").left is Left.WAITING
    save(mine, end(child))
    with other.write() as theirs:
        assert theirs.claim(["child"]) == {}
        assert list(theirs.remove_discarded("e1").executions) == ["child"]
    assert counts(mine)["executions"] == 1
    assert list(check(mine)) == []
    mine.close()
    other.close()


def test_a_reader_sees_one_moment_of_a_discard(store: Store) -> None:
    """Who reads while an execution discards its beginning reads on what it has begun with (C24)."""
    scene = loop("e1", 3)
    entry = reach(scene, 3)
    save(store, scene)
    with store.read() as queries:
        before = shown(queries, "e1")
        discard(store, scene, entry, kept=[3])
        assert shown(queries, "e1") == before
        assert len(queries.journal("e1")) == entry
    with store.read() as queries:
        assert shown(queries, "e1")["tasks"] == [3]


def test_statements_are_not_compiled_by_postgres(empty_postgres: str) -> None:
    """The conditions on discards look costly to its planner, which would spend seconds on a list to compile them."""
    store = SqlStore(empty_postgres)
    store.upgrade()
    with store.write() as transaction:
        transaction._cursor.execute("SHOW jit")  # type: ignore[attr-defined]
        assert transaction._cursor.fetchone() == ("off",)  # type: ignore[attr-defined]
    with store.inspect() as connection:
        assert connection.exec_driver_sql("SHOW jit").scalar_one() == "off"
    store.close()
