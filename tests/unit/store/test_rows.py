"""Rows: records, tables and the mapping between them name the same columns in the same order."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from sqlalchemy import Table

from dalsegno.store.records import JournalEntry
from dalsegno.store.row_batch import decode_entries, encode_entries
from dalsegno.store.rows import (
    ATTEMPT_COLUMNS,
    EXECUTION_COLUMNS,
    TASK_COLUMNS,
    attempt_row,
    cell_of,
    digests,
    execution_facts,
    execution_row,
    full,
    full_object,
    task_facts,
    task_row,
)
from dalsegno.store.tables import ATTEMPTS, EXECUTIONS, TASKS
from dalsegno.workflow.changes import (
    AttemptAdded,
    AttemptMoved,
    AttemptsBegun,
    ExecutionCreated,
    ExecutionMoved,
    Link,
    TaskAdded,
)
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.journal import replay
from dalsegno.workflow.records import Attempt
from dalsegno.workflow.states import AttemptState, ExecutionState, TaskState
from dalsegno.workflow.value import Value

LARGE = Value(data="x" * 2000)


@pytest.mark.parametrize(
    ("table", "columns"), [(EXECUTIONS, EXECUTION_COLUMNS), (TASKS, TASK_COLUMNS), (ATTEMPTS, ATTEMPT_COLUMNS)]
)
def test_records_have_the_columns_of_their_tables(table: Table, columns: tuple[str, ...]) -> None:
    """A record's fields are its table's columns, in the table's order: rows are written and read by position."""
    written_apart = ("progress", "heard_s", "keeper") if table is ATTEMPTS else ()
    assert tuple(column.name for column in table.columns) == columns + written_apart


def _execution() -> Execution:
    return replay(
        [
            ExecutionCreated(
                execution_id="e1",
                definition_id="d1",
                workflow="w",
                input=LARGE,
                labels={"ü": "1"},
                parent=Link("e0", (4, 2, 3)),
                root_id="e0",
                deadline_s=9.0,
                at_s=1.0,
            ),
            ExecutionMoved(state=ExecutionState.RUNNING, info="i", at_s=2.0),
            TaskAdded(task=1, name="t", state=TaskState.RUNNING, generation=2, at_s=3.0),
            AttemptsBegun(task=1, attempt=1, items=Value(data=[[1]])),
            AttemptAdded(key=(1, 0, 1), action="a", input=Value(data={}), state=AttemptState.READY, at_s=4.0),
            AttemptMoved(
                key=(1, 0, 1), state=AttemptState.RUNNING, delivery=7, session_id="s", executor_id="x", at_s=5.0
            ),
        ]
    )


def test_facts_are_those_of_the_rows() -> None:
    """What an action execution shows of its execution and its task is the same from memory as from their rows."""
    execution = _execution()
    (task,) = execution.tasks.values()
    pairs = (
        (execution_facts(execution), execution_row(execution, 6.0)),
        (task_facts(task), task_row("e1", task)),
    )
    for facts, row in pairs:
        assert asdict(facts) == {name: getattr(row, name) for name in asdict(facts)}


def test_row_fields_hold_what_their_names_say() -> None:
    """Each field of a row is that of the aggregate: positions of the mapping are not mixed up."""
    execution = _execution()
    row = execution_row(execution, 6.0)
    assert (row.id, row.root_id, row.parent_id) == ("e1", "e0", "e0")
    assert (row.parent_task, row.parent_item, row.parent_attempt) == (4, 2, 3)
    assert (row.input, row.params, row.labels) == (f"${LARGE.digest}", "{}", '{"ü":"1"}')
    assert (row.created_s, row.started_s, row.moved_s, row.updated_s, row.deadline_s) == (1.0, 2.0, 2.0, 6.0, 9.0)
    assert (row.state, row.info, row.revision, row.active_count) == ("RUNNING", "i", 6, 1)
    task = task_row("e1", execution.tasks[1])
    assert (task.number, task.name, task.generation, task.attempt, task.item_count, task.added_count) == (
        1,
        "t",
        2,
        1,
        1,
        1,
    )
    attempt = attempt_row("e1", execution.attempts[1, 0, 1])
    assert (attempt.key, attempt.action, attempt.state, attempt.delivery) == ((1, 0, 1), "a", "RUNNING", 7)
    assert (attempt.session_id, attempt.executor_id, attempt.created_s, attempt.started_s) == ("s", "x", 4.0, 5.0)


def test_every_field_of_an_attempt_reaches_its_row() -> None:
    """A field that the aggregate gets later is not forgotten in its row: all have a column, or are
    derived, or asked for by the core alone (which reads the journal)."""
    without = {"key", "reported", "child_revision", "stands_in", "is_retried", "child_is_reverted"}
    without |= {"heartbeat_timeout_s", "signature"}
    named = {name.removeprefix("is_") for name in Attempt.__struct_fields__ if name not in without}
    assert named <= set(ATTEMPT_COLUMNS)


def test_large_values_are_references() -> None:
    """A value over 1 KiB is `$` and its digest; full() and full_object() put the text back."""
    cell = cell_of(LARGE)
    assert cell == f"${LARGE.digest}"
    assert digests(cell) == [LARGE.digest]
    assert full(cell, {LARGE.digest: LARGE.text}) == LARGE.text
    assert (cell_of(None), full(None, {}), full("1", {})) == (None, None, "1")
    with pytest.raises(KeyError):
        full(cell, {})


def test_values_that_look_like_references_are_not() -> None:
    """A user's own text that holds `$` and a digest, or a variable called `$`, is never taken for a reference."""
    imitation = Value(data={"$": "a" * 32})
    written = json.dumps({"x": imitation.text})
    assert digests(written) == []
    assert full_object(written, {}) == f'{{"x":{imitation.text}}}'
    assert full_object(json.dumps({"$": '"text"'}), {}) == '{"$":"text"}'


def test_entries_of_a_later_version_are_read() -> None:
    """What a later version adds to the entries of a journal row is ignored."""
    entries = [JournalEntry("task_done", 1.5, "ada", "ü", 3)]
    assert decode_entries(encode_entries(entries)) == entries
    assert decode_entries('[["task_done",1.5,"ada","ü",3,"more"]]') == entries
