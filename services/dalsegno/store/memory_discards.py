"""Discards in the store in memory: the rows of an execution after a discard, and slices of what is removed
(discards.py)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from immutables import Map

from dalsegno.store.discards import DETACHED, SLICE_ROWS, Gone, Left, Removal, begin_with, gone_of, names_child
from dalsegno.store.snapshot import Tables, is_at_rest
from dalsegno.workflow.consolidated import Discarded
from dalsegno.workflow.execution import Execution

if TYPE_CHECKING:
    from dalsegno.store.records import AttemptRow, ExecutionRow

Inner = TypeVar("Inner")
Cell = TypeVar("Cell")


class MemoryDiscards(ABC):
    """The part of MemoryTransaction that removes what executions have discarded. store.Transaction documents
    `remove_discarded` and `hidden_below`."""

    tables: Tables

    @abstractmethod
    def delete_execution(self, execution_id: str) -> None:
        """See store.Transaction."""

    @abstractmethod
    def unlist(self, row: AttemptRow) -> None:
        """Remove an attempt from the READY and the held ones."""

    def put_text(self, execution_id: str, digest: str, text: str, last: int) -> None:
        """Store a text, and the newest journal row that refers to it."""
        texts = put_cell(self.tables.texts, execution_id, digest, text)
        self.tables = self.tables._replace(
            texts=texts, text_uses=put_cell(self.tables.text_uses, execution_id, digest, last)
        )

    def discard(self, execution: Execution, discarded: Discarded, busy: Collection[str]) -> Removal:
        """Alter the rows of an execution that has discarded its beginning, after its changes, and remove the first
        slice, unless former discards are still being removed."""
        self._begin_journal(execution.id, discarded)
        for key, attempt in self.tables.attempts.get(execution.id, Map()).items():
            if key[0] in discarded.reduced and key not in execution.attempts:
                self._delete_attempt(attempt)
        for child in self._children_of(execution.id):
            key = (child.parent_task, child.parent_item, child.parent_attempt)
            if child.parent_task in discarded.reduced and not names_child(execution, key, child.id):
                detached = replace(child, parent_task=DETACHED)
                self.tables = self.tables._replace(executions=self.tables.executions.set(child.id, detached))
        gone, waits = gone_of(execution, discarded), execution.id in self.tables.discards
        removal = Removal((), Left.NOTHING) if waits else self._remove(gone, busy)
        if waits or removal.left is not Left.NOTHING:
            self.tables = self.tables._replace(discards=self.tables.discards.set(execution.id, gone))
        return removal

    def remove_discarded(self, execution_id: str, busy: Collection[str] = ()) -> Removal:
        gone = self.tables.discards.get(execution_id)
        removal = Removal((), Left.NOTHING) if gone is None else self._remove(gone, busy)
        if removal.left is Left.NOTHING:
            self.tables = self.tables._replace(discards=without(self.tables.discards, execution_id))
        return removal

    def hidden_below(self, execution_id: str) -> list[str]:
        gone = self.tables.discards.get(execution_id)
        found: list[str] = []
        level = [] if gone is None else [row.id for row in self._gone_children(gone) if is_at_rest(row)]
        while level:
            found += level
            level = [row.id for each in level for row in self._children_of(each) if is_at_rest(row)]
        return found[::-1]

    def _begin_journal(self, execution_id: str, discarded: Discarded) -> None:
        """Let the journal begin with Consolidated, in the row that has its sequence number."""
        rows, sequence = self.tables.journal[execution_id], discarded.sequence
        last = min(each for each in rows if each >= sequence)
        row = begin_with(discarded.consolidated, *rows[last])
        journal = put_cell(self.tables.journal, execution_id, last, (sequence, row.entries, row.changes))
        self.tables = self.tables._replace(journal=journal)
        for digest in row.unused:
            if self.tables.text_uses[execution_id][digest] == last:
                self.put_text(execution_id, digest, self.tables.texts[execution_id][digest], sequence - 1)
        for digest, text in row.texts.items():
            self.put_text(execution_id, digest, text, last)

    def _children_of(self, execution_id: str) -> list[ExecutionRow]:
        return [row for row in self.tables.executions.values() if row.parent_id == execution_id]

    def _gone_children(self, gone: Gone) -> list[ExecutionRow]:
        return [row for row in self._children_of(gone.execution_id) if gone.has(row.parent_task)]

    def _remove(self, gone: Gone, busy: Collection[str]) -> Removal:
        """Remove one slice: rows of the execution itself, then ended children with all of theirs."""
        budget = self._remove_rows(gone, SLICE_ROWS)
        removed: list[str] = []
        while budget and (children := self._gone_children(gone)):
            leaf = self._leaf(children, busy)
            if leaf is None:
                return Removal(removed, Left.WAITING)
            tables = self.tables
            budget -= min(budget, 1 + sum(len(table.get(leaf, ())) for table in (tables.tasks, tables.attempts)))
            self.delete_execution(leaf)
            removed.append(leaf)
        return Removal(removed, Left.NOTHING if budget else Left.MORE)

    def _leaf(self, children: Iterable[ExecutionRow], busy: Collection[str]) -> str | None:
        """Return one of these executions, or of those below them, that is at rest, has no children and that nobody
        uses."""
        for row in children:
            if not is_at_rest(row):
                continue
            below = self._children_of(row.id)
            leaf = self._leaf(below, busy) if below else row.id if row.id not in busy else None
            if leaf is not None:
                return leaf
        return None

    def _remove_rows(self, gone: Gone, budget: int) -> int:
        """Remove rows of the execution itself, as many as the budget allows. Return what is left of it."""
        name, first, tables = gone.execution_id, gone.first_sequence, self.tables
        attempts = [row for key, row in tables.attempts.get(name, Map()).items() if gone.has(key[0])][:budget]
        for row in attempts:
            self._delete_attempt(row)
        budget -= len(attempts)
        tables = self.tables
        tasks, budget = _delete(tables.tasks, name, gone.has, budget)
        journal, budget = _delete(tables.journal, name, lambda last: last < first, budget)
        checkpoints, budget = _delete(tables.checkpoints, name, lambda sequence: sequence < first, budget)
        unused = [digest for digest, last in tables.text_uses.get(name, Map()).items() if last < first]
        texts, budget = _delete(tables.texts, name, lambda digest: digest in unused, budget)
        text_uses, _ = _delete(tables.text_uses, name, lambda digest: digest not in texts.get(name, Map()), len(unused))
        self.tables = tables._replace(
            tasks=tasks, journal=journal, checkpoints=checkpoints, texts=texts, text_uses=text_uses
        )
        return budget

    def _delete_attempt(self, row: AttemptRow) -> None:
        self.unlist(row)
        rows = self.tables.attempts[row.execution_id].delete(row.key)
        self.tables = self.tables._replace(attempts=set_inner(self.tables.attempts, row.execution_id, rows))


def _delete(
    table: Map[str, Map[Inner, Cell]], name: str, chooses: Callable[[Inner], bool], budget: int
) -> tuple[Map[str, Map[Inner, Cell]], int]:
    """Return the table without the chosen rows of an execution, at most as many as the budget allows; and what is left
    of the budget."""
    rows = table.get(name, Map())
    chosen = [each for each in rows if chooses(each)][:budget]
    for each in chosen:
        rows = rows.delete(each)
    return set_inner(table, name, rows) if chosen else table, budget - len(chosen)


def put_cell(table: Map[str, Map[Inner, Cell]], name: str, inner: Inner, cell: Cell) -> Map[str, Map[Inner, Cell]]:
    """Return the table with one more row of an execution."""
    return table.set(name, table.get(name, Map()).set(inner, cell))


def set_inner(table: Map[str, Map[Inner, Cell]], name: str, inner: Map[Inner, Cell]) -> Map[str, Map[Inner, Cell]]:
    """Return the table with these rows of an execution."""
    return table.set(name, inner) if inner else table.delete(name)


def without(table: Map[str, Cell], name: str) -> Map[str, Cell]:
    """Return the table without an execution."""
    return table.delete(name) if name in table else table
