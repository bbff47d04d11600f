"""Entries of checkpoints in all stores: what is kept of them, how they are listed, and the filters that name them."""

from __future__ import annotations

import pytest
from tests.store.scenes import LARGE, Scene, add_task, finish_task, save, start

from dalsegno.store.filters import ATTEMPT_FIELDS, EXECUTION_FIELDS, parse_filter
from dalsegno.store.inspection import check
from dalsegno.store.records import CheckpointRow
from dalsegno.store.store import Store
from dalsegno.workflow.changes import (
    AttemptAdded,
    AttemptMoved,
    CheckpointReached,
    ExecutionMoved,
    Restored,
    RevertBegun,
    StopsSet,
    TaskAdded,
    TaskMoved,
)
from dalsegno.workflow.graph import Phase
from dalsegno.workflow.states import AttemptState, ExecutionState, TaskState
from dalsegno.workflow.value import Value


def reach(scene: Scene, name: str, task: int = 1, data: Value | None = None) -> int:
    """The execution reaches a checkpoint. Returns the sequence number of the entry."""
    scene.do(CheckpointReached(name=name, task=task, data=data, at_s=scene.now_s))
    return scene.execution.revision


def test_entries_are_listed_the_newest_first_with_their_data(store: Store) -> None:
    """A checkpoint that is reached twice has two entries, numbered by the revisions that reached it (C1, C7)."""
    scene = add_task(start("e1"), 1)
    first = reach(scene, "built", 1, Value(data={"n": 1}))
    save(store, scene)
    second = reach(scene, "built", 1, LARGE)
    third = reach(scene, "tested", 1)
    save(store, scene)
    with store.read() as queries:
        page = queries.checkpoints("e1", size=2)
        assert page.rows == [
            CheckpointRow("e1", third, "tested", 1, 0, None, 100.0, False),
            CheckpointRow("e1", second, "built", 1, 0, LARGE.text, 100.0, False),
        ]
        rest = queries.checkpoints("e1", size=2, token=page.next_token)
        assert (rest.rows, rest.next_token) == (
            [CheckpointRow("e1", first, "built", 1, 0, '{"n":1}', 100.0, False)],
            "",
        )
        assert queries.checkpoint_name("e1", first) == "built"
        assert (queries.checkpoint_name("e1", 1), queries.checkpoint_name("e2", first)) == ("", "")
        assert queries.checkpoints("e2").rows == []
    assert list(check(store)) == []


def test_the_row_says_where_an_execution_stands_and_stops(store: Store) -> None:
    """A read of the execution shows the entry at which it is PAUSED, where it is to stop, and what it did not reach."""
    scene = add_task(start("e1"), 1).do(StopsSet(names=("built", "tested")))
    sequence = reach(scene, "built")
    scene.do(ExecutionMoved(state=ExecutionState.PAUSED, paused_at=sequence, at_s=100.0))
    save(store, scene)
    with store.read() as queries:
        row = queries.execution("e1")
        assert row is not None
        assert (row.paused_at, row.paused_at_sequence, row.not_reached) == ("built", sequence, "")
        assert row.stop_at == '["built","tested"]'
    scene.do(ExecutionMoved(state=ExecutionState.RUNNING, at_s=101.0), StopsSet(names=("tested",)))
    scene.do(ExecutionMoved(state=ExecutionState.SUCCESS, not_reached="tested", at_s=102.0))
    save(store, scene)
    with store.read() as queries:
        row = queries.execution("e1")
        assert row is not None
        assert (row.paused_at, row.paused_at_sequence, row.not_reached) == ("", 0, "tested")
    assert list(check(store)) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("paused_at=built", ["e1"]),
        ("paused_at=", ["e3", "e2"]),
        ("paused_at!=built", ["e3", "e2"]),
        ("paused_at=bu*", ["e1"]),
        ("checkpoint=built", ["e2", "e1"]),
        ("checkpoint=built,tested", ["e2", "e1"]),
        ("checkpoint=tested", ["e2"]),
        ("checkpoint=te*", ["e2"]),
        ("checkpoint!=tested", ["e3", "e1"]),
        ("checkpoint=built paused_at=", ["e2"]),
        ("checkpoint=Built", []),
    ],
)
def test_filters_name_checkpoints(store: Store, text: str, expected: list[str]) -> None:
    """Lists and counts choose executions by where they stand and by what they have reached."""
    first, second, third = (add_task(start(f"e{number}", at_s=float(number)), 1) for number in (1, 2, 3))
    first.do(ExecutionMoved(state=ExecutionState.PAUSED, paused_at=reach(first, "built"), at_s=1.0))
    reach(second, "built")
    reach(second, "tested")
    save(store, first, second, third)
    chosen = parse_filter(text, EXECUTION_FIELDS)
    with store.read() as queries:
        assert [row.id for row in queries.executions(chosen).rows] == expected
        assert sum(queries.count_executions(chosen).values()) == len(expected)


