"""What one batch has claimed: executions locked for other engines, at which revision, and how they are loaded."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from dalsegno.engine.batches.cache import Copy, ExecutionCache
from dalsegno.engine.batches.step_note import StepNote
from dalsegno.store.records import Begun, DefinitionPlace
from dalsegno.store.store import Transaction
from dalsegno.workflow.changes import AnyChange
from dalsegno.workflow.codec import Texts, decode_changes
from dalsegno.workflow.consolidated import Consolidated
from dalsegno.workflow.journal import replay
from dalsegno.workflow.model import MISTRAL_RULES, ORQUESTA_RULES, Workflow

Recorded = AnyChange | Consolidated
"""What a journal has."""

SMALL_REVISION = 1_000
"""Executions with at most so many changes are loaded together: their journals by one query, and without the numbers of
changes, which nothing needs here."""

LOADED_TOGETHER = 20
"""How many at most. A batch that takes over hundreds from another engine has time to step some of them only."""

CHANGES_TOGETHER = 2_000
"""How many changes they have at most, together."""


class Claims:
    """The executions that a transaction has locked, and those that it creates."""

    def __init__(
        self, transaction: Transaction, cache: ExecutionCache, step_note: StepNote, *, last_resort: bool
    ) -> None:
        """`last_resort`: see `load`."""
        self.ids: set[str] = set()
        """All that were asked for or created, whether they exist or not."""
        self.revisions: dict[str, int] = {}
        """The stored revisions of those that existed before the batch."""
        self.deaths: dict[str, int] = {}
        """The number of deaths of those in whose steps engines died."""
        self.loading_s = 0.0
        """How long loading has taken, by the clock: the processor time would be asked by two system calls each time."""
        self._transaction, self._cache, self._step_note = transaction, cache, step_note
        self._last_resort = last_resort
        self._first_sequences: dict[str, int] = {}
        self._small_journals: dict[str, list[str]] = {}
        self._asked: set[str] = set()
        """The executions whose small journals were asked for."""

    def add(
        self, execution_ids: Collection[str], engine: int = 0, places: Sequence[DefinitionPlace] = ()
    ) -> Begun | None:
        """Lock these executions for other engines until the transaction ends, and before them the row of this engine
        against its end. Return what else is known then; None: no other engine may end this one.

        `engine`: its number; 0: no other engine may end it. `places`: those of definitions to look up.
        """
        self.ids.update(execution_ids)
        begun = self._transaction.claim_for(engine, execution_ids, places) if engine else None
        if begun is not None:
            claimed = begun.claimed
        else:
            claimed = self._transaction.claim(execution_ids) if execution_ids else {}
        for each, row in claimed.items():
            self.revisions[each], self._first_sequences[each] = row.revision, row.first_sequence
            if row.deaths:
                self.deaths[each] = row.deaths
        return begun

    def stepping_s(self) -> float:
        """Return the processor time of this thread without what loading took: to load an execution of another engine
        takes longer than its step, and makes no work slow."""
        return time.thread_time() - self.loading_s

    def load(self, execution_id: str) -> Copy:
        """Return an execution as it is stored: the copy in memory, brought up to date, or a new one.

        As a last resort, it is loaded without its definition and without the copy: they may be what is wrong.
        """
        if not self._last_resort:
            copy = self._cache.find(execution_id, self.revisions[execution_id])
            if copy is not None:
                return copy
        began_s = time.perf_counter()
        try:
            return self._load(execution_id)
        finally:
            self.loading_s += time.perf_counter() - began_s

    def _load(self, execution_id: str) -> Copy:
        self._step_note.mark(execution_id, "load")
        if not self._last_resort:
            if (journal := self._small_journal(execution_id)) is not None:
                changes = [change for text in journal for change in decode_changes(text, Texts())]
                return Copy(replay(changes), None, changes)
            first = self._first_sequences[execution_id]
            return self._cache.catch_up(execution_id, self.revisions[execution_id], first, self._transaction)
        changes = self._transaction.changes_after(execution_id, 0)
        execution = replay(changes)
        created = execution.created
        rules = ORQUESTA_RULES if created.language == "orquesta" else MISTRAL_RULES
        return Copy(execution, Workflow(created.workflow, {}, rules=rules), changes)

    def _small_journal(self, execution_id: str) -> list[str] | None:
        """Return the journal, as stored, of a small execution that is not in memory; None: it is loaded by itself.
        Those of a batch are read by few queries, as many delegates are completed at once."""
        if self.revisions[execution_id] > SMALL_REVISION or execution_id in self._cache:
            return None
        if execution_id not in self._asked and not self.deaths:
            ids = self._next_small(execution_id)
            self._asked.update(ids)
            first_sequences = {each: self._first_sequences[each] for each in ids}
            self._small_journals.update(self._transaction.plain_journals(first_sequences))
        return self._small_journals.pop(execution_id, None)

    def _next_small(self, execution_id: str) -> list[str]:
        """Return this execution and others, of which the journals are not known yet either, to be read by one query."""
        ids, changes = [execution_id], self.revisions[execution_id]
        for each, revision in self.revisions.items():
            if len(ids) >= LOADED_TOGETHER or changes >= CHANGES_TOGETHER:
                break
            if (
                each != execution_id
                and changes + revision <= CHANGES_TOGETHER
                and revision <= SMALL_REVISION
                and each not in self._asked
                and each not in self._cache
            ):
                ids.append(each)
                changes += revision
        return ids
