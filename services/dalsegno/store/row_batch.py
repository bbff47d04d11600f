"""The rows of a batch of executions, which both SqlTransaction and the store in memory write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from dalsegno.store.records import JournalEntry, Saved
from dalsegno.store.rows import (
    Cells,
    TouchedRows,
    attempt_origin,
    attempt_state,
    checkpoint_cells,
    execution_origin,
    execution_state,
    task_origin,
    task_state,
)
from dalsegno.workflow.changes import ExecutionCreated, Restored
from dalsegno.workflow.codec import Texts, encode_changes


@dataclass(slots=True)
class RowBatch:
    """Rows by table. An added row has all columns; an altered one those that change, then its key."""

    added_executions: list[Cells] = field(default_factory=list)
    altered_executions: list[Cells] = field(default_factory=list)
    """The key is the id and the revision of the row before."""
    added_tasks: list[Cells] = field(default_factory=list)
    altered_tasks: list[Cells] = field(default_factory=list)
    added_attempts: list[Cells] = field(default_factory=list)
    altered_attempts: list[Cells] = field(default_factory=list)
    begun: list[Cells] = field(default_factory=list)
    begun_items: list[Cells] = field(default_factory=list)
    """Execution, task and round: attempts of earlier rounds are no longer accepted."""
    added_checkpoints: list[Cells] = field(default_factory=list)
    undone_checkpoints: list[Cells] = field(default_factory=list)
    """Execution, the entry to which it went back, and the revision at which it did: the entries between are undone."""
    labels: list[Cells] = field(default_factory=list)
    journal: list[Cells] = field(default_factory=list)
    texts: list[Cells] = field(default_factory=list)

    def add(self, saved: Saved) -> None:
        """Add the rows of one execution. Raises ValueError when its entries do not count all its changes."""
        execution, changes = saved.execution, saved.changes
        if sum(entry.count for entry in saved.entries) != len(changes) or not changes:
            raise ValueError(f"execution {execution.id}: the entries of its journal do not count its changes")
        before = execution.revision - len(changes)
        state = execution_state(execution, saved.entries[-1].at_s, saved.deaths)
        if isinstance(changes[0], ExecutionCreated):
            self.added_executions.append((*execution_origin(execution), *state))
            self.labels += ((execution.id, key, value) for key, value in execution.created.labels.items())
        else:
            self.altered_executions.append((*state, execution.id, before))
        aside = Texts()
        text = encode_changes(changes, aside)
        self.journal.append((execution.id, execution.revision, before + 1, encode_entries(saved.entries), text))
        if aside:
            self.texts += ((execution.id, digest, text, execution.revision) for digest, text in aside.items())
        self._add_parts(saved)
        for sequence in reversed(execution.entries):  # they are in order
            if sequence <= before:
                break
            self.added_checkpoints.append(checkpoint_cells(execution.id, execution.entries[sequence]))
        for revision, change in enumerate(changes, before + 1):
            if type(change) is Restored:
                self.undone_checkpoints.append((execution.id, change.sequence, revision))

    def _add_parts(self, saved: Saved) -> None:
        execution = saved.execution
        execution_id, tasks, attempts = execution.id, execution.tasks, execution.attempts
        touched = TouchedRows(saved.changes)
        if saved.discarded is not None:
            touched.reduce(saved.discarded, tasks, attempts)
        for number in touched.added_tasks:
            task = tasks[number]
            self.added_tasks.append(task_origin(execution_id, task) + task_state(task))
        for number in touched.tasks:
            self.altered_tasks.append((*task_state(tasks[number]), execution_id, number))
        for key in touched.added_attempts:
            attempt = attempts[key]
            self.added_attempts.append(attempt_origin(execution_id, attempt) + attempt_state(attempt))
        for key in touched.attempts:
            self.altered_attempts.append((*attempt_state(attempts[key]), execution_id, *key))
        for number, attempt_number in touched.begun:
            self.begun.append((execution_id, number, attempt_number))
        self.begun_items += ((execution_id, *place) for place in touched.begun_items)


def gather(saved: Sequence[Saved]) -> RowBatch:
    """Return all rows of a batch."""
    batch = RowBatch()
    for each in saved:
        batch.add(each)
    return batch


def encode_entries(entries: Sequence[JournalEntry]) -> str:
    """Encode the entries of a journal row as JSON text: a list of lists."""
    return msgspec.json.encode(entries).decode()


def decode_entries(text: str) -> list[JournalEntry]:
    """Decode the entries of a journal row. Ignores what a later version adds to an entry."""
    return _ENTRIES.decode(text)


_ENTRIES = msgspec.json.Decoder(list[JournalEntry])