def test_open_tasks_are_those_from_which_the_flow_goes_on(store: Store) -> None:
    """Tasks that have not begun, that have, and whose transitions wait are told apart; ended ones are omitted."""
    scene = add_task(start("e1"), 1)
    finish_task(scene, 1, Value(data=1))
    add_task(scene, 2, AttemptState.RUNNING)
    scene.do(TaskAdded(task=3, name="later", state=TaskState.IDLE))
    scene.do(TaskAdded(task=4, name="at the sign", state=TaskState.IDLE))
    reach(scene, "sign", 4)
    add_task(scene, 5)
    scene.do(TaskMoved(task=5, state=TaskState.SUCCESS, at_s=100.0))
    save(store, scene)
    with store.read() as queries:
        assert queries.open_tasks("e1") == [
            ("at the sign", Phase.ENDED),
            ("later", Phase.TO_BEGIN),
            ("step_2", Phase.BEGUN),
            ("step_5", Phase.ENDED),
        ]
        assert queries.open_tasks("e2") == []


def test_ends_are_counted_from_an_entry_on(store: Store) -> None:
    """The revisions at which tasks ended say how many have ended since an entry."""
    scene = add_task(add_task(start("e1"), 1), 2)
    finish_task(scene, 1, Value(data=1))
    sequence = reach(scene, "half way", 1)
    finish_task(scene, 2, Value(data=2))
    save(store, scene)
    ended = scene.execution.tasks[2].ended_at
    with store.read() as queries:
        assert queries.tasks_ended_after("e1", sequence) == [ended]
        assert queries.tasks_ended_after("e1", ended) == []
        assert len(queries.tasks_ended_after("e1", 0)) == 2


def test_a_deleted_execution_leaves_no_entries(store: Store) -> None:
    """Its entries go with it, and its id is free for others."""
    scene = add_task(start("e1"), 1)
    reach(scene, "built")
    save(store, scene)
    with store.write() as transaction:
        transaction.delete_execution("e1")
    with store.read() as queries:
        assert queries.checkpoints("e1").rows == []
    save(store, start("e1"))
    with store.read() as queries:
        assert queries.executions(parse_filter("checkpoint=built", EXECUTION_FIELDS)).rows == []


def test_going_back_undoes_entries_and_rewrites_what_it_restores(store: Store) -> None:
    """The rows after Restored are those of the replayed journal: entries behind it are undone, tasks that did not exist
    are REVERTED, and the names of entries behind it are not found any more (C5)."""
    scene = add_task(start("e1"), 1)
    finish_task(scene, 1, Value(data=1))
    kept = reach(scene, "built", 1)
    add_task(scene, 2)
    finish_task(scene, 2, LARGE)
    reach(scene, "tested", 2)
    save(store, scene)
    scene.do(
        RevertBegun(sequence=kept),
        ExecutionMoved(state=ExecutionState.REVERTING, at_s=101.0),
        AttemptAdded(
            key=(2, 0, 2),
            action="undo",
            input=LARGE,
            state=AttemptState.READY,
            reverts=scene.execution.tasks[2].ended_at,
        ),
    )
    save(store, scene)
    with store.read() as queries:
        row = queries.execution("e1")
        assert row is not None
        assert (row.reverting_to, row.reverting_to_sequence) == ("built", kept)
        assert [
            each.key for each in queries.attempts("e1", chosen=parse_filter("revert=true", ATTEMPT_FIELDS)).rows
        ] == [(2, 0, 2)]
        assert queries.task_result("e1", 2).text == LARGE.text
    scene.do(AttemptMoved(key=(2, 0, 2), state=AttemptState.SUCCESS, at_s=101.0))
    scene.do(Restored(sequence=kept, tasks=(2,), attempts=((2, 0, 1), (2, 0, 2))))
    scene.do(ExecutionMoved(state=ExecutionState.PAUSED, paused_at=kept, at_s=101.0))
    after = reach(scene, "built", 1)
    save(store, scene)
    with store.read() as queries:
        standing = {each.sequence: not each.undone for each in queries.checkpoints("e1").rows}
        assert [standing[each] for each in sorted(standing)] == [True, False, True]
        assert max(standing) == after
        task = queries.task("e1", 2)
        assert task is not None
        assert (task.state, task.superseded_by) == ("REVERTED", "workflow-revert")
        row = queries.execution("e1")
        assert row is not None
        assert (row.reverting_to, row.reverting_to_sequence) == ("", 0)
        assert queries.tasks_ended_after("e1", kept) == []
        assert queries.executions(parse_filter("checkpoint=tested", EXECUTION_FIELDS)).rows == []
        assert len(queries.executions(parse_filter("checkpoint=built", EXECUTION_FIELDS)).rows) == 1
    assert list(check(store)) == []
