"""Discards over SQL: the rows of an execution after a discard, and slices of what is removed (discards.py)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dalsegno.store.discards import SLICE_ROWS, Gone, Left, Removal, begin_with, gone_of, names_child
from dalsegno.store.records import Saved
from dalsegno.store.unsent import Sender
from dalsegno.workflow.consolidated import Discarded
from dalsegno.workflow.execution import Execution

_ALL = 2_000_000_000
"""More rows than there are."""


class Discards(Sender):
    """The part of SqlTransaction that removes what executions have discarded. store.Transaction documents
    `remove_discarded` and `hidden_below`."""

    def discard(self, saved: Saved, discarded: Discarded, busy: Collection[str]) -> Removal:
        """Alter the rows of an execution that has discarded its beginning, after its changes, and remove the first
        slice, unless former discards are still being removed."""
        execution = saved.execution
        self._begin_journal(execution.id, discarded)
        self._drop_attempts(execution, discarded.reduced)
        self._detach_children(execution, discarded.reduced)
        gone = gone_of(execution, discarded)
        self._cursor.execute(self._statements.delete_discards, (execution.id,))
        # What waited to be removed has its message, which removes this as well.
        waits = self._cursor.rowcount > 0
        removal = Removal((), Left.NOTHING) if waits else self._remove(gone, busy)
        if waits or removal.left is not Left.NOTHING:
            rows = [(gone.execution_id, gone.root_id, first, last) for first, last in gone.ranges]
            self._write(self._statements.insert_discard, rows)
        return removal

    def remove_discarded(self, execution_id: str, busy: Collection[str] = ()) -> Removal:
        gone = self._stored(execution_id)
        if gone is None:
            return Removal((), Left.NOTHING)
        removal = self._remove(gone, busy)
        if removal.left is Left.NOTHING:
            self._cursor.execute(self._statements.delete_discards, (execution_id,))
        return removal

    def hidden_below(self, execution_id: str) -> list[str]:
        gone = self._stored(execution_id)
        found: list[str] = []
        level = [] if gone is None else [child for child, is_at_rest in self._children(gone, _ALL) if is_at_rest]
        while level:
            found += level
            level = [child for child, _, is_at_rest in self._below(level, _ALL) if is_at_rest]
        return found[::-1]

    def _stored(self, execution_id: str) -> Gone | None:
        """Return what is discarded of an execution and not yet removed."""
        self._cursor.execute(self._statements.discards_of, (execution_id,))
        rows = self._cursor.fetchall()
        if not rows:
            return None
        return Gone(execution_id, rows[0][0], rows[0][1], [(first, last) for _, _, first, last in rows])

    def _begin_journal(self, execution_id: str, discarded: Discarded) -> None:
        """Let the journal begin with Consolidated, in the row that has its sequence number."""
        statements, sequence = self._statements, discarded.sequence
        self._cursor.execute(statements.journal_row_at, (execution_id, sequence))
        last, first, entries, changes = self._cursor.fetchone()
        row = begin_with(discarded.consolidated, first, entries, changes)
        self._cursor.execute(statements.update_journal, (sequence, row.entries, row.changes, execution_id, last))
        if row.unused:
            digests = statements.list_of(row.unused)
            self._cursor.execute(statements.forget_texts, (sequence - 1, execution_id, last, digests))
        if row.texts:
            texts = [(execution_id, digest, text, last) for digest, text in row.texts.items()]
            self._write(statements.insert_text, texts)

    def _drop_attempts(self, execution: Execution, reduced: Collection[int]) -> None:
        """Delete the attempts of kept tasks that are discarded."""
        if not reduced:
            return
        self._cursor.execute(self._statements.attempt_keys, (execution.id, self._statements.list_of(reduced)))
        gone = [(execution.id, *key) for key in map(tuple, self._cursor.fetchall()) if key not in execution.attempts]
        if gone:
            self._write(self._statements.delete_attempt, gone)

    def _detach_children(self, execution: Execution, reduced: Collection[int]) -> None:
        """Detach the children of kept tasks whose attempts are discarded."""
        if not reduced:
            return
        self._cursor.execute(self._statements.children_of, (execution.id, self._statements.list_of(reduced)))
        gone = [child for child, *key in self._cursor.fetchall() if not names_child(execution, tuple(key), child)]
        if gone:
            self._cursor.execute(self._statements.detach, (self._statements.list_of(gone),))

    def _remove(self, gone: Gone, busy: Collection[str]) -> Removal:
        """Remove one slice: rows of the execution itself, then ended children with all of theirs."""
        statements, budget = self._statements, SLICE_ROWS
        kept = statements.list_of(gone.kept)
        for statement in statements.remove_gone.values():
            budget = self._delete(statement, (gone.execution_id, gone.last, kept), budget)
        for statement in statements.remove_behind.values():
            budget = self._delete(statement, (gone.execution_id, gone.first_sequence), budget)
        if not budget:
            return Removal((), Left.MORE)
        removed: list[str] = []
        while children := self._children(gone, SLICE_ROWS):
            leaves = self._leaves([child for child, is_at_rest in children if is_at_rest], busy)
            if not leaves:
                return Removal(removed, Left.WAITING)
            budget = self._remove_executions(leaves, budget)
            if not budget:
                return Removal(removed, Left.MORE)
            removed += leaves
        return Removal(removed, Left.NOTHING)

    def _children(self, gone: Gone, limit: int) -> list[tuple[str, bool]]:
        """Return the children of discarded attempts, and whether each is at rest."""
        place = (gone.execution_id, gone.last, self._statements.list_of(gone.kept))
        self._cursor.execute(self._statements.gone_children, (*place, limit))
        return [(child, bool(is_at_rest)) for child, is_at_rest in self._cursor.fetchall()]

    def _below(self, parents: Sequence[str], limit: int) -> list[tuple[str, str, bool]]:
        """Return the children of these executions, with their parents, and whether each is at rest."""
        self._cursor.execute(self._statements.children_of_all, (self._statements.list_of(parents), limit))
        return [(child, parent, bool(is_at_rest)) for child, parent, is_at_rest in self._cursor.fetchall()]

    def _leaves(self, level: Sequence[str], busy: Collection[str]) -> list[str]:
        """Lock those of these executions and of those below them that are at rest, have no children and that nobody
        uses."""
        leaves: list[str] = []
        while level and len(leaves) < SLICE_ROWS:
            below = self._below(level, SLICE_ROWS)
            parents = {parent for _, parent, _ in below}
            leaves += [each for each in level if each not in parents and each not in busy]
            level = [child for child, _, is_at_rest in below if is_at_rest]
        if not leaves:
            return []
        self._cursor.execute(self._statements.lock_leaves, (self._statements.list_of(leaves), SLICE_ROWS))
        return [row[0] for row in self._cursor.fetchall()]

    def _remove_executions(self, execution_ids: Sequence[str], budget: int) -> int:
        """Remove these executions, or as many of their rows as the budget allows. Return what is left of it."""
        chosen = self._statements.list_of(execution_ids)
        for statement in self._statements.remove_of_all:
            budget = self._delete(statement, (chosen,), budget)
        return self._delete(self._statements.remove_executions, (chosen,), budget)

    def _delete(self, statement: str, parameters: tuple[object, ...], budget: int) -> int:
        """Delete at most as many rows as the budget allows. Return what is left of it."""
        if not budget:
            return 0
        self._cursor.execute(statement, (*parameters, budget))
        return budget - int(self._cursor.rowcount)
